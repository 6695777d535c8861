//! What goes over a bus that is well.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use hub::bus::{Bus, Doubt, State};
use protocol::{
    Seq,
    envelope::{BODY_BYTES_MAX, Spent, VERSION},
};

use crate::support::{
    SOON, eventually,
    node::{Node, change, inbox},
};
use servers::Redis;

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_in_order_and_by_interest_only() {
    const CHANGES: u64 = 2_000;
    let redis = Redis::start().await;
    let (a, b, c) = (
        Node::up("a", &redis.url()).await,
        Node::up("b", &redis.url()).await,
        Node::up("c", &redis.url()).await,
    );
    let _listening = (b.attend("ann").await, b.attend("王伟").await, c.attend("ann").await);
    for seq in 1..=CHANGES {
        a.publish("ann", seq);
        a.publish("王伟", seq);
        a.publish("nobody", seq);
    }
    eventually("all arrive", SOON, || b.ears.count() == 2 * CHANGES && c.ears.count() == CHANGES)
        .await;
    let all: Vec<u64> = (1..=CHANGES).collect();
    for (node, user) in [(&b, "ann"), (&b, "王伟"), (&c, "ann")] {
        assert_eq!(node.ears.seqs(user), all);
    }
    let changes = b.ears.changes.lock();
    assert_eq!(changes[&inbox("ann")][6], (7, "ann 7".to_owned()));
    assert_eq!(changes.len(), 2);
    assert_eq!(a.ears.count(), 0);
    // What arrives from others is counted, and what comes back to its sender is not.
    assert_eq!(b.metric("pushhub_bus_received_total{kind=\"changes\"}"), 2 * CHANGES);
    assert_eq!(a.metric("pushhub_bus_published_total{kind=\"changes\"}"), 3 * CHANGES);
    assert_eq!(a.metric("pushhub_bus_dropped_total{reason=\"queue_full\"}"), 0);
    for node in [&a, &b, &c] {
        assert_eq!(node.ears.doubts.lock()[..], [Doubt::Back]);
        assert_eq!(node.metric("pushhub_bus_state{state=\"up\"}"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_itself_as_little_as_a_stranger() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _listening = (a.attend("ann").await, b.attend("ann").await);
    a.publish("ann", 1);
    redis.command(&["PUBLISH", "test:{p65}:u:default\u{1f}ann", "hello"]);
    redis.command(&["PUBLISH", "test:{p65}:u:default\u{1f}ann", "\u{5}\u{1}"]);
    eventually("b hears", SOON, || b.ears.count() == 1).await;
    let strange = "pushhub_bus_passed_over_total{reason=\"malformed\"}";
    eventually("it is passed over", SOON, || a.metric(strange) == 2).await;
    assert!(a.ears.doubts(Doubt::Hole) > 0);
    assert_eq!(a.ears.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_for_all_nodes_and_tenants() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _ann = b.attend("ann").await;
    a.bus.publish_group(&inbox("x").tenant, 41);
    a.bus.publish_group(&"other".parse().unwrap(), 42);
    a.bus.publish_group(&inbox("x").tenant, 43);
    let spent = Spent { scope: 2, key: u64::MAX, nanos: 50_000_000 };
    a.bus.spent(vec![spent]);
    a.bus.revoked();
    eventually("the last arrives", Duration::from_secs(2), || {
        b.ears.revoked.load(Ordering::SeqCst) == 1
    })
    .await;
    eventually("groups", SOON, || b.ears.groups.lock().len() == 2).await;
    assert_eq!(b.ears.groups.lock().iter().map(|group| group.1).collect::<Vec<_>>(), [41, 43]);
    assert_eq!(b.ears.spent.lock()[..], [spent]);
    assert_eq!(a.ears.revoked.load(Ordering::SeqCst), 0);
    assert!(a.ears.spent.lock().is_empty());
    eventually("they know each other", SOON, || {
        a.bus.peers().len() == 1 && b.bus.peers().len() == 1
    })
    .await;
    assert_eq!(b.bus.peers()[0].node.as_str(), "a");
    a.bus.close().await;
    eventually("b knows that a has gone", SOON, || b.bus.peers().is_empty()).await;
    assert_eq!(b.ears.doubts(Doubt::Silent), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_looked_up() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _ann = b.attend("ann").await;
    let large = "x".repeat(BODY_BYTES_MAX);
    a.bus.publish(&[change("ann", 1, "one"), change("ann", 2, &large), change("ann", 3, "three")]);
    eventually("it arrives", SOON, || b.ears.seqs("ann") == [1, 3]).await;
    assert_eq!(b.ears.in_store.lock()[..], [(inbox("ann"), Seq(2))]);
    let many: Vec<_> = (4..1_004).map(|seq| change("ann", seq, "many")).collect();
    a.bus.publish(&many);
    eventually("all arrive", SOON, || b.ears.count() == 1_002).await;
    assert_eq!(b.ears.seqs("ann")[2..], (4..1_004).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_asked_for_and_told() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let (tenant, channel) = (inbox("x").tenant, "team".parse().unwrap());
    let users = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let elsewhere = |node: &Node| {
        let elsewhere = node.ears.elsewhere.lock();
        elsewhere.values().flatten().map(ToString::to_string).collect::<Vec<_>>()
    };
    *a.ears.here.lock() = users(&["ann", "bob"]);
    a.bus.channel_opened(&tenant, &channel);
    b.bus.channel_opened(&tenant, &channel);
    eventually("b is told who is there", SOON, || elsewhere(&b) == ["ann", "bob"]).await;
    a.bus.presence(&tenant, &channel, users(&["cid"]), users(&["ann"]));
    eventually("b is told who came and left", SOON, || elsewhere(&b) == ["bob", "cid"]).await;
    a.bus.close().await;
    eventually("nobody is there any more", SOON, || elsewhere(&b).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_part_clusters() {
    let redis = Redis::start().await;
    let a = Node::up("a", &redis.url()).await;
    let other = Node::start_config(hub::bus::RedisConfig {
        address: redis.url().parse().unwrap(),
        ca: None,
        prefix: "other".to_owned(),
        node: "b".parse().unwrap(),
        secrets: None,
        clock: delivery::clock::WallClock::default(),
        spans: delivery::spans::Spans::default(),
    });
    other.is(State::Up, SOON).await;
    let _ann = (other.attend("ann").await, a.attend("ann").await);
    let third = Node::up("c", &redis.url()).await;
    third.reaches(&a, "ann", 1).await;
    assert_eq!(other.ears.count(), 0);
    assert!(other.bus.peers().is_empty());
}

/// A rollout to a version that says things anew: what the newer node stores is looked for in the store.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_says_is_doubted_now_and_then() {
    let redis = Redis::start().await;
    let node = Node::up("a", &redis.url()).await;
    let _ann = node.attend("ann").await;
    let channels = redis.command(&["PUBSUB", "CHANNELS", "test:*:u:*"]);
    let channel = channels.lines().find(|line| line.starts_with("test:")).expect("of ann");
    let golden = include_bytes!("../../../protocol/testdata/envelope/changes_message.msgpack");
    let mut newer = golden.to_vec();
    assert_eq!(u64::from(newer[1]), VERSION, "the second byte is the version");
    newer[1] += 1;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut publisher = client.get_multiplexed_async_connection().await.unwrap();
    let began = Instant::now();
    for seen in 1..=2 {
        let before = node.metric("pushhub_bus_passed_over_total{reason=\"version\"}");
        for _ in 0..20 {
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(channel).arg(&newer[..]);
            let heard: u64 = publish.query_async(&mut publisher).await.unwrap();
            assert_eq!(heard, 1);
        }
        eventually("each is counted", SOON, || {
            node.metric("pushhub_bus_passed_over_total{reason=\"version\"}") == before + 20
        })
        .await;
        eventually("doubt", SOON, || node.ears.doubts(Doubt::Newer) == seen).await;
    }
    // Twice, for all of them, and five seconds between.
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!(node.ears.count(), 0);
}
