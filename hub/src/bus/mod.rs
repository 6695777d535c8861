//! The way to the other nodes of a cluster.
//!
//! # What it is, and is not
//! What is stored on one node reaches sockets on another through Redis publish/subscribe: fast, and it
//! may lose anything at any time. The store is the truth. So the bus does not try to be reliable, it
//! makes sure that loss is noticed: whenever something may have been missed, [`Inbound::doubt`] has all
//! connections of this node compared with the store.
//!
//! | what is lost | how it is noticed |
//! |---|---|
//! | a change in the middle | the next one's seq leaves a hole (`live::outbox`) |
//! | the connection to Redis | it breaks; or a ping that this node publishes to itself every second does not come back in time |
//! | subscriptions | each is confirmed by the server before the bus is up again, and a ping comes back |
//! | what was published meanwhile | everything is in doubt once the bus is up again |
//! | what another node could not publish | its heartbeat says how much it has dropped; a node that is silent is not heard at all |
//! | what a node of a newer version says | its envelopes are counted, and looked for in the store |
//! | nodes with another Redis or prefix | more nodes have a place on the database than are heard |
//! | words to all nodes and to channels | each sender numbers them by topic |
//! | a slot of Redis Cluster that moves | the server ends the subscription, it is made anew with the new owner |
//!
//! # Interest
//! A node subscribes to the topic of a user (and of the tenant, and of channels) while somebody here needs
//! it, and waits for the confirmation before it reads the backlog: what is stored before is in the
//! backlog, what is published after arrives. One topic (`control`) is heard by all nodes.
//!
//! # Order
//! What one node publishes on one topic arrives in that order: one queue per server, one pipeline at a
//! time. What several nodes store for one inbox may arrive in another order than it was stored; that is a
//! hole and then a repeat, which `live::outbox` makes good.

mod address;
mod channels;
mod cluster;
mod config;
mod connect;
mod devices;
mod examine;
mod interest;
mod link;
mod listener;
pub mod metrics;
mod node;
mod outgoing;
mod peers;
mod questions;
mod receive;
mod redis_bus;
mod topic;

use std::{fmt, sync::Arc};

use delivery::{
    Fanout, InboxKey,
    store::{BoxFuture, Stored},
};
use protocol::{
    ChannelId, ConnectionId, DeviceId, Seq, TenantId, UserId,
    envelope::{Findings, Inquiry, NodeAbout, Spent, Then, Which},
};

pub use self::{
    address::{ALLOWED as ADDRESS_ALLOWED, AddressError, Login, RedisAddress, Server, Shape},
    config::{Marks, RedisConfig},
    examine::{RedisExamined, RedisUnusable, examine},
    peers::{PeerInfo, SILENT_AFTER},
    questions::{Asked, TooManyQuestions, limit as named_max},
    redis_bus::RedisBus,
};

/// The state of the way to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is nobody else to talk to: the single shape.
    Alone,
    /// What is published arrives; proven within the last seconds.
    Up,
    /// There is a connection, but it is not proven yet that everything arrives.
    Doubtful,
    /// There has not been a connection since the start.
    Connecting,
    /// There is no connection.
    Down,
}

impl State {
    /// Those a bus can be in.
    pub const ALL: [Self; 4] = [Self::Up, Self::Doubtful, Self::Connecting, Self::Down];

    /// A word for health answers, logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Up => "up",
            Self::Doubtful => "doubtful",
            Self::Connecting => "connecting",
            Self::Down => "down",
        }
    }

    /// Whether other nodes are heard, as far as anybody knows.
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Alone | Self::Up)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why something of other nodes may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The bus is back, after the start or after it was away.
    Back,
    /// Subscriptions had to be made anew elsewhere.
    Moved,
    /// Numbers are missing.
    Hole,
    /// Another node had to drop what it had for others.
    Lost,
    /// Another node is silent, or was never heard though it is there.
    Silent,
    /// The bus is away; said every few seconds while it is.
    Away,
    /// Another node says what only a newer version understands; asked at most every few seconds.
    Newer,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Back, Self::Moved, Self::Hole, Self::Lost, Self::Silent, Self::Away, Self::Newer];

    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Back => "back",
            Self::Moved => "moved",
            Self::Hole => "hole",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Away => "away",
            Self::Newer => "newer",
        }
    }
}

/// News of another node about who is in a channel there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceNews<'a> {
    /// These came and those left.
    Changed {
        /// Who came.
        joined: &'a [UserId],
        /// Who left.
        left: &'a [UserId],
    },
    /// These are there and nobody else.
    All {
        /// Who is there.
        users: &'a [UserId],
        /// And more that are not named.
        more: bool,
    },
}

/// What arrives from other nodes. Called on the task that reads from the bus, in the order of the bus: an
/// implementation must not wait.
pub trait Inbound: Send + Sync + 'static {
    /// Contiguous changes of one inbox, stored by another node. To [`crate::live::Registry`].
    fn changes(&self, changes: &[Stored]);

    /// A change that is too large for the bus, stored by another node: who is live and behind it reads the
    /// store.
    fn in_store(&self, inbox: &InboxKey, seq: Seq);

    /// Another node stored something for groups of a tenant: the store brings the inboxes that it watches
    /// here to it.
    fn group(&self, tenant: &TenantId, pos: u64);

    /// Sockets and event streams that are open here; none where this node holds none by its role. Is told
    /// to the others.
    fn connections(&self) -> Option<u64>;

    /// What this node says of itself for operators. Is told to the others.
    fn about(&self) -> Option<NodeAbout> {
        None
    }

    /// Names or closes connections of this node, for an admin who asks on another; none where it holds
    /// none by its role, or where others are meant. Called on a task of its own, for it may look at all.
    fn inquire(&self, _inquiry: &Inquiry) -> Option<Findings> {
        None
    }

    /// Something may have been missed: all connections are to be compared with the store, and what was
    /// revoked is to be asked anew.
    fn doubt(&self, why: Doubt);

    /// The device of this connection has connected elsewhere since.
    fn replaced(&self, inbox: &InboxKey, connection: &ConnectionId);

    /// Something was revoked, a user's preferences changed, or the settings did: it is to be read anew.
    fn revoked(&self);

    /// What callers used of their rate limits on another node.
    fn spent(&self, spent: &[Spent]);

    /// Who is in a channel on another node. `node` is that node's epoch.
    fn presence(&self, node: u64, tenant: &TenantId, channel: &ChannelId, news: PresenceNews<'_>);

    /// Another node is gone, and with it whoever was in channels there.
    fn node_gone(&self, node: u64);

    /// Who is in a channel here, for other nodes, and whether there are more than are named.
    fn presence_here(&self, tenant: &TenantId, channel: &ChannelId) -> (Vec<UserId>, bool);
}

/// Keeps this node listening to what happens in an inbox. Ends it, after a while, when dropped.
#[derive(Default)]
pub struct Attention(#[expect(dead_code, reason = "kept to be dropped")] Option<node::Listening>);

/// The way to other nodes. Nothing here waits for them or fails: what cannot be passed on is counted and
/// found in the store.
pub trait Bus: Send + Sync + 'static {
    /// Tells other nodes of contiguous changes of one inbox, which are stored.
    fn publish(&self, changes: &[Stored]);

    /// Tells other nodes that something is stored for groups of a tenant.
    fn publish_group(&self, tenant: &TenantId, pos: u64);

    /// Begins to listen to what happens in an inbox. Ready when it is certain that everything published
    /// from now on arrives, or after [`ATTEND_WITHIN`], or at once while the bus is away: then the doubt
    /// that follows makes good for it.
    ///
    /// Cancel safe.
    fn attend(&self, inbox: &InboxKey) -> BoxFuture<'static, Attention>;

    /// A device has connected here; [`Bus::attend`] was ready before. An older connection of it on another
    /// node is closed.
    fn connected(&self, inbox: &InboxKey, device: &DeviceId, connection: &ConnectionId);

    /// Ends what [`Bus::connected`] began.
    fn ended(&self, inbox: &InboxKey, device: &DeviceId, connection: &ConnectionId);

    /// Somebody here is in a channel and wants to know who else is; until [`Bus::channel_closed`].
    fn channel_opened(&self, tenant: &TenantId, channel: &ChannelId);

    /// Nobody here is in the channel any more.
    fn channel_closed(&self, tenant: &TenantId, channel: &ChannelId);

    /// Who came to a channel here and who left.
    fn presence(
        &self,
        tenant: &TenantId,
        channel: &ChannelId,
        joined: Vec<UserId>,
        left: Vec<UserId>,
    );

    /// Tells other nodes that something was revoked, or that a user's preferences or the settings changed.
    fn revoked(&self);

    /// Asks the other nodes for their connections, or has them closed, and waits for the answers of all
    /// that hold sockets, [`ANSWERS_WITHIN`] at most. This node's are the caller's own affair.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`TooManyQuestions`] where too many are being asked already.
    fn ask(&self, which: Which, then: Then) -> BoxFuture<'static, Result<Asked, TooManyQuestions>>;

    /// Tells other nodes what callers used of their rate limits here. At most
    /// [`protocol::envelope::SPENT_MAX`]; what is lost on the way is found out by nobody.
    fn spent(&self, spent: Vec<Spent>);

    /// How it is.
    fn state(&self) -> State;

    /// Why it is not well, in words for an operator.
    fn why(&self) -> Option<String>;

    /// How many nodes use the database of this one and are not heard, though the bus is up.
    fn unheard(&self) -> usize;

    /// The other nodes that are heard.
    fn peers(&self) -> Vec<PeerInfo>;
}

/// Longest wait of a connecting client for its user's topic to be confirmed: some hundred round trips.
pub const ATTEND_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest wait for other nodes' answers: some hundred round trips, and time for a node with a million
/// sockets to look at all of them.
pub const ANSWERS_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The bus of the single shape: there is nobody to tell.
#[derive(Debug, Default, Clone, Copy)]
pub struct LocalBus;

impl Bus for LocalBus {
    fn publish(&self, _changes: &[Stored]) {}
    fn publish_group(&self, _tenant: &TenantId, _pos: u64) {}
    fn attend(&self, _inbox: &InboxKey) -> BoxFuture<'static, Attention> {
        Box::pin(std::future::ready(Attention::default()))
    }
    fn connected(&self, _inbox: &InboxKey, _device: &DeviceId, _connection: &ConnectionId) {}
    fn ended(&self, _inbox: &InboxKey, _device: &DeviceId, _connection: &ConnectionId) {}
    fn channel_opened(&self, _tenant: &TenantId, _channel: &ChannelId) {}
    fn channel_closed(&self, _tenant: &TenantId, _channel: &ChannelId) {}
    fn presence(
        &self,
        _tenant: &TenantId,
        _channel: &ChannelId,
        _joined: Vec<UserId>,
        _left: Vec<UserId>,
    ) {
    }
    fn revoked(&self) {}
    fn ask(&self, _: Which, _: Then) -> BoxFuture<'static, Result<Asked, TooManyQuestions>> {
        Box::pin(std::future::ready(Ok(Asked::default())))
    }
    fn spent(&self, _spent: Vec<Spent>) {}
    fn state(&self) -> State {
        State::Alone
    }
    fn why(&self) -> Option<String> {
        None
    }
    fn unheard(&self) -> usize {
        0
    }
    fn peers(&self) -> Vec<PeerInfo> {
        Vec::new()
    }
}

/// The fan-out of a node in a cluster: first to who is connected here, which never waits for the bus, then
/// to the others.
pub struct ClusterFanout<F> {
    here: Arc<F>,
    bus: Arc<dyn Bus>,
}

impl<F: Fanout> ClusterFanout<F> {
    /// Hands changes to `here`, then to `bus`.
    #[must_use]
    pub fn new(here: Arc<F>, bus: Arc<dyn Bus>) -> Self {
        Self { here, bus }
    }
}

impl<F: Fanout> Fanout for ClusterFanout<F> {
    fn publish(&self, changes: &[Stored]) {
        self.here.publish(changes);
        self.bus.publish(changes);
    }

    fn wants_unwatched(&self) -> bool {
        true
    }

    fn advanced(&self, tenant: &TenantId, pos: u64) {
        self.bus.publish_group(tenant, pos);
    }
}
