//! The one thread that makes things durable.
//!
//! It takes everything that waits, writes it in one commit, hands it to the inboxes in memory,
//! answers the callers, and only then the publishers write to sockets, while the next commit is
//! under way. There is no artificial delay: the sync is the window in which the next batch forms.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    ahead::Ahead,
    metrics::StoreMetrics,
    record::{Lsn, Record},
    segment::{OldSegment, PREPARE_BYTES, SEGMENT_BYTES, Segment},
    sequencer::Sequencer,
};
use crate::store::{Accepted, StoreError};

/// Encoded records that may wait for the committer, in bytes. At 20 MB/s of a slow disk this is
/// three seconds; above it the answer is `Busy`.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Encoded records in one commit, in bytes, so that one commit stays in the milliseconds.
const COMMIT_BYTES_MAX: usize = 8 << 20;

/// How often a journal that cannot be written is tried anew.
const REOPEN_EVERY: Duration = Duration::from_millis(500);

/// Records of one call: durable together or not at all.
struct Submission {
    records: Vec<(Record, Vec<u8>)>,
    accepted: Accepted,
    reply: oneshot::Sender<Result<(), StoreError>>,
    /// Dropped when the records are visible, or refused.
    _holding: Box<dyn Send>,
}

impl Submission {
    fn bytes(&self) -> usize {
        self.records.iter().map(|(_, bytes)| bytes.len() + 64).sum()
    }
}

#[derive(Default)]
struct Queue {
    submissions: std::collections::VecDeque<Submission>,
    /// Who waits for the next segment to be begun, and is told its number.
    renew: Vec<oneshot::Sender<u64>>,
    bytes: usize,
    closing: bool,
}

/// Why the journal cannot be written, shared by everyone who is refused.
pub(super) type Cause = Arc<dyn std::error::Error + Send + std::marker::Sync>;

/// The committer's queue and its health.
pub(super) struct Committer {
    queue: Mutex<Queue>,
    wake: Condvar,
    broken: Mutex<Option<Cause>>,
    /// Cheap form of `broken`, for the hot path.
    writable: AtomicBool,
    last_commit: Mutex<Instant>,
    old_segments: Mutex<Vec<OldSegment>>,
    metrics: Arc<StoreMetrics>,
}

/// What the committer's thread starts with.
pub(super) struct Start {
    pub(super) segment: Segment,
    pub(super) ahead: Arc<Ahead>,
    pub(super) next: Lsn,
    pub(super) sequencer: Sequencer,
}

impl Committer {
    pub(super) fn new(old_segments: Vec<OldSegment>, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            broken: Mutex::default(),
            writable: AtomicBool::new(true),
            last_commit: Mutex::new(Instant::now()),
            old_segments: Mutex::new(old_segments),
            metrics,
        }
    }

    /// Makes records durable, all or none, and hands them to the inboxes.
    pub(super) async fn submit(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.submit_holding(records, ()).await
    }

    /// The same, holding locks until the records are visible, also if the caller goes away.
    pub(super) async fn submit_holding(
        &self,
        records: Vec<Record>,
        holding: impl Send + 'static,
    ) -> Result<(), StoreError> {
        let reply = self.enqueue(records, holding)?;
        reply.await.unwrap_or(Err(StoreError::Closing))
    }

    /// The same; the answer comes when the records are visible, or refused.
    pub(super) fn enqueue(
        &self,
        records: Vec<Record>,
        holding: impl Send + 'static,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        if !self.writable.load(Ordering::Acquire) {
            return Err(self.refusal());
        }
        let records: Vec<(Record, Vec<u8>)> = records
            .into_iter()
            .map(|record| {
                let bytes = record.encode();
                (record, bytes)
            })
            .collect();
        let (reply, receive) = oneshot::channel();
        let holding = Box::new(holding);
        let submission =
            Submission { records, accepted: Accepted::now(), reply, _holding: holding };
        let bytes = submission.bytes();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return Err(StoreError::Closing);
            }
            if queue.bytes > 0 && queue.bytes + bytes > QUEUE_BYTES_MAX {
                self.metrics.busy_queue.increment(1);
                return Err(StoreError::Busy("too much waits for the journal"));
            }
            queue.bytes += bytes;
            queue.submissions.push_back(submission);
        }
        self.wake.notify_one();
        Ok(receive)
    }

    /// Begins the next segment, so that what was stored until now is in segments that can go. Answers its
    /// number.
    pub(super) async fn renew(&self) -> Result<u64, StoreError> {
        let (begun, receive) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return Err(StoreError::Closing);
            }
            queue.renew.push(begun);
        }
        self.wake.notify_one();
        receive.await.map_err(|_| self.refusal())
    }

    fn refusal(&self) -> StoreError {
        match &*self.broken.lock() {
            Some(cause) => StoreError::NotWritable(Arc::clone(cause)),
            None => StoreError::Busy("the journal is being opened"),
        }
    }

    /// Why nothing can be written now.
    pub(super) fn broken(&self) -> Option<Cause> {
        self.broken.lock().clone()
    }

    /// How long ago the last commit succeeded.
    pub(super) fn since_commit(&self) -> Duration {
        self.last_commit.lock().elapsed()
    }

    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    /// Segments that are only kept until their records are in their files.
    pub(super) fn old_segments(&self) -> Vec<OldSegment> {
        self.old_segments.lock().clone()
    }

    pub(super) fn forget_segment(&self, gone: &OldSegment) {
        self.old_segments.lock().retain(|segment| segment.path != gone.path);
    }

    /// Commits until closed and empty. Answers the next lsn.
    pub(super) fn run(&self, start: Start) -> Lsn {
        let Start { segment, ahead, mut next, mut sequencer } = start;
        let mut segment = Some(segment);
        let mut batch: Vec<Submission> = Vec::new();
        loop {
            let closing = self.wait(segment.is_some(), &mut batch);
            let renew = std::mem::take(&mut self.queue.lock().renew);
            if !renew.is_empty() && segment.is_some() {
                self.retire(segment.take(), next);
                segment = self.reopen(&ahead);
                if let Some(open) = &segment {
                    for waits in renew {
                        let _ = waits.send(open.number());
                    }
                }
            }
            if segment.is_none() {
                for submission in batch.drain(..) {
                    let _ = submission.reply.send(Err(self.refusal()));
                }
                if closing {
                    return next;
                }
                segment = self.reopen(&ahead);
                continue;
            }
            if batch.is_empty() {
                if closing {
                    self.retire(segment.take(), next);
                    return next;
                }
                continue;
            }
            let started = Instant::now();
            let open = segment.as_mut().expect("checked above");
            let records =
                batch.iter().flat_map(|one| one.records.iter().map(|(_, bytes)| &bytes[..]));
            match open.commit(next, records) {
                Ok(()) => {
                    let count = self.hand_over(&mut batch, next, &mut sequencer);
                    next += count;
                    self.metrics.commits.increment(1);
                    self.metrics.commit_seconds.record(started.elapsed());
                    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
                    self.metrics.commit_records.record(count as f64);
                    *self.last_commit.lock() = Instant::now();
                    if open.used() >= SEGMENT_BYTES {
                        self.retire(segment.take(), next);
                        segment = self.reopen(&ahead);
                    } else if open.used() >= PREPARE_BYTES {
                        ahead.want();
                    }
                }
                Err(error) => {
                    self.retire(segment.take(), next);
                    self.metrics.commit_errors.increment(1);
                    self.set_broken(Arc::new(error));
                    for submission in batch.drain(..) {
                        let _ = submission.reply.send(Err(self.refusal()));
                    }
                }
            }
        }
    }

    /// Waits for work, or for the time to try a broken journal anew.
    fn wait(&self, writable: bool, batch: &mut Vec<Submission>) -> bool {
        let mut queue = self.queue.lock();
        if queue.submissions.is_empty() && queue.renew.is_empty() && !queue.closing {
            if writable {
                self.wake.wait(&mut queue);
            } else {
                self.wake.wait_for(&mut queue, REOPEN_EVERY);
            }
        }
        let mut bytes = 0;
        while let Some(submission) = queue.submissions.front() {
            let size = submission.bytes();
            if !batch.is_empty() && bytes + size > COMMIT_BYTES_MAX {
                break;
            }
            bytes += size;
            batch.extend(queue.submissions.pop_front());
        }
        queue.bytes -= bytes;
        queue.closing && queue.submissions.is_empty()
    }

    fn hand_over(&self, batch: &mut Vec<Submission>, first: Lsn, sequencer: &mut Sequencer) -> Lsn {
        let mut lsn = first;
        for submission in &mut *batch {
            for (record, _) in submission.records.drain(..) {
                sequencer.apply(lsn, record, Some(submission.accepted.clone()));
                lsn += 1;
            }
        }
        sequencer.finish_batch();
        for submission in batch.drain(..) {
            let _ = submission.reply.send(Ok(()));
        }
        sequencer.publish(self.queue.lock().submissions.is_empty());
        lsn - first
    }

    /// Keeps a segment until its records are in their files. One without a valid record is left to
    /// the next start.
    fn retire(&self, segment: Option<Segment>, next: Lsn) {
        self.old_segments.lock().extend(segment.and_then(|segment| segment.retire(next - 1)));
    }

    fn reopen(&self, ahead: &Ahead) -> Option<Segment> {
        let failed = self.broken.lock().is_some();
        let create = || if failed { ahead.make()?.prove_room() } else { ahead.take() };
        match create() {
            Ok(segment) => {
                if self.broken.lock().take().is_some() {
                    tracing::info!("the journal can be written again");
                }
                self.writable.store(true, Ordering::Release);
                *self.last_commit.lock() = Instant::now();
                Some(segment)
            }
            Err(error) => {
                self.set_broken(Arc::new(error));
                None
            }
        }
    }

    fn set_broken(&self, cause: Cause) {
        self.writable.store(false, Ordering::Release);
        let mut broken = self.broken.lock();
        if broken.is_none() {
            tracing::error!(error = %cause, "the journal cannot be written; nothing is accepted until it can");
        }
        *broken = Some(cause);
    }
}
