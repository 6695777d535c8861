//! The one way out of this crate.

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
}

/// A fan-out to nobody, for stores that are opened to be inspected or repaired.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _changes: &[Stored]) {}
}
