//! What goes from one store into another: rows as they stand in the columns of both.
//!
//! Both keep the same codes for statuses, states and kinds, the same texts for groups and senders, and the
//! same JSON for bodies, channels and what is known of users. So most of it need not be understood to be
//! moved.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId, Time};

use super::{Audience, SenderKey, SentState};

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row of a table.
pub(crate) type Cells = Vec<Cell>;

/// A message as far as it is kept once for all its recipients.
#[derive(Clone, Debug)]
pub(crate) struct SentBody {
    pub(crate) tenant: TenantId,
    pub(crate) id: MessageId,
    /// What it says; none where nobody has it any more.
    pub(crate) body: Option<Arc<Body>>,
    /// Whose it is; none where that is forgotten, and nobody may change it any more.
    pub(crate) sender: Option<SenderKey>,
    pub(crate) audience: Audience,
    pub(crate) state: SentState,
    pub(crate) accepted_at: Time,
    pub(crate) scheduled_at: Option<Time>,
    pub(crate) sent_at: Option<Time>,
    /// Its place among what was sent to groups, where it was.
    pub(crate) place: Option<u64>,
}
