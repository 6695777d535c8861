//! Nodes whose clocks differ: times are the database's, so nothing else differs.

use std::time::Duration;

use jiff::Timestamp;
use protocol::ServerFrame;
use serde_json::json;

use crate::support::{
    Cluster, SOON, TestServer, Token, api::message_to, eventually_within, preload::WrongClock,
};

/// A clock that was set wrong by hand, and one whose time zone was taken for UTC.
const AHEAD: [i64; 3] = [0, -600, 7_200];

/// How far a time may be from the true one: what a busy machine takes.
const NEAR: Duration = Duration::from_secs(30);

async fn nodes(cluster: &Cluster) -> Vec<TestServer> {
    let clock = WrongClock::build();
    let starts = AHEAD
        .into_iter()
        .map(|ahead| cluster.node(&format!("node {ahead}")).envs(clock.env(ahead)).start());
    futures_util::future::join_all(starts).await
}

fn is_near(time: Timestamp) -> bool {
    time.duration_since(Timestamp::now()).unsigned_abs() < NEAR
}

fn ahead(time: Duration) -> Timestamp {
    Timestamp::now() + time
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clocks_are_wrong_as_far_as_the_log_goes() {
    let nodes = nodes(&Cluster::new()).await;
    for (node, wrong) in nodes.iter().zip(AHEAD) {
        let log = node.log();
        let first = log.lines().find_map(|line| line.split_whitespace().next()?.parse().ok());
        let time: Timestamp = first.expect("a line with its time");
        let by = time.duration_since(Timestamp::now()).as_secs();
        assert!((by - wrong).unsigned_abs() < NEAR.as_secs(), "{by} instead of {wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lives_as_long_on_every_node() {
    let nodes = nodes(&Cluster::new()).await;
    for node in &nodes {
        let token = Token::of("ann").device("phone");
        let mut phone = node.socket("ann").token(token.clone()).connect().await;
        node.api().bearer(&token.sign()).get("/api/v3/messages").await.ok();
        // It is not taken for one that is about to end.
        phone.ping().await;
        assert!(is_near(phone.welcome.server_time.to_string().parse().unwrap()));
        let old = Token::of("ann").expires_in(-120).sign();
        node.api().bearer(&old).get("/api/v3/messages").await.refused(401, "unauthorized");
        let soon = Token::of("ann").device("watch").expires_in(2);
        let mut watch = node.socket("ann").token(soon).connect().await;
        assert_eq!(watch.closed().await.code, Some(4001));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_expires_at_one_moment_everywhere() {
    let nodes = nodes(&Cluster::new()).await;
    let service = nodes[0].service().await;
    let mut phones = vec![];
    for (n, node) in nodes.iter().enumerate() {
        phones.push(node.socket("ann").device(&format!("phone {n}")).connect().await);
    }
    let mut seq = 0;
    for node in &nodes {
        let service = service.moved_to(node.user);
        let mut message = message_to(&["ann"], "good for a while");
        message["expire_at"] = json!(ahead(Duration::from_secs(300)).to_string());
        service.send(message.clone()).await.ok();
        seq += 1;
        for phone in &mut phones {
            let frame = phone.expect_seq(seq).await;
            let ServerFrame::Message { data, .. } = frame else { panic!("{frame:?}") };
            assert!(is_near(data.fields.created_at.to_string().parse().unwrap()), "{data:?}");
        }
        message["expire_at"] = json!(ahead(Duration::ZERO).to_string());
        service.send(message).await.refused(422, "invalid");
    }
    for node in &nodes {
        assert_eq!(node.as_user("ann").unread().await, 3);
        let mut late = node.socket("ann").device("late").since(0).connect().await;
        let backlog = late.backlog().await;
        assert!(backlog.iter().all(|frame| matches!(frame, ServerFrame::Message { .. })));
    }
    for node in &nodes {
        let mut message = message_to(&["bob"], "good for a moment");
        message["expire_at"] = json!(ahead(Duration::from_secs(3)).to_string());
        service.moved_to(node.user).send(message).await.ok();
    }
    assert_eq!(nodes[0].as_user("bob").unread().await, 3);
    for node in &nodes {
        eventually_within("they have expired", SOON, || async {
            (node.as_user("bob").unread().await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_is_sent_at_one_moment_whoever_took_it() {
    let nodes = nodes(&Cluster::new()).await;
    let service = nodes[0].service().await;
    let due = ahead(Duration::from_secs(4));
    let mut ids = vec![];
    for node in &nodes {
        let mut message = message_to(&["ann"], "later");
        message["scheduled_at"] = json!(due.to_string());
        let data = service.moved_to(node.user).send(message).await.ok();
        assert_eq!(data["status"], "scheduled", "{data}");
        ids.push(data["message_id"].as_str().unwrap().to_owned());
    }
    assert!(Timestamp::now() < due, "the machine is too slow for this test");
    let ann = nodes[2].as_user("ann");
    eventually_within("all of them arrive", SOON * 2, || async {
        (ann.all_messages().await.len() == ids.len()).then_some(())
    })
    .await;
    assert!(Timestamp::now() >= due);
    for id in &ids {
        let stands = service.get(&format!("/api/v3/messages/{id}/receipts")).await.ok();
        let sent: Timestamp = stands["sent_at"].as_str().unwrap().parse().unwrap();
        assert!(sent >= due && sent.duration_since(due).as_secs() < 2, "{stands}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_last_as_long_on_every_node() {
    let nodes = nodes(&Cluster::new()).await;
    let service = nodes[2].service().await;
    for (n, node) in nodes.iter().enumerate() {
        // An answer is kept by what one node takes for now, and found by the others.
        let key = format!("key {n}");
        service.moved_to(node.user).key(&key).send_to("ann", "once").await.ok();
        for other in &nodes {
            let again = service.moved_to(other.user).key(&key).send_to("ann", "once").await;
            assert_eq!(again.header("idempotency-replayed"), "true");
        }
        // A service's key that is good for an hour is.
        let (name, admin) = (format!("svc-{n}"), node.as_admin());
        node.create_service(json!({"id": name, "name": name, "level": "system"})).await.ok();
        let expires_at = json!(ahead(Duration::from_secs(300)).to_string());
        let path = format!("/api/v3/admin/services/{name}/keys");
        let made = admin.post(&path, json!({"expires_at": expires_at})).await.ok();
        let key = made["api_key"].as_str().expect("api_key").to_owned();
        for other in &nodes {
            other.api().service_key(&key).send_to("bob", "hello").await.ok();
        }
    }
    assert_eq!(nodes[1].as_user("ann").all_messages().await.len(), 3);
    assert_eq!(nodes[1].as_user("bob").all_messages().await.len(), 9);
}
