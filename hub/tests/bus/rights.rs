//! A user of Redis who may do what CLUSTER.md says it needs, and nothing else.

use hub::bus::{Bus, State};
use servers::{Redis, RedisCluster};

use crate::support::{SOON, node::Node};

const SINGLE: [&str; 6] = ["+HELLO", "+AUTH", "+ROLE", "+PUBLISH", "+SUBSCRIBE", "+UNSUBSCRIBE"];
const CLUSTER: [&str; 6] =
    ["+HELLO", "+AUTH", "+CLUSTER", "+SPUBLISH", "+SSUBSCRIBE", "+SUNSUBSCRIBE"];

/// Gives a user `hub` these rights, and those of the prefix of the tests.
fn allow(redis: &Redis, rights: &[&str]) {
    let who = ["ACL", "SETUSER", "hub", "reset", "on", ">secret", "&test:*"];
    let answer = redis.command(&[&who[..], rights].concat());
    assert!(answer.starts_with("+OK"), "{answer}");
}

fn as_hub(url: &str) -> String {
    url.replace("://", "://hub:secret@")
}

async fn work_together(url: &str) {
    let (a, b) = (Node::up("a", url).await, Node::up("b", url).await);
    let _ann = b.attend("ann").await;
    a.reaches(&b, "ann", 1).await;
    for node in [&a, &b] {
        assert_eq!(node.metric("pushhub_bus_reconnects_total{reason=\"refused\"}"), 0);
    }
    a.bus.close().await;
    b.bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_enough() {
    let redis = Redis::start().await;
    allow(&redis, &SINGLE);
    work_together(&as_hub(&redis.url())).await;
    let cluster = RedisCluster::start().await;
    cluster.servers.iter().for_each(|server| allow(server, &CLUSTER));
    work_together(&as_hub(&cluster.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said() {
    let redis = Redis::start().await;
    let url = as_hub(&redis.url());
    for missing in ["+PUBLISH", "+SUBSCRIBE"] {
        let rights: Vec<&str> = SINGLE.into_iter().filter(|right| *right != missing).collect();
        allow(&redis, &rights);
        let node = Node::start("a", &url);
        node.is(State::Down, SOON).await;
        let (why, command) = (node.bus.why().unwrap(), missing[1..].to_lowercase());
        assert!(why.contains("NOPERM") && why.contains(&command), "{why}");
    }
    // The channels of another prefix.
    allow(&redis, &SINGLE);
    redis.command(&["ACL", "SETUSER", "hub", "resetchannels", "&other:*"]);
    let node = Node::start("a", &url);
    node.is(State::Down, SOON).await;
    let why = node.bus.why().unwrap();
    assert!(why.contains("NOPERM") && why.contains("channels"), "{why}");
}
