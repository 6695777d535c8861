//! Redis and PostgreSQL as child processes, and a proxy that harms, for the tests and benches of the
//! other crates. Everything is in temporary folders on free ports, and ends with the process that started
//! it, however that ends.
//!
//! What cannot be started, or does not do what it is told, panics: it is a failed test, and nothing is
//! skipped.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "all of it panics where a test has to fail"
)]

mod certificates;
mod kept;
mod postgres;
mod proxy;
mod redis;
mod redis_cluster;

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub use self::{
    certificates::Certificates,
    postgres::{Exhausted, Postgres, aside, ask, copy_of, empty_database, value},
    proxy::Proxy,
    redis::Redis,
    redis_cluster::RedisCluster,
};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports that servers of tests get. Below those that systems give to outgoing connections (from 32,768 on Linux):
/// between the look and the server's start such a connection could take one.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many ports were tried by this process.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A port that is free now, and that nobody else in this process gets.
#[must_use]
pub fn free_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    // Other processes begin elsewhere.
    let first = (std::process::id().wrapping_mul(7_919) % u32::from(count)) as u16;
    for _ in 0..count {
        let next = TRIED.fetch_add(1, Ordering::Relaxed) % count;
        let port = PORTS.start + (first + next) % count;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {} to {}", PORTS.start, PORTS.end);
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
