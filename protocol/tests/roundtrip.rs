//! decode(encode(x)) = x, for everything that travels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use protocol::{
    Body, ChannelId, Codec, ConnectionId, DeviceId, IdError, Message, MessageId, NodeId,
    ServerFrame, ServiceId, TenantId, Time, UserId, limits::ID_BYTES_MAX,
};

const CODECS: [Codec; 2] = [Codec::Json, Codec::MsgPack];

proptest! {
    #[test]
    fn server_frames_survive(frame in support::server_frame()) {
        for codec in CODECS {
            let bytes = codec.encode(&frame);
            prop_assert_eq!(&codec.decode_server(&bytes).unwrap(), &frame);
        }
    }

    #[test]
    fn client_frames_survive(frame in support::client_frame()) {
        for codec in CODECS {
            let bytes = codec.encode_client(&frame);
            prop_assert_eq!(&codec.decode_client(&bytes).unwrap(), &frame);
        }
    }

    /// A message is encoded once for all its recipients; they must not be able to tell.
    #[test]
    fn a_shared_message_has_the_bytes_of_a_whole_one(
        seq in support::any_seq(),
        silent: bool,
        state in support::any_state(),
        fields in support::any_fields(),
    ) {
        let body = Body::new(&fields);
        let frame = ServerFrame::Message {
            seq, silent, data: Message { state, fields: fields.clone() },
        };
        let [json, msgpack] = CODECS.map(|codec| {
            let split = codec.encode_message(seq, silent, &state, &body);
            [split.head.as_slice(), &split.tail].concat()
        });
        prop_assert_eq!(
            String::from_utf8(json).unwrap(),
            String::from_utf8(Codec::Json.encode(&frame).to_vec()).unwrap()
        );
        prop_assert_eq!(&Codec::MsgPack.decode_server(&msgpack).unwrap(), &frame);

        prop_assert_eq!(&body.fields().unwrap(), &fields);
        let again = Body::from_stored(body.id().clone(), body.expire_at(), &body.json());
        prop_assert_eq!(again.json(), body.json());
        prop_assert_eq!(again.fields().unwrap(), fields);
    }

    #[test]
    fn times_survive_as_text_in_utc(time in support::any_time()) {
        let text = time.to_string();
        prop_assert!(text.ends_with('Z'), "{}", text);
        prop_assert_eq!(Time::parse(&text).unwrap(), time);
        prop_assert_eq!(Time::from_millis(time.millis()), time);
        let json = serde_json::to_string(&time).unwrap();
        prop_assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
    }

    #[test]
    fn a_text_is_an_id_exactly_when_the_contract_says_so(text in any::<String>()) {
        let legal = (1..=ID_BYTES_MAX).contains(&text.len())
            && !text.chars().any(char::is_control);
        prop_assert_eq!(UserId::new(&text).is_ok(), legal);
        let json = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<UserId>(&json).is_ok(), legal);
    }

    #[test]
    fn legal_ids_survive(text in support::id_text()) {
        macro_rules! check {
            ($($id:ty),*) => {$({
                let id = <$id>::new(&text).unwrap();
                prop_assert_eq!(id.as_str(), &text);
                prop_assert_eq!(id.to_string(), text.clone());
                let json = serde_json::to_vec(&id).unwrap();
                prop_assert_eq!(&serde_json::from_slice::<$id>(&json).unwrap(), &id);
                let msgpack = rmp_serde::to_vec(&id).unwrap();
                prop_assert_eq!(&rmp_serde::from_slice::<$id>(&msgpack).unwrap(), &id);
            })*};
        }
        check!(
            UserId, TenantId, DeviceId, MessageId, ConnectionId, NodeId, ServiceId, ChannelId
        );
    }

    /// Whatever the offset, it is the same moment.
    #[test]
    fn offsets_are_understood(millis in 0_i64..4_000_000_000_000, minutes in -720_i64..=720) {
        let local = Time::from_millis(millis + minutes * 60_000).to_string();
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        let text = format!("{}{sign}{hours:02}:{rest:02}", local.trim_end_matches('Z'));
        prop_assert_eq!(Time::parse(&text).unwrap(), Time::from_millis(millis), "{}", text);
    }

    #[test]
    fn parsing_a_time_never_panics(text in any::<String>()) {
        let _ = Time::parse(&text);
    }
}

#[test]
fn ids_are_refused_with_the_reason_and_without_the_text() {
    assert_eq!(UserId::new(""), Err(IdError::Empty));
    assert_eq!(UserId::new("a\0b"), Err(IdError::Control));
    assert_eq!(UserId::new("a\u{85}b"), Err(IdError::Control));
    assert_eq!(UserId::new("x".repeat(129)), Err(IdError::TooLong { bytes: 129 }));
    assert!(UserId::new("x".repeat(128)).is_ok());
    assert!(UserId::new("界".repeat(43)).is_err(), "129 bytes in 43 characters");
    let sentence = UserId::new("secret\n".repeat(20)).unwrap_err().to_string();
    assert_eq!(sentence, "must have at most 128 bytes, has 140");
}

#[test]
fn times_that_are_none_are_refused() {
    for text in [
        "",
        "now",
        "2025-01-15",
        "2025-01-15T10:30:00",
        "2025-13-15T10:30:00Z",
        "2025-02-30T10:30:00Z",
        "10000-01-01T00:00:00Z",
        "1736937000",
    ] {
        assert!(Time::parse(text).is_err(), "{text}");
    }
    assert_eq!(Time::MAX.to_string(), "9999-12-30T22:00:00Z");
    assert_eq!(Time::from_millis(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
    assert!(serde_json::from_str::<Time>("1736937000").is_err(), "times are texts");
}
