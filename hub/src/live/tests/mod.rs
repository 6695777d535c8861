//! Whole connections over loopback, against a store in memory.

mod close;
mod deliver;
mod handshake;
mod slow;
pub(crate) mod support;
