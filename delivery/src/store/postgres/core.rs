//! What all parts of the store share.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    catch_up::Caught,
    columns::Columns as _,
    config::PostgresConfig,
    errors::Failure,
    metrics::PostgresMetrics,
    names::Names,
    notes::Notes,
    over::Over,
    pool::{self, Ask, Db, Transaction, row},
    publish::Publisher,
    standby::Standby,
    work::Work,
};
use crate::{
    StoreError, clock,
    store::{Keeping, noted::Noted},
};

/// How often an operation that met another one is tried.
const TRIES_MAX: u32 = 5;

pub(super) struct Core {
    pub(super) db: Db,
    /// A standby, for lists.
    pub(super) replica: Option<Standby>,
    pub(super) config: PostgresConfig,
    pub(super) keeping: Arc<Keeping>,
    pub(super) names: Names,
    pub(super) publisher: Arc<Publisher>,
    pub(super) caught: Caught,
    pub(super) notes: Notes,
    pub(super) noted: Noted,
    pub(super) metrics: PostgresMetrics,
    pub(super) over: Over,
    pub(super) closing: AtomicBool,
    /// When a transaction was last committed.
    pub(super) committed: Mutex<Option<Instant>>,
}

impl Core {
    /// Refuses what comes after the end.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Closing) } else { Ok(()) }
    }

    /// By how much times are moved, in milliseconds: 0 but in tests.
    pub(super) fn shift(&self) -> i64 {
        let Some(clock) = &self.config.clock else { return 0 };
        loop {
            let (before, shown, after) = (clock::now(), clock.now(), clock::now());
            if before == after {
                return shown.millis() - after.millis();
            }
        }
    }

    /// The database's time, in milliseconds. A moment after which a caller's question came, and before
    /// which it is answered, whatever the node's own clock says.
    pub(super) async fn now(&self, client: &impl Ask) -> Result<i64, Failure> {
        let found = row(client, "SELECT now_ms($1)", &[&self.shift()]).await?;
        found.map_or(Ok(0), |row| row.column(0))
    }

    /// Writes, commits and publishes.
    pub(super) async fn finish(
        &self,
        transaction: Transaction<'_>,
        work: &mut Work,
    ) -> Result<(), Failure> {
        work.write(&transaction).await?;
        self.seal(transaction, work).await
    }

    /// Commits what was written, and publishes it.
    pub(super) async fn seal(
        &self,
        transaction: Transaction<'_>,
        work: &Work,
    ) -> Result<(), Failure> {
        let turn = self.publisher.enter(work);
        self.commit(transaction).await?;
        turn.publish(work);
        self.over.note(work, &self.keeping);
        Ok(())
    }

    /// Commits.
    pub(super) async fn commit(&self, transaction: Transaction<'_>) -> Result<(), Failure> {
        let started = Instant::now();
        pool::commit(transaction).await?;
        self.metrics.commit_seconds.record(started.elapsed());
        *self.committed.lock() = Some(Instant::now());
        Ok(())
    }

    /// Tries an operation again while it only met another one; each time in a transaction of its own.
    pub(super) async fn retry<T, F>(&self, mut operation: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tries = 1;
        loop {
            match operation().await {
                Err(failure) if tries < TRIES_MAX && failure.is_worth_another_try() => {
                    self.metrics.failed(failure.kind());
                    self.metrics.retries.increment(1);
                    tokio::time::sleep(Duration::from_millis(5) * tries * tries).await;
                    tries += 1;
                }
                Err(failure) => {
                    self.metrics.failed(failure.kind());
                    return Err(failure);
                }
                done => return done,
            }
        }
    }
}
