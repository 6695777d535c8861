//! Sends messages when their time has come.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use protocol::Time;

use super::{
    Ledger, QUEUE_BYTES_MAX,
    read::{self, Due, DuePage},
};
use crate::store::{
    StoreError,
    single::{
        LAG_BYTES_MAX,
        committer::Committer,
        forget::Forgets,
        lag::Lag,
        record::{MessageRecord, Record},
    },
};

/// How often the wall clock is looked at while a message waits: a clock that is set forward sends
/// what is due by then within this and the commit.
const TICK: Duration = Duration::from_millis(250);

/// Messages that are sent in one append. With [`PAGE_BYTES_MAX`], all the memory that a million due
/// at once take; a cancellation waits behind one page.
const PAGE_MAX: usize = 1_000;

/// Encoded records in one append, about, in bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// How long to wait when what waits for files is half of what may wait: the other half is for sends
/// that somebody waits for.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait after a page that could not be sent.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// When to look for messages that are due.
pub(super) struct Alarm {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    /// Nothing is due before this; none if nothing waits.
    next: Option<Time>,
    closing: bool,
}

impl Default for Alarm {
    /// Rings at once: what the file has is not known yet.
    fn default() -> Self {
        let next = Some(Time::from_millis(i64::MIN));
        Self { state: Mutex::new(State { next, closing: false }), wake: Condvar::new() }
    }
}

impl Alarm {
    /// Something is due at this moment.
    pub(super) fn ring_at(&self, at: Time) {
        let mut state = self.state.lock();
        if state.next.is_none_or(|next| at < next) {
            state.next = Some(at);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits until something may be due; false when closed.
    fn wait(&self, now: impl Fn() -> Time) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                return false;
            }
            match state.next {
                None => self.wake.wait(&mut state),
                Some(next) => {
                    let left = next.millis().saturating_sub(now().millis());
                    let Ok(left @ 1..) = u64::try_from(left) else {
                        // Whoever is scheduled from now on rings again.
                        state.next = None;
                        return true;
                    };
                    self.wake.wait_for(&mut state, TICK.min(Duration::from_millis(left)));
                }
            }
        }
    }

    /// Waits a while; false when closed.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let until = std::time::Instant::now() + pause;
        while !state.closing && !self.wake.wait_until(&mut state, until).timed_out() {}
        !state.closing
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }
}

/// The thread that sends what is due.
pub(in super::super) struct Scheduler {
    pub(in super::super) ledger: Arc<Ledger>,
    pub(in super::super) committer: Arc<Committer>,
    pub(in super::super) lag: Arc<Lag>,
    pub(in super::super) forgets: Arc<Forgets>,
}

impl Scheduler {
    /// Sends until closed.
    pub(in super::super) fn run(&self) {
        let alarm = &self.ledger.alarm;
        while alarm.wait(|| self.ledger.clock.now()) {
            let pause = if !self.has_room() {
                ROOM_PAUSE
            } else {
                match self.send_page() {
                    Ok(Some(next)) => {
                        alarm.ring_at(next);
                        continue;
                    }
                    Ok(None) => continue,
                    Err(StoreError::Closing) => return,
                    Err(error) => {
                        self.ledger.metrics.fire_retries.increment(1);
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "scheduled messages cannot be sent now"
                        );
                        RETRY_AFTER
                    }
                }
            };
            alarm.ring_at(Time::from_millis(i64::MIN));
            if !alarm.pause(pause) {
                return;
            }
        }
    }

    fn has_room(&self) -> bool {
        let waiting = self.ledger.bytes.load(std::sync::atomic::Ordering::Relaxed);
        self.lag.bytes() <= LAG_BYTES_MAX / 2 && waiting <= QUEUE_BYTES_MAX / 2
    }

    /// Sends the first of those that are due. Answers when the next one is.
    fn send_page(&self) -> Result<Option<Time>, StoreError> {
        // Until the page is visible nobody cancels or edits what is on it; and the next page is only
        // read when `ledger.db` has this one.
        let deciding = Arc::clone(&self.ledger.schedule).blocking_lock_owned();
        let now = self.ledger.clock.now();
        let page =
            self.ledger.query_blocking(move |db| read::due(db, now, PAGE_MAX, PAGE_BYTES_MAX))?;
        let DuePage { due, next } = page;
        if due.is_empty() {
            return Ok(next);
        }
        let metrics = &self.ledger.metrics;
        let (mut sent, mut expired, mut damaged) = (Vec::with_capacity(due.len()), 0, 0);
        let records = due
            .into_iter()
            .map(|due| match due {
                Due::Message(_, record) if record.body.expired(now) => {
                    expired += 1;
                    let (tenant, id) = (record.tenant.clone(), record.body.id().clone());
                    Record::Cancelled { tenant, id }
                }
                Due::Message(lsn, record) => match self.forgets.strip(lsn, &record) {
                    Some(record) => {
                        sent.push(record.scheduled_at.unwrap_or(now));
                        Record::Message(Arc::new(as_of(&record, now)))
                    }
                    // Of, or to, somebody who is being forgotten, and to nobody else.
                    None => {
                        let (tenant, id) = (record.tenant.clone(), record.body.id().clone());
                        Record::Cancelled { tenant, id }
                    }
                },
                Due::Damaged { tenant, id, error } => {
                    damaged += 1;
                    tracing::error!(%error, "a scheduled message is damaged; it is cancelled");
                    Record::Cancelled { tenant, id }
                }
            })
            .collect();
        let reply = self.committer.enqueue(records, Some(deciding))?;
        reply.blocking_recv().unwrap_or(Err(StoreError::Closing))?;
        metrics.fired_sent.increment(sent.len() as u64);
        metrics.fired_expired.increment(expired);
        metrics.fired_damaged.increment(damaged);
        let now = self.ledger.clock.now();
        for due_at in sent {
            let delay = now.millis().saturating_sub(due_at.millis());
            metrics.fire_delay.record(Duration::from_millis(u64::try_from(delay).unwrap_or(0)));
        }
        Ok(next)
    }
}

/// A message that is sent now.
fn as_of(record: &MessageRecord, now: Time) -> MessageRecord {
    let body = match record.body.sent_at(now) {
        Ok(body) => Arc::new(body),
        // Not what we wrote: it is shown as it was stored, like any other such body.
        Err(_) => Arc::clone(&record.body),
    };
    MessageRecord { body, at: now, ..record.clone() }
}
