//! Sessions of admins.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{AdminAccount, AdminError, Admins, account};
use crate::{
    clock::millis,
    control::{ControlError, LAST_USED_INTERVAL},
    identity::AuthError,
    sql::{Row, SqlError, Statements, values},
};

/// What every session's token begins with, so that secret scanners find one that leaked.
pub const PREFIX: &str = "pha_";

/// After so long without a request a session is over, to the minute.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// After so long it is over in any case.
pub const SESSION_LIFE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// Most sessions of one admin; the next login ends the one that was unused for longest.
pub const SESSIONS_MAX: usize = 20;

/// Longest text that is looked up as a token, in bytes.
const TOKEN_BYTES_MAX: usize = 64;

/// A login of an admin that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AdminSession {
    /// Its id.
    pub session_id: String,
    /// The address that it was used from last, to the minute.
    pub address: String,
    /// What the browser said of itself.
    pub user_agent: String,
    /// When it began.
    pub created_at: Time,
    /// When it was last used, to the minute.
    pub last_seen_at: Time,
    /// When it is over in any case.
    pub expires_at: Time,
}

impl AdminSession {
    fn is_over(&self, now: Time) -> bool {
        let idle = now.millis().saturating_sub(self.last_seen_at.millis());
        self.expires_at <= now || idle >= millis(SESSION_IDLE_MAX)
    }
}

/// An admin who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who.
    pub account: AdminAccount,
    /// By which login.
    pub session: AdminSession,
}

pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn read(row: &mut Row) -> Result<AdminSession, SqlError> {
    Ok(AdminSession {
        session_id: row.text()?,
        address: row.text()?,
        user_agent: row.text()?,
        created_at: row.time()?,
        last_seen_at: row.time()?,
        expires_at: row.time()?,
    })
}

/// Adds a session, and deletes those that are over, or one too many.
pub(super) fn insert(
    database: &mut dyn Statements,
    admin: &str,
    hash: &[u8; 32],
    session: &AdminSession,
) -> Result<(), SqlError> {
    let now = session.created_at;
    let idle = now.millis().saturating_sub(millis(SESSION_IDLE_MAX));
    let sql = "DELETE FROM admin_session WHERE expires_at <= $1 OR last_seen_at <= $2";
    database.execute(sql, &values![now, idle])?;
    let sql = "DELETE FROM admin_session WHERE admin_id = $1 AND id NOT IN (SELECT id \
               FROM admin_session WHERE admin_id = $1 ORDER BY last_seen_at DESC, id DESC LIMIT $2)";
    database.execute(sql, &values![admin, SESSIONS_MAX - 1])?;
    database.execute(
        "INSERT INTO admin_session (id, admin_id, hash, address, user_agent, created_at, \
         last_seen_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        &values![
            &session.session_id,
            admin,
            hash,
            &session.address,
            &session.user_agent,
            now,
            session.expires_at,
        ],
    )?;
    Ok(())
}

impl Admins {
    /// Who shows this token.
    ///
    /// # Errors
    /// [`AuthError::BadToken`], [`AuthError::Expired`], [`AuthError::UserDisabled`],
    /// [`AuthError::Unavailable`].
    pub async fn recognise(&self, token: &str, from: IpAddr) -> Result<Arc<SignedIn>, AuthError> {
        if !token.starts_with(PREFIX) || token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::BadToken);
        }
        let (hash, now) = (hash(token), self.now());
        let found = self.aside(move |control| {
            let sql = "SELECT s.id, s.address, s.user_agent, s.created_at, s.last_seen_at, \
                       s.expires_at, a.id, a.username, a.name, a.role, a.tenant_id, a.password, \
                       a.totp_seed, a.totp_step, a.recovery, a.disabled_at, a.created_at, \
                       a.updated_at, a.last_login_at, a.email \
                       FROM admin_session s JOIN admin_account a ON a.id = s.admin_id \
                       WHERE s.hash = $1";
            let found = control.read(|database| {
                database.look(|database| Ok::<_, AdminError>(database.row(sql, &values![&hash])?))
            })?;
            let Some(mut row) = found else { return Ok(None) };
            let session = read(&mut row)?;
            let account = account::read(&mut row)?.account;
            let unseen = now.millis().saturating_sub(session.last_seen_at.millis());
            if !session.is_over(now) && unseen >= millis(LAST_USED_INTERVAL) {
                let sql = "UPDATE admin_session SET last_seen_at = $2, address = $3 WHERE id = $1";
                let address = from.to_canonical().to_string();
                let row = values![&session.session_id, now, &address];
                control.write_beside(|database| {
                    database.note(|database| Ok::<_, ControlError>(database.execute(sql, &row)?))
                })?;
            }
            Ok(Some(SignedIn { account, session }))
        });
        let found = found.await.map_err(|error| match error {
            AdminError::Control(error) => AuthError::Unavailable(Box::new(error)),
            _ => AuthError::Unavailable(Box::new(ControlError::Busy)),
        })?;
        match found {
            None => Err(AuthError::BadToken),
            Some(signed_in) if signed_in.session.is_over(now) => Err(AuthError::Expired),
            Some(signed_in) if signed_in.account.disabled_at.is_some() => {
                Err(AuthError::UserDisabled)
            }
            Some(signed_in) => Ok(Arc::new(signed_in)),
        }
    }

    /// Sessions of an admin that go on, the one that was used last first.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub async fn sessions(
        &self,
        id: String,
        tenant: Option<TenantId>,
    ) -> Result<Vec<AdminSession>, AdminError> {
        let admin = self.get(id, tenant).await?;
        let now = self.now();
        self.aside(move |control| {
            let sql = "SELECT id, address, user_agent, created_at, last_seen_at, expires_at \
                       FROM admin_session WHERE admin_id = $1 ORDER BY last_seen_at DESC, id DESC";
            let rows = control.read(|database| {
                database
                    .look(|database| Ok::<_, AdminError>(database.rows(sql, &values![&admin.id])?))
            })?;
            let sessions: Result<Vec<_>, _> =
                rows.into_iter().map(|mut row| read(&mut row)).collect();
            Ok(sessions?.into_iter().filter(|session| !session.is_over(now)).collect())
        })
        .await
    }

    /// Ends a session of an admin, or all of them; how many there were.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub async fn end_sessions(
        &self,
        id: String,
        session: Option<String>,
        tenant: Option<TenantId>,
    ) -> Result<u64, AdminError> {
        let admin = self.get(id, tenant).await?;
        self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    let ended = match &session {
                        Some(session) => {
                            let sql = "DELETE FROM admin_session WHERE admin_id = $1 AND id = $2";
                            database.execute(sql, &values![&admin.id, session])?
                        }
                        None => {
                            let sql = "DELETE FROM admin_session WHERE admin_id = $1";
                            database.execute(sql, &values![&admin.id])?
                        }
                    };
                    Ok(ended)
                })
            })
        })
        .await
    }
}
