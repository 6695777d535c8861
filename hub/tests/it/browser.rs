//! What web pages can do: those of listed origins ask and read, others do not; and what every answer
//! tells browsers.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Api, SOON, TestServer, Token, api::message_to, raw};

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";
const LIST: &str = "/api/v3/messages";

/// As a script of a page sends it.
fn from(api: Api, origin: &str) -> Api {
    api.header("Origin", origin)
}

/// What a browser asks before it sends what a form could not.
async fn preflight(api: &Api, origin: &str, method: &str) -> Answer {
    from(api.clone().without_credentials(), origin)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
        .call(Method::OPTIONS, LIST, None)
        .await
}

/// Whether a browser would show the answer to the page, and whether it would with cookies.
fn readable(answer: &Answer, origin: &str) -> (bool, bool) {
    let allowed = answer.header("access-control-allow-origin");
    let credentials = answer.header("access-control-allow-credentials");
    assert!(allowed != "*" || credentials.is_empty(), "everybody with cookies");
    assert!(answer.header("vary").contains("origin"), "a cache would mix up pages");
    (allowed == "*" || allowed == origin, allowed == origin && credentials == "true")
}

#[tokio::test]
async fn pages_of_listed_origins_read_answers_and_others_do_not() {
    let server = TestServer::builder()
        .env("CORS_ALLOWED_ORIGINS", format!("{APP}, http://localhost:3000"))
        .start()
        .await;
    let ann = || server.as_user("ann");
    for origin in [APP, "http://localhost:3000"] {
        let asked = preflight(&ann(), origin, "PUT").await;
        assert_eq!(asked.status, 204);
        assert_eq!(readable(&asked, origin), (true, true));
        let (methods, headers) = (
            asked.header("access-control-allow-methods"),
            asked.header("access-control-allow-headers"),
        );
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert!(methods.split(", ").any(|one| one == method), "{methods}");
        }
        for name in ["authorization", "content-type", "idempotency-key", "x-request-id"] {
            assert!(headers.split(", ").any(|one| one == name), "{headers}");
        }
        assert!(!asked.header("access-control-max-age").is_empty());
        assert!(!asked.header("x-request-id").is_empty());
        let page = from(ann(), origin);
        let answers = [
            page.get(LIST).await,
            page.get("/api/v3/messages/none").await,
            page.get("/no/such/path").await,
            page.clone().without_credentials().get(LIST).await,
            page.send(message_to(&["ann"], "t")).await,
        ];
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 404, 404, 401, 200]);
        for answer in &answers {
            assert_eq!(readable(answer, origin), (true, true));
            let exposed = answer.header("access-control-expose-headers");
            for name in ["retry-after", "ratelimit", "idempotency-replayed", "x-request-id"] {
                assert!(exposed.split(", ").any(|one| one == name), "{exposed}");
            }
        }
    }
    for origin in [EVIL, "http://app.example", "https://app.example.evil", "null"] {
        let asked = preflight(&ann(), origin, "PUT").await;
        let said = asked.refused(403, "forbidden");
        assert!(said.contains("CORS_ALLOWED_ORIGINS"), "{said}");
        assert_eq!(readable(&asked, origin), (false, false), "{origin}");
        // Without a preflight there is no token, and what is answered stays unread.
        assert_eq!(readable(&from(ann(), origin).get(LIST).await, origin), (false, false));
    }
    // Programs see nothing of it, and ask which methods there are as ever.
    let plain = ann().get(LIST).await;
    assert_eq!(plain.header("access-control-allow-origin"), "");
    assert_eq!(ann().call(Method::OPTIONS, LIST, None).await.status, 405);
    let refused = "pushhub_http_refused_total{listener=\"user\",reason=\"foreign_page\"} 4";
    assert!(server.metrics().await.contains(refused));
}

#[tokio::test]
async fn everybody_may_read_without_cookies_where_the_list_says_so() {
    let server =
        TestServer::builder().env("CORS_ALLOWED_ORIGINS", format!("*,{APP}")).start().await;
    let ann = server.as_user("ann");
    for (origin, with_cookies) in [(EVIL, false), ("null", false), (APP, true)] {
        assert_eq!(readable(&preflight(&ann, origin, "POST").await, origin), (true, with_cookies));
        let answer = from(ann.clone(), origin).get(LIST).await;
        assert_eq!(readable(&answer, origin), (true, with_cookies));
        let page = server.stream("ann").header("Origin", origin).open().await;
        let allowed = if with_cookies { APP } else { "*" };
        let allowed = format!("access-control-allow-origin: {allowed}\r\n");
        assert!(page.head.contains(&allowed), "{}", page.head);
    }
}

#[tokio::test]
async fn what_is_refused_before_the_router_can_be_read_by_the_page_too() {
    let server = TestServer::builder().env("CORS_ALLOWED_ORIGINS", APP).start().await;
    let request = format!(
        "POST {LIST} HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    let answer = raw::exchange(server.user, request.as_bytes(), SOON).await;
    assert_eq!(answer.status(), Some(400));
    assert!(answer.text().contains(&format!("access-control-allow-origin: {APP}\r\n")));
}

/// On the port of admins a list for users' pages opens nothing.
#[tokio::test]
async fn foreign_pages_change_and_read_nothing_on_the_port_of_admins() {
    let server =
        TestServer::builder().env("CORS_ALLOWED_ORIGINS", format!("*,{APP}")).start().await;
    let admin = server.as_admin();
    let own = format!("http://{}", server.admin);
    let service = json!({"name": "s", "type": "internal", "level": "business"});
    let services = "/api/v3/admin/services";
    let before = admin.get(services).await.ok()["services"].as_array().unwrap().len();
    for (method, path, body) in [
        (Method::POST, services, Some(service.clone())),
        (Method::PUT, "/api/v3/admin/users/ann/roles", Some(json!({"roles": ["x"]}))),
        (Method::DELETE, "/api/v3/admin/sessions?user_id=ann", None),
        (Method::POST, "/no/such/path", Some(json!({}))),
    ] {
        for origin in [EVIL, "null"] {
            let answer = from(admin.clone(), origin).call(method.clone(), path, body.clone()).await;
            answer.refused(403, "forbidden");
        }
    }
    assert_eq!(admin.get(services).await.ok()["services"].as_array().unwrap().len(), before);
    admin.get("/api/v3/admin/users/ann").await.refused(404, "not_found");
    for origin in [EVIL, APP] {
        let read = from(admin.clone(), origin).get("/metrics").await;
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, ""));
        let asked = from(admin.clone().without_credentials(), origin)
            .header("Access-Control-Request-Method", "POST")
            .call(Method::OPTIONS, services, None)
            .await;
        assert_eq!((asked.status, asked.header("access-control-allow-origin")), (405, ""));
    }
    // The console's own page, and one behind a proxy that hides the host.
    from(admin.clone(), &own).post(services, service.clone()).await.ok();
    from(admin.clone(), APP).post(services, service).await.ok();
    assert!(server.log().contains("foreign_page"));
}

/// Nothing is believed that a browser sends by itself: there is no cross-site request to be forged.
#[tokio::test]
async fn a_request_with_nothing_but_a_cookie_is_nobodys() {
    let server = TestServer::builder().env("CORS_ALLOWED_ORIGINS", APP).start().await;
    let token = Token::of("ann").claim("roles", json!(["system_admin"])).sign();
    let cookie = format!(
        "token={token}; access_token={token}; session={token}; Authorization=Bearer%20{token}; pushhub={token}"
    );
    let user = server.api().header("Cookie", &cookie);
    let admin = server.as_admin().without_credentials().header("Cookie", &cookie);
    for api in [user.clone(), from(user, APP)] {
        api.get(LIST).await.refused(401, "unauthorized");
        api.send(message_to(&["ann"], "t")).await.refused(401, "unauthorized");
        api.post("/api/v3/auth/logout", Value::Null).await.refused(401, "unauthorized");
        api.post("/api/v3/auth/ws-ticket", Value::Null).await.refused(401, "unauthorized");
        api.post("/api/v3/auth/refresh", json!({})).await.refused(422, "invalid");
    }
    admin.get("/api/v3/admin/users").await.refused(401, "unauthorized");
    let stream = server.stream("ann").raw_token("").header("Cookie", &cookie).refused().await;
    assert_eq!(stream.status, 401);
    let socket = server.socket("ann").raw_token("").header("Cookie", &cookie).refused().await;
    assert_eq!(socket.status(), 401);
}

#[tokio::test]
async fn every_answer_of_both_ports_protects_itself() {
    let server = TestServer::start().await;
    let (ann, admin) = (server.as_user("ann"), server.as_admin());
    let answers = [
        ann.get(LIST).await,
        ann.get("/api/v3/messages/none").await,
        ann.get("/no/such/path").await,
        ann.clone().without_credentials().get(LIST).await,
        ann.raw("/api/v3/messages/send", "application/json", b"{".to_vec()).await,
        ann.get("/api/v3/openapi.json").await,
        ann.get("/api/v3/docs").await,
        ann.get("/ws").await,
        admin.get("/api/v3/admin/users").await,
        admin.get("/health/live").await,
        admin.get("/health/ready").await,
        admin.get("/metrics").await,
        admin.get("/api/v3/docs").await,
    ];
    for answer in &answers {
        let documents = answer.header("etag");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", if documents.is_empty() { "no-store" } else { "no-cache" }),
        ] {
            assert_eq!(answer.header(name), value, "{name}: {}", answer.body);
        }
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        // Of what ends TLS, which alone knows its host.
        assert_eq!(answer.header("strict-transport-security"), "");
    }
    // The page runs its own script and no other.
    let page = &answers[6];
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    // What is no answer of a handler: of the connection, of the parser, of the stream.
    for bytes in
        ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "\0\0 / HTTP/1.1\r\n\r\n"]
    {
        let answer = raw::exchange(server.user, bytes.as_bytes(), Duration::from_secs(5)).await;
        assert_eq!(answer.status(), Some(400));
        let text = answer.text();
        for line in ["x-content-type-options: nosniff\r\n", "cache-control: no-store\r\n"] {
            assert_eq!(text.matches(line).count(), 1, "{text}");
        }
    }
    let stream = server.stream("ann").open().await;
    for line in ["cache-control: no-store\r\n", "x-content-type-options: nosniff\r\n"] {
        assert_eq!(stream.head.matches(line).count(), 1, "{}", stream.head);
    }
}
