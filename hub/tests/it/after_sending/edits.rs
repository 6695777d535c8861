//! The sender changes what a message says.

use protocol::{ServerFrame, Status};
use serde_json::json;

use super::{path, send};
use crate::support::TestServer;

#[tokio::test]
async fn an_edit_reaches_devices_that_are_here_and_those_that_are_not() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let id = service.sent("ann", "tpyo").await;
    service.sent("ann", "other").await;
    phone.until_seq(2).await;
    let ann = server.as_user("ann");
    ann.post(&path(&id, "/read"), json!({})).await.ok();
    phone.expect_seq(3).await;

    let change = json!({"title": "typo", "content": "fixed", "priority": 9,
        "metadata": {"v": 2}, "attachments": [{"type": "file", "url": "https://x/y"}]});
    let answer = service.put(&path(&id, ""), change.clone()).await.ok();
    assert_eq!((&answer["message_id"], &answer["changed"]), (&json!(id), &json!(true)));
    assert_eq!((&answer["state"], &answer["message"]["title"]), (&json!("sent"), &json!("typo")));
    let message = phone.next_message().await;
    assert_eq!((message.state.seq.0, message.state.version.0), (1, 4));
    assert_eq!((message.state.status, message.state.is_read), (Status::Read, true));
    assert_eq!((message.fields.title.as_str(), message.fields.priority), ("typo", 9));
    assert!(message.fields.edited_at.is_some());
    assert_eq!(
        message.fields.created_at,
        message.fields.created_at.min(message.fields.edited_at.unwrap())
    );

    // Repeated, it changes nothing.
    let again = service.put(&path(&id, ""), change).await.ok();
    assert_eq!(again["changed"], false);
    phone.ping().await;

    // A device that was away sees the new content in both places and the old one in none.
    for crash in [false, true] {
        if crash {
            server.crash_and_restart().await;
        }
        let mut late = server.socket("ann").device("late").since(0).connect().await;
        let backlog = late.backlog().await;
        assert_eq!(backlog.len(), 4);
        for frame in [&backlog[0], &backlog[3]] {
            let ServerFrame::Message { data, .. } = frame else { panic!("{frame:?}") };
            assert_eq!((data.fields.title.as_str(), data.state.seq.0), ("typo", 1));
            assert_eq!(data.state.version.0, 4);
        }
        let ann = server.as_user("ann");
        let listed = ann.all_messages().await;
        assert_eq!(listed.len(), 2);
        assert_eq!((&listed[0]["title"], &listed[0]["is_read"]), (&json!("typo"), &json!(true)));
        assert_eq!(listed[0]["metadata"], json!({"v": 2}));
        assert_eq!(ann.unread().await, 1);
    }
}

#[tokio::test]
async fn edits_that_are_none() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "t").await;
    for (change, named) in [
        (json!({"titel": "x"}), &["titel", "title"][..]),
        (json!({"recipients": ["bob"]}), &["recipients", "cannot be changed"]),
        (json!({"message_type": "alert"}), &["message_type", "cannot be changed"]),
        (json!({"channel_id": "c"}), &["channel_id", "cannot be changed"]),
        (json!({"scheduled_at": "2099-01-01T00:00:00Z"}), &["scheduled_at"]),
        (json!({"title": "t".repeat(1_025)}), &["title", "1024"]),
        (json!({"title": 7}), &["title", "text"]),
        (json!({"priority": 11}), &["priority", "10"]),
        (json!({"expire_at": "2001-01-01T00:00:00Z"}), &["expire_at", "future"]),
        (json!({"metadata": []}), &["metadata", "object"]),
        (json!({"attachments": [{"type": "file"}]}), &["attachments[0].url"]),
        (
            json!({"actions": [{"type": "link", "text": "x", "url": "javascript:x"}]}),
            &["actions[0].url"],
        ),
        (json!([]), &["body", "object"]),
    ] {
        let sentence = service.put(&path(&id, ""), change.clone()).await.refused(422, "invalid");
        for word in named {
            assert!(sentence.contains(word), "{change}: {word:?} is not in {sentence}");
        }
    }
    let large = json!({"content": "x".repeat(1 << 20)});
    service.put(&path(&id, ""), large).await.refused(413, "payload_too_large");
    let empty = service.put(&path(&id, ""), json!({"title": "", "content": null})).await.ok();
    assert_eq!(empty["changed"], false);
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!((&message["title"], &message["version"]), (&json!("t"), &json!(1)));
    assert!(message.get("edited_at").is_none());
    let sentence =
        service.post(&path(&id, "/recall"), json!({"reason": "x"})).await.refused(422, "invalid");
    assert!(sentence.contains("reason"), "{sentence}");
    let sentence = service.get(&path(&id, "/receipts?page=1")).await.refused(422, "invalid");
    assert!(sentence.contains("page"), "{sentence}");
}

#[tokio::test]
async fn a_message_of_a_template_is_edited_as_what_it_says() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = send(
        &service,
        json!({"template_id": "file_share", "recipients": ["ann"], "variables": {
            "sender_name": "张三", "file_name": "a", "file_size": "1MB",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://x/y"}}),
    )
    .await;
    let sentence =
        service.put(&path(&id, ""), json!({"variables": {}})).await.refused(422, "invalid");
    assert!(sentence.contains("variables"), "{sentence}");
    service.put(&path(&id, ""), json!({"content": "链接已失效", "actions": []})).await.ok();
    let message = server.as_user("ann").get(&path(&id, "")).await.ok();
    assert_eq!(message["title"], "张三 分享了文件给你");
    assert_eq!((&message["content"], &message["actions"]), (&json!("链接已失效"), &json!([])));
    assert_eq!(message["template_id"], "file_share");
}

/// Two edits at once of different fields: neither takes the other's away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_at_once_keep_each_other() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "t").await;
    for round in 1..=10 {
        let (path, text) = (path(&id, ""), format!("r{round}"));
        let (title, content) = (json!({"title": text}), json!({"content": text}));
        let (a, b) = tokio::join!(service.put(&path, title), service.put(&path, content));
        a.ok();
        b.ok();
        let message = server.as_user("ann").get(&path).await.ok();
        assert_eq!((&message["title"], &message["content"]), (&json!(text), &json!(text)));
        assert_eq!(message["version"], 1 + 2 * round);
    }
}
