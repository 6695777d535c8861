//! Webhooks through both ports.

use axum::body::Body;
use serde_json::{Value, json};

use super::harness::{ADMIN_TOKEN, Answer, Api, request};
use crate::control::{NewService, ServiceStatus};

fn admin() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

fn named(api: &Api, id: &str) -> String {
    api.service(NewService { id: Some(id.to_owned()), ..NewService::named(id) })
}

fn hook() -> Value {
    json!({"url": "https://example.com/hooks", "events": ["message.read", "message.action"], "description": "收据"})
}

async fn call(api: &Api, method: &str, caller: &str, path: &str, body: Option<Value>) -> Answer {
    let request = request(method, caller, path).header("content-type", "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    api.call(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_service_and_an_admin_see_the_same_webhook() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let made = api.post(&shop, "/webhooks", hook()).await;
    let secret = made.data()["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let id = made.data()["id"].as_str().unwrap().to_owned();
    let (own, of) = (format!("/webhooks/{id}"), format!("/admin/services/shop/webhooks/{id}"));
    let shown = api.get(&shop, &own).await;
    let mut expected = made.data().clone();
    expected.as_object_mut().unwrap().remove("secret");
    assert_eq!(*shown.data(), expected);
    assert_eq!(*api.get(&admin(), &of).await.data(), expected);
    for (name, value) in [
        ("service_id", json!("shop")),
        ("url", json!("https://example.com/hooks")),
        ("events", json!(["message.read", "message.action"])),
        ("description", json!("收据")),
        ("status", json!("active")),
        ("disabled", json!(null)),
        ("pending", json!(0)),
        ("failing_since", json!(null)),
    ] {
        assert_eq!(expected[name], value, "{name}");
    }
    assert_eq!(expected["secrets"].as_array().unwrap().len(), 1);
    let list = api.get(&admin(), "/admin/services/shop/webhooks").await;
    assert_eq!((&list.data()["webhooks"], &list.data()["total"]), (&json!([expected]), &json!(1)));

    let change = json!({"url": "https://example.org/", "events": ["*"]});
    let changed = call(&api, "PUT", &shop, &own, Some(change)).await;
    assert_eq!(changed.data()["events"], json!(["*"]));
    assert_eq!(changed.data()["description"], "");
    let disabled = call(&api, "POST", &admin(), &format!("{of}/disable"), None).await;
    assert_eq!(disabled.data()["disabled"]["by"], "admin");
    let refused = call(&api, "POST", &shop, &format!("{own}/enable"), None).await;
    refused.error(403, "forbidden");
    let enabled = call(&api, "POST", &admin(), &format!("{of}/enable"), None).await;
    assert_eq!(enabled.data()["status"], "active");
    let disabled = call(&api, "POST", &shop, &format!("{own}/disable"), None).await;
    assert_eq!(disabled.data()["disabled"]["by"], "service");

    let rotated = call(&api, "POST", &shop, &format!("{own}/secret"), None).await;
    assert_ne!(rotated.data()["secret"], secret.as_str());
    assert_eq!(rotated.data()["secrets"].as_array().unwrap().len(), 2);
    let ended = json!({"overlap_seconds": 0});
    let rotated = api.post(&admin(), &format!("{of}/secret"), ended).await;
    assert_eq!(rotated.data()["secrets"].as_array().unwrap().len(), 1);
    let too_long = json!({"overlap_seconds": 604_801});
    assert_eq!(
        api.post(&shop, &format!("{own}/secret"), too_long).await.fields(),
        ["overlap_seconds"]
    );

    assert_eq!(api.delete(&shop, &own).await.data()["id"], id.as_str());
    api.get(&shop, &own).await.error(404, "not_found");
    assert_eq!(api.get(&shop, "/webhooks").await.data()["total"], 0);
}

/// Everything there is to do with a webhook: method, what follows its path, body.
fn everything() -> [(&'static str, &'static str, Option<Value>); 9] {
    [
        ("GET", "", None),
        ("PUT", "", Some(hook())),
        ("POST", "/enable", None),
        ("POST", "/disable", None),
        ("POST", "/secret", None),
        ("POST", "/test", None),
        ("GET", "/deliveries", None),
        ("POST", "/deliveries/evt_0/redeliver", None),
        ("DELETE", "", None),
    ]
}

#[tokio::test]
async fn nobody_reaches_anothers_webhook() {
    let api = Api::new();
    let (shop, other) = (named(&api, "shop"), named(&api, "other"));
    let made = api.post(&shop, "/webhooks", hook()).await;
    let id = made.data()["id"].as_str().unwrap();
    let (user, chief) = (api.user("ann", &[]), api.user("chief", &["system_admin"]));
    for (method, rest, body) in everything() {
        let own = format!("/webhooks/{id}{rest}");
        let call =
            async |caller: &str, path: &str| call(&api, method, caller, path, body.clone()).await;
        call("", &own).await.error(401, "unauthorized");
        call("Service phk_x", &own).await.error(401, "unauthorized");
        call(&user, &own).await.error(403, "forbidden");
        call(&chief, &own).await.error(403, "forbidden");
        call(&other, &own).await.error(404, "not_found");
        call(&shop, &format!("/webhooks/wh_0{rest}")).await.error(404, "not_found");
        let of = format!("/admin/services/shop/webhooks/{id}{rest}");
        call("", &of).await.error(401, "unauthorized");
        call(&user, &of).await.error(403, "forbidden");
        call(&shop, &of).await.error(403, "forbidden");
        for wrong in ["other", "none", "%00", "%FF"] {
            let path = format!("/admin/services/{wrong}/webhooks/{id}{rest}");
            call(&admin(), &path).await.error(404, "not_found");
        }
    }
    for path in ["/admin/dead-letters", "/admin/services/shop/webhooks"] {
        api.get(&shop, path).await.error(403, "forbidden");
        api.get(&user, path).await.error(403, "forbidden");
        api.get(&chief, path).await.data();
    }
    assert_eq!(api.get(&other, "/webhooks").await.data()["total"], 0);
    assert_eq!(*api.get(&shop, &format!("/webhooks/{id}")).await.data(), {
        let mut made = made.data().clone();
        made.as_object_mut().unwrap().remove("secret");
        made
    });
    api.control.set_status(&"shop".parse().unwrap(), ServiceStatus::Disabled).unwrap();
    api.get(&shop, "/webhooks").await.error(403, "forbidden");
    api.get(&admin(), "/admin/services/shop/webhooks").await.data();
}

#[tokio::test]
async fn mistakes_are_explained() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let wrong = json!({"uri": "x", "events": ["message.raed", 1], "description": 1});
    let answer = api.post(&shop, "/webhooks", wrong).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(fields, ["description", "events[0]", "events[1]", "uri", "url"]);
    let said = answer.body["error"]["fields"].to_string();
    assert!(said.contains("message.read") && said.contains("name is url"), "{said}");
    let wrong = json!({"url": "http://127.0.0.1/", "events": ["nothing", "*"]});
    let answer = api.post(&shop, "/webhooks", wrong).await;
    assert_eq!(answer.fields(), ["url", "events[0]", "events[1]"]);
    for _ in 0..10 {
        api.post(&shop, "/webhooks", hook()).await.data();
    }
    let said = api.post(&shop, "/webhooks", hook()).await;
    assert!(
        said.error(422, "invalid").is_object()
            && said.body["message"].as_str().unwrap().contains("10")
    );

    let list = api.get(&shop, "/webhooks").await;
    let id = list.data()["webhooks"][0]["id"].as_str().unwrap();
    let path = |query: &str| format!("/webhooks/{id}/deliveries?{query}");
    for (query, field) in
        [("status=lost", "status"), ("cursor=x", "cursor"), ("size=0", "size"), ("page=2", "page")]
    {
        assert_eq!(api.get(&shop, &path(query)).await.fields(), [field]);
    }
    let page = api.get(&shop, &path("status=failed&size=5")).await;
    assert_eq!(*page.data(), json!({"deliveries": [], "total": 0}));
    assert_eq!(
        page.body["meta"],
        json!({"page": null, "size": 5, "total_pages": 0, "next_cursor": null})
    );
    let letters = api.get(&admin(), "/admin/dead-letters?size=5").await;
    assert_eq!(*letters.data(), json!({"dead_letters": [], "total": 0}));
    assert_eq!(api.get(&admin(), "/admin/dead-letters?cursor=a").await.fields(), ["cursor"]);
}

/// A system admin of another tenant could list them and make new secrets.
#[tokio::test]
async fn an_admin_of_another_tenant_reached_webhooks() {
    let api = Api::new();
    let shop = named(&api, "shop");
    let id = api.post(&shop, "/webhooks", hook()).await.data()["id"].as_str().unwrap().to_owned();
    let foreign = api.user_of("t2", "foreign", &["system_admin"]);
    let own = api.user("chief", &["system_admin"]);
    let webhooks = "/admin/services/shop/webhooks";
    for (method, path) in [
        ("GET", webhooks.to_owned()),
        ("GET", format!("{webhooks}/{id}")),
        ("POST", format!("{webhooks}/{id}/secret")),
        ("DELETE", format!("{webhooks}/{id}")),
    ] {
        call(&api, method, &foreign, &path, None).await.error(404, "not_found");
    }
    call(&api, "GET", &own, &format!("{webhooks}/{id}"), None).await.data();
    let letters = "/admin/dead-letters?tenant_id=default";
    assert_eq!(api.get(&foreign, letters).await.fields(), ["tenant_id"]);
    api.get(&own, letters).await.data();
}
