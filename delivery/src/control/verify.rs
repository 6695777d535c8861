//! Whose key it is.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::Time;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    ApiKey, Control, ControlError, KeyError, LAST_USED_INTERVAL, ServiceStatus, key, keys::KeyUse,
    notes::Note, service::Service, shared::Entry,
};
use crate::networks::Networks;

/// Most requests that wait for the database at a time because they name a key or a template not known
/// here: each holds a thread. Further ones wait in line; those who wait for one thing share a look.
pub(super) const ASIDE_MAX: usize = 32;

/// How long they wait in line, before they are refused: as long as making a connection may take.
const ASIDE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Whether something that is done once in [`LAST_USED_INTERVAL`] is to be done now, which then nobody else
/// does.
fn is_due(last: &AtomicU64, now: Time) -> bool {
    let now = now.millis().unsigned_abs();
    let before = last.load(Ordering::Relaxed);
    u128::from(now.saturating_sub(before)) >= LAST_USED_INTERVAL.as_millis()
        && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl Control {
    /// The service that a key belongs to, if it may be used from there. May wait for the database if the key is not known here; on a
    /// thread that must not, see [`Control::verify_aside`].
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn verify(&self, key: &str, from: IpAddr) -> Result<Arc<Service>, KeyError> {
        if let Some(verified) = self.verify_known(key, from) {
            return verified;
        }
        self.shared.refresh().map_err(|error| KeyError::Unavailable(Box::new(error)))?;
        self.verify_known(key, from).unwrap_or(Err(KeyError::Bad))
    }

    /// As [`Control::verify`], without holding the thread: a key that is known is looked up in memory,
    /// and for another one a thread waits that may.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn verify_aside(
        self: &Arc<Self>,
        key: &str,
        from: IpAddr,
    ) -> Result<Arc<Service>, KeyError> {
        if let Some(verified) = self.verify_known(key, from) {
            return verified;
        }
        let key = key.to_owned();
        let verified = self.aside(move |control| control.verify(&key, from)).await;
        verified.unwrap_or_else(|error| Err(KeyError::Unavailable(Box::new(error))))
    }

    /// By memory; none for a key that is not there.
    fn verify_known(&self, key: &str, from: IpAddr) -> Option<Result<Arc<Service>, KeyError>> {
        let Some((id, secret)) = key::parse(key) else { return Some(Err(KeyError::Bad)) };
        let snapshot = self.shared.snapshot.load();
        let entry = snapshot.keys.get(id)?;
        Some(self.check(entry, secret, from))
    }

    fn check(&self, entry: &Entry, secret: &str, from: IpAddr) -> Result<Arc<Service>, KeyError> {
        if !entry.record.hash.matches(secret) {
            return Err(KeyError::Bad);
        }
        let now = self.clock().now();
        let ApiKey { id, allowed_networks, .. } = &entry.record.key;
        if entry.record.key.has_expired(now) {
            return Err(KeyError::Bad);
        }
        let allowed = |networks: &Networks| networks.is_empty() || networks.contains(from);
        if !allowed(&entry.service.allowed_networks) || !allowed(allowed_networks) {
            // What an owner wants to know of a key that leaked, and no more often than of its use.
            if is_due(&entry.refused, now) {
                let service = entry.service.id.as_str();
                tracing::warn!(target: "security", event = "service_key_wrong_address", service, key = id, %from);
            }
            return Err(KeyError::Address(from));
        }
        if is_due(&entry.noted, now) {
            let from = from.to_canonical().to_string();
            self.note_use(KeyUse { id: id.clone(), at: now, from });
        }
        match entry.service.status {
            ServiceStatus::Active => Ok(Arc::clone(&entry.service)),
            status @ (ServiceStatus::Pending
            | ServiceStatus::Suspended
            | ServiceStatus::Disabled) => Err(KeyError::Inactive(status)),
        }
    }

    fn note_use(&self, used: KeyUse) {
        if !self.note(Note::KeyUsed(used)) {
            // The database is slow; a note of use is the first thing to give up.
            if let Some(metrics) = self.shared.metrics.get() {
                metrics.notes_dropped.increment(1);
            }
        }
    }

    /// Does something that may wait for the database, on a thread that may; at most [`ASIDE_MAX`] at
    /// a time.
    ///
    /// # Errors
    /// [`ControlError::Busy`] if there is none of these threads for it.
    pub(crate) async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        let turn = timeout(ASIDE_WAIT_MAX, Arc::clone(&self.asides).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(self.busy()) };
        let control = Arc::clone(self);
        let done = spawn_blocking(move || {
            let _turn = turn;
            work(&control)
        });
        match done.await {
            Ok(done) => Ok(done),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => Err(ControlError::Busy),
            },
        }
    }
}
