//! The audit log: what admins have changed, for good (contract §9).
//!
//! Each entry has a hash of itself and of the entry before it ([`chain`]), and the database refuses to change
//! or delete one. Who gets around that leaves a chain that does not hold, which [`Audit::verify`] finds; who
//! rewrites all of it, or cuts off its end, does not have the hash that somebody has kept: each one is in the
//! security log as it is written.
//!
//! An entry is durable before its request is answered. Where the database does not take it now, it waits in
//! memory (at most [`WAITING_MAX`]) and is written as soon as that goes; when as many wait, changes by admins
//! are refused before they begin.
//!
//! All of it is part of the control data.

mod chain;
mod entry;
mod metrics;
mod rows;
mod verify;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, Weak},
};

use ::metrics::Recorder;
use parking_lot::Mutex;
use protocol::Time;

use self::metrics::AuditMetrics;
pub use self::{
    chain::{FIRST, Hash},
    entry::{Actor, ActorKind, DETAIL_BYTES_MAX, Entry, NewEntry},
    metrics::ALL as METRICS,
    rows::Filter,
    verify::{Verdict, Verified},
};
pub(crate) use self::{
    entry::{detail, made_up},
    rows::TABLES,
};
use crate::control::{Control, ControlError};

/// Most entries that wait for the database: what admins do in the time in which somebody sees to it. At most
/// [`DETAIL_BYTES_MAX`] each, 16 MiB together.
pub const WAITING_MAX: usize = 1_000;

/// The audit log.
pub struct Audit {
    control: Arc<Control>,
    waiting: Mutex<VecDeque<NewEntry>>,
    metrics: OnceLock<AuditMetrics>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// Of this control data.
    #[must_use]
    pub fn new(control: Arc<Control>) -> Arc<Self> {
        let audit =
            Arc::new(Self { control, waiting: Mutex::default(), metrics: OnceLock::default() });
        let weak: Weak<Self> = Arc::downgrade(&audit);
        audit.control.after_looks(move || {
            weak.upgrade().is_some_and(|audit| {
                // Said when they began to wait; what went wrong then goes on.
                let _ = audit.write_waiting();
                true
            })
        });
        audit
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn Recorder) {
        self.metrics.get_or_init(|| AuditMetrics::new(recorder));
    }

    /// Whether so much waits that nothing may be changed.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.lock().len() >= WAITING_MAX
    }

    /// Writes an entry, and those that waited before it. It is durable then, or waits.
    pub(crate) async fn record(self: &Arc<Self>, entry: NewEntry) {
        self.wait(entry);
        let audit = Arc::clone(self);
        let written = self.control.aside(move |_| audit.write_waiting()).await;
        if let Err(error) = written.and_then(|written| written) {
            let error: &(dyn std::error::Error + 'static) = &error;
            let waiting = self.waiting.lock().len();
            tracing::error!(error, waiting, "the audit log cannot be written; its entries wait");
        }
    }

    /// As [`Audit::record`], for a program that is not a server: an entry that cannot be written is an error.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn record_now(&self, entry: NewEntry) -> Result<(), ControlError> {
        self.wait(entry);
        self.write_waiting()
    }

    fn wait(&self, entry: NewEntry) {
        self.waiting.lock().push_back(entry);
        self.show();
    }

    /// Writes what waits, in its order; nobody else writes meanwhile.
    fn write_waiting(&self) -> Result<(), ControlError> {
        if self.waiting.lock().is_empty() {
            return Ok(());
        }
        let written = self.control.write_beside(|database| {
            let batch: Vec<NewEntry> = self.waiting.lock().iter().cloned().collect();
            let written = database.change(|database| rows::append(database, &batch))?;
            self.waiting.lock().drain(..batch.len());
            Ok::<_, ControlError>(written)
        })?;
        self.show();
        for entry in &written {
            // The hash that whoever keeps this log can hold the chain against.
            let (seq, hash) = (entry.seq, entry.hash.to_string());
            let (action, by, status) = (&*entry.action, &*entry.actor.name, entry.status);
            tracing::info!(target: "security", event = "audited", action, by, status, seq, hash);
            if let Some(metrics) = self.metrics.get() {
                metrics.written.increment(1);
            }
        }
        Ok(())
    }

    fn show(&self) {
        if let Some(metrics) = self.metrics.get() {
            #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
            metrics.waiting.set(self.waiting.lock().len() as f64);
        }
    }

    /// Entries that match, latest first, at most so many, before one of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Entry>, ControlError> {
        self.control.read(|database| rows::list(database, filter, before, limit))
    }

    /// Goes through the whole chain, from the first entry on, and through an entry that somebody remembers.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(&self, remembered: Option<(u64, Hash)>) -> Result<Verified, ControlError> {
        verify::verify(&self.control, remembered)
    }

    /// What time entries are of.
    pub(crate) fn now(&self) -> Time {
        self.control.clock().now()
    }
}

#[cfg(test)]
mod tests;
