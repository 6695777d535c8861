//! What is written to the database when there is time, by a thread of its own.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use protocol::Time;

use super::{ControlError, USAGE_FLUSH_INTERVAL, keys::KeyUse, shared::Shared};

/// Most notes that wait to be written. Over it they are dropped; the next use of the key, or the next
/// message of a tenant, makes another one.
pub(super) const NOTES_MAX: usize = 1_024;

/// What is to be written when there is time.
pub(super) enum Note {
    /// A key was used.
    KeyUsed(KeyUse),
    /// A session was used, from there.
    SessionUsed(String, Time, String),
    /// Some tenants used more than is written down.
    UsageChanged,
}

/// Ends with the last sender; what tenants used is written once more then.
pub(super) fn write(shared: &Shared, waiting: &Receiver<Note>) {
    let mut usage_due: Option<Instant> = None;
    loop {
        let first = match usage_due {
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => waiting.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        let (mut used, mut sessions) = (vec![], vec![]);
        for note in first.into_iter().chain(waiting.try_iter()) {
            match note {
                Note::KeyUsed(key) => used.push(key),
                Note::SessionUsed(id, at, address) => sessions.push((id, at, address)),
                Note::UsageChanged => {
                    usage_due.get_or_insert_with(|| Instant::now() + USAGE_FLUSH_INTERVAL);
                }
            }
        }
        if !used.is_empty() {
            let written = shared.writing().and_then(|mut database| database.touch_keys(used));
            log_failure(&written, "the last use of service keys");
        }
        if !sessions.is_empty() {
            let written =
                shared.writing().and_then(|mut database| database.touch_sessions(sessions));
            log_failure(&written, "the last use of sessions");
        }
        if usage_due.is_some_and(|due| ended || due <= Instant::now()) {
            let written = write_usage(shared);
            log_failure(&written, "what tenants have used today");
            usage_due = written.is_err().then(|| Instant::now() + USAGE_FLUSH_INTERVAL);
        }
        if ended {
            return;
        }
    }
}

fn write_usage(shared: &Shared) -> Result<(), ControlError> {
    let rows = shared.usage.take_dirty();
    let written =
        shared.writing().and_then(|mut database| database.save_usage(&shared.node, &rows));
    if written.is_err() {
        shared.usage.not_written(&rows);
    }
    written
}

fn log_failure(written: &Result<(), ControlError>, what: &str) {
    if let Err(error) = written {
        tracing::warn!(error = error as &dyn std::error::Error, "{what} could not be written");
    }
}
