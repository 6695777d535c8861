//! What is done once, or counted once, whichever node is asked.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Cluster, SOON, TestServer, api::message_to, eventually_within};

/// Each leaves out what the other changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_at_once_on_two_nodes_lose_nothing_of_each_other() {
    let [a, b]: [TestServer; 2] = Cluster::new().nodes().await;
    let service = a.service().await;
    let elsewhere = service.moved_to(b.user);
    for round in 0..20 {
        let id = service.sent("ann", "first").await;
        let path = format!("/api/v3/messages/{id}");
        let (title, content) = (format!("title {round}"), format!("content {round}"));
        let (one, other) = tokio::join!(
            service.put(&path, json!({"title": title})),
            elsewhere.put(&path, json!({"content": content})),
        );
        one.ok();
        other.ok();
        let message = a.as_user("ann").get(&path).await.ok();
        assert_eq!((&message["title"], &message["content"]), (&json!(title), &json!(content)));
    }
}

/// A request is repeated to another node while the first one may still be at it, or was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stores_once_whichever_nodes_are_asked_at_once() {
    let nodes: [TestServer; 3] = Cluster::new().nodes().await;
    let service = nodes[0].service().await;
    let mut phone = nodes[1].connect("ann").await;
    for round in 0..20_u64 {
        let mut asked = JoinSet::new();
        for node in &nodes {
            let api = service.moved_to(node.user).key(&format!("key-{round}"));
            asked.spawn(async move { api.send_to("ann", &format!("{round}")).await });
        }
        let answers = asked.join_all().await;
        let replays = |answer: &Answer| answer.header("idempotency-replayed") == "true";
        let mut ids = BTreeSet::new();
        for answer in &answers {
            ids.insert(answer.data()["message_id"].as_str().unwrap().to_owned());
        }
        let first = answers.iter().filter(|answer| !replays(answer)).count();
        assert_eq!((first, ids.len()), (1, 1), "{answers:?}");
        for node in &nodes {
            let again = service.moved_to(node.user).key(&format!("key-{round}"));
            let again = again.send_to("ann", &format!("{round}")).await;
            assert!(replays(&again));
            assert!(ids.contains(again.ok()["message_id"].as_str().unwrap()));
        }
        assert_eq!(phone.next_message().await.fields.title, format!("{round}"));
    }
    let other = service.moved_to(nodes[2].user).key("key-7").send_to("ann", "another body").await;
    assert!(other.refused(422, "invalid").contains("Idempotency-Key"));
    assert_eq!(nodes[2].as_user("ann").all_messages().await.len(), 20);
}

/// The node that took it is killed before its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_messages_are_sent_once_and_on_time_whichever_node_dies() {
    let [mut dies, stays, also] = Cluster::new().nodes().await;
    let service = dies.service().await;
    let due = Timestamp::now() + Duration::from_millis(2_500);
    let mut ids = vec![];
    for n in 0..30 {
        let mut message = message_to(&["ann"], &format!("{n}"));
        message["scheduled_at"] = json!(due.to_string());
        let node = [&dies, &stays, &also][n % 3];
        let data = service.moved_to(node.user).send(message).await.ok();
        assert_eq!(data["status"], "scheduled", "{data}");
        ids.push(data["message_id"].as_str().unwrap().to_owned());
    }
    dies.kill_9().await;
    let ann = stays.as_user("ann");
    eventually_within("all of them arrive", SOON * 2, || async {
        (ann.all_messages().await.len() >= ids.len()).then_some(())
    })
    .await;
    dies.spawn().await;
    let service = service.moved_to(also.user);
    for id in &ids {
        let stands = service.get(&format!("/api/v3/messages/{id}/receipts")).await.ok();
        let time = |field: &str| stands[field].as_str().unwrap().parse::<Timestamp>().unwrap();
        let late = time("sent_at").duration_since(time("scheduled_at"));
        assert_eq!(stands["state"], "sent");
        assert!(!late.is_negative() && late.as_secs() < 2, "{late:?} late");
    }
    // A node that has just come sends nothing again.
    service.send_to("ann", "after").await.ok();
    for node in [&dies, &stays, &also] {
        assert_eq!(node.as_user("ann").all_messages().await.len(), ids.len() + 1);
    }
}

fn totals(stats: &Value) -> [u64; 3] {
    ["sent", "delivered", "read"].map(|what| stats["totals"][what].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_and_receipts_agree_on_every_node() {
    let nodes: [TestServer; 3] = Cluster::new().nodes().await;
    let service = nodes[0].service().await;
    let mut phone = nodes[1].socket("ann").device("phone").connect().await;
    let mut tablet = nodes[2].socket("ann").device("tablet").connect().await;
    let mut id = String::new();
    for n in 0..9 {
        id = service.moved_to(nodes[n % 3].user).sent("ann", &format!("{n}")).await;
    }
    phone.until_seq(9).await;
    tablet.until_seq(9).await;
    phone.ack(9).await;
    tablet.read_up_to(4).await;
    phone.until_seq(13).await;
    for node in &nodes {
        let admin = node.as_admin();
        eventually_within("every node has the same sums", SOON, || async {
            let stats = admin.get("/api/v3/admin/stats?group_by=service").await.ok();
            (totals(&stats) == [9, 9, 4]).then_some(())
        })
        .await;
        let service = service.moved_to(node.user);
        eventually_within("and the same receipts", SOON, || async {
            let stands = service.get(&format!("/api/v3/messages/{id}/receipts")).await.ok();
            let devices = stands["receipts"][0]["devices"].as_array().map_or(0, Vec::len);
            let acked = stands["receipts"][0]["acked_at"].is_string();
            (devices == 2 && acked).then_some(())
        })
        .await;
    }
}

/// What one node signs the others take: they share `JWT_SECRET` and the control data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_keys_of_one_node_are_good_on_another() {
    let cluster = Cluster::new();
    let [a, b] = cluster.nodes().await;
    let mint = ["token", "mint", "--user", "ann", "--device", "phone"];
    let (status, said) = cluster.node("a").run(&mint).await;
    assert!(status.success(), "{said}");
    let token = said.split_whitespace().find(|word| word.starts_with("eyJ")).expect("a token");
    let mut phone = b.socket("ann").raw_token(token).connect().await;
    let key = a.service().await;
    key.moved_to(b.user).send_to("ann", "hello").await.ok();
    assert_eq!(phone.next_message().await.fields.title, "hello");
    let ann = b.api().bearer(token);
    assert_eq!(ann.unread().await, 1);
    let channel = json!({"id": "news", "name": "News", "open": true});
    key.post("/api/v3/channels", channel).await.ok();
    ann.post("/api/v3/channels/news/join", json!({})).await.ok();
    let mut message = message_to(&["news"], "to all of it");
    message["recipient_type"] = json!("channel");
    key.send(message).await.ok();
    assert_eq!(phone.next_message().await.fields.title, "to all of it");
}

/// How soon what was revoked is refused on every node (contract §2.7).
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// A service or a key that one node takes away is refused by the others too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_on_one_node_is_refused_on_another_within_two_seconds() {
    let [a, b] = Cluster::new().nodes().await;
    let (here, elsewhere) = (a.as_admin(), b.as_admin());
    let made = json!({"id": "drive", "name": "drive", "level": "system"});
    let created = a.create_service(made).await.ok();
    let first = created["api_key"].as_str().unwrap().to_owned();
    let keys = "/api/v3/admin/services/drive/keys";
    let second = elsewhere.post(keys, json!({})).await.ok();
    let (second, id) = (second["api_key"].as_str().unwrap(), second["id"].as_str().unwrap());
    let sends = async |key: &str| b.api().service_key(key).send_to("ann", "hello").await.status;
    let refuses = async |key: &str, with: u16| {
        let began = Instant::now();
        eventually_within("it is refused on the other node", SOON, || async {
            (sends(key).await == with).then_some(())
        })
        .await;
        let took = began.elapsed();
        assert!(took < REVOKED_WITHIN, "{took:?}");
    };
    assert_eq!((sends(&first).await, sends(second).await), (200, 200));
    here.call(Method::DELETE, &format!("{keys}/{id}"), None).await.ok();
    refuses(second, 401).await;
    assert_eq!(sends(&first).await, 200, "the other key is not touched");
    here.post("/api/v3/admin/services/drive/suspend", json!({})).await.ok();
    refuses(&first, 403).await;
    here.post("/api/v3/admin/services/drive/activate", json!({})).await.ok();
    eventually_within("it is taken again", REVOKED_WITHIN, || async {
        (sends(&first).await == 200).then_some(())
    })
    .await;
}
