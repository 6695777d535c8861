//! Quotas of tenants.

use serde_json::{Value, json};

use super::harness::{ADMIN_TOKEN, Api};
use crate::control::NewService;

fn admin() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

fn to(recipients: &[&str]) -> Value {
    json!({"title": "t", "content": "c", "recipients": recipients, "recipient_type": "user"})
}

async fn set(api: &Api, quotas: Value) {
    let body = json!({"quotas": quotas});
    api.put(&admin(), "/admin/tenants/default", body).await.data();
}

async fn usage(api: &Api) -> (u64, u64) {
    let answer = api.get(&admin(), "/admin/tenants/default").await;
    let usage = &answer.data()["usage"];
    assert!(usage["since"].as_str().unwrap().ends_with("T00:00:00Z"), "{usage}");
    (usage["messages"].as_u64().unwrap(), usage["recipients"].as_u64().unwrap())
}

#[tokio::test]
async fn a_day_has_so_many_messages_and_recipients() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    let send = async |message: Value| api.post(&shop, "/messages/send", message).await;
    send(to(&["a"])).await.data();
    assert_eq!(usage(&api).await, (1, 1), "counted without quotas too");
    set(&api, json!({"messages_per_day": 3, "recipients_per_day": 10})).await;
    send(to(&["a", "b", "a"])).await.data();
    // What is refused for something else uses nothing.
    send(json!({"recipients": ["a"]})).await.error(422, "invalid");
    assert_eq!(usage(&api).await, (2, 3));
    let many = send(to(&["1", "2", "3", "4", "5", "6", "7", "8"])).await;
    many.error(429, "quota_exceeded");
    assert!(many.body["message"].as_str().unwrap().contains("recipients_per_day"));
    assert_eq!(usage(&api).await, (2, 3));
    send(to(&["a"])).await.data();
    let refused = send(to(&["a"])).await;
    refused.error(429, "quota_exceeded");
    let sentence = refused.body["message"].as_str().unwrap();
    assert!(sentence.contains("messages_per_day") && sentence.contains('3'), "{sentence}");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 3_600).contains(&after), "{after}");
    // Users of the tenant draw on the same; another tenant has its own.
    let ann = api.user("ann", &[]);
    api.post(&ann, "/messages/send", to(&["a"])).await.error(429, "quota_exceeded");
    let other = api.user_with("ann", |request| {
        request.tenant = Some(protocol::TenantId::new("t2").unwrap());
    });
    api.post(&other, "/messages/send", to(&["a"])).await.data();
    let rejected = "pushhub_messages_rejected_total{reason=quota_exceeded}";
    assert_eq!(api.counts.of(rejected), 3);

    let list = api.get(&admin(), "/admin/tenants").await;
    let ids: Vec<_> = list.data()["tenants"].as_array().unwrap().iter().collect();
    assert_eq!((&ids[0]["tenant_id"], &ids[1]["tenant_id"]), (&json!("default"), &json!("t2")));
    assert_eq!((&ids[1]["updated_at"], &list.data()["total"]), (&Value::Null, &json!(2)));
    set(&api, json!({})).await;
    send(to(&["a"])).await.data();
}

#[tokio::test]
async fn of_a_batch_those_are_taken_that_fit() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    set(&api, json!({"messages_per_day": 2})).await;
    let batch = json!({"messages": [to(&["a"]), to(&[]), to(&["b"]), to(&["c"])]});
    let answer = api.post(&shop, "/messages/send-batch", batch).await;
    let results = answer.data()["results"].as_array().unwrap();
    let codes: Vec<_> = results.iter().map(|result| result["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 422, 200, 429]);
    assert_eq!(results[3]["error"]["type"], "quota_exceeded");
    assert_eq!(usage(&api).await, (2, 2));
}

#[tokio::test]
async fn what_could_not_be_stored_is_given_back() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    api.post(&shop, "/messages/send", to(&["a"])).await.data();
    api.store.fail_with(|| crate::StoreError::Busy("journal"));
    api.post(&shop, "/messages/send", to(&["a"])).await.error(503, "unavailable");
    let batch = json!({"messages": [to(&["a"]), to(&["b"])]});
    api.post(&shop, "/messages/send-batch", batch).await.error(503, "unavailable");
    assert_eq!(usage(&api).await, (1, 1));
}

#[tokio::test]
async fn channels_and_templates_have_quotas() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    set(&api, json!({"channels": 2, "templates": 1})).await;
    let channel =
        async |id: &str| api.post(&shop, "/channels", json!({"id": id, "name": id})).await;
    channel("a").await.data();
    channel("b").await.data();
    let refused = channel("c").await;
    refused.error(422, "invalid");
    assert!(refused.body["message"].as_str().unwrap().contains("channels of this tenant is 2"));
    assert_eq!(api.counts.of("pushhub_channel_limit_total{limit=quota}"), 1);
    api.put(&shop, "/channels/a", json!({"name": "A"})).await.data();
    api.delete(&shop, "/channels/a").await.data();
    channel("c").await.data();
    // Two at once do not both take the last one.
    api.delete(&shop, "/channels/c").await.data();
    let (d, e) = tokio::join!(channel("d"), channel("e"));
    assert_eq!(d.status.as_u16() + e.status.as_u16(), 200 + 422);

    let template = |id: &str| json!({"id": id, "name": "n", "category": "business", "title": "t"});
    api.post(&shop, "/messages/templates", template("one")).await.data();
    let refused = api.post(&shop, "/messages/templates", template("two")).await;
    refused.error(422, "invalid");
    assert!(refused.body["message"].as_str().unwrap().contains("templates of this tenant is 1"));
    assert_eq!(api.counts.of("pushhub_template_limit_total{limit=quota}"), 1);
    // What is there can be changed, also under a quota that was lowered.
    set(&api, json!({"templates": 0})).await;
    api.put(&shop, "/messages/templates/one", template("one")).await.data();
    api.delete(&shop, "/messages/templates/one").await.data();
    api.post(&shop, "/messages/templates", template("one")).await.error(422, "invalid");
}

#[tokio::test]
async fn who_sees_and_sets_quotas() {
    let api = Api::new();
    let chief = api.user_with("chief", |request| {
        request.tenant = Some(protocol::TenantId::new("t2").unwrap());
        request.roles = vec!["system_admin".to_owned()];
    });
    let list = api.get(&chief, "/admin/tenants").await;
    assert_eq!(
        (&list.data()["total"], &list.data()["tenants"][0]["tenant_id"]),
        (&json!(1), &json!("t2"))
    );
    assert_eq!(list.data()["tenants"][0]["quotas"]["channels"], Value::Null);
    api.get(&chief, "/admin/tenants/t2").await.data();
    api.get(&chief, "/admin/tenants/default").await.error(403, "forbidden");
    let body = json!({"quotas": {"channels": 5}});
    api.put(&chief, "/admin/tenants/t2", body.clone()).await.error(403, "forbidden");
    api.put(&api.user("ann", &[]), "/admin/tenants/t2", body.clone()).await.error(403, "forbidden");
    let set = api.put(&admin(), "/admin/tenants/t2", body).await;
    assert_eq!(
        set.data()["quotas"],
        json!({"messages_per_day": null, "recipients_per_day": null,
        "channels": 5, "templates": null})
    );
    assert!(set.data()["updated_at"].is_string());
    for (wrong, field) in [
        (json!({}), "quotas"),
        (json!({"quotas": []}), "quotas"),
        (json!({"quotas": {"channel": 5}}), "quotas.channel"),
        (json!({"quotas": {"channels": -5}}), "quotas.channels"),
        (json!({"quotas": {"channels": "many"}}), "quotas.channels"),
    ] {
        let answer = api.put(&admin(), "/admin/tenants/t2", wrong.clone()).await;
        assert_eq!(answer.fields(), [field], "{wrong}");
    }
    let control = format!("/admin/tenants/{}", "x".repeat(129));
    assert_eq!(api.get(&admin(), &control).await.fields(), ["id"]);
}
