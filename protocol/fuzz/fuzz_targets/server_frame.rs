//! What a server sends, as a client in Rust reads it; and times and ids, which both sides parse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Codec, Time, UserId};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let codec = if first & 1 == 0 { Codec::Json } else { Codec::MsgPack };
    if let Ok(frame) = codec.decode_server(bytes) {
        let again = codec.decode_server(&codec.encode(&frame)).expect("written by us");
        assert_eq!(again, frame);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(time) = Time::parse(text) {
            assert_eq!(Time::parse(&time.to_string()), Ok(time));
        }
        if let Ok(id) = UserId::new(text) {
            assert_eq!(id.as_str(), text);
        }
    }
});
