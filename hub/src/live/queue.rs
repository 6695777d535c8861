//! Frames that wait for their socket, and the way they are written.

use std::{collections::VecDeque, io, io::IoSlice, time::Instant};

use delivery::{InboxKey, Store};
use protocol::{DeviceId, Seq};
use smallvec::SmallVec;

use super::{
    framing::Transport,
    metrics::LiveMetrics,
    wire_frame::{FRAME_SLICES_MAX, FrameKind, WireFrame},
};

/// Most frames in one `writev`: two slices each, three for an event, and a stack array of 3 KiB.
/// The kernel takes 1,024 slices; beyond 64 frames of usual size the syscall is no longer what costs.
const WRITE_FRAMES_MAX: usize = 64;
/// What a socket can do, so that tests can have one that takes three bytes.
pub(super) trait Socket: Sync {
    /// Writes without waiting; may take less than all.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The outbox's limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Memory of waiting live frames, in bytes.
    pub(super) queue_bytes: usize,
    /// About how much one `writev` offers the kernel, in bytes.
    pub(super) write_bytes: usize,
}

impl Limits {
    /// The next page is read when no more than this waits: the socket has something to do while
    /// the store is read.
    pub(super) const fn low_water(self) -> usize {
        self.queue_bytes / 4
    }
}

/// The other things a method needs, always the same ones.
#[derive(Clone, Copy)]
pub(super) struct Io<'a> {
    pub(super) socket: &'a dyn Socket,
    pub(super) limits: Limits,
    pub(super) metrics: &'a LiveMetrics,
    /// For metrics.
    pub(super) transport: Transport,
    pub(super) now: Instant,
    /// Is told what went out; nobody in tests.
    pub(super) arrivals: Option<Arrivals<'a>>,
}

/// Notes in the store which changes the kernel has taken whole for a device, for receipts.
#[derive(Clone, Copy)]
pub(super) struct Arrivals<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) inbox: &'a InboxKey,
    pub(super) device: &'a DeviceId,
}

/// Changes that went out one after the other, from the first to the last.
#[derive(Default)]
struct Run(Option<(Seq, Seq)>);

impl Run {
    fn sent(&mut self, frame: &WireFrame, io: Io<'_>) {
        if !frame.kind.is_change() {
            return;
        }
        match &mut self.0 {
            Some((_, last)) if frame.seq == last.next() => *last = frame.seq,
            // After a `sync` the same changes go out again behind what waited.
            _ => {
                std::mem::take(self).note(io);
                self.0 = Some((frame.seq, frame.seq));
            }
        }
    }

    fn note(self, io: Io<'_>) {
        if let (Some((first, last)), Some(arrivals)) = (self.0, io.arrivals) {
            let Arrivals { store, inbox, device } = arrivals;
            store.delivered(inbox, device, Seq(first.0 - 1), last);
        }
    }
}

/// Waiting frames of one connection. It exists only while there are any.
pub(super) struct Queue {
    pub(super) frames: VecDeque<WireFrame>,
    /// Bytes of the first frame that are written already.
    pub(super) front_written: usize,
    /// Memory of all frames.
    pub(super) bytes: usize,
    /// Memory of those that are no changes.
    pub(super) reply_bytes: usize,
    /// When the socket last took something, or the queue began.
    pub(super) progress_at: Instant,
    /// The socket said that it is full.
    pub(super) blocked: bool,
}
/// What [`Queue::drop_changes`] took out.
#[derive(Default)]
pub(super) struct Dropped {
    /// The first of the changes.
    pub(super) first: Option<Seq>,
    /// Whether a `sync_complete` was among them.
    pub(super) sync_complete: bool,
}

impl Queue {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            frames: VecDeque::new(),
            front_written: 0,
            bytes: 0,
            reply_bytes: 0,
            progress_at: now,
            blocked: false,
        }
    }

    pub(super) fn push(&mut self, frame: WireFrame, metrics: &LiveMetrics) {
        let weight = frame.weight();
        self.bytes += weight;
        if !frame.kind.is_change() {
            self.reply_bytes += weight;
        }
        metrics.outbox_bytes.increment(weight as f64);
        self.frames.push_back(frame);
    }

    /// Takes the changes out that need not be finished. The front stays while the socket is full,
    /// so that whoever waits for the socket still has something to write.
    pub(super) fn drop_changes(&mut self, metrics: &LiveMetrics) -> Dropped {
        let mut dropped = Dropped::default();
        let before = self.bytes;
        let mut keep = self.blocked || self.front_written > 0;
        self.frames.retain(|frame| {
            let keep = std::mem::take(&mut keep);
            if keep || !(frame.kind.is_change() || frame.kind == FrameKind::SyncComplete) {
                return true;
            }
            self.bytes -= frame.weight();
            if frame.kind.is_change() {
                dropped.first.get_or_insert(frame.seq);
            } else {
                self.reply_bytes -= frame.weight();
                dropped.sync_complete = true;
            }
            false
        });
        // What a full queue had room for is most of what it cost.
        self.frames.shrink_to_fit();
        metrics.outbox_bytes.decrement((before - self.bytes) as f64);
        dropped
    }

    pub(super) fn advance(&mut self, mut written: usize, io: Io<'_>) {
        self.progress_at = io.now;
        written += self.front_written;
        let before = self.bytes;
        let mut run = Run::default();
        while let Some(front) = self.frames.front() {
            if written < front.len() {
                break;
            }
            written -= front.len();
            let weight = front.weight();
            self.bytes -= weight;
            if !front.kind.is_change() {
                self.reply_bytes -= weight;
            }
            io.metrics.frames_sent(io.transport, front.kind).increment(1);
            run.sent(front, io);
            if let Some(accepted) = front.accepted {
                io.metrics.delivery_queued.record(io.now.saturating_duration_since(accepted));
            }
            self.frames.pop_front();
        }
        run.note(io);
        self.front_written = written;
        io.metrics.outbox_bytes.decrement((before - self.bytes) as f64);
    }
}

/// What one `writev` came to, in bytes.
pub(super) struct Wrote {
    pub(super) written: usize,
    offered: usize,
}

pub(super) fn write<'a>(
    frames: impl Iterator<Item = &'a WireFrame>,
    front_written: usize,
    io: Io<'_>,
) -> io::Result<Wrote> {
    let mut slices = SmallVec::<[IoSlice<'_>; FRAME_SLICES_MAX * WRITE_FRAMES_MAX]>::new();
    let (mut bytes, mut skip) = (0, front_written);
    for frame in frames.take(WRITE_FRAMES_MAX) {
        frame.slices(skip, &mut slices);
        bytes += frame.len() - std::mem::take(&mut skip);
        if bytes >= io.limits.write_bytes {
            break;
        }
    }
    let written = io.socket.try_write_vectored(&slices)?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    io.metrics.sent_bytes(io.transport).increment(written as u64);
    Ok(Wrote { written, offered: bytes })
}

/// Writes of one offer before the rest is left to the connection's task: whoever publishes a long
/// burst has others to publish to.
const OFFER_WRITES_MAX: usize = 16;

/// What [`write_now`] left.
pub(super) struct Unwritten {
    /// Frames that went out whole.
    pub(super) whole: usize,
    /// Bytes of the next that did.
    pub(super) written: usize,
    /// The socket took less than it was offered.
    pub(super) blocked: bool,
}

/// Writes changes that need not wait; `None` when all of them went out.
pub(super) fn write_now(frames: &[WireFrame], io: Io<'_>) -> io::Result<Option<Unwritten>> {
    let mut run = Run::default();
    let left = write_some(frames, &mut run, io);
    run.note(io);
    left
}

fn write_some(frames: &[WireFrame], run: &mut Run, io: Io<'_>) -> io::Result<Option<Unwritten>> {
    let mut whole = 0;
    for _ in 0..OFFER_WRITES_MAX {
        let wrote = match write(frames[whole..].iter(), 0, io) {
            Ok(wrote) => wrote,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Some(Unwritten { whole, written: 0, blocked: true }));
            }
            Err(error) => return Err(error),
        };
        let mut written = wrote.written;
        while let Some(frame) = frames.get(whole).filter(|frame| frame.len() <= written) {
            written -= frame.len();
            whole += 1;
            io.metrics.frames_sent(io.transport, frame.kind).increment(1);
            run.sent(frame, io);
            if let Some(accepted) = frame.accepted {
                io.metrics.delivery_live.record(io.now.saturating_duration_since(accepted));
            }
        }
        if wrote.written < wrote.offered {
            return Ok(Some(Unwritten { whole, written, blocked: true }));
        }
        if whole == frames.len() {
            return Ok(None);
        }
    }
    Ok(Some(Unwritten { whole, written: 0, blocked: false }))
}
