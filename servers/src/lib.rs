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

use std::time::{Duration, Instant};

pub use self::{
    certificates::Certificates,
    postgres::{Exhausted, Postgres, aside, ask, copy_of, empty_database, value},
    proxy::Proxy,
    redis::Redis,
    redis_cluster::RedisCluster,
};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that is free now.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
