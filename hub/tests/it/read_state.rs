//! Read, unread, archived: by REST, on every device.

use protocol::Status;
use serde_json::{Value, json};

use crate::support::{Api, TestServer};

async fn mark(api: &Api, id: &str, what: &str) -> Value {
    api.post(&format!("/api/v3/messages/{id}/{what}"), json!({})).await.ok()
}

async fn get(api: &Api, id: &str) -> Value {
    let data = api.get(&format!("/api/v3/messages/{id}")).await.ok();
    data.get("message").cloned().unwrap_or(data)
}

#[tokio::test]
async fn a_read_is_seen_by_every_device_and_twice_is_no_change() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut laptop = server.socket("ann").device("laptop").connect().await;
    let id = service.sent("ann", "hello").await;
    phone.expect_seq(1).await;
    laptop.expect_seq(1).await;
    let ann = server.as_user("ann");
    ann.post(&format!("/api/v3/messages/{id}/read"), json!({"device_id": "tablet"})).await.ok();
    for client in [&mut phone, &mut laptop] {
        let (seq, update) = client.next_status().await;
        assert_eq!(seq, 2);
        assert_eq!(update.message_id.as_str(), id);
        assert_eq!(update.status, Status::Read);
        assert_eq!(update.device_id.unwrap().as_str(), "tablet");
    }
    let message = get(&ann, &id).await;
    assert_eq!((&message["seq"], &message["version"]), (&json!(1), &json!(2)));
    assert_eq!((&message["is_read"], &message["status"]), (&json!(true), &json!("read")));
    assert!(message["read_at"].is_string());

    mark(&ann, &id, "read").await;
    phone.ping().await;
    laptop.ping().await;
    assert_eq!(get(&ann, &id).await, message);
}

#[tokio::test]
async fn unread_and_archive_change_counts_and_lists() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let (one, two) = (service.sent("ann", "one").await, service.sent("ann", "two").await);
    assert_eq!(ann.unread().await, 2);
    mark(&ann, &one, "read").await;
    assert_eq!(ann.unread().await, 1);
    mark(&ann, &one, "unread").await;
    assert_eq!(ann.unread().await, 2);
    assert!(get(&ann, &one).await["read_at"].is_null());
    mark(&ann, &two, "archive").await;
    assert_eq!(ann.unread().await, 1);
    assert_eq!(get(&ann, &two).await["status"], "archived");
    mark(&ann, &two, "unread").await;
    assert_eq!(get(&ann, &two).await["status"], "archived", "archived ones stay");
    mark(&ann, &two, "read").await;
    assert_eq!(get(&ann, &two).await["status"], "archived", "archived counts as read");
    assert_eq!(ann.unread().await, 1);
}

#[tokio::test]
async fn a_stale_version_is_a_conflict_with_the_current_state() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let id = service.sent("ann", "hello").await;
    let read = format!("/api/v3/messages/{id}/read");
    mark(&ann, &id, "read").await;
    mark(&ann, &id, "unread").await;
    let answer = ann.post(&read, json!({"expected_version": 1})).await;
    answer.refused_with_data(409, "version_conflict");
    let state = answer.body["data"].get("message").unwrap_or(&answer.body["data"]);
    assert_eq!((&state["version"], &state["is_read"]), (&json!(3), &json!(false)));
    ann.post(&read, json!({"expected_version": 3})).await.ok();
    assert_eq!(get(&ann, &id).await["version"], 4);
}

#[tokio::test]
async fn a_batch_reads_what_it_names() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut ids = vec![];
    for n in 0..6 {
        ids.push(service.sent("ann", &format!("m{n}")).await);
    }
    let batch = "/api/v3/messages/read-batch";
    ann.post(batch, json!({"message_ids": [ids[4], "no-such", ids[4]]})).await.ok();
    assert_eq!(ann.unread().await, 5);
    ann.post(batch, json!({"up_to_seq": 3})).await.ok();
    assert_eq!(ann.unread().await, 2);
    let unread = ann.get("/api/v3/messages?status=unread&sort=oldest").await.ok();
    let titles: Vec<_> =
        unread["messages"].as_array().unwrap().iter().map(|m| m["title"].clone()).collect();
    assert_eq!(titles, ["m3", "m5"]);

    let too_many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    for (body, named) in [
        (json!({}), "message_ids"),
        (json!({"message_ids": ["a"], "up_to_seq": 1}), "up_to_seq"),
        (json!({"message_ids": too_many}), "1000"),
        (json!({"message_ids": [7]}), "message_ids"),
        (json!({"up_to_seq": "three"}), "up_to_seq"),
    ] {
        let sentence = ann.post(batch, body).await.refused(422, "invalid");
        assert!(sentence.contains(named), "{named}: {sentence}");
    }
    assert_eq!(ann.unread().await, 2);
}

#[tokio::test]
async fn state_survives_a_crash() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let (one, two) = (service.sent("ann", "one").await, service.sent("ann", "two").await);
    let ann = server.as_user("ann");
    mark(&ann, &one, "read").await;
    mark(&ann, &two, "archive").await;
    let before = ann.all_messages().await;
    server.crash_and_restart().await;
    assert_eq!(server.as_user("ann").all_messages().await, before);
    assert_eq!(server.as_user("ann").unread().await, 0);
}
