//! Redis fails in the ways it can; each is noticed, made good for, and said.

use std::time::{Duration, Instant};

use hub::bus::{Bus, Doubt, State};

use crate::support::{
    SOON, eventually,
    node::{Node, change},
};
use servers::{Proxy, Redis};

/// A silent bus is noticed within this: 4.5 s (CLUSTER.md), and half a second for a busy machine.
const NOTICED: Duration = Duration::from_secs(5);

/// Two nodes by way of a proxy and without, each listening to `ann`, and traffic from one to the other.
async fn pair(a_url: &str, b_url: &str) -> (Node, Node, [hub::bus::Attention; 2]) {
    let (a, b) = (Node::up("a", a_url).await, Node::up("b", b_url).await);
    let listening = [a.attend("ann").await, b.attend("ann").await];
    a.reaches(&b, "ann", 1).await;
    (a, b, listening)
}

/// Both are up again, in doubt of what was, and hear each other.
async fn well_again(a: &Node, b: &Node, doubts: [usize; 2]) {
    for (node, before) in [(a, doubts[0]), (b, doubts[1])] {
        node.is(State::Up, SOON).await;
        eventually("doubt", SOON, || node.ears.doubts(Doubt::Back) > before).await;
    }
    a.reaches(b, "ann", 10_000).await;
    b.reaches(a, "ann", 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_empty() {
    let mut redis = Redis::start().await;
    let (a, b, _listening) = pair(&redis.url(), &redis.url()).await;
    redis.kill();
    a.is(State::Down, NOTICED).await;
    b.is(State::Down, NOTICED).await;
    assert!(a.bus.why().is_some());
    // What is stored meanwhile is kept for the others, and who connects does not wait.
    let began = Instant::now();
    let _bob = b.attend("bob").await;
    assert!(began.elapsed() < Duration::from_millis(500));
    for seq in 1..=100 {
        a.publish("bob", seq);
    }
    redis.restart().await;
    well_again(&a, &b, [1, 1]).await;
    let _heard = b.ears.seqs("bob");
    a.reaches(&b, "bob", 101).await;
    assert!(a.metric("pushhub_bus_resubscribed_total") > 0);
    assert!(a.metric("pushhub_bus_reconnects_total{reason=\"broken\"}") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_thawed() {
    let redis = Redis::start().await;
    let (a, b, _listening) = pair(&redis.url(), &redis.url()).await;
    redis.freeze();
    let frozen = Instant::now();
    a.is(State::Down, NOTICED).await;
    b.is(State::Down, NOTICED.saturating_sub(frozen.elapsed())).await;
    redis.thaw();
    well_again(&a, &b, [1, 1]).await;
    assert!(a.metric("pushhub_bus_reconnects_total{reason=\"silent\"}") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_killed() {
    let redis = Redis::start().await;
    let (a, b, _listening) = pair(&redis.url(), &redis.url()).await;
    for round in 1..=3 {
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        well_again(&a, &b, [round, round]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed() {
    let redis = Redis::start().await;
    let (a, b, _listening) = pair(&redis.url(), &redis.url()).await;
    redis.command(&["FLUSHALL"]);
    a.reaches(&b, "ann", 1_000).await;
    assert_eq!(a.ears.doubts.lock()[..], [Doubt::Back]);
    assert_eq!(a.bus.state(), State::Up);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password() {
    let redis = Redis::start_with(&["requirepass", "right"]).await;
    let node = Node::start("a", &redis.url().replace("right", "wrong"));
    node.is(State::Down, SOON).await;
    let why = node.bus.why().unwrap();
    assert!(why.contains("password") && !why.contains("wrong"), "{why}");
    // It may be put right on the other side.
    redis.command(&["CONFIG", "SET", "requirepass", "wrong"]);
    node.is(State::Up, SOON).await;
    assert_eq!(node.bus.why(), None);
    let none = Node::start("b", &format!("redis://127.0.0.1:{}", redis.port));
    none.is(State::Down, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_refused() {
    let redis = Redis::start().await;
    let node = Node::up("a", &redis.url()).await;
    let replica = Redis::start_with(&["replicaof", &format!("127.0.0.1 {}", redis.port)]).await;
    let other = Node::start("b", &replica.url());
    other.is(State::Down, SOON).await;
    assert!(other.bus.why().unwrap().contains("replica"), "{:?}", other.bus.why());
    // And a primary that becomes one is left.
    redis.command(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    node.is(State::Down, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_cut_off_without_a_word() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let (a, b, _listening) = pair(&redis.url(), &proxy.redis_url()).await;
    proxy.swallow(true);
    let swallowed = Instant::now();
    for seq in 1_000..1_010 {
        a.publish("ann", seq);
    }
    b.is(State::Down, NOTICED).await;
    assert!(swallowed.elapsed() >= Duration::from_millis(500));
    // The other hears nothing of it any more, and says so.
    eventually("a finds b silent", SOON, || a.ears.doubts(Doubt::Silent) > 0).await;
    assert_eq!(a.bus.state(), State::Up);
    eventually("b is in doubt while it is away", SOON, || b.ears.doubts(Doubt::Away) > 0).await;
    proxy.swallow(false);
    proxy.cut();
    well_again(&a, &b, [0, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_again_and_again() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let (a, b, _listening) = pair(&proxy.redis_url(), &redis.url()).await;
    for round in 1..=5 {
        proxy.cut();
        eventually("doubt", SOON, || a.ears.doubts(Doubt::Back) > round).await;
    }
    well_again(&a, &b, [5, 0]).await;
    assert_eq!(b.ears.doubts(Doubt::Back), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_over_its_buffer_limit() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let (a, b, _listening) = pair(&redis.url(), &proxy.redis_url()).await;
    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 32kb 1"]);
    let before = b.ears.doubts(Doubt::Back);
    let subscribers =
        || redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).matches("addr=").count() / 2;
    assert_eq!(subscribers(), 2);
    proxy.hold(true);
    let text = "x".repeat(20_000);
    let mut seq = 1_000;
    // More than what sockets take is more than the limit of the server.
    eventually("the server closes the connection", SOON, || {
        for _ in 0..20 {
            a.bus.publish(&[change("ann", seq, &text)]);
            seq += 1;
        }
        subscribers() < 2
    })
    .await;
    proxy.hold(false);
    eventually("doubt", SOON, || b.ears.doubts(Doubt::Back) > before).await;
    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"]);
    b.is(State::Up, SOON).await;
    a.reaches(&b, "ann", 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_queue_is_counted_and_others_are_told() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let (b, a, _listening) = pair(&redis.url(), &proxy.redis_url()).await;
    proxy.swallow(true);
    a.is(State::Down, NOTICED).await;
    let text = "x".repeat(30_000);
    for seq in 1_000..2_000 {
        a.bus.publish(&[change("ann", seq, &text)]);
    }
    assert!(a.metric("pushhub_bus_dropped_total{reason=\"queue_full\"}") > 100);
    proxy.swallow(false);
    proxy.cut();
    a.is(State::Up, SOON).await;
    eventually("b is told", SOON, || b.ears.doubts(Doubt::Lost) > 0).await;
    eventually("the queue is empty", SOON, || a.metric("pushhub_bus_queue_bytes") == 0).await;
    assert_eq!(b.bus.state(), State::Up);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_users_are_listened_to_again() {
    const USERS: usize = 10_000;
    let redis = Redis::start().await;
    let (a, b, _listening) = pair(&redis.url(), &redis.url()).await;
    let users: Vec<String> = (0..USERS).map(|n| format!("user-{n}")).collect();
    let waits = users.iter().map(|user| b.attend(user));
    let _all = futures_util::future::join_all(waits).await;
    eventually("all are confirmed", SOON, || redis.channels() > USERS).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    eventually("doubt", SOON, || b.ears.doubts(Doubt::Back) > 1).await;
    b.is(State::Up, SOON).await;
    let before = b.ears.count();
    users.iter().for_each(|user| a.publish(user, 1));
    eventually("all arrive", SOON, || b.ears.count() - before >= USERS as u64).await;
}
