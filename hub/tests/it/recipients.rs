//! Who receives a message: names as a sender writes them (contract §5).

use serde_json::{Value, json};

use crate::support::{Api, TestClient, TestServer, Token};

/// Seed 003 §4.6.3, as it stands there.
const ALERT: &str = r#"{
    "template_id": "system_alert",
    "recipients": ["admin_team"],
    "variables": {
        "alert_type": "数据库连接异常",
        "alert_message": "主数据库连接池耗尽，当前活跃连接数：100/100",
        "affected_scope": "用户认证、订单查询",
        "suggestion": "立即检查数据库连接配置，考虑重启数据库服务"
    }
}"#;

fn alert() -> Value {
    serde_json::from_str(ALERT).unwrap()
}

fn to(recipients: &[&str]) -> Value {
    json!({"title": "t", "content": "c", "recipients": recipients})
}

fn to_kind(recipients: &[&str], kind: &str) -> Value {
    json!({"title": "t", "content": "c", "recipients": recipients, "recipient_type": kind})
}

/// A channel with members.
async fn channel(service: &Api, id: &str, members: &[&str]) {
    let new = json!({"id": id, "name": id});
    service.post("/api/v3/channels", new).await.ok();
    let path = format!("/api/v3/channels/{id}/members");
    service.post(&path, json!({"join": members})).await.ok();
}

async fn with_roles(server: &TestServer, user: &str, roles: &[&str]) -> TestClient {
    server.socket(user).token(Token::of(user).claim("roles", json!(roles))).connect().await
}

#[tokio::test]
async fn admin_team_as_a_role_reaches_who_carries_it_also_offline() {
    let server = TestServer::start().await;
    let monitoring = server.service().await;
    let mut ann = with_roles(&server, "ann", &["admin_team"]).await;
    // Known by one request, and away since.
    let bob = Token::of("bob").claim("roles", json!(["other", "admin_team"])).sign();
    server.api().bearer(&bob).unread().await;
    let mut eve = server.connect("eve").await;
    let answer = monitoring.send(alert()).await.ok();
    assert_eq!((&answer["status"], &answer["recipients"]), (&json!("accepted"), &json!(2)));
    let message = ann.next_message().await.fields;
    assert_eq!((message.title.as_str(), message.priority), ("系统告警：数据库连接异常", 8));
    assert_eq!(message.channel_id, None);
    let listed = server.as_user("bob").all_messages().await;
    assert_eq!(listed[0]["title"], "系统告警：数据库连接异常");
    eve.ping().await;
    // No inbox was made for the name itself.
    server.as_admin().get("/api/v3/admin/users/admin_team").await.refused(404, "not_found");
}

#[tokio::test]
async fn admin_team_as_a_channel_reaches_its_members() {
    let server = TestServer::start().await;
    let monitoring = server.service().await;
    // Also a role: the channel comes first.
    let mut carl = with_roles(&server, "carl", &["admin_team"]).await;
    channel(&monitoring, "admin_team", &["ann", "bob"]).await;
    let mut ann = server.connect("ann").await;
    let answer = monitoring.send(alert()).await.ok();
    assert_eq!(answer["recipients"], 2);
    let message = ann.next_message().await.fields;
    assert_eq!(message.title, "系统告警：数据库连接异常");
    assert_eq!(message.channel_id.unwrap().as_str(), "admin_team");
    assert_eq!(server.as_user("bob").unread().await, 1);
    carl.ping().await;
}

#[tokio::test]
async fn a_known_user_comes_before_a_channel_of_the_name() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut named = server.connect("team").await;
    channel(&service, "team", &["ann"]).await;
    assert_eq!(service.send(to(&["team"])).await.ok()["recipients"], 1);
    assert_eq!(named.next_message().await.fields.channel_id, None);
    assert_eq!(server.as_user("ann").unread().await, 0);
    service.send(to_kind(&["team"], "channel")).await.ok();
    named.ping().await;
    assert_eq!(server.as_user("ann").unread().await, 1);
}

/// A message makes an inbox of any name. It must not take a channel's or a role's messages away.
#[tokio::test]
async fn nobody_takes_a_name_by_sending_to_it() {
    let server = TestServer::start().await;
    let monitoring = server.service().await;
    let mallory = server.as_user("mallory");
    let hijack = async |kind: Value| {
        let message = json!({"title": "x", "recipients": ["admin_team"], "recipient_type": kind});
        mallory.send(message).await.ok();
    };
    hijack(json!("user")).await;
    let ann = Token::of("ann").claim("roles", json!(["admin_team"])).sign();
    let ann = server.api().bearer(&ann);
    assert_eq!(ann.unread().await, 0);
    hijack(Value::Null).await;
    assert_eq!(monitoring.send(alert()).await.ok()["recipients"], 1);
    assert_eq!(ann.all_messages().await[0]["title"], "系统告警：数据库连接异常");
    channel(&monitoring, "admin_team", &["bob", "carol"]).await;
    hijack(Value::Null).await;
    assert_eq!(monitoring.send(alert()).await.ok()["recipients"], 2);
    assert_eq!(server.as_user("carol").unread().await, 1);
}

#[tokio::test]
async fn each_receives_once_however_often_they_are_meant() {
    let server = TestServer::start().await;
    let service = server.service().await;
    channel(&service, "one", &["ann", "bob"]).await;
    channel(&service, "two", &["ann", "carol"]).await;
    let mut ann = with_roles(&server, "ann", &["oncall"]).await;
    let names = ["one", "two", "one", "oncall", "ann", "dave", "ann"];
    let answer = service.send(to(&names)).await.ok();
    assert_eq!(answer["recipients"], 4);
    assert_eq!(ann.next_message().await.state.seq.0, 1);
    ann.ping().await;
    for user in ["ann", "bob", "carol", "dave"] {
        assert_eq!(server.as_user(user).all_messages().await.len(), 1, "{user}");
    }
}

#[tokio::test]
async fn departments_of_tokens_and_of_admins_are_roles() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for user in ["ann", "bob"] {
        let token = Token::of(user).claim("department", "财务").sign();
        server.api().bearer(&token).unread().await;
    }
    let path = "/api/v3/admin/users/bob/department";
    server.as_admin().put(path, json!({"department": "hr"})).await.ok();
    let sent =
        async |name: &str| service.send(to_kind(&[name], "role")).await.ok()["recipients"].clone();
    assert_eq!(sent("department:财务").await, 1);
    assert_eq!(sent("department:hr").await, 1);
    assert_eq!(server.as_user("ann").unread().await, 1);
    assert_eq!(server.as_user("bob").unread().await, 1);
    let refused =
        service.send(to_kind(&["department:财 务"], "role")).await.refused(422, "invalid");
    assert!(refused.contains("recipients[0]") && refused.contains("nobody"), "{refused}");
}

#[tokio::test]
async fn a_newer_token_says_which_roles_a_user_carries() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let token = |age: i64, roles: &[&str]| {
        let now = jiff::Timestamp::now().as_second();
        Token::of("ann").claim("roles", json!(roles)).claim("iat", now - age).sign()
    };
    let (old, new) = (token(100, &["oncall"]), token(50, &["retired"]));
    let carries = async || {
        let user = server.as_admin().get("/api/v3/admin/users/ann").await.ok();
        user["roles"].clone()
    };
    server.api().bearer(&old).unread().await;
    assert_eq!(carries().await, json!(["oncall"]));
    server.api().bearer(&new).unread().await;
    assert_eq!(carries().await, json!(["retired"]));
    server.api().bearer(&old).unread().await;
    assert_eq!(carries().await, json!(["retired"]), "an older token takes nothing back");
    assert_eq!(service.send(to_kind(&["oncall"], "role")).await.status, 422);
    // Also by a socket, and by a new token on one.
    let mut socket = server.socket("ann").token(Token::of("ann").device("d")).connect().await;
    assert_eq!(carries().await, json!([]));
    let fresh = Token::of("ann").device("d").claim("roles", json!(["lead"]));
    // Within one second of the one before, which it does not have to lose against.
    socket.refresh(&fresh).await;
    socket.ping().await;
    crate::support::eventually("the new token is noted", || {
        let carries = &carries;
        async move { carries().await == json!(["lead"]) }
    })
    .await;
}

#[tokio::test]
async fn late_joiners_and_leavers() {
    let server = TestServer::start().await;
    let service = server.service().await;
    channel(&service, "ops", &["ann"]).await;
    let members = async |change: Value| {
        service.post("/api/v3/channels/ops/members", change).await.ok();
    };
    let send = async |title: &str| {
        let mut message = to(&["ops"]);
        message["title"] = json!(title);
        service.send(message).await.ok();
    };
    send("one").await;
    members(json!({"join": ["bob"]})).await;
    let mut bob = server.connect("bob").await;
    send("two").await;
    assert_eq!(bob.next_message().await.fields.title, "two");
    members(json!({"leave": ["bob"]})).await;
    send("three").await;
    bob.ping().await;
    members(json!({"join": ["bob"]})).await;
    send("four").await;
    assert_eq!(bob.next_message().await.fields.title, "four");
    let titles = async |user: &str| -> Vec<String> {
        let messages = server.as_user(user).all_messages().await;
        messages.iter().map(|m| m["title"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(titles("bob").await, ["two", "four"]);
    assert_eq!(titles("ann").await, ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn groups_survive_a_crash_and_their_messages_too() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    channel(&service, "ops", &["ann", "bob"]).await;
    let token = Token::of("carol").claim("roles", json!(["oncall"])).sign();
    server.api().bearer(&token).unread().await;
    service.send(to(&["ops", "oncall"])).await.ok();
    server.crash_and_restart().await;
    let service = service.moved_to(server.user);
    assert_eq!(service.send(to(&["ops", "oncall"])).await.ok()["recipients"], 3);
    for user in ["ann", "bob", "carol"] {
        assert_eq!(server.as_user(user).all_messages().await.len(), 2, "{user}");
    }
}

/// A channel is no member of a channel: what is written there is a user's id. So no message goes
/// round in a circle, however the names are chosen.
#[tokio::test]
async fn channels_in_channels_make_no_circle() {
    let server = TestServer::start().await;
    let service = server.service().await;
    channel(&service, "a", &["b", "a", "ann"]).await;
    channel(&service, "b", &["a", "b", "bob"]).await;
    let sent = service.send(to_kind(&["a"], "channel")).await.ok();
    assert_eq!(sent["recipients"], 3);
    for (user, count) in [("a", 1), ("b", 1), ("ann", 1), ("bob", 0)] {
        assert_eq!(server.as_user(user).all_messages().await.len(), count, "{user}");
    }
    let both = service.send(to_kind(&["a", "b"], "channel")).await.ok();
    assert_eq!(both["recipients"], 4);
    for (user, count) in [("a", 2), ("b", 2), ("ann", 2), ("bob", 1)] {
        assert_eq!(server.as_user(user).all_messages().await.len(), count, "{user}");
    }
}

#[tokio::test]
async fn wrong_recipients_are_named_with_the_nearest_known() {
    let server = TestServer::start().await;
    let service = server.service().await;
    channel(&service, "operations", &["ann"]).await;
    let many: Vec<String> = (0..10_001).map(|n| format!("c{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (message, words) in [
        (to_kind(&["operatoins"], "channel"), &["recipients[0]", "operations"][..]),
        (to_kind(&["operations", "nothing"], "channel"), &["recipients[1]"]),
        (to_kind(&["nobody"], "role"), &["recipients[0]", "nobody"]),
        (to_kind(&[], "channel"), &["recipients", "at least one"]),
        (to_kind(&["ann"], "all"), &["recipients", "empty"]),
        (to_kind(&["ann"], "group"), &["recipient_type", "user, channel, role, all"]),
        (to_kind(&many[..101], "channel"), &["recipients", "100"]),
        (to_kind(&many, "channel"), &["recipients", "10000"]),
        (to_kind(&["a\u{0}"], "channel"), &["recipients[0]", "control"]),
    ] {
        let said = service.send(message).await.refused(422, "invalid");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    }
    assert_eq!(server.as_user("ann").unread().await, 0);
    let batch = json!({"messages": [to(&["operations"]), to_kind(&["x"], "channel")]});
    let results = service.post("/api/v3/messages/send-batch", batch).await.ok();
    assert_eq!((&results["accepted"], &results["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(server.as_user("ann").unread().await, 1);
}
