//! The end of a store, in the order in which work flows.

use std::{sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::{
    Threads, committer::Committer, forget::Forgets, ledger::Ledger, pruner::Pruner,
    publisher::Publisher, search::Searches, worker::Worker,
};

/// The end of the store.
pub(super) struct Shutdown {
    pub(super) threads: Threads,
    pub(super) committer: Arc<Committer>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) workers: Arc<[Worker]>,
    pub(super) publishers: Arc<[Publisher]>,
    pub(super) searches: Arc<Searches>,
    pub(super) housekeeping: Arc<(Mutex<bool>, Condvar)>,
    pub(super) pruner: Arc<Pruner>,
    pub(super) forgets: Arc<Forgets>,
}

impl Shutdown {
    /// Ends the threads in the order in which work flows, so that nothing accepted is left. Blocks
    /// until everything is in its files.
    pub(super) fn run(self) {
        self.pruner.stop();
        let _ = self.threads.pruner.join();
        self.forgets.stop();
        let _ = self.threads.forgetter.join();
        self.ledger.stop_sending();
        let _ = self.threads.scheduler.join();
        self.committer.close();
        let _ = self.threads.committer.join();
        self.threads.ahead.close();
        let _ = self.threads.maker.join();
        // What went to devices waits for another reason to be written; there will be none.
        let now = Instant::now();
        for inbox in self.pruner.inboxes.all() {
            let queue = inbox.state.lock().write_notes();
            if queue {
                self.workers[inbox.worker].mark_dirty(now, &mut vec![inbox]);
            }
        }
        for worker in &*self.workers {
            worker.close();
        }
        for worker in self.threads.workers {
            let _ = worker.join();
        }
        // The workers have left their notes of new inboxes.
        self.threads.trimmer.shared.close();
        let _ = self.threads.keeper.join();
        // Workers tell it what happened to messages.
        self.ledger.close();
        let _ = self.threads.ledger.join();
        let _ = self.threads.ledger_reader.join();
        for publisher in &*self.publishers {
            publisher.close();
        }
        for publisher in self.threads.publishers {
            let _ = publisher.join();
        }
        self.searches.close();
        for searches in self.threads.searches {
            let _ = searches.join();
        }
        *self.housekeeping.0.lock() = true;
        self.housekeeping.1.notify_all();
        let _ = self.threads.housekeeper.join();
        if let Err(error) = self.threads.trimmer.trim() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journal stays for the next start"
            );
        }
    }
}
