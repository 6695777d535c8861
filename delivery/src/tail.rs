//! What is sent and delivered on this node right now, for admins who watch (`GET /admin/tail`): which message, of
//! which type and sender, for how many, and how long it took; never what it says, nor for whom.
//!
//! While nobody watches it costs a look at a counter. While somebody does, what happens goes into one ring for all
//! watchers; who is too slow for it misses the oldest and is told how many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Recorder};
use protocol::{Body, MessageId, TenantId};
use tokio::sync::broadcast;

use crate::{
    metrics::Metric,
    send::Prepared,
    store::{Audience, Change, Stored},
};

/// What the ring keeps for the slowest watcher, in events: a quarter of a second, which is how often watchers are
/// served, at 16,000 deliveries a second. 32 bytes each.
pub const TAIL_EVENTS_MAX: usize = 4_096;

/// Most watchers on a node. Each is served four times a second.
pub const TAIL_WATCHERS_MAX: usize = 16;

const WATCHERS: Metric = Metric::gauge(
    "pushhub_tail_watchers",
    "",
    "Admins who watch what this node sends and delivers.",
);
const MISSED: Metric = Metric::counter(
    "pushhub_tail_missed_total",
    "",
    "Events that watchers of the tail missed because more happened than it keeps.",
);

/// The metrics of this area.
pub const METRICS: &[Metric] = &[WATCHERS, MISSED];

/// Something that happened.
#[derive(Clone, Debug)]
pub struct TailEvent {
    /// The wall.
    pub tenant: TenantId,
    /// The message, for its id, type and sender.
    pub body: Arc<Body>,
    /// What.
    pub what: Happened,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It is durable. For so many users that were named; none where groups or everyone receive it.
    Accepted {
        /// How many.
        recipients: Option<u64>,
        /// Whether it waits for its time.
        scheduled: bool,
    },
    /// It was given to the connections of one user.
    Delivered {
        /// Whose sockets took it at once.
        written: u32,
        /// Who reads too slowly, or is still catching up.
        waiting: u32,
        /// From the store being asked to its being written; none where that is not known.
        took: Option<Duration>,
    },
}

impl TailEvent {
    /// The id of the message.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        self.body.id()
    }
}

/// The ring of a node.
pub struct Tail {
    events: broadcast::Sender<Arc<TailEvent>>,
    watching: AtomicUsize,
    watchers: Gauge,
    missed: Counter,
}

impl Tail {
    /// Nobody watches yet.
    #[must_use]
    pub fn new(recorder: &dyn Recorder) -> Arc<Self> {
        for metric in METRICS {
            metric.describe(recorder);
        }
        let (watchers, missed) =
            (WATCHERS.to_gauge(recorder, &[]), MISSED.to_counter(recorder, &[]));
        watchers.set(0.0);
        missed.increment(0);
        let (events, _) = broadcast::channel(TAIL_EVENTS_MAX);
        Arc::new(Self { events, watching: AtomicUsize::new(0), watchers, missed })
    }

    fn is_watched(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    fn tell(&self, event: TailEvent) {
        // Nobody may watch any more.
        let _ = self.events.send(Arc::new(event));
    }

    /// What will be said of messages once they are stored.
    #[must_use]
    pub fn note<T>(&self, prepared: &Prepared<T>) -> Vec<TailEvent> {
        if !self.is_watched() {
            return Vec::new();
        }
        let event = |outgoing: &crate::store::Outgoing| TailEvent {
            tenant: outgoing.tenant.clone(),
            body: Arc::clone(&outgoing.body),
            what: Happened::Accepted {
                recipients: match &outgoing.audience {
                    Audience::Some { users, groups } if groups.is_empty() => {
                        Some(users.len() as u64)
                    }
                    Audience::Some { .. } | Audience::Everyone => None,
                },
                scheduled: outgoing.scheduled_at.is_some(),
            },
        };
        prepared.outgoing().iter().map(event).collect()
    }

    /// They are stored.
    pub fn accepted(&self, noted: Vec<TailEvent>) {
        noted.into_iter().for_each(|event| self.tell(event));
    }

    /// Changes of one inbox were given to its connections on this node: to so many at once, while so many wait.
    pub fn delivered(&self, changes: &[Stored], written: u32, waiting: u32) {
        if !self.is_watched() {
            return;
        }
        for stored in changes {
            let Change::Message { body, .. } = &stored.change else { continue };
            let took =
                stored.accepted.as_ref().filter(|_| written > 0).map(|asked| asked.at.elapsed());
            self.tell(TailEvent {
                tenant: stored.inbox.tenant.clone(),
                body: Arc::clone(body),
                what: Happened::Delivered { written, waiting, took },
            });
        }
    }

    /// Begins to watch; none where as many do as may.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> Option<Watcher> {
        let one_more = |now| (now < TAIL_WATCHERS_MAX).then_some(now + 1);
        self.watching.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.watchers.increment(1.0);
        Some(Watcher { tail: Arc::clone(self), events: self.events.subscribe() })
    }
}

/// Somebody who watches. Stops when dropped.
pub struct Watcher {
    tail: Arc<Tail>,
    events: broadcast::Receiver<Arc<TailEvent>>,
}

/// What has happened since a watcher looked last.
#[derive(Debug, Default)]
pub struct Seen {
    /// In order.
    pub events: Vec<Arc<TailEvent>>,
    /// How many more there were, before these.
    pub missed: u64,
}

impl Watcher {
    /// What has happened since. Does not wait.
    pub fn look(&mut self) -> Seen {
        let mut seen = Seen::default();
        // What comes while this is looked at is for the next look.
        for _ in 0..TAIL_EVENTS_MAX {
            match self.events.try_recv() {
                Ok(event) => seen.events.push(event),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    seen.missed += missed;
                    self.tail.missed.increment(missed);
                }
                Err(_) => break,
            }
        }
        seen
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tail.watching.fetch_sub(1, Ordering::Relaxed);
        self.tail.watchers.decrement(1.0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::InboxKey;

    /// What `m-1` says.
    pub(crate) fn body() -> Arc<Body> {
        let fields = serde_json::json!({
            "id": "m-1", "channel_id": null, "title": "", "content": "", "message_type": "text",
            "priority": 5, "sender": "shop", "created_at": "2025-01-15T10:30:00Z",
            "expire_at": null, "metadata": {}, "attachments": [], "actions": [],
        });
        let fields: protocol::MessageFields = serde_json::from_value(fields).unwrap();
        Arc::new(Body::new(&fields))
    }

    fn stored(tail: &Tail, times: usize) {
        let body = body();
        for _ in 0..times {
            tail.delivered(
                &[Stored {
                    inbox: InboxKey::new(TenantId::default(), "ann".parse().unwrap()),
                    seq: protocol::Seq(1),
                    change: Change::Message {
                        state: protocol::MessageState::default(),
                        body: Arc::clone(&body),
                    },
                    accepted: None,
                }],
                1,
                0,
            );
        }
    }

    #[test]
    fn who_is_too_slow_misses_the_oldest_and_is_told_how_many() {
        let tail = Tail::new(&metrics::NoopRecorder);
        stored(&tail, 3);
        let mut watcher = tail.watch().unwrap();
        assert_eq!(watcher.look().events.len(), 0);
        stored(&tail, TAIL_EVENTS_MAX + 10);
        let seen = watcher.look();
        assert!(seen.missed >= 10 && seen.events.len() <= TAIL_EVENTS_MAX, "{}", seen.missed);
        assert_eq!(
            seen.missed + seen.events.len() as u64 + watcher.look().events.len() as u64,
            TAIL_EVENTS_MAX as u64 + 10
        );
    }

    #[test]
    fn watchers_are_counted_and_bounded() {
        let tail = Tail::new(&metrics::NoopRecorder);
        let all: Vec<_> = (0..TAIL_WATCHERS_MAX).map(|_| tail.watch().unwrap()).collect();
        assert!(tail.watch().is_none());
        drop(all);
        assert!(tail.watch().is_some() && !tail.is_watched());
    }
}
