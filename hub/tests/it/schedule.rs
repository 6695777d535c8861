//! `scheduled_at`: sent once, on time, whatever happens to the node in between (contract §5).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestServer, Token, api::message_to, eventually_within};

/// How late a message may be on a machine that does nothing else. The tests' machine does: arrival
/// is waited for longer, and this is asked of the moment that the store wrote down.
const LATE_MAX: Duration = Duration::from_secs(1);

fn ahead(ms: i64) -> Timestamp {
    Timestamp::now() + Duration::from_millis(ms.unsigned_abs())
}

fn at(user: &str, title: &str, time: Timestamp) -> Value {
    let mut message = message_to(&[user], title);
    message["scheduled_at"] = json!(time.to_string());
    message
}

/// Sends it for later; its id.
async fn schedule(api: &Api, message: Value) -> String {
    let data = api.send(message).await.ok();
    assert_eq!(data["status"], "scheduled", "{data}");
    data["message_id"].as_str().unwrap().to_owned()
}

async fn stands(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/v3/messages/{id}/receipts")).await.ok()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

/// How late it was sent.
async fn lateness(api: &Api, id: &str) -> Duration {
    let stands = stands(api, id).await;
    assert_eq!(stands["state"], "sent", "{stands}");
    let late = time(&stands["sent_at"]).duration_since(time(&stands["scheduled_at"]));
    late.try_into().expect("not before its time")
}

async fn titles(api: &Api) -> Vec<String> {
    let all = api.all_messages().await;
    all.iter().map(|message| message["title"].as_str().unwrap().to_owned()).collect()
}

async fn arrive(server: &TestServer, user: &str, count: usize) -> Vec<String> {
    let ann = server.as_user(user);
    eventually_within("what was scheduled arrives", Duration::from_secs(30), || async {
        let titles = titles(&ann).await;
        (titles.len() >= count).then_some(titles)
    })
    .await
}

#[tokio::test]
async fn a_message_waits_for_its_time() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.connect("ann").await;
    let due = ahead(1_500);
    let id = schedule(&service, at("ann", "later", due)).await;
    service.send_to("ann", "now").await.ok();
    assert_eq!(phone.next_message().await.fields.title, "now");
    let ann = server.as_user("ann");
    assert_eq!((ann.unread().await, titles(&ann).await), (1, vec!["now".to_owned()]));
    ann.get(&format!("/api/v3/messages/{id}")).await.refused(404, "not_found");
    let waits = stands(&service, &id).await;
    assert_eq!((&waits["state"], &waits["sent_at"]), (&json!("scheduled"), &Value::Null));
    assert_eq!((&waits["recipients"], &waits["receipts"]), (&json!(1), &json!([])));
    assert!(Timestamp::now() < due, "the machine is too slow for this test");

    let message = phone.next_message().await;
    assert!(Timestamp::now() >= due);
    assert_eq!((message.fields.title.as_str(), message.state.seq.0), ("later", 2));
    assert!(message.fields.created_at.millis() >= due.as_millisecond(), "as old as its sending");
    let late = lateness(&service, &id).await;
    assert!(late <= LATE_MAX, "{late:?} late");
    phone.ping().await;
}

#[tokio::test]
async fn a_restart_and_a_kill_send_it_once_and_on_time() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let due = ahead(2_500);
    let mut ids = vec![schedule(&service, at("ann", "one", due)).await];
    assert!(server.terminate().await.success());
    server.spawn().await;
    let service = service.moved_to(server.user);
    ids.push(schedule(&service, at("ann", "two", due)).await);
    server.crash_and_restart().await;
    let service = service.moved_to(server.user);
    assert_eq!(arrive(&server, "ann", 2).await, ["one", "two"]);
    for id in &ids {
        let late = lateness(&service, id).await;
        assert!(late <= LATE_MAX, "{late:?} late");
    }
    // What was sent is not sent again.
    server.crash_and_restart().await;
    server.service().await.send_to("ann", "three").await.ok();
    assert_eq!(titles(&server.as_user("ann")).await, ["one", "two", "three"]);
}

/// Killed while they fall due: before, between and after.
#[tokio::test]
async fn kills_around_the_due_time_neither_lose_nor_double() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut expected = vec![];
    for round in 0..6 {
        let service = service.moved_to(server.user);
        let begin = ahead(600);
        let due = |n: u64| begin + Duration::from_millis(n * 10);
        let titles: Vec<String> = (0..20).map(|n| format!("{round}-{n:02}")).collect();
        let messages: Vec<_> =
            titles.iter().zip(0..).map(|(title, n)| at("ann", title, due(n))).collect();
        let batch = json!({"messages": messages});
        let sent = service.post("/api/v3/messages/send-batch", batch).await.ok();
        assert_eq!(sent["accepted"], 20);
        expected.extend(titles);
        let until = begin + Duration::from_millis(rand::random_range(0..250));
        let pause = until.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO);
        tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
        server.crash_and_restart().await;
        assert_eq!(arrive(&server, "ann", expected.len()).await, expected, "round {round}");
    }
}

#[tokio::test]
async fn what_fell_due_while_it_was_down_is_sent_by_time_and_priority() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let (soon, sooner) = (ahead(1_200), ahead(1_000));
    for (title, due, priority) in [
        ("low", soon, 1),
        ("high", soon, 9),
        ("middle", soon, 5),
        ("high too", soon, 9),
        ("earlier", sooner, 1),
    ] {
        let mut message = at("ann", title, due);
        message["priority"] = json!(priority);
        schedule(&service, message).await;
    }
    let mut expiring = at("ann", "gone by then", sooner);
    expiring["expire_at"] = json!((sooner + Duration::from_millis(200)).to_string());
    let expired = schedule(&service, expiring).await;
    assert!(server.terminate().await.success());
    let wait = soon.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO);
    tokio::time::timeout(wait + Duration::from_millis(50), std::future::pending::<()>())
        .await
        .unwrap_err();
    server.spawn().await;
    let sent = arrive(&server, "ann", 5).await;
    assert_eq!(sent, ["earlier", "high", "high too", "middle", "low"]);
    // Priority orders what falls due, never an inbox; and what has expired is shown to nobody.
    let ann = server.as_user("ann");
    ann.get(&format!("/api/v3/messages/{expired}")).await.refused(404, "not_found");
    assert_eq!(ann.unread().await, 5);
}

#[tokio::test]
async fn what_is_cancelled_is_not_sent() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let due = ahead(1_500);
    let id = schedule(&service, at("ann", "never", due)).await;
    let recalled = schedule(&service, at("ann", "never either", due)).await;
    schedule(&service, at("ann", "in time", due)).await;
    let cancel = |api: &Api, id: &str| {
        let (api, path) = (api.clone(), format!("/api/v3/messages/{id}/cancel"));
        async move { api.call(Method::POST, &path, None).await }
    };
    for stranger in [server.as_user("ann"), server.as_user("eve"), server.service().await] {
        cancel(&stranger, &id).await.refused(404, "not_found");
    }
    for _ in 0..2 {
        let data = cancel(&service, &id).await.ok();
        assert_eq!(data, json!({"message_id": id, "state": "cancelled"}));
    }
    let path = format!("/api/v3/messages/{recalled}/recall");
    assert_eq!(service.post(&path, json!({})).await.ok()["state"], "cancelled");
    let edit = service.put(&format!("/api/v3/messages/{id}"), json!({"title": "again"})).await;
    edit.refused(409, "conflict");
    assert_eq!(stands(&service, &id).await["state"], "cancelled");
    server.crash_and_restart().await;
    let service = service.moved_to(server.user);
    assert_eq!(arrive(&server, "ann", 1).await, ["in time"]);
    assert_eq!(stands(&service, &id).await["state"], "cancelled");
    let sent = service.sent("ann", "sent").await;
    let sentence = cancel(&service, &sent).await.refused(409, "conflict");
    assert!(sentence.contains("sent"), "{sentence}");
    cancel(&service, "msg-unknown").await.refused(404, "not_found");
    assert_eq!(titles(&server.as_user("ann")).await, ["in time", "sent"]);
}

#[tokio::test]
async fn what_waits_can_be_edited() {
    let mut server = TestServer::start().await;
    let bob = server.as_user("bob");
    let due = ahead(1_800);
    let id = schedule(&bob, at("ann", "draft", due)).await;
    let path = format!("/api/v3/messages/{id}");
    let edited = bob.put(&path, json!({"title": "final", "priority": 8})).await.ok();
    assert_eq!((&edited["state"], &edited["changed"]), (&json!("scheduled"), &json!(true)));
    assert_eq!(edited["message"]["title"], "final");
    let early = json!({"expire_at": (due - Duration::from_millis(1)).to_string()});
    let sentence = bob.put(&path, early).await.refused(422, "invalid");
    assert!(sentence.contains("expire_at") && sentence.contains("scheduled_at"), "{sentence}");
    let other = json!({"scheduled_at": ahead(9_000).to_string()});
    let sentence = bob.put(&path, other).await.refused(422, "invalid");
    assert!(sentence.contains("scheduled_at"), "{sentence}");
    server.crash_and_restart().await;
    let mut phone = server.socket("ann").since(0).connect().await;
    let message = phone.next_message().await;
    assert_eq!((message.fields.title.as_str(), message.fields.priority), ("final", 8));
    assert_eq!(message.fields.edited_at, None, "nobody saw the draft");
    assert_eq!(message.state.version, message.state.seq);
}

#[tokio::test]
async fn a_batch_may_have_some_for_later() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let later = at("ann", "later", ahead(700));
    let past = at("ann", "past", "2001-01-01T00:00:00Z".parse().unwrap());
    let batch = json!({"messages": [later, message_to(&["ann"], "now"), past]});
    let data = service.post("/api/v3/messages/send-batch", batch).await.ok();
    let states: Vec<_> = data["results"].as_array().unwrap().iter().map(|r| &r["status"]).collect();
    assert_eq!(states, ["scheduled", "accepted", "accepted"]);
    assert_eq!(arrive(&server, "ann", 3).await, ["now", "past", "later"]);
}

#[tokio::test]
async fn times_that_cannot_be() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let with = |changes: Value| {
        let mut message = message_to(&["ann"], "t");
        message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        message
    };
    let year = Duration::from_secs(366 * 24 * 3600);
    for (changes, named) in [
        (json!({"scheduled_at": "tomorrow"}), &["scheduled_at", "RFC 3339"][..]),
        (json!({"scheduled_at": 1}), &["scheduled_at"]),
        (
            json!({"scheduled_at": (ahead(60_000) + year).to_string()}),
            &["scheduled_at", "366 days"],
        ),
        (json!({"scheduled_at": "9999-12-30T00:00:00Z"}), &["scheduled_at", "366 days"]),
        (
            json!({"scheduled_at": ahead(9_000).to_string(), "expire_at": ahead(5_000).to_string()}),
            &["expire_at", "after scheduled_at"],
        ),
        (
            json!({"scheduled_at": ahead(9_000).to_string(), "expire_at": "2001-01-01T00:00:00Z"}),
            &["expire_at", "future"],
        ),
    ] {
        let sentence = service.send(with(changes.clone())).await.refused(422, "invalid");
        for word in named {
            assert!(sentence.contains(word), "{changes}: {word:?} is not in {sentence}");
        }
    }
    assert_eq!(server.as_user("ann").unread().await, 0, "nothing was sent");
    let reader = Token::of("bob").claim("scope", json!(["read"]));
    let reader = server.api().bearer(&reader.sign());
    reader.send(at("ann", "t", ahead(9_000))).await.refused(403, "forbidden");
}
