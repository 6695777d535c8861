use proptest::prelude::*;

use super::*;
use crate::live::tests::support::client_reads;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// A masked frame as clients send it.
fn client_frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![if fin { 0x80 } else { 0 } | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn nothing_is_kept_between_whole_messages() {
    let mut reader = FrameReader::default();
    let mut messages = Messages::new();
    let frame = client_frame(true, TEXT, b"hello");
    let answer =
        reader.read(&[frame.clone(), client_frame(true, PING, b"?")].concat(), &mut messages);
    assert_eq!(messages.as_slice(), [Message::text("hello"), Message::Ping("?".into())]);
    assert_eq!(client_reads(&answer.unwrap()), [Message::Pong("?".into())]);
    assert!(reader.partial.is_none());
    reader.read(&frame[..3], &mut messages).unwrap();
    assert!(reader.partial.is_some(), "half a header must be kept");
    reader.read(&frame[3..], &mut messages).unwrap();
    assert!(reader.partial.is_none(), "and let go");
    reader.read(&client_frame(false, TEXT, b"frag"), &mut messages).unwrap();
    assert!(reader.partial.is_some(), "an unfinished message must be kept");
    reader.read(&client_frame(true, PING, b""), &mut messages).unwrap();
    assert!(reader.partial.is_some(), "a ping between fragments does not end it");
    reader.read(&client_frame(true, 0, b"ment"), &mut messages).unwrap();
    assert!(reader.partial.is_none());
    assert_eq!(messages.last(), Some(&Message::text("fragment")));
}

#[test]
fn what_breaks_rfc_6455_is_refused() {
    let long = client_frame(true, TEXT, &vec![b' '; CLIENT_FRAME_BYTES_MAX + 1]);
    let mut huge_claim = vec![0x81, 0xff];
    huge_claim.extend_from_slice(&[0xff; 12]);
    let mut reserved_bit = client_frame(true, TEXT, b"x");
    reserved_bit[0] |= 0x40;
    let mut too_long_in_parts = client_frame(false, TEXT, &vec![b' '; CLIENT_FRAME_BYTES_MAX]);
    too_long_in_parts.extend(client_frame(true, 0, b"x"));
    for (bytes, reason) in [
        (long, CloseReason::TooBig),
        (huge_claim, CloseReason::TooBig),
        (too_long_in_parts, CloseReason::TooBig),
        (vec![0x81, 0x01, b'x'], CloseReason::BadFrame),
        (reserved_bit, CloseReason::BadFrame),
        (client_frame(true, 0x3, b""), CloseReason::BadFrame),
        (client_frame(true, 0xb, b""), CloseReason::BadFrame),
        (client_frame(true, 0, b"alone"), CloseReason::BadFrame),
        (client_frame(false, PING, b""), CloseReason::BadFrame),
        (client_frame(true, PING, &[0; 126]), CloseReason::BadFrame),
        (client_frame(true, TEXT, &[0xff]), CloseReason::BadFrame),
        (client_frame(true, CLOSE, &[1]), CloseReason::BadFrame),
    ] {
        let mut reader = FrameReader::default();
        let refused = reader.read(&bytes, &mut Messages::new());
        assert_eq!(refused.unwrap_err(), reason, "{:02x?}", &bytes[..bytes.len().min(16)]);
    }
}

fn any_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let message = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4);
    let ping = prop::collection::vec(any::<u8>(), 0..126);
    prop::collection::vec((message, prop::option::of(ping)), 1..6).prop_map(|messages| {
        let mut frames = Vec::new();
        for (parts, ping) in messages {
            let last = parts.len() - 1;
            for (at, part) in parts.iter().enumerate() {
                frames.push(client_frame(at == last, if at == 0 { BINARY } else { 0 }, part));
                if let Some(ping) = &ping {
                    frames.push(client_frame(true, PING, ping));
                }
            }
        }
        frames
    })
}

proptest! {
    /// However the network cuts the stream, the same messages come out, and nothing stays behind.
    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        frames in any_frames(),
        cuts in prop::collection::vec(1_usize..40, 1..200),
    ) {
        let stream = frames.concat();
        let mut whole = Messages::new();
        FrameReader::default().read(&stream, &mut whole).unwrap();
        let (mut reader, mut pieces, mut at) = (FrameReader::default(), Messages::new(), 0_usize);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let end = at.saturating_add(cut).min(stream.len());
            if at < end {
                reader.read(&stream[at..end], &mut pieces).unwrap();
            }
            at = end;
        }
        prop_assert_eq!(whole, pieces);
        prop_assert!(reader.partial.is_none());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let mut reader = FrameReader::default();
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        if reader.read(one, &mut Messages::new()).is_ok() {
            reader.read(two, &mut Messages::new()).ok();
        }
    }
}
