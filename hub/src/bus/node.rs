//! What all parts of the bus of this node share.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{InboxKey, clock::WallClock, spans::Spans};
use parking_lot::{Mutex, RwLock};
use protocol::{
    ChannelId, NodeId, TenantId,
    envelope::{Envelope, Event, Inquiry, NodeFacts},
};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Doubt, Inbound, State,
    config::Marks,
    connect::Connector,
    devices::Devices,
    interest::{Interests, Wish},
    link::Link,
    metrics::{BusMetrics, Conflict, Drop as Dropped, Strange},
    outgoing::{Class, Message},
    peers::{Counts, Peers},
    questions::Questions,
    topic::{PARTITIONS, Topic, Topics},
};

/// Most questions of others that are answered at a time; each may look at all connections. Who is not
/// answered names this node as missing.
const ANSWERS_MAX: usize = 8;

/// Which link serves which partition.
pub(super) struct Owners {
    pub(super) links: Vec<Arc<Link>>,
    /// The id of a link, by partition.
    pub(super) of: Vec<Option<u32>>,
}

impl Owners {
    pub(super) fn link(&self, partition: u16) -> Option<&Arc<Link>> {
        let id = self.of[usize::from(partition)]?;
        self.links.iter().find(|link| link.id() == id)
    }
}

/// What a node brings along.
pub(super) struct Itself {
    pub(super) name: NodeId,
    /// Of the secrets it works with.
    pub(super) secrets: Option<Marks>,
    /// Its clock, which is the cluster's.
    pub(super) wall: WallClock,
    /// What is recorded of changes that come from others.
    pub(super) spans: Spans,
}

/// The bus of this node.
pub(super) struct Node {
    /// This start of this node.
    pub(super) epoch: u64,
    pub(super) itself: Itself,
    pub(super) topics: Topics,
    pub(super) interests: Interests,
    pub(super) devices: Devices,
    pub(super) peers: Peers,
    pub(super) questions: Arc<Questions>,
    /// A place for each question of others that is being answered.
    pub(super) answering: Arc<Semaphore>,
    pub(super) metrics: BusMetrics,
    pub(super) connector: Connector,
    pub(super) owners: RwLock<Owners>,
    /// Somebody found that the owners may have changed.
    pub(super) look_again: Notify,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
    inbound: RwLock<Option<Arc<dyn Inbound>>>,
    state: watch::Sender<State>,
    why: Mutex<Option<String>>,
    /// How many envelopes each sender has published on each topic: ours and the others'. The lock is held
    /// while an envelope is queued, so that numbers are in the order of the queue.
    sent: Mutex<Counts>,
    heard: Mutex<Counts>,
    lost: AtomicU64,
    clock: AtomicU64,
    connections: AtomicU64,
    /// Nodes that use this one's database and are not heard.
    unheard: AtomicUsize,
    /// Something of a newer version was heard since the last doubt about that.
    pub(super) newer: AtomicBool,
    /// Since when its state is what it is.
    since: Mutex<Instant>,
    /// Channels in view, see [`super::channels`].
    pub(super) channels: Mutex<FxHashMap<(TenantId, ChannelId), Listening>>,
}

impl Node {
    pub(super) fn new(
        itself: Itself,
        prefix: &str,
        connector: Connector,
        metrics: BusMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            epoch: rand::random(),
            itself,
            topics: Topics::new(prefix),
            interests: Interests::default(),
            devices: Devices::default(),
            peers: Peers::default(),
            questions: Arc::default(),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            metrics,
            connector,
            owners: RwLock::new(Owners { links: Vec::new(), of: vec![None; PARTITIONS.into()] }),
            look_again: Notify::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            inbound: RwLock::new(None),
            state: watch::Sender::new(State::Connecting),
            why: Mutex::new(None),
            sent: Mutex::default(),
            heard: Mutex::default(),
            lost: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            unheard: AtomicUsize::new(0),
            newer: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
            channels: Mutex::default(),
        })
    }

    /// Says something to other nodes. Never waits.
    pub(super) fn say(&self, topic: &Topic, event: Event, class: Class) {
        self.metrics.published(event.label()).increment(1);
        // Changes have seqs of their own; see `Counts`.
        let counted = matches!(class, Class::Word);
        let mut sent = counted.then(|| self.sent.lock());
        let number = sent.as_mut().map_or(0, |sent| sent.next(self.epoch, &topic.name));
        let payload = Envelope { sender: self.epoch, number, event }.encode();
        self.pass_on(Message { topic: topic.clone(), payload, class, tries: 0 });
    }

    /// Hands a message to the link of its partition.
    pub(super) fn pass_on(&self, message: Message) {
        let result = match self.owners.read().link(message.topic.partition) {
            Some(link) => link.outgoing.push(message).map_err(|_| Dropped::QueueFull),
            None => Err(Dropped::NoServer),
        };
        if let Err(reason) = result {
            self.count_lost(reason);
        }
    }

    /// A message for others is lost; the next heartbeat says so.
    pub(super) fn count_lost(&self, reason: Dropped) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.metrics.dropped(reason).increment(1);
    }

    /// To whoever acts upon what others say.
    pub(super) fn inbound(&self, act: impl FnOnce(&dyn Inbound)) {
        let inbound = self.inbound.read().clone();
        if let Some(inbound) = inbound {
            act(&*inbound);
        }
    }

    pub(super) fn set_inbound(&self, inbound: Option<Arc<dyn Inbound>>) {
        *self.inbound.write() = inbound;
    }

    pub(super) fn doubt(&self, why: Doubt) {
        self.metrics.doubts(why).increment(1);
        self.inbound(|inbound| inbound.doubt(why));
    }

    /// Milliseconds, never less than before or than heard from others.
    pub(super) fn tick(&self) -> u64 {
        let wall = u64::try_from(self.itself.wall.now().millis()).unwrap_or(0);
        let next = |clock: u64| Some(wall.max(clock + 1));
        let before = self.clock.try_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.map_or(wall, |before| wall.max(before + 1))
    }

    /// Another node's reading. One that is absurd would make all clocks stand there: half of the range is
    /// a year that nobody sees.
    pub(super) fn observe(&self, clock: u64) {
        if clock < u64::MAX / 2 {
            self.clock.fetch_max(clock, Ordering::Relaxed);
        }
    }

    pub(super) fn facts(&self) -> NodeFacts {
        let inbound = self.inbound.read().clone();
        let about = inbound.as_ref().and_then(|inbound| inbound.about());
        NodeFacts {
            node: self.itself.name.clone(),
            clock: self.tick(),
            lost: self.lost.load(Ordering::Relaxed),
            connections: inbound.and_then(|inbound| inbound.connections()),
            secrets: self.itself.secrets.map(|marks| marks.tokens),
            about,
            admin: self.itself.secrets.map(|marks| marks.admin),
        }
    }

    /// Answers another node's question, on a task of its own: it may take a look at each connection.
    pub(super) fn answer(self: &Arc<Self>, asker: u64, inquiry: Inquiry) {
        let Some(inbound) = self.inbound.read().clone() else { return };
        let Ok(place) = Arc::clone(&self.answering).try_acquire_owned() else {
            self.metrics.passed_over(Strange::Busy).increment(1);
            return;
        };
        let node = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(found) = inbound.inquire(&inquiry) {
                node.say(&node.topics.node(asker), Event::Findings(found), Class::Once);
            }
            drop(place);
        });
    }

    /// How many nodes are not heard though they are there.
    pub(super) fn unheard(&self) -> usize {
        self.unheard.load(Ordering::Relaxed)
    }

    /// So many nodes use this one's database, and so many of them are not heard.
    pub(super) fn set_unheard(&self, there: usize, unheard: usize) {
        let before = self.unheard.swap(unheard, Ordering::Relaxed);
        if before == 0 && unheard > 0 {
            tracing::error!(
                target: "error",
                "{there} nodes use this database and {unheard} of them cannot be heard: each has another REDIS_URL or REDIS_PREFIX, or does not reach Redis, or stands still"
            );
            self.metrics.conflicts(Conflict::Unheard).increment(1);
        } else if before > 0 && unheard == 0 {
            tracing::info!("every node of this database is heard again, or the bus is away");
        }
    }

    /// For how long everything has been heard; none while it is not.
    pub(super) fn heard_for(&self, now: Instant) -> Option<Duration> {
        let well = self.state() == State::Up;
        well.then(|| now.saturating_duration_since(*self.since.lock()))
    }

    /// A number for a new connection.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many of another node's envelopes are missing before this one.
    pub(super) fn missing(&self, sender: u64, topic: &str, number: u64) -> u64 {
        self.heard.lock().missing(sender, topic, number)
    }

    /// This node could not hear, or not on one link; `control` whether it was that of all nodes.
    pub(super) fn was_deaf(&self, control: bool) {
        self.heard.lock().clear();
        if control {
            self.peers.excuse(Instant::now());
        }
    }

    /// Whether the link of a topic is up.
    pub(super) fn is_up(&self, topic: &Topic) -> bool {
        self.owners.read().link(topic.partition).is_some_and(|link| link.state().0 == State::Up)
    }

    /// A node is gone.
    pub(super) fn node_gone(&self, sender: u64) {
        self.heard.lock().forget(sender);
        self.inbound(|inbound| inbound.node_gone(sender));
    }

    /// How the links are, as one word: the worst of them.
    pub(super) fn judge(&self) {
        let (state, why) = {
            let owners = self.owners.read();
            let states = owners.links.iter().map(|link| link.state());
            states.max_by_key(|(state, _)| *state).unwrap_or((State::Connecting, None))
        };
        *self.why.lock() = why.clone();
        let before = self.state.send_replace(state);
        if before != state {
            *self.since.lock() = Instant::now();
            self.metrics.state(state);
            let why = why.unwrap_or_default();
            match state {
                State::Down => tracing::warn!(why, "bus down: other nodes are not heard"),
                State::Up => tracing::info!("bus up"),
                State::Doubtful | State::Connecting | State::Alone => {
                    tracing::info!(state = state.label(), why, "bus");
                }
            }
        }
    }

    /// The servers could not be found out.
    pub(super) fn no_servers(&self, why: String) {
        if self.owners.read().links.is_empty() && self.why.lock().replace(why.clone()).is_none() {
            tracing::warn!(why, "bus: its servers are not known");
        }
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn why(&self) -> Option<String> {
        if self.state().is_well() { None } else { self.why.lock().clone() }
    }

    /// Listens to a topic; the receiver is ready when that is confirmed.
    pub(super) fn listen(
        self: &Arc<Self>,
        topics: &[Topic],
    ) -> (Listening, Vec<tokio::sync::oneshot::Receiver<()>>) {
        let mut waits = Vec::new();
        for topic in topics {
            match self.interests.need(topic) {
                Wish::Confirmed => {}
                Wish::Asked(wait) => waits.push(wait),
                Wish::New(wait) => {
                    waits.push(wait);
                    if let Some(link) = self.owners.read().link(topic.partition) {
                        link.subscribe_soon(topic.clone());
                    }
                }
            }
        }
        (Listening { node: Arc::downgrade(self), topics: topics.to_vec() }, waits)
    }

    /// The topics of an inbox: its own and its tenant's.
    pub(super) fn topics_of(&self, inbox: &InboxKey) -> [Topic; 2] {
        [self.topics.inbox(inbox), self.topics.tenant(&inbox.tenant)]
    }
}

/// Topics that are listened to while this lives, and a while longer.
pub(super) struct Listening {
    node: Weak<Node>,
    pub(super) topics: Vec<Topic>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            self.topics.iter().for_each(|topic| node.interests.release(topic));
        }
    }
}
