//! The rules of a connection, without a socket and without a clock: events and the time go in,
//! actions come out. Everything here is tested by calling it.

use std::time::{Duration, Instant};

use delivery::StoreError;
use protocol::{
    ChannelId, ClientFrame, CloseReason, Codec, DecodeError, DeviceInfo, ErrorType, ReadTarget,
    Seq, ServerFrame, client_frame::Token,
};
use serde::Deserialize;
use tungstenite::Message;

use super::heartbeat::Heartbeat;

/// Capability of a device that cannot see WebSocket pings and wants them as frames.
const CAPABILITY_APP_PING: &str = "app_ping";

/// Client frames: 100 a second, 200 at once. A user reading fast marks perhaps ten a second; a
/// device that catches up acks once a page.
const FRAMES: Rate = Rate { every: Duration::from_millis(10), burst: 200 };

/// WebSocket pings and pongs from the client: 10 a second, 50 at once.
const CONTROLS: Rate = Rate { every: Duration::from_millis(100), burst: 50 };

/// What a client of an event stream may send behind its request without being cut off, in bytes: a
/// stray empty line, or a body that a library adds to every request. It is read and thrown away.
const STRAY_BYTES_MAX: u16 = 4 << 10;

/// Longest part of an unknown frame type that is given back in `error.ref`, in bytes.
const REF_BYTES_MAX: usize = 64;

/// Longest lifetime of a token that is told apart from "for ever"; a sum with [`Instant`] must not
/// overflow.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

struct Rate {
    every: Duration,
    burst: u32,
}

/// A token bucket in one instant (GCRA): when it will be empty again.
struct Bucket {
    empty_at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, rate: &Rate) -> bool {
        let empty_at = self.empty_at.max(now);
        if empty_at - now > rate.every * (rate.burst - 1) {
            return false;
        }
        self.empty_at = empty_at + rate.every;
        true
    }
}

/// What to do about a client's message.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an action is performed and dropped at once")]
pub(super) enum Action {
    /// Nothing.
    None,
    /// Answer, and stay.
    Reply(ServerFrame),
    /// The device said what it is.
    Device(DeviceInfo),
    /// Everything up to here arrived.
    Ack(Seq),
    /// Messages were read.
    Read(ReadTarget),
    /// Send again from here.
    Sync(Seq),
    /// Be in a channel, and see who else is.
    Join(ChannelId),
    /// Not any more.
    Leave(ChannelId),
    /// Check this token, then [`Session::refreshed`].
    Refresh(Token),
    /// Our ping was answered after this time.
    Rtt(Duration),
    /// End.
    Close(CloseReason),
}

/// What time brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ping; by a frame of our own as well where `app` is set.
    Ping {
        /// The device named the capability.
        app: bool,
    },
    /// Say that the token ends soon.
    Warn {
        /// How long it still lives.
        left: Duration,
    },
    /// End.
    Close(CloseReason),
}

/// How long before its token ends a client is told: time for a round trip to its login service, also on a
/// bad network.
const WARN_BEFORE: Duration = Duration::from_secs(60);

/// The same for a token of a short life: a tenth of it.
fn warning(life: Duration) -> Duration {
    WARN_BEFORE.min(life / 10)
}

/// Limits of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) ping_interval: Duration,
    pub(super) stall_timeout: Duration,
}

/// One connection's rules.
pub(super) struct Session {
    heartbeat: Heartbeat,
    expires_at: Instant,
    /// When the client is to be told that its token ends; none once it was.
    warn_at: Option<Instant>,
    /// When it is as old as it may become.
    ends_at: Option<Instant>,
    frames: Bucket,
    controls: Bucket,
    app_ping: bool,
    stray_left: u16,
}

impl Session {
    /// A session that pings after `first_ping`, and then once per interval.
    pub(super) fn new(now: Instant, first_ping: Duration, token_life: Duration) -> Self {
        let life = token_life.min(TOKEN_LIFE_MAX);
        Self {
            heartbeat: Heartbeat::new(now, first_ping),
            expires_at: now + life,
            warn_at: Some(now + (life - warning(life))),
            ends_at: None,
            frames: Bucket { empty_at: now },
            controls: Bucket { empty_at: now },
            app_ping: false,
            stray_left: STRAY_BYTES_MAX,
        }
    }

    /// The same, ended at this age, where there is one.
    pub(super) fn ends_after(self, now: Instant, age: Option<Duration>) -> Self {
        Self { ends_at: age.map(|age| now + age), ..self }
    }

    /// Bytes came in, the peer made room for bytes that waited, or its kernel acknowledged some: it
    /// was alive then.
    pub(super) fn heard(&mut self, at: Instant) {
        self.heartbeat.heard(at);
    }

    /// A client said something where it has nothing to say.
    pub(super) fn on_stray_bytes(&mut self, count: usize) -> Result<(), CloseReason> {
        let left = u16::try_from(count).ok().and_then(|count| self.stray_left.checked_sub(count));
        self.stray_left = left.ok_or(CloseReason::BadFrame)?;
        Ok(())
    }

    /// The new token ends then.
    pub(super) fn refreshed(&mut self, now: Instant, token_life: Duration) {
        let life = token_life.min(TOKEN_LIFE_MAX);
        self.expires_at = now + life;
        self.warn_at = Some(now + (life - warning(life)));
    }

    pub(super) fn set_app_ping(&mut self, device: &DeviceInfo) {
        self.app_ping = device.capabilities.iter().any(|name| name == CAPABILITY_APP_PING);
    }

    /// When [`Session::due`] should be asked next.
    pub(super) fn deadline(&self, timing: Timing, waiting_since: Option<Instant>) -> Instant {
        let end = match waiting_since {
            Some(since) => since + timing.stall_timeout,
            None => self.heartbeat.silent_at(timing.ping_interval),
        };
        let end = self.ends_at.map_or(end, |ends_at| end.min(ends_at));
        let end = self.warn_at.map_or(end, |warn_at| end.min(warn_at));
        self.heartbeat.ping_at().min(self.expires_at).min(end)
    }

    /// What the time is for. `waiting_since` is how long the socket has taken nothing of what
    /// waits; while something waits, a pong may stand behind it, so silence is not counted.
    pub(super) fn due(
        &mut self,
        now: Instant,
        timing: Timing,
        waiting_since: Option<Instant>,
    ) -> Option<Due> {
        if now >= self.expires_at {
            return Some(Due::Close(CloseReason::TokenExpired));
        }
        if self.warn_at.is_some_and(|warn_at| now >= warn_at) {
            self.warn_at = None;
            return Some(Due::Warn { left: self.expires_at - now });
        }
        match waiting_since {
            Some(since) if now >= since + timing.stall_timeout => {
                return Some(Due::Close(CloseReason::NoProgress));
            }
            None if now >= self.heartbeat.silent_at(timing.ping_interval) => {
                return Some(Due::Close(CloseReason::NoHeartbeat));
            }
            _ => {}
        }
        if self.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return Some(Due::Close(CloseReason::Aged));
        }
        self.heartbeat
            .ping_due(now, timing.ping_interval)
            .then_some(Due::Ping { app: self.app_ping })
    }

    /// A WebSocket message came. The caller counts `name` of a good frame by itself.
    pub(super) fn on_message(
        &mut self,
        message: &Message,
        codec: Codec,
        now: Instant,
    ) -> (Action, Received) {
        match (message, codec) {
            (Message::Text(text), Codec::Json) => self.on_frame(text.as_bytes(), codec, now),
            (Message::Binary(bytes), Codec::MsgPack) => self.on_frame(bytes, codec, now),
            (Message::Text(_) | Message::Binary(_) | Message::Frame(_), _) => {
                (Action::Close(CloseReason::BadFrame), Received::Invalid)
            }
            (Message::Ping(_), _) => (self.on_control(now), Received::Control),
            (Message::Pong(_), _) => match self.heartbeat.pong(now) {
                Some(rtt) => (Action::Rtt(rtt), Received::Control),
                None => (self.on_control(now), Received::Control),
            },
            (Message::Close(_), _) => (Action::Close(CloseReason::ClientClosed), Received::Control),
        }
    }

    fn on_control(&mut self, now: Instant) -> Action {
        if self.controls.take(now, &CONTROLS) {
            Action::None
        } else {
            Action::Close(CloseReason::TooManyFrames)
        }
    }

    fn on_frame(&mut self, bytes: &[u8], codec: Codec, now: Instant) -> (Action, Received) {
        if !self.frames.take(now, &FRAMES) {
            return (Action::Close(CloseReason::TooManyFrames), Received::Invalid);
        }
        let frame = match codec.decode_client(bytes) {
            Ok(frame) => frame,
            Err(error) => return (refuse(&error, bytes, codec), Received::Invalid),
        };
        let name = frame.name();
        let action = match frame {
            ClientFrame::Ping(_) => Action::Reply(ServerFrame::Pong),
            ClientFrame::Pong(_) => Action::None,
            ClientFrame::Device(device) => Action::Device(device),
            ClientFrame::Ack { seq } => Action::Ack(seq),
            ClientFrame::Read(target) => Action::Read(target),
            ClientFrame::Sync { since } => Action::Sync(since),
            ClientFrame::Join { channel_id } => Action::Join(channel_id),
            ClientFrame::Leave { channel_id } => Action::Leave(channel_id),
            ClientFrame::Refresh { token } => Action::Refresh(token),
        };
        (action, Received::Frame(name))
    }
}

/// What was received, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A frame of ours.
    Frame(&'static str),
    /// A WebSocket control frame.
    Control,
    /// Anything else.
    Invalid,
}

/// An `error` frame.
pub(super) fn error_frame(
    kind: ErrorType,
    message: String,
    reference: Option<String>,
) -> ServerFrame {
    ServerFrame::Error { kind, message, reference }
}

/// The answer to a frame that the store could not act on.
pub(super) fn refused_by_store(error: &StoreError, frame: &str) -> ServerFrame {
    let kind = match error {
        StoreError::NotFound => ErrorType::NotFound,
        StoreError::Conflict(_) => ErrorType::Conflict,
        StoreError::Limit(_) => ErrorType::Invalid,
        StoreError::VersionConflict(_) => ErrorType::VersionConflict,
        StoreError::Busy(_)
        | StoreError::NotWritable(_)
        | StoreError::Closing
        | StoreError::KeyTaken
        | StoreError::Raced
        | StoreError::Damaged(_) => ErrorType::Unavailable,
    };
    error_frame(kind, error.to_string(), Some(frame.to_owned()))
}

/// What is no frame at all ends the connection: the client speaks something else. A frame that is
/// unknown or has wrong fields is answered, so that a newer client can talk to an older server.
fn refuse(error: &DecodeError, bytes: &[u8], codec: Codec) -> Action {
    let close = match error {
        DecodeError::TooBig => Some(CloseReason::TooBig),
        DecodeError::TooDeep | DecodeError::Trailing => Some(CloseReason::BadFrame),
        DecodeError::Json(error) => match error.classify() {
            serde_json::error::Category::Data => None,
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => Some(CloseReason::BadFrame),
        },
        DecodeError::MsgPack(error) => match error {
            rmp_serde::decode::Error::InvalidMarkerRead(_)
            | rmp_serde::decode::Error::InvalidDataRead(_)
            | rmp_serde::decode::Error::DepthLimitExceeded => Some(CloseReason::BadFrame),
            _ => None,
        },
    };
    match close {
        Some(reason) => Action::Close(reason),
        None => Action::Reply(error_frame(
            ErrorType::Invalid,
            error.to_string(),
            frame_type(bytes, codec),
        )),
    }
}

/// The type of a frame that could not be read as a whole.
fn frame_type(bytes: &[u8], codec: Codec) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        name: String,
    }
    let named: Named = match codec {
        Codec::Json => serde_json::from_slice(bytes).ok()?,
        Codec::MsgPack => rmp_serde::from_slice(bytes).ok()?,
    };
    let mut name = named.name;
    name.truncate(name.floor_char_boundary(REF_BYTES_MAX));
    Some(name)
}

#[cfg(test)]
#[path = "tests/session.rs"]
mod tests;
