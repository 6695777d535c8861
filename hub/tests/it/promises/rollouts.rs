//! Promise 8: on SIGTERM a node turns unready, tells its sockets when to come back, finishes what it
//! accepted and exits 0 in time.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::workload::{Senders, check, users};
use crate::support::{TestServer, history::History};

const SOCKETS: usize = 60;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_rollouts_are_quiet() {
    let users = users(4);
    let history = Arc::new(History::default());
    let mut server = TestServer::builder().env("DRAIN_TIMEOUT", "15s").start().await;
    let service = server.service().await;
    let mut sockets = vec![];
    for n in 0..SOCKETS {
        let socket = server.socket(&users[n % users.len()]).device(&format!("d{n}"));
        sockets.push(socket.connect().await);
    }
    let senders = Senders::spawn(&history, &service, &users, 4);
    crate::support::eventually("sends are under way", || async { history.acked() > 50 }).await;

    let start = Instant::now();
    server.signal(libc::SIGTERM);
    let admin = server.as_admin();
    let unready = tokio::spawn(async move {
        // Ready until it knows, 503 then, gone at last; never ready again in between.
        let mut red = false;
        loop {
            let asked = admin.try_call(reqwest::Method::GET, "/health/ready", None).await;
            match asked.map(|answer| answer.status) {
                Ok(200) => assert!(!red, "ready again while draining"),
                Ok(503) => red = true,
                Ok(other) => panic!("readiness answers {other}"),
                Err(_) => return red,
            }
            tokio::task::yield_now().await;
        }
    });
    let mut delays = BTreeSet::new();
    for socket in &mut sockets {
        let closed = socket.closed_within(DRAIN_TIMEOUT).await;
        assert_eq!(closed.code, Some(1012));
        let (code, reconnect, after) = closed.told();
        assert_eq!((code, reconnect), (1012, true));
        delays.insert(after);
    }
    assert!(delays.len() > SOCKETS / 4, "not spread out: {delays:?}");
    let status = server.exited(DRAIN_TIMEOUT).await;
    let took = start.elapsed();
    assert_eq!(status.code(), Some(0), "after {took:?}");
    assert!(took < DRAIN_TIMEOUT, "{took:?}");
    assert!(unready.await.unwrap(), "it never said that it is draining");
    senders.ended().await;

    server.spawn().await;
    check(&history, &server, &users).await;
    println!("{} sends answered, gone in {took:?}", history.acked());
}
