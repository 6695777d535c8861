//! The decoder and bytes that mean harm: it refuses them, it never panics.
//! The same properties, run for longer and led by coverage, are in `protocol/fuzz`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::{collection::vec, prelude::*};
use protocol::{
    ClientFrame, Codec, DecodeError,
    limits::{
        CAPABILITIES_MAX, CLIENT_FRAME_BYTES_MAX, DEVICE_TEXT_BYTES_MAX, FRAME_DEPTH_MAX,
        READ_IDS_MAX,
    },
};

const CODECS: [Codec; 2] = [Codec::Json, Codec::MsgPack];

/// Whatever is accepted is a frame: it can be written and read again.
fn decode(codec: Codec, bytes: &[u8]) {
    if let Ok(frame) = codec.decode_client(bytes) {
        let again = codec.decode_client(&codec.encode_client(&frame)).unwrap();
        assert_eq!(again, frame);
    }
    let _ = codec.decode_server(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        for codec in CODECS {
            decode(codec, &bytes);
        }
    }

    #[test]
    fn frames_with_bytes_changed(
        frame in support::client_frame(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for codec in CODECS {
            let mut bytes = codec.encode_client(&frame).to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            decode(codec, &bytes);
            decode(codec, &bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn server_frames_with_bytes_changed(
        frame in support::server_frame(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for codec in CODECS {
            let mut bytes = codec.encode(&frame).to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            decode(codec, &bytes);
        }
    }

    #[test]
    fn what_follows_a_frame_is_refused(
        frame in support::client_frame(),
        more in vec(any::<u8>(), 1..20),
    ) {
        for codec in CODECS {
            let bytes = [&codec.encode_client(&frame)[..], &more[..]].concat();
            if codec == Codec::Json && more.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            prop_assert!(codec.decode_client(&bytes).is_err());
        }
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_size_alone() {
    for codec in CODECS {
        let error = codec.decode_client(&vec![0; CLIENT_FRAME_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, DecodeError::TooBig));
        assert_eq!(error.to_string(), "a frame has at most 65536 bytes");
    }
}

#[test]
fn deep_nesting_is_refused_before_it_costs_stack() {
    for opening in ["[", "{\"a\":", "{\"type\":\"ack\",\"data\":["] {
        let bytes = opening.repeat(CLIENT_FRAME_BYTES_MAX / opening.len());
        let error = Codec::Json.decode_client(bytes.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::TooDeep), "{error}");
    }
    // Brackets in a string nest nothing.
    let text = format!(r#"{{"type":"refresh","data":{{"token":"\"{}"}}}}"#, "[".repeat(1_000));
    assert!(Codec::Json.decode_client(text.as_bytes()).is_ok());

    for opening in [&b"\x91"[..], b"\x81\xa1a", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xa1a"] {
        let bytes = opening.repeat(CLIENT_FRAME_BYTES_MAX / opening.len());
        assert!(Codec::MsgPack.decode_client(&bytes).is_err());
    }
    // As an unknown member, where nothing but the walk itself looks at it.
    let deep = |levels: usize| {
        [&b"\x82\xa4type\xa4ping\xa1x"[..], &b"\x91".repeat(levels), b"\xc0"].concat()
    };
    assert!(Codec::MsgPack.decode_client(&deep(FRAME_DEPTH_MAX - 1)).is_ok());
    assert!(matches!(
        Codec::MsgPack.decode_client(&deep(FRAME_DEPTH_MAX)),
        Err(DecodeError::TooDeep)
    ));
}

#[test]
fn limits_are_named_in_the_refusal() {
    let ids = |n: usize| serde_json::json!({"type": "read", "data": {"message_ids": vec!["m"; n]}});
    let caps =
        |n: usize| serde_json::json!({"type": "device", "data": {"capabilities": vec!["c"; n]}});
    let version =
        |n: usize| serde_json::json!({"type": "device", "data": {"app_version": "v".repeat(n)}});
    let text =
        |n: usize| serde_json::json!({"type": "device", "data": {"capabilities": ["c".repeat(n)]}});
    for (fits, over, named) in [
        (ids(READ_IDS_MAX), ids(READ_IDS_MAX + 1), "at most 1000 message_ids"),
        (caps(CAPABILITIES_MAX), caps(CAPABILITIES_MAX + 1), "at most 32 capabilities"),
        (
            version(DEVICE_TEXT_BYTES_MAX),
            version(DEVICE_TEXT_BYTES_MAX + 1),
            "app_version has at most 128",
        ),
        (
            text(DEVICE_TEXT_BYTES_MAX),
            text(DEVICE_TEXT_BYTES_MAX + 1),
            "a capability has at most 128",
        ),
    ] {
        for codec in CODECS {
            let encode = |value| match codec {
                Codec::Json => serde_json::to_vec(value).unwrap(),
                Codec::MsgPack => rmp_serde::to_vec_named(value).unwrap(),
            };
            codec.decode_client(&encode(&fits)).unwrap_or_else(|error| panic!("{named}: {error}"));
            let sentence = codec.decode_client(&encode(&over)).unwrap_err().to_string();
            assert!(sentence.contains(named), "{codec:?}: {sentence}");
        }
    }
}

#[test]
fn a_number_is_no_word() {
    let frame = serde_json::json!({"type": "device", "data": {"device_type": 0}});
    let bytes = rmp_serde::to_vec_named(&frame).unwrap();
    let error = Codec::MsgPack.decode_client(&bytes).unwrap_err().to_string();
    assert!(error.contains("string"), "{error}");
}

#[test]
fn frames_that_are_almost_right_are_refused_with_a_sentence_that_helps() {
    for (text, helps) in [
        ("", "EOF"),
        ("null", "null"),
        ("[]", "frame"),
        ("{}", "type"),
        (r#"{"type":"pnig"}"#, "pnig"),
        (r#"{"type":7}"#, "string"),
        (r#"{"type":"ack"}"#, "data"),
        (r#"{"type":"ack","data":{}}"#, "seq"),
        (r#"{"type":"ack","data":{"seq":-1}}"#, "-1"),
        (r#"{"type":"ack","data":{"seq":1.5}}"#, "1.5"),
        (r#"{"type":"ack","data":{"seq":"9"}}"#, "\"9\""),
        (r#"{"type":"ack","data":{"seq":99999999999999999999}}"#, "u64"),
        (r#"{"type":"read","data":{}}"#, "message_ids"),
        (r#"{"type":"read","data":{"message_ids":["m"],"up_to_seq":1}}"#, "up_to_seq"),
        (r#"{"type":"read","data":{"message_ids":[""]}}"#, "must not be empty"),
        (r#"{"type":"read","data":{"message_ids":["a\u0000"]}}"#, "control characters"),
        (r#"{"type":"join","data":{"channel_id":"\n"}}"#, "control characters"),
        (r#"{"type":"device","data":{"device_type":"toaster"}}"#, "toaster"),
        (r#"{"type":"device","data":{"devise":"web"}}"#, "devise"),
        (r#"{"type":"ping","type":"pong"}"#, "type"),
    ] {
        let sentence = match Codec::Json.decode_client(text.as_bytes()) {
            Ok(frame) => panic!("{text} was taken as {frame:?}"),
            Err(error) => error.to_string(),
        };
        assert!(sentence.contains(helps), "{text}: {sentence}");
    }
    assert!(
        Codec::Json
            .decode_client(b"{\"type\":\"join\",\"data\":{\"channel_id\":\"\xff\"}}")
            .is_err()
    );
}

#[test]
fn a_token_is_never_printed() {
    let frame =
        Codec::Json.decode_client(br#"{"type":"refresh","data":{"token":"canary"}}"#).unwrap();
    assert!(matches!(frame, ClientFrame::Refresh { .. }));
    assert!(!format!("{frame:?}").contains("canary"));
}
