//! Services and keys through the admin port.

use axum::body::Body;
use serde_json::json;

use super::harness::{ADMIN_TOKEN, Api, request};

fn admin() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

#[tokio::test]
async fn a_service_is_made_approved_and_stopped() {
    let api = Api::new();
    let new = json!({
        "id": "partner", "name": "合作方", "type": "external", "level": "third_party",
        "permissions": [], "scope": {"message_types": ["text"]},
        "rate_limit": {"per_second": 10, "burst": 20}, "owner": "ops",
    });
    let made = api.post(&admin(), "/admin/services", new).await;
    assert_eq!(
        (&made.data()["id"], &made.data()["status"]),
        (&json!("partner"), &json!("pending"))
    );
    let key = made.data()["api_key"].as_str().unwrap();
    let caller = format!("Service {key}");
    let message = json!({"title": "t", "content": "c", "recipients": ["bob"]});
    api.post(&caller, "/messages/send", message.clone()).await.error(403, "forbidden");
    let path = |what: &str| format!("/admin/services/partner/{what}");
    api.post(&admin(), &path("activate"), json!({})).await.error(422, "invalid");
    for (what, status, code) in [
        ("approve", "active", 200),
        ("suspend", "suspended", 403),
        ("activate", "active", 200),
        ("disable", "disabled", 403),
    ] {
        let request = request("POST", &admin(), &path(what)).body(Body::empty()).unwrap();
        assert_eq!(api.call(request).await.data()["status"], status);
        let sent = api.post(&caller, "/messages/send", message.clone()).await;
        assert_eq!(sent.status, code, "{what}");
    }
    let shown = api.get(&admin(), "/admin/services/partner").await;
    assert_eq!(shown.data()["scope"]["message_types"], json!(["text"]));
    let text = String::from_utf8(shown.bytes.clone()).unwrap();
    assert!(!text.contains("api_key") && !text.contains(key));
    api.get(&admin(), "/admin/services/none").await.error(404, "not_found");
}

/// Fields that may be left out may be null: clients that fill in a struct send them so.
#[tokio::test]
async fn a_service_of_nulls_was_refused() {
    let api = Api::new();
    let nothing = json!(null);
    let new = json!({
        "id": nothing, "name": "n", "type": nothing, "level": nothing, "permissions": nothing,
        "scope": nothing, "rate_limit": nothing, "owner": nothing, "tenant_id": nothing,
    });
    assert_eq!(api.post(&admin(), "/admin/services", new).await.data()["level"], "business");
    let scope = json!({"templates": nothing, "channels": nothing, "message_types": nothing});
    let new = json!({"name": "n", "scope": scope});
    assert_eq!(
        api.post(&admin(), "/admin/services", new).await.data()["scope"]["channels"],
        json!([])
    );
}

#[tokio::test]
async fn keys_are_rotated() {
    let api = Api::new();
    let made = api.post(&admin(), "/admin/services", json!({"id": "s", "name": "s"})).await;
    let old = format!("Service {}", made.data()["api_key"].as_str().unwrap());
    let path = "/admin/services/s/keys";
    let empty = request("POST", &admin(), path).body(Body::empty()).unwrap();
    let second = api.call(empty).await;
    let new = format!("Service {}", second.data()["api_key"].as_str().unwrap());
    for caller in [&old, &new] {
        api.get(caller, "/messages/templates").await.data();
    }
    let keys = api.get(&admin(), path).await;
    assert_eq!(keys.data()["keys"].as_array().unwrap().len(), 2);
    assert!(!String::from_utf8(keys.bytes.clone()).unwrap().contains("phk_"));
    let id = made.data()["key"]["id"].as_str().unwrap();
    assert_eq!(api.delete(&admin(), &format!("{path}/{id}")).await.data()["id"], id);
    api.get(&old, "/messages/templates").await.error(401, "unauthorized");
    api.get(&new, "/messages/templates").await.data();
    api.delete(&admin(), &format!("{path}/{id}")).await.error(404, "not_found");
    let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(api.post(&admin(), path, past).await.fields(), ["expires_at"]);
    let later = json!({"expires_at": "2999-01-01T00:00:00Z"});
    let third = api.post(&admin(), path, later).await;
    assert_eq!(third.data()["expires_at"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn only_admins_may() {
    let api = Api::new();
    let service = api.service(crate::control::NewService::named("a"));
    let (plain, chief) = (api.user("plain", &[]), api.user("chief", &["system_admin"]));
    for (method, path) in [
        ("GET", "/admin/services"),
        ("POST", "/admin/services"),
        ("GET", "/admin/services/a"),
        ("POST", "/admin/services/a/approve"),
        ("POST", "/admin/services/a/suspend"),
        ("POST", "/admin/services/a/activate"),
        ("POST", "/admin/services/a/disable"),
        ("GET", "/admin/services/a/keys"),
        ("POST", "/admin/services/a/keys"),
        ("DELETE", "/admin/services/a/keys/b"),
    ] {
        let call = async |caller: &str| {
            api.call(request(method, caller, path).body(Body::empty()).unwrap()).await
        };
        call("").await.error(401, "unauthorized");
        call("Bearer wrong").await.error(401, "unauthorized");
        call(&plain).await.error(403, "forbidden");
        call(&service).await.error(403, "forbidden");
        assert!(![401, 403].contains(&call(&chief).await.status.as_u16()));
    }
    // The admin token opens the admin port only.
    api.get(&admin(), "/messages").await.error(401, "unauthorized");
}

#[tokio::test]
async fn wrong_services_are_explained_and_lists_paged() {
    let api = Api::new();
    let wrong = json!({"nam": "x", "level": "boss", "rate_limit": {"per_second": "fast"}});
    let answer = api.post(&admin(), "/admin/services", wrong).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    assert_eq!(fields, ["level", "nam", "name", "rate_limit.burst", "rate_limit.per_second"]);
    let made = json!({"id": "s1", "name": "s", "permissions": ["fly"]});
    assert_eq!(api.post(&admin(), "/admin/services", made).await.fields(), ["permissions[0]"]);
    for id in ["s1", "s2", "s3"] {
        let made = api.post(&admin(), "/admin/services", json!({"id": id, "name": "s"})).await;
        assert_eq!(made.data()["status"], "active");
        assert_eq!(made.data()["level"], "business");
    }
    let again = api.post(&admin(), "/admin/services", json!({"id": "s1", "name": "s"})).await;
    assert_eq!(again.fields(), ["id"]);
    let page = api.get(&admin(), "/admin/services?page=2&size=2").await;
    assert_eq!(page.data()["services"][0]["id"], "s3");
    assert_eq!((&page.data()["total"], &page.body["meta"]["total_pages"]), (&json!(3), &json!(2)));
    assert_eq!(api.get(&admin(), "/admin/services?pages=2").await.fields(), ["pages"]);
}
