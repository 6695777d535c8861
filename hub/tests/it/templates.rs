//! Templates by the front door (seed 003 §3.1, §4.4, §4.5; contract §5).

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Api, TestServer, Token, eventually};

const PATH: &str = "/api/v3/messages/templates";

async fn put(api: &Api, id: &str, body: Value) -> Answer {
    api.call(Method::PUT, &format!("{PATH}/{id}"), Some(body)).await
}

async fn delete(api: &Api, id: &str) -> Answer {
    api.call(Method::DELETE, &format!("{PATH}/{id}"), None).await
}

fn order(title: &str) -> Value {
    json!({
        "id": "order", "name": "订单", "category": "business", "title": title,
        "content": "{{name}}：{{total}}", "message_type": "order", "priority": 7,
        "variables": [
            {"name": "name", "type": "string", "required": true, "description": "谁"},
            {"name": "total", "type": "number", "required": true},
            {"name": "when", "type": "date", "default": "2025-01-15"},
        ],
        "actions": [{"type": "link", "text": "查看", "url": "https://shop.example/o/{{order_id}}",
            "style": "primary"}],
        "locales": {"en": {"title": "Order of {{name}}", "content": "{{total}} on {{when}}"}},
    })
}

fn values() -> Value {
    json!({"name": "李雷", "total": 12.5, "order_id": "A 1"})
}

fn send(variables: Value) -> Value {
    json!({"template_id": "order", "recipients": ["ann"], "variables": variables})
}

#[tokio::test]
async fn a_template_is_used_by_sends_and_survives_a_crash() {
    let mut server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    let made = shop.post(PATH, order("{{name}} 的订单")).await.ok();
    assert_eq!((&made["version"], &made["builtin"]), (&json!(1), &json!(false)));
    let mut phone = server.connect("ann").await;

    for (path, locale, title, content) in [
        ("send", Value::Null, "李雷 的订单", "李雷：12.5"),
        ("send-template", json!("en-US"), "Order of 李雷", "12.5 on 2025-01-15"),
        ("send-template", json!("fr"), "李雷 的订单", "李雷：12.5"),
    ] {
        let preview = json!({"variables": values(), "locale": locale});
        let preview = shop.post(&format!("{PATH}/order/preview"), preview).await.ok();
        assert_eq!((&preview["title"], &preview["content"]), (&json!(title), &json!(content)));
        let mut message = send(values());
        message["locale"] = locale;
        shop.post(&format!("/api/v3/messages/{path}"), message).await.ok();
        let got = phone.next_message().await.fields;
        assert_eq!((got.title.as_str(), got.content.as_str()), (title, content));
        assert_eq!(serde_json::to_value(&got.actions).unwrap(), preview["actions"]);
        assert_eq!(got.actions[0].url, "https://shop.example/o/A%201");
        assert_eq!((got.template_id.as_deref(), got.priority), (Some("order"), 7));
        assert_eq!(got.message_type, "order");
    }
    let mut batch = send(values());
    batch["locale"] = json!("en");
    let batch = json!({"messages": [batch, send(json!({"name": 1}))]});
    let results = shop.post("/api/v3/messages/send-batch", batch).await.ok();
    assert_eq!((&results["accepted"], &results["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(phone.next_message().await.fields.title, "Order of 李雷");

    put(&shop, "order", order("{{name}} 的第二版")).await.ok();
    server.crash_and_restart().await;
    let shop = shop.moved_to(server.user);
    let kept = shop.get(&format!("{PATH}/order")).await.ok();
    assert_eq!((&kept["version"], &kept["created_at"]), (&json!(2), &made["created_at"]));
    assert_eq!(shop.get(&format!("{PATH}/order?version=1")).await.ok(), made);
    let mut phone = server.connect("ann").await;
    shop.send(send(values())).await.ok();
    assert_eq!(phone.next_message().await.fields.title, "李雷 的第二版");

    delete(&shop, "order").await.ok();
    let refused = shop.send(send(values())).await.refused(422, "invalid");
    assert!(refused.contains("template_id"), "{refused}");
    shop.get(&format!("{PATH}/order")).await.refused(404, "not_found");
    assert_eq!(shop.get(&format!("{PATH}/order/versions")).await.ok()["total"], 2);
    assert_eq!(shop.get(&format!("{PATH}/order?version=1")).await.ok(), made);
}

#[tokio::test]
async fn missing_and_wrong_values_are_all_named() {
    let server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    shop.post(PATH, order("{{name}} {{undeclared}}")).await.ok();
    let refused = shop.send(send(json!({}))).await.refused(422, "invalid");
    for name in ["variables.name", "variables.total", "variables.order_id"] {
        assert!(refused.contains(name), "{name}: {refused}");
    }
    // An undeclared one in a text is optional.
    assert!(!refused.contains("undeclared"), "{refused}");
    let wrong = json!({"name": [], "total": "many", "when": "soon", "order_id": ".."});
    let refused = shop.send(send(wrong)).await.refused(422, "invalid");
    for name in ["variables.name", "variables.total", "variables.when"] {
        assert!(refused.contains(name), "{name}: {refused}");
    }
    let preview = format!("{PATH}/order/preview");
    let same = shop.post(&preview, json!({"variables": {}})).await.refused(422, "invalid");
    assert!(same.contains("variables.order_id"), "{same}");
}

#[tokio::test]
async fn of_concurrent_changes_one_wins() {
    let server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    shop.post(PATH, order("one")).await.ok();
    let changes = (0..10).map(|n| {
        let shop = shop.clone();
        tokio::spawn(async move {
            let mut change = order(&format!("by {n}"));
            change["expected_version"] = json!(1);
            put(&shop, "order", change).await
        })
    });
    let mut won = vec![];
    for change in changes.collect::<Vec<_>>() {
        let answer = change.await.unwrap();
        if answer.status == 200 {
            won.push(answer.ok());
        } else {
            answer.refused_with_data(409, "version_conflict");
            assert_eq!(answer.body["data"]["version"], 2);
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(shop.get(&format!("{PATH}/order")).await.ok(), won[0]);
}

#[tokio::test]
async fn bombs_are_refused_and_the_server_goes_on() {
    let server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    let of = |content: String| {
        let mut template = order("t");
        template["content"] = json!(content);
        template
    };
    let variants: Value = (0..200)
        .map(|n| (format!("en-a{n}"), json!({"title": "t", "content": "c"})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut languages = order("t");
    languages["locales"] = variants;
    let mut loops = order("{{#each a}}{{b}}{{/each}}");
    loops["content"] = json!("{{a | repeat(1000000)}}");
    let before = server.rss();
    for (bomb, says) in [
        (of("{{a}}".repeat(100_000)), "262144"),
        (of("{{a}}".repeat(10_000)), "1000"),
        (of("{".repeat(200_000)), "65536"),
        (languages, "50"),
        (loops, "no blocks"),
    ] {
        let refused = shop.post(PATH, bomb).await.refused(422, "invalid");
        assert!(refused.contains(says), "{says}: {refused}");
    }
    shop.post(PATH, of("x".repeat(2 << 20))).await.refused(413, "payload_too_large");

    // A small template and large values: 1,000 × 16 KiB would be 16 MiB for each send.
    let mut template = of("{{a}}".repeat(1_000));
    template["variables"] = json!([]);
    template["actions"] = json!([]);
    template["locales"] = Value::Null;
    shop.post(PATH, template).await.ok();
    let values = |bytes: usize| json!({"a": "x".repeat(bytes)});
    let preview = format!("{PATH}/order/preview");
    let refused = shop.post(&preview, json!({"variables": values(17 << 10)})).await;
    assert!(refused.refused(422, "invalid").contains("16384"));
    let sends: Vec<_> = (0..50)
        .map(|_| {
            let (shop, message) = (shop.clone(), send(values(16 << 10)));
            tokio::spawn(async move { shop.send(message).await })
        })
        .collect();
    for sent in sends {
        let refused = sent.await.unwrap().refused(422, "invalid");
        assert!(refused.contains("262144"), "{refused}");
    }
    let names = (0..101).map(|n| (format!("v{n}"), json!(1))).collect::<serde_json::Map<_, _>>();
    assert!(shop.send(send(names.into())).await.refused(422, "invalid").contains("100"));
    let nested = json!({"a": [[[{"b": "{{a}}"}]]]});
    assert!(shop.send(send(nested)).await.refused(422, "invalid").contains("variables.a"));
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    shop.send(send(values(10))).await.ok();
}

#[tokio::test]
async fn who_may_write_templates() {
    let server = TestServer::start().await;
    let shop = server.service_of_level("business", &[]).await;
    let crm = server.service_of_level("business", &[]).await;
    let platform = server.service().await;
    let chief =
        server.api().bearer(&Token::of("chief").claim("roles", json!(["system_admin"])).sign());
    let ann = server.as_user("ann");
    shop.post(PATH, order("one")).await.ok();
    for nobody in [&ann, &crm] {
        put(nobody, "order", order("x")).await.refused(403, "forbidden");
        delete(nobody, "order").await.refused(403, "forbidden");
    }
    ann.post(PATH, order("x")).await.refused(403, "forbidden");
    server.api().post(PATH, order("x")).await.refused(401, "unauthorized");
    assert_eq!(ann.get(&format!("{PATH}/order")).await.ok()["title"], "one");
    for (all, version) in [(&platform, 2), (&chief, 3)] {
        assert_eq!(put(all, "order", order("x")).await.ok()["version"], version);
    }
    let mut system = order("x");
    (system["id"], system["category"]) = (json!("outage"), json!("system"));
    shop.post(PATH, system.clone()).await.refused(403, "forbidden");
    platform.post(PATH, system).await.ok();
    let send = json!({"template_id": "outage", "recipients": ["ann"], "variables": values()});
    shop.send(send.clone()).await.refused(403, "forbidden");
    platform.send(send).await.ok();
    for id in ["file_share", "doc_collaboration", "system_alert"] {
        let mut body = order("x");
        body["id"] = json!(id);
        for answer in [
            put(&chief, id, body.clone()).await,
            delete(&chief, id).await,
            chief.post(PATH, body).await,
        ] {
            let said = answer.refused(403, "forbidden");
            assert!(said.contains("built-in"), "{said}");
        }
    }
    let log = "template_updated";
    eventually("the change is in the log", || {
        let logged = server.log().contains(log);
        async move { logged }
    })
    .await;
    assert!(!server.log().contains("李雷"), "no value reaches the log");
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_templates 2"), "{metrics}");
}
