//! What a test needs to go in by the front door: a real process, REST clients, sockets, tokens.
//!
//! ```ignore
//! let server = TestServer::start().await;
//! let mut phone = server.connect("ann").await;
//! server.service().await.send_to("ann", "hello").await.ok();
//! assert_eq!(phone.next_message().await.fields.title, "hello");
//! ```

pub(crate) mod admins;
pub(crate) mod api;
pub(crate) mod browser;
pub(crate) mod bucket;
pub(crate) mod chromium;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod document;
pub(crate) mod download;
pub(crate) mod history;
pub(crate) mod hooks;
pub(crate) mod preload;
pub(crate) mod providers;
pub(crate) mod raw;
pub(crate) mod rsa_key;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod token;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub(crate) use api::{Answer, Api};
pub(crate) use cluster::Cluster;
pub(crate) use server::TestServer;
pub(crate) use socket::TestClient;
pub(crate) use token::Token;

/// How long anything may take that ought to be at once. Long, because the machine may be busy: a
/// test that passes never waits for it.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Waits until the answer is there; fails with `what` after `deadline`.
pub(crate) async fn eventually_within<T, F: Future<Output = Option<T>>>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until it is so; fails with `what` after [`SOON`].
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    eventually_within(what, SOON, || {
        let answer = ask();
        async { answer.await.then_some(()) }
    })
    .await;
}

/// A number from the environment, for the long forms of a test (`make kill9`).
pub(crate) fn rounds(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number"))
    })
}
