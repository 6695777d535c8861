use protocol::{Body, MessageState};
use tungstenite::Message;

use super::*;
use crate::live::tests::support::{body_until, client_reads, stored};

#[test]
fn a_client_reads_what_was_encoded_at_every_length_of_header() {
    for content in [0, 1, 60, 125, 126, 65_000, 65_535, 65_536, 200_000] {
        let change = stored("ann", 7, &"x".repeat(content));
        for (codec, (_, named)) in
            [Codec::Json, Codec::MsgPack].into_iter().zip(Codec::SUBPROTOCOLS)
        {
            assert_eq!(codec, named);
            let frame = WireFrame::change(&change, codec, Time::default());
            let bytes = frame.to_vec();
            assert_eq!(bytes.len(), frame.len());
            let payload = match client_reads(&bytes).remove(0) {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                other => panic!("{other:?}"),
            };
            match codec.decode_server(&payload).unwrap() {
                ServerFrame::Message { seq, data } => {
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
    assert_eq!(client_reads(&WireFrame::ping().to_vec()), [Message::Ping(Bytes::new())]);
    for reason in CloseReason::ALL {
        let bytes = WireFrame::close(reason).to_vec();
        assert!(bytes.len() <= 2 + 125, "RFC 6455 §5.5: {reason:?}");
    }
    let bytes = WireFrame::close(CloseReason::Replaced).to_vec();
    let Message::Close(Some(close)) = client_reads(&bytes).remove(0) else { panic!("a close") };
    assert_eq!(u16::from(close.code), 4509);
}

#[test]
fn an_expired_message_becomes_a_status_at_its_seq() {
    let expire_at = Time::from_millis(1_000);
    let body: std::sync::Arc<Body> = body_until("m1", "late", Some(expire_at));
    let mut change = stored("ann", 3, "");
    change.change = Change::Message { state: MessageState::new(Seq(3)), body };
    let before = WireFrame::change(&change, Codec::Json, Time::from_millis(999));
    let after = WireFrame::change(&change, Codec::Json, expire_at);
    assert_eq!((before.kind, before.seq), (FrameKind::Message, Seq(3)));
    assert_eq!((after.kind, after.seq), (FrameKind::StatusUpdate, Seq(3)));
}
