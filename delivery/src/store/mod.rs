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
//! * **Derived.** `unread` is what the listed messages say, always, also by channel.
//!
//! `tests/store_contract.rs` holds a backend to this; a new backend passes it unchanged.

mod audience;
mod change;
mod directory;
pub(crate) mod facts;
mod happening;
mod keeping;
mod ledger;
pub mod limits;
mod list;
mod mark;
pub(crate) mod metadata;
pub(crate) mod noted;
pub mod outcome;
pub(crate) mod portable;
pub mod postgres;
mod recalled;
pub mod single;

use std::{future::Future, pin::Pin, sync::Arc};

use protocol::{Body, DeviceId, MessageId, Seq, TenantId, UserId};
use tokio::sync::mpsc;

use crate::backup::{BackupError, Draft, Wanted};

pub(crate) use self::change::is_live;
pub use self::{
    audience::{Audience, Batch, Group, Outgoing, SenderKey},
    change::{Accepted, Change, ChangePage, Head, InboxMessage, Pressed, StatusChange, Stored},
    directory::{
        Channel, ChannelInfo, Directory, Member, MembersChanged, NameKind, TokenFacts, UserChange,
        UserRecord,
    },
    happening::{Happened, Happening, Witness},
    keeping::{Keeping, TenantRetention},
    ledger::{
        DeviceReceipt, Ledger, Receipt, ReceiptPage, SentMessage, SentPage, SentState, StatsBy,
        StatsQuery, StatsRow, StoredAnswer, WaitingMessage, WaitingPage, WaitingPosition,
    },
    list::{ListPage, ListPosition, ListQuery, Sort, StatusFilter, UnreadCounts},
    mark::{Mark, MarkTarget, Marked, Pressing},
    metadata::{
        METADATA_ASKED_MAX, METADATA_KEY_BYTES_MAX, METADATA_VALUE_BYTES_MAX, MetadataError,
        MetadataIs,
    },
};

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

/// Why a store cannot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No such message in this inbox, or no such thing in this tenant.
    #[error("no such message")]
    NotFound,
    /// It cannot be done as things stand; one sentence says why.
    #[error("{0}")]
    Conflict(&'static str),
    /// A request with this `Idempotency-Key` is stored already, by another node: its answer is there.
    #[error("a request with this key is stored already")]
    KeyTaken,
    /// What a change was made over has changed meanwhile: look again.
    #[error("somebody else has changed it at the same moment")]
    Raced,
    /// One more would be over a limit of [`limits`]; one sentence says which.
    #[error("{0}")]
    Limit(&'static str),
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

/// A page of messages outside an inbox.
#[derive(Clone, Debug, Default)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Arc<Body>>,
    /// Where the next page begins; none on the last one.
    pub next: Option<u64>,
}

/// Which messages an inbox keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Those younger than this; none for all (`RETENTION_MAX_AGE`).
    pub max_age: Option<std::time::Duration>,
    /// The latest so many; none for all (`RETENTION_MAX_MESSAGES`).
    pub max_messages: Option<u64>,
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

/// All that a backend is.
pub trait Storage: Store + Directory + Ledger {}

impl<T: Store + Directory + Ledger> Storage for T {}

/// Keeps inboxes. The module's doc is the contract.
///
/// Every future may be dropped at any time: the operation then happens or not, as a whole.
pub trait Store: Send + Sync + 'static {
    /// Stores messages, all of them or none, and publishes them. One that is scheduled waits for its
    /// time, see [`Ledger`].
    ///
    /// # Errors
    /// `Busy`, `NotWritable`, `Closing`; `Conflict` where another node has stored an answer for the
    /// batch's key meanwhile.
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>>;

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

    /// Presses a button of a message, which becomes read. A button can be pressed once: a second
    /// press changes nothing and answers with the first.
    ///
    /// # Errors
    /// `NotFound` for a message or a button that is not there, else as [`Store::append`].
    fn press(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        id: &MessageId,
        index: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>>;

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

    /// Unread messages by channel.
    ///
    /// # Errors
    /// `Damaged`, `Closing`.
    fn unread(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>>;

    /// One message; `NotFound` when it is unknown, recalled or expired.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Closing`.
    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>>;

    /// Copies an inbox, as of one moment, into a backup that was begun: everything that was stored before the call
    /// is in it, and of what comes meanwhile the beginning or nothing. Nobody's sends and reads wait for it.
    ///
    /// # Errors
    /// [`BackupError`], but for `Running` and `Io`.
    fn back_up(
        &self,
        inbox: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>>;

    /// Tells of every inbox there is, in no order, as fast as it is taken and for as long as somebody listens. One
    /// that comes or goes meanwhile may be told of or not.
    ///
    /// # Errors
    /// `Damaged` where it is not known whose some file is; all others were told of then. `NotWritable`, `Closing`.
    fn inboxes(&self, to: mpsc::Sender<InboxKey>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Moves a device's cursor forward, never back and never beyond the head. Survives an orderly
    /// end; after a crash the cursor may stand up to [`single::CURSOR_FLUSH_INTERVAL`] back.
    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq);

    /// The frames of these changes, after `from` up to and with `to`, went to a device. For receipts
    /// and statistics: what is noted here may be lost by a crash. Cheap: called for every write to a
    /// socket.
    fn delivered(&self, inbox: &InboxKey, device: &DeviceId, from: Seq, to: Seq);

    /// A device's cursor; none for a device that never acked.
    ///
    /// # Errors
    /// `Damaged`, `Closing`.
    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>>;

    /// Forgets what an inbox need not keep; answers how many messages that were. Positions before
    /// what is kept cannot be resumed from any more, see [`ChangePage::min_seq`].
    ///
    /// # Errors
    /// `Damaged`, `NotWritable`, `Closing`.
    fn prune(
        &self,
        inbox: &InboxKey,
        retention: Retention,
    ) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Forgets, now and in every inbox, what the store is set up not to keep: it does so by itself,
    /// slowly. Answers how many messages that were.
    ///
    /// # Errors
    /// `NotWritable` where some inbox could not be written, `Closing`.
    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Forgets a user: the inbox with its messages, marks, receipts, cursors and search index, what the
    /// directory knows, its memberships (those that ended, too), and what the user has sent as the ledger
    /// keeps it, answers to its keys included (waiting messages do not go out any more). Of messages to
    /// several, its name goes from the ledger's lists of recipients, also where the message waits or is in no
    /// inbox any more; a message to nobody else goes as a whole. A channel that it made says of nobody that
    /// they made it ([`Channel::created_by`] is empty). What the user sent stays in the inboxes of those who
    /// received it, its sender's name with it, and sums of statistics stay: they are theirs, and say nothing of
    /// anybody.
    ///
    /// Once it is answered, nothing of that is left in any file or row, in free pages and logs of the store
    /// included (of PostgreSQL: see `store::postgres`). What was sent to the user before the call is gone; what
    /// is sent after it was answered makes a new inbox, with its first seq and without memberships; what comes
    /// in between is in one or the other as a whole. Once begun it is done, also by a process that is killed
    /// and started again; asking again is no error, and answers when it is done. Of a watch that goes on
    /// nothing is published until the inbox exists again, and then from its first seq on. Answers how many
    /// messages the inbox had; what only waited to be taken over from groups may not be among them.
    ///
    /// # Errors
    /// `Busy`, `NotWritable`, `Closing`.
    fn forget(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Forgets what is a tenant's and no user's: what was sent to groups and to everyone, what services and admins
    /// sent, as the ledger keeps it, what waits for its time, answers to keys, statistics, and what is left of
    /// groups that nobody is in. Users, and channels that are there, are forgotten one by one ([`Store::forget`],
    /// [`Directory::delete_channel`]), before or after. Asking again is no error. Of free pages and logs of files it
    /// goes with the next user who is forgotten.
    ///
    /// # Errors
    /// `NotWritable`, `Closing`; a part of it may be gone then.
    fn forget_tenant(&self, tenant: &TenantId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether writes are acknowledged now. Proves it by a write of its own if the last proof is
    /// older than a second.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// Finishes what was accepted, writes everything to its place and closes. Later calls answer
    /// `Closing`.
    fn close(&self) -> BoxFuture<'_, ()>;
}
