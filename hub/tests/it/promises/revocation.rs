//! Promise 7: revocation bites at once.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::{
    sessions::{Pair, log_in},
    support::{Api, Cluster, TestServer, eventually_within},
};

/// How soon it must bite (contract §2.7).
const BITES_WITHIN: Duration = Duration::from_secs(2);

/// Who loses what, and how.
struct Case {
    what: &'static str,
    /// Does it with the admin of a node, or as the user; answers when it is done.
    revoke: fn(&TestServer, &Pair) -> (Api, Method, String),
}

const CASES: [Case; 5] = [
    Case {
        what: "logout",
        revoke: |node, pair| {
            (node.api().bearer(&pair.access), Method::POST, "/api/v3/auth/logout".to_owned())
        },
    },
    Case {
        what: "the own session, ended",
        revoke: |node, pair| {
            let path = format!("/api/v3/auth/sessions/{}", pair.session);
            (node.api().bearer(&pair.access), Method::DELETE, path)
        },
    },
    Case {
        what: "forced logout of a device",
        revoke: |node, pair| {
            let path = format!("/api/v3/admin/sessions/{}", pair.session);
            (node.as_admin(), Method::DELETE, path)
        },
    },
    Case {
        what: "forced logout of a user",
        revoke: |node, _| {
            (node.as_admin(), Method::DELETE, "/api/v3/admin/sessions?user_id=ann".to_owned())
        },
    },
    Case {
        what: "a disabled user",
        revoke: |node, _| {
            (node.as_admin(), Method::POST, "/api/v3/admin/users/ann/disable".to_owned())
        },
    },
];

/// Has each thing revoked on one node and looks on another, which may be the same.
async fn bites(on: &TestServer, there: &TestServer) {
    for Case { what, revoke } in &CASES {
        let pair = log_in(on, "ann", "phone").await;
        let api = there.api().bearer(&pair.access);
        api.get("/api/v3/messages").await.ok();
        let mut socket = there.socket("ann").raw_token(&pair.access).connect().await;
        let bob = log_in(on, "bob", "phone").await;
        let mut neighbour = there.socket("bob").raw_token(&bob.access).connect().await;
        let (by, method, path) = revoke(on, &pair);
        by.call(method, &path, None).await.ok();
        let start = Instant::now();
        assert_eq!(socket.closed_within(BITES_WITHIN).await.code, Some(4501), "{what}");
        eventually_within(&format!("REST refuses after {what}"), BITES_WITHIN, || async {
            let status = api.get("/api/v3/messages").await.status;
            (status == 401 || status == 403).then_some(())
        })
        .await;
        println!("{what}: {:?}", start.elapsed());
        neighbour.ping().await;
        let enable = "/api/v3/admin/users/ann/enable";
        on.as_admin().call(Method::POST, enable, None).await.ok();
    }
    // An event stream is a connection like any other.
    let pair = log_in(on, "ann", "tablet").await;
    let api = there.api().bearer(&pair.access);
    eventually_within("ann may come in again", BITES_WITHIN, || async {
        (api.get("/api/v3/messages").await.status == 200).then_some(())
    })
    .await;
    let mut stream = there.stream("ann").raw_token(&pair.access).open().await;
    let start = Instant::now();
    on.api().bearer(&pair.access).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(stream.closed().await.told().0, 4501);
    assert!(start.elapsed() < BITES_WITHIN, "{:?}", start.elapsed());
    let service = on.create_service(json!({"id": "shop", "name": "shop"})).await.ok();
    let key = service["api_key"].as_str().unwrap();
    let shop = there.api().service_key(key);
    shop.send_to("ann", "one").await.ok();
    on.as_admin().post("/api/v3/admin/services/shop/suspend", Value::Null).await.ok();
    eventually_within("a suspended service is refused", BITES_WITHIN, || async {
        (shop.send_to("ann", "two").await.status == 403).then_some(())
    })
    .await;
    on.as_admin().post("/api/v3/admin/services/shop/activate", Value::Null).await.ok();
    let id = service["key"]["id"].as_str().unwrap();
    let path = format!("/api/v3/admin/services/shop/keys/{id}");
    on.as_admin().call(Method::DELETE, &path, None).await.ok();
    eventually_within("a key that was deleted is refused", BITES_WITHIN, || async {
        (shop.send_to("ann", "three").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_revocation_bites_at_once() {
    let server = TestServer::start().await;
    bites(&server, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_revocation_bites_at_once_on_every_node() {
    let redis = servers::Redis::start().await;
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("REDIS_URL", redis.url()).start();
    let (a, b) = tokio::join!(node("a"), node("b"));
    bites(&a, &b).await;
    // Also while nobody can tell the other node.
    drop(redis);
    bites_without_bus(&a, &b).await;
}

async fn bites_without_bus(on: &TestServer, there: &TestServer) {
    let pair = log_in(on, "ann", "phone").await;
    let mut socket = there.socket("ann").raw_token(&pair.access).connect().await;
    on.api().bearer(&pair.access).post("/api/v3/auth/logout", Value::Null).await.ok();
    assert_eq!(socket.closed_within(BITES_WITHIN).await.code, Some(4501));
    let api = there.api().bearer(&pair.access);
    api.get("/api/v3/messages").await.refused(401, "unauthorized");
}

/// Figures for `loadtest/RESULTS.md`: from before the request until the socket was closed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_soon_revocation_is_seen() {
    let cluster = Cluster::new();
    let (a, b) = tokio::join!(cluster.node("a").start(), cluster.node("b").start());
    for (what, there) in [("same node", &a), ("another node", &b)] {
        let mut idle = vec![];
        for n in 0..500 {
            idle.push(there.connect(&format!("idle-{n}")).await);
        }
        let mut took = vec![];
        for n in 0..500 {
            let pair = log_in(&a, &format!("user-{}", n % 50), "phone").await;
            let user = format!("user-{}", n % 50);
            let mut socket = there.socket(&user).raw_token(&pair.access).connect().await;
            let start = Instant::now();
            let path = format!("/api/v3/admin/sessions/{}", pair.session);
            let ended = tokio::spawn(async move { (socket.closed().await, Instant::now()) });
            a.as_admin().call(Method::DELETE, &path, None).await.ok();
            let (closed, at) = ended.await.unwrap();
            assert_eq!(closed.code, Some(4501));
            took.push(at - start);
        }
        took.sort_unstable();
        let [p50, p99, max] = [took[250], took[495], took[499]];
        println!(
            "{what}: 500 sessions ended, socket closed after p50 {p50:?} p99 {p99:?} max {max:?}"
        );
    }
}
