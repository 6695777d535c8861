//! What a store promises, whichever it is.
//!
//! # Contract
//! * **Durable.** When [`Store::append`] or [`Store::mark`] answers `Ok`, the change survives
//!   `kill -9` and power loss, for every recipient. After an error nothing of the call is promised:
//!   it may be there or not ("unknown"), and a caller that retries may store it twice.
//! * **Dense.** The changes of an inbox have seqs 1, 2, 3 …; two readers see the same change at the
//!   same seq for ever, also after a crash.
//! * **Ordered.** If one append answered before another began, its changes come first in every
//!   inbox they share. One append's items keep their order.
//! * **Readable.** A disk that is full or fails to sync takes away no read: what was acknowledged is
//!   listed, counted and resumed from as before.
//! * **Visible before published.** A change can be read before [`crate::Fanout::publish`] is called
//!   with it.
//! * **Walls.** Every call names an [`InboxKey`], which carries the tenant; nothing of another
//!   inbox is ever read or changed.
//! * **Derived.** `unread` is what the listed messages say, always.
//!
//! `tests/store_contract.rs` holds a backend to this; a new backend passes it unchanged.

pub mod single;

use std::{future::Future, pin::Pin, sync::Arc, time::Instant};

use protocol::{Body, DeviceId, MessageId, MessageState, Seq, Status, TenantId, Time, UserId};
use serde::{Deserialize, Serialize};

use crate::search::{Highlight, Terms};

/// A boxed future, so that the trait can be used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One inbox: a user in a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboxKey {
    /// The wall it stands behind.
    pub tenant: TenantId,
    /// Its owner.
    pub user: UserId,
}

impl InboxKey {
    /// A key.
    #[must_use]
    pub fn new(tenant: TenantId, user: UserId) -> Self {
        Self { tenant, user }
    }
}

/// Who receives a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These users, each once. An inbox that was never seen begins with this message.
    Users(Vec<UserId>),
    /// Everybody in the tenant whose inbox exists now. One record, however many they are.
    Everyone,
}

/// A message that was accepted and waits to be stored.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The wall.
    pub tenant: TenantId,
    /// Who receives it.
    pub audience: Audience,
    /// The message.
    pub body: Arc<Body>,
}

/// One change of one inbox, durable.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Whose.
    pub inbox: InboxKey,
    /// Where.
    pub seq: Seq,
    /// What.
    pub change: Change,
    /// When the store was asked, for latency metrics; only on live changes.
    pub accepted: Option<Instant>,
}

/// What a change is.
#[derive(Clone, Debug)]
pub enum Change {
    /// A message, with its state as of the read: at the seq of its creation it may be read by now.
    Message {
        /// The inbox's half.
        state: MessageState,
        /// The shared half.
        body: Arc<Body>,
    },
    /// A message's state changed; also what stands in place of a message that must not be shown any
    /// more (recalled, expired).
    Status(StatusChange),
}

/// A changed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The message.
    pub message_id: MessageId,
    /// What it became.
    pub status: Status,
    /// Who did it.
    pub device: Option<DeviceId>,
    /// When.
    pub at: Time,
}

/// A message in an inbox.
#[derive(Clone, Debug)]
pub struct InboxMessage {
    /// The inbox's half.
    pub state: MessageState,
    /// The shared half.
    pub body: Arc<Body>,
}

/// Where an inbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its latest change.
    pub seq: Seq,
    /// Unread messages that are not expired.
    pub unread: u64,
}

/// Changes after a position.
#[derive(Clone, Debug)]
pub struct ChangePage {
    /// Contiguous, beginning right after the asked position. Empty means: at the head.
    pub changes: Vec<Stored>,
    /// The head when it was read.
    pub head: Seq,
    /// The oldest position that can be resumed from; above the asked one, `changes` is empty.
    pub min_seq: Seq,
}

/// How a list is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Latest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
    /// Highest priority first, then latest.
    Priority,
}

/// Which states a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusFilter {
    /// Everything that is not archived, recalled or expired.
    #[default]
    Inbox,
    /// Unread only.
    Unread,
    /// Read, not archived.
    Read,
    /// Archived only.
    Archived,
    /// Everything that is not recalled or expired.
    All,
}

/// A list (contract §11).
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// States.
    pub status: StatusFilter,
    /// Only of this channel.
    pub channel_id: Option<String>,
    /// Only of this type.
    pub message_type: Option<String>,
    /// Only of this priority or higher.
    pub priority_min: Option<u8>,
    /// Only of this sender.
    pub sender: Option<String>,
    /// Only created at or after.
    pub since: Option<Time>,
    /// Only created before.
    pub until: Option<Time>,
    /// Only with these words, see [`crate::search`].
    pub text: Option<Terms>,
    /// Order.
    pub sort: Sort,
    /// Where in the list.
    pub at: ListPosition,
    /// Most messages on a page.
    pub size: usize,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListPosition {
    /// After this many messages. Moves when new ones arrive.
    Offset(u64),
    /// After the message at this seq, in the list's order. Does not move. Not for
    /// [`Sort::Priority`].
    After(Seq),
}

impl Default for ListPosition {
    fn default() -> Self {
        Self::Offset(0)
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The messages.
    pub messages: Vec<InboxMessage>,
    /// One for each message where the list was searched ([`ListQuery::text`]), else empty.
    pub highlights: Vec<Highlight>,
    /// How many match in all.
    pub total: u64,
    /// Unread messages of the inbox, whatever the filter.
    pub unread: u64,
    /// Whether there are more after this page.
    pub more: bool,
}

/// A user's operation on messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Unread ones become read.
    Read,
    /// Read ones become unread. Archived ones stay.
    Unread,
    /// Become archived.
    Archive,
}

impl Mark {
    /// What a marked message is.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Read => Status::Read,
            Self::Unread => Status::Unread,
            Self::Archive => Status::Archived,
        }
    }
}

/// Which messages are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkTarget {
    /// One, only if its version is still this one where a version is given. Unknown:
    /// [`StoreError::NotFound`].
    One {
        /// The message.
        id: MessageId,
        /// The version the caller has seen.
        expected: Option<Seq>,
    },
    /// These; unknown ones are passed over.
    Many(Vec<MessageId>),
    /// Every one up to and with this position.
    UpTo(Seq),
    /// Every one of this channel.
    Channel(String),
}

/// What a mark did.
#[derive(Clone, Debug)]
pub struct Marked {
    /// Messages whose state changed; one seq each.
    pub changed: u64,
    /// The inbox afterwards.
    pub head: Head,
    /// The message afterwards, for [`MarkTarget::One`].
    pub message: Option<InboxMessage>,
}

/// Why a store cannot.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such message in this inbox.
    #[error("no such message")]
    NotFound,
    /// The message has changed since; this is what it is now.
    #[error("the message has changed since version {}", .0.state.version)]
    VersionConflict(Box<InboxMessage>),
    /// Too much is waiting; come back after a moment.
    #[error("the store is behind: {0}")]
    Busy(&'static str),
    /// The disk refuses: full, failing or read-only. Nothing is acknowledged until it is back.
    #[error("the store cannot write")]
    NotWritable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store is shutting down.
    #[error("the store is closing")]
    Closing,
    /// A file is damaged or of an unknown shape; only its owner is affected.
    #[error("a file of the store is damaged")]
    Damaged(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Whether a store can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Writes are acknowledged.
    Writable,
    /// They are not, and why, in words for an operator.
    NotWritable(String),
}

/// Keeps an inbox watched: while it lives, the inbox's changes are published.
pub trait WatchGuard: Send + Sync {}

/// A watched inbox.
pub struct Watch {
    /// Where the inbox stood when the watch began; every later change is published.
    pub head: Head,
    /// Ends the watch when dropped.
    pub guard: Box<dyn WatchGuard>,
}

/// Keeps inboxes. The module's doc is the contract.
///
/// Every future may be dropped at any time: the operation then happens or not, as a whole.
pub trait Store: Send + Sync + 'static {
    /// Stores messages, all of them or none, and publishes them.
    ///
    /// # Errors
    /// `Busy`, `NotWritable`, `Closing`.
    fn append(&self, items: Vec<Outgoing>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Marks messages and publishes the changes. Marking what is so already is no change.
    ///
    /// # Errors
    /// `NotFound` and `VersionConflict` for [`MarkTarget::One`], else as [`Store::append`].
    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>>;

    /// Begins to watch. The inbox exists from then on: a user who was here once receives what is
    /// sent to everyone later.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// Where an inbox stands; all zero for one that was never seen.
    ///
    /// # Errors
    /// `Damaged`, `Closing`.
    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// The head seqs of watched inboxes, in one go; `None` for one that is not watched or cannot be
    /// read. For the periodic check of live connections.
    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>>;

    /// The changes after `since`, at most `limit` of them and about `bytes_max` bytes of bodies, at
    /// least one if there is one.
    ///
    /// # Errors
    /// `Damaged`, `Closing`.
    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>>;

    /// A page of a list. With [`ListQuery::text`] it is a search: every message that was stored before
    /// is found, in the state it is in now; a search may need an index that can be written.
    ///
    /// # Errors
    /// `Damaged`, `Closing`; with a text also `Busy`, `NotWritable`.
    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>>;

    /// One message; `NotFound` when it is unknown, recalled or expired.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Closing`.
    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>>;

    /// Moves a device's cursor forward, never back and never beyond the head. Survives an orderly
    /// end; after a crash the cursor may stand up to [`single::CURSOR_FLUSH_INTERVAL`] back.
    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq);

    /// A device's cursor; none for a device that never acked.
    ///
    /// # Errors
    /// `Damaged`, `Closing`.
    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>>;

    /// Whether writes are acknowledged now. Proves it by a write of its own if the last proof is
    /// older than a second.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// Finishes what was accepted, writes everything to its place and closes. Later calls answer
    /// `Closing`.
    fn close(&self) -> BoxFuture<'_, ()>;
}
