//! A primary that its sentinels replace.

use std::time::Duration;

use hub::bus::{Bus, Doubt, State};

use crate::support::{SOON, eventually, node::Node};
use servers::Redis;

/// The sentinel needs a second to miss the primary, and its own pauses to agree with itself.
const FAILOVER: Duration = Duration::from_secs(30);

/// How soon nodes leave a primary that another one replaced: looked at every two seconds, two seconds for the
/// answers, and a second to connect on a busy machine.
const LEFT_WITHIN: Duration = Duration::from_secs(5);

/// A primary, its replica, and a sentinel that knows both.
async fn trio() -> (Redis, Redis, Redis) {
    let primary = Redis::start().await;
    let replica = Redis::start_with(&["replicaof", &format!("127.0.0.1 {}", primary.port)]).await;
    eventually("the replica follows", SOON, || {
        replica.command(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let sentinel = Redis::start_sentinel("main", primary.port).await;
    eventually("the sentinel knows both", Duration::from_secs(20), || {
        let known = sentinel.command(&["SENTINEL", "replicas", "main"]);
        known.contains(&replica.port.to_string())
            && known.contains("master-link-status\r\n$2\r\nok")
    })
    .await;
    (primary, replica, sentinel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed() {
    let (mut primary, _replica, sentinel) = trio().await;
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port);
    let (a, b) = (Node::up("a", &url).await, Node::up("b", &url).await);
    let _ann = (a.attend("ann").await, b.attend("ann").await);
    a.reaches(&b, "ann", 1).await;
    primary.kill();
    a.is(State::Down, SOON).await;
    eventually("both are up again", FAILOVER, || {
        [&a, &b]
            .iter()
            .all(|node| node.bus.state() == State::Up && node.ears.doubts(Doubt::Back) > 1)
    })
    .await;
    a.reaches(&b, "ann", 1_000).await;
    b.reaches(&a, "ann", 1_000).await;
}

/// It stands still for too short a time for its nodes to notice, and takes itself for a primary afterwards, for
/// as long as its sentinels leave it alone. Nodes that stayed there would not hear those that have left.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_replaced_while_it_stood_still_is_left() {
    let (primary, replica, sentinel) = trio().await;
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let (a, b) = (Node::up("a", &url).await, Node::up("b", &url).await);
    let _ann = (a.attend("ann").await, b.attend("ann").await);
    primary.freeze();
    eventually("another one is chosen", FAILOVER, || replica.command(&["ROLE"]).contains("master"))
        .await;
    primary.thaw();
    let left = || [&a, &b].iter().all(|node| node.ears.doubts(Doubt::Back) > 1);
    eventually("both have left it", LEFT_WITHIN, left).await;
    a.reaches(&b, "ann", 1_000).await;
    b.reaches(&a, "ann", 1_000).await;
}

/// Sentinels and servers have passwords of their own; each is said to be wrong by whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_with_a_password_of_its_own() {
    let primary = Redis::start_with(&["requirepass", "of-the-server"]).await;
    let sentinel = Redis::start_sentinel_with("main", &primary, "of-the-sentinel").await;
    let url = |server: &str, query: &str| {
        format!("redis+sentinel://:{server}@127.0.0.1:{}/main{query}", sentinel.port)
    };
    let right = url("of-the-server", "?sentinel_password=of-the-sentinel");
    let (a, b) = (Node::up("a", &right).await, Node::up("b", &right).await);
    let _ann = b.attend("ann").await;
    a.reaches(&b, "ann", 1).await;
    let at_sentinel = format!("sentinel 127.0.0.1:{}: ", sentinel.port);
    let at_server = format!("127.0.0.1:{}: ", primary.port);
    for (wrong, whose) in [
        (url("of-the-server", ""), &at_sentinel),
        (url("of-the-server", "?sentinel_password=of-the-server"), &at_sentinel),
        (url("of-the-sentinel", "?sentinel_password=of-the-sentinel"), &at_server),
    ] {
        let node = Node::start("c", &wrong);
        node.is(State::Down, SOON).await;
        let why = node.bus.why().unwrap();
        assert!(why.starts_with(whose) && !why.contains("of-the"), "{why}");
    }
}
