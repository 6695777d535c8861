//! What nodes of one cluster tell each other.
//!
//! # On the wire
//! One MessagePack array: `[version, kind, sender, number, payload]`. `sender` is drawn at random
//! when a process starts, so a node that starts again is another sender (an epoch); `number` counts a
//! sender's envelopes on one topic, and 0 says that this one is not counted. The payload is an array
//! whose first elements are what a kind has always had.
//!
//! # Old and new nodes side by side
//! A rollout has both. A newer node may add kinds, and elements at the end of a payload or of a list's
//! entry: an older one passes them over ([`DecodeError::Kind`] is counted, not acted upon). Only
//! what an older node would understand wrongly needs a new [`VERSION`].
//!
//! # Trust
//! Who can publish on the bus is a node. All the same, whatever arrives is checked as far as it goes to
//! clients: ids, sizes, and that a body is a JSON object. Bytes that mean harm are refused.

mod inquiry;
mod pack;
mod read;
mod write;

use std::sync::Arc;

pub use self::{
    inquiry::{CONNECTIONS_MAX, Close, ConnectionFacts, Findings, Inquiry, Then, Which},
    read::peek,
};
use crate::{
    Body, ChannelId, ConnectionId, DeviceId, MessageState, NodeId, Seq, StatusUpdate, TenantId,
    Time, UserId,
};

/// The wire's version, see the module's doc.
pub const VERSION: u64 = 1;

/// Largest envelope, in bytes: some bodies of up to [`BODY_BYTES_MAX`] and their changes.
pub const ENVELOPE_BYTES_MAX: usize = 256 << 10;

/// Largest body that travels with its change, in bytes. Of a larger one only the seq is told, and
/// nodes with that user connected read it from the store: a megabyte through the bus for each of a
/// thousand recipients would keep everything else waiting.
pub const BODY_BYTES_MAX: usize = 32 << 10;

/// Most changes in one envelope: a client's `read` of a thousand messages takes four.
pub const CHANGES_MAX: usize = 256;

/// Most users in one envelope about presence; lists shown to clients have at most as many.
pub const USERS_MAX: usize = 512;

/// Bytes of [`InboxChange::span`].
pub const SPAN_BYTES: usize = 24;

/// Most callers in one [`Event::Spent`]: some 32 KiB, five times a second, from each node.
pub const SPENT_MAX: usize = 2_048;

/// One thing that one node tells others.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The process that says it.
    pub sender: u64,
    /// How many envelopes it has sent on this topic, with this one; 0 where it does not count.
    pub number: u64,
    /// What it says.
    pub event: Event,
}

/// What a node may say.
#[derive(Clone, Debug)]
pub enum Event {
    /// Changes of one inbox, contiguous.
    Changes(Changes),
    /// A message to groups or everyone is stored: who has members of the tenant connected looks it up.
    Group {
        /// The wall.
        tenant: TenantId,
        /// Where the store keeps it.
        pos: u64,
    },
    /// A device has connected: an older connection of it elsewhere has to go.
    Connected(Connected),
    /// Who came to a channel on the sender's node, and who left.
    Presence {
        /// The wall.
        tenant: TenantId,
        /// The channel.
        channel: ChannelId,
        /// Users who are there now and were not.
        joined: Vec<UserId>,
        /// Users who were there and are not now.
        left: Vec<UserId>,
    },
    /// All who are in a channel on the sender's node; whoever it named before is not there any more.
    PresenceList {
        /// The wall.
        tenant: TenantId,
        /// The channel.
        channel: ChannelId,
        /// Users, at most [`USERS_MAX`].
        users: Vec<UserId>,
        /// There are more than are named.
        more: bool,
    },
    /// Asks all for their [`Event::PresenceList`] of a channel.
    PresenceAsk {
        /// The wall.
        tenant: TenantId,
        /// The channel.
        channel: ChannelId,
    },
    /// Somebody may not do any more what a token said, or prefers something else, or the settings are others: what
    /// was revoked, what users prefer and the live settings are to be read anew.
    Revoked,
    /// A node is here, for the first time or again.
    Hello(NodeFacts),
    /// A node is still here.
    Heartbeat(NodeFacts),
    /// A node is going and need not be missed.
    Goodbye {
        /// Its name.
        node: NodeId,
    },
    /// A node to itself, through the bus: proves that what is published arrives.
    Ping {
        /// Counts.
        count: u64,
    },
    /// Asks all for their connections, or has them closed; answered by [`Event::Findings`].
    Inquiry(Inquiry),
    /// What a node found, on the topic of who asked.
    Findings(Findings),
    /// What callers used of their rate limits on the sender's node since it said so last, at most
    /// [`SPENT_MAX`] of them.
    Spent(Vec<Spent>),
}

/// Changes of one inbox.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The wall.
    pub tenant: TenantId,
    /// Whose inbox.
    pub user: UserId,
    /// The changes in seq order, without holes, at most [`CHANGES_MAX`].
    pub changes: Vec<InboxChange>,
}

/// One change.
#[derive(Clone, Debug)]
pub struct InboxChange {
    /// Its place.
    pub seq: Seq,
    /// What changed.
    pub what: What,
    /// How long before this was said the store was asked for it, in microseconds; a duration, so that no clocks
    /// are compared. None where nobody knows, of an older node, and of [`What::InStore`].
    pub age: Option<u64>,
    /// The span of the node that says it, where its trace is recorded: the trace's id and the span's, 24 bytes. None
    /// where `age` is.
    pub span: Option<[u8; SPAN_BYTES]>,
}

/// What a change is.
#[derive(Clone, Debug)]
pub enum What {
    /// A new or edited message.
    Message {
        /// The inbox's half.
        state: MessageState,
        /// The half that all recipients share.
        body: Arc<Body>,
    },
    /// A changed state.
    Status(StatusUpdate),
    /// Too large for the bus: it stands in the store.
    InStore,
}

/// A device has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The wall.
    pub tenant: TenantId,
    /// Whose device.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Its connection.
    pub connection: ConnectionId,
    /// The cluster's clock when it connected, see [`NodeFacts::clock`].
    pub stamp: u64,
    /// Said again because earlier words may have been lost: then the stamps decide which is the later
    /// connection, else the order of the bus does.
    pub again: bool,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub node: NodeId,
    /// The highest reading of the cluster's clock it knows: milliseconds, but never less than it has
    /// heard from another node, so that a node whose clock is behind does not date its connections
    /// before older ones.
    pub clock: u64,
    /// Envelopes that it had to drop so far. When it grows, some of what was meant for others was
    /// lost.
    pub lost: u64,
    /// Its sockets and event streams; none of a node that holds none by its role, or is older.
    pub connections: Option<u64>,
    /// A mark of the secrets it works with, from which they cannot be had: nodes that differ in it refuse
    /// each other's tokens. None of an older node.
    pub secrets: Option<u64>,
    /// What operators want to know; none of an older node.
    pub about: Option<NodeAbout>,
    /// As `secrets`, a mark of its admin token; means something where `secrets` are equal. None of an older
    /// node.
    pub admin: Option<u64>,
}

/// What a node says of itself for operators, and for those that share connections with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAbout {
    /// Which parts it runs (`PUSHHUB_ROLE`).
    pub role: String,
    /// Its build.
    pub version: String,
    /// When it was started, by its own clock.
    pub started_at: Time,
    /// It is sending its connections away and will be gone.
    pub draining: bool,
}

/// What one caller used of a rate limit on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which limit, by a number that whoever limits gives it; of a newer node perhaps one that is not known
    /// here.
    pub scope: u64,
    /// Whose: a hash with a key that the nodes share.
    pub key: u64,
    /// How much: the time it takes to come back, in nanoseconds. A duration, so that no clocks are compared.
    pub nanos: u64,
}

/// Why bytes are no envelope for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Over [`ENVELOPE_BYTES_MAX`].
    #[error("an envelope has at most {ENVELOPE_BYTES_MAX} bytes")]
    TooBig,
    /// Of a newer node.
    #[error("version {0} is not known here")]
    Version(u64),
    /// Of a newer node.
    #[error("kind {0} is not known here")]
    Kind(u64),
    /// Something else.
    #[error("not an envelope: {0}")]
    Malformed(&'static str),
}

type Read<T> = Result<T, DecodeError>;

/// The numbers of the kinds. One that was used is never given another meaning.
mod kind {
    pub(super) const CHANGES: u64 = 1;
    pub(super) const GROUP: u64 = 2;
    pub(super) const CONNECTED: u64 = 3;
    pub(super) const PRESENCE: u64 = 4;
    pub(super) const PRESENCE_LIST: u64 = 5;
    pub(super) const PRESENCE_ASK: u64 = 6;
    // 7 was a forced disconnect, which is an inquiry now.
    pub(super) const REVOKED: u64 = 8;
    pub(super) const HELLO: u64 = 9;
    pub(super) const HEARTBEAT: u64 = 10;
    pub(super) const GOODBYE: u64 = 11;
    pub(super) const PING: u64 = 12;
    pub(super) const INQUIRY: u64 = 13;
    pub(super) const FINDINGS: u64 = 14;
    pub(super) const SPENT: u64 = 20;
}

/// Numbers of what may stand in a payload, see [`kind`].
mod form {
    pub(super) const MESSAGE: u64 = 0;
    pub(super) const STATUS: u64 = 1;
    pub(super) const IN_STORE: u64 = 2;
}

impl Event {
    /// A metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Changes(_) => "changes",
            Self::Group { .. } => "group",
            Self::Connected(_) => "connected",
            Self::Presence { .. } | Self::PresenceList { .. } | Self::PresenceAsk { .. } => {
                "presence"
            }
            Self::Revoked => "revoked",
            Self::Hello(_) | Self::Heartbeat(_) | Self::Goodbye { .. } => "node",
            Self::Ping { .. } => "ping",
            Self::Inquiry(_) | Self::Findings(_) => "inquiry",
            Self::Spent(_) => "spent",
        }
    }
}
