//! A login: the password, then a code.

use std::{net::IpAddr, time::Duration};

use protocol::Time;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    AdminAccount, AdminError, AdminSession, Admins, SESSION_LIFE_MAX, SESSION_PREFIX,
    account::{self, AdminRow, PASSWORD_BYTES_MAX, USERNAME_BYTES_MAX},
    recovery, session, totp,
};
use crate::{
    account::{OnceKind, USER_AGENT_BYTES_MAX, random_secret},
    clock::after,
    sql::{Statements, values},
};

/// How long a challenge is good: long enough to fetch the phone and to scan a code.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(300);

/// How many wrong codes a challenge takes.
pub const CODE_TRIES_MAX: u32 = 5;

/// What every challenge begins with.
const CHALLENGE_PREFIX: &str = "phc_";

/// Longest text that is looked up as a challenge, in bytes.
const CHALLENGE_BYTES_MAX: usize = 64;

/// The password was right; what is missing is a code.
pub struct Challenge {
    /// Is shown with the code.
    pub challenge: SecretString,
    /// For who has no second factor yet: the first code that is right makes it theirs.
    pub enrolment: Option<Enrolment>,
}

/// What an authenticator app needs.
pub struct Enrolment {
    /// To be typed, in base 32.
    pub secret: SecretString,
    /// To be scanned, as a QR code.
    pub otpauth_uri: SecretString,
}

/// An admin is in.
pub struct LoggedIn {
    /// For `Authorization: Bearer`.
    pub token: SecretString,
    /// Who.
    pub account: AdminAccount,
    /// Which login it is.
    pub session: AdminSession,
    /// Shown once, with the enrolment.
    pub recovery_codes: Vec<SecretString>,
}

/// What is remembered of a challenge.
#[derive(Serialize, Deserialize)]
struct Pending {
    admin: String,
    /// Of the second factor that is being enrolled.
    seed: Option<String>,
    wrong: u32,
}

/// What a code turned out to be.
enum Proof {
    /// The code of this step.
    Step(i64),
    /// A recovery code, by its hash.
    Recovery(String),
}

pub(super) fn guarded_name(username: &str) -> String {
    format!("admin:{username}")
}

impl Admins {
    /// The first step.
    ///
    /// # Errors
    /// [`AdminError::BadLogin`], [`AdminError::Guarded`], [`AdminError::Busy`].
    pub async fn log_in(
        &self,
        username: &str,
        password: SecretString,
        from: IpAddr,
    ) -> Result<Challenge, AdminError> {
        let length = (username.len(), password.expose_secret().len());
        if length.0 > USERNAME_BYTES_MAX || length.1 > PASSWORD_BYTES_MAX {
            return Err(AdminError::BadLogin);
        }
        let username = account::folded(username);
        let attempt = self.guard.enter(&guarded_name(&username), from, self.now())?;
        let judged = self.judge_password(&username, password).await;
        match &judged {
            Err(AdminError::BadLogin) => {
                tracing::info!(target: "security", event = "admin_login_refused", step = "password", %from);
            }
            // A right password alone makes no address known.
            Ok(_) | Err(_) => self.guard.unjudged(attempt),
        }
        self.challenge(judged?).await
    }

    /// The second step for somebody whose first was another than a password.
    ///
    /// # Errors
    /// [`AdminError::Disabled`], or [`AdminError::BadChallenge`] where they are gone.
    pub(super) async fn challenge_of(&self, id: String) -> Result<Challenge, AdminError> {
        let row = self.row(id).await?.ok_or(AdminError::BadChallenge)?;
        if row.account.disabled_at.is_some() {
            return Err(AdminError::Disabled);
        }
        self.challenge(row).await
    }

    /// What is kept of an admin.
    pub(super) async fn row(&self, id: String) -> Result<Option<AdminRow>, AdminError> {
        self.aside(move |control| {
            control.read(|database| database.look(|database| Ok(account::by_id(database, &id)?)))
        })
        .await
    }

    async fn challenge(&self, row: AdminRow) -> Result<Challenge, AdminError> {
        let seed = match row.totp_seed {
            Some(_) => None,
            None => Some(random_secret("")),
        };
        self.asked(&row.account, seed).await
    }

    /// A challenge, with what an authenticator needs where it is to be enrolled by it.
    async fn asked(
        &self,
        account: &AdminAccount,
        seed: Option<String>,
    ) -> Result<Challenge, AdminError> {
        let enrolment = match &seed {
            None => None,
            Some(seed) => {
                let codes = totp::codes(self.accounts.key(), seed, &account.username)?;
                Some(totp::enrolment(&codes)?)
            }
        };
        let challenge = random_secret(CHALLENGE_PREFIX);
        let pending = Pending { admin: account.id.clone(), seed, wrong: 0 };
        self.keep(&challenge, &pending).await?;
        Ok(Challenge { challenge: challenge.into(), enrolment })
    }

    async fn judge_password(
        &self,
        username: &str,
        password: SecretString,
    ) -> Result<AdminRow, AdminError> {
        let username = username.to_owned();
        let row = self.aside(move |control| {
            control.read(|database| {
                database.look(|database| Ok(account::by_name(database, &username)?))
            })
        });
        let row: Option<AdminRow> = row.await?;
        let hash = row.as_ref().map(|row| row.password.clone());
        let right = self.is_password(password, hash).await?;
        let row = row.filter(|row| right && row.account.disabled_at.is_none());
        row.ok_or(AdminError::BadLogin)
    }

    async fn keep(&self, challenge: &str, pending: &Pending) -> Result<(), AdminError> {
        let kind = OnceKind::SecondFactor;
        Ok(self.accounts.keep_once(kind, challenge, pending, CHALLENGE_LIFE).await?)
    }

    /// The second step: a code of six digits, or a recovery code. A wrong one leaves the challenge for
    /// [`CODE_TRIES_MAX`] in all.
    ///
    /// # Errors
    /// [`AdminError::BadChallenge`], [`AdminError::BadCode`], [`AdminError::Guarded`].
    pub async fn second_step(
        &self,
        challenge: &str,
        code: &str,
        from: IpAddr,
        user_agent: &str,
    ) -> Result<LoggedIn, AdminError> {
        if !challenge.starts_with(CHALLENGE_PREFIX) || challenge.len() > CHALLENGE_BYTES_MAX {
            return Err(AdminError::BadChallenge);
        }
        // Two who come with it at once: one of them finds nothing.
        let pending: Option<Pending> =
            self.accounts.take_once(OnceKind::SecondFactor, challenge).await?;
        let mut pending = pending.ok_or(AdminError::BadChallenge)?;
        let row = self.row(pending.admin.clone()).await?;
        let row = row.filter(|row| row.account.disabled_at.is_none());
        let row = row.ok_or(AdminError::BadChallenge)?;
        let name = guarded_name(&row.account.username);
        let attempt = match self.guard.enter(&name, from, self.now()) {
            Ok(attempt) => attempt,
            Err(guarded) => {
                self.keep(challenge, &pending).await?;
                return Err(guarded.into());
            }
        };
        let done = self.judge_code(&pending, row, code, from, user_agent).await;
        match &done {
            Ok(_) => self.guard.passed(attempt, self.now()),
            Err(AdminError::BadCode) => {
                tracing::info!(target: "security", event = "admin_login_refused", step = "code", %from);
                pending.wrong += 1;
                if pending.wrong < CODE_TRIES_MAX {
                    self.keep(challenge, &pending).await?;
                }
            }
            Err(_) => self.guard.unjudged(attempt),
        }
        done
    }

    async fn judge_code(
        &self,
        pending: &Pending,
        row: AdminRow,
        code: &str,
        from: IpAddr,
        user_agent: &str,
    ) -> Result<LoggedIn, AdminError> {
        let seed = match (&pending.seed, row.totp_seed) {
            // Enrolled: the seed is theirs, or of this login.
            (None, Some(seed)) => seed,
            (Some(seed), None) => seed.clone(),
            // Enrolled by another login meanwhile, or forgotten.
            (Some(_), Some(_)) | (None, None) => return Err(AdminError::BadChallenge),
        };
        let now = self.now();
        let codes = totp::codes(self.accounts.key(), &seed, &row.account.username)?;
        let proof = match totp::step(&codes, code, now) {
            Some(step) => Proof::Step(step),
            None if pending.seed.is_none() => Proof::Recovery(recovery::hash(code)),
            None => return Err(AdminError::BadCode),
        };
        let shown = if pending.seed.is_some() { recovery::make() } else { Vec::new() };
        let kept = recovery::kept(&shown);
        let (token, session) = new_session(from, user_agent, now);
        let enrolls = pending.seed.is_some();
        let (id, new, hash) = (row.account.id, session.clone(), session::hash(&token));
        let account = self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    let used = use_up(database, &id, &proof, enrolls.then_some((&seed, &kept)))?;
                    if !used {
                        return Err(AdminError::BadCode);
                    }
                    begin(database, &id, &hash, &new)
                })
            })
        });
        let account = account.await?;
        let recovery_codes = shown.into_iter().map(SecretString::from).collect();
        Ok(logged_in(LoggedIn { token: token.into(), account, session, recovery_codes }, from))
    }

    /// A session for somebody whose issuer has asked for both factors.
    ///
    /// # Errors
    /// [`AdminError::Disabled`], or [`AdminError::BadChallenge`] where they are gone.
    pub(super) async fn let_in(
        &self,
        id: String,
        from: IpAddr,
        user_agent: &str,
    ) -> Result<LoggedIn, AdminError> {
        let (token, session) = new_session(from, user_agent, self.now());
        let (new, hash) = (session.clone(), session::hash(&token));
        let account = self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| begin(database, &id, &hash, &new))
            })
        });
        let account = account.await?;
        let recovery_codes = Vec::new();
        Ok(logged_in(LoggedIn { token: token.into(), account, session, recovery_codes }, from))
    }
}

/// A new session, and its token.
fn new_session(from: IpAddr, user_agent: &str, now: Time) -> (String, AdminSession) {
    let session = AdminSession {
        session_id: uuid::Uuid::now_v7().simple().to_string(),
        address: from.to_canonical().to_string(),
        user_agent: cut(user_agent, USER_AGENT_BYTES_MAX),
        created_at: now,
        last_seen_at: now,
        expires_at: after(now, SESSION_LIFE_MAX),
    };
    (random_secret(SESSION_PREFIX), session)
}

/// Writes a session, unless its admin was disabled meanwhile.
fn begin(
    database: &mut dyn Statements,
    id: &str,
    hash: &[u8; 32],
    session: &AdminSession,
) -> Result<AdminAccount, AdminError> {
    let now = session.created_at;
    let account = account::by_id(database, id)?.ok_or(AdminError::BadChallenge)?.account;
    if account.disabled_at.is_some() {
        return Err(AdminError::Disabled);
    }
    session::insert(database, id, hash, session)?;
    account::note_login(database, id, now)?;
    Ok(AdminAccount { last_login_at: Some(now), ..account })
}

fn logged_in(done: LoggedIn, from: IpAddr) -> LoggedIn {
    let by = done.account.username.as_str();
    tracing::info!(target: "security", event = "admin_logged_in", by, %from);
    done
}

/// Uses a code, which nobody can again, or enrols by it; whether it was still there to be used.
fn use_up(
    database: &mut dyn Statements,
    id: &str,
    proof: &Proof,
    enrols: Option<(&String, &String)>,
) -> Result<bool, AdminError> {
    let Some(row) = account::by_id(database, id)? else { return Ok(false) };
    match (proof, enrols) {
        (Proof::Step(step), Some((seed, kept))) => {
            if row.totp_seed.is_some() {
                return Ok(false);
            }
            let sql = "UPDATE admin_account SET totp_seed = $2, totp_step = $3, recovery = $4 \
                       WHERE id = $1";
            database.execute(sql, &values![id, seed, *step, kept])?;
        }
        (Proof::Step(step), None) => {
            if row.totp_step >= *step {
                return Ok(false);
            }
            let sql = "UPDATE admin_account SET totp_step = $2 WHERE id = $1";
            database.execute(sql, &values![id, *step])?;
        }
        (Proof::Recovery(hash), _) => {
            let mut left = row.recovery;
            let before = left.len();
            left.retain(|kept| kept != hash);
            if left.len() == before {
                return Ok(false);
            }
            let left = serde_json::to_string(&left).expect("texts");
            let sql = "UPDATE admin_account SET recovery = $2 WHERE id = $1";
            database.execute(sql, &values![id, left])?;
        }
    }
    Ok(true)
}

/// A text of at most so many bytes, without control characters.
fn cut(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().filter(|c| !c.is_control()).collect();
    kept.truncate(kept.floor_char_boundary(most));
    kept
}
