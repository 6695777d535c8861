//! Frames on their way out, ready for `writev`.
//!
//! They do not go through tungstenite: it would copy each payload into a buffer of the connection,
//! which keeps the size of the largest burst for ever. A frame here is a small prefix (what the
//! transport wants first, and the recipient's half) and a tail that all recipients share.

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;
use delivery::store::{Accepted, Change, StatusChange, Stored};
use protocol::{CloseReason, Codec, MessageId, Seq, ServerFrame, Status, StatusUpdate, Time};
use smallvec::SmallVec;

use super::framing::{EventFields, Framing, Prefix};

/// What a frame is, for metrics and for what may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Message,
    StatusUpdate,
    Welcome,
    SyncComplete,
    ResyncRequired,
    Presence,
    TokenExpiring,
    Ping,
    Pong,
    Error,
    Disconnect,
    /// WebSocket ping, pong and close; the head and the heartbeats of an event stream.
    Control,
}

impl FrameKind {
    pub(super) const ALL: [Self; 12] = [
        Self::Message,
        Self::StatusUpdate,
        Self::Welcome,
        Self::SyncComplete,
        Self::ResyncRequired,
        Self::Presence,
        Self::TokenExpiring,
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
            Self::TokenExpiring => "token_expiring",
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
            ServerFrame::TokenExpiring { .. } => Self::TokenExpiring,
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

/// A frame on its way out.
#[derive(Clone)]
pub(super) struct WireFrame {
    pub(super) kind: FrameKind,
    prefix: Prefix,
    tail: Bytes,
    /// What ends it: an empty line behind an event.
    end: &'static [u8],
    /// Position of a change.
    pub(super) seq: Seq,
    /// When the store was asked, on live changes.
    pub(super) accepted: Option<Accepted>,
    /// When it must not be shown any more, and what it would be then.
    pub(super) expires: Option<Arc<Expires>>,
}

/// See [`WireFrame::expires`].
pub(super) struct Expires {
    at: Time,
    id: MessageId,
    framing: Framing,
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// Ends the data's line and, being empty, the event.
const EVENT_END: &[u8] = b"\n\n";

/// A comment: clients pass over it, proxies and kernels see a connection in use.
const EVENT_STREAM_HEARTBEAT: &[u8] = b": ping\n\n";

/// Slices of one frame at most.
pub(super) const FRAME_SLICES_MAX: usize = 3;

impl WireFrame {
    fn new(
        kind: FrameKind,
        framing: Framing,
        fields: EventFields,
        head: &[u8],
        tail: Bytes,
    ) -> Self {
        let payload = head.len() + tail.len();
        let (mut prefix, end) = match framing {
            Framing::WebSocket(Codec::Json) => (Prefix::websocket(TEXT, payload), &[][..]),
            Framing::WebSocket(Codec::MsgPack) => (Prefix::websocket(BINARY, payload), &[][..]),
            Framing::EventStream => (Prefix::event(kind.label(), fields), EVENT_END),
        };
        prefix.put(head);
        Self { kind, prefix, tail, end, seq: Seq::ZERO, accepted: None, expires: None }
    }

    fn control(prefix: Prefix, tail: Bytes) -> Self {
        let kind = FrameKind::Control;
        Self { kind, prefix, tail, end: &[], seq: Seq::ZERO, accepted: None, expires: None }
    }

    /// A change of an inbox. A message that has expired by `now` is replaced at its place; a `silent` one is
    /// not to ring.
    pub(super) fn change(stored: &Stored, framing: Framing, now: Time, silent: bool) -> Self {
        let mut frame = match &stored.change {
            Change::Message { body, .. } if body.expired(now) => {
                let at = body.expire_at().unwrap_or(now);
                let change = StatusChange::new(body.id().clone(), Status::Expired, at);
                Self::status(stored.seq, &change, framing)
            }
            Change::Message { state, body } => {
                let split = framing.codec().encode_message(stored.seq, silent, state, body);
                let fields = EventFields::at(stored.seq);
                let head = split.head.as_slice();
                let mut frame = Self::new(FrameKind::Message, framing, fields, head, split.tail);
                frame.expires = body
                    .expire_at()
                    .map(|at| Arc::new(Expires { at, id: body.id().clone(), framing }));
                frame
            }
            Change::Status(change) => Self::status(stored.seq, change, framing),
        };
        frame.seq = stored.seq;
        frame.accepted = stored.accepted.clone();
        frame
    }

    /// What stands in its place if it has expired.
    pub(super) fn expired(&self, now: Time) -> Option<Self> {
        let Expires { at, id, framing } = &**self.expires.as_ref().filter(|it| it.at <= now)?;
        let change = StatusChange::new(id.clone(), Status::Expired, *at);
        let mut frame = Self::status(self.seq, &change, *framing);
        frame.seq = self.seq;
        frame.accepted = self.accepted.clone();
        Some(frame)
    }

    fn status(seq: Seq, change: &StatusChange, framing: Framing) -> Self {
        let data = StatusUpdate {
            message_id: change.message_id.clone(),
            status: change.status,
            device_id: change.device.clone(),
            at: change.at,
            action: change.action.clone(),
        };
        Self::server(&ServerFrame::StatusUpdate { seq, data }, framing)
    }

    /// Any other frame.
    pub(super) fn server(frame: &ServerFrame, framing: Framing) -> Self {
        Self::server_with(frame, EventFields::of(frame), framing)
    }

    /// Any other frame, with what is to stand beside it where it becomes an event.
    pub(super) fn server_with(frame: &ServerFrame, fields: EventFields, framing: Framing) -> Self {
        Self::new(FrameKind::of(frame), framing, fields, &[], framing.codec().encode(frame))
    }

    /// What a heartbeat sends. A WebSocket ping has no payload: one is out at a time, so a pong
    /// needs no name.
    pub(super) fn ping(framing: Framing) -> Self {
        match framing {
            Framing::WebSocket(_) => Self::control(Prefix::websocket(PING, 0), Bytes::new()),
            Framing::EventStream => Self::raw(Bytes::from_static(EVENT_STREAM_HEARTBEAT)),
        }
    }

    /// A close frame, where there is one: a stream of events just ends.
    pub(super) fn close(reason: CloseReason, framing: Framing) -> Option<Self> {
        match framing {
            Framing::WebSocket(_) => {
                let mut payload = Vec::with_capacity(2 + reason.text().len());
                payload.extend_from_slice(&reason.code().to_be_bytes());
                payload.extend_from_slice(reason.text().as_bytes());
                Some(Self::control(Prefix::websocket(CLOSE, payload.len()), payload.into()))
            }
            Framing::EventStream => None,
        }
    }

    /// Bytes that need nothing around them: tungstenite's answers to pings and closes, the head of
    /// an HTTP answer.
    pub(super) fn raw(bytes: Bytes) -> Self {
        Self::control(Prefix::EMPTY, bytes)
    }

    fn parts(&self) -> [&[u8]; FRAME_SLICES_MAX] {
        [self.prefix.as_slice(), &self.tail, self.end]
    }

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        self.prefix.as_slice().len() + self.tail.len() + self.end.len()
    }

    /// Bytes in memory while it is queued. The tail is shared, but may have no other owner.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.tail.len()
    }

    /// Adds what is left to write after `written` bytes.
    pub(super) fn slices<'a, const N: usize>(
        &'a self,
        mut written: usize,
        out: &mut SmallVec<[IoSlice<'a>; N]>,
    ) {
        for part in self.parts() {
            let skipped = written.min(part.len());
            written -= skipped;
            if skipped < part.len() {
                out.push(IoSlice::new(&part[skipped..]));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

#[cfg(test)]
#[path = "tests/wire_frame.rs"]
mod tests;
