//! What admins change of their own: the password and the second factor.
//!
//! All of it asks for the password again: a session that somebody else has got hold of must not become an
//! account. Wrong ones count as wrong logins do. The other sessions end.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    AdminError, Admins, CHALLENGE_LIFE, CODE_TRIES_MAX, Challenge, SignedIn,
    account::{AdminRow, PASSWORD_BYTES_MAX, check_password, end_sessions},
    login::guarded_name,
    recovery, totp,
};
use crate::{
    account::{OnceKind, random_secret},
    sql::values,
};

/// What every challenge of an enrolment begins with.
const PREFIX: &str = "phe_";

/// A second factor that is being enrolled.
#[derive(Serialize, Deserialize)]
struct Enrolling {
    admin: String,
    seed: String,
    wrong: u32,
}

impl Admins {
    /// What is kept of an admin who has said the password again.
    async fn proven(
        &self,
        who: &SignedIn,
        password: SecretString,
        from: IpAddr,
    ) -> Result<AdminRow, AdminError> {
        let row = self.row(who.account.id.clone()).await?.ok_or(AdminError::NotFound)?;
        if row.password.is_empty() {
            return Err(AdminError::NoPassword);
        }
        let attempt = self.guard.enter(&guarded_name(&row.account.username), from, self.now())?;
        let is_short = password.expose_secret().len() <= PASSWORD_BYTES_MAX;
        let judged = match is_short {
            true => self.is_password(password, Some(row.password.clone())).await,
            false => Ok(false),
        };
        if !matches!(judged, Ok(false)) {
            self.guard.unjudged(attempt);
        }
        if judged? {
            return Ok(row);
        }
        let by = row.account.username.as_str();
        tracing::info!(target: "security", event = "admin_password_refused", by, %from);
        Err(AdminError::BadPassword)
    }

    /// Replaces the password by another. The other sessions end.
    ///
    /// # Errors
    /// [`AdminError::BadPassword`], [`AdminError::NoPassword`], [`AdminError::Guarded`],
    /// [`AdminError::Invalid`].
    pub async fn change_password(
        &self,
        who: &SignedIn,
        old: SecretString,
        new: SecretString,
        from: IpAddr,
    ) -> Result<u64, AdminError> {
        check_password("new_password", &new)?;
        let row = self.proven(who, old, from).await?;
        let (hash, now) = (self.hash(new).await?, self.now());
        let (id, spared, before) = (row.account.id, who.session.session_id.clone(), row.password);
        let ended = self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    // Of two who change it at once the second does not have the old one any more.
                    let sql = "UPDATE admin_account SET password = $2, updated_at = $3 \
                               WHERE id = $1 AND password = $4";
                    if database.execute(sql, &values![&id, &hash, now, &before])? == 0 {
                        return Err(AdminError::BadPassword);
                    }
                    Ok(end_sessions(database, &id, &spared)?)
                })
            })
        });
        let ended = ended.await?;
        let by = row.account.username.as_str();
        tracing::info!(target: "security", event = "admin_password_changed", by, %from);
        Ok(ended)
    }

    /// Begins to enrol another second factor; the one before stays in force until the first code of the
    /// new one.
    ///
    /// # Errors
    /// [`AdminError::BadPassword`], [`AdminError::NoPassword`], [`AdminError::Guarded`].
    pub async fn enrol(
        &self,
        who: &SignedIn,
        password: SecretString,
        from: IpAddr,
    ) -> Result<Challenge, AdminError> {
        let row = self.proven(who, password, from).await?;
        let seed = random_secret("");
        let codes = totp::codes(self.accounts.key(), &seed, &row.account.username)?;
        let enrolment = Some(totp::enrolment(&codes)?);
        let challenge = random_secret(PREFIX);
        let enrolling = Enrolling { admin: row.account.id, seed, wrong: 0 };
        self.keep_enrolling(&challenge, &enrolling).await?;
        Ok(Challenge { challenge: challenge.into(), enrolment })
    }

    async fn keep_enrolling(
        &self,
        challenge: &str,
        enrolling: &Enrolling,
    ) -> Result<(), AdminError> {
        let kind = OnceKind::Enrolment;
        Ok(self.accounts.keep_once(kind, challenge, enrolling, CHALLENGE_LIFE).await?)
    }

    /// Puts the second factor that is being enrolled into force by its first code; new recovery codes, and how
    /// many other sessions have ended. A wrong one leaves the challenge for [`CODE_TRIES_MAX`] in all.
    ///
    /// # Errors
    /// [`AdminError::NoEnrolment`], [`AdminError::BadFirstCode`], [`AdminError::Guarded`].
    pub async fn confirm(
        &self,
        who: &SignedIn,
        challenge: &str,
        code: &str,
        from: IpAddr,
    ) -> Result<(Vec<SecretString>, u64), AdminError> {
        let id = who.account.id.clone();
        let name = guarded_name(&who.account.username);
        let attempt = self.guard.enter(&name, from, self.now())?;
        let enrolling = self.accounts.take_once::<Enrolling>(OnceKind::Enrolment, challenge).await;
        let enrolling = match enrolling.map_err(AdminError::from) {
            Ok(enrolling) => enrolling.filter(|enrolling| enrolling.admin == id),
            Err(error) => {
                self.guard.unjudged(attempt);
                return Err(error);
            }
        };
        let Some(mut enrolling) = enrolling else { return Err(AdminError::NoEnrolment) };
        let codes = totp::codes(self.accounts.key(), &enrolling.seed, &who.account.username)?;
        let Some(step) = totp::step(&codes, code, self.now()) else {
            let by = who.account.username.as_str();
            tracing::info!(target: "security", event = "admin_code_refused", by, %from);
            enrolling.wrong += 1;
            if enrolling.wrong < CODE_TRIES_MAX {
                self.keep_enrolling(challenge, &enrolling).await?;
            }
            return Err(AdminError::BadFirstCode);
        };
        self.guard.unjudged(attempt);
        let ended = self.set_factor(who, Some((enrolling.seed, step)), from).await?;
        Ok(ended)
    }

    /// Forgets the second factor: another one is enrolled with the next login. The other sessions end; how many
    /// those were.
    ///
    /// # Errors
    /// [`AdminError::BadPassword`], [`AdminError::NoPassword`], [`AdminError::Guarded`].
    pub async fn forget_second_factor(
        &self,
        who: &SignedIn,
        password: SecretString,
        from: IpAddr,
    ) -> Result<u64, AdminError> {
        self.proven(who, password, from).await?;
        Ok(self.set_factor(who, None, from).await?.1)
    }

    /// Writes a second factor, which was used at this step, or that there is none.
    async fn set_factor(
        &self,
        who: &SignedIn,
        factor: Option<(String, i64)>,
        from: IpAddr,
    ) -> Result<(Vec<SecretString>, u64), AdminError> {
        let shown = if factor.is_some() { recovery::make() } else { Vec::new() };
        let kept = recovery::kept(&shown);
        let event = match &factor {
            Some(_) => "admin_second_factor_changed",
            None => "admin_second_factor_removed",
        };
        let (id, spared) = (who.account.id.clone(), who.session.session_id.clone());
        let now = self.now();
        let ended = self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    let (seed, step) = factor
                        .as_ref()
                        .map_or((None, 0), |(seed, step)| (Some(seed.as_str()), *step));
                    let sql = "UPDATE admin_account SET totp_seed = $2, totp_step = $3, \
                               recovery = $4, updated_at = $5 WHERE id = $1";
                    database.execute(sql, &values![&id, seed, step, &kept, now])?;
                    Ok::<_, AdminError>(end_sessions(database, &id, &spared)?)
                })
            })
        });
        let ended = ended.await?;
        let by = who.account.username.as_str();
        tracing::info!(target: "security", event, by, %from);
        Ok((shown.into_iter().map(SecretString::from).collect(), ended))
    }

    /// New recovery codes in place of those that are left.
    ///
    /// # Errors
    /// [`AdminError::BadPassword`], [`AdminError::NoPassword`], [`AdminError::Guarded`];
    /// [`AdminError::NoSecondFactor`] where there is none that they could stand in for.
    pub async fn new_recovery_codes(
        &self,
        who: &SignedIn,
        password: SecretString,
        from: IpAddr,
    ) -> Result<Vec<SecretString>, AdminError> {
        let row = self.proven(who, password, from).await?;
        let shown = recovery::make();
        let (id, kept) = (row.account.id, recovery::kept(&shown));
        self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    let sql = "UPDATE admin_account SET recovery = $2 \
                               WHERE id = $1 AND totp_seed IS NOT NULL";
                    match database.execute(sql, &values![&id, &kept])? {
                        0 => Err(AdminError::NoSecondFactor),
                        _ => Ok(()),
                    }
                })
            })
        })
        .await?;
        let by = who.account.username.as_str();
        tracing::info!(target: "security", event = "admin_recovery_codes_made", by, %from);
        Ok(shown.into_iter().map(SecretString::from).collect())
    }
}
