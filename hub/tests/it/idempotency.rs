//! `Idempotency-Key` (contract §5): a send that is sent again is one send.

use std::{collections::HashMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Answer, Api, TestServer, Token, api::message_to, eventually, eventually_within, rounds,
};

const SEND: &str = "/api/v3/messages/send";
const BATCH: &str = "/api/v3/messages/send-batch";
const TEMPLATE: &str = "/api/v3/messages/send-template";

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

#[tokio::test]
async fn a_repeat_gets_the_same_answer_and_sends_nothing() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let sender = service.key("order-4711");
    let first = sender.send_to("ann", "hello").await;
    assert!(!replayed(&first));
    let data = first.ok();
    for _ in 0..3 {
        let again = sender.send_to("ann", "hello").await;
        assert!(replayed(&again), "{:?}", again.headers);
        assert_eq!(again.ok(), data);
    }
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);

    // The same request, encoded anew: other spaces, another order, another codec.
    let reordered = r#"{ "recipient_type":"user", "recipients": ["ann"],
        "message_type":"text","content":"hello","title":"hell\u006f" }"#;
    let again = sender.raw(SEND, "application/json", reordered.into()).await;
    assert!(replayed(&again));
    assert_eq!(again.ok(), data);
    let packed = rmp_serde::to_vec_named(&message_to(&["ann"], "hello")).unwrap();
    let again = sender
        .clone()
        .header("Accept", "application/json")
        .raw(SEND, "application/msgpack", packed)
        .await;
    assert!(replayed(&again));
    assert_eq!(again.ok(), data);

    server.crash_and_restart().await;
    let again = sender.moved_to(server.user).send_to("ann", "hello").await;
    assert!(replayed(&again), "a kill forgets nothing");
    assert_eq!(again.ok(), data);
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);
    // Without the key it is another send.
    service.moved_to(server.user).send_to("ann", "hello").await.ok();
    assert_eq!(server.as_user("ann").all_messages().await.len(), 2);
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_idempotency_requests_total{result=\"replayed\"} 1"));
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_sender() {
    let server = TestServer::start().await;
    let service = server.service().await;
    service.key("k").send_to("ann", "one").await.ok();
    for (path, body) in [
        (SEND, message_to(&["ann"], "two")),
        (SEND, message_to(&["bob"], "one")),
        (BATCH, json!({"messages": [message_to(&["ann"], "one")]})),
        (
            TEMPLATE,
            json!({"template_id": "file_share", "recipients": ["ann"], "variables": {
            "sender_name": "a", "file_name": "b", "file_size": "c",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://x/y"}}),
        ),
    ] {
        let answer = service.key("k").post(path, body).await;
        let sentence = answer.refused(422, "invalid");
        assert!(sentence.contains("Idempotency-Key"), "{path}: {sentence}");
    }
    assert_eq!(server.as_user("bob").unread().await, 0);
    // Of others it is another key, whatever their names are.
    let other = server.service().await;
    let acme = server.api().bearer(&Token::of("ann").claim("tenant_id", "acme").sign());
    for sender in [other, server.as_user("ann"), server.as_user("bob"), acme] {
        let answer = sender.key("k").send_to("cid", "mine").await;
        assert!(!replayed(&answer));
        answer.ok();
    }
    assert_eq!(server.as_user("cid").unread().await, 3, "and one behind another wall");
}

#[tokio::test]
async fn what_was_refused_is_not_kept() {
    let server = TestServer::start().await;
    let service = server.service_of_level("business", &[]).await;
    let sender = service.key("k");
    let mut message = message_to(&["ann"], "hello");
    message["priority"] = json!(11);
    sender.send(message.clone()).await.refused(422, "invalid");
    message["priority"] = json!(9);
    message["message_type"] = json!("alert");
    sender.send(message.clone()).await.refused(403, "forbidden");
    message["message_type"] = json!("text");
    let answer = sender.send(message.clone()).await;
    assert!(!replayed(&answer));
    answer.ok();
    // Nor a batch of which nothing was accepted.
    let batch = |priority: u8| {
        let mut message = message_to(&["ann"], "b");
        message["priority"] = json!(priority);
        json!({"messages": [message]})
    };
    let answer = service.key("b").post(BATCH, batch(11)).await;
    assert_eq!(answer.ok()["rejected"], 1);
    let answer = service.key("b").post(BATCH, batch(1)).await;
    assert!(!replayed(&answer));
    assert_eq!(answer.ok()["accepted"], 1);
}

#[tokio::test]
async fn a_batch_is_repeated_whole() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut bad = message_to(&["ann"], "bad");
    bad["titel"] = json!("x");
    let mut later = message_to(&["ann"], "later");
    later["scheduled_at"] = json!("2999-01-01T00:00:00Z");
    let batch = json!({"messages": [
        message_to(&["ann"], "one"), bad, message_to(&["ann", "bob"], "two"), later,
    ]});
    let first = service.key("b").post(BATCH, batch.clone()).await.ok();
    assert_eq!((&first["accepted"], &first["rejected"]), (&json!(2), &json!(2)));
    let again = service.key("b").post(BATCH, batch).await;
    assert!(replayed(&again));
    assert_eq!(again.ok(), first);
    assert_eq!(server.as_user("ann").unread().await, 2);
    assert_eq!(server.as_user("bob").unread().await, 1);
}

/// A client that gave up waiting and its retry must not both send, and neither may 50 at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_sent() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for round in 0..20 {
        let text = format!("m{round}");
        let mut tasks = JoinSet::new();
        for _ in 0..25 {
            let (sender, text) = (service.key(&text), text.clone());
            tasks.spawn(async move { sender.send_to("ann", &text).await });
        }
        let (mut first, mut ids) = (0, vec![]);
        while let Some(answer) = tasks.join_next().await.transpose().unwrap() {
            if answer.status == 409 {
                answer.refused(409, "idempotency_in_progress");
                assert_eq!(answer.header("retry-after"), "1");
                continue;
            }
            first += u32::from(!replayed(&answer));
            ids.push(answer.ok()["message_id"].clone());
        }
        ids.dedup();
        assert_eq!((first, ids.len()), (1, 1), "round {round}");
    }
    let titles: Vec<Value> =
        server.as_user("ann").all_messages().await.iter().map(|m| m["title"].clone()).collect();
    let expected: Vec<Value> = (0..20).map(|round| json!(format!("m{round}"))).collect();
    assert_eq!(titles, expected);
}

/// A client that hangs up has not cancelled what it asked for: its key stays taken until it is done.
#[tokio::test]
async fn a_client_that_hangs_up_and_comes_back_sends_once() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for round in 0..40 {
        let text = format!("m{round}");
        let sender = service.key(&text);
        let patience = Duration::from_micros(rand::random_range(0..3_000));
        let _ = tokio::time::timeout(patience, sender.send_to("ann", &text)).await;
        eventually("the retry is answered", || async {
            let answer = sender.send_to("ann", &text).await;
            assert!([200, 409].contains(&answer.status), "{}", answer.body);
            answer.status == 200
        })
        .await;
        assert_eq!(server.as_user("ann").unread().await, round + 1);
    }
}

/// Sends with keys through a server that is killed again and again; whatever was not answered is
/// sent again. In the end each is there once, and under the id of every answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_kills_nothing_is_lost_and_nothing_doubled() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut waiting: Vec<String> = Vec::new();
    let mut answered: HashMap<String, Value> = HashMap::new();
    let kills = rounds("IDEMPOTENCY_KILLS", 12);
    let mut replays = 0;
    for round in 0..kills {
        waiting.extend((0..30).map(|n| format!("{round}-{n}")));
        let sender = service.moved_to(server.user);
        let mut tasks = JoinSet::new();
        for name in waiting.clone() {
            let sender = sender.clone();
            tasks.spawn(async move { (send_keyed(&sender, &name).await, name) });
        }
        // At any moment from before the first answer to long after the last.
        let pause = Duration::from_millis(rand::random_range(0..40));
        tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
        server.kill_9().await;
        while let Some((answer, name)) = tasks.join_next().await.transpose().unwrap() {
            replays += note(answer, name, &mut answered);
        }
        waiting.retain(|name| !answered.contains_key(name));
        server.spawn().await;
        // Those that were answered are asked again now and then: the answer stays.
        let sender = service.moved_to(server.user);
        for name in answered.keys().take(5).cloned().collect::<Vec<_>>() {
            let answer = send_keyed(&sender, &name).await;
            assert_eq!(note(answer, name, &mut answered), 1, "an answered send was run again");
        }
    }
    let sender = service.moved_to(server.user);
    for name in waiting {
        let answer = eventually_within("the last retry", Duration::from_secs(20), || async {
            send_keyed(&sender, &name).await
        })
        .await;
        replays += note(Some(answer), name, &mut answered);
    }
    let mut there: HashMap<String, Value> = HashMap::new();
    for message in server.as_user("ann").all_messages().await {
        let name = message["title"].as_str().unwrap().to_owned();
        assert!(there.insert(name, message["id"].clone()).is_none(), "doubled: {message}");
    }
    assert_eq!(answered.len(), kills * 30);
    assert_eq!(there, answered);
    println!("{} sends through {kills} kills, {replays} of them answered by a replay", there.len());
}

async fn send_keyed(sender: &Api, name: &str) -> Option<Answer> {
    let message = message_to(&["ann"], name);
    sender.key(name).try_call(Method::POST, SEND, Some(message)).await.ok()
}

/// Writes down the id of an answer, which must be that of every earlier one; 1 for a replay.
fn note(answer: Option<Answer>, name: String, answered: &mut HashMap<String, Value>) -> u32 {
    let Some(answer) = answer.filter(|answer| answer.status != 503) else { return 0 };
    let replay = u32::from(replayed(&answer));
    let id = answer.ok()["message_id"].clone();
    let known = answered.entry(name).or_insert_with(|| id.clone());
    assert_eq!(*known, id);
    replay
}

#[tokio::test]
async fn keys_that_are_none() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let long = "k".repeat(256);
    for (key, said) in
        [("", "empty"), (&*long, "255"), ("schl\u{fc}ssel", "ASCII"), ("a\tb", "ASCII")]
    {
        let sentence = service.key(key).send_to("ann", "t").await.refused(422, "invalid");
        assert!(sentence.contains("Idempotency-Key") && sentence.contains(said), "{sentence}");
    }
    let sentence = service.key("a").key("b").send_to("ann", "t").await.refused(422, "invalid");
    assert!(sentence.contains("once"), "{sentence}");
    assert_eq!(server.as_user("ann").unread().await, 0);
    service.key(&"k".repeat(255)).send_to("ann", "t").await.ok();
    service.key("with spaces, and \"quotes\"").send_to("ann", "t").await.ok();
    assert_eq!(server.as_user("ann").unread().await, 2);
}
