//! Secrets that can be used once, on whichever node.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{AccountError, Accounts};
use crate::{
    clock::after,
    control::ControlError,
    sql::{Database, SqlError, values},
};

/// What a secret is for. One of one kind is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnceKind {
    /// Opens one socket (contract §6).
    Ticket,
    /// The `state` of a login that is under way (RFC 6749 §10.12).
    LoginState,
    /// Is given for tokens by `POST /auth/exchange`.
    ExchangeCode,
    /// The `state` of an admin's login elsewhere that is under way.
    AdminLoginState,
    /// Is given for a session by `POST /admin/login/exchange`.
    AdminExchangeCode,
    /// The second step of an admin's login.
    SecondFactor,
    /// The second factor that an admin is about to take.
    Enrolment,
}

impl OnceKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::LoginState => "login",
            Self::ExchangeCode => "exchange",
            Self::AdminLoginState => "admin_login",
            Self::AdminExchangeCode => "admin_exchange",
            Self::SecondFactor => "second_factor",
            Self::Enrolment => "enrolment",
        }
    }
}

/// A new secret behind this prefix: 32 random bytes, as 43 characters that may stand in a URL.
pub(crate) fn random_secret(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Accounts {
    /// Remembers `payload` until somebody comes with `secret`, or for `life`. The secret, of which a hash is
    /// kept, should have 128 random bits at least.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn keep_once<T: Serialize>(
        self: &Arc<Self>,
        kind: OnceKind,
        secret: &str,
        payload: &T,
        life: Duration,
    ) -> Result<(), AccountError> {
        let payload =
            serde_json::to_string(payload).map_err(|error| SqlError::Damaged(Box::new(error)))?;
        let (hash, expires_at) = (hash(secret), after(self.now(), life));
        self.aside(move |accounts| {
            let sql = "INSERT INTO account_once (kind, hash, payload, expires_at) \
                       VALUES ($1, $2, $3, $4)";
            let row = values![kind.word(), &hash, payload, expires_at];
            let written = accounts.control.write_beside(|database| {
                database.note(|database| Ok::<_, ControlError>(database.execute(sql, &row)?))
            });
            written?;
            Ok(())
        })
        .await
    }

    /// What was remembered under a secret, for the first who comes with it; none for everybody else, and
    /// where its time is over.
    ///
    /// # Errors
    /// When the database cannot be asked. The secret may be used up then.
    pub async fn take_once<T: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        kind: OnceKind,
        secret: &str,
    ) -> Result<Option<T>, AccountError> {
        let hash = hash(secret);
        self.aside(move |accounts| {
            let now = accounts.now();
            let taken = accounts.control.write_beside(|database| database.take_once(kind, &hash));
            let Some((payload, expires_at)) = taken? else { return Ok(None) };
            if expires_at < now {
                return Ok(None);
            }
            let payload = serde_json::from_str(&payload)
                .map_err(|error| SqlError::Damaged(Box::new(error)))?;
            Ok(Some(payload))
        })
        .await
    }
}

impl Database {
    fn take_once(
        &mut self,
        kind: OnceKind,
        hash: &[u8; 32],
    ) -> Result<Option<(String, protocol::Time)>, ControlError> {
        self.note(|database| {
            let sql = "DELETE FROM account_once WHERE kind = $1 AND hash = $2 \
                       RETURNING payload, expires_at";
            let Some(mut row) = database.row(sql, &values![kind.word(), hash])? else {
                return Ok(None);
            };
            Ok(Some((row.text()?, row.time()?)))
        })
    }
}
