//! The audit log: what admins change stands there, and stays as it was written.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestServer, admins::PASSWORD};

const AUDIT: &str = "/api/v3/admin/audit";
const SERVICES: &str = "/api/v3/admin/services";

async fn entries(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("{AUDIT}?{query}")).await.ok();
    page["entries"].as_array().expect("entries").clone()
}

async fn latest(api: &Api) -> Value {
    entries(api, "size=1").await.pop().expect("an entry")
}

fn shop() -> Value {
    json!({"id": "shop", "name": "Shop", "type": "internal", "level": "business", "tenant_id": "acme"})
}

#[tokio::test]
async fn an_entry_says_who_changed_what_from_where_before_and_after() {
    let server = TestServer::start().await;
    let mei = server.sign_in("mei", "admin", None).await;
    let api = server.admin_port().bearer(&mei.token).header("X-Request-Id", "request-7");
    api.post(SERVICES, shop()).await.ok();
    let changed = api.put(&format!("{SERVICES}/shop"), json!({"owner": "小美"})).await;
    assert_eq!(changed.header("x-request-id"), "request-7");
    changed.ok();
    let entry = latest(&api).await;
    assert_eq!(entry["actor"], json!({"kind": "admin", "id": mei.id, "name": "mei"}));
    assert_eq!(
        (&entry["address"], &entry["request_id"]),
        (&json!("127.0.0.1"), &json!("request-7"))
    );
    assert_eq!(
        (&entry["action"], &entry["target"]),
        (&json!("services_update"), &json!("services/shop"))
    );
    assert_eq!((&entry["status"], &entry["tenant_id"]), (&json!(200), &json!("acme")));
    assert_eq!(entry["detail"], json!({"before": {"owner": ""}, "after": {"owner": "小美"}}));
    server.logged(entry["hash"].as_str().unwrap()).await;
}

#[tokio::test]
async fn what_was_refused_for_who_asked_stands_there_and_what_was_wrong_does_not() {
    let server = TestServer::start().await;
    let viewer = server.sign_in("viewer", "viewer", None).await;
    let before = latest(&server.as_admin()).await["seq"].as_u64().unwrap();
    let api = server.admin_port().bearer(&viewer.token);
    api.post(SERVICES, shop()).await.refused(403, "forbidden");
    let entry = latest(&server.as_admin()).await;
    assert_eq!((&entry["status"], &entry["actor"]["name"]), (&json!(403), &json!("viewer")));
    assert_eq!((&entry["action"], &entry["detail"]), (&json!("services_create"), &Value::Null));
    let admin = server.as_admin();
    admin.post(SERVICES, json!({"id": "\0"})).await.refused(422, "invalid");
    admin.put(&format!("{SERVICES}/nobody"), json!({"owner": "x"})).await.refused(404, "not_found");
    server.admin_port().post(SERVICES, shop()).await.refused(401, "unauthorized");
    admin.get(SERVICES).await.ok();
    assert_eq!(latest(&admin).await["seq"], json!(before + 1));
}

#[tokio::test]
async fn reading_all_of_a_user_leaves_an_entry() {
    let server = TestServer::start().await;
    server.as_user("安").get("/api/v3/messages").await.ok();
    let admin = server.as_admin();
    let path = "/api/v3/admin/users/%E5%AE%89/export";
    assert_eq!(admin.call(Method::GET, path, None).await.status, 200);
    let entry = latest(&admin).await;
    assert_eq!(
        (&entry["action"], &entry["target"]),
        (&json!("export_of_user"), &json!("users/安/export"))
    );
    assert_eq!(entries(&admin, "target=users/%E5%AE%89").await.len(), 1);
}

#[tokio::test]
async fn an_admin_of_a_tenant_sees_that_tenants_entries() {
    let server = TestServer::start().await;
    let (acme, other) = (
        server.sign_in("a", "admin", Some("acme")).await,
        server.sign_in("b", "admin", Some("other")).await,
    );
    let (acme, other) =
        (server.admin_port().bearer(&acme.token), server.admin_port().bearer(&other.token));
    acme.post(SERVICES, shop()).await.ok();
    server.as_admin().put("/api/v3/admin/tenants/other", json!({"quotas": {}})).await.ok();
    let actions = |entries: Vec<Value>| -> Vec<String> {
        entries.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    let made = ["services_create", "logins_second_step", "admins_create"];
    assert_eq!(actions(entries(&acme, "").await), made);
    let set = ["tenants_update", "logins_second_step", "admins_create"];
    assert_eq!(actions(entries(&other, "").await), set);
    acme.get(&format!("{AUDIT}?tenant_id=other")).await.refused(422, "invalid");
    acme.get(&format!("{AUDIT}/verify")).await.refused(403, "forbidden");
}

#[tokio::test]
async fn no_secret_is_in_an_entry() {
    let server = TestServer::start().await;
    let admin = server.as_admin();
    let mei = server.sign_in("mei", "admin", None).await;
    let made = admin.post(SERVICES, shop()).await.ok();
    let key = made["key"]["id"].as_str().unwrap();
    let rotated = admin.post(&format!("{SERVICES}/shop/keys/{key}/rotate"), json!({})).await.ok();
    let hook = json!({"url": "https://hooks.example.com/x", "events": ["*"]});
    let hook = admin.post(&format!("{SERVICES}/shop/webhooks"), hook).await.ok();
    let session = admin.post("/api/v3/admin/sessions", json!({"user_id": "ann"})).await.ok();
    let log = json!(entries(&admin, "size=200").await).to_string();
    assert!(log.contains("services_rotate_key") && log.contains("hooks.example.com"), "{log}");
    let secrets = [
        PASSWORD,
        &mei.token,
        &mei.secret,
        made["api_key"].as_str().unwrap(),
        rotated["api_key"].as_str().unwrap(),
        hook["secret"].as_str().unwrap(),
        session["access_token"].as_str().unwrap(),
        session["refresh_token"].as_str().unwrap(),
    ];
    for secret in secrets {
        assert!(secret.len() > 8 && !log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn an_entry_survives_a_kill_and_the_chain_is_checked() {
    let mut server = TestServer::start().await;
    for n in 0..5 {
        let change = json!({"quotas": {"channels": n + 1}});
        server.as_admin().put("/api/v3/admin/tenants/acme", change).await.ok();
    }
    let kept = latest(&server.as_admin()).await;
    server.crash_and_restart().await;
    let admin = server.as_admin();
    assert_eq!(latest(&admin).await, kept);
    let (seq, hash) = (&kept["seq"], kept["hash"].as_str().unwrap());
    let verified = admin.get(&format!("{AUDIT}/verify?seq={seq}&hash={hash}")).await.ok();
    let whole = json!({"verdict": "whole", "entries": seq, "first_wrong": null, "hash": hash});
    assert_eq!(verified, whole);
    let other = "0".repeat(64);
    let verified = admin.get(&format!("{AUDIT}/verify?seq={seq}&hash={other}")).await.ok();
    assert_eq!((&verified["verdict"], &verified["first_wrong"]), (&json!("forgotten"), seq));
    for wrong in ["seq=1", "hash=00", "seq=x&hash=0"] {
        admin.get(&format!("{AUDIT}/verify?{wrong}")).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn the_command_line_leaves_entries_and_reads_them() {
    let mut server = TestServer::start().await;
    server.as_admin().post(SERVICES, shop()).await.ok();
    let run = async |arguments: &[&str]| server.command(arguments).await;
    let (status, said) = run(&["service", "disable", "shop"]).await;
    assert!(status.success(), "{said}");
    let entry = latest(&server.as_admin()).await;
    assert_eq!(
        (&entry["actor"]["kind"], &entry["target"]),
        (&json!("cli"), &json!("services/shop"))
    );
    assert_eq!(entry["detail"]["after"], json!({"status": "disabled"}));
    let (_, said) = run(&["audit", "list", "--limit", "1", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(said.trim()).unwrap(), entry);
    let head = format!("{}:{}", entry["seq"], entry["hash"].as_str().unwrap());
    let (status, said) = run(&["audit", "verify", "--remembered", &head]).await;
    assert!(status.success() && said.trim() == head, "{said}");
    let wrong = format!("{}:{}", entry["seq"], "0".repeat(64));
    let (status, said) = run(&["audit", "verify", "--remembered", &wrong]).await;
    assert!(!status.success() && said.contains("cut off or written anew"), "{said}");
    assert!(server.alive());
}
