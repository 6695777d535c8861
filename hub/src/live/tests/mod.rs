//! Whole connections over loopback, against a store in memory.

mod close;
mod deliver;
pub(crate) mod events;
mod handshake;
mod memory_store;
mod nodes;
pub(crate) mod pipe;
mod presence;
mod slow;
mod stream;
pub(crate) mod support;
