//! The product by its front door: REST in, WebSocket out, the real process, a real store.
//!
//! What contract §2 promises has a test of that name in `promises/`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod auth;
mod bad_input;
mod described;
mod history_checker;
mod lists;
mod operate;
mod promises;
mod rate_limits;
mod read_state;
mod send;
mod sockets;
mod stream;
mod support;
mod templates;
