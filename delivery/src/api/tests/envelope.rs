//! What every answer has in common, whatever goes wrong.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::Frame;
use serde_json::{Value, json};

use super::{
    harness::{Api, request},
    store::Failing,
};
use crate::{
    StoreError,
    api::{BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX},
    control::NewService,
};

fn hello() -> Value {
    json!({"title": "t", "content": "c", "recipients": ["bob"]})
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    for path in ["/", "/nothing", "/api/v3", "/api/v3/messages/a/b/c", "/api/v2/messages"] {
        let answer = api.call(request("GET", &alice, "x").uri(path).body(Body::empty()).unwrap());
        answer.await.error(404, "not_found");
    }
    let answer = api.call(request("PATCH", &alice, "/messages").body(Body::empty()).unwrap()).await;
    answer.error(405, "method_not_allowed");
    assert!(answer.header("allow").unwrap().contains("GET"), "{:?}", answer.headers);
    api.delete(&alice, "/messages/send").await.error(405, "method_not_allowed");
    let head = api.call(request("GET", &alice, "/messages").body(Body::empty()).unwrap()).await;
    head.data();
    let times = "pushhub_http_request_duration_seconds";
    assert_eq!(
        api.counts.of(&format!("{times}{{method=GET,route=/api/v3/messages,status=2xx}}")),
        1
    );
    assert_eq!(api.counts.of(&format!("{times}{{method=other,route=unmatched,status=4xx}}")), 7);
}

#[tokio::test]
async fn the_request_id_is_taken_over_or_made() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let with = async |id: &str| {
        let request = request("GET", &alice, "/messages").header("x-request-id", id);
        let answer = api.call(request.body(Body::empty()).unwrap()).await;
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(with("abc-123").await, "abc-123");
    assert_eq!(with(&"a".repeat(128)).await, "a".repeat(128));
    for bad in ["", "a b", "é", &"a".repeat(129)] {
        let made = with(bad).await;
        assert_eq!(made.len(), 32, "{bad}: {made}");
    }
    let request = request("GET", "", "/messages").header("x-request-id", "mine");
    let answer = api.call(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.error(401, "unauthorized")["request_id"], "mine");
}

#[tokio::test]
async fn callers_that_are_not_recognised() {
    let api = Api::new();
    let service = api.service(NewService::named("a"));
    let key = service.strip_prefix("Service ").unwrap();
    for caller in ["", "Basic abc", "Bearer nonsense", &format!("Bearer {key}"), "Service phk_a_b"]
    {
        for (method, path) in [("GET", "/messages"), ("POST", "/messages/send"), ("GET", "/sync")] {
            let answer = api.call(request(method, caller, path).body(Body::empty()).unwrap()).await;
            answer.error(401, "unauthorized");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    api.get(&service, "/messages").await.error(403, "forbidden");
    assert_eq!(api.counts.of("pushhub_auth_failures_total{reason=missing}"), 3);
    assert_eq!(api.counts.of("pushhub_auth_failures_total{reason=bad_token}"), 6);
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let send = async |content_type: Option<&str>, body: Vec<u8>| {
        let mut request = request("POST", &alice, "/messages/send");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        api.call(request.body(Body::from(body)).unwrap()).await
    };
    let json = Some("application/json");
    for body in ["", "{", "nothing", "{\"title\":\"a\"} x", "{'title':1}", "{\"title\":\"\u{1}\"}"]
    {
        send(json, body.into()).await.error(400, "malformed_request");
    }
    send(json, b"{\"title\":\"\xff\"}".to_vec()).await.error(400, "malformed_request");
    let deep = format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(500), "}".repeat(500));
    let answer = send(json, deep.into()).await;
    answer.error(400, "malformed_request");
    assert!(answer.body["message"].as_str().unwrap().contains("32 levels"));
    for body in ["[]", "null", "1", "\"text\""] {
        assert_eq!(send(json, body.into()).await.fields(), ["body"]);
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let answer = send(Some(content_type), b"{}".to_vec()).await;
        answer.error(415, "unsupported_media_type");
    }
    let good = || hello().to_string().into_bytes();
    send(None, good()).await.data();
    send(Some("Application/JSON; charset=utf-8"), good()).await.data();
    let encoded = request("POST", &alice, "/messages/send").header("content-encoding", "gzip");
    let answer = api.call(encoded.body(Body::from(good())).unwrap()).await;
    answer.error(415, "unsupported_media_type");
    send(Some("application/msgpack"), vec![0xc1]).await.error(400, "malformed_request");
    send(Some("application/msgpack"), vec![0xdf, 0xff, 0xff, 0xff, 0xff])
        .await
        .error(400, "malformed_request");
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    for (path, max) in
        [("/messages/send", BODY_BYTES_MAX), ("/messages/send-batch", BATCH_BODY_BYTES_MAX)]
    {
        // Announced, and found out while reading.
        let announced = request("POST", &alice, path).header("content-length", max + 1);
        let answer = api.call(announced.body(Body::from(vec![b' '; max + 1])).unwrap()).await;
        answer.error(413, "payload_too_large");
        assert_eq!(answer.header("connection"), Some("close"));
        let chunks = (0..=max / 1024).map(|_| Bytes::from(vec![b' '; 1024]));
        let answer = api.call(request("POST", &alice, path).body(stream(chunks)).unwrap()).await;
        answer.error(413, "payload_too_large");
        assert!(answer.body["message"].as_str().unwrap().contains(&max.to_string()));
    }
    // Exactly the limit, in pieces.
    let text = hello().to_string();
    let padded = format!("{text}{}", " ".repeat(BODY_BYTES_MAX - text.len()));
    let chunks: Vec<Bytes> = padded.as_bytes().chunks(4_096).map(Bytes::copy_from_slice).collect();
    let answer = request("POST", &alice, "/messages/send").body(stream(chunks)).unwrap();
    api.call(answer).await.data();
}

/// A body that comes in pieces, and perhaps never ends.
struct Pieces {
    pieces: VecDeque<Bytes>,
    ends: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn stream(pieces: impl IntoIterator<Item = Bytes>) -> Body {
    Body::new(Pieces { pieces: pieces.into_iter().collect(), ends: true })
}

#[tokio::test]
async fn a_body_that_never_comes() {
    let api = Api::with_body_timeout(Duration::from_millis(20));
    let alice = api.user("alice", &[]);
    let body = Pieces { pieces: VecDeque::from([Bytes::from_static(b"{")]), ends: false };
    let answer = request("POST", &alice, "/messages/send").body(Body::new(body)).unwrap();
    let answer = api.call(answer).await;
    answer.error(408, "request_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn messagepack_in_and_out() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let mut message = hello();
    message["recipients"] = json!(["alice"]);
    message["metadata"] = json!({"a": [1, 2.5, null]});
    let body = rmp_serde::to_vec_named(&message).unwrap();
    let sent = request("POST", &alice, "/messages/send")
        .header("content-type", "application/msgpack")
        .body(Body::from(body.clone()))
        .unwrap();
    let sent = api.call(sent).await;
    assert_eq!(sent.header("content-type"), Some("application/msgpack"));
    let id = sent.data()["message_id"].as_str().unwrap().to_owned();
    for accept in ["application/json", "application/msgpack"] {
        let got = request("GET", &alice, &format!("/messages/{id}")).header("accept", accept);
        let got = api.call(got.body(Body::empty()).unwrap()).await;
        assert_eq!(got.header("content-type"), Some(accept));
        assert_eq!(got.data()["metadata"], json!({"a": [1, 2.5, null]}));
        assert_eq!(got.data()["id"], id.as_str());
    }
    // The same as JSON, refused: the same names, in the codec that was asked for.
    let answer = request("POST", &alice, "/messages/send")
        .header("content-type", "application/msgpack")
        .body(Body::from(rmp_serde::to_vec_named(&json!({"titel": "x"})).unwrap()))
        .unwrap();
    assert_eq!(api.call(answer).await.fields(), ["titel"]);
    let mut trailing = body;
    trailing.push(0xc0);
    let answer = request("POST", &alice, "/messages/send")
        .header("content-type", "application/msgpack")
        .body(Body::from(trailing))
        .unwrap();
    api.call(answer).await.error(400, "malformed_request");
    let answer = request("GET", &alice, "/messages").header("accept", "text/html");
    api.call(answer.body(Body::empty()).unwrap()).await.error(406, "not_acceptable");
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    api.get(&alice, "/messages/panic").await.error(500, "internal");
    assert_eq!(api.counts.of("pushhub_http_panics_total{}"), 1);
    api.get(&alice, "/messages").await.data();
}

#[tokio::test]
async fn a_store_that_cannot() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    let cases: [(Failing, &str); 3] = [
        (|| StoreError::Busy("journal"), "1"),
        (|| StoreError::NotWritable(std::sync::Arc::new(std::io::Error::other("full"))), "5"),
        (|| StoreError::Closing, "5"),
    ];
    for (error, retry_after) in cases {
        api.store.fail_with(error);
        for answer in [
            api.post(&alice, "/messages/send", hello()).await,
            api.post(&alice, "/messages/send-batch", json!({"messages": [hello()]})).await,
            api.get(&alice, "/messages").await,
        ] {
            answer.error(503, "unavailable");
            assert_eq!(answer.header("retry-after"), Some(retry_after));
        }
    }
    assert_eq!(api.counts.of("pushhub_messages_rejected_total{reason=unavailable}"), 6);
    api.store.fail_with(|| StoreError::Damaged(std::sync::Arc::new(std::io::Error::other("x"))));
    api.get(&alice, "/messages/unread-count").await.error(500, "internal");
}

#[tokio::test]
async fn a_node_that_goes_down_takes_no_messages() {
    let api = Api::new();
    let alice = api.user("alice", &[]);
    api.draining.store(true, Ordering::Relaxed);
    for path in ["/messages/send", "/messages/send-batch", "/messages/send-template"] {
        let answer = api.post(&alice, path, hello()).await;
        answer.error(503, "unavailable");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.headers.contains_key("retry-after"));
    }
    api.get(&alice, "/messages").await.data();
    assert!(api.store.appends.lock().is_empty());
}
