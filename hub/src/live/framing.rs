//! How frames stand on the wire: as WebSocket frames or as server-sent events. Everything before
//! it, order and catching up above all, does not know the difference.

use std::io::Write as _;

pub use protocol::Transport;
use protocol::{Codec, Seq, ServerFrame, codec::Head};

/// A transport and the encoding of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// RFC 6455.
    WebSocket(Codec),
    /// Events of WHATWG HTML §9.2. They are lines of text, so JSON only.
    EventStream,
}

impl Framing {
    /// All of them, in the order of [`Framing::index`].
    pub(super) const ALL: [Self; 3] =
        [Self::WebSocket(Codec::Json), Self::WebSocket(Codec::MsgPack), Self::EventStream];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::WebSocket(Codec::Json) => 0,
            Self::WebSocket(Codec::MsgPack) => 1,
            Self::EventStream => 2,
        }
    }

    pub(super) const fn codec(self) -> Codec {
        match self {
            Self::WebSocket(codec) => codec,
            Self::EventStream => Codec::Json,
        }
    }

    pub(super) const fn transport(self) -> Transport {
        match self {
            Self::WebSocket(_) => Transport::WebSocket,
            Self::EventStream => Transport::EventStream,
        }
    }
}

/// What a client that is told not to come back waits nevertheless, in milliseconds: a day. An
/// `EventSource` that nobody closes always comes back; two tabs of one device would else take the
/// stream from each other every few seconds.
const RETRY_NOT_WANTED_MS: u64 = 24 * 3_600 * 1_000;

/// What an event says beside its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EventFields {
    /// The position a client stands at behind this event; it comes back with it as `Last-Event-ID`.
    pub(super) id: Option<Seq>,
    /// What an `EventSource` waits before it comes back from now on, in milliseconds.
    pub(super) retry_ms: Option<u64>,
}

impl EventFields {
    /// What follows from the frame alone.
    pub(super) fn of(frame: &ServerFrame) -> Self {
        match frame {
            ServerFrame::Message { seq, .. }
            | ServerFrame::StatusUpdate { seq, .. }
            | ServerFrame::SyncComplete { seq } => Self::at(*seq),
            ServerFrame::Disconnect { reconnect, reconnect_after_ms, .. } => {
                let retry_ms = if *reconnect { *reconnect_after_ms } else { RETRY_NOT_WANTED_MS };
                Self { id: None, retry_ms: Some(retry_ms) }
            }
            ServerFrame::Welcome(_)
            | ServerFrame::ResyncRequired { .. }
            | ServerFrame::Presence { .. }
            | ServerFrame::TokenExpiring { .. }
            | ServerFrame::Ping
            | ServerFrame::Pong
            | ServerFrame::Error { .. } => Self::default(),
        }
    }

    /// An event that moves the client to `seq`.
    pub(super) const fn at(seq: Seq) -> Self {
        Self { id: Some(seq), retry_ms: None }
    }
}

/// Longest start of an event of a message: `id: `, 20 digits, `event: message`, `data: ` and three line
/// ends. Others are longer, or have a `retry:`, and no head behind.
const EVENT_START_BYTES_MAX: usize = 4 + 20 + 7 + 7 + 6 + 3;

/// What stands before what recipients share, in bytes: the longer start (RFC 6455 has 10 bytes at
/// most) and the longest head of a message.
const PREFIX_BYTES_MAX: usize = EVENT_START_BYTES_MAX + Head::CAPACITY;
const _: () = assert!(PREFIX_BYTES_MAX <= u8::MAX as usize, "the length is a byte");

const FITS: &str = "PREFIX_BYTES_MAX has room for the longest";

/// The start of a frame, without an allocation.
#[derive(Clone)]
pub(super) struct Prefix {
    len: u8,
    bytes: [u8; PREFIX_BYTES_MAX],
}

impl Prefix {
    pub(super) const EMPTY: Self = Self { len: 0, bytes: [0; PREFIX_BYTES_MAX] };

    /// RFC 6455 §5.2: FIN set, no mask from a server.
    pub(super) fn websocket(opcode: u8, payload: usize) -> Self {
        let mut prefix = Self::EMPTY;
        prefix.put(&[0x80 | opcode]);
        match (u8::try_from(payload), u16::try_from(payload)) {
            (Ok(short), _) if short < 126 => prefix.put(&[short]),
            (_, Ok(medium)) => {
                prefix.put(&[126]);
                prefix.put(&medium.to_be_bytes());
            }
            _ => {
                prefix.put(&[127]);
                prefix.put(&(payload as u64).to_be_bytes());
            }
        }
        prefix
    }

    /// An event up to its data, which has no line ends: JSON escapes them.
    pub(super) fn event(name: &str, fields: EventFields) -> Self {
        let mut prefix = Self::EMPTY;
        if let Some(retry_ms) = fields.retry_ms {
            writeln!(prefix, "retry: {retry_ms}").expect(FITS);
        }
        if let Some(id) = fields.id {
            writeln!(prefix, "id: {id}").expect(FITS);
        }
        write!(prefix, "event: {name}\ndata: ").expect(FITS);
        prefix
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect(FITS);
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::io::Write for Prefix {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut room = &mut self.bytes[usize::from(self.len)..];
        let written = room.write(bytes)?;
        self.len += u8::try_from(written).expect("PREFIX_BYTES_MAX is below 256");
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
