//! The product by its front door: REST in, WebSocket out, the real process, a real store.
//!
//! What contract §2 promises has a test of that name in `promises/`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod admin_logins;
mod admins;
mod after_sending;
mod alerts;
mod audit;
mod auth;
mod backup_jobs;
mod backups;
mod bad_input;
mod browser;
mod canaries;
mod channels;
mod chaos;
mod cluster;
mod console;
mod deletion;
mod described;
mod doctor;
mod export;
mod history_checker;
mod idempotency;
mod installed;
mod latency;
mod lists;
mod logins;
mod migrate;
mod operate;
mod own_login;
mod permissions;
#[path = "../../../delivery/tests/postgres/mod.rs"]
mod postgres;
mod preferences;
mod promises;
mod rate_limits;
mod read_state;
mod recipients;
mod restore;
mod retention;
mod schedule;
mod search;
mod send;
mod service_keys;
mod sessions;
mod sockets;
mod spans;
mod stats;
mod stream;
mod support;
mod templates;
mod token_keys;
mod webhooks;
