//! What another node sends, or somebody who can publish on its bus. The first byte is the seeds' codec.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::envelope::Envelope;

fuzz_target!(|bytes: &[u8]| {
    let Some((_, bytes)) = bytes.split_first() else { return };
    if let Ok(envelope) = Envelope::decode(bytes) {
        let written = envelope.encode();
        let again = Envelope::decode(&written).expect("written by us");
        assert_eq!(again.encode(), written);
    }
});
