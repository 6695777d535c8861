//! Questions to a thread that owns something, and their answers.

use std::{collections::VecDeque, sync::Arc};

use metrics::Counter;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::store::StoreError;

/// Questions that may wait for one thread. At 20,000 a second this is three seconds; above it the
/// answer is `Busy`.
const JOBS_MAX: usize = 65_536;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// What waits for the owner of a `T`.
pub(super) struct Jobs<T> {
    waiting: VecDeque<Job<T>>,
    closing: bool,
    busy: Counter,
}

impl<T> Jobs<T> {
    pub(super) fn new(busy: Counter) -> Self {
        Self { waiting: VecDeque::new(), closing: false, busy }
    }

    /// Puts a question; the answer comes when its owner has got to it, or nothing if it goes away.
    pub(super) fn put<R, F>(
        &mut self,
        question: F,
    ) -> Result<oneshot::Receiver<Result<R, StoreError>>, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut T) -> Result<R, StoreError> + Send + 'static,
    {
        if self.closing {
            return Err(StoreError::Closing);
        }
        if self.waiting.len() >= JOBS_MAX {
            self.busy.increment(1);
            return Err(StoreError::Busy("too many reads are waiting"));
        }
        let (answer, receive) = oneshot::channel();
        self.waiting.push_back(Box::new(move |owned| {
            // Nobody waits any more: the client went away.
            if !answer.is_closed() {
                let _ = answer.send(question(owned));
            }
        }));
        Ok(receive)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn take(&mut self) -> VecDeque<Job<T>> {
        std::mem::take(&mut self.waiting)
    }

    /// No question is taken any more; those that wait are answered.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    pub(super) const fn closing(&self) -> bool {
        self.closing
    }
}

/// A thread that only answers.
pub(super) struct Desk<T> {
    jobs: Mutex<Jobs<T>>,
    wake: Condvar,
}

impl<T: Send + 'static> Desk<T> {
    pub(super) fn new(busy: Counter) -> Self {
        Self { jobs: Mutex::new(Jobs::new(busy)), wake: Condvar::new() }
    }

    /// Asks; see [`Jobs::put`].
    pub(super) async fn ask<R, F>(self: &Arc<Self>, question: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut T) -> Result<R, StoreError> + Send + 'static,
    {
        let receive = self.jobs.lock().put(question)?;
        self.wake.notify_one();
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    pub(super) fn close(&self) {
        self.jobs.lock().close();
        self.wake.notify_one();
    }

    /// Answers until closed and nobody waits.
    pub(super) fn run(&self, mut owned: T) {
        loop {
            let taken = {
                let mut jobs = self.jobs.lock();
                while jobs.is_empty() {
                    if jobs.closing() {
                        return;
                    }
                    self.wake.wait(&mut jobs);
                }
                jobs.take()
            };
            for job in taken {
                job(&mut owned);
            }
        }
    }
}
