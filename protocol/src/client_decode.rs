//! Decoding of client frames without trusting them.
//!
//! Serde's adjacently tagged enums keep everything that stands before `type` in a tree of their
//! own: 64 KiB of `[1,1,1…` cost 2 MiB there, and an 11-byte MessagePack frame that claims 2³²
//! items costs 1 MiB at once. So the envelope is cut first, which allocates nothing, and `data` is
//! then read as what `type` says it is.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

use crate::{
    ClientFrame, ReadTarget, Seq,
    client_frame::{Token, message_ids},
    codec::DecodeError,
    limits::FRAME_DEPTH_MAX,
};

/// Longest part of an unknown `type` that is repeated in the refusal, in characters.
const TYPE_SHOWN_CHARS_MAX: usize = 32;

pub(crate) fn json(bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
    #[derive(Deserialize)]
    #[serde(expecting = "a frame: an object with type and data")]
    struct Wire<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    check_json_depth(bytes)?;
    // Strings that are passed over are not checked by serde_json.
    let text = std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?;
    let wire: Wire<'_> = serde_json::from_str(text)?;
    Ok(frame(&wire.kind, wire.data)?)
}

pub(crate) fn msgpack(bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
    let mut walk = Walk { bytes, at: 0 };
    let Item::Map(entries) = walk.item()? else {
        return Err(refuse("a frame is a map with type and data"));
    };
    let (mut kind, mut data) = (None, None);
    for _ in 0..entries {
        let place = match walk.item()? {
            Item::Str(b"type") => Some(&mut kind),
            Item::Str(b"data") => Some(&mut data),
            Item::Str(_) => None,
            _ => return Err(refuse("the names in a frame are strings")),
        };
        let start = walk.at;
        walk.skip(2)?;
        if let Some(place) = place
            && place.replace(&bytes[start..walk.at]).is_some()
        {
            return Err(refuse("type or data stands twice"));
        }
    }
    if walk.at < bytes.len() {
        return Err(DecodeError::Trailing);
    }
    let kind = kind.ok_or_else(|| refuse("missing field `type`"))?;
    let Item::Str(kind) = (Walk { bytes: kind, at: 0 }).item()? else {
        return Err(refuse("type is a string"));
    };
    let kind = std::str::from_utf8(kind).map_err(|_| refuse("type is not UTF-8"))?;
    let mut data = data.map(rmp_serde::Deserializer::from_read_ref);
    Ok(frame(kind, data.as_mut())?)
}

/// The frame of a type with its data, whichever the codec.
fn frame<'de, D: Deserializer<'de>>(kind: &str, data: Option<D>) -> Result<ClientFrame, D::Error> {
    #[derive(Deserialize)]
    struct Ack {
        seq: Seq,
    }
    #[derive(Deserialize)]
    struct Sync {
        since: Seq,
    }
    #[derive(Deserialize)]
    struct Channel {
        channel_id: crate::ChannelId,
    }
    #[derive(Deserialize)]
    struct Refresh {
        token: Token,
    }
    fn need<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        data: Option<D>,
    ) -> Result<T, D::Error> {
        T::deserialize(data.ok_or_else(|| D::Error::missing_field("data"))?)
    }
    fn may<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        data: Option<D>,
    ) -> Result<Option<T>, D::Error> {
        data.map_or(Ok(None), Option::deserialize)
    }
    Ok(match kind {
        "ping" => ClientFrame::Ping(may(data)?),
        "pong" => ClientFrame::Pong(may(data)?),
        "device" => ClientFrame::Device(need(data)?),
        "ack" => ClientFrame::Ack { seq: need::<_, Ack>(data)?.seq },
        "read" => ClientFrame::Read(need(data)?),
        "sync" => ClientFrame::Sync { since: need::<_, Sync>(data)?.since },
        "join" => ClientFrame::Join { channel_id: need::<_, Channel>(data)?.channel_id },
        "leave" => ClientFrame::Leave { channel_id: need::<_, Channel>(data)?.channel_id },
        "refresh" => ClientFrame::Refresh { token: need::<_, Refresh>(data)?.token },
        other => {
            let shown: String = other.chars().take(TYPE_SHOWN_CHARS_MAX).collect();
            return Err(D::Error::custom(format_args!(
                "unknown type {shown:?}, expected one of {}",
                ClientFrame::NAMES.join(", ")
            )));
        }
    })
}

impl<'de> Deserialize<'de> for ReadTarget {
    /// By hand: an untagged enum would keep a tree of everything, and answer every mistake with
    /// "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            #[serde(default, deserialize_with = "some_message_ids")]
            message_ids: Option<Vec<crate::MessageId>>,
            up_to_seq: Option<Seq>,
        }
        fn some_message_ids<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<crate::MessageId>>, D::Error> {
            message_ids(deserializer).map(Some)
        }
        match Wire::deserialize(deserializer)? {
            Wire { message_ids: Some(message_ids), up_to_seq: None } => {
                Ok(Self::Ids { message_ids })
            }
            Wire { message_ids: None, up_to_seq: Some(up_to_seq) } => Ok(Self::UpTo { up_to_seq }),
            _ => Err(D::Error::custom("either message_ids or up_to_seq is needed, not both")),
        }
    }
}

fn refuse(sentence: &'static str) -> DecodeError {
    DecodeError::MsgPack(rmp_serde::decode::Error::custom(sentence))
}

/// Steps over MessagePack without building anything. What it has stepped over is really there, so
/// that no claimed length reaches an allocator.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What begins at a position.
enum Item<'a> {
    /// Passed as a whole.
    Scalar,
    /// Passed as a whole.
    Str(&'a [u8]),
    /// Its items come next.
    Array(usize),
    /// Its entries, a name and a value each, come next.
    Map(usize),
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or_else(|| refuse("the frame ends too early"))?];
        self.at += count;
        Ok(taken)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        Ok(self.take(bytes)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    /// Passes a scalar, a string, or the header of an array or map (MessagePack specification,
    /// "Formats").
    fn item(&mut self) -> Result<Item<'a>, DecodeError> {
        let marker = self.take(1)?[0];
        let scalar = match marker {
            0x80..=0x8f => return Ok(Item::Map(usize::from(marker & 0x0f))),
            0x90..=0x9f => return Ok(Item::Array(usize::from(marker & 0x0f))),
            0xa0..=0xbf => return Ok(Item::Str(self.take(usize::from(marker & 0x1f))?)),
            0xd9..=0xdb => {
                let length = self.length(1 << (marker - 0xd9))?;
                return Ok(Item::Str(self.take(length)?));
            }
            0xdc | 0xdd => return Ok(Item::Array(self.length(2 << (marker - 0xdc))?)),
            0xde | 0xdf => return Ok(Item::Map(self.length(2 << (marker - 0xde))?)),
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
            0xc1 => return Err(refuse("0xc1 is no MessagePack")),
            0xc4..=0xc6 => self.length(1 << (marker - 0xc4))?,
            0xc7..=0xc9 => 1 + self.length(1 << (marker - 0xc7))?,
            0xca => 4,
            0xcb => 8,
            0xcc..=0xcf => 1 << (marker - 0xcc),
            0xd0..=0xd3 => 1 << (marker - 0xd0),
            0xd4..=0xd8 => 1 + (1 << (marker - 0xd4)),
        };
        self.take(scalar)?;
        Ok(Item::Scalar)
    }

    /// Passes a whole value that stands `depth` levels deep.
    fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        let items = match self.item()? {
            Item::Scalar | Item::Str(_) => return Ok(()),
            Item::Array(items) => items,
            Item::Map(entries) => entries.saturating_mul(2),
        };
        if depth > FRAME_DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        for _ in 0..items {
            self.skip(depth + 1)?;
        }
        Ok(())
    }
}

/// serde_json allows 128 levels; a client frame has three. Counting brackets outside strings is
/// cheaper than the stack of the nested parse.
fn check_json_depth(bytes: &[u8]) -> Result<(), DecodeError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > FRAME_DEPTH_MAX {
                    return Err(DecodeError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
