//! Who gets in, and what the others are told.

use http::{HeaderMap, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tungstenite::Error;

use super::support::{Server, config};

async fn refused(
    server: &Server,
    query: &str,
    headers: &[(&'static str, &str)],
) -> (StatusCode, serde_json::Value, HeaderMap) {
    match server.handshake(query, headers).await {
        Err(Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
            (answer.status(), body, answer.headers().clone())
        }
        Ok(_) => panic!("{query} was let in"),
        Err(error) => panic!("{query}: {error}"),
    }
}

#[tokio::test]
async fn a_token_may_come_in_two_ways() {
    let server = Server::start().await;
    assert!(server.handshake("token=ann", &[]).await.is_ok());
    assert!(server.handshake("", &[("Authorization", "Bearer ann")]).await.is_ok());
    for (query, headers) in [
        ("", &[][..]),
        ("token=bad", &[]),
        ("token=ann", &[("Authorization", "Basic YTpi")]),
        ("token=ann", &[("Authorization", "Bearer bad")]),
    ] {
        let (status, body, headers) = refused(&server, query, headers).await;
        assert_eq!(status, 401, "{query}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        // tungstenite shows the body only where it came with the head.
        if !body.is_null() {
            assert_eq!(body["error"]["type"], "unauthorized");
            assert_eq!(body["code"], 401);
        }
    }
}

#[tokio::test]
async fn parameters_are_checked() {
    let server = Server::start().await;
    for query in ["token=ann&since=x", "token=ann&since=-1", "token=ann&device_type=fridge"] {
        assert_eq!(refused(&server, query, &[]).await.0, 400, "{query}");
    }
    assert!(server.handshake("token=ann&since=0&device_type=web&v=7", &[]).await.is_ok());
}

#[tokio::test]
async fn one_known_subprotocol_is_chosen() {
    let server = Server::start().await;
    let offer = |names| [("Sec-WebSocket-Protocol", names)];
    let names = "other, pushhub.v3.msgpack, pushhub.v3.json";
    assert!(server.handshake("token=ann", &offer(names)).await.is_ok());
    assert!(server.handshake("token=ann", &[]).await.is_ok());
    assert_eq!(refused(&server, "token=ann", &offer("graphql-ws")).await.0, 400);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let mut config = config();
    config.allowed_origins = vec!["https://app.example".into()];
    let server = Server::start_with(config).await;
    let own = format!("http://{}", server.address);
    for origin in ["https://app.example", own.as_str()] {
        assert!(server.handshake("token=ann", &[("Origin", origin)]).await.is_ok(), "{origin}");
    }
    let (status, ..) = refused(&server, "token=ann", &[("Origin", "https://evil.example")]).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn limits_refuse_with_a_time_to_come_back() {
    let mut config = config();
    config.max_connections = 3;
    config.max_connections_per_user = 2;
    let server = Server::start_with(config).await;
    let _one = server.connect("token=ann").await;
    let _two = server.connect("token=ann").await;
    // The third of the user is let in by HTTP, since it might replace one of its own, and then
    // closed, as it does not.
    let mut third = server.open("token=ann", protocol::Codec::Json).await.unwrap();
    third.expect_close_code(4029).await;
    super::support::eventually("its place is free", || server.live.open_connections() == 2).await;
    let _bob = server.connect("token=bob").await;
    let (status, _, headers) = refused(&server, "token=eve", &[]).await;
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
}

async fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn requests_that_are_no_websocket_are_told_so() {
    let server = Server::start().await;
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let good = format!(
        "GET /ws?token=ann HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    let answer = raw(&server, &good).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455 §1.3");
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "none was offered");
    for (from, to, status) in [
        ("GET", "POST", 405),
        ("Upgrade: WebSocket\r\n", "", 400),
        ("keep-alive, Upgrade", "keep-alive", 400),
        ("Version: 13", "Version: 12", 400),
        (key, "dG9vIHNob3J0", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
    ] {
        let answer = raw(&server, &good.replace(from, to)).await;
        let line = answer.lines().next().unwrap_or_default().to_owned();
        assert!(line.contains(&format!(" {status} ")), "{from} -> {to}: {line}");
        assert!(answer.contains("request_id"), "{answer}");
    }
}
