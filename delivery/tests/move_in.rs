//! Whatever a folder has is in the database after its move, and goes on there as it would have here: the
//! store's contract, in which the store that is opened again is another one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod moved;
mod postgres;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use delivery::{
    Fanout, InboxKey,
    clock::WallClock,
    store::{
        Storage,
        postgres::{PostgresConfig, PostgresStore},
        single::{SingleConfig, SingleStore},
    },
};
use tempfile::TempDir;

use contract::{
    Backend,
    ledger::{Books, LedgerBackend},
};

/// A folder when it is opened first, and the database that it was moved into from then on. Its files are written
/// only when a question needs them, so that the move finds most in the journal.
struct Moving {
    folder: TempDir,
    url: String,
    /// The folder was served.
    served: AtomicBool,
    moved: AtomicBool,
}

impl Moving {
    fn config(&self) -> SingleConfig {
        SingleConfig {
            root: self.folder.path().join("storage"),
            flush_interval: Duration::from_hours(1),
            ..SingleConfig::default()
        }
    }

    fn single(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<SingleStore> {
        let config = SingleConfig { clock, ..self.config() };
        SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap()
    }

    async fn database(
        &self,
        fanout: Arc<dyn Fanout>,
        clock: Option<WallClock>,
    ) -> Arc<PostgresStore> {
        if !self.moved.swap(true, Ordering::SeqCst) {
            let (url, folder) = (self.url.clone(), self.config());
            tokio::task::spawn_blocking(move || moved::run(&url, folder).unwrap()).await.unwrap();
        }
        let config = PostgresConfig { clock, ..PostgresConfig::new(self.url.clone()) };
        PostgresStore::open(config, fanout, &metrics::NoopRecorder).await.unwrap()
    }
}

impl Backend for Moving {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: postgres::database(),
            served: false.into(),
            moved: false.into(),
        }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Storage> {
        if self.served.swap(true, Ordering::SeqCst) {
            self.database(fanout, None).await
        } else {
            self.single(fanout, WallClock::default())
        }
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn refuse_writes(&self, _: &InboxKey, _: bool) -> bool {
        false
    }

    fn killed(&self) -> Option<Self> {
        if self.moved.load(Ordering::SeqCst) {
            return None;
        }
        let copy = Self { served: true.into(), ..Self::new() };
        moved::copy_folder(self.folder.path(), copy.folder.path());
        Some(copy)
    }
}

impl LedgerBackend for Moving {
    async fn open_books(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<dyn Books> {
        if self.served.swap(true, Ordering::SeqCst) {
            self.database(fanout, Some(clock)).await
        } else {
            self.single(fanout, clock)
        }
    }
}

contract::suite!(moved_store, Moving);
contract::ledger_suite!(moved_ledger, Moving);
