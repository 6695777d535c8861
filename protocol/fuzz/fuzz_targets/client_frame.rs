//! What a client sends: refused or understood, never a panic; what is understood can be written and
//! read again. The first byte picks the codec.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Codec;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let codec = if first & 1 == 0 { Codec::Json } else { Codec::MsgPack };
    if let Ok(frame) = codec.decode_client(bytes) {
        let again = codec.decode_client(&codec.encode_client(&frame)).expect("written by us");
        assert_eq!(again, frame);
    }
});
