//! Frames on their way out, ready for `writev`.
//!
//! They do not go through tungstenite: it would copy each payload into a buffer of the connection,
//! which keeps the size of the largest burst for ever. A frame here is a small prefix (RFC 6455
//! header and the recipient's half) and a tail that all recipients share.

use std::{io::IoSlice, time::Instant};

use bytes::Bytes;
use delivery::store::{Change, StatusChange, Stored};
use protocol::{CloseReason, Codec, Seq, ServerFrame, Status, StatusUpdate, Time};
use smallvec::SmallVec;

/// What a frame is, for metrics and for what may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Message,
    StatusUpdate,
    Welcome,
    SyncComplete,
    ResyncRequired,
    Presence,
    Ping,
    Pong,
    Error,
    Disconnect,
    /// WebSocket ping, pong and close.
    Control,
}

impl FrameKind {
    pub(super) const ALL: [Self; 11] = [
        Self::Message,
        Self::StatusUpdate,
        Self::Welcome,
        Self::SyncComplete,
        Self::ResyncRequired,
        Self::Presence,
        Self::Ping,
        Self::Pong,
        Self::Error,
        Self::Disconnect,
        Self::Control,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::StatusUpdate => "status_update",
            Self::Welcome => "welcome",
            Self::SyncComplete => "sync_complete",
            Self::ResyncRequired => "resync_required",
            Self::Presence => "presence",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Error => "error",
            Self::Disconnect => "disconnect",
            Self::Control => "control",
        }
    }

    const fn of(frame: &ServerFrame) -> Self {
        match frame {
            ServerFrame::Welcome(_) => Self::Welcome,
            ServerFrame::Message { .. } => Self::Message,
            ServerFrame::StatusUpdate { .. } => Self::StatusUpdate,
            ServerFrame::SyncComplete { .. } => Self::SyncComplete,
            ServerFrame::ResyncRequired { .. } => Self::ResyncRequired,
            ServerFrame::Presence { .. } => Self::Presence,
            ServerFrame::Ping => Self::Ping,
            ServerFrame::Pong => Self::Pong,
            ServerFrame::Error { .. } => Self::Error,
            ServerFrame::Disconnect { .. } => Self::Disconnect,
        }
    }

    /// Whether it is a change of the inbox, which the store can give again.
    pub(super) const fn is_change(self) -> bool {
        matches!(self, Self::Message | Self::StatusUpdate)
    }
}

/// Longest prefix in bytes: the longest RFC 6455 header (10) and the longest head of a message.
const PREFIX_BYTES_MAX: usize = 10 + protocol::codec::Head::CAPACITY;

/// A frame on its way out.
#[derive(Clone)]
pub(super) struct WireFrame {
    pub(super) kind: FrameKind,
    prefix_len: u8,
    prefix: [u8; PREFIX_BYTES_MAX],
    tail: Bytes,
    /// Position of a change.
    pub(super) seq: Seq,
    /// When the store was asked, on live changes.
    pub(super) accepted: Option<Instant>,
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

impl WireFrame {
    fn new(kind: FrameKind, opcode: u8, head: &[u8], tail: Bytes) -> Self {
        let mut prefix = [0; PREFIX_BYTES_MAX];
        let payload = head.len() + tail.len();
        // RFC 6455 §5.2: FIN set, no mask from a server.
        prefix[0] = 0x80 | opcode;
        let header = match (u8::try_from(payload), u16::try_from(payload)) {
            (Ok(short), _) if short < 126 => {
                prefix[1] = short;
                2
            }
            (_, Ok(medium)) => {
                prefix[1] = 126;
                prefix[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            _ => {
                prefix[1] = 127;
                prefix[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        };
        prefix[header..header + head.len()].copy_from_slice(head);
        let prefix_len = u8::try_from(header + head.len()).expect("PREFIX_BYTES_MAX is below 256");
        Self { kind, prefix_len, prefix, tail, seq: Seq::ZERO, accepted: None }
    }

    const fn opcode(codec: Codec) -> u8 {
        match codec {
            Codec::Json => TEXT,
            Codec::MsgPack => BINARY,
        }
    }

    /// A change of an inbox. A message that has expired by `now` is replaced at its place.
    pub(super) fn change(stored: &Stored, codec: Codec, now: Time) -> Self {
        let mut frame = match &stored.change {
            Change::Message { body, .. } if body.expired(now) => {
                let change = StatusChange {
                    message_id: body.id().clone(),
                    status: Status::Expired,
                    device: None,
                    at: body.expire_at().unwrap_or(now),
                };
                Self::status(stored.seq, &change, codec)
            }
            Change::Message { state, body } => {
                let split = codec.encode_message(stored.seq, state, body);
                let opcode = Self::opcode(codec);
                Self::new(FrameKind::Message, opcode, split.head.as_slice(), split.tail)
            }
            Change::Status(change) => Self::status(stored.seq, change, codec),
        };
        frame.seq = stored.seq;
        frame.accepted = stored.accepted;
        frame
    }

    fn status(seq: Seq, change: &StatusChange, codec: Codec) -> Self {
        let data = StatusUpdate {
            message_id: change.message_id.clone(),
            status: change.status,
            device_id: change.device.clone(),
            at: change.at,
        };
        Self::server(&ServerFrame::StatusUpdate { seq, data }, codec)
    }

    /// Any other frame.
    pub(super) fn server(frame: &ServerFrame, codec: Codec) -> Self {
        Self::new(FrameKind::of(frame), Self::opcode(codec), &[], codec.encode(frame))
    }

    /// A WebSocket ping, without payload: one is out at a time, so a pong needs no name.
    pub(super) fn ping() -> Self {
        Self::new(FrameKind::Control, PING, &[], Bytes::new())
    }

    /// A WebSocket close.
    pub(super) fn close(reason: CloseReason) -> Self {
        let mut payload = Vec::with_capacity(2 + reason.text().len());
        payload.extend_from_slice(&reason.code().to_be_bytes());
        payload.extend_from_slice(reason.text().as_bytes());
        Self::new(FrameKind::Control, CLOSE, &[], payload.into())
    }

    /// Bytes that are a frame already: tungstenite's answers to pings and closes.
    pub(super) fn raw(bytes: Bytes) -> Self {
        Self {
            kind: FrameKind::Control,
            prefix_len: 0,
            prefix: [0; PREFIX_BYTES_MAX],
            tail: bytes,
            seq: Seq::ZERO,
            accepted: None,
        }
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[..usize::from(self.prefix_len)]
    }

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        usize::from(self.prefix_len) + self.tail.len()
    }

    /// Bytes in memory while it is queued. The tail is shared, but may have no other owner.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.tail.len()
    }

    /// Adds what is left to write after `written` bytes.
    pub(super) fn slices<'a, const N: usize>(
        &'a self,
        written: usize,
        out: &mut SmallVec<[IoSlice<'a>; N]>,
    ) {
        let prefix = self.prefix();
        let (from_prefix, from_tail) =
            (written.min(prefix.len()), written.saturating_sub(prefix.len()));
        for part in [&prefix[from_prefix..], &self.tail[from_tail..]] {
            if !part.is_empty() {
                out.push(IoSlice::new(part));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        [self.prefix(), &self.tail].concat()
    }
}

#[cfg(test)]
#[path = "tests/wire_frame.rs"]
mod tests;
