//! The socket: what a device is told, what it may say, how it ends.

use std::time::Duration;

use protocol::{ClientFrame, Codec, ServerFrame, Status};
use tokio::io::AsyncReadExt;

use crate::support::{SOON, TestServer, Token, eventually, eventually_within};

#[tokio::test]
async fn welcome_says_where_the_device_is() {
    let server = TestServer::start().await;
    let service = server.service().await;
    service.sent("ann", "one").await;
    service.sent("ann", "two").await;
    let ann = server.socket("ann").device("phone").connect().await;
    let welcome = &ann.welcome;
    assert_eq!(welcome.user_id.as_str(), "ann");
    assert_eq!(welcome.device_id.as_str(), "phone");
    assert_eq!((welcome.seq.0, welcome.unread_count), (2, 2));
    assert_eq!(welcome.ping_interval_ms, 30_000);
    let other = server.connect("ann").await;
    assert_ne!(other.welcome.connection_id, welcome.connection_id);
    assert_ne!(other.welcome.device_id, welcome.device_id);
    assert_eq!(other.welcome.node_id, welcome.node_id);
}

#[tokio::test]
async fn both_codecs_say_the_same() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut json = server.socket("ann").device("a").connect().await;
    let mut msgpack = server.socket("ann").device("b").codec(Codec::MsgPack).connect().await;
    for n in 1..=3 {
        service.sent("ann", &format!("m{n}")).await;
    }
    msgpack.read_up_to(2).await;
    msgpack.ping_after(5).await;
    json.until_seq(5).await;
    let changes = |frames: &[ServerFrame]| -> Vec<_> {
        frames.iter().filter(|frame| frame.seq().is_some()).cloned().collect()
    };
    assert_eq!(changes(&json.frames), changes(&msgpack.frames));
}

#[tokio::test]
async fn a_device_that_did_it_hears_the_echo_too() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut laptop = server.socket("ann").device("laptop").connect().await;
    let id = service.sent("ann", "hello").await;
    phone.expect_seq(1).await;
    laptop.expect_seq(1).await;
    phone.read(&[&id, "no-such"]).await;
    for client in [&mut phone, &mut laptop] {
        let (seq, update) = client.next_status().await;
        assert_eq!((seq, update.status), (2, Status::Read));
        assert_eq!(update.device_id.unwrap().as_str(), "phone");
    }
    assert_eq!(server.as_user("ann").unread().await, 0);
}

#[tokio::test]
async fn pings_are_answered_in_both_layers() {
    let server = TestServer::builder().env("WS_PING_INTERVAL", "1s").start().await;
    let mut ann = server.connect("ann").await;
    ann.ping().await;
    ann.send_raw(tungstenite::Message::Ping("x".into())).await;
    ann.ping().await;
    // Only a device that says so gets pings as frames.
    ann.capable_of("app_ping").await;
    assert_eq!(ann.next().await, ServerFrame::Ping);
    ann.send(ClientFrame::Pong(None)).await;
    ann.ping().await;
}

#[tokio::test]
async fn since_gives_the_backlog_and_then_live() {
    let server = TestServer::start().await;
    let service = server.service().await;
    for n in 1..=5 {
        service.sent("ann", &format!("m{n}")).await;
    }
    let mut ann = server.socket("ann").since(2).connect().await;
    let backlog = ann.backlog().await;
    let seqs: Vec<_> = backlog.iter().map(|frame| frame.seq().unwrap().0).collect();
    assert_eq!(seqs, [3, 4, 5]);
    service.sent("ann", "m6").await;
    ann.expect_seq(6).await;

    let mut at_head = server.socket("ann").device("b").since(6).connect().await;
    assert_eq!(at_head.backlog().await, []);
    service.sent("ann", "m7").await;
    at_head.expect_seq(7).await;
}

#[tokio::test]
async fn sync_sends_the_backlog_again() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut ann = server.connect("ann").await;
    service.sent("ann", "m1").await;
    service.sent("ann", "m2").await;
    ann.until_seq(2).await;
    ann.sync(0).await;
    let backlog = ann.backlog().await;
    assert_eq!(backlog.len(), 2);
    service.sent("ann", "m3").await;
    ann.expect_seq(3).await;
}

#[tokio::test]
async fn a_position_that_never_was_is_told_to_start_over() {
    let server = TestServer::start().await;
    let service = server.service().await;
    service.sent("ann", "m1").await;
    for since in [2, 1 << 40, u64::MAX] {
        let mut ann = server.socket("ann").since(since).connect().await;
        assert!(matches!(ann.next().await, ServerFrame::ResyncRequired { .. }), "{since}");
    }
    let mut ann = server.connect("ann").await;
    ann.sync(u64::MAX).await;
    assert!(matches!(ann.next().await, ServerFrame::ResyncRequired { .. }));
    service.sent("ann", "m2").await;
    ann.expect_seq(2).await;
}

#[tokio::test]
async fn a_device_that_acked_goes_on_at_its_cursor() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    for n in 1..=4 {
        service.sent("ann", &format!("m{n}")).await;
    }
    phone.until_seq(4).await;
    phone.ack(2).await;
    phone.ack(1).await; // Never back.
    phone.ping().await;
    phone.close().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    assert_eq!(phone.backlog().await.len(), 2);

    // An orderly end keeps it.
    assert!(server.terminate().await.success());
    server.spawn().await;
    let mut phone = server.socket("ann").device("phone").connect().await;
    assert_eq!(phone.backlog().await[0].seq().unwrap().0, 3);
    // Another device never acked: it begins live, at the head.
    let mut laptop = server.socket("ann").device("laptop").connect().await;
    laptop.ping().await;
    assert_eq!(laptop.welcome.seq.0, 4);
}

#[tokio::test]
async fn the_same_device_replaces_its_older_connection() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let mut old = server.socket("ann").device("phone").connect().await;
    let mut other = server.socket("ann").device("laptop").connect().await;
    let mut new = server.socket("ann").device("phone").connect().await;
    let closed = old.closed().await;
    assert_eq!(closed.code, Some(4509));
    assert_eq!(closed.told(), (4509, false, 0));
    service.sent("ann", "m1").await;
    new.expect_seq(1).await;
    other.expect_seq(1).await;
}

#[tokio::test]
async fn an_expired_token_closes_the_socket_unless_refreshed() {
    let server = TestServer::start().await;
    let short = |device: &str| {
        server.socket("ann").token(Token::of("ann").device(device).expires_in(2)).connect()
    };
    let (mut expiring, mut refreshed) = tokio::join!(short("a"), short("b"));
    refreshed.refresh(&Token::of("ann").device("b")).await;
    let closed = expiring.closed_within(SOON).await;
    assert_eq!(closed.code, Some(4001));
    assert!(closed.told().1, "come back, with a new token");
    refreshed.ping().await;
    server.service().await.sent("ann", "m1").await;
    refreshed.expect_seq(1).await;
}

#[tokio::test]
async fn a_refresh_with_another_identity_or_a_bad_token_is_refused() {
    let server = TestServer::start().await;
    let mut ann = server.socket("ann").device("a").connect().await;
    ann.backlog().await;
    ann.refresh(&Token::of("bob").device("a")).await;
    assert!(ends_or_error(&mut ann).await);
    let mut ann = server.socket("ann").device("a").connect().await;
    ann.backlog().await;
    ann.refresh(&Token::of("ann").device("a").expires_in(-3600)).await;
    assert!(ends_or_error(&mut ann).await);
}

async fn ends_or_error(client: &mut crate::support::TestClient) -> bool {
    use crate::support::socket::Event;
    match client.event().await {
        Event::Frame(ServerFrame::Error { kind, .. }) => {
            matches!(kind.slug(), "unauthorized" | "forbidden")
        }
        Event::Frame(ServerFrame::Disconnect { code, .. }) => matches!(code, 4501 | 4503),
        _ => false,
    }
}

#[tokio::test]
async fn a_peer_that_vanished_is_closed_within_the_interval_and_eight_seconds() {
    let server = TestServer::builder().env("WS_PING_INTERVAL", "1s").start().await;
    let mut healthy = server.socket("ann").device("healthy").connect().await;
    healthy.backlog().await;
    // A peer that answers nothing any more, not even pings: its kernel is there, its process hangs.
    let mut silent = server.socket("ann").device("silent").connect().await.into_stream();
    let start = tokio::time::Instant::now();
    // Half a second for the machine; the goodbye, which nobody answers, may take one more.
    let gone = eventually_within("it is taken off", Duration::from_millis(9_500), || async {
        let one = metric(&server.metrics().await, "pushhub_connections") == Some(1.0);
        one.then(|| start.elapsed())
    });
    let answered = async {
        loop {
            healthy.event_within(Duration::from_secs(60)).await;
        }
    };
    tokio::select! {
        took = gone => println!("found after {took:?}"),
        () = answered => {}
    }
    let mut bytes = vec![];
    let ended = tokio::time::timeout(Duration::from_secs(3), silent.read_to_end(&mut bytes));
    ended.await.expect("the socket is closed").unwrap();
    assert_eq!(crate::support::raw::close_code(&bytes), Some(4008));
    healthy.ping().await;
}

/// The sum of a metric's series whose name begins so.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[tokio::test]
async fn frames_that_are_refused_leave_the_socket_open() {
    let server = TestServer::start().await;
    let mut ann = server.connect("ann").await;
    for (text, named) in [
        (r#"{"type":"pnig"}"#, "pnig"),
        (r#"{"type":"ack","data":{"seq":"x"}}"#, "expected"),
        (r#"{"type":"read","data":{}}"#, "message_ids"),
    ] {
        ann.send_raw(tungstenite::Message::text(text)).await;
        let (_, sentence) = ann.next_error().await;
        assert!(sentence.contains(named), "{text}: {sentence}");
    }
    ann.ping().await;
}

#[tokio::test]
async fn too_many_connections_are_refused_with_a_time_to_come_back() {
    let server = TestServer::builder().env("WS_MAX_CONNECTIONS", 2).start().await;
    let _one = server.connect("ann").await;
    let two = server.connect("bob").await;
    let refused = server.socket("eve").refused().await;
    assert!(matches!(refused.status().as_u16(), 429 | 503), "{refused:?}");
    assert!(refused.headers().contains_key("retry-after"));
    two.close().await;
    eventually("there is room again", || async {
        server.socket("eve").try_connect().await.is_ok()
    })
    .await;
}
