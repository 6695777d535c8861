//! Connects sockets: as many at a time as allowed or on a schedule, again with full jitter when
//! refused, as the clients of contract §6 do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use rand::RngExt;

use super::nanos;
use crate::{
    clock::{self, MS, SECOND},
    engine::Engine,
    sockets::Notice,
};

/// Attempts of one socket before it is given up.
const ATTEMPTS_MAX: u8 = 20;
/// Longest wait for a handshake and its backlog, before the attempt counts as failed.
const ATTEMPT_TIMEOUT_NS: u64 = 60 * SECOND;

/// Where a socket resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Without `since`: at the head.
    Head,
    /// `since=0`: everything.
    Start,
    /// After the last seq it has seen.
    Cursor,
}

/// Connects sockets.
pub(crate) struct Dialer {
    due: BinaryHeap<Reverse<(u64, u32)>>,
    attempts: Vec<u8>,
    at_a_time: u32,
    resume: Resume,
    scheduled: bool,
    backoff: u64,
    backoff_max: u64,
    /// When progress was last made, to see a server that accepts and never answers.
    moved: u64,
    in_flight: u32,
    /// Attempts by the HTTP status that refused them.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Attempts that broke.
    pub(crate) broken: u64,
    /// Sockets that were online and ended, by close code.
    pub(crate) closed: BTreeMap<u16, u64>,
    /// Sockets that were given up.
    pub(crate) given_up: u64,
    /// Receive buffer of sockets below a number.
    pub(crate) receive_buffer: Option<(u32, usize)>,
}

impl Dialer {
    /// At most `at_a_time` handshakes at once; latencies count from the connect.
    pub(crate) fn closed(sockets: u32, at_a_time: u32, resume: Resume) -> Self {
        Self {
            due: BinaryHeap::new(),
            attempts: vec![0; sockets as usize],
            at_a_time,
            resume,
            scheduled: false,
            backoff: 200 * MS,
            backoff_max: 2 * SECOND,
            moved: clock::now(),
            in_flight: 0,
            refused: BTreeMap::new(),
            broken: 0,
            closed: BTreeMap::new(),
            given_up: 0,
            receive_buffer: None,
        }
    }

    /// On a schedule, however many are under way; latencies count from the scheduled moment.
    pub(crate) fn scheduled(sockets: u32, resume: Resume) -> Self {
        Self { scheduled: true, ..Self::closed(sockets, u32::MAX, resume) }
    }

    /// With the waits of a patient client.
    pub(crate) fn with_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = nanos(first).max(1);
        self.backoff_max = nanos(max).max(1);
        self
    }

    /// All of these at once.
    pub(crate) fn dial_now(&mut self, sockets: impl Iterator<Item = u32>) {
        let now = clock::now();
        self.due.extend(sockets.map(|socket| Reverse((now, socket))));
    }

    /// This one at a moment.
    pub(crate) fn dial_at(&mut self, at: u64, socket: u32) {
        self.due.push(Reverse((at, socket)));
    }

    /// This one after a jittered wait of its first attempt.
    pub(crate) fn dial_later(&mut self, socket: u32, at_least_ms: u64) {
        let attempt = self.attempts[socket as usize].min(16);
        let window = self.backoff.saturating_mul(1 << attempt).min(self.backoff_max);
        let wait = rand::rng().random_range(0..=window) + at_least_ms * MS;
        self.due.push(Reverse((clock::now() + wait, socket)));
    }

    /// Whether all are through or given up.
    pub(crate) fn is_done(&self) -> bool {
        let stuck = self.in_flight > 0 && clock::now() > self.moved + ATTEMPT_TIMEOUT_NS;
        (self.due.is_empty() && self.in_flight == 0) || stuck
    }

    /// Begins what is due; when to come again.
    pub(crate) fn step(&mut self, engine: &mut Engine) -> u64 {
        let now = clock::now();
        while let Some(&Reverse((due, socket))) = self.due.peek() {
            if due > now {
                return due;
            }
            if self.in_flight >= self.at_a_time {
                break;
            }
            self.due.pop();
            if engine.sockets.is_there(socket) {
                continue;
            }
            let since = match self.resume {
                Resume::Head => None,
                Resume::Start => Some(0),
                Resume::Cursor => Some(engine.checker.inboxes[socket as usize].cursor),
            };
            let buffer = self.receive_buffer.filter(|(below, _)| socket < *below);
            let started = if self.scheduled { due } else { clock::now() };
            self.in_flight += 1;
            engine.connect(socket, since, started, buffer.map(|(_, bytes)| bytes));
        }
        now + SECOND
    }

    /// Hears what became of a socket.
    pub(crate) fn take(&mut self, notice: Notice) {
        self.moved = clock::now();
        match notice {
            Notice::Ready(socket) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.attempts[socket as usize] = 0;
            }
            Notice::Refused { socket, status, retry_after_s } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                *self.refused.entry(status).or_default() += 1;
                // Asking again changes nothing about a bad token.
                let again = !matches!(status, 401 | 403);
                self.again(socket, retry_after_s.unwrap_or(0) * 1_000, again);
            }
            Notice::Closed { socket, was_ready: false, after_ms, .. } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.broken += 1;
                self.again(socket, after_ms, true);
            }
            Notice::Closed { socket, was_ready: true, code, after_ms } => {
                *self.closed.entry(code).or_default() += 1;
                // Contract §6: these say "do not come back by yourself".
                let again = !matches!(code, 1000 | 1009 | 4500..=4999);
                self.again(socket, after_ms, again);
            }
        }
    }

    fn again(&mut self, socket: u32, at_least_ms: u64, again: bool) {
        let attempts = &mut self.attempts[socket as usize];
        *attempts += 1;
        if again && *attempts < ATTEMPTS_MAX {
            self.dial_later(socket, at_least_ms);
        } else {
            self.given_up += 1;
        }
    }

    /// Why sockets did not come through, in words.
    pub(crate) fn refusals(&self) -> String {
        let mut words: Vec<String> =
            self.refused.iter().map(|(status, count)| format!("{count} × HTTP {status}")).collect();
        if self.broken > 0 {
            words.push(format!("{} × connection broken", self.broken));
        }
        words.join(", ")
    }
}
