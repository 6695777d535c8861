//! What a connection still has to write, and where its reader stands.
//!
//! Two rules make memory bounded and delivery complete:
//!
//! * A live frame is written at once where the socket takes it. What it does not take waits, up to
//!   the limit of its queue; over that, all waiting changes are dropped and the connection reads
//!   them from the store again when the socket has room ([`Mode::CatchingUp`]).
//! * Changes enter strictly in seq order: `last` is the position of the last one that entered, a
//!   lower one is a repeat, a higher one than the next is a hole, for which the store is read.
//!
//! Going live is decided here, under the lock that [`Outbox::offer`] takes: either an offered
//! change was seen before (then the store is read once more) or it comes after and is written.

use std::{io, time::Instant};

use protocol::{CloseReason, Seq, ServerFrame};

use super::{
    framing::Framing,
    metrics::{CatchUpReason, LiveMetrics, Replay},
    queue::{Io, Queue, Span, write, write_now},
    unacked::Unacked,
    wire_frame::WireFrame,
};

/// Memory of other frames than changes (errors, pongs) that may wait, in bytes. A client that asks
/// and asks and does not read the answers is closed.
const REPLY_BYTES_MAX: usize = 64 << 10;

/// Memory of presence that may wait, in bytes. Beyond it changes are not taken: the reader gets a
/// new list when it has read what waits. One list fits whatever its size, which its maker limits.
const PRESENCE_BYTES_MAX: usize = 64 << 10;

/// How changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// From the store; offers only move `head_seen`.
    CatchingUp,
    /// By [`Outbox::offer`].
    Live,
    /// Not any more.
    Closed,
}

/// What the connection's task should do for a connection that catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is live, or the socket has enough to do.
    Wait,
    /// It went live just now; a frame may have been queued.
    WentLive,
    /// Read the changes after this position and bring them to [`Outbox::accept_page`].
    Read(PageRequest),
}

/// A page that is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    /// After this position.
    pub(super) since: Seq,
    head_seen: Seq,
}

/// A page as it was read, encoded.
pub(super) struct PageFrames {
    pub(super) frames: Vec<WireFrame>,
    pub(super) head: Seq,
    pub(super) min_seq: Seq,
}

/// What a flush left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing waits.
    Empty {
        /// See [`Flushed::More`].
        unblocked: bool,
    },
    /// The socket takes no more.
    Blocked,
    /// One `writev` went through, there is more. The lock is let go in between, so that a
    /// publisher waits for one syscall at most.
    More {
        /// The socket had been full before: its peer made room, so it lives.
        unblocked: bool,
    },
}

/// The client must go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyReplies;

/// See the module's doc. An idle one has no queue.
pub(super) struct Outbox {
    mode: Mode,
    /// A `sync_complete` is due when this connection goes live, and what it will stand for.
    sync_owed: Option<Replay>,
    close: Option<CloseReason>,
    /// The last change that entered.
    last: Seq,
    /// The highest position heard of; only kept up while not live.
    head_seen: Seq,
    queue: Option<Box<Queue>>,
    unacked: Unacked,
}

impl Outbox {
    /// An outbox that catches up from the beginning and waits for [`Outbox::start`].
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::CatchingUp,
            sync_owed: None,
            close: None,
            last: Seq::ZERO,
            head_seen: Seq::ZERO,
            queue: None,
            unacked: Unacked::default(),
        }
    }

    /// Sets the first position, and the head as it was when the watch began.
    pub(super) fn start(&mut self, since: Seq, head: Seq) {
        self.last = since;
        self.head_seen = self.head_seen.max(head);
        self.sync_owed = Some(Replay::Complete);
    }

    pub(super) const fn last(&self) -> Seq {
        self.last
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Since when the socket took nothing of what waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.queue.as_ref().map(|queue| queue.progress_at)
    }

    /// Memory of what waits.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Asks the connection's task to end; the first reason counts.
    pub(super) fn request_close(&mut self, reason: CloseReason) {
        self.close.get_or_insert(reason);
    }

    pub(super) const fn close_requested(&self) -> Option<CloseReason> {
        self.close
    }

    /// Takes contiguous changes of the inbox as they are published. Answers whether the task must
    /// be woken, and what went out at once.
    pub(super) fn offer(&mut self, frames: &[WireFrame], io: Io<'_>) -> (bool, Option<Span>) {
        let (Some(first), Some(newest)) = (frames.first(), frames.last()) else {
            return (false, None);
        };
        match self.mode {
            Mode::Closed => return (false, None),
            Mode::CatchingUp => {
                // No wake: the task is reading a page or waiting for the socket, and looks at
                // this before it goes live.
                self.head_seen = self.head_seen.max(newest.seq);
                return (false, None);
            }
            Mode::Live => {}
        }
        if newest.seq <= self.last {
            return (false, None);
        }
        if first.seq > self.last.next() {
            self.catch_up(newest.seq);
            io.metrics.catchups(CatchUpReason::Hole).increment(1);
            return (true, None);
        }
        let before = self.last;
        let frames = &frames[usize::try_from(before.0 + 1 - first.seq.0).unwrap_or(usize::MAX)..];
        self.last = newest.seq;
        if self.queue.is_none() {
            let mut delivered = None;
            match write_now(frames, &mut self.unacked, io) {
                Ok(None) => return (false, Some((before, newest.seq))),
                Ok(Some(unwritten)) => {
                    let last = unwritten.whole.checked_sub(1).map(|last| frames[last].seq);
                    delivered = last.map(|last| (before, last));
                    let mut queue = Queue::new(io.now);
                    queue.front_written = unwritten.written;
                    queue.blocked = unwritten.blocked;
                    self.queue = Some(Box::new(queue));
                    self.push_changes(&frames[unwritten.whole..], io);
                }
                Err(_) => self.request_close(CloseReason::ConnectionLost),
            }
            return (true, delivered);
        }
        self.push_changes(frames, io);
        // Something waited, so the task waits for the socket already.
        (self.mode == Mode::CatchingUp, None)
    }

    /// Takes presence, if what waits of it leaves room: all frames or none. A whole list only where
    /// nothing of it waits.
    pub(super) fn offer_presence(&mut self, frames: &[WireFrame], whole: bool, io: Io<'_>) -> bool {
        if self.mode == Mode::Closed {
            return true;
        }
        let waiting = self.queue.as_ref().map_or(0, |queue| queue.presence_bytes);
        let more: usize = frames.iter().map(WireFrame::weight).sum();
        if if whole { waiting > 0 } else { waiting + more > PRESENCE_BYTES_MAX } {
            return false;
        }
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(io.now)));
        for frame in frames {
            queue.push(frame.clone(), io.metrics);
        }
        true
    }

    fn push_changes(&mut self, frames: &[WireFrame], io: Io<'_>) {
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(io.now)));
        for frame in frames {
            queue.push(frame.clone(), io.metrics);
        }
        if queue.bytes > io.limits.queue_bytes {
            let newest = self.last;
            self.drop_changes(io.metrics);
            self.catch_up(newest);
            io.metrics.catchups(CatchUpReason::Lagging).increment(1);
        }
    }

    fn catch_up(&mut self, head: Seq) {
        self.mode = Mode::CatchingUp;
        self.head_seen = self.last.max(head);
    }

    /// Drops the changes of which no byte is written, and sets `last` back to before the first of
    /// them. A `sync_complete` among them would now be a lie: it is owed again.
    fn drop_changes(&mut self, metrics: &LiveMetrics) {
        let Some(queue) = self.queue.as_mut() else { return };
        let dropped = queue.drop_changes(metrics);
        if dropped.sync_complete {
            self.sync_owed = Some(Replay::Complete);
        }
        if let Some(first) = dropped.first {
            self.last = Seq(first.0 - 1);
        }
        if queue.frames.is_empty() {
            self.queue = None;
        }
    }

    /// Queues a frame that is no change.
    pub(super) fn reply(&mut self, frame: WireFrame, io: Io<'_>) -> Result<(), TooManyReplies> {
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(io.now)));
        queue.push(frame, io.metrics);
        if queue.reply_bytes > REPLY_BYTES_MAX { Err(TooManyReplies) } else { Ok(()) }
    }

    /// The client confirmed everything up to here, as far as it was ever sent. Answers how far that is.
    pub(super) fn acked(&mut self, seq: Seq, now: Instant, metrics: &LiveMetrics) -> Seq {
        // What was never sent cannot have arrived: a cursor beyond it would skip messages later.
        let seq = seq.min(self.last);
        self.unacked.acked(seq, now, &metrics.ack);
        seq
    }

    /// Starts again from a position the client named.
    pub(super) fn sync(&mut self, since: Seq, metrics: &LiveMetrics) {
        if self.mode == Mode::Closed {
            return;
        }
        let head = self.last.max(self.head_seen);
        self.drop_changes(metrics);
        self.unacked.clear();
        self.mode = Mode::CatchingUp;
        self.last = since;
        self.head_seen = head;
        self.sync_owed = Some(Replay::Complete);
    }

    /// The position check found the store ahead. Answers whether that is news.
    pub(super) fn fell_behind(&mut self, head: Seq) -> bool {
        if self.mode != Mode::Live || self.last >= head {
            return false;
        }
        self.catch_up(head);
        true
    }

    /// The position check found the store behind: it is read once more, and decides. Answers whether that
    /// is news.
    pub(super) fn went_ahead(&mut self, head: Seq) -> bool {
        if self.mode != Mode::Live || self.last <= head {
            return false;
        }
        self.mode = Mode::CatchingUp;
        self.head_seen = head;
        true
    }

    /// The inbox has reached `head`, and what changed stands in the store only. Answers whether the task
    /// must be woken.
    pub(super) fn reached(&mut self, head: Seq) -> bool {
        if self.mode == Mode::CatchingUp {
            self.head_seen = self.head_seen.max(head);
        }
        self.fell_behind(head)
    }

    /// The next step of a connection that catches up.
    pub(super) fn next(&mut self, framing: Framing, io: Io<'_>) -> Next {
        let enough = |queue: &Queue| queue.blocked || queue.bytes > io.limits.low_water();
        if self.mode != Mode::CatchingUp || self.queue.as_deref().is_some_and(enough) {
            return Next::Wait;
        }
        // Below `last`: the client claims a position that nobody has heard of; the store decides.
        if self.head_seen != self.last {
            return Next::Read(PageRequest { since: self.last, head_seen: self.head_seen });
        }
        self.mode = Mode::Live;
        if let Some(replay) = self.sync_owed.take() {
            let frame = ServerFrame::SyncComplete { seq: self.last };
            let frame = WireFrame::server(&frame, framing);
            // One frame of 100 bytes cannot matter to the limit of replies.
            self.reply(frame, io).ok();
            io.metrics.replays(replay).increment(1);
        }
        Next::WentLive
    }

    /// Takes what was read for `request`. A page for another position than the present one (there
    /// was a `sync` meanwhile) is passed over.
    pub(super) fn accept_page(
        &mut self,
        request: PageRequest,
        page: PageFrames,
        framing: Framing,
        io: Io<'_>,
    ) {
        if self.mode != Mode::CatchingUp || self.last != request.since {
            return;
        }
        if page.min_seq > request.since || page.head < request.since {
            let frame = ServerFrame::ResyncRequired { min_seq: page.min_seq };
            self.reply(WireFrame::server(&frame, framing), io).ok();
            self.sync_owed = Some(Replay::Resync);
            self.last = page.head;
            // What was heard of before may be what is missing now.
            if self.head_seen <= request.head_seen {
                self.head_seen = page.head;
            }
            return;
        }
        if page.frames.is_empty() && self.head_seen == request.head_seen {
            // Heard of, and still not there: a store answers reads before it publishes, so it was
            // never stored. Waiting for it would be a loop without end.
            self.head_seen = self.last;
            return;
        }
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(io.now)));
        for frame in page.frames {
            if frame.seq == self.last.next() {
                self.last = frame.seq;
                queue.push(frame, io.metrics);
            }
        }
        if queue.frames.is_empty() {
            self.queue = None;
        }
        self.head_seen = self.head_seen.max(page.head).max(self.last);
    }

    /// Writes once; answers what went out too. After an error the connection is lost.
    pub(super) fn flush(&mut self, io: Io<'_>) -> io::Result<(Flushed, Option<Span>)> {
        let Some(queue) = self.queue.as_mut() else {
            return Ok((Flushed::Empty { unblocked: false }, None));
        };
        queue.expire(io);
        match write(queue.frames.iter(), queue.front_written, io) {
            Ok(wrote) => {
                let unblocked = std::mem::take(&mut queue.blocked);
                let delivered = queue.advance(wrote.written, &mut self.unacked, io);
                if !queue.frames.is_empty() {
                    return Ok((Flushed::More { unblocked }, delivered));
                }
                self.queue = None;
                Ok((Flushed::Empty { unblocked }, delivered))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                queue.blocked = true;
                Ok((Flushed::Blocked, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes no changes any more; `last_frames` go out behind what waits, or, where nothing of it
    /// matters now, behind the frame that is half written.
    pub(super) fn close(
        &mut self,
        keep_queue: bool,
        last_frames: impl IntoIterator<Item = WireFrame>,
        io: Io<'_>,
    ) {
        self.mode = Mode::Closed;
        if !keep_queue {
            self.drop_changes(io.metrics);
        }
        for frame in last_frames {
            self.reply(frame, io).ok();
        }
    }

    /// Frees what still waits.
    pub(super) fn clear(&mut self, metrics: &LiveMetrics) {
        self.mode = Mode::Closed;
        if let Some(queue) = self.queue.take() {
            metrics.outbox_bytes.decrement(queue.bytes as f64);
        }
    }
}

#[cfg(test)]
#[path = "tests/outbox.rs"]
mod tests;
