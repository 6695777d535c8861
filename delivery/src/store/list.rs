//! Lists of an inbox's messages (contract §11).

use protocol::{ChannelId, Seq, Time};

use super::{InboxMessage, MetadataIs};
use crate::search::{Highlight, Terms};

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
    /// Everything that is not archived, recalled, collapsed or expired.
    #[default]
    Inbox,
    /// Unread only.
    Unread,
    /// Read, not archived.
    Read,
    /// Archived only.
    Archived,
    /// Everything that is not recalled, collapsed or expired.
    All,
}

/// A list (contract §11).
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// States.
    pub status: StatusFilter,
    /// Recalled ones too, without their content.
    pub recalled: bool,
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
    /// Only with all of these in their metadata.
    pub metadata: Vec<MetadataIs>,
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

/// Unread messages of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    /// All of them; the sum of the others.
    pub total: u64,
    /// Those that were sent in no channel.
    pub direct: u64,
    /// By channel, those with any, in the order of their ids.
    pub channels: Vec<(ChannelId, u64)>,
}
