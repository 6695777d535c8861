//! Welcome, live, catching up, marks.

use std::sync::atomic::Ordering;

use protocol::{
    ClientFrame, Codec, DeviceInfo, DeviceType, ErrorType, MessageId, ReadTarget, Seq, ServerFrame,
    Status, Time,
};
use tungstenite::Message;

use super::support::{Server, config, eventually, is_status};

#[tokio::test]
async fn welcome_comes_first_and_says_where_the_inbox_stands() {
    let server = Server::start().await;
    server.store.send("ann", "one");
    let mut ann = server.open("token=ann/phone&device_type=mobile", Codec::Json).await.unwrap();
    let welcome = ann.expect_welcome().await;
    assert_eq!(welcome.user_id.as_str(), "ann");
    assert_eq!(welcome.device_id.as_str(), "phone");
    assert_eq!(welcome.node_id.as_str(), "test-node");
    assert_eq!((welcome.seq, welcome.unread_count), (Seq(1), 1));
    assert_eq!(welcome.ping_interval_ms, 30_000);
    ann.expect_sync_complete(1).await;
    let known = server.live.connections();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].id, welcome.connection_id);
    assert_eq!(known[0].device_type, DeviceType::Mobile);
}

#[tokio::test]
async fn live_messages_reach_every_device_in_both_codecs() {
    let server = Server::start().await;
    let mut json = server.connect("token=ann/phone").await;
    let mut msgpack = server.open("token=ann/desk", Codec::MsgPack).await.unwrap();
    msgpack.expect_welcome().await;
    json.expect_sync_complete(0).await;
    msgpack.expect_sync_complete(0).await;
    server.store.send("ann", "hello");
    server.store.send("bob", "not for ann");
    let (a, b) = (json.next().await, msgpack.next().await);
    assert_eq!(a, b);
    let ServerFrame::Message { seq, data, .. } = a else { panic!("a message") };
    assert_eq!((seq, data.state.seq, data.fields.content.as_str()), (Seq(1), Seq(1), "hello"));
}

#[tokio::test]
async fn a_client_resumes_where_it_was_without_hole_or_repeat() {
    let server = Server::start().await;
    for _ in 0..1_000 {
        server.store.send("ann", "backlog");
    }
    let mut ann = server.connect("token=ann&since=10").await;
    for _ in 0..100 {
        server.store.send("ann", "meanwhile");
    }
    ann.expect_changes(10, 1_100).await;
    server.store.send("ann", "live");
    ann.expect_changes(1_100, 1_101).await;
}

#[tokio::test]
async fn sync_complete_follows_the_backlog() {
    let server = Server::start().await;
    for _ in 0..300 {
        server.store.send("ann", "backlog");
    }
    let mut ann = server.connect("token=ann&since=0").await;
    ann.expect_changes(0, 300).await;
    ann.expect_sync_complete(300).await;
}

#[tokio::test]
async fn a_device_that_acked_resumes_at_its_cursor() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann/phone").await;
    for _ in 0..3 {
        server.store.send("ann", "hello");
    }
    ann.expect_changes(0, 3).await;
    // Beyond what was sent: the cursor goes no further than that.
    ann.say(&ClientFrame::Ack { seq: Seq(2) }).await;
    eventually("the ack is stored", || server.store.cursor_of("ann", "phone") == Some(Seq(2)))
        .await;
    ann.say(&ClientFrame::Ack { seq: Seq(9) }).await;
    eventually("the ack is cut", || server.store.cursor_of("ann", "phone") == Some(Seq(3))).await;
    drop(ann);
    server.store.send("ann", "while away");
    let mut again = server.connect("token=ann/phone").await;
    again.expect_changes(3, 4).await;
    // Another device never acked: it starts at the head.
    let mut other = server.connect("token=ann/desk").await;
    other.expect_sync_complete(4).await;
}

#[tokio::test]
async fn sync_sends_again_from_the_named_position() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    for _ in 0..5 {
        server.store.send("ann", "hello");
    }
    ann.expect_changes(0, 5).await;
    ann.say(&ClientFrame::Sync { since: Seq(2) }).await;
    ann.expect_changes(2, 5).await;
    ann.expect_sync_complete(5).await;
    ann.say(&ClientFrame::Sync { since: Seq(5) }).await;
    ann.expect_sync_complete(5).await;
}

#[tokio::test]
async fn a_position_that_is_not_kept_or_never_was_must_be_resynced() {
    let server = Server::start().await;
    for _ in 0..5 {
        server.store.send("ann", "hello");
    }
    server.store.prune("ann", 3);
    for since in [1, 99] {
        let mut ann = server.connect(&format!("token=ann&since={since}")).await;
        let frame = ann.next().await;
        assert_eq!(frame, ServerFrame::ResyncRequired { min_seq: Seq(3) }, "since {since}");
        ann.expect_sync_complete(5).await;
    }
    let mut ann = server.connect("token=ann&since=3").await;
    ann.expect_changes(3, 5).await;
    ann.expect_sync_complete(5).await;
    server.store.send("ann", "live");
    ann.expect_changes(5, 6).await;
}

#[tokio::test]
async fn a_lost_last_change_is_found_within_a_heartbeat() {
    let mut config = config();
    config.ping_interval = std::time::Duration::from_millis(200);
    let server = Server::start_with(config).await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    server.store.deaf.store(true, Ordering::Relaxed);
    server.store.send("ann", "lost by the bus");
    ann.expect_changes(0, 1).await;
    // A hole: this one is lost, the next one is not.
    server.store.send("ann", "lost");
    server.store.deaf.store(false, Ordering::Relaxed);
    server.store.send("ann", "shows the hole");
    ann.expect_changes(1, 3).await;
}

#[tokio::test]
async fn an_expired_message_is_replaced_at_its_place() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    server.store.send_expiring("ann", Time::from_millis(1));
    server.store.send_expiring("ann", Time::MAX);
    assert!(is_status(&ann.next().await, "m1", Status::Expired));
    assert!(matches!(ann.next().await, ServerFrame::Message { seq: Seq(2), .. }));
}

#[tokio::test]
async fn read_marks_come_back_to_every_device() {
    let server = Server::start().await;
    let mut phone = server.connect("token=ann/phone").await;
    let mut desk = server.connect("token=ann/desk").await;
    phone.expect_sync_complete(0).await;
    desk.expect_sync_complete(0).await;
    server.store.send("ann", "hello");
    phone.expect_changes(0, 1).await;
    desk.expect_changes(0, 1).await;
    let message_ids = vec![MessageId::new("m1").unwrap()];
    phone.say(&ClientFrame::Read(ReadTarget::Ids { message_ids })).await;
    for device in [&mut phone, &mut desk] {
        let frame = device.next().await;
        assert!(is_status(&frame, "m1", Status::Read), "{frame:?}");
        let ServerFrame::StatusUpdate { data, .. } = frame else { panic!("a status") };
        assert_eq!(data.device_id.unwrap().as_str(), "phone");
    }
    phone.say(&ClientFrame::Read(ReadTarget::UpTo { up_to_seq: Seq(1) })).await;
    let refused = phone.next().await;
    assert!(
        matches!(&refused, ServerFrame::Error { kind: ErrorType::Unavailable, reference, .. }
            if reference.as_deref() == Some("read")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn pings_are_answered_and_device_information_is_kept() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    ann.send(Message::text(r#"{"type":"ping"}"#)).await;
    assert_eq!(ann.next().await, ServerFrame::Pong);
    ann.send(Message::Ping("probe".into())).await;
    assert_eq!(ann.next_message().await, Message::Pong("probe".into()));
    let device = DeviceInfo {
        device_type: DeviceType::Desktop,
        app_version: "1.2".into(),
        capabilities: vec![],
    };
    ann.say(&ClientFrame::Device(device)).await;
    eventually("the device is known", || {
        server.live.connections().iter().any(|connection| {
            connection.device_type == DeviceType::Desktop && connection.app_version == "1.2"
        })
    })
    .await;
}

#[tokio::test]
async fn the_server_pings_also_by_frames_where_asked() {
    let mut config = config();
    config.ping_interval = std::time::Duration::from_millis(100);
    let server = Server::start_with(config).await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    assert_eq!(ann.next_message().await, Message::Ping(Default::default()));
    let device = DeviceInfo { capabilities: vec!["app_ping".into()], ..DeviceInfo::default() };
    ann.say(&ClientFrame::Device(device)).await;
    assert_eq!(ann.next().await, ServerFrame::Ping);
}

#[tokio::test]
async fn refused_frames_are_answered_and_the_socket_stays() {
    let server = Server::start().await;
    let mut ann = server.connect("token=ann").await;
    ann.expect_sync_complete(0).await;
    let frames = [
        (r#"{"type":"dance"}"#, ErrorType::Invalid, Some("dance")),
        (r#"{"type":"ack","data":{"seq":"x"}}"#, ErrorType::Invalid, Some("ack")),
        (r#"{"type":"ack","data":{"seq":-1}}"#, ErrorType::Invalid, Some("ack")),
        (r#"{}"#, ErrorType::Invalid, None),
        (r#"[1,2]"#, ErrorType::Invalid, None),
        (r#"{"type":"join","data":{"channel_id":"c"}}"#, ErrorType::NotFound, Some("join")),
        (r#"{"type":"refresh","data":{"token":"bad"}}"#, ErrorType::Unauthorized, Some("refresh")),
        (r#"{"type":"refresh","data":{"token":"bob"}}"#, ErrorType::Forbidden, Some("refresh")),
    ];
    for (frame, expected, named) in frames {
        ann.send(Message::text(frame)).await;
        match ann.next().await {
            ServerFrame::Error { kind, reference, .. } => {
                assert_eq!((kind, reference.as_deref()), (expected, named), "{frame}");
            }
            other => panic!("{frame}: {other:?}"),
        }
    }
    server.store.send("ann", "still here");
    ann.expect_changes(0, 1).await;
}
