//! The threads that own the users' files: each inbox has one worker, so each file one writer.
//!
//! A worker answers questions about inboxes and, between them, writes tails into files: an inbox
//! that has waited [`super::SingleConfig::flush_interval`], or five times that in a crowd, is due.
//! Waiting makes batches, and a batch of ten rows costs little more than one row.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{files::Files, inbox::Inbox, metrics::StoreMetrics};
use crate::store::StoreError;

/// Questions that may wait for one worker. At 10,000 a second and worker this is over six seconds;
/// above it the answer is `Busy`.
const JOBS_MAX: usize = 65_536;

/// Questions answered before due inboxes get their turn again, so that reading cannot starve
/// writing.
const JOBS_PER_TURN: usize = 64;

/// Due inboxes written before questions get their turn again.
const FLUSHES_PER_TURN: usize = 16;

/// Inboxes waiting for one worker from which on they wait [`CROWD_PATIENCE`] times longer: a
/// transaction costs 20 µs and four pages however few rows it has, so under load larger batches
/// leave more of the machine, and of the disk, to the journal.
const CROWD: usize = 256;

/// See [`CROWD`].
pub(super) const CROWD_PATIENCE: u32 = 5;

/// How long an inbox whose file could not be written waits for the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Files) + Send>;

/// A worker's queue.
pub(super) struct Worker {
    queue: Mutex<Queue>,
    wake: Condvar,
    metrics: Arc<StoreMetrics>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Since when they wait, oldest first.
    dirty: VecDeque<(Instant, Arc<Inbox>)>,
    closing: bool,
}

impl Worker {
    pub(super) fn new(metrics: Arc<StoreMetrics>) -> Self {
        Self { queue: Mutex::default(), wake: Condvar::new(), metrics }
    }

    /// Asks the worker; the answer comes when it has got to it.
    pub(super) async fn ask<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Files) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, receive) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return Err(StoreError::Closing);
            }
            if queue.jobs.len() >= JOBS_MAX {
                self.metrics.busy_reads.increment(1);
                return Err(StoreError::Busy("too many reads are waiting"));
            }
            queue.jobs.push_back(Box::new(move |files| {
                // Nobody waits any more: the client went away.
                if !answer.is_closed() {
                    let _ = answer.send(question(files));
                }
            }));
        }
        self.wake.notify_one();
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// Leaves a task with the worker; refused silently when closing or full.
    pub(super) fn tell(&self, task: impl FnOnce(&mut Files) + Send + 'static) {
        let mut queue = self.queue.lock();
        if queue.closing || queue.jobs.len() >= JOBS_MAX {
            self.metrics.busy_reads.increment(1);
            return;
        }
        queue.jobs.push_back(Box::new(task));
        drop(queue);
        self.wake.notify_one();
    }

    /// Queues inboxes that need work; the caller has set their `queued`.
    pub(super) fn mark_dirty(&self, since: Instant, inboxes: &mut Vec<Arc<Inbox>>) {
        if inboxes.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        let was_empty = queue.dirty.is_empty();
        queue.dirty.extend(inboxes.drain(..).map(|inbox| (since, inbox)));
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    /// Works until closed and, as far as the disk allows, everything is written.
    pub(super) fn run(&self, files: &mut Files, flush_interval: Duration) {
        let mut jobs: Vec<Job> = Vec::new();
        let mut due: Vec<Arc<Inbox>> = Vec::new();
        loop {
            let closing = {
                let mut queue = self.queue.lock();
                loop {
                    let now = Instant::now();
                    let wait = if queue.dirty.len() > CROWD {
                        flush_interval * CROWD_PATIENCE
                    } else {
                        flush_interval
                    };
                    let count = queue.jobs.len().min(JOBS_PER_TURN);
                    jobs.extend(queue.jobs.drain(..count));
                    while due.len() < FLUSHES_PER_TURN
                        && queue
                            .dirty
                            .front()
                            .is_some_and(|(since, _)| *since + wait <= now || queue.closing)
                    {
                        due.extend(queue.dirty.pop_front().map(|(_, inbox)| inbox));
                    }
                    if !jobs.is_empty() || !due.is_empty() || queue.closing {
                        break queue.closing;
                    }
                    match queue.dirty.front().map(|(since, _)| *since + wait) {
                        Some(due) => {
                            self.wake.wait_until(&mut queue, due);
                        }
                        None => self.wake.wait(&mut queue),
                    }
                }
            };
            if closing && jobs.is_empty() && due.is_empty() {
                return;
            }
            for job in jobs.drain(..) {
                job(files);
            }
            for inbox in due.drain(..) {
                self.flush_due(files, inbox, closing);
                // A thread may finish its time slice, milliseconds, before one that makes a caller
                // wait gets the core, whatever its niceness (Linux since 6.6).
                std::thread::yield_now();
            }
        }
    }

    fn flush_due(&self, files: &mut Files, inbox: Arc<Inbox>, closing: bool) {
        let failed = files.flush(&inbox, false).is_err();
        let again = {
            let mut state = inbox.state.lock();
            // While closing a file that cannot be written is left to the journal.
            state.queued = state.needs_work() && !(closing && failed);
            state.queued
        };
        if again {
            let pause = if failed { RETRY_AFTER } else { Duration::ZERO };
            self.mark_dirty(Instant::now() + pause, &mut vec![inbox]);
        }
    }
}
