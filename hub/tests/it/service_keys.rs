//! Keys of services: rotated without a gap, good only from where they may be used, and void at once when
//! they are not wanted any more.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Api, TestServer, eventually, eventually_within};

/// How soon a change of another process bites (contract §2.7).
const BITES_WITHIN: Duration = Duration::from_secs(2);

const SERVICES: &str = "/api/v3/admin/services";

/// A call that every service may make and that changes nothing.
const STATS: &str = "/api/v3/stats";

async fn ask(server: &TestServer, key: &str) -> Answer {
    server.api().service_key(key).get(STATS).await
}

/// The whole key and its id.
fn made(answer: &Value) -> (String, String) {
    let key = answer["api_key"].as_str().unwrap().to_owned();
    let id = key.split('_').nth(1).unwrap().to_owned();
    (key, id)
}

async fn service(server: &TestServer, more: Value) -> (String, String) {
    let mut service = json!({"id": "shop", "name": "shop"});
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    made(&server.create_service(service).await.ok())
}

async fn keys(server: &TestServer) -> Vec<Value> {
    let listed = server.as_admin().get(&format!("{SERVICES}/shop/keys")).await.ok();
    listed["keys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_key_is_replaced_without_a_gap() {
    let server = TestServer::start().await;
    let admin = server.as_admin();
    let (first, id) = service(&server, json!({})).await;
    let rotate = |id: &str, seconds: u64| {
        let path = format!("{SERVICES}/shop/keys/{id}/rotate");
        let admin = admin.clone();
        async move { admin.post(&path, json!({"overlap_seconds": seconds})).await }
    };
    let answer = rotate(&id, 2).await.ok();
    let (second, second_id) = made(&answer);
    ask(&server, &second).await.ok();
    let listed = keys(&server).await;
    assert_eq!(listed[0]["replaced_by"], json!(second_id));
    assert!(listed[0]["expires_at"].is_string() && listed[1]["expires_at"].is_null());
    // Who did not get the answer is told which key it made, and makes no third.
    let again = rotate(&id, 2).await.refused(422, "invalid");
    assert!(again.contains(&second_id), "{again}");
    // Good to the end of the overlap, and not after.
    eventually("the old key ends", async || {
        let answer = ask(&server, &first).await;
        assert!(matches!(answer.status, 200 | 401), "{}", answer.body);
        answer.status == 401
    })
    .await;
    ask(&server, &second).await.ok();
    let (third, _) = made(&rotate(&second_id, 0).await.ok());
    ask(&server, &second).await.refused(401, "unauthorized");
    ask(&server, &third).await.ok();

    let admin = server.as_admin();
    let path = format!("{SERVICES}/shop/keys/{second_id}/rotate");
    let too_long = json!({"overlap_seconds": 31 * 86_400});
    assert!(admin.post(&path, too_long).await.refused(422, "invalid").contains("overlap_seconds"));
    let none = format!("{SERVICES}/shop/keys/nosuchkey000/rotate");
    admin.post(&none, json!({})).await.refused(404, "not_found");
    server.logged("services_rotate_key").await;
    for key in [&first, &second, &third] {
        assert!(!server.log().contains(key.as_str()), "a key is in the log");
    }
}

#[tokio::test]
async fn a_key_is_refused_from_where_it_may_not_be_used() {
    let server = TestServer::builder().env("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let networks = json!({"allowed_networks": ["10.0.0.0/8", "fd00::/8"]});
    let (wide, _) = service(&server, networks.clone()).await;
    let path = format!("{SERVICES}/shop/keys");
    let body = json!({"name": "jobs", "allowed_networks": ["10.1.0.0/16"]});
    let (narrow, narrow_id) = made(&server.as_admin().post(&path, body).await.ok());
    let from = |key: &str, address: &str| -> Api {
        server.api().service_key(key).header("X-Forwarded-For", address)
    };
    for (key, address, may) in [
        (&wide, "10.2.0.1", true),
        (&wide, "fd00::7", true),
        (&wide, "203.0.113.9", false),
        // What the client wrote before the proxy is not where it is.
        (&wide, "10.2.0.1, 203.0.113.9", false),
        (&narrow, "10.1.0.1", true),
        (&narrow, "10.2.0.1", false),
    ] {
        let answer = from(key, address).get(STATS).await;
        if may {
            answer.data();
        } else {
            let sentence = answer.refused(403, "forbidden");
            let real = address.rsplit(' ').next().unwrap();
            assert!(sentence.contains(&format!("may not be used from {real}")), "{sentence}");
        }
    }
    // Nothing was sent by it either.
    let message = crate::support::api::message_to(&["ann"], "hello");
    from(&wide, "203.0.113.9").send(message.clone()).await.refused(403, "forbidden");
    assert_eq!(server.as_user("ann").unread().await, 0);
    // A stranger with the key is in the log, and who uses it in the list.
    let log = server.log();
    assert!(log.contains("service_key_wrong_address") && log.contains("203.0.113.9"), "{log}");
    eventually("the use is noted", async || {
        keys(&server).await.iter().any(|key| {
            key["id"] == json!(narrow_id)
                && key["last_used_from"] == "10.1.0.1"
                && key["name"] == "jobs"
        })
    })
    .await;
    // Bad ones are told by their place.
    let bad = json!({"allowed_networks": ["10.0.0.0/8", "10.0.0.0/99"]});
    let admin = server.as_admin();
    for refused in [
        admin.put(&format!("{SERVICES}/shop"), bad.clone()).await,
        admin.put(&format!("{path}/{narrow_id}"), bad.clone()).await,
        admin.post(&path, bad).await,
    ] {
        assert!(refused.refused(422, "invalid").contains("allowed_networks[1]"));
    }
    // A change bites with the next request.
    admin.put(&format!("{SERVICES}/shop"), json!({"allowed_networks": []})).await.ok();
    from(&wide, "203.0.113.9").get(STATS).await.ok();
    from(&narrow, "203.0.113.9").get(STATS).await.refused(403, "forbidden");
}

#[tokio::test]
async fn a_header_of_a_stranger_opens_no_network() {
    let server = TestServer::start().await;
    let (key, _) = service(&server, json!({"allowed_networks": ["10.0.0.0/8"]})).await;
    for header in ["X-Forwarded-For", "X-Real-IP"] {
        let api = server.api().service_key(&key).header(header, "10.0.0.1");
        api.get(STATS).await.refused(403, "forbidden");
    }
}

#[tokio::test]
async fn what_is_stopped_is_refused_with_the_next_request() {
    let server = TestServer::start().await;
    let admin = server.as_admin();
    let (key, id) = service(&server, json!({})).await;
    let to = |state: &'static str| {
        let admin = admin.clone();
        async move { admin.post(&format!("{SERVICES}/shop/{state}"), json!({})).await.ok() }
    };
    ask(&server, &key).await.ok();
    for stopped in ["suspend", "disable"] {
        to(stopped).await;
        let sentence = ask(&server, &key).await.refused(403, "forbidden");
        assert!(sentence.contains(&format!("the service is {}", stopped.trim_end_matches('e'))));
        to("activate").await;
        ask(&server, &key).await.ok();
    }
    let path = format!("{SERVICES}/shop/keys/{id}");
    admin.call(Method::DELETE, &path, None).await.ok();
    ask(&server, &key).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn the_command_line_ends_old_keys_after_an_overlap() {
    let server = TestServer::start().await;
    if !server.keeps_files() {
        return;
    }
    let (old, _) = service(&server, json!({})).await;
    ask(&server, &old).await.ok();
    let cli = |arguments: &'static [&'static str]| async {
        let (status, said) = TestServer::builder().storage(server.storage()).run(arguments).await;
        assert!(status.success(), "{said}");
        said
    };
    let said = cli(&["service", "rotate", "shop", "--overlap", "1h"]).await;
    let new = said.lines().find_map(|line| line.strip_prefix("KEY=")).unwrap().to_owned();
    ask(&server, &new).await.ok();
    ask(&server, &old).await.ok();
    let said = cli(&["service", "rotate", "shop", "--overlap", "0s"]).await;
    let last = said.lines().find_map(|line| line.strip_prefix("KEY=")).unwrap();
    ask(&server, last).await.ok();
    eventually_within("another process' change bites", BITES_WITHIN, async || {
        (ask(&server, &new).await.status == 401).then_some(())
    })
    .await;
    ask(&server, &old).await.refused(401, "unauthorized");
}
