//! Refresh tokens, rotated at each use (seed 003 §6.6, RFC 9700 §4.14).
//!
//! A token is `phr_<session>_<n>_<code>`: the code is an HMAC of session, n and the session's random seed
//! by a key that is not in the database, so that neither the database nor the key alone makes one. Whatever
//! carries a true code was given to the device once: with the latest n it is good, with an older one
//! somebody has a copy, and the session ends.

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use protocol::{DeviceId, Time};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{
    AccountError, Accounts, TokenPair,
    login::{names, void_session},
    revoked::{is_disabled, revoke},
    session::{self, SessionRow},
};
use crate::{
    clock::{after, millis},
    sql::{Statements, values},
};

/// What every refresh token begins with, so that secret scanners find one that leaked.
pub const PREFIX: &str = "phr_";

/// For so long the token before the latest one gives the same pair again: two tabs of a browser, or an
/// answer that was lost (contract §11).
pub const REUSE_GRACE: Duration = Duration::from_secs(10);

/// Bytes of a session's id, 32 hex digits.
const SESSION_BYTES: usize = 32;

/// Makes refresh tokens. All nodes have the same.
#[derive(Clone)]
pub struct RefreshKey(pub [u8; 32]);

/// Which token of which session.
pub(super) struct Refresh {
    pub(super) session: String,
    pub(super) generation: i64,
}

impl RefreshKey {
    fn code(&self, used_for: &str, refresh: &Refresh, seed: &[u8; 32]) -> [u8; 32] {
        let mut code =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        code.update(used_for.as_bytes());
        code.update(refresh.session.as_bytes());
        code.update(&refresh.generation.to_be_bytes());
        code.update(seed);
        code.finalize().into_bytes().into()
    }

    /// What this key makes of some data, for one use.
    pub(crate) fn derive(&self, used_for: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut derived =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        derived.update(used_for.as_bytes());
        for part in parts {
            derived.update(part);
        }
        derived.finalize().into_bytes().into()
    }

    pub(super) fn token(&self, refresh: &Refresh, seed: &[u8; 32]) -> String {
        let code = URL_SAFE_NO_PAD.encode(self.code("refresh", refresh, seed));
        format!("{PREFIX}{}_{}_{code}", refresh.session, refresh.generation)
    }

    /// The `jti` of the access token beside it.
    pub(super) fn token_id(&self, refresh: &Refresh, seed: &[u8; 32]) -> String {
        let id = self.code("jti", refresh, seed);
        let id = id.first_chunk::<16>().expect("32 bytes begin with 16");
        uuid::Builder::from_random_bytes(*id).into_uuid().to_string()
    }
}

/// Splits a token; none for what cannot be one of ours.
fn parse(token: &str) -> Option<(Refresh, [u8; 32])> {
    let mut parts = token.strip_prefix(PREFIX)?.splitn(3, '_');
    let (session, generation, code) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = session.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = !generation.starts_with(['0', '+', '-']);
    if session.len() != SESSION_BYTES || !hex || !number {
        return None;
    }
    let generation = generation.parse().ok()?;
    let code = URL_SAFE_NO_PAD.decode(code).ok()?.try_into().ok()?;
    Some((Refresh { session: session.to_owned(), generation }, code))
}

/// What became of a refresh token.
enum Turn {
    Pair(Box<(SessionRow, String, String)>),
    /// Somebody has a copy; the session has ended.
    Reused,
}

impl Accounts {
    /// Gives a new pair for a refresh token, which is used up by that. `device` is the one that asks,
    /// where it says so.
    ///
    /// # Errors
    /// [`AccountError::BadRefresh`], [`AccountError::Expired`], [`AccountError::Reused`],
    /// [`AccountError::UserDisabled`]; when the database cannot be asked, the same token can be tried
    /// again.
    pub async fn refresh(
        self: &Arc<Self>,
        token: &str,
        device: Option<DeviceId>,
        address: Option<IpAddr>,
    ) -> Result<TokenPair, AccountError> {
        let parsed = parse(token);
        let done = self.aside(move |accounts| {
            let (refresh, code) = parsed.ok_or(AccountError::BadRefresh)?;
            accounts.refresh_now(&refresh, &code, device.as_ref(), address)
        });
        let done = done.await;
        if let Some(metrics) = self.metrics.get() {
            metrics.refreshed(&done);
        }
        done
    }

    fn refresh_now(
        &self,
        refresh: &Refresh,
        code: &[u8; 32],
        device: Option<&DeviceId>,
        address: Option<IpAddr>,
    ) -> Result<TokenPair, AccountError> {
        let now = self.now();
        let turn = self.control.write_beside(|database| {
            database.note(|database| self.turn(database, refresh, code, device, address, now))
        })?;
        match turn {
            Turn::Pair(row) => {
                let (session, username, email) = *row;
                Ok(self.pair(&session, &username, &email))
            }
            Turn::Reused => {
                self.control.write(|database| {
                    database.change(|database| {
                        let Some(row) = session::find(database, &refresh.session)? else {
                            return Ok::<_, AccountError>(());
                        };
                        session::delete(database, &row)?;
                        revoke(database, &void_session(&row.session, row.access_until))?;
                        tracing::warn!(
                            target: "security", event = "refresh_token_reused",
                            user = row.session.inbox.user.as_str(), session = row.session.id,
                            address = address.map(tracing::field::display)
                        );
                        Ok(())
                    })
                })?;
                self.written();
                Err(AccountError::Reused)
            }
        }
    }

    fn turn(
        &self,
        database: &mut dyn Statements,
        refresh: &Refresh,
        code: &[u8; 32],
        device: Option<&DeviceId>,
        address: Option<IpAddr>,
        now: Time,
    ) -> Result<Turn, AccountError> {
        let Some(mut row) = session::find(database, &refresh.session)? else {
            return Err(AccountError::BadRefresh);
        };
        let expected = self.config.refresh_key.code("refresh", refresh, &row.seed);
        let is_ours: bool = expected.ct_eq(code).into();
        if !is_ours || device.is_some_and(|device| *device != row.session.device_id) {
            return Err(AccountError::BadRefresh);
        }
        if row.session.expires_at <= now {
            return Err(AccountError::Expired);
        }
        if is_disabled(database, &row.session.inbox)? {
            return Err(AccountError::UserDisabled);
        }
        if refresh.generation == row.generation {
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            row.session.expires_at = after(now, self.config.refresh_ttl);
            row.access_until = row.access_until.max(after(now, self.identity.access_ttl()));
            row.refreshed_at = now;
            row.generation += 1;
            // Not `$2 - 1`, which PostgreSQL would take for a number of 32 bits.
            let sql = "UPDATE account_session SET generation = $2, refreshed_at = $3, \
                       last_seen_at = $3, expires_at = $4, access_until = $5, address = $6 \
                       WHERE id = $1 AND generation + 1 = $2";
            let turned = database.execute(
                sql,
                &values![
                    &row.session.id,
                    row.generation,
                    now,
                    row.session.expires_at,
                    row.access_until,
                    address
                ],
            )?;
            if turned == 0 {
                // Another request with the same token was faster: what it got is given here too.
                row = session::find(database, &refresh.session)?.ok_or(AccountError::BadRefresh)?;
            }
        }
        let just_now =
            now.millis().saturating_sub(row.refreshed_at.millis()) <= millis(REUSE_GRACE);
        let latest_but_one = refresh.generation + 1 == row.generation;
        if !(latest_but_one && just_now) {
            return Ok(Turn::Reused);
        }
        let (username, email) = names(database, &row.session.inbox)?;
        Ok(Turn::Pair(Box::new((row, username, email))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_nothing_else_is() {
        let key = RefreshKey([7; 32]);
        let session = "0123456789abcdef0123456789abcdef".to_owned();
        let refresh = Refresh { session, generation: 12 };
        let token = key.token(&refresh, &[1; 32]);
        let (read, code) = parse(&token).unwrap();
        assert_eq!((&read.session, read.generation), (&refresh.session, 12));
        assert_eq!(code, key.code("refresh", &refresh, &[1; 32]));
        assert_ne!(code, key.code("refresh", &refresh, &[2; 32]));
        assert_ne!(code, key.code("jti", &refresh, &[1; 32]));
        let next = Refresh { session: refresh.session.clone(), generation: 13 };
        assert_ne!(code, key.code("refresh", &next, &[1; 32]));
        for bad in [
            "",
            "phr_",
            &token[4..],
            &token[..token.len() - 1],
            &format!("{token}A"),
            &token.replace("_12_", "_012_"),
            &token.replace("_12_", "_+12_"),
            &token.replace("_12_", "_-12_"),
            &token.replace("_12_", "_99999999999999999999_"),
            &token.replace("abcdef", "ABCDEF"),
            &token.replace("0123", "012"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
