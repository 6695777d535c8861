//! The bus with real Redis servers: what it does, and what it does when they fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod devices;
mod faults;
mod rights;
mod sentinel;
mod sockets;
mod support;
mod tls;
mod traffic;
