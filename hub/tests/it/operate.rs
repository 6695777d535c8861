//! What an operator sees: health, metrics, configuration, logs, the end.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    sockets::metric,
    support::{TestServer, Token, api::message_to, server::ADMIN_TOKEN, token::SECRET},
};

#[tokio::test]
async fn health_is_open_and_says_what_is_checked() {
    let server = TestServer::start().await;
    let anyone = server.as_admin().authorization("");
    assert_eq!(anyone.get("/health/live").await.status, 200);
    let ready = anyone.get("/health/ready").await;
    assert_eq!(ready.status, 200, "{}", ready.body);
}

#[tokio::test]
async fn metrics_count_what_happened_and_explain_themselves() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("canary-device").connect().await;
    for n in 0..5 {
        service.sent("ann", &format!("m{n}")).await;
    }
    phone.until_seq(5).await;
    phone.ping().await;
    let text = server.metrics().await;
    assert_eq!(metric(&text, "pushhub_connections"), Some(1.0), "{text}");

    let mut help = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(sentence)) => {
                help.insert(name, sentence);
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                kinds.insert(name, kind);
            }
            _ => {}
        }
    }
    for (name, kind) in kinds {
        assert!(help.get(name).is_some_and(|text| text.len() > 5), "{name} has no help");
        if name.starts_with("pushhub_") {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        }
    }
    for personal in ["ann", "canary-device"] {
        assert!(!text.contains(&format!("\"{personal}\"")), "{personal} is a label");
    }
}

#[tokio::test]
async fn check_config_reports_every_mistake_at_once() {
    let (status, said) = TestServer::builder()
        .env("USER_SERVER_PORT", "eighty")
        .env("ADMIN_SERVER_PORT", "70000")
        .env("WS_PING_INTERVAL", "soon")
        .env("WS_MAX_CONNECTIONS", "-1")
        .env("DRAIN_TIMEOUT", "30 parsecs")
        .env("JWT_SECRET", "canary-short")
        .env("WS_PNG_INTERVAL", "30s")
        .run(&["check-config"])
        .await;
    assert!(!status.success());
    for (variable, given) in [
        ("USER_SERVER_PORT", "eighty"),
        ("ADMIN_SERVER_PORT", "70000"),
        ("WS_PING_INTERVAL", "soon"),
        ("WS_MAX_CONNECTIONS", "-1"),
        ("DRAIN_TIMEOUT", "30 parsecs"),
        ("JWT_SECRET", ""),
    ] {
        let line = said.lines().find(|line| line.contains(variable));
        assert!(line.is_some_and(|line| line.contains(given)), "{variable}: {said}");
    }
    assert!(!said.contains("canary"), "a secret is printed: {said}");
    assert!(
        said.contains("WS_PNG_INTERVAL is no setting; did you mean WS_PING_INTERVAL?"),
        "{said}"
    );

    let (status, said) = TestServer::builder().run(&["check-config"]).await;
    assert!(status.success(), "{said}");
    assert!(!said.contains(SECRET) && !said.contains(ADMIN_TOKEN), "{said}");
}

#[tokio::test]
async fn serve_refuses_what_check_config_refuses() {
    let (status, said) =
        TestServer::builder().env("WS_PING_INTERVAL", "soon").run(&["serve"]).await;
    assert!(!status.success());
    assert!(said.contains("WS_PING_INTERVAL"), "{said}");
}

#[tokio::test]
async fn secrets_are_made_kept_and_reused() {
    use std::os::unix::fs::PermissionsExt;
    let mut server =
        TestServer::builder().without("JWT_SECRET").without("ADMIN_TOKEN").start().await;
    let mut pending = vec![server.storage().to_owned()];
    let mut private = 0;
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if name.contains("secret") || name.contains("token") {
                private += 1;
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
                let secret = std::fs::read_to_string(entry.path()).unwrap();
                assert!(secret.trim().len() >= 32, "{name} is short");
            }
        }
    }
    assert!(private >= 1, "where are the secrets?");
    server.crash_and_restart().await;
}

#[tokio::test]
async fn an_orderly_end_is_exit_code_0() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.connect("ann").await;
    service.sent("ann", "m1").await;
    phone.expect_seq(1).await;
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(phone.closed().await.code, Some(1012));
    server.spawn().await;
    assert_eq!(server.as_user("ann").unread().await, 1);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let server = TestServer::start().await;
    let (status, said) = TestServer::builder().storage(server.storage()).run(&["serve"]).await;
    assert!(!status.success(), "{said}");
    assert!(server.ready().await);
}

#[tokio::test]
async fn secrets_and_contents_never_reach_the_log() {
    let mut server = TestServer::builder().env("LOG_LEVEL", "trace").start().await;
    let service = server.service().await;
    let key = service.credentials().strip_prefix("Service ").unwrap().to_owned();
    let token = Token::of("ann").device("phone");
    let mut phone = server.socket("ann").token(token.clone()).connect().await;
    let mut message = message_to(&["ann"], "canary-title");
    message["content"] = "canary-content".into();
    message["metadata"] = json!({"k": "canary-metadata"});
    service.send(message).await.ok();
    phone.expect_seq(1).await;
    let fresh = token.clone().claim("jti", "fresh");
    phone.refresh(&fresh).await;
    phone.ping().await;
    let signed = token.sign();
    server.api().bearer(&signed).get("/api/v3/messages?sender=canary-query").await.ok();
    // Refusals, too, and what a user mistyped.
    server.api().bearer("canary-bearer").get("/api/v3/messages").await.refused(401, "unauthorized");
    server.api().service_key("phk_canaryid_canarysecret").send(json!({})).await;
    server.api().authorization("Canary-Scheme x").get("/api/v3/messages").await;
    server.socket("ann").raw_token("canary-ws-token").refused().await;
    service.raw("/api/v3/messages/send", "application/json", b"{\"canary-body\":".to_vec()).await;
    service.send(json!({"canary-field": 1, "title": "canary-title-2"})).await;
    phone.send_raw(tungstenite::Message::text(r#"{"type":"canary-frame"}"#)).await;
    phone.next_error().await;
    phone
        .send_raw(tungstenite::Message::text(
            r#"{"type":"refresh","data":{"token":"canary-refresh"}}"#,
        ))
        .await;
    phone.next_error().await;
    phone.send_raw(tungstenite::Message::text("canary-text")).await;
    phone.closed().await;
    assert!(server.terminate().await.success());

    let log = server.log().to_lowercase();
    assert!(log.len() > 1_000, "trace says more than that: {log}");
    let secrets = [
        ("JWT_SECRET", SECRET.to_owned()),
        ("ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
        ("a service key", key),
        ("a token", signed),
        ("a refreshed token", fresh.sign()),
    ];
    for (what, secret) in &secrets {
        let tail = &secret[secret.len() - 20..].to_lowercase();
        let found = log.lines().find(|line| line.contains(tail));
        assert!(found.is_none(), "{what} is in the log: {found:?}");
    }
    let found: Vec<_> = log.lines().filter(|line| line.contains("canary")).collect();
    assert!(found.is_empty(), "{found:#?}");
}
