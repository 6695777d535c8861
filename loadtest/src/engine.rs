//! The one loop: polls every socket, hands what came to its owner, and lets the scenario go on.
//!
//! One thread and no runtime, on purpose: it takes at most one of the server's cores, and
//! everything that a delivery touches is in one place without locks.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};

use crate::{
    checker::Checker,
    clock::{self, Alarm, MS},
    http_client::{ANSWER_BYTES_MAX, Http, Job, Shape, TOKEN_BASE},
    progress::Progress,
    sockets::{Desk, Notice, Sockets},
    target::Targets,
    timings::Timings,
    users::Users,
    ws_client::FRAME_BYTES_MAX,
};

/// Read buffer in bytes, shared by all: a whole frame and as much again. Only what a read fills is
/// ever touched.
const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Most events taken from the kernel at once.
const EVENTS_MAX: usize = 1_024;
/// Longest wait, so that Ctrl-C and progress are seen.
const WAIT_MAX_NS: u64 = 100 * MS;
const ALARM: Token = Token(usize::MAX - 1);

/// What a run is made of.
pub(crate) struct Parts {
    pub(crate) targets: Targets,
    pub(crate) users: Users,
    pub(crate) sockets: Sockets,
    pub(crate) http: Http,
    pub(crate) checker: Checker,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) deadline: u64,
    pub(crate) progress: Progress,
}

/// The loop and all it turns.
pub(crate) struct Engine {
    poll: Poll,
    events: Events,
    alarm: Alarm,
    buffer: Vec<u8>,
    pub(crate) targets: Targets,
    /// Who is online.
    pub(crate) users: Users,
    /// The WebSocket connections.
    pub(crate) sockets: Sockets,
    /// The POST connections.
    pub(crate) http: Http,
    /// What was sent and what came.
    pub(crate) checker: Checker,
    /// Latencies of the phase.
    pub(crate) timings: Timings,
    notices: Vec<Notice>,
    stop: Arc<AtomicBool>,
    deadline: u64,
    progress: Progress,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        const { assert!(BUFFER_BYTES > ANSWER_BYTES_MAX) };
        let poll = Poll::new().context("epoll_create")?;
        let alarm = Alarm::new()?;
        poll.registry().register(&mut SourceFd(&alarm.raw()), ALARM, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            alarm,
            buffer: vec![0; BUFFER_BYTES],
            targets: parts.targets,
            users: parts.users,
            sockets: parts.sockets,
            http: parts.http,
            checker: parts.checker,
            timings: Timings::new(0),
            notices: Vec::new(),
            stop: parts.stop,
            deadline: parts.deadline,
            progress: parts.progress,
        })
    }

    /// Whether the run must end: Ctrl-C, or its time is up.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || clock::now() > self.deadline
    }

    /// Whether its time was up.
    pub(crate) fn timed_out(&self) -> bool {
        clock::now() > self.deadline
    }

    /// Names what is going on, for the progress line.
    pub(crate) fn phase(&mut self, name: &str) {
        self.progress.phase(name);
    }

    /// Waits until `until` at most, and handles what came.
    pub(crate) fn turn(&mut self, until: u64) -> Result<()> {
        let now = clock::now();
        self.progress.show(now, &self.checker, &self.sockets, &self.http);
        if until > now {
            self.alarm.set(until.min(now + WAIT_MAX_NS))?;
        }
        let timeout = (until <= now).then_some(std::time::Duration::ZERO);
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &self.events {
            let Token(token) = event.token();
            if event.token() == ALARM {
                continue;
            }
            let closed = event.is_read_closed() || event.is_error();
            if token >= TOKEN_BASE {
                self.http.on_event(
                    token - TOKEN_BASE,
                    &mut self.buffer,
                    &self.users,
                    &mut self.checker,
                    &mut self.timings,
                    self.poll.registry(),
                    closed,
                )?;
                continue;
            }
            let number = u32::try_from(token).expect("socket numbers are u32");
            let mut desk = Desk {
                checker: &mut self.checker,
                timings: &mut self.timings,
                notices: &mut self.notices,
                buffer: &mut self.buffer,
            };
            let readable = event.is_readable() || closed;
            self.sockets.on_event(number, readable, closed, &mut desk);
        }
        Ok(())
    }

    /// What happened to sockets since the last call.
    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Begins to connect a socket.
    pub(crate) fn connect(
        &mut self,
        number: u32,
        since: Option<u64>,
        started: u64,
        receive_buffer: Option<usize>,
    ) {
        self.sockets.connect(
            number,
            since,
            started,
            receive_buffer,
            &self.targets,
            &self.users,
            self.poll.registry(),
            &mut self.notices,
        );
    }

    /// Reads a paused socket again.
    pub(crate) fn resume(&mut self, number: u32) {
        let mut desk = Desk {
            checker: &mut self.checker,
            timings: &mut self.timings,
            notices: &mut self.notices,
            buffer: &mut self.buffer,
        };
        self.sockets.resume(number, &mut desk);
    }

    /// Posts sends, each to the neighbours it names; more than one is a batch. False when the ledger
    /// is full.
    pub(crate) fn submit(
        &mut self,
        shape: Shape,
        recipients: impl ExactSizeIterator<Item = (u32, u32)>,
        scheduled: u64,
        expected: bool,
    ) -> Result<bool> {
        let count = u32::try_from(recipients.len()).expect("a batch is small");
        if !self.checker.has_room(count) {
            return Ok(false);
        }
        let first = self.checker.sends();
        for (user, neighbours) in recipients {
            self.checker.plan(user, neighbours, scheduled, expected);
        }
        let job = Job { shape, first, count };
        self.http.submit(job, &self.users, &mut self.checker, self.poll.registry())?;
        Ok(true)
    }
}
