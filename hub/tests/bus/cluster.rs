//! Redis Cluster: sharded channels, slots that move, primaries that die.

use std::time::{Duration, Instant};

use hub::bus::{Bus, Doubt, State};

use crate::support::{SOON, eventually, node::Node};
use servers::RedisCluster;

const USERS: usize = 60;

fn user(n: usize) -> String {
    format!("user-{n}")
}

async fn attend_all(node: &Node) -> Vec<hub::bus::Attention> {
    let names: Vec<String> = (0..USERS).map(user).collect();
    futures_util::future::join_all(names.iter().map(|name| node.attend(name))).await
}

/// A change to each of the users arrives. Said again where it does not: a slot may be on its way, which is
/// then in doubt.
async fn all_reach(from: &Node, to: &Node, seq: u64) {
    let arrived = |n: &usize| to.ears.seqs(&user(*n)).contains(&seq);
    let began = Instant::now();
    for second in 1.. {
        let missing: Vec<usize> = (0..USERS).filter(|n| !arrived(n)).collect();
        if missing.is_empty() {
            return;
        }
        let state = || format!("{missing:?}\n{}\n{}", from.describe(), to.describe());
        assert!(began.elapsed() < SOON, "{}", state());
        missing.iter().for_each(|n| from.publish(&user(*n), seq));
        let deadline = began + Duration::from_secs(second);
        while Instant::now() < deadline && !missing.iter().all(arrived) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_shared_out_and_made_anew() {
    let cluster = RedisCluster::start().await;
    let (a, b) = (Node::up("a", &cluster.url()).await, Node::up("b", &cluster.url()).await);
    let _listening = attend_all(&b).await;
    all_reach(&a, &b, 1).await;
    for server in 0..3 {
        assert!(cluster.servers[server].sharded_channels() > USERS / 6);
        assert_eq!(cluster.servers[server].channels(), 0);
    }
    for server in &cluster.servers {
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
    eventually("each link is proven again", SOON, || b.ears.doubts(Doubt::Back) >= 6).await;
    b.is(State::Up, SOON).await;
    all_reach(&a, &b, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_and_subscriptions_with_them() {
    let cluster = RedisCluster::start().await;
    let (a, b) = (Node::up("a", &cluster.url()).await, Node::up("b", &cluster.url()).await);
    let _listening = attend_all(&b).await;
    all_reach(&a, &b, 1).await;
    cluster.move_slots((0, 2_700), 0, 1);
    eventually("b has followed", SOON, || b.ears.doubts(Doubt::Moved) > 0).await;
    b.is(State::Up, SOON).await;
    all_reach(&a, &b, 2).await;
    // All of a primary, which is then out of use; the topic of all nodes was there.
    cluster.move_slots((2_701, 5_460), 0, 2);
    let began = Instant::now();
    while !(b.bus.state() == State::Up && cluster.servers[0].sharded_channels() == 0) {
        if began.elapsed() > SOON {
            let nodes = cluster.servers[0].command(&["CLUSTER", "NODES"]);
            let channels = cluster.servers[0].command(&["PUBSUB", "SHARDCHANNELS"]);
            panic!("{nodes}\n{channels}\n{}\n{}", a.describe(), b.describe());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    all_reach(&a, &b, 3).await;
    // Said once, it may meet a's subscription on its way to the new primary: then a is in doubt when it is there.
    a.is(State::Up, SOON).await;
    let doubted = a.ears.doubts(Doubt::Moved);
    let heard = || a.ears.revoked.load(std::sync::atomic::Ordering::SeqCst) > 0;
    b.bus.revoked();
    eventually("a word for all nodes arrives, or is doubted", SOON, || {
        heard() || a.ears.doubts(Doubt::Moved) > doubted
    })
    .await;
    if !heard() {
        a.is(State::Up, SOON).await;
        b.bus.revoked();
        eventually("said again, it arrives", SOON, heard).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_primary_away_is_said_and_the_others_go_on() {
    let mut cluster = RedisCluster::start().await;
    let (a, b) = (Node::up("a", &cluster.url()).await, Node::up("b", &cluster.url()).await);
    for server in &cluster.servers {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let _listening = attend_all(&b).await;
    all_reach(&a, &b, 1).await;
    cluster.servers[2].kill();
    b.is(State::Down, SOON).await;
    let dead = cluster.servers[2].port.to_string();
    assert!(b.bus.why().unwrap().contains(&dead), "{:?}", b.bus.why());
    (0..USERS).for_each(|n| a.publish(&user(n), 2));
    let arrived = || (0..USERS).filter(|n| b.ears.seqs(&user(*n)).contains(&2)).count();
    eventually("those of the others arrive", SOON, || arrived() > USERS / 3).await;
    cluster.servers[2].restart().await;
    b.is(State::Up, Duration::from_secs(20)).await;
    a.is(State::Up, Duration::from_secs(20)).await;
    all_reach(&a, &b, 3).await;
}
