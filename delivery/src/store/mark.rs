//! What a user does with messages.

use protocol::{MessageId, Seq, Status};
use serde::{Deserialize, Serialize};

use super::{Head, InboxMessage};

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
    /// [`super::StoreError::NotFound`].
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

/// What pressing a button did.
#[derive(Clone, Debug)]
pub struct Pressing {
    /// Whether it was pressed just now; false if it had been pressed before.
    pub first: bool,
    /// The message afterwards; `pressed` says who pressed it when.
    pub message: InboxMessage,
}
