//! Rate limits by the front door. Every client of these tests is on this machine, which is not
//! limited by address; behind a trusted proxy it is, so the tests stand in for one.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Api, TestServer, Token, api::message_to};

/// Most requests until a limit of a few must have been reached, on however slow a machine.
const ENOUGH: usize = 200;

const COUNT: &str = "/api/v3/messages/unread-count";

/// Asks until it is refused; how often it was answered before, and the refusal.
async fn until_limited(
    api: &Api,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (usize, Answer) {
    for answered in 0..ENOUGH {
        let answer = api.call(method.clone(), path, body.clone()).await;
        if answer.status == 429 {
            return (answered, answer);
        }
        assert!(answer.status < 429, "{}", answer.body);
    }
    panic!("{ENOUGH} requests were answered");
}

fn assert_limited(answer: &Answer, scope: &str) {
    let sentence = answer.refused(429, "rate_limited");
    assert!(sentence.contains("too many"), "{sentence}");
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!(after >= 1);
    assert_eq!(answer.header("ratelimit"), format!("\"{scope}\";r=0;t={after}"));
    assert!(answer.header("ratelimit-policy").starts_with(&format!("\"{scope}\";q=")));
}

#[tokio::test]
async fn one_users_limit_does_not_touch_anothers() {
    let server = TestServer::builder().env("RATE_LIMIT_USER", "1/s:5").start().await;
    let first = server.as_user("ann").get(COUNT).await;
    first.data();
    assert!(first.header("ratelimit").starts_with("\"user\";r=4;t="), "{:?}", first.headers);
    assert_eq!(first.header("ratelimit-policy"), "\"user\";q=5;w=5");
    let (answered, refused) = until_limited(&server.as_user("ann"), Method::GET, COUNT, None).await;
    assert!(answered >= 4, "{answered}");
    assert_limited(&refused, "user");
    server.as_user("bob").get(COUNT).await.data();
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_rate_limited_total{scope=\"user\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_service_has_its_own_limit_and_a_batch_costs_its_messages() {
    let server = TestServer::builder().env("RATE_LIMIT_SERVICE", "1/s:2").start().await;
    let made = server
        .create_service(json!({"name": "own", "rate_limit": {"per_second": 1, "burst": 6}}))
        .await
        .ok();
    let own = server.api().service_key(made["api_key"].as_str().unwrap());
    let batch = |of| json!({"messages": vec![message_to(&["ann"], "t"); of]});
    let path = "/api/v3/messages/send-batch";
    let answer = own.post(path, batch(6)).await;
    answer.data();
    assert_eq!(answer.header("ratelimit-policy"), "\"service\";q=6;w=6");
    let (_, refused) = until_limited(&own, Method::POST, path, Some(batch(6))).await;
    assert_limited(&refused, "service");

    let plain = server.service().await;
    let send = "/api/v3/messages/send";
    let (answered, refused) =
        until_limited(&plain, Method::POST, send, Some(message_to(&["ann"], "t"))).await;
    assert!(answered >= 2, "{answered}");
    assert_limited(&refused, "service");
    // Users are not services.
    server.as_user("ann").get(COUNT).await.data();
}

#[tokio::test]
async fn connection_attempts_are_limited_at_the_handshake() {
    let server = TestServer::builder()
        .env("RATE_LIMIT_CONNECT", "1/s:3")
        .env("TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let from = |address: &str| server.socket("ann").header("x-forwarded-for", address);
    let mut open = vec![];
    let refused = loop {
        match from("203.0.113.9").try_connect().await {
            Ok(client) => open.push(client),
            Err(tungstenite::Error::Http(answer)) => break answer,
            Err(other) => panic!("{other:?}"),
        }
        assert!(open.len() < ENOUGH);
    };
    assert!(open.len() >= 3, "{}", open.len());
    assert_eq!(refused.status(), 429);
    let header = |name| refused.headers()[name].to_str().unwrap();
    let after: u64 = header("retry-after").parse().unwrap();
    assert_eq!(header("ratelimit"), format!("\"connect\";r=0;t={after}"));
    assert_eq!(header("ratelimit-policy"), "\"connect\";q=3;w=3");
    // What is open stays open; another address, and this machine itself, get in.
    for client in &mut open {
        client.ping().await;
    }
    from("203.0.113.10").connect().await;
    for _ in 0..5 {
        server.socket("ann").connect().await;
    }
    let metrics = server.metrics().await;
    assert!(metrics.contains("pushhub_rate_limited_total{scope=\"connect\"} 1"), "{metrics}");
    assert!(metrics.contains("pushhub_connections_rejected_total{reason=\"rate\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_spoofed_x_forwarded_for_does_not_help() {
    let server = TestServer::builder()
        .env("RATE_LIMIT_IP", "1/s:4")
        .env("TRUSTED_PROXIES", "127.0.0.1")
        .start()
        .await;
    // The proxy appends whom it was asked by to whatever the client wrote.
    let behind = |api: Api, written: &str, by: &str| {
        api.header("x-forwarded-for", &format!("{written}, {by}"))
    };
    let mut limited = None;
    for n in 0..ENOUGH {
        let api =
            behind(server.as_user("ann"), &format!("127.0.0.1, 198.51.100.{n}"), "203.0.113.9");
        let answer = api.get(COUNT).await;
        if answer.status == 429 {
            limited = Some((n, answer));
            break;
        }
        answer.data();
    }
    let (answered, refused) = limited.expect("a limit of four");
    assert!(answered >= 4, "{answered}");
    assert_limited(&refused, "ip");
    behind(server.as_user("ann"), "203.0.113.9", "203.0.113.10").get(COUNT).await.data();
    // Whoever shows a valid service key is limited as that service only.
    for _ in 0..10 {
        let service = behind(server.service().await, "x", "203.0.113.9");
        service.send_to("ann", "t").await.ok();
    }
}

#[tokio::test]
async fn a_header_of_no_trusted_proxy_is_nothing() {
    let server = TestServer::builder()
        .env("RATE_LIMIT_IP", "1/s:2")
        .env("TRUSTED_PROXIES", "10.0.0.0/8")
        .start()
        .await;
    let api = server.as_user("ann").header("x-forwarded-for", "203.0.113.9");
    for _ in 0..10 {
        api.get(COUNT).await.data();
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_on_both_ports_and_health_is_not() {
    let server = TestServer::builder()
        .env("RATE_LIMIT_IP", "1/s:50")
        .env("TRUSTED_PROXIES", "127.0.0.1")
        .start()
        .await;
    let guess = |api: Api| api.bearer("a-guess").header("forwarded", "for=203.0.113.9");
    let path = "/api/v3/admin/services";
    let admin = guess(server.as_admin());
    let (answered, refused) = until_limited(&admin, Method::GET, path, None).await;
    assert!((4..15).contains(&answered), "eleven units each: {answered}");
    assert_limited(&refused, "ip");
    let other_port = guess(server.api()).get(COUNT).await;
    assert_limited(&other_port, "ip");
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let answer = server.as_admin().header("forwarded", "for=203.0.113.9").get(path).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let token = Token::of("ann").sign();
    let expired = server.api().bearer(&token).header("forwarded", "for=203.0.113.10");
    expired.get(COUNT).await.data();
}
