//! How much is durable in the journal and waits for the users' files.

use std::sync::atomic::{AtomicI64, Ordering};

use super::inbox::TailEntry;

/// What waits for the files, over all inboxes.
#[derive(Default)]
pub(super) struct Lag {
    records: AtomicI64,
    bytes: AtomicI64,
}

impl Lag {
    pub(super) fn add(&self, entry: &TailEntry) {
        self.change(entry, 1);
    }

    pub(super) fn remove(&self, entries: &[TailEntry]) {
        for entry in entries {
            self.change(entry, -1);
        }
    }

    fn change(&self, entry: &TailEntry, sign: i64) {
        // What is lazy waits for nobody and has its own limit, `LAZY_MAX` for each inbox.
        if entry.lazy {
            return;
        }
        self.records.fetch_add(sign, Ordering::Relaxed);
        self.bytes.fetch_add(sign * i64::from(entry.weight), Ordering::Relaxed);
    }

    pub(super) fn records(&self) -> i64 {
        self.records.load(Ordering::Relaxed).max(0)
    }

    pub(super) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed).max(0)
    }
}
