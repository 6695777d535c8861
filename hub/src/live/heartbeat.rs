//! Finds peers that vanished without a word.
//!
//! The server pings at a steady pace and takes any byte as life; from an event stream's client,
//! which has nothing to say, its kernel's acknowledgements. After one interval and
//! [`PONG_WAIT`] of silence the peer is gone: a ping was then unanswered for that long at least.

use std::time::{Duration, Instant};

/// How long a peer may take to answer, beyond the interval in which it was pinged. With the second
/// of the goodbye, a peer that vanished is closed within the interval and 8 s (contract §6).
pub(super) const PONG_WAIT: Duration = Duration::from_secs(7);

/// One connection's heartbeat.
pub(super) struct Heartbeat {
    ping_at: Instant,
    heard_at: Instant,
    /// When the unanswered ping went out.
    pinged_at: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, first_ping: Duration) -> Self {
        Self { ping_at: now + first_ping, heard_at: now, pinged_at: None }
    }

    pub(super) const fn ping_at(&self) -> Instant {
        self.ping_at
    }

    /// When silence has lasted too long.
    pub(super) fn silent_at(&self, interval: Duration) -> Instant {
        self.heard_at + interval + PONG_WAIT
    }

    /// There was life, perhaps a while ago.
    pub(super) fn heard(&mut self, at: Instant) {
        self.heard_at = self.heard_at.max(at);
    }

    /// The time the answer took; none if nobody asked.
    pub(super) fn pong(&mut self, now: Instant) -> Option<Duration> {
        self.pinged_at.take().map(|at| now.saturating_duration_since(at))
    }

    /// Whether to ping now. A machine that slept through several intervals pings once.
    pub(super) fn ping_due(&mut self, now: Instant, interval: Duration) -> bool {
        if now < self.ping_at {
            return false;
        }
        self.ping_at += interval;
        if self.ping_at <= now {
            self.ping_at = now + interval;
        }
        self.pinged_at = Some(now);
        true
    }
}
