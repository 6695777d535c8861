//! Webhooks by the front door (contract §11): endpoints, their state, and what a test of one sends.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Api, SOON, TestServer,
    api::message_to,
    eventually, eventually_within,
    hooks::{Answers, Certificates, HookReceiver},
    server::Builder,
};

const PATH: &str = "/api/v3/webhooks";

/// One that may send webhooks to this machine.
fn server() -> Builder {
    TestServer::builder().env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
}

/// Makes a webhook for everything; its path and secret.
async fn hook(api: &Api, url: &str) -> (String, String) {
    let made = api.post(PATH, json!({"url": url, "events": ["*"]})).await.ok();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (format!("{PATH}/{}", text("id")), text("secret"))
}

async fn test(api: &Api, path: &str) -> Value {
    api.post(&format!("{path}/test"), json!({})).await.ok()
}

async fn put(api: &Api, path: &str, body: Value) -> Answer {
    api.call(Method::PUT, path, Some(body)).await
}

#[tokio::test]
async fn a_test_arrives_signed_over_tls() {
    let (ours, strangers) = (Certificates::make(), Certificates::make());
    let server = server().env("SSL_CERT_FILE", ours.root().display()).start().await;
    let shop = server.service().await;
    let receiver = HookReceiver::start_tls(&ours).await;
    // By name: the certificate is for it, and it has to be looked up.
    let (path, secret) = hook(&shop, &receiver.url_by_name("https")).await;
    let attempt = test(&shop, &path).await;
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("delivered"), &json!(204)));
    let [got] = &receiver.hooks()[..] else { panic!("one webhook") };
    assert!(got.id.starts_with("evt_") && got.verifies(&secret));
    let body = got.json();
    assert_eq!(body["type"], "webhook.test");
    assert!(path.ends_with(body["data"]["webhook_id"].as_str().unwrap()));
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));

    let untrusted = HookReceiver::start_tls(&strangers).await;
    // A certificate of an authority that nobody knows, and no TLS at all.
    for url in [untrusted.url_by_name("https"), receiver.url().replace("http:", "https:")] {
        let (path, _) = hook(&shop, &url).await;
        let attempt = test(&shop, &path).await;
        assert_eq!(attempt["outcome"], "tls", "{attempt}");
        assert!(!attempt["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!((untrusted.hooks().len(), receiver.hooks().len()), (0, 1));
}

#[tokio::test]
async fn during_a_rotation_both_secrets_verify() {
    let server = server().start().await;
    let shop = server.service().await;
    let receiver = HookReceiver::start().await;
    let (path, first) = hook(&shop, &receiver.url()).await;
    let rotated = shop.post(&format!("{path}/secret"), json!({})).await.ok();
    let second = rotated["secret"].as_str().unwrap();
    assert_eq!(test(&shop, &path).await["outcome"], "delivered");
    let got = receiver.hooks().pop().unwrap();
    assert!(got.verifies(&first) && got.verifies(second));
    assert!(!got.verifies(&format!("whsec_{}", "A".repeat(44))));
    let leaked = json!({"overlap_seconds": 0});
    let rotated = shop.post(&format!("{path}/secret"), leaked).await.ok();
    let third = rotated["secret"].as_str().unwrap();
    test(&shop, &path).await;
    let got = receiver.hooks().pop().unwrap();
    assert!(got.verifies(third) && !got.verifies(second) && !got.verifies(&first));
    // Shown once.
    let shown = shop.get(&path).await.ok().to_string();
    for secret in [&first, second, third] {
        assert!(!shown.contains(secret) && !server.log().contains(secret));
    }
}

#[tokio::test]
async fn a_webhook_that_never_answers_holds_up_nobody() {
    let server = server().env("WEBHOOK_TIMEOUT", "3s").start().await;
    let shop = server.service().await;
    let (silent, good) = (HookReceiver::start().await, HookReceiver::start().await);
    silent.answers(Answers::Nothing);
    let (path, _) = hook(&shop, &silent.url()).await;
    let (other, _) = hook(&shop, &good.url()).await;
    let waiting = {
        let shop = shop.clone();
        tokio::spawn(async move { test(&shop, &path).await })
    };
    eventually("it waits for an answer", || {
        let waits = silent.hooks().len() == 1;
        async move { waits }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(test(&shop, &other).await["outcome"], "delivered");
    }
    let attempt = waiting.await.unwrap();
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("timeout"), &json!(null)));
    let took = Duration::from_millis(attempt["duration_ms"].as_u64().unwrap());
    assert!(took >= Duration::from_secs(3), "{took:?}");
    let metrics = server.metrics().await;
    for series in [
        "pushhub_webhook_attempts_total{outcome=\"timeout\"} 1",
        "pushhub_webhook_attempts_total{outcome=\"delivered\"} 10",
        "pushhub_webhook_attempts_total{outcome=\"gone\"} 0",
        "pushhub_webhook_attempt_seconds_count 11",
    ] {
        assert!(metrics.contains(series), "{series}:\n{metrics}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_other_answers_are_told() {
    let server = server().start().await;
    let shop = server.service().await;
    let (receiver, other) = (HookReceiver::start().await, HookReceiver::start().await);
    let (path, _) = hook(&shop, &receiver.url()).await;
    for (answers, outcome, status) in [
        (Answers::Redirect(other.address), "status", 307),
        (Answers::Redirect(server.admin), "status", 307),
        (Answers::Status(500), "status", 500),
        (Answers::Status(410), "gone", 410),
        (Answers::Status(200), "delivered", 200),
    ] {
        receiver.answers(answers);
        let attempt = test(&shop, &path).await;
        assert_eq!(
            (&attempt["outcome"], &attempt["status_code"]),
            (&json!(outcome), &json!(status)),
            "{answers:?}"
        );
    }
    assert_eq!((receiver.hooks().len(), other.connections()), (5, 0));
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let server = TestServer::start().await;
    let shop = server.service().await;
    let receiver = HookReceiver::start().await;
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
    ] {
        let url = format!("https://{host}:{port}/");
        let refused = shop.post(PATH, json!({"url": url, "events": ["*"]})).await;
        let said = refused.refused(422, "invalid");
        assert!(said.contains("url") && said.contains("public"), "{host}: {said}");
    }
    let plain = json!({"url": format!("http://localhost:{port}/"), "events": ["*"]});
    assert!(shop.post(PATH, plain).await.refused(422, "invalid").contains("https://"));
    // A name says nothing about where it leads until it is connected to.
    let (path, _) = hook(&shop, &receiver.url_by_name("https")).await;
    let attempt = test(&shop, &path).await;
    assert_eq!(
        (&attempt["outcome"], &attempt["detail"]),
        (&json!("address_not_allowed"), &json!(null))
    );
    assert_eq!(receiver.connections(), 0);
    let bad = TestServer::builder().env("WEBHOOK_ALLOWED_NETWORKS", "localhost");
    let (status, said) = bad.run(&["check-config"]).await;
    assert!(!status.success() && said.contains("WEBHOOK_ALLOWED_NETWORKS"), "{said}");
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let proxy = HookReceiver::start().await;
    let address = format!("http://{}", proxy.address);
    let names =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let server = server().envs(names.map(|name| (name, address.clone()))).start().await;
    let shop = server.service().await;
    let receiver = HookReceiver::start().await;
    let (path, _) = hook(&shop, &receiver.url()).await;
    assert_eq!(test(&shop, &path).await["outcome"], "delivered");
    assert_eq!((receiver.hooks().len(), proxy.connections()), (1, 0));
}

#[tokio::test]
async fn webhooks_survive_a_crash_and_are_their_services_own() {
    let mut server = server().start().await;
    let (shop, crm) = (server.service().await, server.service().await);
    let receiver = HookReceiver::start().await;
    let (path, secret) = hook(&shop, &receiver.url()).await;
    let before = shop.get(&path).await.ok();
    server.crash_and_restart().await;
    let (shop, crm) = (shop.moved_to(server.user), crm.moved_to(server.user));
    assert_eq!(shop.get(&path).await.ok(), before);
    assert_eq!(test(&shop, &path).await["outcome"], "delivered");
    assert!(receiver.hooks()[0].verifies(&secret));

    for stranger in [&crm, &crm.clone().bearer("x"), &server.as_user("ann"), &server.api()] {
        let statuses = [
            stranger.get(&path).await.status,
            stranger.post(&format!("{path}/test"), json!({})).await.status,
            put(stranger, &path, json!({"url": "https://evil.example/", "events": ["*"]}))
                .await
                .status,
            stranger.call(Method::DELETE, &path, None).await.status,
        ];
        assert!(statuses.iter().all(|status| [401, 403, 404].contains(status)), "{statuses:?}");
    }
    crm.get(&path).await.refused(404, "not_found");
    assert_eq!(shop.get(&path).await.ok(), before);
    assert_eq!(receiver.hooks().len(), 1);

    let admin = server.as_admin();
    let service = before["service_id"].as_str().unwrap();
    let of = format!("/api/v3/admin/services/{service}/webhooks");
    assert_eq!(admin.get(&of).await.ok()["webhooks"], json!([before]));
    let one = format!("{of}/{}", before["id"].as_str().unwrap());
    admin.post(&format!("{one}/disable"), json!({})).await.ok();
    let refused = shop.post(&format!("{path}/enable"), json!({})).await.refused(403, "forbidden");
    assert!(refused.contains("admin"), "{refused}");
    assert_eq!(admin.get("/api/v3/admin/dead-letters").await.ok()["total"], 0);
    let entry = &admin.get("/api/v3/admin/audit?size=1").await.ok()["entries"][0];
    assert_eq!(entry["action"], "admin_webhooks_disable");
    assert_eq!(entry["detail"]["after"]["status"], "disabled");

    if server.keeps_files() {
        let file = server.storage().join(".hub/webhooks.db");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(server.terminate().await.success());
}

/// The events that a receiver got, once each: kind and user.
fn told(receiver: &HookReceiver) -> Vec<(String, String)> {
    let events: BTreeMap<String, (String, String)> = receiver
        .hooks()
        .iter()
        .map(|hook| {
            let body = hook.json();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (hook.id.clone(), (text(&body["type"]), text(&body["data"]["user_id"])))
        })
        .collect();
    let mut told: Vec<_> = events.into_values().collect();
    told.sort();
    told
}

async fn is_told(receiver: &HookReceiver, expected: &[(&str, &str)]) {
    let mut expected: Vec<(String, String)> =
        expected.iter().map(|(kind, user)| ((*kind).into(), (*user).into())).collect();
    expected.sort();
    // In a cluster nobody sends for a node that was killed before its lease has ended.
    let patience = delivery::webhook::LEASE + SOON;
    eventually_within(&format!("told of {expected:?}"), patience, || {
        let is = told(receiver) == expected;
        async move { is.then_some(()) }
    })
    .await;
}

/// From the device to the service that sent the message, each change once, over a crash.
#[tokio::test]
async fn a_service_is_told_what_became_of_its_messages() {
    let mut server = server().start().await;
    let (shop, crm) = (server.service().await, server.service().await);
    let (receiver, others) = (HookReceiver::start().await, HookReceiver::start().await);
    hook(&shop, &receiver.url()).await;
    hook(&crm, &others.url()).await;
    let mut message = message_to(&["ann", "bob"], "approve?");
    message["actions"] = json!([{"type": "confirm", "text": "Yes", "action": "approve"}]);
    let id = shop.send(message).await.ok()["message_id"].as_str().unwrap().to_owned();

    let mut phone = server.socket("ann").device("phone").since(0).connect().await;
    let got = phone.next_message().await;
    assert_eq!(got.fields.id.to_string(), id);
    phone.ack(1).await;
    phone.read(&[&id]).await;
    let mut expected =
        vec![("message.delivered", "ann"), ("message.acked", "ann"), ("message.read", "ann")];
    is_told(&receiver, &expected).await;
    // A second device is no second delivery, and what is read is not read again.
    let mut laptop = server.socket("ann").device("laptop").since(0).connect().await;
    laptop.until_seq(2).await;
    laptop.ack(2).await;
    laptop.read(&[&id]).await;
    laptop.ping().await;
    let bob = server.as_user("bob");
    let pressed = bob.post(&format!("/api/v3/messages/{id}/actions/0"), json!({})).await.ok();
    assert_eq!(pressed["first"], true);
    expected.extend([("message.read", "bob"), ("message.action", "bob")]);
    is_told(&receiver, &expected).await;
    let action = receiver
        .hooks()
        .into_iter()
        .map(|hook| hook.json())
        .find(|body| body["type"] == "message.action");
    let data = &action.unwrap()["data"];
    assert_eq!(data["action"], json!({"index": 0, "action": "approve"}));
    assert_eq!(data["message_id"], id);

    server.crash_and_restart().await;
    server.as_user("bob").post(&format!("/api/v3/messages/{id}/archive"), json!({})).await.ok();
    expected.push(("message.archived", "bob"));
    is_told(&receiver, &expected).await;
    assert_eq!(others.hooks().len(), 0, "of another's messages");
}
