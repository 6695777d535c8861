//! Which node of several sends for whom.
//!
//! Services are in [`SHARES`] shares, by a hash of their ids. A share belongs to one node at a time, which the
//! database says (`webhook_share`), and a node's shares are its own for as long as its lease lasts, which it
//! renews (`webhook_node`). So everything that holds of one node's sending holds of all of them together: an
//! event is under way once, an endpoint and a service have no more slots than one node gives them, and pauses
//! of endpoints that fail are kept.
//!
//! Shares and not endpoints: who sends for a thousand endpoints of a dead node is decided by the same few
//! rows as for one, and the limit of a service spans its endpoints.
//!
//! - Who should have a share is worked out by every node alike, from the names of the live ones
//!   ([`shares`], rendezvous hashing): one that comes or goes moves its own part and no other.
//! - Who has one and should not lets go of it when nothing of it is under way ([`keeper`]).
//! - A lease ends by the database's clock. Its node believes in it for [`Timing::margin`] less, by its own
//!   clock and counted from before it asked, and breaks off what is under way then ([`tenure`]). So nobody
//!   sends beside it. What was broken off, or sent and not yet written down, is sent again by the next owner.

mod keeper;
mod rows;
pub(super) mod shares;
pub(super) mod tenure;

use std::time::Duration;

pub use self::shares::SHARES;
pub(super) use self::{
    keeper::{Keeper, KeeperHandle, Told},
    tenure::Tenure,
};

/// How long after a node's last word its shares are given to others.
pub const LEASE: Duration = Duration::from_secs(15);

/// When things happen; tests are in more of a hurry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) lease: Duration,
    /// By how much a node ends its lease before the database does: more than what it takes to break
    /// attempts off, and than clocks drift apart in the time of a lease.
    pub(super) margin: Duration,
    /// How often the lease is renewed. Four in a row may fail.
    pub(super) renew: Duration,
    /// How often it is asked who is there, and whose shares are free.
    pub(super) members: Duration,
    /// How often it is asked what other nodes recorded and changed: one row, where nothing has. Until
    /// then an event that another node recorded waits.
    pub(super) look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: LEASE,
            margin: Duration::from_secs(2),
            renew: Duration::from_secs(3),
            members: Duration::from_secs(1),
            look: Duration::from_millis(250),
        }
    }
}
