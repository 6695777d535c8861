//! A user is deleted: what the control data has of them.
//!
//! It goes at the beginning, in one transaction with everything by which they could come in, and once more at
//! the end, because requests that were under way may have written something. In between stands a row of
//! `account_deletion`, by which whoever finds it goes on. What stays is that their tokens are void, by a hash
//! instead of a name, until the last of them would have ended.

use std::{sync::Arc, time::Duration};

use protocol::Time;
use serde_json::{Value, json};

use super::{AccountError, Accounts, revocations::Forgotten, revoked::revoke_nameless, session};
use crate::{
    InboxKey,
    clock::{after, millis},
    control::disown_templates,
    identity::{LEEWAY, UserCaller},
    sql::{Row, SqlError, Statements, values},
};

/// How old a login may be by which a user deletes themselves: who has found a phone, or a token, has none that
/// is this young.
pub(crate) const FRESH_LOGIN: Duration = Duration::from_secs(600);

/// How long nobody else takes up a deletion that somebody is at. Two at the same time do no harm.
pub(crate) const TAKEN_UP_AFTER: Duration = Duration::from_secs(10);

/// Whether a user, or the tenant of theirs, is being deleted.
pub(super) fn is_being_deleted(
    database: &mut dyn Statements,
    inbox: &InboxKey,
) -> Result<bool, SqlError> {
    let sql = "SELECT (SELECT count(*) FROM account_deletion WHERE tenant_id = $1 AND user_id = $2) \
               + (SELECT count(*) FROM control_tenant_deletion WHERE tenant_id = $1)";
    Ok(database.number(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])? > 0)
}

impl Accounts {
    /// Ends everything by which a user comes in, and deletes what the control data has of them. From now on
    /// nobody can log in as them until [`Accounts::end_deletion`]. Answers how many sessions there were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn begin_deletion(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<u64, AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            let now = accounts.now();
            // No token of ours lives longer than these; how long others' do is not known here.
            let longest = accounts.config.refresh_ttl.max(accounts.identity.access_ttl());
            let until = after(now, longest + 2 * LEEWAY);
            let sessions = accounts.control.write(|database| {
                database.change(|database| {
                    let sessions = erase(database, &inbox)?;
                    // Sessions are not revoked one by one, which would name them: so all of the second is, by
                    // whose end a token of this moment may be dated.
                    let second = millis(Duration::from_secs(1));
                    let before = Time::from_millis((now.millis() / second + 1) * second);
                    revoke_nameless(database, &Forgotten::new(&inbox, before, until))?;
                    database.execute(
                        "INSERT INTO account_deletion (tenant_id, user_id, requested_at, leased_until) \
                         VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, user_id) \
                         DO UPDATE SET leased_until = excluded.leased_until",
                        &values![
                            inbox.tenant.as_str(),
                            inbox.user.as_str(),
                            now,
                            after(now, TAKEN_UP_AFTER)
                        ],
                    )?;
                    Ok::<_, AccountError>(sessions)
                })
            })?;
            accounts.written();
            Ok(sessions)
        })
        .await
    }

    /// Everything else is gone: so is what says that it was to go.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn end_deletion(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<(), AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            accounts.control.write(|database| {
                database.change(|database| {
                    erase(database, &inbox)?;
                    let sql = "DELETE FROM account_deletion WHERE tenant_id = $1 AND user_id = $2";
                    database.execute(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
                    Ok::<_, AccountError>(())
                })?;
                Ok::<_, AccountError>(database.scrub()?)
            })
        })
        .await
    }

    /// Users whose deletion nobody is at; whoever asks is from now on.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn take_up_deletions(self: &Arc<Self>) -> Result<Vec<InboxKey>, AccountError> {
        self.aside(|accounts| {
            let now = accounts.now();
            let open = accounts.control.read(|database| {
                let sql = "SELECT count(*) FROM account_deletion WHERE leased_until < $1";
                let mut row = database.glance(sql, &values![now])?.pop().unwrap_or_default();
                Ok::<_, AccountError>(row.int()?)
            })?;
            if open == 0 {
                return Ok(Vec::new());
            }
            accounts.control.write_beside(|database| {
                database.note(|database| {
                    let sql = "UPDATE account_deletion SET leased_until = $2 WHERE leased_until < $1 \
                               RETURNING tenant_id, user_id";
                    let rows =
                        database.rows(sql, &values![now, after(now, TAKEN_UP_AFTER)])?;
                    let inbox = |mut row: Row| Ok(InboxKey::new(row.word()?, row.word()?));
                    rows.into_iter().map(inbox).collect::<Result<_, AccountError>>()
                })
            })
        })
        .await
    }

    /// Whether a token is of a login that is young enough to delete its user by.
    ///
    /// # Errors
    /// [`AccountError::StaleLogin`]; when the database cannot be asked.
    pub(crate) async fn check_fresh(
        self: &Arc<Self>,
        caller: &UserCaller,
    ) -> Result<(), AccountError> {
        let (inbox, id) = (caller.inbox.clone(), caller.session.clone());
        let issued_at = caller.issued_at;
        self.aside(move |accounts| {
            let session = accounts.control.read(|database| {
                database.look(|database| {
                    let id = id.unwrap_or_default();
                    Ok::<_, AccountError>(session::find(database, &id)?)
                })
            })?;
            // A refresh makes a young token of an old login. One that is not of here is as old as it says.
            let session = session.filter(|row| row.session.inbox == inbox);
            let since: Time = session.map_or(issued_at, |row| row.session.created_at);
            let age = accounts.now().millis().saturating_sub(since.millis());
            if age > millis(FRESH_LOGIN) { Err(AccountError::StaleLogin) } else { Ok(()) }
        })
        .await
    }
}

/// Deletes what there is of a user. Answers how many sessions they had.
fn erase(database: &mut dyn Statements, inbox: &InboxKey) -> Result<u64, AccountError> {
    let whose = values![inbox.tenant.as_str(), inbox.user.as_str()];
    erase_once(database, inbox)?;
    let sessions = database
        .execute("DELETE FROM account_session WHERE tenant_id = $1 AND user_id = $2", &whose)?;
    for sql in [
        "DELETE FROM account_identity WHERE tenant_id = $1 AND user_id = $2",
        "DELETE FROM account_user WHERE tenant_id = $1 AND user_id = $2",
        "DELETE FROM account_revoked WHERE tenant_id = $1 AND user_id = $2",
    ] {
        database.execute(sql, &whose)?;
    }
    disown_templates(database, inbox)?;
    Ok(sessions)
}

/// Deletes tickets and logins under way that are the user's. They live for minutes, so there are few, and each
/// is looked into: nothing leads from a user to them.
fn erase_once(database: &mut dyn Statements, inbox: &InboxKey) -> Result<(), AccountError> {
    let (tenant, user) = (json!(inbox.tenant), json!(inbox.user));
    let sql =
        "SELECT provider, subject FROM account_identity WHERE tenant_id = $1 AND user_id = $2";
    let rows = database.rows(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    let identity = |mut row: Row| Ok((json!(row.text()?), json!(row.text()?)));
    let identities: Vec<_> = rows.into_iter().map(identity).collect::<Result<_, SqlError>>()?;
    let link = json!([tenant, user]);
    for mut row in database.rows("SELECT kind, hash, payload FROM account_once", &[])? {
        let (kind, hash) = (row.text()?, row.hash()?);
        let said: Value = row.json()?;
        let is_identity = |(provider, subject): &(Value, Value)| {
            said["provider"] == *provider && said["subject"] == *subject
        };
        let theirs = said["tenant"] == tenant && said["user"] == user
            || said["link"] == link
            || identities.iter().any(is_identity);
        if theirs {
            let sql = "DELETE FROM account_once WHERE kind = $1 AND hash = $2";
            database.execute(sql, &values![&kind, &hash])?;
        }
    }
    Ok(())
}
