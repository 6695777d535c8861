//! Logins that go on.

use std::{net::IpAddr, sync::Arc};

use protocol::{DeviceId, TenantId, Time};

use super::{AccountError, Accounts, Revocation, Void, login::void_session, revoked::revoke};
use crate::{
    InboxKey,
    clock::after,
    identity::UserCaller,
    sql::{Row, SqlError, Statements, values},
};

/// A login that goes on (seed 003 §6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, which its tokens carry.
    pub id: String,
    /// Whose.
    pub inbox: InboxKey,
    /// The device.
    pub device_id: DeviceId,
    /// What its owner calls it.
    pub device_name: String,
    /// By which provider; `pushhub` where an admin vouched.
    pub provider: String,
    /// Where it was seen last; empty where that is not known.
    pub address: String,
    /// What the device said of itself.
    pub user_agent: String,
    /// When it began.
    pub created_at: Time,
    /// When it was seen last, to the minute.
    pub last_seen_at: Time,
    /// When it ends unless it is refreshed.
    pub expires_at: Time,
}

/// A session with what makes its tokens.
pub(super) struct SessionRow {
    pub(super) session: Session,
    /// When its latest access token ends.
    pub(super) access_until: Time,
    /// When its latest pair was made.
    pub(super) refreshed_at: Time,
    /// Which pair that was: 1, 2, 3 …
    pub(super) generation: i64,
    pub(super) seed: [u8; 32],
}

/// The rest of a question for sessions.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, user_id, device_id, device_name, provider, address, \
             user_agent, created_at, last_seen_at, expires_at, access_until, refreshed_at, \
             generation, seed FROM account_session ",
            $rest
        )
    };
}

fn read(mut row: Row) -> Result<SessionRow, SqlError> {
    let id = row.text()?;
    let session = Session {
        id,
        inbox: InboxKey::new(row.word()?, row.word()?),
        device_id: row.word()?,
        device_name: row.text()?,
        provider: row.text()?,
        address: row.text()?,
        user_agent: row.text()?,
        created_at: row.time()?,
        last_seen_at: row.time()?,
        expires_at: row.time()?,
    };
    Ok(SessionRow {
        session,
        access_until: row.time()?,
        refreshed_at: row.time()?,
        generation: row.int()?,
        seed: row.hash()?,
    })
}

pub(super) fn insert(database: &mut dyn Statements, row: &SessionRow) -> Result<(), SqlError> {
    let session = &row.session;
    database.execute(
        "INSERT INTO account_session (id, tenant_id, user_id, device_id, device_name, provider, address, \
         user_agent, created_at, last_seen_at, expires_at, access_until, refreshed_at, generation, seed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        &values![
            &session.id,
            session.inbox.tenant.as_str(),
            session.inbox.user.as_str(),
            session.device_id.as_str(),
            &session.device_name,
            &session.provider,
            &session.address,
            &session.user_agent,
            session.created_at,
            session.last_seen_at,
            session.expires_at,
            row.access_until,
            row.refreshed_at,
            row.generation,
            &row.seed
        ],
    )?;
    Ok(())
}

/// One session.
pub(super) fn find(
    database: &mut dyn Statements,
    id: &str,
) -> Result<Option<SessionRow>, SqlError> {
    database.row(select!("WHERE id = $1"), &values![id])?.map(read).transpose()
}

fn of_user(database: &mut dyn Statements, inbox: &InboxKey) -> Result<Vec<SessionRow>, SqlError> {
    let sql = select!("WHERE tenant_id = $1 AND user_id = $2 ORDER BY last_seen_at DESC, id DESC");
    let rows = database.rows(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    rows.into_iter().map(read).collect()
}

pub(super) fn delete(
    database: &mut dyn Statements,
    row: &SessionRow,
) -> Result<Revocation, SqlError> {
    database.execute("DELETE FROM account_session WHERE id = $1", &values![&row.session.id])?;
    Ok(void_session(&row.session, row.access_until))
}

/// Deletes the session of the same device.
pub(super) fn end_of_device(
    database: &mut dyn Statements,
    session: &Session,
) -> Result<Option<Revocation>, SqlError> {
    let sql = select!("WHERE tenant_id = $1 AND user_id = $2 AND device_id = $3");
    let InboxKey { tenant, user } = &session.inbox;
    let row =
        database.row(sql, &values![tenant.as_str(), user.as_str(), session.device_id.as_str()])?;
    row.map(|row| delete(database, &read(row)?)).transpose()
}

/// Deletes sessions until there are no more than so many: those that were unused for longest.
pub(super) fn end_oldest(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    most: usize,
) -> Result<Vec<Revocation>, SqlError> {
    let rows = of_user(database, inbox)?;
    rows.iter().skip(most).map(|row| delete(database, row)).collect()
}

impl Accounts {
    /// A user's sessions, the one that was seen last first.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn sessions(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<Vec<Session>, AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            let now = accounts.now();
            let rows = accounts.control.read(|database| {
                database.look(|database| Ok::<_, AccountError>(of_user(database, &inbox)?))
            })?;
            let live = rows.into_iter().map(|row| row.session);
            Ok(live.filter(|session| session.expires_at > now).collect())
        })
        .await
    }

    /// Sessions of a tenant, or of all, in the order in which they began, after one of them.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn all_sessions(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Session>, AccountError> {
        self.aside(move |accounts| {
            let now = accounts.now();
            let after = after.unwrap_or_default();
            let rows = accounts.control.read(|database| {
                database.look(|database| {
                    let rows = match &tenant {
                        None => database.rows(
                            select!("WHERE id > $1 AND expires_at > $2 ORDER BY id LIMIT $3"),
                            &values![&after, now, limit],
                        )?,
                        Some(tenant) => database.rows(
                            select!(
                                "WHERE id > $1 AND expires_at > $2 AND tenant_id = $4 \
                                 ORDER BY id LIMIT $3"
                            ),
                            &values![&after, now, limit, tenant.as_str()],
                        )?,
                    };
                    let rows: Result<Vec<_>, SqlError> = rows.into_iter().map(read).collect();
                    Ok::<_, AccountError>(rows?)
                })
            })?;
            Ok(rows.into_iter().map(|row| row.session).collect())
        })
        .await
    }

    /// Ends a session, of whomever; whose it was.
    ///
    /// # Errors
    /// [`AccountError::NoSession`] where there is none, or it is not of this tenant.
    pub async fn end_any_session(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        session: &str,
    ) -> Result<InboxKey, AccountError> {
        let id = session.to_owned();
        self.end(move |database| {
            let row = find(database, &id)?
                .filter(|row| tenant.is_none_or(|tenant| row.session.inbox.tenant == tenant));
            let row = row.ok_or(AccountError::NoSession)?;
            let ended = delete(database, &row)?;
            revoke(database, &ended)?;
            Ok(row.session.inbox)
        })
        .await
    }

    /// Ends a session of this user: its tokens are void on this node when this returns, and its sockets are
    /// closed; on others within two seconds.
    ///
    /// # Errors
    /// [`AccountError::NoSession`]; when the database cannot be asked.
    pub async fn end_session(
        self: &Arc<Self>,
        inbox: &InboxKey,
        session: &str,
    ) -> Result<(), AccountError> {
        let (inbox, id) = (inbox.clone(), session.to_owned());
        self.end(move |database| {
            let row = find(database, &id)?.filter(|row| row.session.inbox == inbox);
            let ended = delete(database, &row.ok_or(AccountError::NoSession)?)?;
            Ok(revoke(database, &ended)?)
        })
        .await
    }

    /// Ends the login of a token, as [`Accounts::end_session`]: its session, known here or of another login
    /// service, whose other tokens end as well; without one, the token.
    ///
    /// # Errors
    /// [`AccountError::Nameless`]; when the database cannot be asked.
    pub async fn log_out(self: &Arc<Self>, caller: &UserCaller) -> Result<(), AccountError> {
        let (inbox, until) = (caller.inbox.clone(), caller.expires_at);
        let Some(session) = caller.session.clone() else {
            let void = Void::Token(caller.token_id.clone().ok_or(AccountError::Nameless)?);
            let ended = Revocation { inbox, void, until };
            return self.end(move |database| Ok(revoke(database, &ended)?)).await;
        };
        // Who made its tokens may make more of them.
        let until = until.max(after(self.now(), self.config.refresh_ttl));
        self.end(move |database| {
            let row = find(database, &session)?.filter(|row| row.session.inbox == inbox);
            let ended = match row {
                Some(row) => delete(database, &row)?,
                None => Revocation { inbox, void: Void::Session(session), until },
            };
            Ok(revoke(database, &ended)?)
        })
        .await
    }

    /// Ends all sessions of a user but one, and makes every token void that was made until now and is not
    /// that one's; how many sessions of this node's knowledge those were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn end_all_sessions(
        self: &Arc<Self>,
        inbox: &InboxKey,
        but: Option<&str>,
    ) -> Result<u64, AccountError> {
        let (inbox, spared) = (inbox.clone(), but.unwrap_or_default().to_owned());
        let before = self.now();
        self.end(move |database| {
            let rows = of_user(database, &inbox)?;
            let mut ended = 0;
            for row in rows.iter().filter(|row| row.session.id != spared) {
                let void = delete(database, row)?;
                revoke(database, &void)?;
                ended += 1;
            }
            let void = Void::User { before, spared };
            revoke(database, &Revocation { inbox, void, until: Time::MAX })?;
            Ok(ended)
        })
        .await
    }

    /// Disables a user, or lets them in again. One who is disabled has no session and is refused
    /// everywhere; what is sent to them goes on to be stored.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn set_disabled(
        self: &Arc<Self>,
        inbox: &InboxKey,
        disabled: bool,
    ) -> Result<(), AccountError> {
        let inbox = inbox.clone();
        self.end(move |database| {
            if disabled {
                for row in of_user(database, &inbox)? {
                    let void = delete(database, &row)?;
                    revoke(database, &void)?;
                }
            }
            let until = if disabled { Time::MAX } else { Time::default() };
            Ok(revoke(database, &Revocation { inbox, void: Void::Disabled, until })?)
        })
        .await
    }

    /// A session was used, from there: written down when there is time, at most once in
    /// [`crate::control::LAST_USED_INTERVAL`] for each token in memory.
    pub fn seen(&self, caller: &UserCaller, address: Option<IpAddr>) {
        let Some(session) = &caller.session else { return };
        if caller.seen.is_due(self.now()) {
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            self.control.note_session(session.clone(), address);
        }
    }

    async fn end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        self.aside(move |accounts| {
            let done = accounts.control.write(|database| database.change(work))?;
            accounts.written();
            Ok(done)
        })
        .await
    }
}
