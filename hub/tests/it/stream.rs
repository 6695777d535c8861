//! `GET /api/v3/stream`: the frames and guarantees of the socket as server-sent events.

use std::time::{Duration, Instant};

use protocol::{ServerFrame, Status};
use serde_json::json;

use crate::{
    sockets::metric,
    support::{
        Api, SOON, TestServer, Token, api::message_to, eventually, eventually_within, rounds,
        stream::Event,
    },
};

#[tokio::test]
async fn a_message_and_what_becomes_of_it_arrive_live() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.stream("ann").device("browser").open().await;
    for line in [
        "http/1.1 200 ok\r\n",
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-accel-buffering: no\r\n",
        "connection: close\r\n",
        "x-request-id: ",
        "date: ",
    ] {
        assert!(ann.head.contains(line), "{line:?} in {}", ann.head);
    }
    let welcome = ann.welcome.as_ref().unwrap();
    assert_eq!((welcome.user_id.as_str(), welcome.device_id.as_str()), ("ann", "browser"));
    assert!(matches!(ann.retry_ms, Some(500..=5_000)), "{:?}", ann.retry_ms);
    let id = service.sent("ann", "hello").await;
    match ann.expect_seq(1).await {
        ServerFrame::Message { data, .. } => assert_eq!(data.fields.title, "hello"),
        other => panic!("{other:?}"),
    }
    let read = format!("/api/v3/messages/{id}/read");
    server.as_user("ann").post(&read, json!({"device_id": "phone"})).await.ok();
    match ann.expect_seq(2).await {
        ServerFrame::StatusUpdate { data, .. } => assert_eq!(data.status, Status::Read),
        other => panic!("{other:?}"),
    }
    assert_eq!(ann.last_event_id, Some(2));

    let text = server.metrics().await;
    let one = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.parse().ok());
    let open = r#"pushhub_connections{transport="sse",device_type="unknown",codec="json"} "#;
    assert_eq!(one(open), Some(1.0), "{text}");
    assert_eq!(
        one(r#"pushhub_connections_accepted_total{transport="sse",codec="json"} "#),
        Some(1.0)
    );
    assert_eq!(one(r#"pushhub_frames_sent_total{transport="sse",type="message"} "#), Some(1.0));
    assert_eq!(one(r#"pushhub_frames_sent_total{transport="ws",type="message"} "#), Some(0.0));

    drop(ann);
    let gone = r#"pushhub_disconnects_total{reason="client_closed"} "#;
    eventually("it is taken off", || async {
        let text = server.metrics().await;
        metric(&text, "pushhub_connections") == Some(0.0) && text.contains(&format!("{gone}1"))
    })
    .await;
}

#[tokio::test]
async fn socket_and_stream_say_the_same() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut socket = server.socket("ann").device("a").connect().await;
    let mut stream = server.stream("ann").device("b").open().await;
    let template = json!({
        "template_id": "file_share", "recipients": ["ann"],
        "variables": {"sender_name": "张三", "file_name": "项目\n计划.pdf", "file_size": "2.5MB",
            "share_time": "2025-01-15 14:30:00", "file_url": "https://drive.company.com/x"},
    });
    service.send(template).await.ok();
    service.sent("ann", "data: x\n\nevent: disconnect\r\rid: 9").await;
    socket.read_up_to(2).await;
    for seq in 1..=4 {
        assert_eq!(socket.expect_seq(seq).await, stream.expect_seq(seq).await);
    }
    // The backlog as well.
    let mut again = server.stream("ann").query("since", 0).open().await;
    let mut socket = server.socket("ann").device("c").since(0).connect().await;
    assert_eq!(again.backlog().await, socket.backlog().await);
}

/// A stream comes back with the id of what it saw last, while senders send: some change always
/// arrives in the instant between its backlog and live, some stream ends before its first change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_comes_back_goes_on_without_gap_or_repeat() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let wanted = rounds("RECONNECTS", 300);
    let sending: Vec<_> = (0..3)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for n in 0..wanted {
                    service.sent("ann", &n.to_string()).await;
                }
            })
        })
        .collect();
    let total = 3 * wanted as u64;
    let (mut last, mut connects) = (None::<u64>, 0);
    while last < Some(total) {
        let mut open = server.stream("ann").device("browser");
        if let Some(last) = last {
            open = open.last_event_id(last);
        }
        let mut stream = open.open().await;
        connects += 1;
        // The first starts at the head, wherever that is by now.
        let mut at = stream.last_event_id.expect("welcome says where it starts");
        assert!(last.is_none_or(|last| last == at), "{last:?} became {at}");
        for _ in 0..rand::random_range(0..20) {
            if at == total {
                break;
            }
            if let Event::Frame(frame) = stream.event().await
                && let Some(seq) = frame.seq()
            {
                assert_eq!(seq.0, at + 1, "a gap or a repeat");
                at = seq.0;
            }
        }
        last = stream.last_event_id;
        assert_eq!(last, Some(at));
    }
    for sender in sending {
        sender.await.unwrap();
    }
    println!("{connects} streams, {total} sends, no gap, no repeat");
}

#[tokio::test]
async fn a_stream_starts_at_the_id_else_at_since_else_at_the_cursor_else_at_the_head() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut socket = server.socket("ann").device("phone").connect().await;
    for n in 1..=5 {
        service.sent("ann", &format!("m{n}")).await;
    }
    socket.expect_seq(1).await;
    socket.until_seq(5).await;
    socket.ack(4).await;
    socket.ping().await;
    socket.close().await;
    let phone = || server.stream("ann").device("phone");
    for (open, first) in [
        (phone().last_event_id(2).query("since", 1), Some(3)),
        (phone().query("since", 1), Some(2)),
        (phone(), Some(5)),
        (phone().header("Last-Event-ID", ""), Some(5)),
        (server.stream("ann").device("other"), None),
        (server.stream("ann"), None),
    ] {
        let mut stream = open.open().await;
        assert_eq!(stream.last_event_id, Some(first.map_or(5, |first| first - 1)));
        let backlog = stream.backlog().await;
        assert_eq!(backlog.first().and_then(ServerFrame::seq).map(|seq| seq.0), first);
        assert_eq!(stream.last_event_id, Some(5));
    }
    // A position that never was: told, and then live from the head.
    let mut stream = server.stream("ann").last_event_id(1 << 40).open().await;
    assert!(matches!(stream.next().await, ServerFrame::ResyncRequired { .. }));
    service.sent("ann", "m6").await;
    stream.expect_seq(6).await;
}

#[tokio::test]
async fn the_same_device_is_connected_once_by_whichever_way() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut socket = server.socket("ann").device("phone").connect().await;
    let mut older = server.stream("ann").device("phone").open().await;
    assert_eq!(socket.closed().await.code, Some(4509));
    let mut newer = server.stream("ann").device("phone").open().await;
    let closed = older.closed().await;
    assert_eq!(closed.told(), (4509, false, 0));
    assert_eq!(older.retry_ms, Some(24 * 3_600 * 1_000), "an EventSource that nobody closes");
    service.sent("ann", "m1").await;
    newer.expect_seq(1).await;
    let _socket = server.socket("ann").device("phone").connect().await;
    assert_eq!(newer.closed().await.told().0, 4509);
}

#[tokio::test]
async fn an_expired_token_ends_the_stream() {
    let server = TestServer::start().await;
    let token = Token::of("ann").device("a").expires_in(2);
    let mut ann = server.stream("ann").token(token).open().await;
    let (code, reconnect, _) = ann.closed().await.told();
    assert_eq!((code, reconnect), (4001, true));
}

#[tokio::test]
async fn refusals_are_answers_in_the_envelope() {
    let server = TestServer::builder()
        .env("WS_MAX_CONNECTIONS", 3)
        .env("WS_MAX_CONNECTIONS_PER_USER", 2)
        .env("CORS_ALLOWED_ORIGINS", "https://app.example")
        .start()
        .await;
    let ann = || server.stream("ann");
    let expired = Token::of("ann").expires_in(-3_600);
    let refuse = async |open: crate::support::stream::OpenStream, status: u16, kind: &str| {
        let refused = open.refused().await;
        assert_eq!(refused.status, status, "{}", refused.body);
        assert_eq!(refused.body["code"], status);
        assert_eq!(refused.body["error"]["type"], kind, "{}", refused.body);
        let id = refused.body["error"]["request_id"].as_str().unwrap();
        assert!(refused.head.contains(&format!("x-request-id: {id}")), "{}", refused.head);
        refused
    };
    let missing = refuse(ann().raw_token(""), 401, "unauthorized").await;
    assert!(missing.head.contains("www-authenticate: bearer"));
    refuse(ann().raw_token("x.y.z"), 401, "unauthorized").await;
    refuse(ann().token(expired.clone()), 401, "unauthorized").await;
    refuse(ann().token(expired).token_by_header(), 401, "unauthorized").await;
    refuse(ann().query("since", "x"), 400, "malformed_request").await;
    let bad = refuse(ann().header("Last-Event-ID", "abc"), 400, "malformed_request").await;
    assert_eq!(bad.body["error"]["fields"][0]["path"], "Last-Event-ID");
    refuse(ann().header("Origin", "https://evil.example"), 403, "forbidden").await;
    let post = server.as_user("ann").post("/api/v3/stream", json!({})).await;
    post.refused(405, "method_not_allowed");
    assert_eq!(post.header("allow"), "GET");

    let page = ann().header("Origin", "https://app.example").open().await;
    assert!(page.head.contains("access-control-allow-origin: https://app.example\r\n"));
    assert!(page.head.contains("vary: origin\r\n"), "{}", page.head);
    let phone = server.stream("ann").device("phone").token_by_header().open().await;
    let third = refuse(ann(), 429, "rate_limited").await;
    assert!(third.head.contains("retry-after: "), "{}", third.head);
    // The same device takes its older connection's place; both transports count.
    let _phone = server.stream("ann").device("phone").open().await;
    drop(phone);
    eventually("the older one is gone", || async {
        metric(&server.metrics().await, "pushhub_connections") == Some(2.0)
    })
    .await;
    let _bob = server.connect("bob").await;
    let full = refuse(server.stream("eve"), 503, "unavailable").await;
    assert!(full.head.contains("retry-after: "), "{}", full.head);
    let full = server.socket("eve").refused().await;
    assert_eq!(full.status().as_u16(), 503);
}

#[tokio::test]
async fn a_proxy_of_http_1_0_and_an_http_library_see_each_event_at_once() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.stream("ann").http_1_0().open().await;
    // Neither a length nor chunks: the end of the connection is the end of the body.
    for name in ["transfer-encoding", "content-length", "keep-alive"] {
        assert!(!ann.head.contains(name), "{}", ann.head);
    }
    for seq in 1..=20 {
        service.sent("ann", "x").await;
        // Each alone: nothing that follows pushes it out of a buffer.
        ann.expect_seq(seq).await;
    }
    let url = format!("http://{}/api/v3/stream?since=20", server.user);
    let request = Api::http().get(url).bearer_auth(Token::of("ann").sign());
    let mut response = request.send().await.unwrap();
    let mut text = String::new();
    for seq in 21..=30 {
        service.sent("ann", "x").await;
        while !text.contains(&format!("id: {seq}\nevent: message\ndata: {{")) {
            let chunk = tokio::time::timeout(SOON, response.chunk()).await.unwrap();
            text.push_str(str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_drain_tells_when_to_come_back() {
    let mut server = TestServer::builder().env("DRAIN_TIMEOUT", "10s").start().await;
    let mut streams = vec![];
    for n in 0..20 {
        streams.push(server.stream("ann").device(&format!("d{n}")).open().await);
    }
    server.signal(libc::SIGTERM);
    let mut delays = std::collections::BTreeSet::new();
    for stream in &mut streams {
        let (code, reconnect, after) = stream.closed().await.told();
        assert_eq!((code, reconnect), (1012, true));
        assert_eq!(stream.retry_ms, Some(after), "an EventSource obeys");
        delays.insert(after);
    }
    drop(streams);
    assert!(delays.len() > 5, "not spread out: {delays:?}");
    assert_eq!(server.exited(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_vanished_peer_is_found_and_one_that_only_listens_is_kept() {
    let server = TestServer::builder().env("WS_PING_INTERVAL", "1s").start().await;
    let mut listens = server.stream("ann").device("listens").open().await;
    listens.backlog().await;
    let vanished = server.stream("ann").device("vanished").open().await;
    vanished.vanish();
    let start = Instant::now();
    // Half a second for the machine; the goodbye, which nobody answers, may take one more.
    let found = eventually_within("it is taken off", Duration::from_millis(9_500), || async {
        let one = metric(&server.metrics().await, "pushhub_connections") == Some(1.0);
        one.then(|| start.elapsed())
    });
    let heartbeats = async {
        let mut heartbeats = 0;
        loop {
            match listens.event_within(Duration::from_secs(3)).await {
                Event::Comment => heartbeats += 1,
                other => panic!("{other:?} after {heartbeats} heartbeats"),
            }
            // Long after silence would have ended it.
            if start.elapsed() > Duration::from_secs(11) {
                return heartbeats;
            }
        }
    };
    let (found, heartbeats) = tokio::join!(found, heartbeats);
    println!("found after {found:?}, {heartbeats} heartbeats");
    assert!(heartbeats >= 9, "one a second: {heartbeats}");
    server.service().await.sent("ann", "m1").await;
    listens.expect_seq(1).await;
}

async fn send_batch(service: &Api, user: &str, count: usize) {
    let message = || {
        let mut message = message_to(&[user], "x");
        message["content"] = "x".repeat(400).into();
        message
    };
    let messages: Vec<_> = (0..count).map(|_| message()).collect();
    let body = json!({"messages": messages});
    service.post("/api/v3/messages/send-batch", body).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_costs_little_disturbs_nobody_and_loses_nothing() {
    const BATCHES: u64 = 20;
    let server = TestServer::builder().env("WS_STALL_TIMEOUT", "10m").start().await;
    let service = server.service().await;
    let mut stuck = server.stream("ann").device("stuck").receive_buffer(16 << 10).open().await;
    stuck.backlog().await;
    let mut other = server.stream("bob").open().await;
    let mut most = 0.0;
    for batch in 1..=BATCHES {
        send_batch(&service, "ann", 1_000).await;
        service.sent("bob", "probe").await;
        other.expect_seq(batch).await;
        let waiting = metric(&server.metrics().await, "pushhub_outbox_bytes").unwrap();
        most = f64::max(most, waiting);
    }
    // 256 KiB is WS_OUTBOX_LIMIT; what came through is one batch more at most.
    assert!(most <= f64::from(600 << 10), "{most} bytes waited");
    let catchups = metric(&server.metrics().await, "pushhub_outbox_catchups_total");
    assert!(catchups >= Some(1.0), "it was never too slow");
    for seq in 1..=BATCHES * 1_000 {
        stuck.expect_seq(seq).await;
    }
}

#[tokio::test]
async fn a_reader_without_progress_is_closed_and_resumes() {
    let server = TestServer::builder().env("WS_STALL_TIMEOUT", "1s").start().await;
    let service = server.service().await;
    let mut stuck = server.stream("ann").device("a").receive_buffer(16 << 10).open().await;
    stuck.backlog().await;
    for _ in 0..10 {
        send_batch(&service, "ann", 1_000).await;
    }
    eventually("it is closed", || async {
        metric(&server.metrics().await, "pushhub_connections") == Some(0.0)
    })
    .await;
    let last = stuck.last_event_id.unwrap();
    let mut again = server.stream("ann").device("a").last_event_id(last).open().await;
    assert_eq!(again.backlog().await.len() as u64, 10_000 - last);
}

#[tokio::test]
async fn what_a_client_says_is_thrown_away_and_too_much_ends_it() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.stream("ann").open().await;
    ann.send_raw(b"\r\nGET / HTTP/1.1\r\n\r\n").await;
    service.sent("ann", "m1").await;
    ann.expect_seq(1).await;
    ann.send_raw(&[b'x'; 5_000]).await;
    assert_eq!(ann.closed().await.told(), (4500, false, 0));
}

#[tokio::test]
async fn a_token_in_the_url_is_not_logged() {
    let server = TestServer::builder().env("LOG_LEVEL", "trace").start().await;
    let token = Token::of("ann").device("a").sign();
    let stream = server.stream("ann").raw_token(&token).open().await;
    server.stream("ann").raw_token(&format!("{token}x")).refused().await;
    drop(stream);
    eventually("its end is logged", || async { server.log().contains("connection closed") }).await;
    let log = server.log();
    // Nothing of the URL but its path.
    for part in token.split('.').skip(1).chain(["stream?"]) {
        assert!(!log.contains(part), "{part}: {log}");
    }
}
