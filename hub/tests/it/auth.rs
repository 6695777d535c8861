//! Who may do what: what is another's, and tokens that must not be believed. All routes with all
//! kinds of callers: `described/permissions`.

use jsonwebtoken::{Algorithm, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, TestServer, Token, api::message_to, token::SECRET};

#[tokio::test]
async fn what_is_another_users_is_not_there() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let id = service.sent("ann", "private").await;
    let strangers: [(&str, Api); 2] = [
        ("another user", server.as_user("eve")),
        (
            "the same user of another tenant",
            server.api().bearer(&Token::of("ann").claim("tenant_id", "t2").sign()),
        ),
    ];
    for (who, api) in strangers {
        for (method, path) in [
            (Method::GET, ""),
            (Method::POST, "/read"),
            (Method::POST, "/unread"),
            (Method::POST, "/archive"),
        ] {
            let body = (method == Method::POST).then(|| json!({}));
            let url = format!("/api/v3/messages/{id}{path}");
            let mine = api.call(method.clone(), &url, body.clone()).await;
            mine.refused(404, "not_found");
            let unknown = url.replace(&id, "no-such");
            let unknown = api.call(method, &unknown, body).await;
            assert_eq!(mine.body["message"], unknown.body["message"], "{who}: tells them apart");
        }
        assert_eq!(api.unread().await, 0);
        assert!(api.changes_after(0).await.is_empty(), "{who}");
    }
    assert_eq!(server.as_user("ann").unread().await, 1);
}

/// Tokens that must not be believed; research/reliability.md §2.3.
fn forged() -> Vec<(&'static str, String)> {
    let ann = || Token::of("ann");
    let good = ann().sign();
    let parts: Vec<&str> = good.split('.').collect();
    let hs256 = json!({"alg": "HS256", "typ": "JWT"});
    let day = jiff::Timestamp::now().as_second() + 86_400;
    vec![
        ("alg none", ann().with_header(&json!({"alg": "none", "typ": "JWT"}), false)),
        ("alg None", ann().with_header(&json!({"alg": "None", "typ": "JWT"}), false)),
        ("alg nOnE, signed", ann().with_header(&json!({"alg": "nOnE", "typ": "JWT"}), true)),
        ("no alg", ann().with_header(&json!({"typ": "JWT"}), true)),
        ("alg RS256 with an HMAC", ann().with_header(&json!({"alg": "RS256", "typ": "JWT"}), true)),
        ("alg HS512 of HS256", ann().with_header(&json!({"alg": "HS512", "typ": "JWT"}), true)),
        ("HS384", ann().sign_with(&Header::new(Algorithm::HS384), SECRET)),
        ("HS512", ann().sign_with(&Header::new(Algorithm::HS512), SECRET)),
        (
            "another secret",
            ann().sign_with(&Header::new(Algorithm::HS256), "another-secret-another-secret-123"),
        ),
        ("an empty secret", ann().sign_with(&Header::new(Algorithm::HS256), "")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("a cut signature", good[..good.len() - 4].to_owned()),
        ("a changed signature", changed_first_of_signature(&good)),
        ("the claims of another", {
            let other = Token::of("eve").sign();
            format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2])
        }),
        (
            "a jwk in the header",
            ann().with_header(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}}), false),
        ),
        (
            "a crit header",
            ann().with_header(&json!({"alg": "HS256", "crit": ["exp"], "typ": "JWT"}), false),
        ),
        ("expired", ann().expires_in(-60).sign()),
        ("no exp", ann().claim("exp", Value::Null).sign()),
        ("exp as a text", ann().claim("exp", "9999999999").sign()),
        ("exp negative", ann().claim("exp", -1).sign()),
        ("nbf tomorrow", ann().claim("nbf", day).sign()),
        ("nbf as a text", ann().claim("nbf", "tomorrow").sign()),
        ("another iss", ann().claim("iss", "somebody-else").sign()),
        ("an iss with a slash more", ann().claim("iss", "message-service/").sign()),
        ("no iss", ann().claim("iss", Value::Null).sign()),
        ("another aud", ann().claim("aud", "another-app").sign()),
        ("no aud", ann().claim("aud", Value::Null).sign()),
        ("no user", ann().claim("user_id", Value::Null).claim("sub", Value::Null).sign()),
        ("an empty user", ann().claim("user_id", "").sign()),
        ("a user with a NUL", ann().claim("user_id", "a\0b").sign()),
        ("a user of 129 bytes", ann().claim("user_id", "x".repeat(129)).sign()),
        ("a user that is a number", ann().claim("user_id", 7).sign()),
        ("a device with a newline", ann().claim("device_id", "a\nb").sign()),
        ("a tenant with a NUL", ann().claim("tenant_id", "a\0b").sign()),
        ("padding", ann().with_header(&hs256, true) + "="),
        ("a space", format!("{} {}", &good[..20], &good[20..])),
        ("nothing", String::new()),
        ("dots", "...".to_owned()),
        ("64 KiB", "x".repeat(60_000)),
    ]
}

fn changed_first_of_signature(token: &str) -> String {
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{rest}.{first}{}", &signature[1..])
}

#[tokio::test]
async fn forged_tokens_are_refused_by_rest_sockets_and_admin() {
    let server = TestServer::start().await;
    assert_eq!(server.as_user("ann").get("/api/v3/messages").await.status, 200);
    for (what, token) in forged() {
        let answer = server.api().bearer(&token).get("/api/v3/messages").await;
        // A header that is too large is refused before it is read.
        assert!(matches!(answer.status, 401 | 431), "REST: {what}: {}", answer.body);
        let admin = server.as_admin().bearer(&token).get("/api/v3/admin/services").await;
        assert!(matches!(admin.status, 401 | 431), "admin: {what}: {}", admin.body);
        if token.is_ascii() && !token.is_empty() && !token.contains(' ') && token.len() < 4_000 {
            let refused = server.socket("ann").raw_token(&token).refused().await;
            assert_eq!(refused.status(), 401, "socket: {what}");
        }
    }
    // The leeway is for clocks, and the seed's fallback is for simple issuers.
    for (what, token) in [
        ("a clock 20 s behind", Token::of("ann").expires_in(-20)),
        ("only sub", Token::of("ann").claim("user_id", Value::Null)),
        ("a list of audiences", Token::of("ann").claim("aud", json!(["x", "client-app"]))),
    ] {
        let answer = server.api().bearer(&token.sign()).get("/api/v3/messages").await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_socket_takes_its_token_from_the_header_too() {
    let server = TestServer::start().await;
    let bearer = format!("Bearer {}", Token::of("ann").sign());
    let client = server.socket("x").raw_token("").header("Authorization", &bearer).connect().await;
    assert_eq!(client.welcome.user_id.as_str(), "ann");
    let refused = server.socket("ann").raw_token("").refused().await;
    assert_eq!(refused.status(), 401);
    let service = server.service().await;
    let key = service.credentials().to_owned();
    let refused = server.socket("x").raw_token("").header("Authorization", &key).refused().await;
    assert!(matches!(refused.status().as_u16(), 401 | 403), "a service has no inbox");
}

#[tokio::test]
async fn the_admin_port_is_for_admins() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let nobody = server.as_admin().authorization("");
    let path = "/api/v3/admin/services";
    nobody.get(path).await.refused(401, "unauthorized");
    server.as_admin().bearer("wrong").get(path).await.refused(401, "unauthorized");
    let user = server.as_admin().bearer(&Token::of("ann").sign());
    user.get(path).await.refused(403, "forbidden");
    let key = server.as_admin().authorization(service.credentials());
    assert!(matches!(key.get(path).await.status, 401 | 403));
    let root = Token::of("root").claim("roles", json!(["system_admin"])).sign();
    let services = server.as_admin().bearer(&root).get(path).await.ok();
    let secret = service.credentials().rsplit('_').next().unwrap();
    assert!(!services.to_string().contains(secret), "a key is shown once");
    // And what is on it is not on the user port.
    let there = server.api().bearer(crate::support::server::ADMIN_TOKEN).get(path).await;
    assert!(matches!(there.status, 401 | 404), "{}", there.body);
}

#[tokio::test]
async fn on_behalf_of_needs_its_permission() {
    let server = TestServer::start().await;
    let plain = server.service_of_level("business", &[]).await;
    let mut message = message_to(&["ann"], "t");
    plain.send(message.clone()).await.ok();
    message["on_behalf_of"] = "bob".into();
    let sentence = plain.send(message.clone()).await.refused(403, "forbidden");
    assert!(sentence.contains("on_behalf_of"), "{sentence}");
    let trusted = server.service_of_level("business", &["on_behalf_of"]).await;
    trusted.send(message).await.ok();
    assert_eq!(server.as_user("ann").unread().await, 2);
}

#[tokio::test]
async fn ordinary_users_do_not_address_everybody() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    let all = json!({"title": "t", "content": "c", "message_type": "text",
        "recipient_type": "all", "recipients": []});
    ann.send(all).await.refused(403, "forbidden");
    let users: Vec<String> = (0..21).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    ann.send(message_to(&names[..20], "t")).await.ok();
    let sentence = ann.send(message_to(&names, "t")).await.refused(403, "forbidden");
    assert!(sentence.contains("20"), "{sentence}");
}

#[tokio::test]
async fn every_answer_carries_a_request_id() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    let answer = ann.get("/api/v3/messages").await;
    assert!(!answer.header("x-request-id").is_empty());
    let mine = ann.clone().header("X-Request-Id", "mine-1").get("/api/v3/messages").await;
    assert_eq!(mine.header("x-request-id"), "mine-1");
    let bad = "x".repeat(300);
    let other = ann.header("X-Request-Id", &bad).get("/api/v3/messages").await;
    assert!(!other.header("x-request-id").is_empty());
    assert_ne!(other.header("x-request-id"), bad);
}
