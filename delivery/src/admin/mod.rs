//! Admins: people who look after an installation, each with a role, a password and a second factor.
//!
//! `ADMIN_TOKEN` makes the first of them and stays the way back in. A login has two steps: the password gives
//! a challenge, the challenge and a code give a short session, whose opaque token is looked up in the
//! database with each request, so that what is ended is over at once on every node. Who has no second factor yet
//! enrols it with the first login.
//!
//! All of it is part of the control data. Wrong passwords and codes are counted by [`crate::guard`].

mod account;
mod copy;
mod error;
mod login;
mod oneself;
mod password;
mod recovery;
mod session;
mod single_sign_on;
mod totp;

use std::sync::Arc;

use ::metrics::Recorder;
use protocol::{TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::{account::Accounts, control::Control, guard::Guard, words::words};

pub(crate) use self::copy::TABLES;
pub(crate) use self::single_sign_on::{Entered, SingleSignOn, SsoError};
pub use self::{
    account::{
        ADMINS_MAX, AdminChanges, EMAIL_BYTES_MAX, NewAdmin, PASSWORD_BYTES_MAX,
        PASSWORD_BYTES_MIN, USERNAME_BYTES_MAX,
    },
    error::AdminError,
    login::{CHALLENGE_LIFE, CODE_TRIES_MAX, Challenge, Enrolment, LoggedIn},
    password::{HASHES_AT_ONCE_MAX, MEMORY_KIB, PASSES},
    recovery::RECOVERY_CODES,
    session::{
        AdminSession, PREFIX as SESSION_PREFIX, SESSION_IDLE_MAX, SESSION_LIFE_MAX, SESSIONS_MAX,
        SignedIn,
    },
    single_sign_on::{ClaimedRoles, ROLES_MAX, SingleSignOnConfig},
};

words! {
    /// What an admin may do; each may what those before it may.
    Role {
        /// Look.
        Viewer = "viewer",
        /// Change users, sessions, connections, channels and messages.
        Operator = "operator",
        /// Change everything, other admins among it.
        Admin = "admin",
    }
}

impl Role {
    /// Whether this role may do what needs that one.
    #[must_use]
    pub const fn may(self, needed: Self) -> bool {
        self as u8 >= needed as u8
    }
}

/// An admin, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Admin")]
pub struct AdminAccount {
    /// Made up.
    pub id: String,
    /// The name to log in with, in lower case.
    pub username: String,
    /// What people call them.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The only tenant that they see; null for all.
    pub tenant_id: Option<TenantId>,
    /// The address by which the issuer of `ADMIN_OIDC_ISSUER` knows them; null where it does not.
    pub email: Option<String>,
    /// Whether they can log in with a password; who came by an issuer's roles cannot.
    pub has_password: bool,
    /// Whether they have a second factor; who has none enrols it with the next login.
    pub second_factor: bool,
    /// How many recovery codes are left.
    pub recovery_codes_left: usize,
    /// Since when they are out; null for those who are in.
    pub disabled_at: Option<Time>,
    /// When they were made.
    pub created_at: Time,
    /// When they were last changed.
    pub updated_at: Time,
    /// When they last logged in.
    pub last_login_at: Option<Time>,
}

/// Admins and their sessions.
pub struct Admins {
    control: Arc<Control>,
    /// Keeps challenges, and has the key that makes the secrets of codes.
    accounts: Arc<Accounts>,
    guard: Guard,
    hashes: Arc<Semaphore>,
}

impl std::fmt::Debug for Admins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admins").finish_non_exhaustive()
    }
}

impl Admins {
    /// Of this control data.
    #[must_use]
    pub fn new(control: Arc<Control>, accounts: Arc<Accounts>) -> Self {
        let hashes = Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX));
        Self { control, accounts, guard: Guard::default(), hashes }
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn Recorder) {
        self.guard.register_metrics(recorder);
    }

    /// What counts wrong attempts.
    pub(crate) const fn guard(&self) -> &Guard {
        &self.guard
    }

    fn now(&self) -> Time {
        self.control.clock().now()
    }

    /// On a thread that may wait for the database.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Control) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        self.control.aside(work).await?
    }
}

#[cfg(test)]
mod tests;
