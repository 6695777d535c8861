//! The client's side of RFC 6455, as little of it as a load test needs.

use protocol::Codec;

/// Largest frame taken, in bytes: a message body has at most 1 MiB.
pub(crate) const FRAME_BYTES_MAX: usize = 3 << 19;
/// Largest head of an HTTP answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// One key for all handshakes, with the answer RFC 6455 §1.3 gives for it: nothing between us and
/// the server caches, and hashing on both sides would only cost CPU that the server needs.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text or binary.
    Data,
    /// Close, with its payload.
    Close,
    /// Ping.
    Ping,
    /// Pong.
    Pong,
}

/// The first frame of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A frame and how many bytes it took.
    Frame(Kind, &'a [u8], usize),
    /// More bytes are needed.
    Incomplete,
    /// Not what a server may send, or a fragment, which ours never sends.
    Bad(&'static str),
}

/// Reads the first frame.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let [first, second, rest @ ..] = bytes else { return Parsed::Incomplete };
    let kind = match first {
        0x81 | 0x82 => Kind::Data,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        _ => return Parsed::Bad("fragment, extension bits or reserved opcode"),
    };
    let (length, head) = match second {
        0..=125 => (usize::from(*second), 2),
        126 => match rest.first_chunk() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Parsed::Incomplete,
        },
        127 => match rest.first_chunk() {
            Some(length) => {
                (usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX), 10)
            }
            None => return Parsed::Incomplete,
        },
        _ => return Parsed::Bad("a masked frame from a server"),
    };
    if length > FRAME_BYTES_MAX {
        return Parsed::Bad("a frame over the limit");
    }
    match bytes.get(head..head + length) {
        Some(payload) => Parsed::Frame(kind, payload, head + length),
        None => Parsed::Incomplete,
    }
}

/// Writes a client frame. The mask is there, as it must be, and zero: it protects proxies that are
/// not between us, and an XOR that changes nothing need not be made.
pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, codec: Codec, payload: &[u8]) {
    let opcode = match (kind, codec) {
        (Kind::Data, Codec::Json) => 0x81,
        (Kind::Data, Codec::MsgPack) => 0x82,
        (Kind::Close, _) => 0x88,
        (Kind::Ping, _) => 0x89,
        (Kind::Pong, _) => 0x8a,
    };
    out.push(opcode);
    match u8::try_from(payload.len()) {
        Ok(short @ 0..=125) => out.push(0x80 | short),
        _ => {
            out.push(0x80 | 126);
            let length = u16::try_from(payload.len()).expect("client frames are below 64 KiB");
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// The upgrade request.
pub(crate) fn handshake(authority: &str, token: &str, codec: Codec, since: Option<u64>) -> Vec<u8> {
    let query = since.map_or_else(String::new, |since| format!("?since={since}"));
    format!(
        "GET /ws{query} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
        codec.subprotocol()
    )
    .into_bytes()
}

/// The head of an HTTP answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Status.
    pub(crate) status: u16,
    /// Where the body, or the first frame, begins.
    pub(crate) length: usize,
    /// `Content-Length`, where there is one.
    pub(crate) content_length: Option<usize>,
    /// `Retry-After` in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The right `Sec-WebSocket-Accept` is there.
    pub(crate) accepted: bool,
    /// The server closes after this answer.
    pub(crate) closes: bool,
}

/// Reads an answer's head; `Ok(None)` while it is incomplete.
pub(crate) fn answer_head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        let too_long = bytes.len() > HEAD_BYTES_MAX;
        return if too_long { Err("an answer's head over the limit") } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "an answer's head is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .ok_or("no HTTP/1.1 answer")?;
    let mut head = Head {
        status,
        length: end + 4,
        content_length: None,
        retry_after: None,
        accepted: false,
        closes: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        // Lengths first: most headers are dismissed without looking at their letters.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                head.content_length = value.parse().ok();
            }
            11 if name.eq_ignore_ascii_case("retry-after") => head.retry_after = value.parse().ok(),
            20 if name.eq_ignore_ascii_case("sec-websocket-accept") => {
                head.accepted = value == ACCEPT;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                head.closes = value.eq_ignore_ascii_case("close");
            }
            _ => {}
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..=125 => bytes.push(u8::try_from(length).unwrap()),
                126..=65_535 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(vec![b'x'; length]);
            for cut in [0, 1, bytes.len() - 1] {
                assert_eq!(parse(&bytes[..cut.min(bytes.len() - 1)]), Parsed::Incomplete);
            }
            let whole = bytes.len();
            bytes.push(0x89);
            assert_eq!(parse(&bytes), Parsed::Frame(Kind::Data, &vec![b'x'; length], whole));
        }
    }

    #[test]
    fn what_a_server_may_not_send() {
        assert!(matches!(parse(&[0x01, 0]), Parsed::Bad(_)), "fragment");
        assert!(matches!(parse(&[0xc1, 0]), Parsed::Bad(_)), "extension bit");
        assert!(matches!(parse(&[0x81, 0x80]), Parsed::Bad(_)), "masked");
        assert!(matches!(parse(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]), Parsed::Bad(_)), "huge");
    }

    #[test]
    fn own_frames_are_masked() {
        let mut out = Vec::new();
        write(&mut out, Kind::Pong, Codec::Json, b"hi");
        assert_eq!(out, [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(answer_head(&answer[..30]), Ok(None));
        let head = answer_head(answer).unwrap().unwrap();
        assert_eq!((head.status, head.retry_after, head.content_length), (503, Some(7), Some(2)));
        assert_eq!(&answer[head.length..], b"{}");
        assert!(answer_head(b"SSH-2.0\r\n\r\n").is_err());
    }
}
