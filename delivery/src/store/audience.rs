//! Who receives a message, and who sent it.

use std::sync::Arc;

use protocol::{Body, ChannelId, RoleId, ServiceId, TenantId, Time, UserId};
use serde::{Deserialize, Serialize};

/// Users under one name.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Group {
    /// The members of a channel.
    Channel(ChannelId),
    /// Who carries a role; a department is the role `department:<name>`.
    Role(RoleId),
}

/// Who receives a message.
///
/// Users are named; groups are not resolved: who is in a group is decided by the store's order,
/// at the place of the message in it. However many its members, a group costs one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// These users and whoever is in one of these groups, each once. An inbox that was never seen
    /// begins with this message if it is named as a user.
    Some {
        /// Users.
        users: Arc<[UserId]>,
        /// Groups.
        groups: Arc<[Group]>,
    },
    /// Everybody in the tenant whose inbox exists now.
    Everyone,
}

impl Audience {
    /// These users and nobody else.
    #[must_use]
    pub fn users(users: Vec<UserId>) -> Self {
        Self::Some { users: users.into(), groups: Arc::new([]) }
    }

    /// One group and nobody else.
    #[must_use]
    pub fn group(group: Group) -> Self {
        Self::Some { users: Arc::new([]), groups: Arc::new([group]) }
    }
}

/// Whose a message is: who may edit, recall and cancel it, see its receipts, and be told of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SenderKey {
    /// A registered backend.
    Service(ServiceId),
    /// A person.
    User(UserId),
    /// The bearer of the admin token.
    Admin,
}

/// A message that was accepted and waits to be stored.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The wall.
    pub tenant: TenantId,
    /// Whose it is.
    pub sender: SenderKey,
    /// Who receives it.
    pub audience: Audience,
    /// The message.
    pub body: Arc<Body>,
    /// When it is to be sent; none for at once. See [`crate::store::Ledger`].
    pub scheduled_at: Option<Time>,
}

/// What is stored in one piece: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Messages, in order.
    pub items: Vec<Outgoing>,
    /// The answer to a request with an `Idempotency-Key`, found again by
    /// [`crate::store::Ledger::answer`] from the moment its messages are stored, and not before.
    pub answer: Option<crate::store::StoredAnswer>,
}

impl From<Vec<Outgoing>> for Batch {
    fn from(items: Vec<Outgoing>) -> Self {
        Self { items, answer: None }
    }
}
