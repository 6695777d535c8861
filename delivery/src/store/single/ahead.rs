//! Makes the journal's next segment before it is needed.

use std::path::PathBuf;

use parking_lot::{Condvar, Mutex};

use super::{journal::JournalError, segment::Segment, sql::Sync};

/// Where the committer takes its segments from.
pub(super) struct Ahead {
    dir: PathBuf,
    sync: Sync,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    /// The number of the next segment that is made.
    number: u64,
    ready: Option<Segment>,
    wanted: bool,
    closing: bool,
}

impl Ahead {
    pub(super) fn new(dir: PathBuf, sync: Sync, number: u64) -> Self {
        let state = State { number, ready: None, wanted: false, closing: false };
        Self { dir, sync, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// Asks for the next segment to be made. Cheap to repeat.
    pub(super) fn want(&self) {
        let mut state = self.state.lock();
        if !state.wanted && state.ready.is_none() {
            state.wanted = true;
            self.wake.notify_one();
        }
    }

    /// The segment that was made ahead, or one made now.
    pub(super) fn take(&self) -> Result<Segment, JournalError> {
        let ready = self.state.lock().ready.take();
        ready.map_or_else(|| self.make(), Ok)
    }

    /// A segment made now, leaving one that was made ahead: it may be from before a failure.
    pub(super) fn make(&self) -> Result<Segment, JournalError> {
        let number = {
            let mut state = self.state.lock();
            state.number += 1;
            state.number - 1
        };
        Segment::create(&self.dir, number, self.sync)
    }

    /// Forgets what was made ahead: after a failed write no older handle is to be trusted.
    pub(super) fn discard(&self) {
        self.state.lock().ready = None;
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Makes segments until closed.
    pub(super) fn run(&self) {
        loop {
            {
                let mut state = self.state.lock();
                while !state.wanted && !state.closing {
                    self.wake.wait(&mut state);
                }
                if state.closing {
                    return;
                }
            }
            let made = Segment::prepare_spare(&self.dir)
                .map_err(JournalError::from)
                .and_then(|()| self.make());
            let mut state = self.state.lock();
            state.wanted = false;
            match made {
                Ok(segment) => state.ready = Some(segment),
                // The committer makes it when it needs it, and says what is wrong if it still is.
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the journal's next segment could not be made ahead"
                ),
            }
        }
    }
}
