//! `Idempotency-Key`, where a test has to look at or into the store.

use std::time::Duration;

use axum::body::Body;
use protocol::{ServiceId, TenantId, Time};
use serde_json::{Value, json};

use super::harness::{Answer, Api, request};
use crate::{
    StoreError,
    control::NewService,
    limit::{LimitConfig, Rate},
    store::{Batch, Ledger, SenderKey, Store, StoredAnswer, limits::ANSWER_KEPT},
};

fn hello(title: &str) -> Value {
    json!({"title": title, "content": "c", "recipients": ["bob"]})
}

async fn keyed(api: &Api, caller: &str, path: &str, key: &str, body: &Value) -> Answer {
    let request = request("POST", caller, path).header("idempotency-key", key);
    api.call(request.body(Body::from(body.to_string())).unwrap()).await
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

async fn stored(api: &Api, service: &str, key: &str) -> Option<StoredAnswer> {
    let sender = SenderKey::Service(ServiceId::new(service).unwrap());
    api.store.answer(&TenantId::default(), &sender, key).await.unwrap()
}

fn named(api: &Api, id: &str) -> String {
    api.service(NewService { id: Some(id.to_owned()), ..NewService::named(id) })
}

#[tokio::test]
async fn the_answer_is_stored_with_the_message() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let first = keyed(&api, &shop, "/messages/send", "k", &hello("t")).await;
    assert!(!replayed(&first));
    let kept = stored(&api, "shop", "k").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept.data).unwrap(), *first.data());
    let again = keyed(&api, &shop, "/messages/send", "k", &hello("t")).await;
    assert!(replayed(&again));
    assert_eq!(again.body, first.body);
    assert_eq!(*api.store.appends.lock(), [1], "one append for both requests");
    let accepted = "pushhub_messages_accepted_total{kind=send,source=service}";
    assert_eq!(api.counts.of(accepted), 1);
    let packed = request("POST", &shop, "/messages/send")
        .header("idempotency-key", "k")
        .header("accept", "application/msgpack")
        .body(Body::from(hello("t").to_string()))
        .unwrap();
    let packed = api.call(packed).await;
    assert_eq!(packed.data(), first.data());
    let other = keyed(&api, &shop, "/messages/send", "k", &hello("u")).await;
    assert_eq!(other.fields(), ["Idempotency-Key"]);
    let results = |result: &str| {
        api.counts.of(&format!("pushhub_idempotency_requests_total{{result={result}}}"))
    };
    assert_eq!((results("first"), results("replayed"), results("mismatch")), (1, 2, 1));
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let before = |age: Duration| {
        Time::from_millis(crate::clock::now().millis() - i64::try_from(age.as_millis()).unwrap())
    };
    let minute = Duration::from_secs(60);
    for (key, age, kept) in
        [("young", ANSWER_KEPT - minute, true), ("old", ANSWER_KEPT + minute, false)]
    {
        keyed(&api, &shop, "/messages/send", "now", &hello(key)).await;
        let answer = stored(&api, "shop", "now").await.unwrap();
        let answer = StoredAnswer { key: key.to_owned(), at: before(age), ..answer };
        api.store.append(Batch { items: Vec::new(), answer: Some(answer) }).await.unwrap();
        let again = keyed(&api, &shop, "/messages/send", key, &hello("young")).await;
        assert_eq!(replayed(&again), kept, "{key}");
        again.data();
    }
}

#[tokio::test]
async fn what_could_not_be_stored_is_run_again() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let batch = json!({"messages": [hello("a"), hello("b")]});
    api.store.fail_with(|| StoreError::Busy("journal"));
    for (path, body) in [("/messages/send", &hello("t")), ("/messages/send-batch", &batch)] {
        keyed(&api, &shop, path, path, body).await.error(503, "unavailable");
    }
    api.store.work_again();
    for (path, body) in [("/messages/send", &hello("t")), ("/messages/send-batch", &batch)] {
        let answer = keyed(&api, &shop, path, path, body).await;
        assert!(!replayed(&answer), "the key was free again");
        let first = answer.data().clone();
        assert_eq!(*keyed(&api, &shop, path, path, body).await.data(), first);
    }
    assert_eq!(api.store.messages(&Api::inbox("bob")).await.len(), 3);
}

#[tokio::test]
async fn a_repeat_costs_one_request_whatever_it_repeats() {
    let limits = LimitConfig { service: Some(Rate::hourly(10)), ..LimitConfig::default() };
    let api = Api::with_limits(limits);
    let shop = named(&api, "shop");
    let batch = json!({"messages": vec![hello("t"); 5]});
    let first = keyed(&api, &shop, "/messages/send-batch", "k", &batch).await.data().clone();
    for _ in 0..3 {
        let again = keyed(&api, &shop, "/messages/send-batch", "k", &batch).await;
        assert!(replayed(&again));
        assert_eq!(*again.data(), first);
    }
    let other = keyed(&api, &shop, "/messages/send-batch", "l", &batch).await;
    other.error(429, "rate_limited");
    assert!(stored(&api, "shop", "l").await.is_none());
}
