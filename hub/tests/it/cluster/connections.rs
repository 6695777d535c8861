//! Connections of all nodes, seen and ended by an admin on any of them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use http::Method;
use protocol::{Codec, ServerFrame};
use serde_json::{Value, json};

use crate::support::{Api, Cluster, SOON, TestServer, Token, eventually, eventually_within};

const CONNECTIONS: &str = "/api/v3/admin/connections";
const NODES: &str = "/api/v3/admin/nodes";

/// How soon a disconnect bites (contract §2.7).
const BITES_WITHIN: Duration = Duration::from_secs(2);

/// The answers of a list: those on the page, and `meta`.
async fn listed(api: &Api, query: &str) -> (Vec<Value>, Value, Value) {
    let answer = api.get(&format!("{CONNECTIONS}?{query}")).await;
    let meta = answer.body["meta"].clone();
    let data = answer.ok();
    let page = data["connections"].as_array().unwrap().clone();
    (page, data["total"].clone(), meta)
}

async fn delete(api: &Api, path: &str) -> crate::support::Answer {
    api.call(Method::DELETE, &format!("{CONNECTIONS}{path}"), None).await
}

/// Waits until a node hears so many others.
async fn hears(server: &TestServer, others: usize) {
    eventually("the other nodes are heard", || async {
        let nodes = server.as_admin().get(NODES).await.ok();
        let nodes = nodes["nodes"].as_array().unwrap();
        nodes.len() == others + 1 && nodes.iter().all(|node| node["bus"] == "up")
    })
    .await;
}

fn admin_of(tenant: &str) -> Token {
    Token::of("root").claim("roles", json!(["system_admin"])).claim("tenant_id", tenant)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sees_and_ends_connections_of_all_nodes_and_of_the_own_tenant_only() {
    let cluster = Cluster::new();
    let part = |name: &str, role: &str| cluster.node(name).env("PUSHHUB_ROLE", role).start();
    // The node that is asked holds no connections.
    let (a, b, admin) = tokio::join!(part("a", "all"), part("b", "hub"), part("c", "admin"));
    hears(&admin, 2).await;
    let mut phone = a.socket("ann").device("phone").query("device_type", "mobile").connect().await;
    let mut tablet = b.socket("ann").device("tablet").codec(Codec::MsgPack).connect().await;
    let _bob = b.stream("bob").open().await;
    let mut other =
        b.socket("ann").token(Token::of("ann").claim("tenant_id", "t2")).connect().await;
    a.service().await.send_to("ann", "hello").await.ok();
    phone.next_message().await;
    phone.ack(1).await;
    phone.ping().await;
    tablet.next_message().await;

    let api = admin.as_admin();
    let (all, total, meta) = listed(&api, "").await;
    assert_eq!((all.len(), &total, &meta["missing_nodes"]), (4, &json!(4), &json!([])));
    assert_eq!(meta["complete"], true);
    let began: Vec<&str> = all.iter().map(|one| one["connection_id"].as_str().unwrap()).collect();
    assert!(began.is_sorted(), "{began:?}");
    assert_eq!(began[0], phone.welcome.connection_id.as_str());
    let mut shown = all[0].clone();
    let at: jiff::Timestamp = shown["connected_at"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().as_second() - at.as_second() < 60);
    shown["connected_at"] = Value::Null;
    assert_eq!(
        shown,
        json!({
            "connection_id": began[0], "user_id": "ann", "tenant_id": "default",
            "device_id": "phone", "device_type": "mobile", "app_version": "", "node_id": "a",
            "transport": "websocket", "codec": "json", "address": "127.0.0.1",
            "connected_at": null, "last_seq": 1, "acked_seq": 1, "queued_bytes": 0,
            "catching_up": false,
        })
    );
    assert_eq!((&all[1]["codec"], &all[1]["acked_seq"]), (&json!("msgpack"), &json!(0)));
    assert_eq!((&all[2]["transport"], &all[2]["user_id"]), (&json!("sse"), &json!("bob")));

    // Page by page it is the same.
    let (mut paged, mut cursor) = (vec![], String::new());
    loop {
        let (page, total, meta) = listed(&api, &format!("size=1&cursor={cursor}")).await;
        assert_eq!((page.len(), total), (1, json!(4)));
        paged.extend(page);
        match meta["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(paged, all);
    for (query, count) in [
        ("user_id=ann", 3),
        ("user_id=ann&tenant_id=t2", 1),
        ("node_id=a", 1),
        ("node_id=b&user_id=ann", 2),
        ("node_id=nobody", 0),
        ("user_id=nobody", 0),
    ] {
        let (page, total, meta) = listed(&api, query).await;
        assert_eq!((page.len(), total), (count, json!(count)), "{query}");
        assert_eq!(meta["missing_nodes"], json!([]), "{query}");
    }

    // The wall: another tenant's admin neither sees nor ends what is not theirs.
    let theirs = admin.as_admin().without_credentials().bearer(&admin_of("t2").sign());
    let (page, total, _) = listed(&theirs, "").await;
    assert_eq!((page.len(), total), (1, json!(1)));
    assert_eq!(page[0]["connection_id"], other.welcome.connection_id.as_str());
    theirs.get(&format!("{CONNECTIONS}?tenant_id=default")).await.refused(422, "invalid");
    delete(&theirs, &format!("/{}", began[0])).await.refused(404, "not_found");
    let none = delete(&theirs, "?user_id=bob").await.ok();
    assert_eq!(none["disconnected"], 0);
    theirs.get(NODES).await.refused(403, "forbidden");
    phone.ping().await;

    // One, wherever it is; told to come back or not.
    let start = Instant::now();
    let path = format!("/{}?reconnect=true", phone.welcome.connection_id);
    assert_eq!(delete(&api, &path).await.ok()["disconnected"], 1);
    let closed = phone.closed().await;
    assert_eq!((closed.code, closed.told().1), (Some(1012), true));
    delete(&api, &format!("/{}", phone.welcome.connection_id)).await.refused(404, "not_found");
    // All of a user, on two nodes, and not of the same name behind another wall.
    let mut phone = a.socket("ann").device("phone").connect().await;
    assert_eq!(
        delete(&api, "?user_id=ann").await.ok(),
        json!({"disconnected": 2, "missing_nodes": [], "complete": true})
    );
    for device in [&mut phone, &mut tablet] {
        let closed = device.closed().await;
        assert_eq!((closed.code, closed.told()), (Some(4502), (4502, false, 0)));
    }
    assert!(start.elapsed() < BITES_WITHIN, "{:?}", start.elapsed());
    other.ping().await;
    eventually("nothing is left but what was not meant", || async {
        listed(&api, "").await.1 == json!(2)
    })
    .await;

    let nodes = api.get(NODES).await.ok();
    let nodes = nodes["nodes"].as_array().unwrap();
    let shown: Vec<_> = nodes
        .iter()
        .map(|node| (node["node_id"].as_str().unwrap(), node["role"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("c", "admin"), ("a", "all"), ("b", "hub")]);
    assert_eq!(
        (&nodes[0]["connections"], &nodes[0]["silent_for_ms"]),
        (&json!(null), &json!(null))
    );
    assert!(nodes[1]["silent_for_ms"].as_u64().unwrap() < 4_000);
    assert!(nodes.iter().all(|node| node["draining"] == false && node["version"].is_string()));
    eventually("the others say how many they hold", || async {
        let nodes = api.get(NODES).await.ok();
        (&nodes["nodes"][1]["connections"], &nodes["nodes"][2]["connections"])
            == (&json!(0), &json!(2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_is_named_and_does_what_it_was_told_when_it_goes_on() {
    let cluster = Cluster::new();
    let [a, b] = cluster.nodes().await;
    hears(&a, 1).await;
    let _here = a.connect("ann").await;
    let mut there = b.connect("bob").await;
    let api = a.as_admin();
    assert_eq!(listed(&api, "").await.1, json!(2));
    b.freeze().await;
    let start = Instant::now();
    let (page, total, meta) = listed(&api, "").await;
    assert_eq!((page.len(), total, &meta["missing_nodes"]), (1, json!(1), &json!(["b"])));
    assert!(start.elapsed() < BITES_WITHIN, "{:?}", start.elapsed());
    // Not "there is none": it may be on the node that does not answer.
    let unknown = delete(&api, "/00000000000000000000000000000000").await;
    assert!(unknown.refused(503, "unavailable").contains('b'));
    let told = delete(&api, "?user_id=bob").await.ok();
    assert_eq!(told, json!({"disconnected": 0, "missing_nodes": ["b"], "complete": false}));
    eventually("it is silent", || async {
        let nodes = api.get(NODES).await.ok();
        nodes["nodes"][1]["bus"] == "silent"
    })
    .await;
    b.signal(libc::SIGCONT);
    assert_eq!(there.closed().await.code, Some(4502));
    eventually("it answers again", || async {
        let (page, _, meta) = listed(&api, "").await;
        page.len() == 1 && meta["missing_nodes"] == json!([])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_away_is_no_empty_cluster() {
    let redis = servers::Redis::start().await;
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("REDIS_URL", redis.url()).start();
    let (a, b) = tokio::join!(node("a"), node("b"));
    hears(&a, 1).await;
    let _there = b.connect("bob").await;
    assert_eq!(listed(&a.as_admin(), "").await.1, json!(1));
    let url = redis.url();
    drop(redis);
    eventually("the other node is missing, and nobody waits for it", || async {
        let start = Instant::now();
        let (page, _, meta) = listed(&a.as_admin(), "").await;
        page.is_empty() && meta["missing_nodes"] == json!(["b"]) && start.elapsed() < SOON / 20
    })
    .await;
    // One that has never heard of another knows that it does not know.
    let c = cluster.node("c").env("REDIS_URL", url).start().await;
    let (page, _, meta) = listed(&c.as_admin(), "").await;
    assert_eq!((page.len(), meta["missing_nodes"].clone()), (0, json!([])));
    assert_eq!(meta["complete"], false);
    let unknown = delete(&c.as_admin(), "/00000000000000000000000000000000").await;
    assert!(unknown.refused(503, "unavailable").contains("the other nodes"));
    let told = delete(&c.as_admin(), "?user_id=bob").await.ok();
    assert_eq!(told, json!({"disconnected": 0, "missing_nodes": [], "complete": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_just_come_lists_what_was_there_before_it() {
    let cluster = Cluster::new();
    let a = cluster.node("a").start().await;
    let mut sockets = vec![];
    for n in 0..20 {
        sockets.push(a.connect(&format!("user-{n}")).await);
    }
    let b = cluster.node("b").env("PUSHHUB_ROLE", "admin").start().await;
    eventually("the bus is up", || async {
        b.as_admin().get("/health/ready").await.body["checks"]["bus"] == "up"
    })
    .await;
    // At once, before it has heard a heartbeat.
    let (page, total, _) = listed(&b.as_admin(), "size=7").await;
    assert_eq!((page.len(), total), (7, json!(20)));
    let users: BTreeSet<&str> = page.iter().map(|one| one["user_id"].as_str().unwrap()).collect();
    assert_eq!(
        users,
        (0..7)
            .map(|n| format!("user-{n}"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );
    // What happens on one node, the list of another shows.
    drop(sockets.split_off(5));
    eventually_within("they are gone from the list", SOON, || async {
        (listed(&b.as_admin(), "").await.1 == json!(5)).then_some(())
    })
    .await;
    for socket in &mut sockets {
        socket.ping().await;
        assert!(!socket.frames.iter().any(|frame| matches!(frame, ServerFrame::Disconnect { .. })));
    }
}
