//! JSON and MessagePack, same names in both.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    Body, ClientFrame, MessageState, Seq, ServerFrame, client_decode,
    limits::{CLIENT_FRAME_BYTES_MAX, FRAME_DEPTH_MAX},
};

/// How a connection is encoded, chosen by the WebSocket subprotocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `pushhub.v3.json`: text frames.
    #[default]
    Json,
    /// `pushhub.v3.msgpack`: binary frames.
    MsgPack,
}

/// A client frame was refused.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Over [`CLIENT_FRAME_BYTES_MAX`].
    #[error("a frame has at most {CLIENT_FRAME_BYTES_MAX} bytes")]
    TooBig,
    /// Nested deeper than [`FRAME_DEPTH_MAX`].
    #[error("a frame is nested at most {FRAME_DEPTH_MAX} levels deep")]
    TooDeep,
    /// Not JSON, or not one of our frames.
    #[error("not a frame: {0}")]
    Json(#[from] serde_json::Error),
    /// Not MessagePack, or not one of our frames.
    #[error("not a frame: {0}")]
    MsgPack(#[from] rmp_serde::decode::Error),
    /// Something follows the frame.
    #[error("not a frame: data after its end")]
    Trailing,
}

/// A frame in two parts: a small head of one recipient, and a tail that all recipients share.
#[derive(Clone, Debug)]
pub struct SplitFrame {
    /// Bytes of this recipient.
    pub head: Head,
    /// Bytes of all.
    pub tail: Bytes,
}

/// Up to [`Head::CAPACITY`] bytes without an allocation.
#[derive(Clone, Copy)]
pub struct Head {
    len: u8,
    bytes: [u8; Self::CAPACITY],
}

impl Head {
    /// The longest head: JSON with three 20-digit numbers, `silent` and a time of the years 0 to
    /// 9999 is 199 bytes, and one before that has 3 more.
    pub const CAPACITY: usize = 204;

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Head {
    fn default() -> Self {
        Self { len: 0, bytes: [0; Self::CAPACITY] }
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Head({} bytes)", self.len)
    }
}

impl std::io::Write for Head {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let start = usize::from(self.len);
        let room = Self::CAPACITY - start;
        let taken = data.len().min(room);
        self.bytes[start..start + taken].copy_from_slice(&data[..taken]);
        self.len += u8::try_from(taken).expect("room is less than 256");
        Ok(taken)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Codec {
    /// The names to negotiate, in order of preference.
    pub const SUBPROTOCOLS: [(&'static str, Self); 2] =
        [("pushhub.v3.json", Self::Json), ("pushhub.v3.msgpack", Self::MsgPack)];

    /// The codec's subprotocol.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "pushhub.v3.json",
            Self::MsgPack => "pushhub.v3.msgpack",
        }
    }

    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MsgPack => "msgpack",
        }
    }

    /// Encodes a frame whole.
    ///
    /// # Panics
    /// Never: frames have string keys and finite numbers.
    #[must_use]
    pub fn encode(self, frame: &ServerFrame) -> Bytes {
        self.encode_any(frame)
    }

    /// Encodes a client's frame; for clients.
    #[must_use]
    pub fn encode_client(self, frame: &ClientFrame) -> Bytes {
        self.encode_any(frame)
    }

    fn encode_any<T: Serialize>(self, value: &T) -> Bytes {
        match self {
            Self::Json => serde_json::to_vec(value).expect("frames have string keys").into(),
            Self::MsgPack => {
                rmp_serde::to_vec_named(value).expect("frames have string keys").into()
            }
        }
    }

    /// A `message` frame that shares the message's encoding among its recipients; the same bytes as
    /// [`Codec::encode`] of the whole frame. `silent` is of the recipient, so it stands in the head.
    ///
    /// # Panics
    /// Never: the head fits its buffer, see [`Head::CAPACITY`].
    #[must_use]
    pub fn encode_message(
        self,
        seq: Seq,
        silent: bool,
        state: &MessageState,
        body: &Body,
    ) -> SplitFrame {
        use std::io::Write;
        const FITS: &str = "the head fits its buffer";
        let mut head = Head::default();
        match self {
            Self::Json => {
                write!(head, r#"{{"type":"message","seq":{seq}"#).expect(FITS);
                if silent {
                    head.write_all(br#","silent":true"#).expect(FITS);
                }
                write!(
                    head,
                    r#","data":{{"seq":{},"version":{},"is_read":{},"status":"{}","read_at":"#,
                    state.seq,
                    state.version,
                    state.is_read,
                    state.status.as_str()
                )
                .expect(FITS);
                match state.read_at {
                    Some(at) => write!(head, "\"{at}\",").expect(FITS),
                    None => head.write_all(b"null,").expect(FITS),
                }
                SplitFrame { head, tail: body.json_tail().clone() }
            }
            Self::MsgPack => {
                let (count, entries) = body.msgpack_entries();
                head.write_all(&[if silent { 0x84 } else { 0x83 }]).expect(FITS);
                head.write_all(b"\xa4type\xa7message\xa3seq").expect(FITS);
                rmp_uint(&mut head, seq.0);
                if silent {
                    head.write_all(b"\xa6silent\xc3").expect(FITS);
                }
                head.write_all(b"\xa4data").expect(FITS);
                // MessageState has five entries. Like rmp-serde, the shortest header that fits;
                // but a flattened struct is written as map32 or map16 by no one: both sides agree
                // because the count is known here.
                let total = 5 + count;
                if total < 16 {
                    head.write_all(&[0x80 | u8::try_from(total).expect("below 16")]).expect(FITS);
                } else {
                    head.write_all(&[0xde]).expect(FITS);
                    let total = u16::try_from(total).expect("a message has few fields");
                    head.write_all(&total.to_be_bytes()).expect(FITS);
                }
                head.write_all(b"\xa3seq").expect(FITS);
                rmp_uint(&mut head, state.seq.0);
                head.write_all(b"\xa7version").expect(FITS);
                rmp_uint(&mut head, state.version.0);
                head.write_all(b"\xa7is_read").expect(FITS);
                head.write_all(&[if state.is_read { 0xc3 } else { 0xc2 }]).expect(FITS);
                head.write_all(b"\xa6status").expect(FITS);
                let status = state.status.as_str();
                head.write_all(&[0xa0 | u8::try_from(status.len()).expect("short")]).expect(FITS);
                head.write_all(status.as_bytes()).expect(FITS);
                head.write_all(b"\xa7read_at").expect(FITS);
                match state.read_at {
                    Some(at) => {
                        let at = at.to_string();
                        head.write_all(&[0xa0 | u8::try_from(at.len()).expect("short")])
                            .expect(FITS);
                        head.write_all(at.as_bytes()).expect(FITS);
                    }
                    None => head.write_all(&[0xc0]).expect(FITS),
                }
                SplitFrame { head, tail: entries.clone() }
            }
        }
    }

    /// Decodes what a client sent. Never panics; memory is bounded by the frame's size, not by the
    /// lengths it claims.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that is not exactly one client frame.
    pub fn decode_client(self, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
        if bytes.len() > CLIENT_FRAME_BYTES_MAX {
            return Err(DecodeError::TooBig);
        }
        match self {
            Self::Json => client_decode::json(bytes),
            Self::MsgPack => client_decode::msgpack(bytes),
        }
    }

    /// Decodes what a server sent; for clients.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that is not a server frame.
    pub fn decode_server(self, bytes: &[u8]) -> Result<ServerFrame, DecodeError> {
        match self {
            Self::Json => Ok(serde_json::from_slice(bytes)?),
            Self::MsgPack => Ok(rmp_serde::from_slice(bytes)?),
        }
    }
}

/// The shortest MessagePack form of a number, as rmp-serde writes it.
fn rmp_uint(head: &mut Head, value: u64) {
    use std::io::Write;
    let bytes = value.to_be_bytes();
    let result = match value {
        0..=0x7f => head.write_all(&bytes[7..]),
        0x80..=0xff => head.write_all(&[0xcc, bytes[7]]),
        0x100..=0xffff => head.write_all(&[0xcd, bytes[6], bytes[7]]),
        0x1_0000..=0xffff_ffff => head.write_all(&[0xce, bytes[4], bytes[5], bytes[6], bytes[7]]),
        _ => {
            let mut long = [0xcf; 9];
            long[1..].copy_from_slice(&bytes);
            head.write_all(&long)
        }
    };
    result.expect("the head fits its buffer");
}
