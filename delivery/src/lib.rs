//! The durable half of pushhub: how a message is accepted and stored, and who may ask.
//!
//! No socket and no Redis live here. What is stored is handed on through one trait, [`Fanout`],
//! which by its type can neither fail nor delay a send.
//!
//! Reading order: [`send`] (the path of a message), [`store`] (its contract and the backends),
//! [`fanout`], [`identity`] (who is asking), [`limit`] (how often),
//! [`template`], [`channel`], [`api`] (REST).

// The store's contract suite is written for who uses this crate.
#[cfg(test)]
extern crate self as delivery;

pub mod account;
pub mod admin;
pub mod api;
pub mod audit;
pub mod backup;
pub mod channel;
pub mod clock;
pub mod connections;
pub mod content;
pub mod control;
pub mod deletion;
pub mod fanout;
pub mod guard;
pub mod identity;
pub mod limit;
pub mod metrics;
mod migration;
pub mod move_in;
mod nearest;
pub mod networks;
mod object;
pub mod outbound;
pub mod preference;
mod problems;
pub mod provider;
pub mod search;
pub mod send;
pub mod settings;
pub mod spans;
mod sql;
pub mod store;
pub mod tail;
pub mod template;
pub mod webhook;
pub mod words;

pub use fanout::Fanout;
pub use migration::{Migrated, Tables};
pub use sql::Tls;
pub use store::{InboxKey, Store, StoreError};
