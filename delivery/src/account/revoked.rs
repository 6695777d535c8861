//! What is not to be believed any more, in the database.

use protocol::{TenantId, Time, UserId};

use super::{
    Revocation, Void,
    revocations::{Forgotten, Key, News},
};
use crate::{
    InboxKey,
    control::ControlError,
    sql::{Database, Row, SqlError, Statements, values},
};

/// Writes down that something is void, or, with an `until` of 0, that it is not any more. Only inside
/// [`Database::change`]: nodes read what is new by its revision.
pub(super) fn revoke(
    database: &mut dyn Statements,
    revocation: &Revocation,
) -> Result<(), SqlError> {
    let Revocation { inbox, void, until } = revocation;
    let (kind, value, spared, before) = match void {
        Void::Session(session) => ("session", session.as_str(), "", Time::MAX),
        Void::Token(token) => ("token", token.as_str(), "", Time::MAX),
        Void::User { before, spared } => ("user", "", spared.as_str(), *before),
        Void::Disabled => ("disabled", "", "", Time::MAX),
    };
    database.execute("UPDATE account_revision SET n = n + 1", &[])?;
    database.execute(
        "INSERT INTO account_revoked (kind, tenant_id, user_id, value, spared, before, until, changed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT n FROM account_revision)) \
         ON CONFLICT (kind, tenant_id, user_id, value) DO UPDATE SET spared = excluded.spared, \
         before = excluded.before, until = excluded.until, changed = excluded.changed",
        &values![
            kind,
            inbox.tenant.as_str(),
            inbox.user.as_str(),
            value,
            spared,
            before,
            *until
        ],
    )?;
    Ok(())
}

/// Writes down that whoever had a name is forgotten. As [`revoke`].
pub(super) fn revoke_nameless(
    database: &mut dyn Statements,
    forgotten: &Forgotten,
) -> Result<(), SqlError> {
    let hex = |key: Key| format!("{key:016x}");
    database.execute("UPDATE account_revision SET n = n + 1", &[])?;
    database.execute(
        "INSERT INTO account_revoked (kind, tenant_id, user_id, value, spared, before, until, changed) \
         VALUES ('forgotten', '', '', $1, $2, $3, $4, (SELECT n FROM account_revision)) \
         ON CONFLICT (kind, tenant_id, user_id, value) DO UPDATE SET before = excluded.before, \
         until = excluded.until, changed = excluded.changed",
        &values![
            hex(forgotten.user),
            hex(forgotten.disabled),
            forgotten.before,
            forgotten.until
        ],
    )?;
    Ok(())
}

/// Whether an admin has disabled the user.
pub(super) fn is_disabled(
    database: &mut dyn Statements,
    inbox: &InboxKey,
) -> Result<bool, SqlError> {
    let sql = "SELECT count(*) FROM account_revoked WHERE kind = 'disabled' AND tenant_id = $1 \
               AND user_id = $2 AND value = '' AND until > 0";
    Ok(database.number(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])? > 0)
}

fn read(mut row: Row, news: &mut News) -> Result<(), SqlError> {
    let kind = row.text()?;
    if kind == "forgotten" {
        let (_, _) = (row.text()?, row.text()?);
        let mut key = || {
            let key = u64::from_str_radix(&row.text()?, 16).map(Key::try_from);
            let key = key.map_err(|error| SqlError::Damaged(error.into()))?;
            key.map_err(|error| SqlError::Damaged(error.into()))
        };
        let (user, disabled) = (key()?, key()?);
        let (before, until) = (row.time()?, row.time()?);
        news.forgotten.push(Forgotten { user, disabled, before, until });
        return Ok(());
    }
    let inbox = InboxKey::new(row.word::<TenantId>()?, row.word::<UserId>()?);
    let (value, spared) = (row.text()?, row.text()?);
    let (before, until) = (row.time()?, row.time()?);
    let void = match kind.as_str() {
        "session" => Void::Session(value),
        "token" => Void::Token(value),
        "user" => Void::User { before, spared },
        "disabled" => Void::Disabled,
        other => return Err(SqlError::Damaged(format!("{other} cannot be revoked").into())),
    };
    news.named.push(Revocation { inbox, void, until });
    Ok(())
}

impl Database {
    /// What has changed since a revision, and as of which one that is.
    pub(super) fn revoked_since(
        &mut self,
        known: i64,
        now: Time,
    ) -> Result<(i64, News), ControlError> {
        self.look(|database| {
            let revision = database.number("SELECT n FROM account_revision", &[])?;
            let sql = "SELECT kind, tenant_id, user_id, value, spared, before, until \
                       FROM account_revoked WHERE changed > $1 AND (until >= $2 OR until <= 0) \
                       ORDER BY changed";
            let rows = database.rows(sql, &values![known, now])?;
            let mut news = News::default();
            rows.into_iter().try_for_each(|row| read(row, &mut news))?;
            Ok((revision, news))
        })
    }
}
