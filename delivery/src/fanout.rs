//! The one way out of this crate.

use protocol::TenantId;

use crate::store::Stored;

/// Hands stored changes on to whoever is connected. Best effort: the store is the truth.
///
/// Called after the changes are durable and after the store answers reads with them, once per
/// change, with the changes of one inbox in seq order. Changes of inboxes that nobody watches (see
/// [`crate::Store::watch`]) may be left out.
///
/// Not async and without a result: no slow socket, full queue or dead bus can fail or delay a send.
/// An implementation that cannot take a change drops it and counts it; whoever misses it sees the
/// hole in the seq, or the periodic check of [`crate::Store::heads`] finds it, and reads the store.
pub trait Fanout: Send + Sync + 'static {
    /// Offers the next changes of one inbox. `changes` is not empty, its seqs are contiguous.
    fn publish(&self, changes: &[Stored]);

    /// Whether changes of inboxes that nobody watches on this node are wanted too: their watchers may
    /// be on others, and a store that several nodes share does not know.
    fn wants_unwatched(&self) -> bool {
        false
    }

    /// What was sent to groups and everyone of a tenant now reaches to this position, see
    /// [`crate::store::postgres::PostgresStore::catch_up`]. Only called by stores that several nodes
    /// share: the others' watchers wait for it.
    fn advanced(&self, tenant: &TenantId, pos: u64) {
        let _ = (tenant, pos);
    }
}

/// A fan-out to nobody, for stores that are opened to be inspected or repaired.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _changes: &[Stored]) {}
}
