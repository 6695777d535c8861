//! Every sentence of the store's contract (`delivery::store`) and of its directory's, held against every backend. A backend
//! adds a constructor here and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod postgres;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};

use delivery::{
    Fanout, InboxKey,
    clock::WallClock,
    store::{
        Storage,
        postgres::{PostgresConfig, PostgresStore},
        single::{SingleConfig, SingleStore, inbox_dir},
    },
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use contract::{
    Backend,
    ledger::{Books, LedgerBackend},
};

/// SQLite, one folder, as shipped.
struct Single {
    folder: TempDir,
}

impl Backend for Single {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Storage> {
        open(&self.folder, SingleConfig::default(), fanout)
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.folder.path())
    }

    fn refuse_writes(&self, inbox: &InboxKey, refuse: bool) -> bool {
        refuse_writes(&self.folder, inbox, refuse)
    }

    fn killed(&self) -> Option<Self> {
        None // Its workers write at any time: a copy would be torn.
    }
}

impl LedgerBackend for Single {
    async fn open_books(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<dyn Books> {
        open(&self.folder, SingleConfig { clock, ..SingleConfig::default() }, fanout)
    }
}

/// SQLite whose files are written only when a question needs them: most of an inbox is in memory,
/// and after a kill everything is in the journal.
struct SingleUnwritten {
    folder: TempDir,
}

impl Backend for SingleUnwritten {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Storage> {
        let flush_interval = Duration::from_hours(1);
        open(&self.folder, SingleConfig { flush_interval, ..SingleConfig::default() }, fanout)
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.folder.path())
    }

    fn refuse_writes(&self, inbox: &InboxKey, refuse: bool) -> bool {
        refuse_writes(&self.folder, inbox, refuse)
    }

    fn killed(&self) -> Option<Self> {
        let copy = Self::new();
        copy_folder(self.folder.path(), copy.folder.path());
        Some(copy)
    }
}

impl LedgerBackend for SingleUnwritten {
    async fn open_books(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<dyn Books> {
        let flush_interval = Duration::from_hours(1);
        let config = SingleConfig { flush_interval, clock, ..SingleConfig::default() };
        open(&self.folder, config, fanout)
    }
}

/// PostgreSQL, a database for each place. A store has a runtime of its own, which is what a kill ends.
struct Postgres {
    url: String,
    running: Mutex<Option<(Runtime, Weak<PostgresStore>)>>,
}

impl Postgres {
    async fn open_with(
        &self,
        fanout: Arc<dyn Fanout>,
        clock: Option<WallClock>,
    ) -> Arc<PostgresStore> {
        self.end();
        let config = PostgresConfig { clock, ..PostgresConfig::new(self.url.clone()) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let opening = runtime.spawn(async move {
            PostgresStore::open(config, fanout, &metrics::NoopRecorder).await.unwrap()
        });
        let store = opening.await.unwrap();
        *self.running.lock().unwrap() = Some((runtime, Arc::downgrade(&store)));
        store
    }

    /// Ends whatever the store is doing, wherever it is.
    fn end(&self) {
        if let Some((runtime, _)) = self.running.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

impl Backend for Postgres {
    fn new() -> Self {
        Self { url: postgres::database(), running: Mutex::new(None) }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Storage> {
        self.open_with(fanout, None).await
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn refuse_writes(&self, _: &InboxKey, _: bool) -> bool {
        false
    }

    fn killed(&self) -> Option<Self> {
        // What was answered is told, too, before nothing is asked any more.
        let store = self.running.lock().unwrap().as_ref().and_then(|(_, store)| store.upgrade());
        while store.as_ref().is_some_and(|store| store.unpublished() > 0) {
            thread::sleep(Duration::from_millis(1));
        }
        self.end();
        Some(Self { url: self.url.clone(), running: Mutex::new(None) })
    }
}

impl LedgerBackend for Postgres {
    async fn open_books(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<dyn Books> {
        self.open_with(fanout, Some(clock)).await
    }
}

fn open(folder: &TempDir, config: SingleConfig, fanout: Arc<dyn Fanout>) -> Arc<SingleStore> {
    let config = SingleConfig { root: folder.path().join("storage"), ..config };
    SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap()
}

/// Puts something in the way: of a folder that is not there yet, or of the shared memory without which
/// SQLite does not write a file in WAL mode. The latter is only felt by who opens the files anew.
fn refuse_writes(folder: &TempDir, inbox: &InboxKey, refuse: bool) -> bool {
    let dir = inbox_dir(&folder.path().join("storage"), inbox);
    if !dir.is_dir() {
        if refuse { fs::write(dir, "") } else { fs::remove_file(dir) }.unwrap();
        return true;
    }
    for name in ["messages.db-shm", "read_status.db-shm"] {
        let shm = dir.join(name);
        if refuse {
            let _ = fs::remove_file(&shm);
            fs::create_dir(shm).unwrap();
        } else {
            fs::remove_dir(shm).unwrap();
        }
    }
    true
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

contract::suite!(single, Single);
contract::suite!(single_unwritten, SingleUnwritten);
contract::ledger_suite!(single_ledger, Single);
contract::ledger_suite!(single_unwritten_ledger, SingleUnwritten);
contract::suite!(postgres_store, Postgres);
contract::ledger_suite!(postgres_ledger, Postgres);
