//! Makes the journal's next segment before it is needed.

use std::path::PathBuf;

use parking_lot::{Condvar, Mutex};

use super::{
    journal::JournalError,
    segment::{self, Segment},
    sql::Sync,
};

/// Where the committer takes its segments from.
pub(super) struct Ahead {
    dir: PathBuf,
    sync: Sync,
    state: Mutex<State>,
    /// Held while a segment is made: they are written to in the order of their numbers, which is what a start
    /// after a crash reads them in.
    making: Mutex<()>,
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
        Self { dir, sync, state: Mutex::new(state), making: Mutex::new(()), wake: Condvar::new() }
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
        let _making = self.making.lock();
        let ready = self.state.lock().ready.take();
        ready.map_or_else(|| self.create(), Ok)
    }

    /// A segment made now. One that was made ahead is given up: after a failed write no older handle is to
    /// be trusted.
    pub(super) fn make(&self) -> Result<Segment, JournalError> {
        let _making = self.making.lock();
        self.state.lock().ready = None;
        self.create()
    }

    fn create(&self) -> Result<Segment, JournalError> {
        let number = {
            let mut state = self.state.lock();
            state.number += 1;
            state.number - 1
        };
        Segment::create(&self.dir, number, self.sync)
    }

    /// Makes the next segment anew, of files in which nothing is left of older segments.
    pub(super) fn renew(&self) -> Result<(), JournalError> {
        let _making = self.making.lock();
        let ready = self.state.lock().ready.take();
        ready.map_or(Ok(()), Segment::discard)?;
        segment::remove_spares(&self.dir)?;
        let made = self.create()?;
        self.state.lock().ready = Some(made);
        Ok(())
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
            let prepared = Segment::prepare_spare(&self.dir).map_err(JournalError::from);
            let _making = self.making.lock();
            if self.state.lock().ready.is_some() {
                self.state.lock().wanted = false;
                continue;
            }
            let made = prepared.and_then(|()| self.create());
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
