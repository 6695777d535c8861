//! Sends what waits.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::Time;
use rand::RngExt;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Attempt, DisabledBy, Inner, WebhookError, Webhooks,
    client::{Connection, Outcome, Post},
    cluster::{
        Told,
        shares::{self, ShareSet},
        tenure::Term,
    },
    deliveries::{self, Due, Settled, Tried},
    endpoint::Endpoint,
    schedule::{Lesson, Next, SLOW, Turn},
    secret::signatures,
};
use crate::{clock::after, control::ServiceStatus, outbound::Hold};

/// Most events of a page, and with [`PAGE_BYTES_MAX`] all that an endpoint has in memory, however
/// many wait.
const PAGE_MAX: usize = 64;

/// Where a page ends, in bytes of bodies: 64 MiB for all slots.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// How long an endpoint keeps a slot while there is more for it; then it stands in line again.
const TURN_MAX: Duration = Duration::from_secs(10);

/// Longest sleep: a clock that was set forward is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// When a service that may not be heard now is looked at again, and a file that cannot be read.
const HOLD: Duration = Duration::from_secs(30);

/// Pause before what an attempt came to is written down again after that failed. Meanwhile the slot
/// is held: what cannot be written down is not sent, or it would be sent again and again.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// A slot in use. Given back when everything that holds it has ended.
struct Slot {
    inner: Arc<Inner>,
    turn: Mutex<Turn>,
}

impl Slot {
    fn turn(&self) -> Turn {
        *self.turn.lock()
    }

    /// An attempt goes on for long.
    fn slow_down(&self) {
        let mut schedule = self.inner.schedule.lock();
        schedule.slow_down(&mut self.turn.lock());
        drop(schedule);
        // A slot of the quick lane may be free.
        self.inner.changed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = self.inner.now();
        let mut schedule = self.inner.schedule.lock();
        schedule.give_back(*self.turn.get_mut(), now);
        self.inner.count_slots(schedule.taken());
        drop(schedule);
        self.inner.changed.notify_one();
    }
}

impl Webhooks {
    /// Sends what waits and what comes, until [`Webhooks::stop`]; then the attempts that are under
    /// way end. What is broken off is sent again after the next start. Run it once, and of a file only
    /// by the one process that has the storage folder.
    pub async fn run(self) {
        let mut stopping = self.0.stopping.subscribe();
        match &self.0.keeper {
            // What waits is looked for when a share is taken.
            Some(keeper) => {
                self.0.sending.store(true, Ordering::Relaxed);
                keeper.tell(Told::Look);
            }
            None => tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = self.0.load_waiting() => {}
            },
        }
        tokio::join!(self.0.dispatch(), async {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = self.0.upkeep() => {}
            }
        });
    }

    /// Begins no attempt any more.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
        self.0.changed.notify_one();
        if let Some(keeper) = &self.0.keeper {
            keeper.tell(Told::Look);
        }
    }
}

impl Inner {
    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn count_slots(&self, [quick, slow]: [usize; 2]) {
        self.metrics.quick.set(quick as f64);
        self.metrics.slow.set(slow as f64);
    }

    /// What waits since before the start.
    async fn load_waiting(self: &Arc<Self>) {
        loop {
            match self.reading(|inner| Ok(inner.pages.lock().look(deliveries::waiting)?)).await {
                Ok(waiting) => return self.expect_waiting(waiting),
                Err(_) => tokio::time::sleep(HOLD).await,
            }
        }
    }

    /// What waits since before this node sent for it.
    pub(super) fn expect_waiting(&self, waiting: Vec<(i64, Time)>) {
        let known = self.known.load();
        let mut schedule = self.schedule.lock();
        for (key, due) in waiting {
            if let Some(endpoint) = known.by_key.get(&key)
                && self.tenure.term(endpoint.share).is_some()
            {
                schedule.expect(key, &endpoint.service, due);
            }
        }
        drop(schedule);
        self.changed.notify_one();
    }

    /// Whether this node sends, or is to.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed) && !self.is_stopping()
    }

    /// The shares of which something is under way.
    pub(super) fn busy_shares(&self) -> ShareSet {
        self.schedule.lock().busy().map(shares::of_service).collect()
    }

    /// Reads on a thread that may wait for the disk.
    pub(super) async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || read(&inner)).await;
        let done = done.unwrap_or(Err(WebhookError::Closed));
        if let Err(error) = &done {
            self.metrics.read_errors.increment(1);
            tracing::warn!(error = error as &dyn std::error::Error, "webhooks cannot be read");
        }
        done
    }

    async fn dispatch(self: &Arc<Self>) {
        let mut slots = JoinSet::new();
        while !self.is_stopping() {
            let now = self.now();
            let (turns, next) = {
                let mut schedule = self.schedule.lock();
                let turns = schedule.turns(now);
                self.count_slots(schedule.taken());
                turns
            };
            for turn in turns {
                let turn = Mutex::new(turn);
                let slot = Arc::new(Slot { inner: Arc::clone(self), turn });
                slots.spawn(Arc::clone(self).serve(slot));
            }
            while let Some(ended) = slots.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a webhook's slot ended in a panic");
                }
            }
            let sleep = next.map_or(SLEEP_MAX, |at| super::retry::between(now, at).min(SLEEP_MAX));
            let _ = timeout(sleep, self.changed.notified()).await;
        }
        while slots.join_next().await.is_some() {}
    }

    /// Sends one event after the other over one connection.
    async fn serve(self: Arc<Self>, slot: Arc<Slot>) {
        let (began, key) = (Instant::now(), slot.turn().key);
        let hold: Hold = slot.clone();
        let mut connection = None;
        while began.elapsed() < TURN_MAX && !self.is_stopping() {
            // The slot was taken before: whoever gives a share away waits for it.
            let Some(term) = self.term(key) else { return self.schedule.lock().forget(key) };
            let Some(due) = self.next_event(slot.turn()).await else { return };
            let endpoint = self.known.load().by_key.get(&key).cloned();
            let Some(endpoint) = endpoint.filter(|endpoint| endpoint.active) else {
                return self.schedule.lock().forget(key);
            };
            let Due { id, event, body } = due;
            let mut attempt = pin!(async {
                let mut attempt =
                    pin!(self.attempt(&mut connection, &endpoint, &event, body, &hold));
                match timeout(SLOW, &mut attempt).await {
                    Ok(attempt) => attempt,
                    Err(_) => {
                        slot.slow_down();
                        attempt.await
                    }
                }
            });
            let attempt = tokio::select! {
                biased;
                // Another node may begin to send: it must not meet this one. The event is its.
                () = self.tenure.ended(term) => return,
                attempt = &mut attempt => attempt,
            };
            let Ok(settled) = self.settle(key, id, &attempt).await else { return };
            self.learn(&endpoint, id, &attempt, settled).await;
        }
    }

    /// In which an endpoint may be sent to; none for another node's.
    fn term(&self, key: i64) -> Option<Term> {
        let known = self.known.load();
        self.tenure.term(known.by_key.get(&key)?.share)
    }

    async fn next_event(self: &Arc<Self>, turn: Turn) -> Option<Due> {
        let (key, now) = (turn.key, self.now());
        let next = self.schedule.lock().next(turn, now);
        let claimed = match next {
            Next::Event(due) => return Some(due),
            Next::Nothing => return None,
            Next::Read(claimed) => claimed,
        };
        let read = self.reading(move |inner| {
            if !inner.is_heard(key) {
                return Ok(None);
            }
            let limits = (PAGE_MAX, PAGE_BYTES_MAX);
            let mut pages = inner.pages.lock();
            Ok(Some(pages.look(|database| deliveries::due(database, key, now, &claimed, limits))?))
        });
        match read.await {
            Ok(Some((page, next))) => self.schedule.lock().read(key, page, next, now),
            Ok(None) | Err(_) => {
                self.schedule.lock().hold(key, after(now, HOLD));
                None
            }
        }
    }

    /// Whether the endpoint's service may be told anything: not one that was stopped.
    fn is_heard(&self, key: i64) -> bool {
        let known = self.known.load();
        let Some(endpoint) = known.by_key.get(&key) else { return true };
        let service = self.control.known(&endpoint.service);
        service.is_some_and(|service| service.status == ServiceStatus::Active)
    }

    /// One attempt, counted.
    pub(super) async fn attempt(
        &self,
        connection: &mut Option<Connection>,
        endpoint: &Endpoint,
        event: &str,
        body: String,
        hold: &Hold,
    ) -> Attempt {
        let at = self.now();
        let attempt = match &endpoint.target {
            None => Attempt::without_target(at),
            Some(target) => {
                let signatures = signatures(&endpoint.secrets, at, event, &body);
                let post = Post { target, id: event, at, signatures, body };
                self.client.attempt(connection, post, hold).await
            }
        };
        self.metrics.attempted(attempt.outcome);
        self.metrics.attempt_seconds.record(Duration::from_millis(attempt.duration_ms));
        attempt
    }

    async fn settle(&self, key: i64, id: i64, attempt: &Attempt) -> Result<Settled, WebhookError> {
        let tried = Tried {
            key,
            id,
            attempt: attempt.clone(),
            jitter: rand::rng().random_range(-1.0..=1.0),
            now: self.now(),
        };
        loop {
            let settled = self.writer()?.settle(tried.clone()).await;
            match settled {
                Err(error) if self.is_stopping() => return Err(error),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an attempt could not be written down"
                    );
                    tokio::time::sleep(SETTLE_AGAIN).await;
                }
                Ok(settled) => return Ok(settled),
            }
        }
    }

    async fn learn(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        id: i64,
        attempt: &Attempt,
        settled: Settled,
    ) {
        let lesson = Lesson {
            success: attempt.outcome == Outcome::Delivered,
            took: Duration::from_millis(attempt.duration_ms),
            retry_after: attempt.retry_after,
            retry_at: settled.retry_at,
        };
        self.schedule.lock().settled(endpoint.key, id, lesson, settled.at);
        if settled.is_dead {
            self.metrics.dead_attempts.increment(1);
        }
        if let Some(by) = settled.disabled {
            match by {
                DisabledBy::Gone => self.metrics.disabled_gone.increment(1),
                DisabledBy::Failures => self.metrics.disabled_failures.increment(1),
                DisabledBy::Service | DisabledBy::Admin => {}
            }
            tracing::warn!(
                target: "business",
                event = "webhook_disabled",
                by = by.as_str(),
                webhook = endpoint.id,
                service = endpoint.service.as_str(),
            );
            let (inner, service) = (Arc::clone(self), endpoint.service.clone());
            // It ends in a panic or not at all; then the next change reads.
            let _ = tokio::task::spawn_blocking(move || inner.refresh_or_later(&service)).await;
        }
    }

    /// Something waits for these endpoints, of which another node may have to know.
    pub(super) fn expect(&self, keys: impl IntoIterator<Item = i64>, due: Time) {
        let known = self.known.load();
        let mut schedule = self.schedule.lock();
        for key in keys {
            if let Some(endpoint) = known.by_key.get(&key)
                && self.tenure.term(endpoint.share).is_some()
            {
                schedule.expect(key, &endpoint.service, due);
            }
        }
        drop(schedule);
        self.changed.notify_one();
    }
}
