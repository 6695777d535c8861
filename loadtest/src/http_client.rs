//! Keep-alive HTTP/1.1 connections that POST sends: one request in flight on each, requests written
//! from prepared parts, answers read to their status and length.

mod compose;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
};

use anyhow::{Context, Result};
use mio::{Interest, Registry, Token, net::TcpStream};

use self::compose::Composer;
use crate::{
    checker::{Checker, Outcome},
    clock,
    target::Targets,
    timings::Timings,
    users::Users,
    ws_client::answer_head,
};

/// Most requests that wait for a free connection. A schedule that is further behind stands still;
/// its sends keep their scheduled times, so the wait shows in the latencies.
const WAITING_MAX: usize = 100_000;
/// Tokens of HTTP connections begin here; below are sockets.
pub(crate) const TOKEN_BASE: usize = 1 << 32;
/// Answers parsed whole: the first ones, then every so many.
const PARSED_FIRST: u64 = 4;
const PARSED_EVERY: u64 = 1_000;
/// Most bytes of an answer's body: a batch of 1,000 results is some 70 KB.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message to its recipients.
    Send,
    /// One request with many messages.
    Batch,
    /// One message to everybody.
    All,
}

/// A request to make: the sends `first..first + count`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// What is posted.
    pub(crate) shape: Shape,
    /// Its first send.
    pub(crate) first: u64,
    /// How many sends; more than one in a batch only.
    pub(crate) count: u32,
}

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct PostStats {
    /// Answers by status.
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Connections that broke with a request in flight.
    pub(crate) broken: u64,
    /// Sends accepted.
    pub(crate) accepted: u64,
    /// The first answer that was no success, shortened.
    pub(crate) first_error: Option<String>,
}

struct Conn {
    /// How often it was connected.
    tries: u32,
    stream: Option<TcpStream>,
    job: Option<Job>,
    out: Vec<u8>,
    written: usize,
    partial: Vec<u8>,
}

/// The pool.
pub(crate) struct Http {
    conns: Vec<Conn>,
    idle: Vec<usize>,
    waiting: VecDeque<Job>,
    composer: Composer,
    targets: Targets,
    answers: u64,
    /// What came of the requests.
    pub(crate) stats: PostStats,
}

impl Http {
    pub(crate) fn new(
        targets: Targets,
        connections: u32,
        authorization: &str,
        run: u32,
        content_bytes: usize,
    ) -> Self {
        Self {
            conns: (0..connections)
                .map(|_| Conn {
                    stream: None,
                    tries: 0,
                    job: None,
                    out: Vec::new(),
                    written: 0,
                    partial: Vec::new(),
                })
                .collect(),
            idle: (0..connections as usize).rev().collect(),
            waiting: VecDeque::new(),
            composer: Composer::new(&targets.first().authority, authorization, run, content_bytes),
            targets,
            answers: 0,
            stats: PostStats::default(),
        }
    }

    /// Connections without a request.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len().saturating_sub(self.waiting.len())
    }

    /// Whether a schedule may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.idle.len() == self.conns.len()
    }

    /// Posts the job, now or when a connection is free.
    pub(crate) fn submit(
        &mut self,
        job: Job,
        users: &Users,
        checker: &mut Checker,
        registry: &Registry,
    ) -> Result<()> {
        self.waiting.push_back(job);
        self.dispatch(users, checker, registry)
    }

    fn dispatch(
        &mut self,
        users: &Users,
        checker: &mut Checker,
        registry: &Registry,
    ) -> Result<()> {
        while let (Some(&job), Some(&number)) = (self.waiting.front(), self.idle.last()) {
            self.waiting.pop_front();
            self.idle.pop();
            let conn = &mut self.conns[number];
            if conn.stream.is_none() {
                let target = self.targets.pick(number, conn.tries);
                conn.tries += 1;
                let mut stream = target.connect(0, None).context("connecting for a POST")?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut stream, Token(TOKEN_BASE + number), interest)?;
                conn.stream = Some(stream);
            }
            conn.out.clear();
            conn.written = 0;
            self.composer.compose(job, users, checker, &mut conn.out);
            conn.job = Some(job);
            let now = clock::now();
            for send in job.first..job.first + u64::from(job.count) {
                checker.sent(send, now);
            }
            if !conn.flush() {
                self.broke(number, checker, now);
            }
        }
        Ok(())
    }

    /// The poll reported a connection. `until_end`: the peer has closed, so read to the end.
    #[expect(clippy::too_many_arguments, reason = "the loop's parts, borrowed one by one")]
    pub(crate) fn on_event(
        &mut self,
        number: usize,
        buffer: &mut [u8],
        users: &Users,
        checker: &mut Checker,
        timings: &mut Timings,
        registry: &Registry,
        until_end: bool,
    ) -> Result<()> {
        if !self.conns[number].flush() {
            self.broke(number, checker, clock::now());
        }
        while let Some(stream) = &mut self.conns[number].stream {
            match stream.read(buffer) {
                Ok(0) => self.broke(number, checker, clock::now()),
                Ok(read) => {
                    let now = clock::now();
                    if self.answer(number, &buffer[..read], now, checker, timings).is_none() {
                        self.broke(number, checker, now);
                    } else if read < buffer.len() && !until_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.broke(number, checker, clock::now()),
            }
        }
        self.dispatch(users, checker, registry)
    }

    /// Takes bytes of an answer; `None` when they are none.
    fn answer(
        &mut self,
        number: usize,
        bytes: &[u8],
        now: u64,
        checker: &mut Checker,
        timings: &mut Timings,
    ) -> Option<()> {
        let conn = &mut self.conns[number];
        let mut partial = std::mem::take(&mut conn.partial);
        let whole = if partial.is_empty() {
            bytes
        } else {
            partial.extend_from_slice(bytes);
            &partial
        };
        let head = answer_head(whole).ok()?;
        let end = match &head {
            Some(head) => head.length + head.content_length?,
            None => usize::MAX,
        };
        if whole.len() < end {
            if whole.len() > ANSWER_BYTES_MAX {
                return None;
            }
            conn.partial = if partial.is_empty() { bytes.to_vec() } else { partial };
            return Some(());
        }
        let head = head?;
        let job = conn.job.take()?;
        let body = &whole[head.length..end];
        self.settle(job, head.status, body, now, checker, timings);
        if head.closes {
            self.conns[number].stream = None;
        }
        self.idle.push(number);
        Some(())
    }

    fn settle(
        &mut self,
        job: Job,
        status: u16,
        body: &[u8],
        now: u64,
        checker: &mut Checker,
        timings: &mut Timings,
    ) {
        self.answers += 1;
        *self.stats.by_status.entry(status).or_default() += 1;
        if job.first >= timings.measure_from {
            let send = checker.send(job.first);
            timings.post.record(now.saturating_sub(send.sent));
            timings.post_scheduled.record(now.saturating_sub(send.scheduled));
        }
        let sampled = self.answers <= PARSED_FIRST || self.answers.is_multiple_of(PARSED_EVERY);
        let single = match status {
            200..=299 => Outcome::Accepted,
            500.. => Outcome::Unknown,
            _ => Outcome::Refused,
        };
        if status != 200 {
            self.note_error(status, body);
        }
        // Counting the word is enough to know that a whole batch was taken; only otherwise, and for
        // a sample, is the answer parsed.
        let all_taken = match job.shape {
            Shape::Batch => {
                memchr::memmem::find_iter(body, br#""code":200"#).count() == job.count as usize + 1
            }
            Shape::Send | Shape::All => true,
        };
        if single != Outcome::Accepted || (all_taken && !sampled) {
            return self.settle_all(job, single, now, checker);
        }
        let Ok(envelope) = serde_json::from_slice::<serde_json::Value>(body) else {
            checker.corrupt(0, "an answer that is no JSON");
            return self.settle_all(job, single, now, checker);
        };
        match job.shape {
            Shape::Send | Shape::All => {
                if !envelope["data"]["message_id"].is_string() {
                    checker.corrupt(0, "an answer without data.message_id");
                }
                self.settle_all(job, single, now, checker);
            }
            Shape::Batch => {
                let results = envelope["data"]["results"].as_array();
                for index in 0..job.count {
                    let result = results.and_then(|list| list.get(index as usize));
                    let outcome = match result.and_then(|result| result["code"].as_u64()) {
                        Some(200) => Outcome::Accepted,
                        Some(400..500) => Outcome::Refused,
                        Some(_) => Outcome::Unknown,
                        None => {
                            checker.corrupt(0, "a batch answer with too few results");
                            Outcome::Unknown
                        }
                    };
                    if outcome != Outcome::Accepted {
                        let text = result.map(ToString::to_string).unwrap_or_default();
                        self.note_error(status, text.as_bytes());
                    }
                    let one = Job { first: job.first + u64::from(index), count: 1, ..job };
                    self.settle_all(one, outcome, now, checker);
                }
            }
        }
    }

    fn settle_all(&mut self, job: Job, outcome: Outcome, now: u64, checker: &mut Checker) {
        for send in job.first..job.first + u64::from(job.count) {
            checker.answered(send, outcome, now);
        }
        if outcome == Outcome::Accepted {
            self.stats.accepted += u64::from(job.count);
        }
    }

    fn note_error(&mut self, status: u16, body: &[u8]) {
        self.stats.first_error.get_or_insert_with(|| {
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            format!("{status}: {text}")
        });
    }

    fn broke(&mut self, number: usize, checker: &mut Checker, now: u64) {
        let conn = &mut self.conns[number];
        conn.stream = None;
        conn.partial = Vec::new();
        conn.out.clear();
        conn.written = 0;
        if let Some(job) = conn.job.take() {
            self.stats.broken += 1;
            self.idle.push(number);
            self.settle_all(job, Outcome::Unknown, now, checker);
        }
    }
}

impl Conn {
    /// Writes what it can; false when the connection is broken.
    fn flush(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}
