//! What was sent, by whom, to whom: for the senders.
//!
//! # Contract
//! * **Scheduled messages are sent once.** At [`super::Outgoing::scheduled_at`] by the wall clock,
//!   give or take a second, or as soon as the store is open after it; in the order of the time and,
//!   at one time, of their priority, highest first. Groups are who is in them then. A million that
//!   wait cost no memory.
//! * **An answer is there if and only if its messages are.** See [`super::Batch::answer`].
//! * **Edits and recalls reach whoever received the message**, at a place of their own in each
//!   inbox, also those who are offline and those who have left the group since; nobody else.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageId, TenantId, Time, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Audience, BoxFuture, Pressed, SenderKey, StoreError};

/// The answer to a request with an `Idempotency-Key` (contract §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// Whose key it is: tenant and sender.
    pub tenant: TenantId,
    /// See `tenant`.
    pub sender: SenderKey,
    /// The key, 1 to 255 bytes.
    pub key: String,
    /// A hash of the request, to tell a repeat from another request.
    pub fingerprint: [u8; 32],
    /// What `data` of the answer was, as JSON.
    pub data: String,
    /// When.
    pub at: Time,
}

/// What has become of a message, for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SentState {
    /// It waits for its time.
    Scheduled,
    /// It is in the inboxes.
    Sent,
    /// It was cancelled before its time.
    Cancelled,
    /// It was taken back.
    Recalled,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// Its id.
    pub id: MessageId,
    /// Whose it is.
    pub sender: SenderKey,
    /// Who receives it.
    pub audience: Audience,
    /// What has become of it.
    pub state: SentState,
    /// When it was accepted.
    pub accepted_at: Time,
    /// When it is to be sent, where it was scheduled.
    pub scheduled_at: Option<Time>,
    /// When it was sent, if it was.
    pub sent_at: Option<Time>,
}

/// What became of a message at one recipient (contract §11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "RecipientReceipt")]
pub struct Receipt {
    /// Who.
    pub user_id: UserId,
    /// When it was stored for them.
    pub stored_at: Option<Time>,
    /// When a first device got it.
    pub delivered_at: Option<Time>,
    /// When a first device confirmed it.
    pub acked_at: Option<Time>,
    /// When it was read.
    pub read_at: Option<Time>,
    /// By device, those that got it.
    pub devices: Vec<DeviceReceipt>,
    /// Buttons that were pressed.
    pub actions: Vec<Pressed>,
}

impl Receipt {
    /// What is said of a recipient who does not have it, or not any more.
    pub(crate) const fn nothing_of(user_id: UserId) -> Self {
        Self {
            user_id,
            stored_at: None,
            delivered_at: None,
            acked_at: None,
            read_at: None,
            devices: Vec::new(),
            actions: Vec::new(),
        }
    }
}

/// What one device did with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceReceipt {
    /// Which.
    pub device_id: DeviceId,
    /// When the frame went to it.
    pub delivered_at: Option<Time>,
    /// When it confirmed it.
    pub acked_at: Option<Time>,
}

/// A page of receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptPage {
    /// In the order of the recipients' ids.
    pub receipts: Vec<Receipt>,
    /// Whether there are more after this page.
    pub more: bool,
}

/// Some of what a sender has sent.
#[derive(Clone, Debug, Default)]
pub struct SentPage {
    /// The messages.
    pub messages: Vec<SentMessage>,
    /// Where to go on; none where that was all.
    pub next: Option<MessageId>,
}

/// A message that waits for its time.
#[derive(Clone, Debug)]
pub struct WaitingMessage {
    /// What is known of it.
    pub message: SentMessage,
    /// What it says.
    pub body: Arc<Body>,
}

/// Where a page of waiting messages ended: a time and an id.
pub type WaitingPosition = (Time, MessageId);

/// Some of what waits.
#[derive(Clone, Debug, Default)]
pub struct WaitingPage {
    /// The messages.
    pub messages: Vec<WaitingMessage>,
    /// Where to go on; none where that was all.
    pub next: Option<WaitingPosition>,
}

/// What statistics are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsBy {
    /// The sending service; none for what people sent.
    Service,
    /// The template.
    Template,
    /// The message type.
    MessageType,
    /// The channel.
    Channel,
    /// The hour, UTC.
    Hour,
}

/// A question for statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsQuery {
    /// Of this tenant; none for all.
    pub tenant: Option<TenantId>,
    /// From the hour of this moment on.
    pub from: Time,
    /// Up to, and without, the hour of this moment.
    pub to: Time,
    /// One row for each of these.
    pub by: StatsBy,
    /// Only of this service.
    pub service: Option<String>,
}

/// Counts of messages sent in an hour, of whatever became of them since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsRow {
    /// The service, template … or hour; none where messages have none.
    pub key: Option<String>,
    /// Messages.
    pub sent: u64,
    /// Recipients that a first device delivered to.
    pub delivered: u64,
    /// Recipients that read it.
    pub read: u64,
    /// Milliseconds from sent to read, over all that read.
    pub read_ms: u64,
}

/// Keeps what was sent. The module's doc is the contract.
pub trait Ledger: Send + Sync + 'static {
    /// The answer that was stored for a key less than 24 h ago.
    fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<StoredAnswer>, StoreError>>;

    /// A message; none where it was never accepted, or is older than what is kept.
    fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<SentMessage>, StoreError>>;

    /// What a sender has sent as far as it is kept, each message once, in an order of the store's own, after
    /// where an earlier page ended: at most `limit`. What is sent meanwhile may be missing.
    ///
    /// There is no index by sender, which every send would pay for and nobody but an export asks for: a page
    /// looks at [`super::limits::SENT_LOOK_MAX`] messages of everybody. It may be short or empty, and not the
    /// last.
    fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<SentPage, StoreError>>;

    /// What waits for its time in a tenant, soonest first, after where an earlier page ended: at most `limit`. A
    /// page looks at [`super::limits::SENT_LOOK_MAX`] messages of all tenants: it may be short or empty, and not
    /// the last.
    fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> BoxFuture<'_, Result<WaitingPage, StoreError>>;

    /// What a message says now; none where nobody has it any more.
    fn sent_body(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<Arc<Body>>, StoreError>>;

    /// Gives a message another content, for all who received it, or, where it is scheduled, will.
    /// `over` is what the edit was made from, where that matters: somebody else may edit it too, on
    /// another node.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for one that was recalled or cancelled; `Raced`, and nothing is changed, where
    /// it does not say any more what it was edited over.
    fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes a message back. One that is scheduled is cancelled; one that was recalled stays so.
    ///
    /// # Errors
    /// `NotFound`.
    fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<SentState, StoreError>>;

    /// Takes a scheduled message back. One that was cancelled stays so.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for one that was sent.
    fn cancel(&self, tenant: &TenantId, id: &MessageId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Receipts, after a recipient, at most `limit`.
    ///
    /// # Errors
    /// `NotFound`.
    fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ReceiptPage, StoreError>>;

    /// Statistics: rows in the order of their keys, at most [`super::limits::STATS_ROWS_MAX`].
    /// After a crash the last seconds of them may be missing or counted twice.
    fn stats(&self, query: StatsQuery) -> BoxFuture<'_, Result<Vec<StatsRow>, StoreError>>;
}
