use protocol::{Body, MessageState};
use tungstenite::Message;

use super::*;
use crate::live::{
    queue::Socket,
    tests::{
        events::{Event, read_events},
        pipe::Pipe,
        support::{body_until, client_reads, stored},
    },
};

const JSON: Framing = Framing::WebSocket(Codec::Json);

#[test]
fn a_client_reads_what_was_encoded_at_every_length_of_header() {
    for content in [0, 1, 60, 125, 126, 65_000, 65_535, 65_536, 200_000] {
        let change = stored("ann", 7, &"x".repeat(content));
        for (codec, (_, named)) in
            [Codec::Json, Codec::MsgPack].into_iter().zip(Codec::SUBPROTOCOLS)
        {
            assert_eq!(codec, named);
            let frame =
                WireFrame::change(&change, Framing::WebSocket(codec), Time::default(), false);
            let bytes = frame.to_vec();
            assert_eq!(bytes.len(), frame.len());
            let payload = match client_reads(&bytes).remove(0) {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                other => panic!("{other:?}"),
            };
            match codec.decode_server(&payload).unwrap() {
                ServerFrame::Message { seq, data, .. } => {
                    assert_eq!(seq, Seq(7));
                    assert_eq!(data.fields.content.len(), content);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn pings_and_closes_are_frames() {
    assert_eq!(client_reads(&WireFrame::ping(JSON).to_vec()), [Message::Ping(Bytes::new())]);
    for reason in CloseReason::ALL {
        let bytes = WireFrame::close(reason, JSON).unwrap().to_vec();
        assert!(bytes.len() <= 2 + 125, "RFC 6455 §5.5: {reason:?}");
    }
    let bytes = WireFrame::close(CloseReason::Replaced, JSON).unwrap().to_vec();
    let Message::Close(Some(close)) = client_reads(&bytes).remove(0) else { panic!("a close") };
    assert_eq!(u16::from(close.code), 4509);
}

#[test]
fn an_expired_message_becomes_a_status_at_its_seq() {
    let expire_at = Time::from_millis(1_000);
    let body: std::sync::Arc<Body> = body_until("m1", "late", Some(expire_at));
    let mut change = stored("ann", 3, "");
    change.change = Change::Message { state: MessageState::new(Seq(3)), body };
    let before = WireFrame::change(&change, JSON, Time::from_millis(999), false);
    let after = WireFrame::change(&change, JSON, expire_at, false);
    assert_eq!((before.kind, before.seq), (FrameKind::Message, Seq(3)));
    assert_eq!((after.kind, after.seq), (FrameKind::StatusUpdate, Seq(3)));
}

fn only_event(frame: &WireFrame) -> Event {
    let bytes = frame.to_vec();
    assert_eq!(bytes.len(), frame.len());
    let mut events = read_events(&bytes);
    assert_eq!(events.len(), 1, "{}", String::from_utf8_lossy(&bytes));
    events.remove(0)
}

#[test]
fn an_event_is_the_sockets_frame_on_one_line() {
    let hostile =
        "two\nlines\r\n\u{2028}\0 \\ data: x\n\nevent: disconnect\n\nid: 9\n\n\u{feff}文字";
    for content in ["", hostile, &"x".repeat(200_000)] {
        let mut change = stored("ann", u64::MAX, content);
        let Change::Message { state, .. } = &mut change.change else { panic!("a message") };
        // The longest head there is.
        *state = MessageState::new(Seq(u64::MAX));
        state.status = Status::Archived;
        state.read_at = Some(Time::from_millis(1_700_000_000_999));
        let event =
            only_event(&WireFrame::change(&change, Framing::EventStream, Time::default(), false));
        let frame = WireFrame::change(&change, JSON, Time::default(), false);
        let as_socket = client_reads(&frame.to_vec()).remove(0).into_text().unwrap();
        assert_eq!(event.data, as_socket.as_str());
        assert_eq!(event.name, "message");
        assert_eq!(event.id.unwrap(), u64::MAX.to_string());
        assert_eq!(event.retry, None);
    }
}

#[test]
fn ids_are_positions_and_only_those() {
    let event = |frame: &ServerFrame| only_event(&WireFrame::server(frame, Framing::EventStream));
    let status = StatusUpdate {
        message_id: "m1".parse().unwrap(),
        status: Status::Read,
        device_id: None,
        at: Time::default(),
        action: None,
    };
    let status = event(&ServerFrame::StatusUpdate { seq: Seq(7), data: status });
    assert_eq!((status.name.as_str(), status.id.as_deref()), ("status_update", Some("7")));
    let complete = event(&ServerFrame::SyncComplete { seq: Seq(8) });
    assert_eq!((complete.name.as_str(), complete.id.as_deref()), ("sync_complete", Some("8")));
    let resync = event(&ServerFrame::ResyncRequired { min_seq: Seq(3) });
    assert_eq!((resync.name.as_str(), resync.id), ("resync_required", None));
    // An `EventSource` waits as the frame says, and does not come back at once where it should not.
    let restarting = event(&ServerFrame::disconnect(CloseReason::Restarting, 1_234));
    assert_eq!((restarting.name.as_str(), restarting.id), ("disconnect", None));
    assert_eq!(restarting.retry, Some(1_234));
    let replaced = event(&ServerFrame::disconnect(CloseReason::Replaced, 0));
    assert_eq!(replaced.retry, Some(24 * 3_600 * 1_000));
    let welcome = EventFields { id: Some(Seq(5)), retry_ms: Some(600) };
    let frame = WireFrame::server_with(&ServerFrame::Pong, welcome, Framing::EventStream);
    let event = only_event(&frame);
    assert_eq!((event.id.as_deref(), event.retry), (Some("5"), Some(600)));
}

#[test]
fn an_event_streams_heartbeat_is_a_comment_and_its_end_is_no_frame() {
    let ping = WireFrame::ping(Framing::EventStream).to_vec();
    assert_eq!(ping, b": ping\n\n");
    assert_eq!(read_events(&ping), []);
    assert!(WireFrame::close(CloseReason::Restarting, Framing::EventStream).is_none());
}

#[test]
fn a_frame_goes_on_wherever_a_write_ended() {
    for framing in Framing::ALL {
        let frame =
            WireFrame::change(&stored("ann", 12, "content"), framing, Time::default(), false);
        let whole = frame.to_vec();
        for written in 0..whole.len() {
            let mut slices = SmallVec::<[IoSlice<'_>; FRAME_SLICES_MAX]>::new();
            frame.slices(written, &mut slices);
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            let pipe = Pipe::with_room(whole.len());
            pipe.try_write_vectored(&slices).unwrap();
            assert_eq!(*pipe.taken.lock(), whole[written..], "{framing:?} after {written}");
        }
    }
}
