//! The bus of a cluster, by Redis.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use delivery::{
    InboxKey,
    spans::{KeyValue, Span, SpanKind, TENANT},
    store::{BoxFuture, Change, Stored},
};
use metrics::Recorder;
use protocol::{
    ChannelId, ConnectionId, DeviceId, StatusUpdate, TenantId, UserId,
    envelope::{
        Changes, Connected, Event, InboxChange, Inquiry, Spent, Then, USERS_MAX, What, Which,
    },
};
use rand::RngExt;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::{
    ANSWERS_WITHIN, ATTEND_WITHIN, Asked, Attention, Bus, Doubt, Inbound, PeerInfo, State,
    TooManyQuestions,
    address::Shape,
    cluster,
    config::RedisConfig,
    connect::Connector,
    link::{Link, Place},
    metrics::BusMetrics,
    node::{Itself, Node},
    outgoing::Class,
    peers::{HEARTBEAT_EVERY, SILENT_AFTER},
    questions,
    topic::PARTITIONS,
};

/// While other nodes are not heard, how often connections are compared with the store: what they send
/// arrives late, not when the bus is back. With the second between two looks here, and the pause and the
/// second look of the comparison, that is eight seconds at most.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

/// After this long of hearing, every node that can be heard has been: each speaks once per heartbeat.
/// Before, answers of nodes that are not known yet are waited for as well.
const ALL_HEARD_AFTER: Duration = HEARTBEAT_EVERY.saturating_mul(3);

/// How often others are told who is in a channel here: what was lost of it is made good then.
const PRESENCE_EVERY: Duration = Duration::from_secs(15);

/// Longest wait for the last words of a node.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);

/// How often it is looked whether they are out.
const GOODBYE_TICK: Duration = Duration::from_millis(10);

/// The bus by Redis: one server, Sentinel, or Cluster with sharded channels.
pub struct RedisBus {
    node: Arc<Node>,
}

impl RedisBus {
    /// A bus that keeps what is to be published until [`RedisBus::start`].
    #[must_use]
    pub fn new(config: RedisConfig, recorder: &dyn Recorder) -> Arc<Self> {
        let single = !matches!(config.address.shape, Shape::Cluster(_));
        let connector = Connector::new(config.address, config.ca);
        let metrics = BusMetrics::new(recorder);
        let itself = Itself {
            name: config.node,
            secrets: config.secrets,
            wall: config.clock,
            spans: config.spans,
        };
        let node = Node::new(itself, &config.prefix, connector, metrics);
        if single {
            let link = Link::new(0, Place::Located);
            let mut owners = node.owners.write();
            owners.of = vec![Some(link.id()); PARTITIONS.into()];
            owners.links = vec![link];
        }
        Arc::new(Self { node })
    }

    /// Connects and keeps connected, on the current runtime. What arrives goes to `inbound`, until
    /// [`RedisBus::close`]. Call it once.
    pub fn start(&self, inbound: Arc<dyn Inbound>) {
        let node = &self.node;
        node.set_inbound(Some(inbound));
        let (heard, waits) = node.listen(&[node.topics.control(), node.topics.node(node.epoch)]);
        drop(waits);
        let address = node.connector.address();
        tracing::info!(redis = address.describe(), "bus by Redis");
        if let Shape::Cluster(seeds) = &address.shape {
            node.tasks.spawn(cluster::follow(Arc::clone(node), seeds.clone()));
        }
        for link in node.owners.read().links.clone() {
            node.tasks.spawn(link.run(Arc::clone(node)));
        }
        node.tasks.spawn(beat(Arc::clone(node), heard));
    }

    /// Says goodbye, so that nobody misses this node, and ends.
    pub async fn close(&self) {
        let node = &self.node;
        if node.state() == State::Up {
            let goodbye = Event::Goodbye { node: node.itself.name.clone() };
            node.say(&node.topics.control(), goodbye, Class::Word);
            let out = async {
                while node.owners.read().links.iter().any(|link| link.outgoing.size().0 > 0) {
                    tokio::time::sleep(GOODBYE_TICK).await;
                }
                // The last pipeline is on its way.
                tokio::time::sleep(GOODBYE_TICK).await;
            };
            tokio::time::timeout(GOODBYE_WITHIN, out).await.ok();
        }
        node.shutdown.cancel();
        node.tasks.close();
        node.tasks.wait().await;
        node.set_inbound(None);
        node.forget_channels();
    }

    /// The state as it changes.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.node.states()
    }

    /// Nodes that are heard, this one included; none while the bus is not up.
    #[must_use]
    pub fn heard(&self) -> Option<usize> {
        let node = &self.node;
        let others = || node.peers.list(Instant::now());
        let heard = || others().iter().filter(|peer| peer.silent_for < SILENT_AFTER).count() + 1;
        (node.state() == State::Up).then(heard)
    }

    /// Says how many nodes use this one's database, and how many of them are not heard. While there are any
    /// the bus is not well, and what they store is looked for in the store.
    pub fn set_unheard(&self, there: usize, unheard: usize) {
        self.node.set_unheard(there, unheard);
    }

    /// How many topics this node listens to or is about to give up.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.node.interests.len()
    }
}

/// Without a word: who wants others to know calls [`RedisBus::close`] before.
impl Drop for RedisBus {
    fn drop(&mut self) {
        self.node.shutdown.cancel();
    }
}

/// What is done every second.
async fn beat(node: Arc<Node>, _heard: super::node::Listening) {
    // Nodes that were started together must not all speak at once for ever.
    let drawn = HEARTBEAT_EVERY.mul_f64(rand::rng().random_range(0.0..1.0));
    tokio::time::sleep(drawn).await;
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut doubted, mut told) = (Instant::now(), Instant::now());
    let mut was_silent = false;
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Before this task adds to it: an idle queue is empty.
        measure(&node);
        let (now, state) = (Instant::now(), node.state());
        let control = node.topics.control();
        if node.is_up(&control) {
            node.say(&control, Event::Heartbeat(node.facts()), Class::Word);
            let look = node.peers.look(now);
            for gone in look.dead {
                tracing::info!("a node is silent for long and taken for gone");
                node.node_gone(gone);
            }
            node.metrics.nodes.set((look.present + 1) as f64);
            let silent = look.silent > 0 || node.unheard() > 0;
            if silent && (!was_silent || now - doubted >= DOUBT_EVERY) {
                doubted = now;
                node.doubt(Doubt::Silent);
            }
            was_silent = silent;
        }
        if now - doubted >= DOUBT_EVERY && node.newer.swap(false, Ordering::Relaxed) {
            doubted = now;
            node.doubt(Doubt::Newer);
        }
        if state >= State::Connecting && now - doubted >= DOUBT_EVERY {
            doubted = now;
            node.doubt(Doubt::Away);
            node.interests.forget_unconfirmed();
        }
        if now - told >= PRESENCE_EVERY && state == State::Up {
            told = now;
            for (tenant, channel) in node.channels_in_view(|_| true) {
                node.tell_presence(&tenant, &channel);
            }
        }
    }
}

fn measure(node: &Node) {
    let (messages, bytes) = node.owners.read().links.iter().fold((0, 0), |sum, link| {
        let (messages, bytes) = link.outgoing.size();
        (sum.0 + messages, sum.1 + bytes)
    });
    node.metrics.queue_messages.set(messages as f64);
    node.metrics.queue_bytes.set(bytes as f64);
    node.metrics.topics.set(node.interests.len() as f64);
}

/// The span of a change that goes to other nodes, where its trace is recorded.
fn publish_span(stored: &Stored) -> Option<Span> {
    let traced = stored.accepted.as_ref()?.trace.as_ref()?;
    let tenant = || vec![KeyValue::new(TENANT, stored.inbox.tenant.as_str().to_owned())];
    traced.delivery("bus publish", SpanKind::Producer, Instant::now(), tenant)
}

fn envelope_change(stored: &Stored, span: Option<&Span>) -> InboxChange {
    let what = match &stored.change {
        Change::Message { state, body } => What::Message { state: *state, body: Arc::clone(body) },
        Change::Status(status) => What::Status(StatusUpdate {
            message_id: status.message_id.clone(),
            status: status.status,
            device_id: status.device.clone(),
            at: status.at,
            action: status.action.clone(),
        }),
    };
    let age = stored.accepted.as_ref().map(|accepted| accepted.at.elapsed().as_micros());
    let age = age.and_then(|age| u64::try_from(age).ok());
    let span = span.map(|span| span.traced().carried().into_bytes());
    InboxChange { seq: stored.seq, what, age, span }
}

impl Bus for RedisBus {
    fn publish(&self, changes: &[Stored]) {
        let Some(first) = changes.first() else { return };
        let topic = self.node.topics.inbox(&first.inbox);
        // They end when all is handed over.
        let spans: SmallVec<[Option<Span>; 1]> = changes.iter().map(publish_span).collect();
        let told = changes.iter().zip(&spans);
        let all = Changes {
            tenant: first.inbox.tenant.clone(),
            user: first.inbox.user.clone(),
            changes: told.map(|(change, span)| envelope_change(change, span.as_ref())).collect(),
        };
        for piece in all.split() {
            self.node.say(&topic, Event::Changes(piece), Class::Change);
        }
    }

    fn publish_group(&self, tenant: &TenantId, pos: u64) {
        let topic = self.node.topics.tenant(tenant);
        self.node.say(&topic, Event::Group { tenant: tenant.clone(), pos }, Class::Word);
    }

    fn attend(&self, inbox: &InboxKey) -> BoxFuture<'static, Attention> {
        let (listening, waits) = self.node.listen(&self.node.topics_of(inbox));
        let well = self.node.state() <= State::Doubtful;
        Box::pin(async move {
            if well {
                let all = futures_util::future::join_all(waits);
                tokio::time::timeout(ATTEND_WITHIN, all).await.ok();
            }
            Attention(Some(listening))
        })
    }

    fn connected(&self, inbox: &InboxKey, device: &DeviceId, connection: &ConnectionId) {
        let words = Connected {
            tenant: inbox.tenant.clone(),
            user: inbox.user.clone(),
            device: device.clone(),
            connection: connection.clone(),
            stamp: self.node.tick(),
            again: false,
        };
        self.node.devices.insert(&words);
        // While its link is not up, this would come too late to be in its place; it is said when it is.
        let topic = self.node.topics.inbox(inbox);
        if self.node.is_up(&topic) {
            self.node.say(&topic, Event::Connected(words), Class::Once);
        }
    }

    fn ended(&self, inbox: &InboxKey, device: &DeviceId, connection: &ConnectionId) {
        self.node.devices.remove(inbox, device, connection);
    }

    fn channel_opened(&self, tenant: &TenantId, channel: &ChannelId) {
        let node = &self.node;
        let Some(waits) = node.open_channel(tenant, channel) else { return };
        let (node, tenant, channel) = (Arc::clone(node), tenant.clone(), channel.clone());
        // Asked before it is confirmed, an answer could be missed. While the bus is away nobody
        // answers; once it is back everybody is asked.
        self.node.tasks.spawn(async move {
            let confirmed = futures_util::future::join_all(waits);
            if tokio::time::timeout(ATTEND_WITHIN, confirmed).await.is_ok() {
                node.ask_presence(&tenant, &channel);
            }
        });
    }

    fn channel_closed(&self, tenant: &TenantId, channel: &ChannelId) {
        self.node.close_channel(tenant, channel);
    }

    fn presence(
        &self,
        tenant: &TenantId,
        channel: &ChannelId,
        joined: Vec<UserId>,
        left: Vec<UserId>,
    ) {
        let topic = self.node.topics.channel(tenant, channel);
        let (mut joined, mut left) = (joined.chunks(USERS_MAX), left.chunks(USERS_MAX));
        loop {
            let (joined, left) = (joined.next(), left.next());
            if joined.is_none() && left.is_none() {
                return;
            }
            let event = Event::Presence {
                tenant: tenant.clone(),
                channel: channel.clone(),
                joined: joined.unwrap_or_default().to_vec(),
                left: left.unwrap_or_default().to_vec(),
            };
            self.node.say(&topic, event, Class::Word);
        }
    }

    fn revoked(&self) {
        self.node.say(&self.node.topics.control(), Event::Revoked, Class::Word);
    }

    fn ask(&self, which: Which, then: Then) -> BoxFuture<'static, Result<Asked, TooManyQuestions>> {
        let node = Arc::clone(&self.node);
        Box::pin(async move {
            let expected = node.peers.holders(which.node.as_ref());
            let heard_for = node.heard_for(Instant::now());
            let knows_all = heard_for.is_some_and(|time| time >= ALL_HEARD_AFTER);
            let question = node.questions.begin(expected, questions::limit(&then))?;
            if heard_for.is_none() {
                return Ok(Asked { unheard: true, ..question.end() });
            }
            if knows_all && question.expects_nobody() {
                return Ok(question.end());
            }
            let inquiry = Inquiry { id: question.id, which, then };
            node.say(&node.topics.control(), Event::Inquiry(inquiry), Class::Once);
            let all = async {
                question.all.notified().await;
                if !knows_all {
                    std::future::pending::<()>().await;
                }
            };
            tokio::time::timeout(ANSWERS_WITHIN, all).await.ok();
            Ok(question.end())
        })
    }

    fn spent(&self, spent: Vec<Spent>) {
        // Of now or of no use: what was used before the bus was away has come back since.
        let control = self.node.topics.control();
        if self.node.is_up(&control) {
            self.node.say(&control, Event::Spent(spent), Class::Once);
        }
    }

    fn state(&self) -> State {
        self.node.state()
    }

    fn why(&self) -> Option<String> {
        self.node.why()
    }

    fn unheard(&self) -> usize {
        self.node.unheard()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        self.node.peers.list(Instant::now())
    }
}
