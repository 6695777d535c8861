//! The one writer of `ledger.db`.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    super::{
        forget::{ScrubError, Scrubbed},
        metrics::StoreMetrics,
        sql,
    },
    Ledger,
    prune::Pruner,
    queue::Queued,
    reread,
    schema::{self, LedgerOpenError},
    stats, write,
};
use crate::store::StoreError;

/// Items written in one transaction, at most: bounds how long a question waits behind one to some
/// 15 ms.
pub(super) const BATCH_MAX: usize = 4_096;

/// How often a file that cannot be used is worth a line in the log. The metric counts each.
const WARNING_EVERY: Duration = Duration::from_secs(10);

/// `ledger.db` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct FileError {
    path: PathBuf,
    #[source]
    source: rusqlite::Error,
}

/// The file, and what it does not have yet.
pub(in super::super) struct LedgerFile {
    path: PathBuf,
    ledger: Arc<Ledger>,
    /// None after an error: what the handle says after a failed write or sync cannot be trusted.
    db: Option<Connection>,
    pub(super) pending: VecDeque<Queued>,
    /// How many messages wait for their time.
    waiting: u64,
    rows: stats::Rows,
    pub(super) pruner: Pruner,
    warned: Option<Instant>,
    metrics: Arc<StoreMetrics>,
    /// Closed after the connection.
    scrubbed: Scrubbed,
}

impl LedgerFile {
    pub(super) fn new(
        path: PathBuf,
        db: Connection,
        ledger: Arc<Ledger>,
        pruner: Pruner,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, LedgerOpenError> {
        let waiting = write::count_waiting(&db)?;
        let scrubbed = Scrubbed::open(&path)?;
        let file = Self {
            path,
            ledger,
            db: Some(db),
            pending: VecDeque::new(),
            waiting,
            rows: stats::Rows::default(),
            pruner,
            warned: None,
            metrics,
            scrubbed,
        };
        file.show();
        Ok(file)
    }

    fn show(&self) {
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        self.ledger.metrics.scheduled.set(self.waiting as f64);
    }

    /// Writes everything that was taken from the queue, and what was counted.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let (mut tally, mut marks) = self.ledger.stats.take();
        while !(self.pending.is_empty() && tally.is_empty() && marks.is_empty()) {
            let count = self.pending.len().min(BATCH_MAX);
            match self.write(count, &tally, &marks) {
                Ok(waiting) => {
                    self.waiting = self.waiting.saturating_add_signed(waiting);
                    let next = self.pending.get(count).map(|queued| queued.lsn);
                    self.ledger.written(self.pending.range(..count), next);
                    self.pending.drain(..count);
                    tally = stats::Tally::default();
                    marks = Vec::new();
                }
                Err(error) => {
                    self.ledger.stats.put_back(tally, marks);
                    return Err(self.failed(error));
                }
            }
        }
        self.pending.shrink_to(1024);
        self.show();
        Ok(())
    }

    fn write(
        &mut self,
        count: usize,
        tally: &stats::Tally<'_>,
        marks: &[reread::Change],
    ) -> rusqlite::Result<i64> {
        self.open()?;
        let db = self.db.as_mut().expect("opened above");
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // After an error it is unknown whether the transaction before was written: the file says.
        let applied = write::applied(&transaction)?;
        let fresh = || self.pending.range(..count).skip_while(|queued| queued.lsn <= applied);
        let waiting = write::apply(&transaction, fresh())?;
        stats::write(&transaction, &stats::Tally::of_sent(fresh()), &mut self.rows)?;
        stats::write(&transaction, tally, &mut self.rows)?;
        reread::write(&transaction, marks)?;
        transaction.commit()?;
        Ok(waiting)
    }

    /// Asks the file, with everything in it that was stored before. When it cannot be written the
    /// question, asked again, goes to a draft of what it would be: a disk that is full or fails does
    /// not take reads away.
    pub(super) fn query<T>(
        &mut self,
        ask: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        match self.flush() {
            Ok(()) => {}
            Err(StoreError::NotWritable(_)) => return self.query_draft(&ask),
            Err(error) => return Err(error),
        }
        let answer = self.open().and_then(|()| ask(self.db.as_ref().expect("opened above")));
        answer.map_err(|error| self.failed(error))
    }

    fn open(&mut self) -> rusqlite::Result<()> {
        if self.db.is_none() {
            self.db = Some(schema::open(&self.path)?);
        }
        Ok(())
    }

    /// Changes the file, with everything in it that was stored before, in a transaction. `change` answers
    /// with it by how many more messages wait now.
    pub(super) fn change<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<(T, i64)>,
    ) -> Result<T, StoreError> {
        self.flush()?;
        let changed = self.open().and_then(|()| {
            let db = self.db.as_mut().expect("opened above");
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = change(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        });
        let (changed, waiting) = changed.map_err(|error| self.failed(error))?;
        self.waiting = self.waiting.saturating_add_signed(waiting);
        self.show();
        Ok(changed)
    }

    /// See [`Scrubbed::piece`].
    pub(super) fn overwrite(&mut self, from: u64) -> Result<Option<u64>, StoreError> {
        self.flush()?;
        let done = self
            .open()
            .map_err(ScrubError::from)
            .and_then(|()| self.scrubbed.piece(self.db.as_ref().expect("opened above"), from));
        done.map_err(|error| match error {
            ScrubError::Sqlite(error) => self.failed(error),
            error @ ScrubError::Io { .. } => StoreError::NotWritable(Arc::new(error)),
        })
    }

    fn query_draft<T>(
        &mut self,
        ask: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let draft = || {
            let draft = sql::open_draft(&self.path)?;
            write::apply(&draft, self.pending.iter())?;
            ask(&draft)
        };
        draft().map_err(|error| self.failed(error))
    }

    /// Deletes some of what was kept long enough; whether there may be more of it.
    pub(super) fn prune(&mut self) -> Result<bool, StoreError> {
        let now = self.ledger.clock.now();
        let Some(db) = &self.db else { return Ok(false) };
        let pruned = self.pruner.step(db, now, &self.ledger.metrics);
        pruned.map_err(|error| self.failed(error))
    }

    /// Counts rows of statistics anew.
    #[cfg(test)]
    pub(super) fn forget_rows(&mut self) {
        self.rows.forget();
    }

    fn failed(&mut self, source: rusqlite::Error) -> StoreError {
        self.db = None;
        self.rows.forget();
        self.metrics.ledger_errors.increment(1);
        if self.warned.is_none_or(|at| at.elapsed() >= WARNING_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(error = %source, "ledger.db cannot be used now; the journal keeps what belongs there");
        }
        store_error(self.path.clone(), source)
    }
}

/// What a caller gets when a file fails.
pub(super) fn store_error(path: PathBuf, source: rusqlite::Error) -> StoreError {
    let damage = sql::is_damage(&source);
    let error = Arc::new(FileError { path, source });
    if damage { StoreError::Damaged(error) } else { StoreError::NotWritable(error) }
}
