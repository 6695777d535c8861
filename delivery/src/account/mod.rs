//! Accounts: whom providers know as whom, logins and their devices, what is not to be believed any more.
//!
//! A login ([`Accounts::log_in`]) makes a session, which has one device and lives as long as its refresh
//! token is used (seed 003 §6.6). Its access tokens are checked without looking anything up, except in what
//! was revoked, which every node has in memory ([`Revocations`]): a node that revokes something believes it at
//! once, others when the bus tells them or, at the latest, at their next look at the database, a second
//! later.
//!
//! All of it is part of the control data, in its database and under its limits (see [`crate::control`]).

mod copy;
mod deletion;
mod error;
mod login;
mod metrics;
mod once;
mod preferences;
mod profile;
mod refresh;
mod revocations;
mod revoked;
mod session;
mod ticket;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::metrics::Recorder;
use protocol::Time;

use crate::{InboxKey, clock::millis, control::Control, identity::Identity, sql::Database};

pub(crate) use self::{
    copy::TABLES,
    deletion::{FRESH_LOGIN, TAKEN_UP_AFTER},
    login::ShownPair,
    once::random_secret,
};
pub use self::{
    error::AccountError,
    login::{
        DEVICE_NAME_BYTES_MAX, DeviceInfo, IDENTITIES_MAX, LogIn, LogInAs, ProviderIdentity,
        SESSIONS_MAX, Tenancy, TokenPair, USER_AGENT_BYTES_MAX,
    },
    metrics::ALL as METRICS,
    once::OnceKind,
    preferences::{KeptPreferences, Unread},
    profile::{Linked, PROFILE_TEXT_BYTES_MAX, Profile, ProfileChange},
    refresh::{PREFIX as REFRESH_TOKEN_PREFIX, REUSE_GRACE, RefreshKey},
    revocations::{LoginMark, Revocation, Revocations, Void},
    session::Session,
    ticket::{TICKET_LIFE, Ticket},
};

/// Pause between two times at which what nobody need remember any more is deleted.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// Is told of whom something has become void on this node, from whichever node it came; of no one in particular
/// where it was of somebody who is forgotten.
type Heard = Box<dyn Fn(Option<&InboxKey>) + Send + Sync>;

/// What can be set.
#[derive(Clone)]
pub struct AccountConfig {
    /// How long a refresh token lives (`REFRESH_TOKEN_EXPIRE_TIME`).
    pub refresh_ttl: Duration,
    /// Makes refresh tokens.
    pub refresh_key: RefreshKey,
}

impl std::fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountConfig")
            .field("refresh_ttl", &self.refresh_ttl)
            .finish_non_exhaustive()
    }
}

/// Users who log in, and their sessions.
pub struct Accounts {
    control: Arc<Control>,
    identity: Arc<Identity>,
    revocations: Arc<Revocations>,
    following: preferences::Following,
    config: AccountConfig,
    heard: OnceLock<Heard>,
    tell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    metrics: OnceLock<metrics::AccountMetrics>,
    tidied: parking_lot::Mutex<Time>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    /// Reads what was revoked, and goes on looking with the control data. Waits for the database.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(
        control: Arc<Control>,
        identity: Arc<Identity>,
        config: AccountConfig,
    ) -> Result<Arc<Self>, AccountError> {
        let revocations = Arc::clone(identity.revocations());
        let tidied = parking_lot::Mutex::new(control.clock().now());
        let accounts = Arc::new(Self {
            control,
            identity,
            revocations,
            following: preferences::Following::default(),
            config,
            heard: OnceLock::new(),
            tell: OnceLock::new(),
            metrics: OnceLock::new(),
            tidied,
        });
        accounts.learn_revoked()?;
        accounts.learn_preferences()?;
        let weak = Arc::downgrade(&accounts);
        accounts.control.after_looks(move || {
            let Some(accounts) = weak.upgrade() else { return false };
            accounts.after_look();
            true
        });
        Ok(accounts)
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn Recorder) {
        self.metrics.get_or_init(|| metrics::AccountMetrics::new(recorder));
    }

    /// Calls `heard` whenever something becomes void from here on, on whatever thread learns of it: with
    /// whose it is, and with nobody where it is of a user who was deleted and is not named any more. The first
    /// one is kept.
    pub fn on_revoked(&self, heard: impl Fn(Option<&InboxKey>) + Send + Sync + 'static) {
        let _ = self.heard.set(Box::new(heard));
    }

    /// Calls `tell` when something was revoked here, or a user's preferences changed, for whoever tells other nodes. The
    /// first one is kept.
    pub fn on_written(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// What is not to be believed.
    #[must_use]
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Looks at once whether something was revoked, or a user's preferences changed: another node says so.
    pub async fn look(self: &Arc<Self>) {
        let looked = self.aside(|accounts| {
            accounts.control.refresh()?;
            accounts.learn_revoked()?;
            accounts.learn_preferences()
        });
        if let Err(error) = looked.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "what another node revoked or a user prefers cannot be read; it will be, in a second"
            );
        }
    }

    /// Once a second, after a look that may have gone well.
    fn after_look(&self) {
        self.learn_or_warn();
        let now = self.now();
        if let Some(metrics) = self.metrics.get() {
            metrics.revoked.set(self.revocations.len() as f64);
            metrics.preferences_known.set(self.following.known_len() as f64);
        }
        let mut tidied = self.tidied.lock();
        if now.millis().saturating_sub(tidied.millis()) < millis(TIDY_EVERY) {
            return;
        }
        *tidied = now;
        drop(tidied);
        self.revocations.forget(now);
        if let Err(error) = self.control.write_beside(|database| database.tidy_accounts(now)) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "sessions that have ended could not be deleted");
        }
    }

    /// Reads what was revoked since the last time, if anything was.
    fn learn_revoked(&self) -> Result<(), AccountError> {
        let known = self.revocations.revision();
        if self.control.accounts_revision() == known {
            return Ok(());
        }
        let now = self.now();
        let (revision, new) = self.control.read(|database| database.revoked_since(known, now))?;
        let news = self.revocations.learn(revision, new);
        if let Some(heard) = self.heard.get() {
            news.named.iter().for_each(|revocation| heard(Some(&revocation.inbox)));
            if !news.forgotten.is_empty() {
                heard(None);
            }
        }
        Ok(())
    }

    /// What was written here is believed here before anybody is answered.
    fn written(&self) {
        if let Some(tell) = self.tell.get() {
            tell();
        }
        self.learn_or_warn();
    }

    /// Each by itself: what is revoked must not wait for what users prefer.
    fn learn_or_warn(&self) {
        if let Err(error) = self.learn_revoked() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what was revoked cannot be read; it is tried again in a second");
        }
        if let Err(error) = self.learn_preferences() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "what users prefer cannot be read; it is tried again in a second"
            );
        }
    }

    /// Makes what must be kept, but not in the database.
    pub(crate) const fn key(&self) -> &RefreshKey {
        &self.config.refresh_key
    }

    fn now(&self) -> Time {
        self.control.clock().now()
    }

    /// On a thread that may wait for the database.
    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let accounts = Arc::clone(self);
        self.control.aside(move |_| work(&accounts)).await?
    }
}

impl Database {
    /// Deletes what nobody need remember any more.
    fn tidy_accounts(&mut self, now: Time) -> Result<(), crate::control::ControlError> {
        self.note(|database| {
            for sql in [
                // Those who are enabled again stay: a node that was away must learn of it.
                "DELETE FROM account_revoked WHERE until < $1 AND until > 0",
                "DELETE FROM account_once WHERE expires_at < $1",
                "DELETE FROM account_session WHERE expires_at < $1",
            ] {
                database.execute(sql, &crate::sql::values![now])?;
            }
            Ok(())
        })
    }
}
