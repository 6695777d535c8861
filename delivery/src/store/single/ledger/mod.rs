//! What was sent, for the senders: see [`crate::store::Ledger`].
//!
//! ```text
//! sequencer ─▶ queue, index of answers ─▶ ledger thread ─▶ ledger.db
//! happened ──▶ counts in memory ─────────────▲                │ what is due
//! answer ────▶ the index, else the reader ─▶ ledger.db        ▼
//! the rest ──▶ ledger thread: writes the queue, then looks    scheduler ─▶ committer
//! ```
//!
//! **Once.** A scheduled message is sent by a record in the journal like any other; the transaction
//! by which `ledger.db` takes that record over takes the message off those that wait. So the journal
//! alone says what was sent, also after a crash: it is replayed before the scheduler looks. Whether
//! a message is sent, cancelled or edited is decided under [`Ledger::schedule`], held until the
//! record of the decision is visible.

mod changes;
mod desk;
mod file;
mod forget;
pub(super) mod metrics;
mod operations;
mod prune;
mod queue;
mod read;
mod receipts;
mod reread;
mod scheduler;
pub(super) mod schema;
mod stats;
mod stats_query;
mod walk;
mod write;

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use protocol::{MessageId, TenantId};
use rusqlite::Connection;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use self::{
    desk::Desk,
    file::{BATCH_MAX, LedgerFile},
    metrics::LedgerMetrics,
    prune::Pruner,
    queue::{AnswerKey, Item, Queue, Queued},
    reread::Reread,
    scheduler::Alarm,
    stats::Stats,
};
use super::{
    SingleConfig,
    metrics::StoreMetrics,
    record::{Lsn, MessageRecord, RewriteRecord},
    threads::{give_way, thread},
};
use crate::{
    clock::WallClock,
    store::{Happening, Keeping, SenderKey, StoreError, StoredAnswer, Witness, limits},
};

pub(super) use self::{
    read::{SentRow, sent, waiting},
    scheduler::Scheduler,
    schema::LedgerOpenError,
    walk::{applied_lsn, sent_after, stats_after, stats_span, waiting_after},
};

/// Memory that may wait for `ledger.db`, in bytes. Inboxes hold the same bodies meanwhile, and
/// longer: `ledger.db` takes a row several times as fast as the users' files take a message. Above
/// it sends are answered `Busy`.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// What may wait before it is written without waiting for more, in bytes: a question waits behind
/// it.
const EARLY_BYTES: usize = 8 << 20;

/// How long a file that could not be written waits for the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often what was kept long enough is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Locks of messages that are being edited or recalled: two with one lock wait for each other.
const CHANGE_LOCKS: usize = 64;

/// Takes over what the journal has, in its order.
pub(super) struct Ledger {
    path: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Memory of the queue, in bytes, for who does not want to wait for its lock.
    bytes: AtomicUsize,
    /// What was in the file when it was opened: the journal brings it again.
    applied: Lsn,
    /// Answers that are in the file.
    reader: Arc<Desk<Connection>>,
    stats: Stats,
    witness: Option<Arc<dyn Witness>>,
    pub(super) clock: WallClock,
    alarm: Alarm,
    /// Held while it is decided whether a message that waits is sent, cancelled or edited.
    pub(super) schedule: Arc<AsyncMutex<()>>,
    /// Held while a message is edited or recalled, by its id.
    changing: [Arc<AsyncMutex<()>>; CHANGE_LOCKS],
    hasher: RandomState,
    /// Held while statistics are added up: one question at a time.
    asking_stats: AsyncMutex<()>,
    metrics: Arc<LedgerMetrics>,
}

/// What the threads start with.
pub(super) struct Start {
    file: LedgerFile,
    reader: Connection,
}

impl Ledger {
    /// Opens `ledger.db`, made if it is missing.
    pub(super) fn open(
        path: &Path,
        config: &SingleConfig,
        keeping: &Arc<Keeping>,
        metrics: Arc<LedgerMetrics>,
        store_metrics: Arc<StoreMetrics>,
    ) -> Result<(Arc<Self>, Start), LedgerOpenError> {
        let db = schema::create(path)?;
        let reader = schema::open(path)?;
        let ledger = Arc::new(Self {
            path: path.to_owned(),
            queue: Mutex::new(Queue::new(store_metrics.busy_ledger_reads.clone())),
            wake: Condvar::new(),
            bytes: AtomicUsize::new(0),
            applied: write::applied(&reader)?,
            reader: Arc::new(Desk::new(store_metrics.busy_ledger_reads.clone())),
            stats: Stats::new(Reread::read(&reader)?, Arc::clone(&metrics)),
            witness: config.witness.clone(),
            clock: config.clock.clone(),
            alarm: Alarm::default(),
            schedule: Arc::default(),
            changing: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
            asking_stats: AsyncMutex::default(),
            metrics,
        });
        let pruner = Pruner::new(Arc::clone(keeping));
        let file =
            LedgerFile::new(path.to_owned(), db, Arc::clone(&ledger), pruner, store_metrics)?;
        Ok((ledger, Start { file, reader }))
    }

    /// The first position of the journal that was not used as far as `ledger.db` knows.
    pub(super) const fn floor(&self) -> Lsn {
        self.applied + 1
    }

    /// A message that was sent.
    pub(super) fn sent(&self, lsn: Lsn, record: Arc<MessageRecord>) {
        self.push(lsn, Item::Sent(record));
    }

    /// An edit or a recall.
    pub(super) fn rewritten(&self, lsn: Lsn, record: Arc<RewriteRecord>) {
        self.push(lsn, Item::Rewritten(record));
    }

    /// A message that waits for its time.
    pub(super) fn scheduled(&self, lsn: Lsn, record: Arc<MessageRecord>) {
        let due_at = record.scheduled_at.unwrap_or(record.at);
        self.push(lsn, Item::Scheduled(record));
        self.alarm.ring_at(due_at);
    }

    /// A message that waits no more.
    pub(super) fn cancelled(&self, lsn: Lsn, tenant: TenantId, id: MessageId) {
        self.push(lsn, Item::Cancelled { tenant, id });
    }

    /// An answer; found from now on.
    pub(super) fn answered(&self, lsn: Lsn, answer: Arc<StoredAnswer>) {
        self.push(lsn, Item::Answered(answer));
    }

    /// What becomes of messages; see [`Witness`], who is told first: it may refuse, and is told
    /// again then.
    pub(super) fn happened(
        &self,
        happenings: &[Happening],
    ) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        if let Some(witness) = &self.witness
            && witness.wants()
        {
            witness.happened(happenings)?;
        }
        if self.stats.count(happenings) && self.queue.lock().begin() {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn push(&self, lsn: Lsn, item: Item) {
        if lsn <= self.applied {
            return;
        }
        let mut queue = self.queue.lock();
        queue.push(lsn, item);
        self.bytes.store(queue.bytes(), Ordering::Relaxed);
        let wake = queue.begin() || early(&queue);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Whether so much waits that nothing more may be accepted.
    pub(super) fn full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > QUEUE_BYTES_MAX
    }

    /// The first record that `ledger.db` does not have yet, and only the journal has.
    pub(super) fn needed(&self) -> Option<Lsn> {
        self.queue.lock().oldest()
    }

    /// These are in the file; the thread goes on with `next`.
    fn written<'a>(&self, items: impl Iterator<Item = &'a Queued>, next: Option<Lsn>) {
        let mut queue = self.queue.lock();
        queue.written(items, next);
        self.show(&queue);
    }

    fn show(&self, queue: &Queue) {
        self.bytes.store(queue.bytes(), Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        {
            self.metrics.queue_records.set(queue.count() as f64);
            self.metrics.queue_bytes.set(queue.bytes() as f64);
        }
    }

    /// Asks the thread that owns the file.
    fn put<T, F>(
        &self,
        question: F,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut LedgerFile) -> Result<T, StoreError> + Send + 'static,
    {
        let receive = self.queue.lock().jobs.put(question)?;
        self.wake.notify_one();
        Ok(receive)
    }

    /// Asks the file, with everything in it that was stored before.
    async fn query<T, F>(&self, ask: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let receive = self.put(move |file| file.query(ask))?;
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// The same for a thread that may wait.
    fn query_blocking<T, F>(&self, ask: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let receive = self.put(move |file| file.query(ask))?;
        receive.blocking_recv().unwrap_or(Err(StoreError::Closing))
    }

    async fn row(&self, tenant: &TenantId, id: &MessageId) -> Result<Option<SentRow>, StoreError> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.query(move |db| read::sent(db, &tenant, &id)).await
    }

    /// The answer to a key: one that is not written yet, else what the file has.
    async fn answer(
        &self,
        tenant: TenantId,
        sender: SenderKey,
        key: String,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let kept = i64::try_from(limits::ANSWER_KEPT.as_millis()).expect("a day");
        let after = protocol::Time::from_millis(self.clock.now().millis() - kept);
        let key = AnswerKey { tenant, sender, key };
        // What is taken out of the index is in the file by then.
        let waiting = self.queue.lock().answer(&key);
        if let Some(answer) = waiting {
            return Ok((answer.at > after).then(|| StoredAnswer::clone(&answer)));
        }
        let path = self.path.clone();
        self.reader
            .ask(move |db| {
                read::answer(db, &key.tenant, &key.sender, &key.key, after)
                    .map_err(|source| file::store_error(path, source))
            })
            .await
    }

    /// Waits for the lock of a message.
    async fn lock(&self, id: &MessageId) -> OwnedMutexGuard<()> {
        let index = self.hasher.hash_one(id) % CHANGE_LOCKS as u64;
        let index = usize::try_from(index).expect("a remainder of a small number");
        Arc::clone(&self.changing[index]).lock_owned().await
    }

    /// No scheduled message is sent any more.
    pub(super) fn stop_sending(&self) {
        self.alarm.close();
    }

    /// Ends the threads when everything that was asked is answered and, as far as the disk allows,
    /// everything is written.
    pub(super) fn close(&self) {
        self.queue.lock().jobs.close();
        self.wake.notify_one();
        self.reader.close();
    }

    /// Starts the thread that owns the file, and the one that only reads.
    pub(super) fn spawn(
        self: &Arc<Self>,
        start: Start,
        flush_interval: Duration,
    ) -> (JoinHandle<()>, JoinHandle<()>) {
        let Start { mut file, reader } = start;
        let ledger = Arc::clone(self);
        let writer = thread("ledger", move || {
            give_way();
            ledger.run(&mut file, flush_interval);
        });
        let desk = Arc::clone(&self.reader);
        (writer, thread("ledger-reader", move || desk.run(reader)))
    }

    /// Writes and answers until closed and, as far as the disk allows, everything is written.
    fn run(&self, file: &mut LedgerFile, flush_interval: Duration) {
        let mut retry_at: Option<Instant> = None;
        let mut prune_at = Instant::now() + PRUNE_EVERY;
        loop {
            let (jobs, closing) = {
                let mut queue = self.queue.lock();
                loop {
                    let now = Instant::now();
                    let due = match (retry_at, queue.since()) {
                        (Some(at), _) => Some(at),
                        (None, Some(_)) if early(&queue) => Some(now),
                        (None, since) => since.map(|since| since + flush_interval),
                    };
                    let until = due.map_or(prune_at, |due| due.min(prune_at));
                    if !queue.jobs.is_empty() || queue.jobs.closing() || until <= now {
                        break;
                    }
                    self.wake.wait_until(&mut queue, until);
                }
                queue.take(&mut file.pending);
                self.show(&queue);
                (queue.jobs.take(), queue.jobs.closing())
            };
            let flushed = file.flush();
            let failed = flushed.is_err();
            retry_at = failed.then(|| Instant::now() + RETRY_AFTER);
            let done = closing && jobs.is_empty();
            for job in jobs {
                job(file);
            }
            if done {
                // What cannot be written is left to the journal.
                return;
            }
            if !failed && Instant::now() >= prune_at {
                let more = file.prune().unwrap_or(false);
                let pause = if more { Duration::ZERO } else { PRUNE_EVERY };
                prune_at = Instant::now() + pause;
            }
        }
    }
}

/// Whether so much waits that it is written now.
fn early(queue: &Queue) -> bool {
    queue.untaken() >= BATCH_MAX || queue.bytes() >= EARLY_BYTES
}
