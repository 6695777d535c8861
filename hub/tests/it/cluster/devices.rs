//! One device, and who is there, where nodes are several.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use protocol::{ClientFrame, ServerFrame};
use serde_json::json;
use servers::Redis;

use crate::{
    postgres,
    support::{
        Cluster, SOON, TestClient, TestServer, eventually, preload::WrongClock, socket::Event,
    },
};

/// A clock that was set wrong by hand, and one whose time zone was taken for UTC.
const AHEAD: [i64; 3] = [0, -600, 7_200];

/// As far as nodes agree about the time: they do not follow smaller differences of the database's clock.
const AGREE: Duration = Duration::from_millis(600);

/// How soon a node that was killed is taken for gone: it has been silent for 15 s, looked at each second.
const GONE_WITHIN: Duration = Duration::from_secs(17);

async fn bus_is(nodes: &[&TestServer], state: &str) {
    for node in nodes {
        eventually(&format!("the bus is {state}"), || async {
            node.as_admin().get("/health/ready").await.body["checks"]["bus"] == state
        })
        .await;
    }
}

async fn phone_at(node: &TestServer, user: &str) -> TestClient {
    node.socket(user).device("phone").connect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_on_another_node_replaces_itself() {
    let [a, b] = Cluster::new().nodes().await;
    let mut first = phone_at(&a, "ann").await;
    let mut tablet = a.socket("ann").device("tablet").connect().await;
    let mut second = phone_at(&b, "ann").await;
    assert_eq!(first.closed().await.code, Some(4509));
    let mut third = phone_at(&a, "ann").await;
    assert_eq!(second.closed().await.code, Some(4509));
    a.service().await.moved_to(b.user).send_to("ann", "hello").await.ok();
    for stays in [&mut third, &mut tablet] {
        assert_eq!(stays.next_message().await.fields.content, "hello");
    }
    eventually("two are left", || async {
        let list = b.as_admin().get("/api/v3/admin/connections").await.ok();
        list["total"] == 2
    })
    .await;
}

/// While nobody hears anybody, nodes have only their clocks to say which connection is the later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_connection_stays_however_wrong_the_clocks_are() {
    let mut redis = Redis::start().await;
    let cluster = Cluster::at(postgres::database(), redis.url());
    let clock = WrongClock::build();
    let starts =
        AHEAD.map(|ahead| cluster.node(&format!("node {ahead}")).envs(clock.env(ahead)).start());
    let nodes = futures_util::future::join_all(starts).await;
    let all: Vec<&TestServer> = nodes.iter().collect();
    bus_is(&all, "up").await;
    for node in &nodes {
        let listed = node.as_admin().get("/api/v3/admin/nodes").await.ok();
        let started = listed["nodes"][0]["started_at"].as_str().expect("started_at");
        let ago = Timestamp::now().duration_since(started.parse().unwrap());
        assert!(ago.as_secs().unsigned_abs() < 60, "{listed}");
    }
    redis.kill();
    bus_is(&all, "down").await;
    let orders = [("ann", 2, 0), ("bob", 2, 1), ("cid", 0, 2), ("dan", 1, 2)];
    let mut earlier = vec![];
    for (user, first, _) in orders {
        earlier.push(phone_at(&nodes[first], user).await);
    }
    // Two connections within the difference that is not followed may be taken for each other.
    tokio::time::sleep(AGREE).await;
    let mut later = vec![];
    for (user, _, second) in orders {
        later.push(phone_at(&nodes[second], user).await);
    }
    redis.restart().await;
    for (client, order) in earlier.iter_mut().zip(orders) {
        assert_eq!(client.closed().await.code, Some(4509), "{order:?}");
    }
    bus_is(&all, "up").await;
    for client in &mut later {
        client.ping().await;
    }
}

/// The next `presence`: user, whether here.
async fn presence(client: &mut TestClient, within: Duration) -> (String, bool) {
    loop {
        match client.event_within(within).await {
            Event::Frame(ServerFrame::Presence { user_id, online, .. }) => {
                return (user_id.to_string(), online);
            }
            Event::Frame(ServerFrame::SyncComplete { .. }) => {}
            other => panic!("not presence: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_a_channel_is_known_on_every_node_also_when_one_is_killed() {
    let [a, b, mut dies] = Cluster::new().nodes().await;
    let service = a.service().await;
    let channel = json!({"id": "ops", "name": "ops", "presence": true});
    service.post("/api/v3/channels", channel).await.ok();
    let members = json!({"join": ["ann", "bob", "cid"]});
    service.post("/api/v3/channels/ops/members", members).await.ok();
    let join = || ClientFrame::Join { channel_id: "ops".parse().unwrap() };
    let is = |user: &str, online| (user.to_owned(), online);
    let mut ann = a.connect("ann").await;
    ann.send(join()).await;
    assert_eq!(presence(&mut ann, SOON).await, is("ann", true));
    let mut bob = b.connect("bob").await;
    bob.send(join()).await;
    assert_eq!(presence(&mut ann, SOON).await, is("bob", true));
    let mut cid = dies.connect("cid").await;
    cid.send(join()).await;
    assert_eq!(presence(&mut ann, SOON).await, is("cid", true));
    // Who comes later is told of all.
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let (user, online) = presence(&mut bob, SOON).await;
        assert!(online, "{user}");
        seen.insert(user);
    }
    bob.close().await;
    assert_eq!(presence(&mut ann, SOON).await, is("bob", false));
    // Nobody says goodbye for those of a node that was killed.
    dies.kill_9().await;
    assert_eq!(presence(&mut ann, GONE_WITHIN).await, is("cid", false));
}
