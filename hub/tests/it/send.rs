//! Sending: who receives what, and how it looks.

use serde_json::{Value, json};

use crate::support::{TestServer, Token, api::message_to};

/// Seed 003 §4.6.1, as it stands there (without the comment, which is no JSON).
#[tokio::test]
async fn the_seeds_file_share_example_works_literally() {
    let server = TestServer::start().await;
    let netdrive = server.service().await;
    let mut user123 = server.connect("user123").await;
    let answer = netdrive
        .send(
            serde_json::from_str(
                r#"{
                "template_id": "file_share",
                "recipients": ["user123"],
                "on_behalf_of": "user456",
                "variables": {
                    "sender_name": "张三",
                    "file_name": "项目计划.pdf",
                    "file_size": "2.5MB",
                    "share_time": "2025-01-15 14:30:00",
                    "file_url": "https://drive.company.com/files/abc123"
                }
            }"#,
            )
            .unwrap(),
        )
        .await
        .ok();
    assert_eq!(answer["status"], "accepted");
    assert_eq!(answer["recipients"], 1);
    let message = user123.next_message().await.fields;
    assert_eq!(message.id.as_str(), answer["message_id"].as_str().unwrap());
    assert_eq!(message.title, "张三 分享了文件给你");
    assert_eq!(
        message.content,
        "张三 分享了文件 \"项目计划.pdf\" 给你\n\n文件大小：2.5MB\n分享时间：2025-01-15 14:30:00"
    );
    assert_eq!(message.message_type, "file_share");
    assert_eq!(message.template_id.as_deref(), Some("file_share"));
    assert_eq!(message.on_behalf_of.unwrap().as_str(), "user456");
    assert_eq!(message.actions[0].text, "查看文件");
    assert_eq!(message.actions[0].url, "https://drive.company.com/files/abc123");
}

/// Seed 003 §4.6.2.
#[tokio::test]
async fn the_seeds_collaboration_example_works_literally() {
    let server = TestServer::start().await;
    let docs = server.service().await;
    let mut user789 = server.connect("user789").await;
    docs.send(
        serde_json::from_str(
            r#"{
            "template_id": "doc_collaboration",
            "recipients": ["user789"],
            "on_behalf_of": "user456",
            "variables": {
                "sender_name": "李四",
                "doc_title": "Q1销售报告",
                "permission": "编辑",
                "due_time": "2025-01-20 18:00:00",
                "doc_url": "https://docs.company.com/doc/def456"
            }
        }"#,
        )
        .unwrap(),
    )
    .await
    .ok();
    let message = user789.next_message().await.fields;
    assert_eq!(message.title, "李四 邀请你协作编辑文档");
    assert_eq!(
        message.content,
        "李四 邀请你协作编辑文档 \"Q1销售报告\"\n\n协作权限：编辑\n截止时间：2025-01-20 18:00:00"
    );
    assert_eq!(message.message_type, "collaboration");
    let actions: Vec<_> = message
        .actions
        .iter()
        .map(|action| (&*action.text, &*action.url, &*action.action))
        .collect();
    assert_eq!(
        actions,
        [("打开文档", "https://docs.company.com/doc/def456", ""), ("拒绝邀请", "", "decline"),]
    );
}

/// Seed 003 §4.6.3; a user of that id comes first (contract §5).
#[tokio::test]
async fn the_seeds_alert_example_works_literally() {
    let server = TestServer::start().await;
    let monitoring = server.service().await;
    let mut admin_team = server.connect("admin_team").await;
    monitoring
        .send(
            serde_json::from_str(
                r#"{
                "template_id": "system_alert",
                "recipients": ["admin_team"],
                "variables": {
                    "alert_type": "数据库连接异常",
                    "alert_message": "主数据库连接池耗尽，当前活跃连接数：100/100",
                    "affected_scope": "用户认证、订单查询",
                    "suggestion": "立即检查数据库连接配置，考虑重启数据库服务"
                }
            }"#,
            )
            .unwrap(),
        )
        .await
        .ok();
    let message = admin_team.next_message().await.fields;
    assert_eq!(message.title, "系统告警：数据库连接异常");
    assert_eq!(
        message.content,
        "告警详情：主数据库连接池耗尽，当前活跃连接数：100/100\n\
         影响范围：用户认证、订单查询\n\
         处理建议：立即检查数据库连接配置，考虑重启数据库服务"
    );
    assert_eq!((message.message_type.as_str(), message.priority), ("alert", 8));
}

#[tokio::test]
async fn every_field_of_a_send_arrives_on_the_socket_and_in_the_list() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.connect("ann").await;
    let metadata = json!({"project": {"id": 7, "tags": ["a", "b"]}, "f": 0.1, "big": u64::MAX});
    let data = service
        .send(json!({
            "title": "标题", "content": "内容\nline \u{1f600}", "message_type": "file_share",
            "recipients": ["ann"], "recipient_type": "user", "priority": 9,
            "sender": {"id": "drive", "type": "service", "name": "Drive", "avatar": "https://x/a"},
            "on_behalf_of": "bob", "expire_at": "2099-01-01T00:00:00+08:00", "metadata": metadata,
            "attachments": [{"type": "file", "name": "a.pdf", "url": "https://x/a.pdf",
                "size": 12, "mime_type": "application/pdf", "thumbnail": "https://x/t"}],
            "actions": [{"type": "confirm", "text": "OK", "url": "", "action": "ok",
                "style": "primary"}],
        }))
        .await
        .ok();
    let frame = ann.next_message().await;
    assert_eq!(Value::Object(frame.fields.metadata.clone()), metadata);
    assert_eq!(frame.fields.expire_at.unwrap().to_string(), "2098-12-31T16:00:00Z");
    assert_eq!(frame.fields.on_behalf_of.as_ref().unwrap().as_str(), "bob");
    assert_eq!(frame.fields.attachments[0].size, 12);
    assert_eq!(frame.fields.actions[0].action, "ok");
    assert_eq!(frame.fields.priority, 9);

    let id = data["message_id"].as_str().unwrap();
    let got = server.as_user("ann").get(&format!("/api/v3/messages/{id}")).await.ok();
    let got = got.get("message").unwrap_or(&got);
    assert_eq!(*got, serde_json::to_value(&frame).unwrap(), "REST and socket say the same");
    let listed = server.as_user("ann").all_messages().await;
    assert_eq!(listed, std::slice::from_ref(got));
}

#[tokio::test]
async fn each_recipient_receives_once_and_nobody_else() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let (mut ann, mut bob) = (server.connect("ann").await, server.connect("bob").await);
    let mut eve = server.connect("eve").await;
    let data = service.send(message_to(&["ann", "bob", "ann"], "hello")).await.ok();
    assert_eq!(data["recipients"], 2);
    assert_eq!(ann.next_message().await.state.seq.0, 1);
    assert_eq!(bob.next_message().await.state.seq.0, 1);
    for client in [&mut ann, &mut bob, &mut eve] {
        client.ping().await; // Nothing but the pong follows.
    }
    assert_eq!(server.as_user("eve").unread().await, 0);
}

#[tokio::test]
async fn a_first_message_creates_the_inbox() {
    let server = TestServer::start().await;
    let service = server.service().await;
    service.send_to("never-seen", "welcome").await.ok();
    let messages = server.as_user("never-seen").all_messages().await;
    assert_eq!(messages[0]["title"], "welcome");
    assert_eq!(messages[0]["seq"], 1);
    assert_eq!(messages[0]["is_read"], false);
}

#[tokio::test]
async fn a_send_to_all_reaches_everybody_who_was_here() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.connect("ann").await;
    service.sent("bob", "before").await;
    let notice = json!({"title": "notice", "content": "c", "message_type": "text",
        "recipient_type": "all", "recipients": []});
    service.send(notice).await.ok();
    service.sent("bob", "after").await;
    assert_eq!(ann.next_message().await.fields.title, "notice");
    let bob = server.as_user("bob").all_messages().await;
    let titles: Vec<_> = bob.iter().map(|m| (m["seq"].as_u64(), m["title"].as_str())).collect();
    assert_eq!(
        titles,
        [(Some(1), Some("before")), (Some(2), Some("notice")), (Some(3), Some("after"))]
    );
    assert_eq!(server.as_user("late").all_messages().await.len(), 0, "came after it");
}

#[tokio::test]
async fn ten_thousand_recipients_are_one_send_and_one_more_is_refused() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let users: Vec<String> = (0..10_001).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let data = service.send(message_to(&names[..10_000], "big")).await.ok();
    assert_eq!(data["recipients"], 10_000);
    for user in [&users[0], &users[9_999]] {
        assert_eq!(server.as_user(user).unread().await, 1, "{user}");
    }
    let sentence = service.send(message_to(&names, "bigger")).await.refused(422, "invalid");
    assert!(sentence.contains("recipients") && sentence.contains("10000"), "{sentence}");
    assert_eq!(server.as_user(&users[10_000]).unread().await, 0);
}

#[tokio::test]
async fn a_user_sends_in_the_own_name_only() {
    let server = TestServer::start().await;
    let mut bob = server.connect("bob").await;
    server.as_user("ann").send_to("bob", "hi").await.ok();
    let message = bob.next_message().await.fields;
    assert_eq!(message.sender, "ann");
    let info = message.sender_info.unwrap();
    assert_eq!((info.id.as_str(), info.kind.as_str()), ("ann", "user"));

    let mut forged = message_to(&["bob"], "from the boss");
    forged["sender"] = json!({"id": "boss", "type": "user", "name": "Boss"});
    server.as_user("ann").send(forged).await.ok();
    let message = bob.next_message().await.fields;
    assert_eq!(message.sender, "ann");
    assert_eq!(message.sender_info.unwrap().name, "ann");
    let mut behalf = message_to(&["bob"], "from the boss");
    behalf["on_behalf_of"] = "boss".into();
    assert_eq!(server.as_user("ann").send(behalf).await.status, 403);
    bob.ping().await;
}

#[tokio::test]
async fn mistakes_are_answered_with_the_field_and_the_limit() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let with = |name: &str, value: Value| {
        let mut message = message_to(&["ann"], "t");
        message[name] = value;
        message
    };
    for (message, named) in [
        (with("titel", "x".into()), &["titel", "title"][..]),
        (with("priority", 0.into()), &["priority", "1", "10"]),
        (with("priority", 11.into()), &["priority", "10"]),
        (with("priority", "high".into()), &["priority"]),
        (with("recipients", json!([])), &["recipients"]),
        (with("recipients", json!(["a\u{0}b"])), &["recipients[0]", "control"]),
        (with("recipients", json!(["x".repeat(129)])), &["recipients[0]", "128"]),
        (with("recipients", json!([""])), &["recipients[0]", "empty"]),
        (with("recipient_type", "everyone".into()), &["recipient_type", "user", "all"]),
        (with("expire_at", "2001-01-01T00:00:00Z".into()), &["expire_at"]),
        (with("expire_at", "tomorrow".into()), &["expire_at", "RFC 3339"]),
        (with("metadata", "text".into()), &["metadata"]),
        (with("template_id", "no_such".into()), &["template_id"]),
    ] {
        let answer = service.send(message.clone()).await;
        let sentence = answer.refused(422, "invalid");
        for word in named {
            assert!(sentence.contains(word), "{message}: {word:?} is not in {sentence}");
        }
    }
    let missing = json!({"template_id": "file_share", "recipients": ["ann"], "variables": {}});
    let sentence = service.send(missing).await.refused(422, "invalid");
    for variable in ["sender_name", "file_name", "file_size", "share_time", "file_url"] {
        assert!(sentence.contains(variable), "{variable} is not in {sentence}");
    }
    assert_eq!(server.as_user("ann").unread().await, 0, "nothing half-written stays");
}

#[tokio::test]
async fn a_message_to_a_token_of_another_tenant_stays_there() {
    let server = TestServer::start().await;
    server.service().await.send_to("ann", "default").await.ok();
    let other = Token::of("ann").claim("tenant_id", "other").sign();
    assert_eq!(server.api().bearer(&other).all_messages().await.len(), 0);
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);
}
