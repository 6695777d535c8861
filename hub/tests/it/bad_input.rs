//! What contract §10 lists: each gets its 4xx or close code and a sentence that names the field and
//! the limit; nobody else is disturbed.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{
    Api, SOON, TestClient, TestServer, Token,
    api::message_to,
    raw::{RawAnswer, close_code, drain, exchange, frame, read_to_end, trickle},
};

const SEND: &str = "/api/v3/messages/send";

/// A server, and somebody on it who must not notice anything.
struct Scene {
    server: TestServer,
    service: Api,
    onlooker: TestClient,
    sent: u64,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::builder()
            .env("HTTP_HEADER_TIMEOUT", "1s")
            .env("HTTP_BODY_TIMEOUT", "1s")
            .env("WS_HANDSHAKE_TIMEOUT", "1s")
            .start()
            .await;
        let service = server.service().await;
        let onlooker = server.connect("onlooker").await;
        Self { server, service, onlooker, sent: 0 }
    }

    /// The same process still serves, and the socket of before has missed nothing.
    async fn undisturbed(&mut self) {
        self.service.sent("onlooker", "still there").await;
        self.sent += 1;
        self.onlooker.expect_seq(self.sent).await;
        assert!(self.server.alive());
    }

    /// A request by hand, with headers of its own.
    async fn http(&self, head: &str, body: &[u8]) -> RawAnswer {
        let authorization = self.service.credentials();
        let head = head.replace("{auth}", &format!("Authorization: {authorization}"));
        let bytes = [head.replace('\n', "\r\n").as_bytes(), b"\r\n", body].concat();
        exchange(self.server.user, &bytes, SOON).await
    }

    /// Sends bytes on a socket that is up; the close code they get.
    async fn close_code(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = self.server.connect("mallory").await.into_stream();
        // A server that refuses early resets what is still being sent.
        let _ = stream.write_all(bytes).await;
        let answer = read_to_end(&mut stream, SOON).await;
        assert!(answer.closed, "still open: {}", answer.text());
        close_code(&answer.bytes)
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_not_guessed_at() {
    let mut scene = Scene::new().await;
    let body = message_to(&["ann"], "smuggled").to_string();
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let json = "Content-Type: application/json";
    for (what, head, body, named) in [
        (
            "both lengths",
            format!(
                "POST {SEND} HTTP/1.1\nHost: x\n{{auth}}\n{json}\nContent-Length: {length}\n\
                 Transfer-Encoding: chunked\n"
            ),
            &chunked,
            "Transfer-Encoding",
        ),
        (
            "two hosts",
            format!(
                "POST {SEND} HTTP/1.1\nHost: x\nHost: y\n{{auth}}\n{json}\n\
                 Content-Length: {length}\n"
            ),
            &body,
            "Host",
        ),
        (
            "no host",
            format!("POST {SEND} HTTP/1.1\n{{auth}}\n{json}\nContent-Length: {length}\n"),
            &body,
            "Host",
        ),
    ] {
        let answer = scene.http(&head, body.as_bytes()).await;
        assert_eq!(answer.status(), Some(400), "{what}: {}", answer.text());
        assert!(answer.text().contains(named), "{what}: {}", answer.text());
        assert!(answer.closed, "{what}: what follows must not be taken for a request");
    }
    assert_eq!(scene.server.as_user("ann").unread().await, 0);
    scene.undisturbed().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let mut scene = Scene::new().await;
    for (what, head) in [
        (
            "two lengths",
            format!("POST {SEND} HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n"),
        ),
        ("a signed length", format!("POST {SEND} HTTP/1.1\nHost: x\nContent-Length: +4\n")),
        ("an unknown encoding", format!("POST {SEND} HTTP/1.1\nHost: x\nTransfer-Encoding: cow\n")),
        ("a folded header", "GET / HTTP/1.1\nHost: x\nA: b\n c\n".to_owned()),
        ("a space before the colon", "GET / HTTP/1.1\nHost : x\n".to_owned()),
        ("no version", "GET /\n".to_owned()),
        ("binary", "\u{1}\u{2}\u{3}\n".to_owned()),
        ("many headers", format!("GET / HTTP/1.1\nHost: x\n{}", "A: b\n".repeat(200))),
        ("a huge header", format!("GET / HTTP/1.1\nHost: x\nA: {}\n", "x".repeat(600_000))),
        ("a huge path", format!("GET /{} HTTP/1.1\nHost: x\n", "x".repeat(100_000))),
    ] {
        let answer = scene.http(&head, b"").await;
        let status = answer.status();
        assert!(status.is_some_and(|s| (400..500).contains(&s)), "{what}: {}", answer.text());
        assert!(answer.closed, "{what}");
    }
    scene.undisturbed().await;
}

#[tokio::test]
async fn slow_clients_are_closed_and_slow_nobody() {
    let mut scene = Scene::new().await;
    let address = scene.server.user;
    let deadline = Duration::from_secs(6);
    let headers = trickle(address, b"GET / HTTP/1.1\r\nHost: x\r\nA: ", SOON);
    let silent = trickle_nothing(address);
    let authorization = scene.service.credentials();
    let head = format!(
        "POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{"
    );
    let body = trickle(address, head.as_bytes(), SOON);
    let handshake = trickle(address, b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\nUpgrade: ", SOON);
    let others = async {
        for n in 0..20 {
            scene.service.sent("ann", &format!("m{n}")).await;
        }
    };
    let (headers, silent, body, handshake, ()) =
        tokio::join!(headers, silent, body, handshake, others);
    for (what, (took, answer)) in [("headers", headers), ("body", body), ("handshake", handshake)] {
        assert!(answer.closed && took < deadline, "{what}: {took:?} {}", answer.text());
        if what == "body" {
            assert_eq!(answer.status(), Some(408), "{}", answer.text());
            assert!(answer.text().contains("1"), "names the limit: {}", answer.text());
        }
    }
    assert!(silent < deadline, "a connection that says nothing: {silent:?}");
    scene.undisturbed().await;
}

async fn trickle_nothing(address: std::net::SocketAddr) -> Duration {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(drain(&mut stream, SOON).await.closed);
    start.elapsed()
}

#[tokio::test]
async fn two_hundred_slow_connections_leave_room_for_others() {
    let mut scene = Scene::new().await;
    let mut slow = vec![];
    for _ in 0..200 {
        let mut stream = tokio::net::TcpStream::connect(scene.server.user).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nX-").await.unwrap();
        slow.push(stream);
    }
    scene.undisturbed().await;
    for mut stream in slow {
        assert!(drain(&mut stream, SOON).await.closed);
    }
    scene.undisturbed().await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_by_size() {
    let mut scene = Scene::new().await;
    let mut big = message_to(&["ann"], "t");
    big["content"] = "x".repeat(1 << 20).into();
    let answer = scene.service.send(big.clone()).await;
    let sentence = answer.refused(413, "payload_too_large");
    assert!(sentence.contains("1048576") || sentence.contains("1 MiB"), "{sentence}");

    // Without a length, too.
    let head = format!(
        "POST {SEND} HTTP/1.1\nHost: x\n{{auth}}\nContent-Type: application/json\n\
         Transfer-Encoding: chunked\n"
    );
    let chunks = format!("100000\r\n{}\r\n", "[".repeat(1 << 20)).repeat(3);
    let answer = scene.http(&head, format!("{chunks}0\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.status(), Some(413), "{}", answer.text());
    // By its announcement alone.
    let head = format!(
        "POST {SEND} HTTP/1.1\nHost: x\n{{auth}}\nContent-Type: application/json\n\
         Content-Length: 99999999999\n"
    );
    let answer = scene.http(&head, b"{").await;
    assert_eq!(answer.status(), Some(413), "{}", answer.text());
    assert_eq!(scene.server.as_user("ann").unread().await, 0);
    scene.undisturbed().await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let mut scene = Scene::new().await;
    let json = "application/json";
    let deep = |open: &str, close: &str| {
        let nested = format!("{}{}", open.repeat(20_000), close.repeat(20_000));
        message_to(&["ann"], "t").to_string().replace("\"text\"", &nested).into_bytes()
    };
    let mut latin = message_to(&["ann"], "caf\u{e9}").to_string().into_bytes();
    latin.retain(|&byte| byte != 0xa9);
    for (what, body, statuses) in [
        ("nothing", vec![], &[400][..]),
        ("half an object", b"{\"title\":".to_vec(), &[400]),
        ("two objects", b"{}{}".to_vec(), &[400]),
        ("invalid UTF-8", latin, &[400]),
        ("half a surrogate", br#"{"title":"\ud800"}"#.to_vec(), &[400]),
        ("not a number", br#"{"priority":NaN}"#.to_vec(), &[400]),
        ("an array", b"[]".to_vec(), &[422, 400]),
        ("null", b"null".to_vec(), &[422, 400]),
        ("deep arrays", deep("[", "]"), &[400, 422]),
        ("deep objects", deep("{\"a\":", "}"), &[400, 422]),
        ("a huge number", br#"{"priority":1e999}"#.to_vec(), &[400, 422]),
        ("a duplicate field", br#"{"title":"a","title":"b"}"#.to_vec(), &[400, 422]),
    ] {
        let answer = scene.service.raw(SEND, json, body).await;
        assert!(statuses.contains(&answer.status), "{what}: {}", answer.body);
        let kind = if answer.status == 400 { "malformed_request" } else { "invalid" };
        answer.refused(answer.status, kind);
    }
    let text = message_to(&["ann"], "t").to_string();
    let answer = scene.service.raw(SEND, "text/plain", text.clone().into_bytes()).await;
    let sentence = answer.refused(415, "unsupported_media_type");
    assert!(sentence.contains("application/json"), "{sentence}");
    let gzip = scene.service.clone().header("Content-Encoding", "gzip");
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].repeat(100);
    let sentence = gzip.raw(SEND, json, bomb).await.refused(415, "unsupported_media_type");
    assert!(sentence.contains("gzip") || sentence.contains("Content-Encoding"), "{sentence}");
    assert_eq!(scene.server.as_user("ann").unread().await, 0);
    scene.undisturbed().await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_with_their_code() {
    let mut scene = Scene::new().await;
    let kib_65 = vec![b'x'; (64 << 10) + 1];
    let fragment = vec![b'x'; 40 << 10];
    for (what, bytes, code) in [
        ("over 64 KiB", frame(0x81, true, None, &kib_65), 1009),
        ("announced over 64 KiB", frame(0x81, true, Some(1 << 30), b""), 1009),
        (
            "over 64 KiB in fragments",
            [frame(0x01, true, None, &fragment), frame(0x80, true, None, &fragment)].concat(),
            1009,
        ),
        ("a length with its top bit set", frame(0x81, true, Some(1 << 63), b""), 1009),
        ("a reserved opcode", frame(0x83, true, None, b""), 4500),
        ("a reserved control opcode", frame(0x8b, true, None, b""), 4500),
        ("a reserved bit", frame(0xc1, true, None, b"{}"), 4500),
        ("not masked", frame(0x81, false, None, b"{}"), 4500),
        ("a long ping", frame(0x89, true, None, &[0; 126]), 4500),
        ("a fragmented ping", frame(0x09, true, None, b""), 4500),
        ("a continuation of nothing", frame(0x80, true, None, b""), 4500),
        ("invalid UTF-8", frame(0x81, true, None, b"\xff"), 4500),
    ] {
        assert_eq!(scene.close_code(&bytes).await, Some(code), "{what}");
    }
    scene.undisturbed().await;
}

#[tokio::test]
async fn handshakes_that_are_none_get_an_http_answer() {
    let mut scene = Scene::new().await;
    let token = Token::of("ann").sign();
    let upgrade = "Host: x\nConnection: Upgrade\nUpgrade: websocket";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (what, head) in [
        ("no upgrade", format!("GET /ws?token={token} HTTP/1.1\nHost: x\n")),
        (
            "no key",
            format!("GET /ws?token={token} HTTP/1.1\n{upgrade}\nSec-WebSocket-Version: 13\n"),
        ),
        (
            "another version",
            format!(
                "GET /ws?token={token} HTTP/1.1\n{upgrade}\n{key}\nSec-WebSocket-Version: 12\n"
            ),
        ),
        (
            "a POST",
            format!(
                "POST /ws?token={token} HTTP/1.1\n{upgrade}\n{key}\nSec-WebSocket-Version: 13\nContent-Length: 0\n"
            ),
        ),
        (
            "two hosts",
            format!(
                "GET /ws?token={token} HTTP/1.1\n{upgrade}\nHost: y\n{key}\nSec-WebSocket-Version: 13\n"
            ),
        ),
        ("no token", format!("GET /ws HTTP/1.1\n{upgrade}\n{key}\nSec-WebSocket-Version: 13\n")),
        (
            "a since that is none",
            format!(
                "GET /ws?token={token}&since=x HTTP/1.1\n{upgrade}\n{key}\nSec-WebSocket-Version: 13\n"
            ),
        ),
        (
            "a device type that is none",
            format!(
                "GET /ws?token={token}&device_type=toaster HTTP/1.1\n{upgrade}\n{key}\nSec-WebSocket-Version: 13\n"
            ),
        ),
    ] {
        let answer = scene.http(&head, b"").await;
        let status = answer.status();
        assert!(status.is_some_and(|s| (400..500).contains(&s)), "{what}: {}", answer.text());
        assert!(answer.text().contains("\"error\""), "{what}: {}", answer.text());
        assert!(!answer.text().contains(&token), "{what}: the token comes back");
    }
    scene.undisturbed().await;
}

/// Any id a token can carry is legal, and none leaves the folder.
#[tokio::test]
async fn ids_that_look_like_paths_stay_in_the_folder() {
    let mut scene = Scene::new().await;
    let parent = scene.server.storage().parent().unwrap().to_owned();
    let outside = || -> Vec<_> {
        let entries = std::fs::read_dir(&parent).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = outside();
    let ids = [
        "../escaped",
        "..",
        ".",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "%2e%2e%2f",
        "~root",
        "CON",
        "nul",
        "Ann",
        "ann",
        "ann.",
        "ann ",
        "-rf",
        ".sync",
        ".tenants",
        "messages.db",
        "\u{ff0e}\u{ff0e}",
        "\u{202e}nna",
        "a:b",
        "*?",
        "界界界",
    ];
    for id in ids {
        scene.service.sent(id, id).await;
    }
    let long = "界".repeat(42);
    scene.service.sent(&long, &long).await;
    for id in ids.into_iter().chain([long.as_str()]) {
        let messages = scene.server.as_user(id).all_messages().await;
        assert_eq!(messages.len(), 1, "{id:?}");
        assert_eq!(messages[0]["title"], id);
    }
    assert_eq!(outside(), before, "something was written beside the storage folder");
    for id in ["a\0b", "", "a\nb"] {
        let answer = scene.server.as_user(id).get("/api/v3/messages").await;
        answer.refused(401, "unauthorized");
    }
    scene.undisturbed().await;
}

#[tokio::test]
async fn text_that_looks_like_code_is_only_text() {
    let mut scene = Scene::new().await;
    let mut reader = scene.server.connect("reader").await;
    for text in [
        "'; DROP TABLE messages; --",
        "{{sender_name}} ${x} <script>alert(1)</script>",
        "\u{0}\u{1}\u{7f}\u{2028}\u{feff}",
        "\"}}{\"type\":\"disconnect\"",
    ] {
        scene.service.sent("reader", text).await;
        assert_eq!(reader.next_message().await.fields.title, text);
    }
    let template = json!({
        "template_id": "system_alert", "recipients": ["reader"],
        "variables": {"alert_type": "{{alert_message}}", "alert_message": "{{alert_type}}",
            "affected_scope": "\"}", "suggestion": "{{{{x}}}}"},
    });
    scene.service.send(template).await.ok();
    let message = reader.next_message().await.fields;
    assert_eq!(message.title, "系统告警：{{alert_message}}", "a value is never a template");
    assert!(message.content.contains("{{alert_type}}") && message.content.contains("{{{{x}}}}"));
    scene.undisturbed().await;
}
