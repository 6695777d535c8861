//! The API as a client sees it, over a store in memory.

mod admin;
mod envelope;
mod harness;
mod inbox;
mod limits;
pub(crate) mod memory;
mod sends;
mod templates;
mod webhooks;
