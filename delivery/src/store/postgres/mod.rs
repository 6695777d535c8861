//! Any number of nodes on one PostgreSQL (15 or later).
//!
//! ```text
//! append ─▶ batcher ─▶ one transaction for all that wait: bodies once, rows of inboxes, the ledger ─▶ answer
//!              │ after the commit
//!              ├─▶ publisher ─▶ Fanout, in the order of each inbox's seqs
//!              └─▶ catch_up: inboxes that are watched here and are in a group that was sent to ─▶ Fanout
//! read   ─▶ takes over what waits for the inbox (group messages, expiry), then looks, as of one moment
//! ```
//!
//! **Where the seq comes from.** A transaction locks the inboxes it writes to, in the order of their ids,
//! and holds them to its commit; so the changes of an inbox are committed in the order of their
//! seqs, and whoever reads up to a seq has read all before it. A sequence of the database's own would
//! leave holes that fill up later.
//!
//! **One set of rules.** What becomes of an inbox is worked out in [`slot`], in memory, on the locked
//! row and the few messages that it concerns, and written with one statement for all inboxes (`work`).
//! In SQL alone the rules would be written once for sends, once for what is taken over from groups, and once
//! for marks, and a batch with a message to everyone between two others could not be one transaction.
//!
//! **Groups cost one record** (`broadcasts`), however many their members. It is taken over by an inbox
//! that is touched, and at once by those that are watched. Which records are for whom is decided by
//! places: a tenant's row is held by whoever sends to groups or changes who is in them, so that
//! both have one order.
//!
//! **One row for what was sent.** `bodies` is the content, once however many recipients, and what its
//! sender sees of it: two tables would be two inserts and two unique keys for each message. What lists
//! may ask for of its metadata stands beside it (`bodies.metadata`), in an index that messages without
//! metadata are not in; what the index costs is in `loadtest/RESULTS.md`. The values stand there as
//! texts, by the rule of `store::metadata`: `jsonb` of its own takes `1` and `1.0` for the same, and
//! knows `42` from `"42"`, both of which a question in a URL cannot mean.
//!
//! **Time is the database's.** Nodes whose clocks differ agree when a message is due, expires, was read.
//! Order never depends on it.
//!
//! **What is forgotten** is in no row from the commit on. Its bytes are the server's to overwrite: dead rows until
//! `VACUUM` has been there, the log until its files are recycled. No `VACUUM` is run here: it reads all of a
//! table for one user, and needs to own it.
//!
//! **Limits.** Sends that wait: 65,536, or 64 MiB; beyond they are `Busy`. Operations wait for a
//! connection for [`PostgresConfig::acquire_timeout`], then are `Busy`. Notes of what went to devices
//! wait for 100,000 devices; those of others are dropped and counted. See [`metrics::ALL`].

mod append;
mod backing_up;
mod batcher;
mod books;
mod catch_up;
mod channels;
mod columns;
mod company;
mod config;
mod core;
mod deliver;
mod directory;
mod errors;
mod examine;
mod forget;
mod groups;
mod import;
mod ledger;
mod list;
mod locks;
mod marks;
mod members;
pub mod metrics;
mod migrate;
mod names;
mod notes;
mod noting;
mod operations;
mod over;
mod pool;
mod probe;
mod prune;
mod publish;
mod reads;
mod receipts;
mod recode;
mod rows;
mod schedule;
mod search;
mod slot;
mod sole;
mod standby;
mod stats;
mod tell;
mod tls;
mod users;
mod words;
mod work;
mod write;

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ::metrics::Recorder;
use parking_lot::Mutex;
use protocol::TenantId;
use secrecy::SecretString;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::import::restore;
pub(crate) use self::import::{Claim, Ids, Import, ImportError, Target, targets};
pub(crate) use self::sole::Sole;
use self::{
    batcher::Batcher, config::Address, core::Core, errors::Failure, metrics::PostgresMetrics,
    names::Names, notes::Notes, pool::Db, publish::Publisher, standby::Standby,
};
pub use self::{
    company::{Company, CompanyError, Place},
    config::{PostgresConfig, UrlError, check_address},
    examine::{
        CONNECTIONS_BESIDE, ExamineError, Examined, StandbyExamined, examine, examine_standby,
        examine_tables,
    },
    migrate::MigrateError,
    pool::PoolError,
    probe::{ProbeError, connecting, may_pass, probe},
    recode::{RecodeError, recode_database},
    tls::TlsError,
};
use crate::{
    Fanout, StoreError,
    migration::Migrated,
    store::{Keeping, noted::Noted},
};

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database's address or its certificates.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Its tables.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A folder is being moved into it.
    #[error(
        "a storage folder is being moved into this database: finish that with pushhub migrate --from"
    )]
    Moving,
    /// What is being moved cannot be looked up.
    #[error("the database cannot be read")]
    Look(#[source] StoreError),
    /// A thread.
    #[error("a thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// A node's part of a store that several nodes share. Cheap to share in an `Arc`; [`crate::Store::close`]
/// ends it in order.
pub struct PostgresStore {
    core: Arc<Core>,
    batcher: Batcher,
    /// Where operations run: to their end, whatever becomes of who asked for them.
    runtime: Handle,
    operations: TaskTracker,
    /// What runs all the time, and what ends it.
    background: TaskTracker,
    stop: CancellationToken,
    catching_up: TaskTracker,
    stop_catching_up: CancellationToken,
    batches: TaskTracker,
    batcher_closed: Arc<Notify>,
}

fn connect(url: &SecretString, config: &PostgresConfig) -> Result<Db, PoolError> {
    Db::new(Address::parse(url, config)?, config)
}

impl Drop for PostgresStore {
    /// Ends what runs all the time; what was accepted is finished by who holds the runtime.
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_catching_up.cancel();
        self.batcher_closed.notify_one();
    }
}

impl PostgresStore {
    /// Opens the store: makes or upgrades the database's tables, and begins to send what is due.
    /// Operations run on the runtime that this is called on.
    ///
    /// # Errors
    /// [`OpenError`] for an address that cannot be used, a database that cannot be reached or is newer
    /// than this build.
    pub async fn open(
        config: PostgresConfig,
        fanout: Arc<dyn Fanout>,
        recorder: &(dyn Recorder + Send + Sync),
    ) -> Result<Arc<Self>, OpenError> {
        Self::migrate(&config).await?;
        let db = connect(&config.url, &config)?;
        if import::is_under_way(&db).await.map_err(|error| OpenError::Look(error.into()))? {
            return Err(OpenError::Moving);
        }
        Self::start(db, config, fanout, recorder)
    }

    /// Opens the store on a database that has its tables.
    fn start(
        db: Db,
        config: PostgresConfig,
        fanout: Arc<dyn Fanout>,
        recorder: &(dyn Recorder + Send + Sync),
    ) -> Result<Arc<Self>, OpenError> {
        let replica = config.replica_url.as_ref().map(|url| connect(url, &config)).transpose()?;
        let metrics = PostgresMetrics::new(recorder);
        let core = Arc::new(Core {
            db,
            replica: replica.map(Standby::new),
            names: Names::default(),
            publisher: Publisher::start(fanout, metrics.publish_dropped.clone())?,
            caught: catch_up::Caught::default(),
            notes: Notes::default(),
            noted: Noted::default(),
            over: over::Over::default(),
            metrics,
            closing: false.into(),
            committed: Mutex::new(None),
            keeping: Arc::new(Keeping::new(
                config.retention,
                config.sent_kept,
                config.tenants.clone(),
            )),
            config,
        });
        let (background, batches) = (TaskTracker::new(), TaskTracker::new());
        let (stop, batcher_closed) = (CancellationToken::new(), Arc::new(Notify::new()));
        let batcher = Batcher::start(&core, &batches, Arc::clone(&batcher_closed));
        let store = Self {
            core,
            batcher,
            runtime: Handle::current(),
            operations: TaskTracker::new(),
            background,
            stop,
            catching_up: TaskTracker::new(),
            stop_catching_up: CancellationToken::new(),
            batches,
            batcher_closed,
        };
        let core = || Arc::clone(&store.core);
        let catch_up = catch_up::run(core(), store.stop_catching_up.clone());
        store.catching_up.spawn_on(catch_up, &store.runtime);
        store.background.spawn_on(schedule::run(core(), store.stop.clone()), &store.runtime);
        store.keep_running(notes::run(core()));
        store.keep_running(prune::run(core()));
        store.keep_running(forget::run(core()));
        let core = core();
        store.keep_running(async move { core.try_standby().await });
        Ok(Arc::new(store))
    }

    /// Makes or upgrades a database's tables, and nothing else.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn migrate(config: &PostgresConfig) -> Result<Migrated, OpenError> {
        Ok(migrate::run(&import::connect(config)?).await?)
    }

    /// What is kept: as the configuration says, until somebody sets it.
    #[must_use]
    pub fn keeping(&self) -> &Arc<Keeping> {
        &self.core.keeping
    }

    /// Another node has sent something to groups or everyone of a tenant, up to a position: whoever is
    /// watched here is brought to it, and told. May be called twice or too late, see
    /// [`crate::Fanout::advanced`]; [`crate::Store::heads`] makes up for one that was lost.
    pub fn catch_up(&self, tenant: &TenantId, pos: u64) {
        self.core.caught.wake(tenant, i64::try_from(pos).unwrap_or(i64::MAX));
    }

    /// How much is committed by this node and not published: changes that wait for a publisher, and
    /// tenants whose watched inboxes are being brought to what was sent to their groups.
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.core.publisher.waiting() + self.core.caught.behind()
    }

    fn keep_running(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.background
            .spawn_on(async move { stop.run_until_cancelled(task).await }, &self.runtime);
    }

    /// Runs an operation to its end, whether or not its caller waits for it.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.core.check_open()?;
        match self.operations.spawn_on(operation, &self.runtime).await {
            Ok(answer) => Ok(answer?),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closing),
            },
        }
    }

    /// After so long nothing is waited for any more that the database has not answered: what is under way is
    /// answered 503, and [`crate::Store::close`] returns. For a node that ends, and has only so long to
    /// finish: a database that stands still would keep it for ever.
    pub fn give_up_after(&self, time: Duration) {
        let replica = self.core.replica.as_ref().map(|standby| &standby.db);
        let dbs = [Some(&self.core.db), replica].map(Option::<&Db>::cloned);
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            dbs.iter().flatten().for_each(Db::give_up);
        });
    }

    /// Finishes what was accepted, and ends.
    async fn end(&self) {
        self.core.closing.store(true, Ordering::Release);
        self.batcher_closed.notify_one();
        self.batches.close();
        self.batches.wait().await;
        self.operations.close();
        self.operations.wait().await;
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
        // Last: all the others may have something to tell.
        self.stop_catching_up.cancel();
        self.catching_up.close();
        self.catching_up.wait().await;
        if let Err(failure) = notes::flush(&self.core).await {
            tracing::warn!(error = &failure as &dyn std::error::Error, "receipts are lost");
        }
        let publisher = Arc::clone(&self.core.publisher);
        // Joining threads must not block the runtime that still answers the last requests.
        let _ = tokio::task::spawn_blocking(move || publisher.end()).await;
        self.core.db.close();
        if let Some(replica) = &self.core.replica {
            replica.db.close();
        }
    }
}
