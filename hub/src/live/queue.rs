//! Frames that wait for their socket, and the way they are written.

use std::{
    collections::VecDeque,
    io,
    io::IoSlice,
    time::{Duration, Instant},
};

use delivery::{
    clock::WallClock,
    spans::{KeyValue, SpanKind, Traced},
};
use protocol::Seq;
use smallvec::SmallVec;

use super::{
    framing::Transport,
    metrics::{LiveMetrics, Path},
    unacked::Unacked,
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
    pub(super) wall: &'a WallClock,
}
/// Waiting frames of one connection. It exists only while there are any.
pub(super) struct Queue {
    pub(super) frames: VecDeque<WireFrame>,
    /// Bytes of the first frame that are written already.
    pub(super) front_written: usize,
    /// Memory of all frames.
    pub(super) bytes: usize,
    /// Memory of those that answer the client.
    pub(super) reply_bytes: usize,
    /// Memory of those that are presence.
    pub(super) presence_bytes: usize,
    /// How many may expire while they wait.
    expiring: usize,
    /// When the socket last took something, or the queue began.
    pub(super) progress_at: Instant,
    /// The socket said that it is full.
    pub(super) blocked: bool,
}
/// Changes whose frames went out whole: after the first position, up to and with the second.
pub(super) type Span = (Seq, Seq);

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
            presence_bytes: 0,
            expiring: 0,
            progress_at: now,
            blocked: false,
        }
    }

    pub(super) fn push(&mut self, frame: WireFrame, metrics: &LiveMetrics) {
        metrics.outbox_bytes.increment(frame.weight() as f64);
        self.count(&frame, true);
        self.frames.push_back(frame);
    }

    /// Keeps the sums right when a frame comes or goes.
    fn count(&mut self, frame: &WireFrame, comes: bool) {
        let weight = frame.weight();
        let change = |sum: &mut usize, by: usize| if comes { *sum += by } else { *sum -= by };
        change(&mut self.bytes, weight);
        match frame.kind {
            kind if kind.is_change() => {}
            FrameKind::Presence => change(&mut self.presence_bytes, weight),
            _ => change(&mut self.reply_bytes, weight),
        }
        change(&mut self.expiring, usize::from(frame.expires.is_some()));
    }

    /// Puts what is to be shown instead in the place of messages that have expired while they waited.
    /// One that is half written goes out whole.
    pub(super) fn expire(&mut self, io: Io<'_>) {
        if self.expiring == 0 {
            return;
        }
        let now = io.wall.now();
        let begun = usize::from(self.front_written > 0);
        for at in begun..self.frames.len() {
            let Some(expired) = self.frames[at].expired(now) else { continue };
            let before = self.bytes;
            let gone = std::mem::replace(&mut self.frames[at], expired.clone());
            self.count(&gone, false);
            self.count(&expired, true);
            io.metrics.outbox_bytes.increment(self.bytes as f64 - before as f64);
        }
    }

    /// Takes the changes out that need not be finished. The front stays while the socket is full,
    /// so that whoever waits for the socket still has something to write.
    pub(super) fn drop_changes(&mut self, metrics: &LiveMetrics) -> Dropped {
        let mut dropped = Dropped::default();
        let before = self.bytes;
        let mut keep = self.blocked || self.front_written > 0;
        let frames = std::mem::take(&mut self.frames);
        for frame in frames {
            let keep = std::mem::take(&mut keep);
            if keep || !(frame.kind.is_change() || frame.kind == FrameKind::SyncComplete) {
                self.frames.push_back(frame);
                continue;
            }
            self.count(&frame, false);
            if frame.kind.is_change() {
                dropped.first.get_or_insert(frame.seq);
            } else {
                dropped.sync_complete = true;
            }
        }
        // What a full queue had room for is most of what it cost.
        self.frames.shrink_to_fit();
        metrics.outbox_bytes.decrement((before - self.bytes) as f64);
        dropped
    }

    /// So many bytes were written. Answers the changes whose frames are out now; of changes that do
    /// not follow one another (there was a `sync`, or a resync), only the later ones.
    pub(super) fn advance(
        &mut self,
        mut written: usize,
        unacked: &mut Unacked,
        io: Io<'_>,
    ) -> Option<Span> {
        let mut gone: Option<Span> = None;
        self.progress_at = io.now;
        written += self.front_written;
        let before = self.bytes;
        while self.frames.front().is_some_and(|front| written >= front.len()) {
            let front = self.frames.pop_front().expect("there is a front");
            written -= front.len();
            self.count(&front, false);
            if front.kind.is_change() {
                gone = Some(match gone {
                    Some((from, to)) if to.next() == front.seq => (from, front.seq),
                    Some(_) | None => (Seq(front.seq.0.saturating_sub(1)), front.seq),
                });
            }
            went_out(&front, Path::Queued, unacked, io);
        }
        self.front_written = written;
        io.metrics.outbox_bytes.decrement((before - self.bytes) as f64);
        gone
    }
}

/// The kernel has all of a frame.
fn went_out(frame: &WireFrame, path: Path, unacked: &mut Unacked, io: Io<'_>) {
    io.metrics.frames_sent(io.transport, frame.kind).increment(1);
    if let Some(accepted) = &frame.accepted {
        let took = io.now.saturating_duration_since(accepted.at);
        io.metrics.delivery(path).record(took);
        if let Some(traced) = &accepted.trace {
            tell_written(traced, path, took, io);
        }
        if io.transport == Transport::WebSocket {
            unacked.wrote(frame.seq, accepted.at);
        }
    }
}

/// The span of a write that is over; it began when the socket was asked.
#[cold]
fn tell_written(traced: &Traced, path: Path, took: Duration, io: Io<'_>) {
    drop(traced.delivery("socket write", SpanKind::Producer, io.now, || {
        vec![
            KeyValue::new("messaging.system", "pushhub"),
            KeyValue::new("messaging.operation.name", "deliver"),
            KeyValue::new("pushhub.transport", io.transport.label()),
            KeyValue::new("pushhub.path", path.label()),
            KeyValue::new("pushhub.delivery_seconds", took.as_secs_f64()),
        ]
    }));
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
pub(super) fn write_now(
    frames: &[WireFrame],
    unacked: &mut Unacked,
    io: Io<'_>,
) -> io::Result<Option<Unwritten>> {
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
            went_out(frame, Path::Live, unacked, io);
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
