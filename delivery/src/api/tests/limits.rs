//! Rate limits, as callers meet them.

use std::{net::SocketAddr, sync::atomic::Ordering};

use axum::{body::Body, extract::ConnectInfo};
use serde_json::{Value, json};

use super::harness::{ADMIN_TOKEN, Answer, Api, request};
use crate::{
    control::{NewService, RateLimit},
    limit::{BAD_CREDENTIAL_UNITS, LimitConfig, Rate},
};

/// Bursts of which nothing comes back while the test runs; 0 is off.
fn limits(ip: u32, user: u32, service: u32) -> LimitConfig {
    let rate = |burst| (burst > 0).then(|| Rate::hourly(burst));
    LimitConfig {
        ip: rate(ip),
        user: rate(user),
        service: rate(service),
        connect: None,
        trusted_proxies: "10.0.0.0/8".parse().unwrap(),
    }
}

const COUNT: &str = "/messages/unread-count";

fn message() -> Value {
    json!({"title": "t", "content": "c", "message_type": "text", "recipients": ["bob"]})
}

fn batch(of: usize) -> Value {
    json!({"messages": vec![message(); of]})
}

/// Asks from an address, with or without a forwarding header.
async fn from(api: &Api, caller: &str, path: &str, peer: &str, forwarded: &str) -> Answer {
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    let mut request = request("GET", caller, path).extension(ConnectInfo(peer));
    if !forwarded.is_empty() {
        request = request.header("x-forwarded-for", forwarded);
    }
    api.call(request.body(Body::empty()).unwrap()).await
}

#[track_caller]
fn limited(answer: &Answer, scope: &str) {
    answer.error(429, "rate_limited");
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 1);
    let now = answer.header("ratelimit").unwrap();
    assert_eq!(now, format!("\"{scope}\";r=0;t={after}"), "the draft wants the same time in both");
    assert!(answer.header("ratelimit-policy").unwrap().starts_with(&format!("\"{scope}\";q=")));
}

#[tokio::test]
async fn a_user_is_limited_and_no_other_with_him() {
    let api = Api::with_limits(limits(0, 3, 0));
    let (ann, bob) = (api.user("ann", &[]), api.user("bob", &[]));
    for left in ["2", "1", "0"] {
        let answer = api.get(&ann, COUNT).await;
        answer.data();
        let now = answer.header("ratelimit").unwrap();
        assert!(now.starts_with(&format!("\"user\";r={left};t=")), "{now}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"user\";q=3;w=10800"));
    }
    limited(&api.get(&ann, COUNT).await, "user");
    api.get(&bob, COUNT).await.data();
    assert_eq!(api.counts.of("pushhub_rate_limited_total{scope=user}"), 1);
    assert_eq!(api.counts.of("pushhub_rate_limited_total{scope=ip}"), 0);
}

#[tokio::test]
async fn without_limits_nothing_is_said() {
    let api = Api::new();
    let answer = api.get(&api.user("ann", &[]), COUNT).await;
    answer.data();
    assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), (None, None));
}

#[tokio::test]
async fn a_services_own_rate_wins_over_the_default() {
    let api = Api::with_limits(limits(0, 0, 1));
    let plain = api.service(NewService::named("plain"));
    let own = RateLimit { per_second: 1, burst: 3 };
    let own = api.service(NewService { rate_limit: Some(own), ..NewService::named("own") });
    // Its own rate is in seconds: as many as come back while the test runs may be answered too.
    let mut answered = 0;
    let refused = loop {
        let answer = api.post(&own, "/messages/send", message()).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
        assert!(answered < 100);
    };
    assert!(answered >= 3, "{answered}");
    limited(&refused, "service");
    api.post(&plain, "/messages/send", message()).await.data();
    limited(&api.post(&plain, "/messages/send", message()).await, "service");
}

#[tokio::test]
async fn a_batch_costs_its_messages() {
    let api = Api::with_limits(limits(0, 0, 10));
    let service = api.service(NewService::named("s"));
    let answer = api.post(&service, "/messages/send-batch", batch(7)).await;
    answer.data();
    assert!(answer.header("ratelimit").unwrap().starts_with("\"service\";r=3;"));
    limited(&api.post(&service, "/messages/send-batch", batch(7)).await, "service");
    assert_eq!(api.counts.of("pushhub_messages_rejected_total{reason=rate_limited}"), 7);
    // One that can never fit is told so instead of being sent round for ever.
    let answer = api.post(&service, "/messages/send-batch", batch(11)).await;
    assert_eq!(answer.fields(), ["messages"]);
    assert!(answer.body["message"].as_str().unwrap().contains("at most 10"), "{}", answer.body);
}

#[tokio::test]
async fn an_address_is_limited_for_everything_without_a_service_key() {
    let api = Api::with_limits(limits(3, 0, 0));
    let (ann, service) = (api.user("ann", &[]), api.service(NewService::named("s")));
    let peer = "203.0.113.9";
    from(&api, &ann, COUNT, peer, "").await.data();
    from(&api, "", COUNT, peer, "").await.error(401, "unauthorized");
    from(&api, "", "/nothing", peer, "").await.error(404, "not_found");
    limited(&from(&api, &ann, COUNT, peer, "").await, "ip");
    limited(&from(&api, "", "/nothing", peer, "").await, "ip");
    limited(&from(&api, "Service phk_no_key", "/messages/templates", peer, "").await, "ip");
    limited(&from(&api, &service, "/nothing", peer, "").await, "ip");
    for _ in 0..5 {
        from(&api, &service, "/messages/templates", peer, "").await.data();
    }
    from(&api, &ann, COUNT, "203.0.113.10", "").await.data();
    for _ in 0..5 {
        from(&api, &ann, COUNT, "127.0.0.1", "").await.data();
    }
}

#[tokio::test]
async fn the_admin_api_is_limited_by_address() {
    let api = Api::with_limits(limits(2, 0, 0));
    let admin = format!("Bearer {ADMIN_TOKEN}");
    for _ in 0..2 {
        from(&api, &admin, "/admin/services", "203.0.113.9", "").await.data();
    }
    limited(&from(&api, &admin, "/admin/services", "203.0.113.9", "").await, "ip");
}

#[tokio::test]
async fn a_spoofed_header_helps_nobody() {
    let api = Api::with_limits(limits(2, 0, 0));
    let ann = api.user("ann", &[]);
    // Not through a proxy: the header is nothing.
    for n in 0..2 {
        from(&api, &ann, COUNT, "203.0.113.9", &format!("198.51.100.{n}")).await.data();
    }
    limited(&from(&api, &ann, COUNT, "203.0.113.9", "198.51.100.77").await, "ip");
    // Through one: what it appended counts, not what stood there before.
    for n in 0..2 {
        let spoofed = format!("127.0.0.1, 198.51.100.{n}, 203.0.113.20");
        from(&api, &ann, COUNT, "10.0.0.1", &spoofed).await.data();
    }
    limited(&from(&api, &ann, COUNT, "10.0.0.1", "192.0.2.1, 203.0.113.20").await, "ip");
    // Another client of the same proxy.
    from(&api, &ann, COUNT, "10.0.0.1", "203.0.113.21").await.data();
}

#[tokio::test]
async fn guesses_cost_more_than_mistakes() {
    let burst = 2 * (BAD_CREDENTIAL_UNITS + 1);
    let api = Api::with_limits(limits(burst, 0, 0));
    for (peer, guess) in [("203.0.113.1", "Bearer guess"), ("203.0.113.2", "Service phk_a_guess")] {
        for _ in 0..2 {
            from(&api, guess, COUNT, peer, "").await.error(401, "unauthorized");
        }
        limited(&from(&api, guess, COUNT, peer, "").await, "ip");
    }
    for _ in 0..burst {
        from(&api, "", COUNT, "203.0.113.3", "").await.error(401, "unauthorized");
    }
    limited(&from(&api, "", COUNT, "203.0.113.3", "").await, "ip");
}

#[tokio::test]
async fn a_node_that_goes_down_says_so_to_services_at_any_rate() {
    let api = Api::with_limits(limits(1, 0, 0));
    let service = api.service(NewService::named("s"));
    api.draining.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        api.post(&service, "/messages/send", message()).await.error(503, "unavailable");
    }
}
