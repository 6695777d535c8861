//! Templates over REST.

use axum::body::Body;
use serde_json::{Value, json};

use super::harness::{Answer, Api, request};
use crate::control::{Level, NewService};

const PATH: &str = "/messages/templates";

fn named(id: &str, level: Level) -> NewService {
    NewService { id: Some(id.to_owned()), level: Some(level), ..NewService::named(id) }
}

async fn put(api: &Api, caller: &str, id: &str, body: Value) -> Answer {
    let request = request("PUT", caller, &format!("{PATH}/{id}"));
    let request = request.header("content-type", "application/json");
    api.call(request.body(Body::from(body.to_string())).unwrap()).await
}

fn order() -> Value {
    json!({
        "id": "order", "name": "订单通知", "category": "business",
        "title": "订单 {{order_id}}", "content": "共 {{total}} 元，{{note}}",
        "variables": [
            {"name": "order_id", "type": "string", "required": true},
            {"name": "total", "type": "number", "required": true},
        ],
        "message_type": "order", "priority": 6,
        "actions": [{"type": "link", "text": "查看", "url": "https://shop.example/o/{{order_id}}"}],
        "locales": {"en": {"title": "Order {{order_id}}", "content": "{{total}} in all, {{note}}",
            "actions": [{"type": "link", "text": "Show", "url": "https://shop.example/en/{{order_id}}"}]}},
    })
}

#[tokio::test]
async fn a_template_is_made_read_changed_and_deleted() {
    let api = Api::new();
    let shop = api.service(named("shop", Level::Business));
    let reader = api.user("alice", &[]);
    let made = api.post(&shop, PATH, order()).await;
    let data = made.data().clone();
    assert_eq!((&data["version"], &data["created_by"]), (&json!(1), &json!("shop")));
    for (name, value) in order().as_object().unwrap() {
        if !["variables", "actions", "locales"].contains(&name.as_str()) {
            assert_eq!(data[name], *value, "{name}");
        }
    }
    assert_eq!(data["variables"][0]["default"], "");
    assert_eq!(api.get(&reader, &format!("{PATH}/order")).await.data(), &data);

    // What was answered can be sent back.
    let mut changed = data.clone();
    changed["title"] = json!("订单号 {{order_id}}");
    changed["expected_version"] = json!(1);
    let second = put(&api, &shop, "order", changed.clone()).await.data().clone();
    assert_eq!((&second["version"], &second["created_at"]), (&json!(2), &data["created_at"]));
    let stale = put(&api, &shop, "order", changed).await;
    stale.error(409, "version_conflict");
    assert_eq!(stale.body["data"], second);
    let taken = api.post(&shop, PATH, order()).await;
    taken.error(409, "version_conflict");
    assert_eq!(taken.body["data"], second);

    let old = api.get(&reader, &format!("{PATH}/order?version=1")).await;
    assert_eq!(old.data(), &data);
    let english = api.get(&reader, &format!("{PATH}/order?locale=en-GB")).await;
    assert_eq!(
        (&english.data()["title"], &english.data()["locale"]),
        (&json!("Order {{order_id}}"), &json!("en"))
    );
    let own = api.get(&reader, &format!("{PATH}/order?version=1&locale=fr")).await;
    assert_eq!((&own.data()["title"], &own.data()["locale"]), (&data["title"], &Value::Null));
    let versions = api.get(&reader, &format!("{PATH}/order/versions?size=1&page=2")).await;
    assert_eq!(versions.data()["versions"][0]["version"], 1);
    assert_eq!(
        (&versions.data()["total"], &versions.body["meta"]["total_pages"]),
        (&json!(2), &json!(2))
    );

    for (path, field) in [
        ("order?version=x", "version"),
        ("order?locale=no+language", "locale"),
        ("order?versio=1", "versio"),
        ("order/versions?size=0", "size"),
        ("?category=x", "category"),
    ] {
        let path =
            if path.starts_with('?') { format!("{PATH}{path}") } else { format!("{PATH}/{path}") };
        assert_eq!(api.get(&reader, &path).await.fields(), [field], "{path}");
    }
    for path in ["none", "none?version=1", "order?version=9", "none/versions", "%ff"] {
        api.get(&reader, &format!("{PATH}/{path}")).await.error(404, "not_found");
    }
    let all = api.get(&reader, &format!("{PATH}?category=business&size=2&page=2")).await;
    assert_eq!(
        (&all.data()["templates"][0]["id"], &all.data()["total"]),
        (&json!("order"), &json!(3))
    );

    let gone = api.delete(&shop, &format!("{PATH}/order")).await;
    assert_eq!((&gone.data()["id"], &gone.data()["version"]), (&json!("order"), &json!(2)));
    api.get(&reader, &format!("{PATH}/order")).await.error(404, "not_found");
    api.delete(&shop, &format!("{PATH}/order")).await.error(404, "not_found");
    put(&api, &shop, "order", order()).await.error(404, "not_found");
    assert_eq!(api.get(&reader, &format!("{PATH}/order?version=2")).await.data(), &second);
    let history = api.get(&reader, &format!("{PATH}/order/versions")).await;
    assert_eq!(history.data()["deleted_at"], gone.data()["deleted_at"]);
    let send = json!({"template_id": "order", "recipients": ["bob"], "variables": {"order_id": 1, "total": 2}});
    assert_eq!(api.post(&shop, "/messages/send-template", send).await.fields(), ["template_id"]);
    for (change, count) in [("created", 1), ("updated", 1), ("deleted", 1)] {
        let series = format!("pushhub_template_changes_total{{change={change}}}");
        assert_eq!(api.counts.of(&series), count, "{change}");
    }
}

#[tokio::test]
async fn what_a_preview_shows_is_what_is_sent() {
    let api = Api::new();
    let shop = api.service(named("shop", Level::Business));
    let bob = api.user("bob", &[]);
    api.post(&shop, PATH, order()).await.data();
    for locale in [None, Some("en-GB"), Some("fr"), Some("EN")] {
        let values = json!({"order_id": "A/1 <b>{{total}}</b>", "total": 9.5});
        let preview = json!({"variables": values, "locale": locale});
        let preview =
            api.post(&bob, &format!("{PATH}/order/preview"), preview).await.data().clone();
        assert_eq!(
            preview["locale"],
            if matches!(locale, None | Some("fr")) { Value::Null } else { json!("en") }
        );
        let send = json!({"template_id": "order", "recipients": ["bob"], "variables": values, "locale": locale});
        let sent = api.post(&shop, "/messages/send-template", send).await;
        let id = sent.data()["message_id"].as_str().unwrap();
        let message = api.get(&bob, &format!("/messages/{id}")).await.data().clone();
        for part in ["title", "content", "actions", "template_id"] {
            assert_eq!(message[part], preview[part], "{part}");
        }
        assert_eq!((&message["message_type"], &message["priority"]), (&json!("order"), &json!(6)));
    }
    let list = api.get(&bob, "/messages").await;
    assert_eq!(list.data()["total"], 4, "a preview sends nothing");
    let empty =
        request("POST", &bob, &format!("{PATH}/order/preview")).body(Body::empty()).unwrap();
    assert_eq!(api.call(empty).await.fields(), ["variables.order_id", "variables.total"]);
    let wrong = json!({"variable": {}, "locale": 1});
    let answer = api.post(&bob, &format!("{PATH}/order/preview"), wrong).await;
    assert_eq!(answer.fields(), ["locale", "variable"]);
    let wrong = json!({"locale": "no language"});
    assert_eq!(api.post(&bob, &format!("{PATH}/order/preview"), wrong).await.fields(), ["locale"]);
    api.post(&bob, &format!("{PATH}/none/preview"), json!({})).await.error(404, "not_found");
}

#[tokio::test]
async fn who_may_not_is_told_before_what_is_wrong() {
    let api = Api::new();
    let partner = api.service(named("partner", Level::ThirdParty));
    api.control.approve(&protocol::ServiceId::new("partner").unwrap()).unwrap();
    let shop = api.service(named("shop", Level::Business));
    let crm = api.service(named("crm", Level::Business));
    let (plain, chief) = (api.user("plain", &[]), api.user("chief", &["system_admin"]));
    api.post(&shop, PATH, order()).await.data();
    for (method, path) in [
        ("POST", PATH.to_owned()),
        ("PUT", format!("{PATH}/order")),
        ("DELETE", format!("{PATH}/order")),
        ("GET", format!("{PATH}/order/versions")),
        ("POST", format!("{PATH}/order/preview")),
    ] {
        let call = async |caller: &str| {
            api.call(request(method, caller, &path).body(Body::from("{}")).unwrap()).await
        };
        call("").await.error(401, "unauthorized");
        call("Service phk_a_b").await.error(401, "unauthorized");
        for caller in [&partner, &plain] {
            let answer = call(caller).await;
            if path.ends_with("versions") || path.ends_with("preview") {
                assert_ne!(answer.status, 403, "whoever may send may read");
            } else {
                answer.error(403, "forbidden");
            }
        }
    }
    put(&api, &crm, "order", order()).await.error(403, "forbidden");
    api.delete(&crm, &format!("{PATH}/order")).await.error(403, "forbidden");
    put(&api, &chief, "order", order()).await.data();
    for id in ["file_share", "doc_collaboration", "system_alert"] {
        let mut body = order();
        body["id"] = json!(id);
        for answer in [
            put(&api, &chief, id, body.clone()).await,
            api.delete(&chief, &format!("{PATH}/{id}")).await,
            api.post(&chief, PATH, body).await,
        ] {
            answer.error(403, "forbidden");
            assert!(answer.body["message"].as_str().unwrap().contains("built-in"));
        }
    }
    let other_tenant =
        NewService { tenant_id: Some("acme".to_owned()), ..named("acme-shop", Level::System) };
    let acme = api.service(other_tenant);
    api.get(&acme, &format!("{PATH}/order")).await.error(404, "not_found");
    put(&api, &acme, "order", order()).await.error(404, "not_found");
    api.delete(&acme, &format!("{PATH}/order")).await.error(404, "not_found");
}

#[tokio::test]
async fn wrong_templates_are_explained() {
    let api = Api::new();
    let shop = api.service(named("shop", Level::Business));
    let wrong = json!({
        "nam": "x", "category": "bisness", "titel": "t", "priority": "high",
        "variables": [{"name": "a", "type": "text", "required": "yes", "defualt": ""}],
        "actions": {"type": "link"}, "locales": {"en": {"titel": "t"}, "de": []},
    });
    let answer = api.post(&shop, PATH, wrong).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "actions",
            "category",
            "locales.de",
            "locales.en.titel",
            "nam",
            "name",
            "priority",
            "titel",
            "variables[0].defualt",
            "variables[0].required",
            "variables[0].type",
        ]
    );
    let text = answer.body.to_string();
    for hint in [
        "nearest known name is title",
        "nearest known name is default",
        "system, business, notification",
        "string, number, date, url",
        "true or false",
    ] {
        assert!(text.contains(hint), "{hint}: {text}");
    }
    let bomb = json!({"name": "n", "category": "business", "title": "t", "content": "{{a}}".repeat(2_000)});
    assert_eq!(api.post(&shop, PATH, bomb).await.fields(), ["content"]);
    let large =
        json!({"name": "n", "category": "business", "title": "t", "content": "x".repeat(1 << 20)});
    api.post(&shop, PATH, large).await.error(413, "payload_too_large");
    let made = json!({"name": "n", "category": "notification", "title": "t"});
    let made = api.post(&shop, PATH, made).await;
    assert!(made.data()["id"].as_str().unwrap().starts_with("tpl-"));
}
