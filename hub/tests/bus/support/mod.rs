//! Redis servers, a proxy that harms, and nodes of a cluster in this process.

pub(crate) mod list_store;
pub(crate) mod node;
pub(crate) mod proxy;
pub(crate) mod redis;

use std::time::{Duration, Instant};

/// Longest wait for what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
