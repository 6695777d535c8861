//! Every way in which a connection ends.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use protocol::{ClientFrame, Codec, ServerFrame, client_frame::Token};
use tokio::io::AsyncReadExt;
use tungstenite::Message;

use super::support::{PATIENCE, Server, config, eventually};

#[tokio::test]
async fn the_same_device_replaces_its_older_connection() {
    let server = Server::start().await;
    let mut older = server.connect("token=ann/phone").await;
    let mut newer = server.connect("token=ann/phone").await;
    let (disconnect, close) = older.expect_close().await;
    assert_eq!(u16::from(close.code), 4509);
    assert!(matches!(disconnect, ServerFrame::Disconnect { reconnect: false, .. }));
    eventually("the older one is gone", || server.live.open_connections() == 1).await;
    newer.expect_sync_complete(0).await;
    server.store.send("ann", "to the newer one");
    newer.expect_changes(0, 1).await;
}

#[tokio::test]
async fn connections_without_a_device_do_not_replace_each_other() {
    let server = Server::start().await;
    let mut one = server.connect("token=ann").await;
    let mut two = server.connect("token=ann").await;
    server.store.send("ann", "to both");
    one.expect_changes(0, 1).await;
    two.expect_changes(0, 1).await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered_and_forgotten() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    ann.socket.close(None).await.unwrap();
    assert!(matches!(ann.next_message().await, Message::Close(_)));
    eventually("it is gone", || server.live.open_connections() == 0).await;
    assert!(server.live.connections().is_empty());
}

#[tokio::test]
async fn a_client_that_just_goes_is_forgotten() {
    let server = Server::start().await;
    let ann = server.connect("token=ann").await;
    drop(ann);
    eventually("it is gone", || server.live.open_connections() == 0).await;
}

#[tokio::test]
async fn what_is_no_frame_closes_with_4500() {
    let server = Server::start().await;
    let deep = "[".repeat(100);
    let frames = [
        Message::text("not json"),
        Message::text(r#"{"type":"ping"} and more"#),
        Message::text(deep),
        Message::binary(vec![0x81, 0xa4]),
    ];
    for frame in frames {
        let mut ann = server.connect("token=ann").await;
        ann.send(frame).await;
        ann.expect_close_code(4500).await;
    }
    let mut ann = server.open("token=ann", Codec::MsgPack).await.unwrap();
    ann.expect_welcome().await;
    ann.send(Message::text("{}")).await;
    loop {
        if let Message::Close(Some(close)) = ann.next_message().await {
            assert_eq!(u16::from(close.code), 4500);
            break;
        }
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_with_1009() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.send(Message::text(" ".repeat((64 << 10) + 1))).await;
    ann.expect_close_code(1009).await;
    let mut ann = server.connect("token=ann").await;
    let largest = format!(r#"{{"type":"ping"}}{}"#, " ".repeat((64 << 10) - 15));
    ann.expect_sync_complete(0).await;
    ann.send(Message::text(largest)).await;
    assert_eq!(ann.next().await, ServerFrame::Pong);
}

#[tokio::test]
async fn a_flood_closes_with_4029() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    for _ in 0..400 {
        if futures_util::SinkExt::feed(&mut ann.socket, Message::text(r#"{"type":"pong"}"#))
            .await
            .is_err()
        {
            break;
        }
    }
    futures_util::SinkExt::flush(&mut ann.socket).await.ok();
    ann.expect_close_code(4029).await;
}

#[tokio::test]
async fn an_expired_token_closes_unless_it_was_refreshed() {
    let server = Server::start().await;
    let mut stays = server.connect("token=ann/phone/1").await;
    let mut ends = server.connect("token=ann/desk/1").await;
    let token = Token("ann/phone/3600".into());
    stays.say(&ClientFrame::Refresh { token }).await;
    ends.expect_close_code(4001).await;
    server.store.send("ann", "hello");
    stays.expect_changes(0, 1).await;
}

#[tokio::test]
async fn a_silent_peer_is_closed_with_4008() {
    let mut config = config();
    config.ping_interval = Duration::from_millis(50);
    let server = Server::start_with(config).await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    // A raw socket below the library answers no ping.
    let began = Instant::now();
    let stream = ann.socket.get_mut();
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&all);
    assert!(text.contains("no heartbeat"), "{text}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(7) && took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_drain_tells_everybody_when_to_come_back() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for user in 0..50 {
        clients.push(server.connect(&format!("token=user{user}")).await);
    }
    let live = server.live.clone();
    let drain = tokio::spawn(async move { live.drain(Duration::from_secs(10)).await });
    for client in &mut clients {
        let (disconnect, close) = client.expect_close().await;
        assert_eq!(u16::from(close.code), 1012);
        let ServerFrame::Disconnect { reconnect, reconnect_after_ms, .. } = disconnect else {
            panic!("a disconnect");
        };
        assert!(reconnect && reconnect_after_ms <= 10_000);
        // The library answers the close; reading on to the end shows ours was the last word.
        assert!(client.socket.next().await.is_none_or(|last| last.is_err()));
    }
    let drained = drain.await.unwrap();
    assert_eq!((drained.told, drained.left), (50, 0));
    let refused = server.open("token=ann", Codec::Json).await.err().unwrap();
    assert!(matches!(refused, tungstenite::Error::Http(answer) if answer.status() == 503));
}
