//! Nodes whose clocks differ: times are the database's, so nothing else differs.

use std::time::Duration;

use jiff::Timestamp;
use protocol::ServerFrame;
use serde_json::json;

use crate::support::{
    Cluster, SOON, TestServer, Token, api::message_to, eventually, eventually_within,
    hooks::HookReceiver, preload::WrongClock,
};

/// A clock that was set wrong by hand, and one whose time zone was taken for UTC.
const AHEAD: [i64; 3] = [0, -600, 7_200];

/// How far a time may be from the true one: what a busy machine takes.
const NEAR: Duration = Duration::from_secs(30);

async fn nodes(cluster: &Cluster) -> Vec<TestServer> {
    nodes_with(cluster, AHEAD, &[]).await
}

/// Nodes whose clocks are ahead by so many seconds, with more settings.
async fn nodes_with<const N: usize>(
    cluster: &Cluster,
    ahead: [i64; N],
    settings: &[(&'static str, &str)],
) -> Vec<TestServer> {
    let clock = WrongClock::build();
    let starts = ahead.into_iter().map(|ahead| {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let node = cluster.node(&format!("node {ahead}")).envs(clock.env(ahead));
        node.envs(settings).start()
    });
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_say_the_true_time_whoever_sends_them() {
    let allowed = [("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")];
    let nodes = nodes_with(&Cluster::new(), AHEAD, &allowed).await;
    let service = nodes[0].service().await;
    let receiver = HookReceiver::start().await;
    let hook = json!({"url": receiver.url(), "events": ["*"]});
    let made = service.post("/api/v3/webhooks", hook).await.ok();
    let path = format!("/api/v3/webhooks/{}/test", made["id"].as_str().unwrap());
    for node in &nodes {
        // A test is sent by the node that is asked, and what happened by the one whose turn it is.
        let tested = service.moved_to(node.user).post(&path, json!({})).await.ok();
        assert_eq!(tested["outcome"], "delivered", "{tested}");
        service.moved_to(node.user).sent("ann", "hello").await;
        let read = json!({"up_to_seq": 1_000});
        node.as_user("ann").post("/api/v3/messages/read-batch", read).await.ok();
    }
    let of = |kind: &str| {
        let hooks = receiver.hooks();
        hooks.iter().filter(|hook| hook.json()["type"] == kind).count()
    };
    // A share of services that a node has just taken is nobody else's until its lease ends.
    let patience = delivery::webhook::LEASE + SOON;
    eventually_within("all have come", patience, || async {
        let all = (of("webhook.test"), of("message.read")) == (nodes.len(), nodes.len());
        all.then_some(())
    })
    .await;
    for hook in receiver.hooks() {
        let sent = Timestamp::from_second(hook.timestamp.parse().unwrap()).unwrap();
        let happened = hook.json()["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(is_near(sent) && is_near(happened), "{hook:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_counted_in_one_hour() {
    let nodes = nodes(&Cluster::new()).await;
    let service = nodes[0].service().await;
    let began = Timestamp::now();
    for node in &nodes {
        service.moved_to(node.user).sent("ann", "hello").await;
    }
    for node in &nodes {
        // Without a span, the latest: by the same clock.
        let stats = node.as_admin().get("/api/v3/admin/stats?group_by=hour").await.ok();
        assert_eq!(stats["totals"]["sent"], nodes.len(), "{stats}");
        for row in stats["rows"].as_array().unwrap() {
            let hour: Timestamp = row["key"].as_str().unwrap().parse().unwrap();
            let next = hour + Duration::from_secs(3_600);
            assert!(hour <= Timestamp::now() && began < next, "{stats}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_a_quota_is_the_same_one_everywhere() {
    // One is in the next day, and an hour further.
    let nodes = nodes_with(&Cluster::new(), [0, 90_000, -600], &[]).await;
    let service = nodes[0].service().await;
    let quotas = json!({"quotas": {"messages_per_day": nodes.len()}});
    nodes[1].as_admin().put("/api/v3/admin/tenants/default", quotas).await.ok();
    for node in &nodes {
        eventually("the quota is known, and what others used of it", || async {
            let shown = node.as_admin().get("/api/v3/admin/tenants/default").await.ok();
            shown["quotas"]["messages_per_day"] == nodes.len()
        })
        .await;
        service.moved_to(node.user).sent("ann", "hello").await;
    }
    for node in &nodes {
        let service = service.moved_to(node.user);
        let refused = eventually_within("what was used up elsewhere is known", SOON, || async {
            let answer = service.send_to("ann", "one too many").await;
            (answer.status != 200).then_some(answer)
        })
        .await;
        let after: i64 = refused.header("retry-after").parse().unwrap();
        refused.refused(429, "quota_exceeded");
        let left = 86_400 - Timestamp::now().as_second().rem_euclid(86_400);
        let off = (after - left).rem_euclid(86_400);
        assert!(off.min(86_400 - off) < 60, "{after} s instead of {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_kept_as_long_whoever_forgets_them() {
    let prune = "/api/v3/admin/maintenance/prune";
    let cluster = Cluster::new();
    let nodes = nodes_with(&cluster, AHEAD, &[("RETENTION_MAX_AGE", "1h")]).await;
    nodes[0].service().await.sent("ann", "hello").await;
    for node in &nodes {
        // Also by the one that is two hours ahead.
        assert_eq!(node.as_admin().post(prune, json!({})).await.ok()["pruned"], 0);
        assert_eq!(node.as_user("ann").all_messages().await.len(), 1);
    }
    drop(nodes);
    // By one that is behind, before which nothing would ever be old enough.
    let nodes = nodes_with(&cluster, [-600], &[("RETENTION_MAX_AGE", "1s")]).await;
    eventually("it is forgotten", || async {
        nodes[0].as_admin().post(prune, json!({})).await.ok();
        nodes[0].as_user("ann").all_messages().await.is_empty()
    })
    .await;
}
