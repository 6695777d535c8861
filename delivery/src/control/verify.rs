//! Whose key it is.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::Time;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Control, ControlError, KeyError, LAST_USED_INTERVAL, ServiceStatus, key, notes::Note,
    service::Service, shared::Entry,
};

/// Most requests that wait for the database at a time because they name a key or a template not known
/// here: each holds a thread. Further ones wait in line; those who wait for one thing share a look.
pub(super) const ASIDE_MAX: usize = 32;

/// How long they wait in line, before they are refused: as long as making a connection may take.
const ASIDE_WAIT_MAX: Duration = Duration::from_secs(5);

impl Control {
    /// The service that a key belongs to. May wait for the database if the key is not known here; on a
    /// thread that must not, see [`Control::verify_aside`].
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn verify(&self, key: &str) -> Result<Arc<Service>, KeyError> {
        if let Some(verified) = self.verify_known(key) {
            return verified;
        }
        self.shared.refresh().map_err(|error| KeyError::Unavailable(Box::new(error)))?;
        self.verify_known(key).unwrap_or(Err(KeyError::Bad))
    }

    /// As [`Control::verify`], without holding the thread: a key that is known is looked up in memory,
    /// and for another one a thread waits that may.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn verify_aside(self: &Arc<Self>, key: &str) -> Result<Arc<Service>, KeyError> {
        if let Some(verified) = self.verify_known(key) {
            return verified;
        }
        let key = key.to_owned();
        let verified = self.aside(move |control| control.verify(&key)).await;
        verified.unwrap_or_else(|error| Err(KeyError::Unavailable(Box::new(error))))
    }

    /// By memory; none for a key that is not there.
    fn verify_known(&self, key: &str) -> Option<Result<Arc<Service>, KeyError>> {
        let Some((id, secret)) = key::parse(key) else { return Some(Err(KeyError::Bad)) };
        let snapshot = self.shared.snapshot.load();
        let entry = snapshot.keys.get(id)?;
        Some(self.check(entry, secret))
    }

    fn check(&self, entry: &Entry, secret: &str) -> Result<Arc<Service>, KeyError> {
        if !entry.record.hash.matches(secret) {
            return Err(KeyError::Bad);
        }
        let now = self.clock().now();
        if entry.record.key.expires_at.is_some_and(|at| at <= now) {
            return Err(KeyError::Bad);
        }
        self.note_use(entry, now);
        match entry.service.status {
            ServiceStatus::Active => Ok(Arc::clone(&entry.service)),
            status @ (ServiceStatus::Pending
            | ServiceStatus::Suspended
            | ServiceStatus::Disabled) => Err(KeyError::Inactive(status)),
        }
    }

    fn note_use(&self, entry: &Entry, now: Time) {
        let now_millis = now.millis().unsigned_abs();
        let noted = entry.noted.load(Ordering::Relaxed);
        let interval = LAST_USED_INTERVAL.as_millis();
        if u128::from(now_millis.saturating_sub(noted)) < interval {
            return;
        }
        let won =
            entry.noted.compare_exchange(noted, now_millis, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() && !self.note(Note::KeyUsed(entry.record.key.id.clone(), now)) {
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
