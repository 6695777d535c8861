//! Who is connected to this node, by inbox.
//!
//! Removal compares connection ids: a device that reconnects must not be evicted by the end of the
//! connection it replaced. No guard of the map is held while a socket is written or awaited.

use std::{
    cell::OnceCell,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use dashmap::{DashMap, Entry};
use delivery::{
    Fanout, InboxKey, Store,
    clock::WallClock,
    preference::Silence,
    store::{Change, Stored},
    tail::Tail,
};
use metrics::Recorder;
use protocol::{CloseReason, DeviceId, Time};
use smallvec::{SmallVec, smallvec};

use super::{
    LiveConfig,
    connection::Connection,
    framing::Framing,
    metrics::LiveMetrics,
    queue::{Limits, Span},
    wire_frame::WireFrame,
};

type Connections = SmallVec<[Arc<Connection>; 1]>;

/// An inbox with a connection.
#[derive(Clone, Default)]
struct Online {
    connections: Connections,
    /// What the user does not want to hear; none for most, who pay a comparison for it.
    silence: Option<Arc<Silence>>,
}

/// The connections of this node, and the way changes reach them: the store's [`Fanout`].
pub struct Registry {
    inboxes: DashMap<InboxKey, Online>,
    limits: Limits,
    /// `WS_MAX_CONNECTIONS_PER_USER`, as it is now.
    per_user_max: AtomicUsize,
    clock: WallClock,
    metrics: Arc<LiveMetrics>,
    /// Told what went to which device. Not owned: the store owns this.
    store: OnceLock<Weak<dyn Store>>,
    /// Told what was delivered.
    tail: OnceLock<Arc<Tail>>,
}

/// The user has as many connections as one may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Registry {
    /// An empty registry. It exists before the store, which publishes to it.
    #[must_use]
    pub fn new(config: &LiveConfig, recorder: &dyn Recorder) -> Arc<Self> {
        Arc::new(Self {
            inboxes: DashMap::new(),
            limits: Limits {
                queue_bytes: config.outbox_limit,
                write_bytes: config.write_buffer_size,
            },
            per_user_max: AtomicUsize::new(config.max_connections_per_user),
            clock: config.clock.clone(),
            metrics: Arc::new(LiveMetrics::new(recorder)),
            store: OnceLock::new(),
            tail: OnceLock::new(),
        })
    }

    /// From now on the store is told what went out.
    pub(super) fn report_to(&self, store: &Arc<dyn Store>) {
        self.store.get_or_init(|| Arc::downgrade(store));
    }

    /// From now on who watches is told what is delivered.
    pub fn tell(&self, tail: &Arc<Tail>) {
        self.tail.get_or_init(|| Arc::clone(tail));
    }

    /// Changes went to a connection's device, if the token named one: a device that was made up does
    /// not come back, and nobody could tell its receipts from another's.
    pub(super) fn note_delivered(&self, connection: &Connection, span: Option<Span>) {
        if let (Some((from, to)), Some(device)) = (span, connection.known_device())
            && let Some(store) = self.store.get().and_then(Weak::upgrade)
        {
            store.delivered(connection.inbox(), device, from, to);
        }
    }

    pub(super) const fn metrics(&self) -> &Arc<LiveMetrics> {
        &self.metrics
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// How many connections one user may have now.
    pub(super) fn per_user_max(&self) -> usize {
        self.per_user_max.load(Ordering::Relaxed)
    }

    /// One user may have so many from here on.
    pub(super) fn set_per_user_max(&self, most: usize) {
        self.per_user_max.store(most, Ordering::Relaxed);
    }

    /// Adds a connection. An older one of the same device is taken out and asked to close.
    pub(super) fn insert(&self, connection: &Arc<Connection>) -> Result<(), TooMany> {
        let mut replaced = None;
        match self.inboxes.entry(connection.inbox().clone()) {
            Entry::Vacant(entry) => {
                let connections = smallvec![connection.clone()];
                entry.insert(Online { connections, silence: None });
            }
            Entry::Occupied(mut entry) => {
                let list = &mut entry.get_mut().connections;
                if let Some(same) = list.iter_mut().find(|other| connection.replaces(other)) {
                    replaced = Some(std::mem::replace(same, connection.clone()));
                } else if list.len() >= self.per_user_max() {
                    return Err(TooMany);
                } else {
                    list.push(connection.clone());
                }
            }
        }
        if let Some(older) = replaced {
            older.close(CloseReason::Replaced);
        }
        self.metrics.users_online.set(self.inboxes.len() as f64);
        Ok(())
    }

    /// Takes this very connection out, if it is still there.
    pub(super) fn remove(&self, connection: &Connection) {
        self.inboxes.remove_if_mut(connection.inbox(), |_, online| {
            let list = &mut online.connections;
            list.retain(|other| other.id() != connection.id());
            list.shrink_to_fit();
            list.is_empty()
        });
        self.metrics.users_online.set(self.inboxes.len() as f64);
    }

    /// The connections of an inbox.
    pub(super) fn of(&self, inbox: &InboxKey) -> Connections {
        self.inboxes.get(inbox).map(|online| online.connections.clone()).unwrap_or_default()
    }

    /// What a user who is connected does not want to hear; none for one who hears everything, or who was
    /// not looked up yet.
    pub(super) fn silence_of(&self, inbox: &InboxKey) -> Option<Arc<Silence>> {
        self.inboxes.get(inbox)?.silence.clone()
    }

    /// A user does not want to hear this from now on. Passed over where the user is not connected, or
    /// has said something else since.
    pub fn respect(&self, inbox: &InboxKey, silence: &Arc<Silence>) {
        if let Some(mut online) = self.inboxes.get_mut(inbox)
            && online.silence.as_ref().is_none_or(|known| silence.is_newer_than(known))
        {
            online.silence = Some(Arc::clone(silence));
        }
    }

    /// Which of these changes the user does not want to hear now; none for none of them. Counted.
    pub(super) fn silenced(&self, silence: Option<&Silence>, changes: &[Stored]) -> Silenced {
        let silence = silence?;
        // All of them are as of one moment, which is only asked for where quiet hours are set.
        let now = OnceCell::new();
        let is_silent = |stored: &Stored| match &stored.change {
            Change::Message { body, .. } => {
                let reason = silence.of(body.facts(), || *now.get_or_init(|| self.clock.now()));
                if let Some(reason) = reason {
                    self.metrics.silenced(reason).increment(1);
                }
                reason.is_some()
            }
            Change::Status(_) => false,
        };
        Some(changes.iter().map(is_silent).collect())
    }

    /// Whether one more connection would be taken, as of now: there is room, or it replaces one.
    pub(super) fn has_room(&self, inbox: &InboxKey, device: Option<&DeviceId>) -> bool {
        self.inboxes.get(inbox).is_none_or(|online| {
            let list = &online.connections;
            let replaces =
                |other: &Arc<Connection>| device.is_some() && other.known_device() == device;
            list.len() < self.per_user_max() || list.iter().any(replaces)
        })
    }

    /// Every connection, as of about now.
    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.inboxes.iter().flat_map(|entry| entry.connections.clone()).collect()
    }

    /// Every inbox with a connection, as of about now.
    pub(super) fn keys(&self) -> Vec<InboxKey> {
        self.inboxes.iter().map(|entry| entry.key().clone()).collect()
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Now; only looked up where a message can expire.
    fn now_for(&self, changes: &[Stored]) -> Time {
        let can_expire = |stored: &Stored| match &stored.change {
            Change::Message { body, .. } => body.expire_at().is_some(),
            Change::Status(_) => false,
        };
        if changes.iter().any(can_expire) { self.clock.now() } else { Time::default() }
    }

    /// How many inboxes have a connection.
    #[must_use]
    pub fn users_online(&self) -> usize {
        self.inboxes.len()
    }
}

/// Of changes, which are silent; none where all are heard.
pub(super) type Silenced = Option<SmallVec<[bool; 16]>>;

/// The frames of changes.
pub(super) fn frames<'a>(
    changes: &'a [Stored],
    silenced: Option<&'a SmallVec<[bool; 16]>>,
    framing: Framing,
    now: Time,
) -> impl Iterator<Item = WireFrame> + 'a {
    changes.iter().enumerate().map(move |(at, change)| {
        let silent = silenced.is_some_and(|silenced| silenced[at]);
        WireFrame::change(change, framing, now, silent)
    })
}

impl Fanout for Registry {
    fn publish(&self, changes: &[Stored]) {
        let Some(first) = changes.first() else { return };
        debug_assert!(changes.iter().all(|change| change.inbox == first.inbox));
        debug_assert!(changes.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq));
        let Some(online) = self.inboxes.get(&first.inbox).map(|online| online.clone()) else {
            return;
        };
        let silenced = self.silenced(online.silence.as_deref(), changes);
        // One encoding per framing, however many devices.
        let mut encoded: [Option<SmallVec<[WireFrame; 1]>>; Framing::ALL.len()] =
            [const { None }; Framing::ALL.len()];
        let now = self.now_for(changes);
        let newest = changes.last().map(|change| change.seq);
        let (mut written, mut waiting) = (0, 0);
        for connection in online.connections {
            let framing = connection.framing();
            let frames = encoded[framing.index()]
                .get_or_insert_with(|| frames(changes, silenced.as_ref(), framing, now).collect());
            let delivered =
                connection.offer(frames, self.limits, &self.metrics, Instant::now(), &self.clock);
            let whole = delivered.map(|(_, to)| to) == newest;
            if whole {
                written += 1
            } else {
                waiting += 1
            }
            self.note_delivered(&connection, delivered);
        }
        if let Some(tail) = self.tail.get() {
            tail.delivered(changes, written, waiting);
        }
    }
}
