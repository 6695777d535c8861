//! One node on SQLite: a journal that makes things durable, a pair of files for each user that is
//! filled from it.
//!
//! ```text
//! append ─▶ committer ─▶ journal segment (one synced commit for all that wait)
//!              │ then
//!              ├─▶ sequencer: inbox in memory gets the change and its seq, caller is answered
//!              ├─▶ publisher ─▶ Fanout (sockets)
//!              ├─▶ shared-writer, a second later: shared.db (what is for groups and everyone)
//!              └─▶ worker, a second later: messages.db, read_status.db, .sync/
//! read   ─▶ memory if it holds all that is asked, else the inbox's worker: write the tail, query;
//!          a draft of the files where they cannot be written
//! search ─▶ the worker writes the tail, a search thread asks .sync/search.db and messages.db
//! ```
//!
//! **Why the seq need not be in the journal.** The changes of an inbox are numbered in journal
//! order, and its file says how many it has and up to which record. So the number of a change is
//! the same whenever it is worked out: at once for an inbox that is loaded, when its file is
//! written for one that is not, or again after a crash.
//!
//! **Limits.** What waits for the journal: 64 MiB; for `shared.db`: 64 MiB; for the users' files:
//! [`LAG_BYTES_MAX`];
//! reads that wait: 65,536 a worker; searches that wait: 1,024; changes that wait for sockets: 262,144 a publisher. At each
//! the caller gets `Busy`, except the last, where the change is read from the store instead. Each
//! has a counter, see [`metrics::ALL`].

mod ahead;
mod backing_up;
mod committer;
mod cursors;
mod directory;
mod export;
mod files;
mod forget;
mod group_index;
mod inbox;
mod inboxes;
mod journal;
mod lag;
mod layout;
mod ledger;
mod marking;
mod membership;
pub mod metrics;
mod moved;
mod noting;
mod operations;
mod private;
mod pruner;
mod publisher;
mod queries;
mod receipts;
mod recode;
mod record;
mod restore;
mod schema;
mod search;
mod segment;
mod sequencer;
mod shared;
mod shutdown;
mod sql;
#[cfg(test)]
mod tests;
mod threads;
mod trim;
mod user_files;
mod verify;
mod walk;
mod worker;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use self::{
    ahead::Ahead,
    committer::Committer,
    directory::Locks,
    files::{Files, FilesContext, remove_all},
    forget::{Forgets, Forgetter},
    inbox::Inbox,
    inboxes::{IDLE_MAX, Inboxes},
    lag::Lag,
    ledger::{Ledger, Scheduler, metrics::LedgerMetrics},
    metrics::StoreMetrics,
    pruner::Pruner,
    publisher::Publisher,
    schema::Templates,
    search::Searches,
    sequencer::Sequencer,
    shared::Shared,
    shutdown::Shutdown,
    sql::Sync,
    threads::{Threads, give_way, thread},
    trim::Trimmer,
    worker::{CROWD_PATIENCE, Worker},
};
use crate::{
    Fanout, InboxKey,
    clock::WallClock,
    store::{Keeping, Retention, TenantRetention, Witness, limits},
};

pub use self::{
    backing_up::back_up_folder,
    layout::{hub_dir, inbox_dir},
    moved::{MARK as MOVED_MARK, check_at_rest, check_not_moved},
    private::own_dir,
    recode::{RecodeError, recode_folder},
    restore::restore,
    verify::{Fault, Verified, verify_folder},
};
pub(crate) use self::{
    export::{Export, ExportError, InboxLine, MovedMessage, MovedRecord, Wanted, cells},
    moved::{Held, Mark as MovedMark},
    restore::place_files,
};

/// How long an ack may wait in memory with the default settings: the longest wait of an inbox for
/// its worker.
pub const CURSOR_FLUSH_INTERVAL: Duration = Duration::from_secs(CROWD_PATIENCE as u64);

/// Memory that changes may hold until they are in their files, in bytes. At 60,000 changes a second
/// of half a KiB this is eight seconds of writing; above it sends are answered `Busy`.
pub const LAG_BYTES_MAX: i64 = 256 << 20;

/// How often old journal segments are looked at and idle inboxes forgotten.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(2);

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct SingleConfig {
    /// The storage folder (`USER_STORAGE_PATH`).
    pub root: PathBuf,
    /// How long a change waits for others before it is written to its file.
    pub flush_interval: Duration,
    /// Inboxes whose files are kept open, over all workers. Three to six descriptors each.
    pub open_inboxes: usize,
    /// Whether commits of the journal are synced. Only `false` in the test that proves that losing
    /// power without it would be seen.
    pub journal_sync: bool,
    /// How long it is kept what was sent, for those who sent it: at least as long as inboxes keep
    /// messages (`RETENTION_MAX_AGE`).
    pub sent_kept: Duration,
    /// When scheduled messages are due, messages expire, and how old something is that is kept for a time.
    pub clock: WallClock,
    /// Is told what becomes of messages.
    pub witness: Option<Arc<dyn Witness>>,
    /// What inboxes keep. What they need not is forgotten slowly: an inbox is looked at some time
    /// after an hour, see [`crate::Store::prune_all`] for at once.
    pub retention: Retention,
    /// What tenants keep that keep less.
    pub tenants: Option<Arc<dyn TenantRetention>>,
}

impl Default for SingleConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("data/user_storage"),
            flush_interval: Duration::from_secs(1),
            open_inboxes: 1_024,
            journal_sync: true,
            sent_kept: limits::SENT_KEPT,
            clock: WallClock::default(),
            witness: None,
            retention: Retention::default(),
            tenants: None,
        }
    }
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file cannot be made or read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process; one node serves a storage folder")]
    InUse(PathBuf),
    /// Its data is in a database, or on its way there.
    #[error("{} {how} into the database {database}, and is not served any more; to take the folder back into use as it was, delete {}", .root.display(), .mark.display())]
    Moved {
        /// The folder.
        root: PathBuf,
        /// Where to, without a password.
        database: String,
        /// How far that is.
        how: &'static str,
        /// The file that says so.
        mark: PathBuf,
    },
    /// No node has ever served it.
    #[error("{} is no storage folder: there is no .hub/shared.db in it", .0.display())]
    NotOurs(PathBuf),
    /// The journal, `shared.db` or `ledger.db` cannot be used.
    #[error("the store's files cannot be opened")]
    Files(#[source] Box<dyn std::error::Error + Send + std::marker::Sync>),
}

/// The store of one node. Cheap to share in an `Arc`; [`crate::Store::close`] ends it in order.
pub struct SingleStore {
    committer: Arc<Committer>,
    inboxes: Arc<Inboxes>,
    shared: Arc<Shared>,
    locks: Locks,
    forgets: Arc<Forgets>,
    root: Arc<Path>,
    workers: Arc<[Worker]>,
    publishers: Arc<[Publisher]>,
    searches: Arc<Searches>,
    lag: Arc<Lag>,
    ledger: Arc<Ledger>,
    metrics: Arc<StoreMetrics>,
    threads: Mutex<Option<Threads>>,
    closing: AtomicBool,
    housekeeping: Arc<(Mutex<bool>, Condvar)>,
    pruner: Arc<Pruner>,
    flush_interval: Duration,
}

impl SingleStore {
    /// What is kept: as the configuration says, until somebody sets it.
    #[must_use]
    pub fn keeping(&self) -> &Arc<Keeping> {
        &self.pruner.keeping
    }

    /// Opens the storage folder, replays the journal, and starts the store's threads.
    ///
    /// # Errors
    /// [`OpenError`] when the folder cannot be used; nothing is changed then.
    pub fn open(
        config: &SingleConfig,
        fanout: Arc<dyn Fanout>,
        recorder: &dyn ::metrics::Recorder,
    ) -> Result<Arc<Self>, OpenError> {
        check_not_moved(&config.root)?;
        let hub = hub_dir(&config.root);
        own_dir(&hub).map_err(|source| OpenError::Io { path: hub.clone(), source })?;
        let held = Held { root: config.root.clone(), lock: lock(&hub)? };
        Self::open_held(held, config, fanout, recorder)
    }

    /// The same for a folder that this process holds, wherever its data is.
    pub(crate) fn open_held(
        Held { root, lock }: Held,
        config: &SingleConfig,
        fanout: Arc<dyn Fanout>,
        recorder: &dyn ::metrics::Recorder,
    ) -> Result<Arc<Self>, OpenError> {
        debug_assert_eq!(root, config.root, "the folder that is held is the one that is opened");
        let hub = hub_dir(&root);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        // The names of the folders must survive a power cut before the first answer.
        for dir in [Some(&*config.root), config.root.parent()].into_iter().flatten() {
            if !dir.as_os_str().is_empty() {
                File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
            }
        }
        let root = Trimmer::open_root(&config.root).map_err(at(&config.root))?;
        let metrics = Arc::new(StoreMetrics::new(recorder));
        let keeping =
            Arc::new(Keeping::new(config.retention, config.sent_kept, config.tenants.clone()));
        let open = || -> Result<_, Box<dyn std::error::Error + Send + std::marker::Sync>> {
            let shared = Arc::new(Shared::open(&hub.join("shared.db"), Arc::clone(&metrics))?);
            let ledger = Ledger::open(
                &hub.join("ledger.db"),
                config,
                &keeping,
                Arc::new(LedgerMetrics::new(recorder)),
                Arc::clone(&metrics),
            )?;
            let recovered = journal::recover(&hub)?;
            // A journal that was not synced may have lost what these files have already, and they
            // pass over what they have.
            let next = recovered.next.max(shared.floor()?).max(ledger.0.floor());
            let sync = if config.journal_sync { Sync::Full } else { Sync::Off };
            let ahead = Ahead::new(hub.clone(), sync, recovered.number);
            let segment = ahead.make()?;
            Ok((shared, ledger, recovered, next, Arc::new(ahead), segment, Templates::new()?))
        };
        let (shared, (ledger, books), recovered, next, ahead, segment, templates) =
            open().map_err(OpenError::Files)?;

        // What an earlier end has left of folders that were on their way out.
        let away = layout::forgotten_dir(&config.root);
        remove_all(&away).map_err(at(&away))?;
        let forgetting = shared.forgetting().map_err(|error| OpenError::Files(Box::new(error)))?;
        let forgets = Arc::new(Forgets::new(forgetting, Arc::clone(&metrics)));
        let count = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let inboxes = Arc::new(Inboxes::new(count));
        let lag = Arc::new(Lag::new(Arc::clone(&metrics)));
        let searches = Searches::new(config.root.clone(), Arc::clone(&metrics))
            .map_err(|error| OpenError::Files(Box::new(error)))?;
        let searches = Arc::new(searches);
        let sequenced = Arc::new(AtomicU64::new(next - 1));
        let workers: Arc<[Worker]> =
            (0..count).map(|_| Worker::new(Arc::clone(&metrics))).collect();
        let publishers: Arc<[Publisher]> =
            (0..count).map(|_| Publisher::new(Arc::clone(&metrics))).collect();
        let mut sequencer = Sequencer {
            inboxes: Arc::clone(&inboxes),
            shared: Arc::clone(&shared),
            ledger: Arc::clone(&ledger),
            forgets: Arc::clone(&forgets),
            lag: Arc::clone(&lag),
            sequenced: Arc::clone(&sequenced),
            workers: Arc::clone(&workers),
            publishers: Arc::clone(&publishers),
            fanout: Arc::clone(&fanout),
            dirty: vec![Vec::new(); count],
            changes: vec![Vec::new(); count],
        };
        for (lsn, record) in recovered.records {
            sequencer.apply(lsn, record, None);
        }
        sequencer.finish_batch();
        let committer = Arc::new(Committer::new(recovered.segments, Arc::clone(&metrics)));
        let context = Arc::new(FilesContext {
            root: config.root.clone(),
            templates,
            shared: Arc::clone(&shared),
            ledger: Arc::clone(&ledger),
            searches: Arc::clone(&searches),
            inboxes: Arc::clone(&inboxes),
            sequenced,
            lag: Arc::clone(&lag),
            metrics: Arc::clone(&metrics),
            open_max: (config.open_inboxes / count).max(8),
            warned: Mutex::default(),
            clock: config.clock.clone(),
        });
        let pruner = Arc::new(Pruner {
            root: config.root.clone(),
            keeping: Arc::clone(&keeping),
            inboxes: Arc::clone(&inboxes),
            workers: Arc::clone(&workers),
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            orders: Mutex::default(),
            wake: Condvar::new(),
        });
        let trimmer = Arc::new(Trimmer {
            root,
            inboxes: Arc::clone(&inboxes),
            shared: Arc::clone(&shared),
            ledger: Arc::clone(&ledger),
            committer: Arc::clone(&committer),
            metrics: Arc::clone(&metrics),
            sync_failed: AtomicBool::new(false),
            forgets: Arc::clone(&forgets),
            turn: Mutex::default(),
        });
        let store = Arc::new(Self {
            committer,
            inboxes,
            shared,
            locks: Locks::default(),
            forgets,
            root: config.root.as_path().into(),
            workers,
            publishers,
            searches,
            lag,
            ledger,
            metrics,
            threads: Mutex::default(),
            closing: AtomicBool::new(false),
            housekeeping: Arc::default(),
            pruner,
            flush_interval: config.flush_interval,
        });
        let start = committer::Start { segment, ahead, next, sequencer };
        *store.threads.lock() = Some(store.spawn(start, books, &context, fanout, trimmer, lock));
        Ok(store)
    }

    fn spawn(
        &self,
        start: committer::Start,
        books: ledger::Start,
        context: &Arc<FilesContext>,
        fanout: Arc<dyn Fanout>,
        trimmer: Arc<Trimmer>,
        lock: File,
    ) -> Threads {
        let ahead = Arc::clone(&start.ahead);
        let maker = {
            let ahead = Arc::clone(&ahead);
            thread("journal-ahead", move || ahead.run())
        };
        let committer = Arc::clone(&self.committer);
        let committer = thread("committer", move || committer.run(start));
        let workers = (0..self.workers.len())
            .map(|index| {
                let (workers, context) = (Arc::clone(&self.workers), Arc::clone(context));
                let interval = self.flush_interval;
                thread("store-worker", move || {
                    give_way();
                    workers[index].run(&mut Files::new(context), interval);
                })
            })
            .collect();
        let publishers = (0..self.publishers.len())
            .map(|index| {
                let (publishers, fanout) = (Arc::clone(&self.publishers), Arc::clone(&fanout));
                thread("publisher", move || publishers[index].run(&*fanout))
            })
            .collect();
        let searches = (0..search::THREADS)
            .map(|index| {
                let searches = Arc::clone(&self.searches);
                thread("search", move || {
                    give_way();
                    searches.run(index);
                })
            })
            .collect();
        let (shared, interval) = (Arc::clone(&self.shared), self.flush_interval);
        let keeper = thread("shared-writer", move || {
            give_way();
            shared.run(interval);
        });
        let scheduler = Scheduler {
            ledger: Arc::clone(&self.ledger),
            committer: Arc::clone(&self.committer),
            lag: Arc::clone(&self.lag),
            forgets: Arc::clone(&self.forgets),
        };
        let scheduler = thread("scheduler", move || scheduler.run());
        let (ledger, ledger_reader) = self.ledger.spawn(books, self.flush_interval);
        let (signal, trimming) = (Arc::clone(&self.housekeeping), Arc::clone(&trimmer));
        let (inboxes, metrics) = (Arc::clone(&self.inboxes), Arc::clone(&self.metrics));
        let workers_to_tell = Arc::clone(&self.workers);
        let housekeeper = thread("housekeeper", move || {
            let (stop, wake) = &*signal;
            let mut stopped = stop.lock();
            while !*stopped {
                wake.wait_until(&mut stopped, Instant::now() + HOUSEKEEPING_EVERY);
                parking_lot::MutexGuard::unlocked(&mut stopped, || {
                    for inbox in inboxes.sweep(IDLE_MAX) {
                        let worker = &workers_to_tell[inbox.worker];
                        worker.mark_dirty(Instant::now(), &mut vec![inbox]);
                    }
                    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
                    {
                        metrics.inboxes.set(inboxes.len() as f64);
                    }
                    if let Err(error) = trimming.trim() {
                        metrics.trim_errors.increment(1);
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the journal cannot be trimmed now"
                        );
                    }
                });
            }
        });
        let pruner = {
            let pruner = Arc::clone(&self.pruner);
            thread("pruner", move || {
                give_way();
                pruner.run();
            })
        };
        let forgetter = Forgetter {
            hub: hub_dir(&self.root),
            forgets: Arc::clone(&self.forgets),
            inboxes: Arc::clone(&self.inboxes),
            workers: Arc::clone(&self.workers),
            shared: Arc::clone(&self.shared),
            ledger: Arc::clone(&self.ledger),
            committer: Arc::clone(&self.committer),
            ahead: Arc::clone(&ahead),
            trimmer: Arc::clone(&trimmer),
            metrics: Arc::clone(&self.metrics),
        };
        let forgetter = thread("forgetter", move || {
            give_way();
            forgetter.run();
        });
        Threads {
            ahead,
            maker,
            committer,
            workers,
            publishers,
            searches,
            keeper,
            scheduler,
            ledger,
            ledger_reader,
            housekeeper,
            pruner,
            forgetter,
            trimmer,
            _lock: lock,
        }
    }

    /// Refreshes the gauges of what waits, for a scrape.
    pub fn lag_records(&self) -> i64 {
        self.lag.records()
    }

    fn inbox(&self, key: &InboxKey) -> Arc<Inbox> {
        let inbox = self.inboxes.get(key.clone());
        inbox.state.lock().used = Some(Instant::now());
        inbox
    }

    fn take_shutdown(&self) -> Option<Shutdown> {
        Some(Shutdown {
            threads: self.threads.lock().take()?,
            committer: Arc::clone(&self.committer),
            ledger: Arc::clone(&self.ledger),
            workers: Arc::clone(&self.workers),
            publishers: Arc::clone(&self.publishers),
            searches: Arc::clone(&self.searches),
            housekeeping: Arc::clone(&self.housekeeping),
            pruner: Arc::clone(&self.pruner),
            forgets: Arc::clone(&self.forgets),
        })
    }
}

impl Drop for SingleStore {
    fn drop(&mut self) {
        if let Some(shutdown) = self.take_shutdown() {
            shutdown.run();
        }
    }
}

fn lock(hub: &Path) -> Result<File, OpenError> {
    let path = hub.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(path)),
        Err(fs::TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}
