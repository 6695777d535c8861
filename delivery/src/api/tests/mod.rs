//! The API as a client sees it, over the real store.

mod admin;
mod channels;
mod envelope;
mod export;
mod harness;
mod idempotency;
mod inbox;
mod limits;
mod sends;
pub(crate) mod store;
mod templates;
mod tenants;
mod users;
mod webhooks;
