//! Reading by REST: lists, single messages, changes after a position.

use protocol::{ServerFrame, Status};
use serde_json::{Value, json};

use crate::support::{Api, TestServer, api::message_to};

fn titles(data: &Value) -> Vec<&str> {
    data["messages"].as_array().unwrap().iter().map(|m| m["title"].as_str().unwrap()).collect()
}

async fn sends(service: &Api, user: &str, count: usize) {
    for n in 1..=count {
        service.sent(user, &format!("m{n}")).await;
    }
}

#[tokio::test]
async fn a_list_has_the_shape_of_the_seed() {
    let server = TestServer::start().await;
    let service = server.service().await;
    sends(&service, "ann", 3).await;
    let answer = server.as_user("ann").get("/api/v3/messages?page=1&size=2").await;
    let data = answer.data();
    assert_eq!(titles(data), ["m3", "m2"], "latest first");
    assert_eq!((&data["unread_count"], &data["total"]), (&json!(3), &json!(3)));
    let meta = &answer.body["meta"];
    assert_eq!(
        (&meta["page"], &meta["size"], &meta["total_pages"]),
        (&json!(1), &json!(2), &json!(2))
    );
    // Seed 003 §3.3 and contract §5, every field there.
    for field in [
        "id",
        "channel_id",
        "title",
        "content",
        "message_type",
        "priority",
        "sender",
        "created_at",
        "is_read",
        "metadata",
        "seq",
        "version",
        "attachments",
        "actions",
        "expire_at",
        "status",
        "read_at",
    ] {
        assert!(data["messages"][0].get(field).is_some(), "{field} is missing: {data}");
    }
    let second = server.as_user("ann").get("/api/v3/messages?page=2&size=2").await;
    assert_eq!(titles(second.data()), ["m1"]);
}

#[tokio::test]
async fn a_cursor_stays_right_while_new_messages_arrive() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    sends(&service, "ann", 5).await;
    let first = ann.get("/api/v3/messages?size=2").await;
    assert_eq!(titles(first.data()), ["m5", "m4"]);
    let cursor = first.body["meta"]["next_cursor"].as_str().unwrap().to_owned();
    service.sent("ann", "new").await;
    let second = ann.get(&format!("/api/v3/messages?size=2&cursor={cursor}")).await;
    assert_eq!(titles(second.data()), ["m3", "m2"]);
    let cursor = second.body["meta"]["next_cursor"].as_str().unwrap().to_owned();
    let third = ann.get(&format!("/api/v3/messages?size=2&cursor={cursor}")).await;
    assert_eq!(titles(third.data()), ["m1"]);
    assert!(third.body["meta"]["next_cursor"].is_null());
}

#[tokio::test]
async fn filters_and_sorts_say_what_they_do() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    for (title, kind, priority) in
        [("a", "text", 5), ("b", "alert", 9), ("c", "text", 1), ("d", "alert", 9)]
    {
        let mut message = message_to(&["ann"], title);
        message["message_type"] = kind.into();
        message["priority"] = priority.into();
        service.send(message).await.ok();
    }
    let messages = ann.all_messages().await;
    let id = |n: usize| messages[n]["id"].as_str().unwrap();
    ann.post(&format!("/api/v3/messages/{}/read", id(0)), json!({})).await.ok();
    ann.post(&format!("/api/v3/messages/{}/archive", id(1)), json!({})).await.ok();
    for (query, expected) in [
        ("", &["d", "c", "a"][..]),
        ("sort=oldest", &["a", "c", "d"]),
        ("sort=priority", &["d", "a", "c"]),
        ("status=unread", &["d", "c"]),
        ("is_read=false", &["d", "c"]),
        ("status=read", &["a"]),
        ("status=archived", &["b"]),
        ("status=all", &["d", "c", "b", "a"]),
        ("status=all&message_type=alert", &["d", "b"]),
        ("priority_min=5", &["d", "a"]),
        ("since=2099-01-01T00:00:00Z", &[]),
        ("until=2099-01-01T00:00:00Z", &["d", "c", "a"]),
        ("sender=nobody", &[]),
        ("channel_id=nowhere", &[]),
    ] {
        let data = ann.get(&format!("/api/v3/messages?{query}")).await.ok();
        assert_eq!(titles(&data), expected, "{query}");
        assert_eq!(data["unread_count"], 2, "{query}");
    }
}

#[tokio::test]
async fn metadata_is_asked_for_by_key_and_value() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    for (title, metadata) in [
        ("a", json!({"order": 1042, "carrier": "顺丰", "paid": true})),
        ("b", json!({"order": "1042", "lines": [1, 2]})),
        ("c", json!({})),
    ] {
        let mut message = message_to(&["ann"], title);
        message["metadata"] = metadata;
        service.send(message).await.ok();
    }
    let list = async |query: &str| ann.get(&format!("/api/v3/messages?{query}")).await.ok();
    for (query, expected) in [
        ("metadata=order:1042", &["b", "a"][..]),
        ("metadata=order:1042&metadata=carrier:%E9%A1%BA%E4%B8%B0", &["a"]),
        ("metadata=paid:true&sort=oldest", &["a"]),
        ("metadata=lines:1", &[]),
        ("metadata=order:104", &[]),
    ] {
        assert_eq!(titles(&list(query).await), expected, "{query}");
    }
    let id = list("metadata=paid:true").await["messages"][0]["id"].as_str().unwrap().to_owned();
    service.put(&format!("/api/v3/messages/{id}"), json!({"metadata": {"paid": false}})).await.ok();
    assert_eq!(titles(&list("metadata=paid:true").await), [""; 0]);
    assert_eq!(titles(&list("metadata=paid:false").await), ["a"]);
    service.post(&format!("/api/v3/messages/{id}/recall"), json!({})).await.ok();
    assert_eq!(titles(&list("metadata=paid:false&include=recalled").await), [""; 0]);
}

#[tokio::test]
async fn wrong_queries_are_refused_with_the_limit() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    for (query, named) in [
        ("size=0", &["size", "1"][..]),
        ("size=201", &["size", "200"]),
        ("size=many", &["size"]),
        ("page=0", &["page", "1"]),
        ("sort=best", &["sort", "newest"]),
        ("status=gone", &["status", "archived"]),
        ("priority_min=11", &["priority_min", "10"]),
        ("cursor=%00", &["cursor"]),
        ("since=yesterday", &["since", "RFC 3339"]),
        ("metadata=order", &["metadata", "key:value"]),
        ("siez=3", &["siez", "size"]),
    ] {
        let answer = ann.get(&format!("/api/v3/messages?{query}")).await;
        let sentence = answer.refused(422, "invalid");
        for word in named {
            assert!(sentence.contains(word), "{query}: {word:?} is not in {sentence}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    ann.get("/api/v3/messages/no-such").await.refused(404, "not_found");
    ann.post("/api/v3/messages/no-such/read", json!({})).await.refused(404, "not_found");
    ann.get("/api/v3/no-such-path").await.refused(404, "not_found");
    let answer = ann.call(reqwest::Method::DELETE, "/api/v3/messages", None).await;
    answer.refused(405, "method_not_allowed");
    assert!(answer.header("allow").contains("GET"));
}

#[tokio::test]
async fn an_expired_message_is_neither_listed_nor_counted_nor_delivered() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(1_500);
    let mut short = message_to(&["ann"], "short");
    short["expire_at"] = soon.to_string().into();
    let id = service.send(short).await.ok()["message_id"].as_str().unwrap().to_owned();
    service.sent("ann", "long").await;
    let ann = server.as_user("ann");
    assert_eq!(ann.unread().await, 2);
    crate::support::eventually("it expires", || async { ann.unread().await == 1 }).await;
    assert_eq!(titles(&ann.get("/api/v3/messages?status=all").await.ok()), ["long"]);
    ann.get(&format!("/api/v3/messages/{id}")).await.refused(404, "not_found");
    // Its place in the log is kept, its content is not.
    let mut late = server.socket("ann").since(0).connect().await;
    let backlog = late.backlog().await;
    assert!(
        matches!(&backlog[0], ServerFrame::StatusUpdate { data, .. } if data.status == Status::Expired),
        "{backlog:?}"
    );
    assert!(matches!(backlog[1], ServerFrame::Message { .. }));
}

#[tokio::test]
async fn sync_gives_the_frames_a_socket_would_have_had() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    sends(&service, "ann", 3).await;
    phone.until_seq(3).await;
    phone.read_up_to(2).await;
    phone.until_seq(5).await;
    let ann = server.as_user("ann");
    let mut late = server.socket("ann").device("late").since(0).connect().await;
    let backlog = late.backlog().await;
    assert_eq!(ann.changes_after(0).await, backlog);
    assert_eq!(ann.changes_after(3).await, backlog[3..]);
    assert_eq!(ann.changes_after(5).await, []);
    let page = ann.get("/api/v3/sync?since=1&limit=2").await.ok();
    assert_eq!(page["changes"].as_array().unwrap().len(), 2);
    for (query, named) in
        [("since=-1", "since"), ("since=x", "since"), ("since=0&limit=0", "limit")]
    {
        let sentence = ann.get(&format!("/api/v3/sync?{query}")).await.refused(422, "invalid");
        assert!(sentence.contains(named), "{query}: {sentence}");
    }
}
