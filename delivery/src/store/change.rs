//! What happens in an inbox.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Body, DeviceId, MessageId, MessageState, PressedAction, Seq, Status, Time};

use super::InboxKey;
use crate::spans::{self, Traced};

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
    pub accepted: Option<Accepted>,
}

/// A change of this age is not on its way any more, it has come back from somewhere (an inbox that nobody looked
/// at for a week): how long that took says nothing about delivery.
const DELIVERY_AGE_MAX: Duration = Duration::from_secs(600);

/// When the store was asked for a change.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// By this node's own clock, which only goes forwards.
    pub at: Instant,
    /// The trace that this is a part of, where one is recorded.
    pub trace: Option<Arc<Traced>>,
}

impl Accepted {
    /// The store is being asked, by the running task.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), trace: spans::current() }
    }

    /// It was asked so long ago, as another clock has measured it; none for what can be no delivery.
    #[must_use]
    pub fn ago(age: Duration) -> Option<Self> {
        let at = Instant::now().checked_sub(age).filter(|_| age <= DELIVERY_AGE_MAX)?;
        Some(Self { at, trace: None })
    }
}

/// What a change is.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new message at the seq of its creation, or an edited one at the seq of the edit: with its
    /// state and content as of the read, so at the seq of its creation it may be read and edited by
    /// now.
    Message {
        /// The inbox's half.
        state: MessageState,
        /// The shared half.
        body: Arc<Body>,
    },
    /// A message's state changed; also what stands in place of a message that must not be shown any
    /// more (recalled, expired, collapsed).
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
    /// The button that was pressed, where that is the change.
    pub action: Option<PressedAction>,
}

impl StatusChange {
    /// A state that a message has now.
    #[must_use]
    pub fn new(message_id: MessageId, status: Status, at: Time) -> Self {
        Self { message_id, status, device: None, at, action: None }
    }
}

/// A message in an inbox.
#[derive(Clone, Debug)]
pub struct InboxMessage {
    /// The inbox's half.
    pub state: MessageState,
    /// The shared half.
    pub body: Arc<Body>,
    /// Buttons that were pressed, in the order of their index.
    pub pressed: Vec<Pressed>,
}

/// A button that was pressed. Each can be pressed once.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Pressed {
    /// Which, and its callback word.
    #[serde(flatten)]
    pub action: PressedAction,
    /// When.
    pub at: Time,
    /// On which device.
    pub device_id: Option<DeviceId>,
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

/// Whether a message of this status is shown, and may be marked and edited.
pub(crate) const fn is_live(status: Status) -> bool {
    matches!(status, Status::Unread | Status::Read | Status::Archived)
}
