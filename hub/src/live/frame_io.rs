//! Frames as bytes: what goes out, ready for `writev`, and what comes in.
//!
//! Server frames do not go through tungstenite: it would copy each payload into a buffer of the
//! connection, which keeps the size of the largest burst for ever. A frame here is a small prefix
//! (RFC 6455 header and the recipient's half) and a tail that all recipients share.
//!
//! Client frames do go through tungstenite, which knows masking, fragments, UTF-8 and control
//! frames, but only while a frame is incomplete: an idle connection keeps nothing of it.

use std::{
    io::{self, IoSlice, Read, Write},
    time::Instant,
};

use bytes::Bytes;
use delivery::store::{Change, StatusChange, Stored};
use protocol::{
    CloseReason, Codec, Seq, ServerFrame, Status, StatusUpdate, Time,
    limits::CLIENT_FRAME_BYTES_MAX,
};
use smallvec::SmallVec;
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

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

/// Messages of one read; more than this many at once go to the heap.
pub(super) type Messages = SmallVec<[Message; 2]>;

/// Takes bytes, gives messages. Holds memory only while a frame or message is incomplete.
#[derive(Default)]
pub(super) struct FrameReader {
    partial: Option<Box<Partial>>,
}

struct Partial {
    context: WebSocketContext,
    boundary: Boundary,
}

impl FrameReader {
    /// Reads `chunk`; `messages` gets what is complete, and the answer is the frames that must go
    /// back (pongs, the answer to a close).
    ///
    /// # Errors
    /// [`CloseReason::TooBig`] and [`CloseReason::BadFrame`]; nothing can be read after that.
    pub(super) fn read(
        &mut self,
        chunk: &[u8],
        messages: &mut Messages,
    ) -> Result<Bytes, CloseReason> {
        let mut adapter = Adapter { input: chunk, output: Vec::new() };
        let result = match self.partial.as_mut() {
            Some(partial) => {
                partial.boundary.advance(chunk);
                drain(&mut partial.context, &mut adapter, messages)
            }
            None => {
                let mut boundary = Boundary::default();
                boundary.advance(chunk);
                let mut context = new_context(chunk.len());
                let result = drain(&mut context, &mut adapter, messages);
                if !boundary.is_whole() {
                    self.partial = Some(Box::new(Partial { context, boundary }));
                }
                result
            }
        };
        if self.partial.as_ref().is_some_and(|partial| partial.boundary.is_whole()) {
            self.partial = None;
        }
        result.map(|()| adapter.output.into())
    }
}

/// Smallest buffer of an incomplete frame, in bytes: a longer one grows to what its header says.
const PARTIAL_BYTES_MIN: usize = 256;

fn new_context(chunk_bytes: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(chunk_bytes.max(PARTIAL_BYTES_MIN))
        .write_buffer_size(0)
        // Only pongs and one close are written through it, of 127 bytes at most.
        .max_write_buffer_size(1 << 10)
        .max_message_size(Some(CLIENT_FRAME_BYTES_MAX))
        .max_frame_size(Some(CLIENT_FRAME_BYTES_MAX));
    WebSocketContext::new(Role::Server, Some(config))
}

fn drain(
    context: &mut WebSocketContext,
    adapter: &mut Adapter<'_>,
    messages: &mut Messages,
) -> Result<(), CloseReason> {
    loop {
        match context.read(adapter) {
            Ok(message) => messages.push(message),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The close was answered; what follows it is nobody's business.
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(Error::Capacity(_)) => return Err(CloseReason::TooBig),
            Err(_) => return Err(CloseReason::BadFrame),
        }
    }
}

/// Shows one chunk to tungstenite as a non-blocking socket.
struct Adapter<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl Read for Adapter<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Adapter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows frame headers only, to know whether anything is incomplete: then tungstenite's state
/// (some 500 bytes) must be kept until the rest comes.
#[derive(Default)]
struct Boundary {
    header: [u8; 14],
    have: u8,
    fragmented: bool,
    payload_left: u64,
}

impl Boundary {
    fn advance(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            if self.payload_left > 0 {
                let taken =
                    chunk.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= taken as u64;
                chunk = &chunk[taken..];
                continue;
            }
            self.header[usize::from(self.have)] = chunk[0];
            self.have += 1;
            chunk = &chunk[1..];
            if let Some(payload) = self.complete_header() {
                // Control frames may stand between the fragments of a message.
                if self.header[0] & 0x08 == 0 {
                    self.fragmented = self.header[0] & 0x80 == 0;
                }
                self.have = 0;
                self.payload_left = payload;
            }
        }
    }

    /// The payload's length, once the header is complete.
    fn complete_header(&self) -> Option<u64> {
        if self.have < 2 {
            return None;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = self.header[1] & 0x7f;
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(length),
            count => self.header[2..2 + usize::from(count)]
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        })
    }

    fn is_whole(&self) -> bool {
        self.have == 0 && self.payload_left == 0 && !self.fragmented
    }
}

#[cfg(test)]
#[path = "tests/frame_io.rs"]
mod tests;
