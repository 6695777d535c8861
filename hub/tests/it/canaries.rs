//! Secrets are shown in every place where one can stand, right and wrong, and are then looked for in
//! whatever the server says: its log at TRACE, its metrics, its refusals, its arguments.
//!
//! Left out is what is told on purpose: `X-Request-Id` is the caller's own name of a request and goes to the log as
//! it came, and a refused JSON field is named to whoever sent it.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    sessions::{Pair, log_in},
    support::{
        Cluster, TestServer, Token, api::message_to, collector::Collector, raw,
        server::ADMIN_TOKEN, server::Builder, token::SECRET,
    },
};

/// How much of a secret counts as a leak, in bytes: fewer would be found by chance, or are the part of it
/// that says what it is.
const LEAK_BYTES: usize = 16;

/// A secret, and the parts of it that must not be seen.
struct Secret {
    what: &'static str,
    text: String,
    needles: BTreeSet<String>,
}

impl Secret {
    /// One of which all is secret from `public` bytes on.
    fn new(what: &'static str, text: &str, public: usize) -> Self {
        let hidden = &text[public..];
        assert!(hidden.len() >= LEAK_BYTES, "{what} is short");
        let (first, last) = (&hidden[..LEAK_BYTES], &hidden[hidden.len() - LEAK_BYTES..]);
        let needles = [first, last].into_iter().flat_map(forms).collect();
        Self { what, text: text.to_owned(), needles }
    }

    /// A user's token: the end of its claims, which begin as all do, and its signature.
    fn token(what: &'static str, text: &str) -> Self {
        let signature = text.rfind('.').expect("a token has three parts") + 1;
        let mut secret = Self::new(what, text, signature);
        secret.needles.extend(forms(&text[signature - 1 - LEAK_BYTES..signature - 1]));
        secret
    }

    /// Where it is, if it is in there.
    fn seen_in<'a>(&self, lower: &'a str) -> Option<&'a str> {
        let at = self.needles.iter().find_map(|needle| lower.find(needle.as_str()))?;
        let from = lower[..at].rfind('\n').map_or(0, |at| at + 1);
        let to = lower[at..].find('\n').map_or(lower.len(), |length| at + length);
        Some(&lower[from..to])
    }
}

/// How a text may be written, in lower case.
fn forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let each = |format: fn(u8) -> String, between: &str| {
        bytes.iter().map(|byte| format(*byte)).collect::<Vec<_>>().join(between)
    };
    let mut forms = vec![
        text.to_owned(),
        text.chars().rev().collect(),
        each(|byte| format!("{byte:02x}"), ""),
        each(|byte| format!("%{byte:02x}"), ""),
        each(|byte| format!("\\x{byte:02x}"), ""),
        // `Debug` of bytes.
        each(|byte| byte.to_string(), ", "),
    ];
    // What of it is the same wherever it stands in a longer text.
    for before in 0..3 {
        let text = [&b"xxx"[..before], bytes].concat();
        let (from, to) = ([0, 2, 3][before], text.len() / 3 * 4);
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(encoded[from..to].to_owned());
        }
    }
    forms.iter().map(|form| form.to_lowercase()).collect()
}

/// What is said to whoever shows a secret.
#[derive(Default)]
struct Heard {
    refusals: String,
    served: usize,
}

impl Heard {
    fn answer(&mut self, what: &str, status: u16, text: &str) {
        if status < 400 {
            self.served += 1;
        } else {
            writeln!(self.refusals, "{what}: {status} {text}").unwrap();
        }
    }
}

/// A request that shows a secret.
struct Shown {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, Vec<u8>)>,
}

/// Each place of a request in which a secret can stand.
fn requests(secret: &str) -> Vec<Shown> {
    let basic = STANDARD_NO_PAD.encode(format!("user:{secret}"));
    let encoded: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let get = |path: &str| Shown {
        method: Method::GET,
        path: path.to_owned(),
        headers: vec![],
        body: None,
    };
    let list = "/api/v3/messages";
    let mut all = vec![];
    for (name, value) in [
        ("Authorization", format!("Bearer {secret}")),
        ("Authorization", format!("bearer  {secret} ")),
        ("Authorization", format!("Service {secret}")),
        ("Authorization", format!("Basic {basic}")),
        ("Authorization", format!("Token {secret}")),
        ("Authorization", secret.to_owned()),
        ("X-Api-Key", secret.to_owned()),
        ("Cookie", format!("token={secret}")),
        ("User-Agent", secret.to_owned()),
        ("Accept", secret.to_owned()),
        ("Content-Type", secret.to_owned()),
        ("Idempotency-Key", secret.to_owned()),
        ("Last-Event-ID", secret.to_owned()),
        ("If-None-Match", secret.to_owned()),
        ("X-Forwarded-For", secret.to_owned()),
        ("Origin", format!("https://{secret}")),
        ("Referer", format!("https://app.example/?token={secret}")),
    ] {
        for path in [list, "/api/v3/stream", "/ws", "/api/v3/admin/users", "/metrics", "/none"] {
            // A stream that is opened does not end.
            if path != "/api/v3/stream" || !value.to_lowercase().starts_with("bearer") {
                all.push(Shown { headers: vec![(name, value.clone())], ..get(path) });
            }
        }
    }
    for text in [secret, &encoded] {
        for name in ["token", "ticket", "access_token", "cursor", "sender", "since", "q", "state"] {
            for path in [list, "/ws", "/api/v3/admin/users", "/api/v3/admin/sessions", "/none"] {
                all.push(get(&format!("{path}?{name}={text}")));
            }
        }
        for path in ["", "api/v3/messages/", "api/v3/channels/", "api/v3/admin/users/", "ws/"] {
            all.push(get(&format!("/{path}{text}")));
        }
        for path in ["/api/v3/webhooks/", "/api/v3/admin/sessions/", "/api/v3/auth/sessions/"] {
            all.push(Shown { method: Method::DELETE, ..get(&format!("{path}{text}")) });
        }
    }
    let mut post = |path: &str, media: &'static str, body: Vec<u8>| {
        all.push(Shown { method: Method::POST, body: Some((media, body)), ..get(path) });
    };
    let json = "application/json";
    for path in [
        "/api/v3/auth/refresh",
        "/api/v3/auth/logout",
        "/api/v3/auth/ws-ticket",
        "/api/v3/messages/send",
        "/api/v3/messages/read-batch",
        "/api/v3/admin/services",
        "/api/v3/admin/sessions",
        "/none",
    ] {
        for field in ["token", "password", "client_secret", "api_key", "refresh_token", "title"] {
            post(path, json, json!({ field: secret }).to_string().into_bytes());
            post(path, json, json!({ field: { field: [secret] } }).to_string().into_bytes());
        }
        post(path, json, format!(r#"{{"refresh_token": "{secret}"#).into_bytes());
        post(path, json, secret.as_bytes().to_vec());
        post(path, "application/msgpack", secret.as_bytes().to_vec());
        post(path, "text/plain", secret.as_bytes().to_vec());
        post(path, "application/x-www-form-urlencoded", format!("token={secret}").into_bytes());
    }
    all
}

/// What no client library would send.
fn broken(secret: &str) -> Vec<String> {
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked";
    vec![
        format!("GET /ws?token={secret} HTTP/1.1\r\n\r\n"),
        format!("GET /ws?token={secret} HTTP/1.0\r\n\r\n"),
        format!("GET /?token={secret} HTTP/1.1\nHost: a\n\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {secret}\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: \x01{secret}\r\n\r\n"
        ),
        format!("{secret} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {secret}\r\nConnection: close\r\n\r\n"),
        format!("GET http://u:{secret}@a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        format!("GET / {secret}\r\nHost: a\r\n\r\n"),
        format!("POST /{secret} HTTP/1.1\r\nHost: a\r\n{both}\r\n\r\n{secret}"),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n{secret}"
        ),
        format!("\x16\x03\x01{secret}\r\n\r\n"),
    ]
}

/// Shows a secret by HTTP, in every place, on both ports.
async fn show(server: &TestServer, secret: &Secret, heard: &mut Heard) {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
    let http = http.unwrap();
    for address in [server.user, server.admin] {
        for Shown { method, path, headers, body } in requests(&secret.text) {
            let what =
                format!("{}: {method} {}", secret.what, headers.first().map_or("", |of| of.0));
            let mut request = http.request(method, format!("http://{address}{path}"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some((media, body)) = body {
                request = request.header("Content-Type", media).body(body);
            }
            let answer = request.send().await.unwrap();
            let (status, head) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
            // A stream that a token opened says who it is for ever.
            if status != 200 || head.contains("content-length") {
                heard.answer(&what, status, &(head + &answer.text().await.unwrap()));
            }
        }
        for bytes in broken(&secret.text) {
            let answer = raw::exchange(address, bytes.as_bytes(), Duration::from_secs(10)).await;
            heard.answer(secret.what, answer.status().unwrap_or(400), &answer.text());
        }
    }
}

/// Shows a secret on a socket, and where one is opened.
async fn show_on_socket(server: &TestServer, secret: &Secret, heard: &mut Heard) {
    let text = &secret.text;
    for frame in [
        json!({"type": "refresh", "data": {"token": text}}),
        json!({"type": "refresh", "token": text}),
        json!({"type": "refresh", "data": {"token": [text]}}),
        json!({"type": text}),
        json!({"type": "join", "data": {"channel_id": text}}),
        json!({"type": "read", "data": {"message_ids": [text]}}),
        json!({"type": "device", "data": {"device_type": text, "password": text}}),
        json!(text),
    ] {
        let mut socket = server.connect("watcher").await;
        socket.send_raw(tungstenite::Message::text(frame.to_string())).await;
        socket.send_raw(tungstenite::Message::text(text.clone())).await;
        socket.send_raw(tungstenite::Message::binary(text.clone().into_bytes())).await;
        socket.closed().await;
        let frames = serde_json::to_string(&socket.frames).unwrap();
        // What was not a frame is told at once; a channel or message that is not there by its own name.
        let told: Vec<Value> = serde_json::from_str(&frames).unwrap();
        for one in told.iter().filter(|one| one["type"] == "error") {
            heard.answer(secret.what, 400, &one["message"].to_string());
        }
    }
    for query in ["token", "ticket", "since", "device_type"] {
        let opened = server.socket("x").raw_token("").query(query, text).try_connect().await;
        if let Err(tungstenite::Error::Http(answer)) = opened {
            let body = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
            heard.answer(secret.what, answer.status().as_u16(), &body);
        }
        let opened = server.stream("x").raw_token("").query(query, text).try_open().await;
        if let Err(refused) = opened {
            heard.answer(secret.what, refused.status, &(refused.head + &refused.body.to_string()));
        }
    }
}

/// A socket that shows good tokens: in its URL, a ticket, and one to go on with.
async fn use_well(server: &TestServer, pair: &Pair, ticket: &str, fresh: &Token) {
    server.api().bearer(&pair.access).get("/api/v3/messages").await.ok();
    drop(server.stream("ann").raw_token(&pair.access).open().await);
    let mut socket = server.socket("ann").raw_token("").query("ticket", ticket).connect().await;
    socket.ping().await;
    let mut socket = server.socket("bob").connect().await;
    socket.refresh(fresh).await;
    socket.ping().await;
}

/// Shows everything to a server, and looks for it in what the server says.
async fn nothing_is_told(builder: Builder, format: &str, more: Vec<Secret>) {
    let collector = Collector::start().await;
    let collector_key = "collector-canary-1f9e4c7ab2d8";
    let mut server = collector
        .told_by(builder)
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("api-key={collector_key}"))
        .env("LOG_LEVEL", "trace")
        .env("LOG_FORMAT", format)
        .env("RATE_LIMIT_IP", "off")
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("RATE_LIMIT_CONNECT", "off")
        .start_unlearned()
        .await;
    let service = server.service().await;
    let key = service.credentials().strip_prefix("Service ").unwrap().to_owned();
    let pair = log_in(&server, "ann", "phone").await;
    let by_phone = server.api().bearer(&pair.access);
    let ticket = by_phone.post("/api/v3/auth/ws-ticket", Value::Null).await.ok();
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    let hook_key = "hook-url-canary-4f6b1c9d7a3e";
    let hook = json!({
        "url": format!("https://127.0.0.1:9/hook?key={hook_key}"), "events": ["message.read"],
    });
    let hook = service.post("/api/v3/webhooks", hook).await.ok();
    let fresh = Token::of("bob").claim("jti", "fresh-one");
    use_well(&server, &pair, &ticket, &fresh).await;
    let id = service.send(message_to(&["bob"], "title-canary-51d0c7e2b9")).await.ok();
    let path = format!("/api/v3/messages/{}/read", id["message_id"].as_str().unwrap());
    server.as_user("bob").post(&path, json!({})).await.ok();
    let refreshed = json!({"refresh_token": pair.refresh, "device_id": "phone"});
    let next = Pair::of(&server.api().post("/api/v3/auth/refresh", refreshed).await.ok());

    let mut secrets = vec![
        Secret::token("an access token", &next.access),
        Secret::token("a refreshed access token", &pair.access),
        Secret::token("a token of another login service", &fresh.sign()),
        Secret::new("an old refresh token", &pair.refresh, pair.refresh.len() - 40),
        Secret::new("a refresh token", &next.refresh, next.refresh.len() - 40),
        Secret::new("a ticket", &ticket, ticket.len() - 32),
        Secret::new("a service key", &key, key.len() - 32),
        Secret::new("the admin token", ADMIN_TOKEN, 0),
        Secret::new("a password", "password-canary-93ab5f107cde", 0),
    ];
    let mut heard = Heard::default();
    for secret in &secrets {
        show(&server, secret, &mut heard).await;
        show_on_socket(&server, secret, &mut heard).await;
    }
    assert!(heard.served > 10, "good ones are served");
    assert!(heard.refusals.lines().count() > 1_000, "bad ones are refused");
    // Never shown to the server by a client, or in places where it belongs.
    secrets.push(Secret::new("JWT_SECRET", SECRET, 0));
    secrets.push(Secret::new("a webhook's secret", hook["secret"].as_str().unwrap(), 8));
    secrets.push(Secret::new("a webhook's URL", hook_key, 0));
    secrets.push(Secret::new("a title", "title-canary-51d0c7e2b9", 0));
    secrets.push(Secret::new("the collector's key", collector_key, 0));
    secrets.extend(more);

    let metrics = server.metrics().await;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(server.terminate().await.success());
    let log = server.log();
    assert!(log.lines().count() > 5_000, "TRACE says more than that");
    assert!(collector.spans().len() > 500, "spans say more than that");
    for (place, text) in [
        ("the log", log),
        ("the metrics", metrics),
        ("the arguments", String::from_utf8(arguments).unwrap()),
        ("the refusals", heard.refusals),
        ("the spans", collector.raw()),
    ] {
        let text = text.to_lowercase();
        let found: Vec<_> = secrets
            .iter()
            .filter_map(|secret| Some((secret.what, secret.seen_in(&text)?)))
            .collect();
        assert!(found.is_empty(), "in {place}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_in_text() {
    nothing_is_told(TestServer::plain_builder(), "text", vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_in_json() {
    nothing_is_told(TestServer::plain_builder(), "json", vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_by_a_node_of_a_cluster() {
    let (database, bus) = ("database-canary-2c81e6a4f0", "redis-canary-7d3b95e1c8f2");
    let postgres = servers::Postgres::start();
    let redis = servers::Redis::start_with(&["requirepass", bus]).await;
    let (url, role) = (postgres.database(), "canary_role");
    servers::ask(&url, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{database}'"));
    postgres.demand_passwords();
    let url = url.replace("postgres@", &format!("{role}:{database}@"));
    let (status, said) = TestServer::plain_builder()
        .env("DATABASE_URL", &url)
        .env("LOG_LEVEL", "trace")
        .run(&["migrate"])
        .await;
    assert!(status.success(), "{said}");
    let of_urls = || {
        vec![
            Secret::new("the database's password", database, 0),
            Secret::new("the bus's password", bus, 0),
        ]
    };
    let cluster = Cluster::at(url.clone(), redis.url());
    nothing_is_told(cluster.node("a"), "text", of_urls()).await;

    // What does not work is told, and not with the password.
    let host = format!("127.0.0.1:{}", servers::free_port());
    let urls = [
        (url.clone(), format!("redis://:{bus}@{host}")),
        (format!("postgres://{role}:{database}@{host}/x"), redis.url()),
        (format!("postgres://{role}:{database}@{host}:x/x"), format!("redis://:{bus}@{host}:x")),
        (format!("postgres//{role}:{database}@"), format!("redis:/{bus}")),
        (database.to_owned(), bus.to_owned()),
        (url.replace(role, "postgres2"), redis.url().replace(':', ":x")),
    ];
    let mut said = said;
    for (database, bus) in urls {
        let settings = |builder: Builder| {
            builder.env("DATABASE_URL", &database).env("REDIS_URL", &bus).env("LOG_LEVEL", "trace")
        };
        for arguments in [&["check-config"][..], &["check-config", "--format", "json"]] {
            said += &settings(TestServer::plain_builder()).run(arguments).await.1;
        }
        let mut node = settings(TestServer::plain_builder()).launch();
        tokio::time::timeout(Duration::from_secs(3), node.is_ready()).await.ok();
        said += &node.log();
    }
    let said = said.to_lowercase();
    assert!(said.contains("database_url") && said.contains("redis_url"), "{said}");
    for secret in of_urls() {
        assert_eq!(secret.seen_in(&said), None, "{}", secret.what);
    }
}
