//! The frames as bytes in files: the compatibility promise, and the examples that clients in other
//! languages are tested with.
//!
//! `UPDATE_GOLDEN=1 cargo test -p protocol --test golden` writes them. A changed file in a diff is a
//! changed wire: it needs a new subprotocol, unless a field was added.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, fs, path::PathBuf};

use protocol::{Body, ClientFrame, Codec, ServerFrame};

const CODECS: [(Codec, &str); 2] = [(Codec::Json, "json"), (Codec::MsgPack, "msgpack")];

fn folder(side: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(side)
}

fn golden(side: &str, name: &str, ending: &str, bytes: &[u8]) {
    let path = folder(side).join(format!("{name}.{ending}"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(folder(side)).unwrap();
        fs::write(&path, bytes).unwrap();
        return;
    }
    let expected = fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; write it with UPDATE_GOLDEN=1", path.display())
    });
    assert!(
        expected == bytes,
        "{} is not what the code writes any more\n file: {}\n code: {}",
        path.display(),
        String::from_utf8_lossy(&expected),
        String::from_utf8_lossy(bytes)
    );
}

/// As the server writes it: messages by way of the shared body.
fn written(codec: Codec, frame: &ServerFrame) -> Vec<u8> {
    let ServerFrame::Message { seq, silent, data } = frame else {
        return codec.encode(frame).to_vec();
    };
    let split = codec.encode_message(*seq, *silent, &data.state, &Body::new(&data.fields));
    [split.head.as_slice(), &split.tail].concat()
}

#[test]
fn server_frames_are_the_golden_bytes_and_decode_to_the_same() {
    for (name, frame) in support::server_samples() {
        for (codec, ending) in CODECS {
            let bytes = written(codec, &frame);
            golden("server", name, ending, &bytes);
            assert_eq!(codec.decode_server(&bytes).unwrap(), frame, "{name}.{ending}");
        }
    }
}

#[test]
fn client_frames_are_the_golden_bytes_and_decode_to_the_same() {
    for (name, frame) in support::client_samples() {
        for (codec, ending) in CODECS {
            let bytes = codec.encode_client(&frame);
            golden("client", name, ending, &bytes);
            assert_eq!(codec.decode_client(&bytes).unwrap(), frame, "{name}.{ending}");
        }
    }
}

#[test]
fn every_variant_has_a_golden_file_and_no_file_is_left_over() {
    let kinds: BTreeSet<_> =
        support::client_samples().iter().map(|(_, frame)| frame.name()).collect();
    assert_eq!(kinds, BTreeSet::from(ClientFrame::NAMES));

    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return; // The other tests write the files at this moment.
    }
    for (side, names) in [
        ("server", support::server_samples().iter().map(|s| s.0).collect::<BTreeSet<_>>()),
        ("client", support::client_samples().iter().map(|s| s.0).collect()),
    ] {
        let files: BTreeSet<String> = fs::read_dir(folder(side))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let wanted =
            names.iter().flat_map(|name| CODECS.map(|(_, ending)| format!("{name}.{ending}")));
        assert_eq!(files, wanted.collect(), "{side}");
    }
}

#[test]
fn the_frames_of_the_seed_are_understood() {
    // Seed 003 §2.4, as it stands there.
    assert_eq!(
        Codec::Json.decode_client(br#"{ "type": "ping" }"#).unwrap(),
        ClientFrame::Ping(None)
    );
    for text in [r#"{"data":{"seq":9},"type":"ack"}"#, r#"{"type":"ack","data":{"seq":9},"x":[1]}"#]
    {
        let frame = Codec::Json.decode_client(text.as_bytes()).unwrap();
        assert_eq!(frame, ClientFrame::Ack { seq: protocol::Seq(9) }, "{text}");
    }
    for text in [r#"{"type":"pong","data":{}}"#, r#"{"type":"pong","data":null}"#] {
        assert!(matches!(
            Codec::Json.decode_client(text.as_bytes()).unwrap(),
            ClientFrame::Pong(_)
        ));
    }
}
