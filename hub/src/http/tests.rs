//! Over real TCP on loopback, written as raw bytes: an HTTP client would not send these.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, Request},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;

/// Longest wait for anything that should happen.
const DEADLINE: Duration = Duration::from_secs(10);

struct Server {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    metrics: PrometheusHandle,
    release: Arc<Notify>,
    entered: Arc<Notify>,
}

fn limits() -> HttpLimits {
    HttpLimits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        body_timeout: Duration::from_millis(300),
        connections_max: 100,
    }
}

impl Server {
    async fn start(limits: HttpLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (release, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (release, entered) = (Arc::clone(&release), Arc::clone(&entered));
            get(move || async move {
                entered.notify_one();
                release.notified().await;
                "slow"
            })
        };
        let router = Router::new()
            .route("/", get(|| async { "ok" }))
            .route(
                "/peer",
                get(|ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>| async move {
                    peer.ip().to_string()
                }),
            )
            .route("/echo", post(|body: Bytes| async move { body }))
            .route("/slow", slow)
            .route("/take", get(take))
            .route("/large", get(|| async { "x".repeat(LARGE) }))
            .route("/upgrade", get(upgrade));
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let http_metrics = Arc::new(HttpMetrics::new(&recorder, Listener::User));
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(serve(
            listener,
            router,
            limits,
            Pages::new(Listener::User, &["https://app.example".to_owned()]),
            http_metrics,
            shutdown.clone(),
            tracker.clone(),
        ));
        Self { address, shutdown, tracker, metrics, release, entered }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_close(&mut stream).await
    }
}

async fn upgrade(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut stream, early) = take_stream(upgraded.await.unwrap()).unwrap();
        assert!(stream.nodelay().unwrap());
        stream.write_all(&early).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "raw")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// More than the kernel and hyper hold for a client that does not read, in bytes.
const LARGE: usize = 16 << 20;

async fn take() -> Response {
    let mut response = [(header::CONTENT_TYPE, "text/taken")].into_response();
    let taken = take_over(&mut response);
    tokio::spawn(async move {
        let Taken { mut stream, early, head } = taken.await.unwrap();
        assert!(stream.nodelay().unwrap());
        for part in [&head, &early] {
            stream.write_all(part).await.unwrap();
        }
        stream.shutdown().await.unwrap();
    });
    response
}

async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    // A reset after the answer is a close too.
    let _ = read.expect("the server closes the connection in time");
    String::from_utf8(answer).unwrap()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).ends_with(end) {
        let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn assert_refused(answer: &str, status: u16, word: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.contains("connection: close"), "{answer}");
    assert!(head.contains("x-request-id: "), "{answer}");
    let body: protocol::Envelope<()> = serde_json::from_str(body).unwrap();
    assert_eq!(body.code, status);
    assert!(body.message.contains(word), "{answer}");
    assert!(!body.error.unwrap().request_id.is_empty());
}

#[tokio::test]
async fn a_plain_request_is_answered_and_the_connection_kept() {
    let server = Server::start(limits()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("x-request-id: r1"), "{answer}");
    }
    stream.write_all(b"GET /peer HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut stream, "127.0.0.1").await;
}

#[tokio::test]
async fn length_and_encoding_together_are_refused_in_either_order() {
    let server = Server::start(limits()).await;
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "transfer-encoding: chunked\r\ncontent-length:4",
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
        assert_refused(&server.exchange(request.as_bytes()).await, 400, "Transfer-Encoding");
    }
    assert!(server.metrics.render().contains(
        "pushhub_http_refused_total{listener=\"user\",reason=\"length_and_encoding\"} 3"
    ));
}

#[tokio::test]
async fn the_fault_of_a_pipelined_request_does_not_touch_the_ones_before_it() {
    let server = Server::start(limits()).await;
    let answer = server
        .exchange(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\n\r\nabcHTTP/1.1"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_is_read_and_ends_the_connection() {
    let server = Server::start(limits()).await;
    let answer = server
        .exchange(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("abc"), "{answer}");
}

#[tokio::test]
async fn exactly_one_host_is_wanted() {
    let server = Server::start(limits()).await;
    let none = server.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_refused(&none, 400, "Host");
    let two = server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_refused(&two, 400, "one Host");
    let old = server.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 ") || old.starts_with("HTTP/1.1 200 "), "{old}");
}

#[tokio::test]
async fn bare_line_feeds_are_refused() {
    let server = Server::start(limits()).await;
    for request in ["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"] {
        assert_refused(&server.exchange(request.as_bytes()).await, 400, "CR LF");
    }
}

#[tokio::test]
async fn long_targets_and_large_heads_are_refused() {
    let server = Server::start(limits()).await;
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(URI_BYTES_MAX));
    assert_refused(&server.exchange(request.as_bytes()).await, 414, "8000");
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert_refused(&server.exchange(request.as_bytes()).await, 431, "16384");
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    assert_refused(&server.exchange(request.as_bytes()).await, 431, "100");
}

#[tokio::test]
async fn what_hyper_refuses_gets_a_sentence_too() {
    let server = Server::start(limits()).await;
    for request in [
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\0\0\0\0 / HTTP/1.1\r\n\r\n",
    ] {
        assert_refused(&server.exchange(request.as_bytes()).await, 400, "HTTP/1.1");
    }
}

#[tokio::test]
async fn slow_heads_silent_and_idle_connections_are_closed() {
    let server = Server::start(limits()).await;
    let mut silent = server.connect().await;
    let mut second = server.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET").await.unwrap();
    let mut half = server.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_to_close(&mut silent).await, "");
    assert!(!read_to_close(&mut half).await.contains("200"));
    assert!(read_to_close(&mut second).await.ends_with("ok"));
    assert!(read_to_close(&mut idle).await.ends_with("ok"));
    server.tracker.close();
    timeout(DEADLINE, server.tracker.wait()).await.unwrap();
    let metrics = server.metrics.render();
    assert!(
        metrics.contains("pushhub_http_header_timeouts_total{listener=\"user\"} 3"),
        "{metrics}"
    );
    assert!(metrics.contains("pushhub_http_idle_timeouts_total{listener=\"user\"} 1"), "{metrics}");
    assert!(metrics.contains("pushhub_http_connections{listener=\"user\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_connection_at_rest_outlives_the_time_that_a_head_may_take() {
    let server = Server::start(HttpLimits { idle_timeout: DEADLINE, ..limits() }).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "ok").await;
    let mut younger = server.connect().await;
    assert_eq!(read_to_close(&mut younger).await, "", "closed at the limit of heads");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "ok").await;
}

#[tokio::test]
async fn connections_are_not_kept_at_rest_where_few_slots_are_left() {
    let long = DEADLINE * 6;
    let server =
        Server::start(HttpLimits { connections_max: 4, idle_timeout: long, ..limits() }).await;
    let mut kept = vec![];
    for number in 1..=3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, "ok").await;
        assert!(!answer.contains("connection: close"), "{number}: {answer}");
        kept.push(stream);
    }
    for _ in 0..10 {
        let answer = server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    }
    for stream in &mut kept {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(stream, "ok").await;
    }
}

#[tokio::test]
async fn a_slow_body_gets_408() {
    let server = Server::start(limits()).await;
    let answer =
        server.exchange(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    assert_refused(&answer, 408, "slowly");
}

#[tokio::test]
async fn one_connection_too_many_gets_503_and_a_closed_one_makes_room() {
    let server = Server::start(HttpLimits { connections_max: 1, ..limits() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    timeout(DEADLINE, server.entered.notified()).await.unwrap();
    let mut second = server.connect().await;
    let refused = read_to_close(&mut second).await;
    assert_refused(&refused, 503, "connections");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    server.release.notify_one();
    read_until(&mut first, "slow").await;
    drop(first);
    timeout(DEADLINE, async {
        loop {
            let answer =
                server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            if answer.ends_with("ok") {
                return;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn shutdown_finishes_the_request_in_flight_and_closes_idle_connections() {
    let long = Duration::from_secs(60);
    let server = Server::start(HttpLimits { idle_timeout: long, ..limits() }).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "ok").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    timeout(DEADLINE, server.entered.notified()).await.unwrap();
    server.shutdown.cancel();
    assert_eq!(read_to_close(&mut idle).await, "");
    server.release.notify_one();
    let answer = read_to_close(&mut busy).await;
    assert!(answer.ends_with("slow"), "{answer}");
    server.tracker.close();
    timeout(DEADLINE, server.tracker.wait()).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn an_upgraded_connection_gives_the_raw_stream_and_frees_its_slot() {
    let server = Server::start(HttpLimits { connections_max: 1, ..limits() }).await;
    let answer = server
        .exchange(b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nearly\nbytes")
        .await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("early\nbytes"), "{answer}");
    server.tracker.close();
    timeout(DEADLINE, server.tracker.wait()).await.unwrap();
}

#[tokio::test]
async fn an_answer_can_take_its_connection_along() {
    let mut limits = limits();
    limits.connections_max = 1;
    let server = Server::start(limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "ok").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"GET /take HTTP/1.1\r\nHost: a\r\n\r\nmore").await.unwrap();
    let answer = read_to_close(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for field in ["content-type: text/taken", "connection: close", "x-request-id: ", "date: "] {
        assert!(head.contains(field), "{field} in {head}");
    }
    for field in ["transfer-encoding", "content-length"] {
        assert!(!head.contains(field), "{field} in {head}");
    }
    assert_eq!(body, "more");
    // HTTP/1.0 reads the same.
    let answer = server.exchange(b"GET /take HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "its slot was free again: {answer}");
    server.shutdown.cancel();
    server.tracker.close();
    timeout(DEADLINE, server.tracker.wait()).await.expect("HTTP knows nothing of it any more");
}

#[tokio::test]
async fn a_connection_is_taken_only_behind_the_answers_before_it() {
    let server = Server::start(limits()).await;
    let mut stream = server.connect().await;
    let requests = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /take HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(requests).await.unwrap();
    let answers = read_to_close(&mut stream).await;
    let (_, rest) = answers.split_once("\r\n\r\n").unwrap();
    assert_eq!(rest.find("HTTP/1.1 200 OK"), Some(LARGE));
    assert!(rest.contains("text/taken"));
}
