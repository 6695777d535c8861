//! What admins and logs are told of who somebody is, where that is to be less.

use serde_json::{Value, json};

use crate::{
    sessions::log_in,
    support::{TestServer, api::message_to, browser::Browser, providers::Fakes},
};

/// Whom all of it is about.
const CANARY: &str = "canary-2c81b7f4";

const PERSON: &str = "88001234567";

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_log_names_nobody_and_still_tells_who_is_the_same() {
    let fakes = Fakes::start().await;
    let build = || {
        TestServer::builder()
            .envs(fakes.env())
            .env("LOG_PERSONAL_DATA", "masked")
            .env("LOG_FORMAT", "json")
            .env("LOG_LEVEL", "debug")
            .env("TRUSTED_PROXIES", "127.0.0.1")
    };
    let mut server = build().start().await;
    fakes.person("github", PERSON);
    let login = Browser::new(&server).log_in("github", "").await.ok();
    let stranger = login["user_id"].as_str().unwrap().to_owned();
    let admin = server.as_admin();
    let pair = log_in(&server, CANARY, "phone").await;
    let ann = server.api().bearer(&pair.access).header("X-Forwarded-For", "203.0.113.77");
    let profile = json!({"name": CANARY});
    ann.put("/api/v3/auth/profile", profile).await.ok();
    ann.get("/api/v3/auth/export").await;
    ann.get("/api/v3/backup/database").await;
    server.service().await.send(message_to(&[CANARY], CANARY)).await.ok();
    ann.post("/api/v3/auth/logout", Value::Null).await.ok();
    admin.get(&format!("/api/v3/admin/users/{CANARY}/export")).await;
    let account = json!({"username": CANARY, "name": CANARY, "role": "viewer", "password": "a long password 1"});
    admin.post("/api/v3/admin/admins", account).await;
    let wrong = json!({"username": CANARY, "password": "another one"});
    server.as_admin().without_credentials().post("/api/v3/admin/auth/login", wrong).await;
    let log = server.logged("user_exported").await;
    let logged = |log: &str, event: &str, field: &str| -> String {
        let line = log.lines().find(|line| line.contains(&format!("\"{event}\""))).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        line[field].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let one = logged(&log, "logged_out", "user");
    assert_eq!(one, logged(&log, "user_exported", "by"), "both are of her");
    assert_eq!(one, logged(&log, "backup_downloaded", "by"), "both are of her");
    assert!(server.terminate().await.success());
    let all = server.log();
    for name in [CANARY, PERSON, &stranger, "203.0.113.77"] {
        assert!(!all.contains(name), "{name}: {all}");
    }
    // A restart calls her the same.
    server.spawn().await;
    let ann = server.api().bearer(&log_in(&server, CANARY, "phone").await.access);
    ann.post("/api/v3/auth/logout", Value::Null).await.ok();
    let log = server.logged("logged_out").await;
    assert_eq!(one, logged(&log, "logged_out", "user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_masked_where_an_admin_asks_for_that() {
    let server = TestServer::start().await;
    let ann = server.api().bearer(&log_in(&server, "ann", "phone").await.access);
    let profile = json!({"name": CANARY});
    ann.put("/api/v3/auth/profile", profile).await.ok();
    let text = "write to ann@canary.example, or +86 138-0013-8000; order 1042";
    server.service().await.send_to("ann", text).await.ok();
    let export = async |query: &str| {
        let path = format!("/api/v3/admin/users/ann/export{query}");
        let url = format!("http://{}{path}", server.admin);
        let request = reqwest::Client::new().get(url);
        let answer = request.header("authorization", server.as_admin().credentials()).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, whole) = export("").await;
    assert!(status == 200 && whole.contains(CANARY) && whole.contains("138-0013"), "{whole}");
    let (status, masked) = export("?masked=true").await;
    assert_eq!(status, 200);
    for gone in ["canary", "138-0013"] {
        assert!(!masked.contains(gone), "{gone}: {masked}");
    }
    for kept in ["order 1042", "write to ***, or ***", "\"user_id\":\"ann\"", "\"type\":\"end\""] {
        assert!(masked.contains(kept), "{kept}: {masked}");
    }
    assert_eq!(masked.lines().count(), whole.lines().count());
    assert_eq!(export("?masked=yes").await.0, 422);
}
