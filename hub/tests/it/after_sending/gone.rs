//! What is not shown any more: recalled, collapsed, expired; and how unread messages are counted.

use protocol::{ServerFrame, Status};
use serde_json::{Value, json};

use super::{path, recall, receipts, send, with_buttons};
use crate::support::{TestServer, api::message_to, eventually};

#[tokio::test]
async fn a_recalled_message_is_gone_everywhere() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut message = message_to(&["ann", "bob"], "wrong");
    message["metadata"] = json!({"secret": "content"});
    let id = send(&service, message).await;
    service.sent("ann", "right").await;
    phone.until_seq(2).await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 2);
    for _ in 0..2 {
        assert_eq!(recall(&service, &id).await, json!({"message_id": id, "state": "recalled"}));
    }
    let (seq, update) = phone.next_status().await;
    assert_eq!((seq, update.message_id.as_str(), update.status), (3, &*id, Status::Recalled));
    assert_eq!(update.device_id, None);
    phone.ping().await;
    service.put(&path(&id, ""), json!({"title": "x"})).await.refused(409, "conflict");

    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let ann = server.as_user("ann");
        assert_eq!(ann.unread().await, 1);
        ann.get(&path(&id, "")).await.refused(404, "not_found");
        ann.post(&path(&id, "/read"), json!({})).await.refused(404, "not_found");
        assert_eq!(ann.all_messages().await.len(), 1);
        // Who was away never sees it.
        for user in ["ann", "bob"] {
            let mut late = server.socket(user).device("late").since(0).connect().await;
            let backlog = late.backlog().await;
            let ServerFrame::StatusUpdate { data, .. } = &backlog[0] else { panic!("{backlog:?}") };
            assert_eq!((data.message_id.as_str(), data.status), (&*id, Status::Recalled));
            assert!(!format!("{backlog:?}").contains("wrong"), "{backlog:?}");
        }
        let answer = ann.get("/api/v3/messages?include=recalled").await;
        let with = answer.data()["messages"].as_array().unwrap().clone();
        assert_eq!(with.len(), 2);
        let gone = &with[1];
        assert_eq!((&gone["id"], &gone["status"]), (&json!(id), &json!("recalled")));
        assert_eq!((&gone["title"], &gone["content"]), (&json!(""), &json!("")));
        assert_eq!((&gone["metadata"], &gone["is_read"]), (&json!({}), &json!(true)));
    }
    let sentence =
        server.as_user("ann").get("/api/v3/messages?include=all").await.refused(422, "invalid");
    assert!(sentence.contains("include") && sentence.contains("recalled"), "{sentence}");
}

#[tokio::test]
async fn a_newer_message_takes_the_place_of_an_unread_older_one() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let build = |title: &str| {
        let mut message = message_to(&["ann"], title);
        message["collapse_key"] = json!("build");
        message
    };
    let one = send(&service, build("10 %")).await;
    phone.expect_seq(1).await;
    let two = send(&service, build("20 %")).await;
    server.service().await.send(build("another sender's")).await.ok();
    let ann = server.as_user("ann");
    let titles = async || -> Vec<Value> {
        ann.all_messages().await.iter().map(|m| m["title"].clone()).collect()
    };
    assert_eq!(titles().await, ["20 %", "another sender's"]);
    assert_eq!(ann.unread().await, 2);
    ann.get(&path(&one, "")).await.refused(404, "not_found");
    // What was read stays.
    ann.post(&path(&two, "/read"), json!({})).await.ok();
    send(&service, build("30 %")).await;
    assert_eq!(titles().await, ["20 %", "another sender's", "30 %"]);
    assert_eq!(ann.unread().await, 2);
    let mut late = server.socket("ann").device("late").since(0).connect().await;
    let backlog = late.backlog().await;
    let ServerFrame::StatusUpdate { data, .. } = &backlog[0] else { panic!("{backlog:?}") };
    assert_eq!((data.message_id.as_str(), data.status), (&*one, Status::Collapsed));
    assert!(!format!("{backlog:?}").contains("10 %"));
}

#[tokio::test]
async fn what_has_expired_cannot_be_pressed_or_edited() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(1_200);
    let mut message = with_buttons("ann");
    message["expire_at"] = json!(soon.to_string());
    let id = send(&service, message).await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 1);
    eventually("it expires", || async { ann.unread().await == 0 }).await;
    ann.post(&path(&id, "/actions/0"), json!({})).await.refused(404, "not_found");
    let later = json!({"expire_at": "2099-01-01T00:00:00Z"});
    let sentence = service.put(&path(&id, ""), later).await.refused(409, "conflict");
    assert!(sentence.contains("expired"), "{sentence}");
    assert_eq!(receipts(&service, &id).await["state"], "sent");
    assert_eq!(recall(&service, &id).await["state"], "recalled");

    // An edit can end a message's life early.
    let id = service.sent("ann", "short").await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(1_200);
    service.put(&path(&id, ""), json!({"expire_at": soon.to_string()})).await.ok();
    assert_eq!(ann.unread().await, 1);
    eventually("it expires too", || async { ann.unread().await == 0 }).await;
    assert_eq!(ann.all_messages().await.len(), 0);
}

#[tokio::test]
async fn unread_messages_are_counted_by_channel() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut ids = vec![];
    for channel in ["news", "ops", "news", "", "news"] {
        let mut message = message_to(&["ann"], "t");
        message["channel_id"] = json!(channel);
        ids.push(send(&service, message).await);
    }
    let counts = async || ann.get("/api/v3/messages/unread-count").await.ok();
    assert_eq!(
        counts().await,
        json!({"unread_count": 5, "channels": {"news": 3, "ops": 1}, "direct": 1, "muted": 0})
    );
    ann.post("/api/v3/messages/read-batch", json!({"channel_id": "ops"})).await.ok();
    ann.post(&path(&ids[0], "/archive"), json!({})).await.ok();
    recall(&service, &ids[2]).await;
    assert_eq!(
        counts().await,
        json!({"unread_count": 2, "channels": {"news": 1}, "direct": 1, "muted": 0})
    );
    ann.post(&path(&ids[0], "/unread"), json!({})).await.ok();
    assert_eq!(counts().await["unread_count"], 2, "archived ones stay");
    let of = async |channel: &str| {
        ann.get(&format!("/api/v3/messages/unread-count?channel_id={channel}")).await
    };
    assert_eq!(of("news").await.ok(), json!({"channel_id": "news", "unread_count": 1}));
    assert_eq!(of("none").await.ok()["unread_count"], 0);
    of(&"x".repeat(129)).await.refused(422, "invalid");
    ann.get("/api/v3/messages/unread-count?channel=x").await.refused(422, "invalid");
}
