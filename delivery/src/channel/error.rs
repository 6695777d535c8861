//! Why a channel cannot be had or changed.

use protocol::FieldProblem;

use super::ChannelRefusal;
use crate::store::{ChannelInfo, StoreError};

/// Why a channel cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// There is none of that id, or none that the caller may know of.
    #[error("there is no such channel")]
    NotFound,
    /// Fields of a request are not valid.
    #[error("the channel is not valid")]
    Invalid(Vec<FieldProblem>),
    /// Another channel has this id; this is it.
    #[error("there is a channel of this id already")]
    IdTaken(Box<ChannelInfo>),
    /// It has changed since; this is how it stands.
    #[error("the channel has changed since; its version is {}", .0.channel.version)]
    VersionConflict(Box<ChannelInfo>),
    /// A member of a closed channel wants to leave.
    #[error("only open channels can be left by oneself; ask whoever keeps this one")]
    Closed,
    /// The caller may not do this with channels, or not with this one.
    #[error(transparent)]
    Refused(#[from] ChannelRefusal),
    /// The tenant's quota is reached.
    #[error("the quota channels of this tenant is {0}; delete a channel")]
    Quota(u64),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}
