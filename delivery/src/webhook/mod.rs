//! Webhooks: services are told what became of their messages (contract §11).
//!
//! ```text
//! EventSink::record ─▶ writer: one synced commit for all that wait
//!                        │ then
//!                        ▼
//! schedule: whose turn ─▶ slot: a page of what is due ─▶ client: POST ─▶ writer: what came of it
//! ```
//!
//! Signed as Standard Webhooks 1.0. An event is delivered at least once, with the same `webhook-id`
//! each time, in no order that is promised. It is tried ten times over three days
//! ([`RETRY_DELAYS`]); what failed then, or waited for [`PENDING_AGE_MAX`], is a dead letter, which
//! can be sent again by hand as long as it is remembered. An endpoint at which every attempt failed
//! for [`DISABLE_AFTER`] is disabled, one that answers 410 at once.
//!
//! **Limits.** Slots: 128 for quick and 256 for slow or failing endpoints, 16 an endpoint, 32 a
//! service. Waiting: a million events or 512 MiB an endpoint, newer ones are dropped. Remembered:
//! 14 days, 100,000 events of each kind an endpoint. In memory: a page of 64 events or 256 KiB for
//! each endpoint that is being sent to. Each has a const here and a metric.
//!
//! **Where they may go** is in `outbound::address`: public addresses by `https`, and whatever the operator
//! named in `WEBHOOK_ALLOWED_NETWORKS`.

mod client;
mod cluster;
mod copy;
mod database;
mod deliveries;
mod dispatch;
mod endpoint;
mod endpoints;
mod error;
mod event;
mod known;
mod manage;
mod metrics;
mod record;
mod retry;
mod schedule;
mod secret;
mod upkeep;
mod witness;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use ::metrics::Recorder;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock};
use protocol::Time;
use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::RootCertStore;

use self::{
    client::Client,
    cluster::{Keeper, KeeperHandle, Tenure, Timing},
    database::AREA,
    known::Known,
    manage::Tests,
    metrics::WebhookMetrics,
    schedule::Schedule,
    writer::Writer,
};
use crate::{
    control::{Control, TURN_MAX},
    migration::{Migrated, Tables},
    networks::Networks,
    outbound::{Allowed, Resolve, SystemResolver, system_roots},
    sql::{Database, SqlError, Tls, postgres, sqlite},
};

pub use crate::{outbound::URL_BYTES_MAX, sql::SqlError as DatabaseError};

pub(crate) use self::copy::{copy, copy_in, copy_out};
pub use self::{
    client::{Attempt, Outcome, RESPONSE_BYTES_MAX},
    cluster::{LEASE, SHARES},
    copy::WebhookCounts,
    database::FILE_NAME,
    deliveries::{
        DeadLetter, Delivery, DeliveryStatus, GivenUp, PENDING_BYTES_PER_ENDPOINT_MAX,
        PENDING_PER_ENDPOINT_MAX,
    },
    endpoint::{
        ALL_EVENTS, DESCRIPTION_BYTES_MAX, Disabled, DisabledBy, ENDPOINTS_PER_SERVICE_MAX,
        EVENT_WORDS, NewWebhook, Webhook, WebhookStatus,
    },
    error::WebhookError,
    event::{EVENT_BYTES_MAX, Event, EventKind, TEST_KIND},
    manage::{Actor, Page, SECRET_OVERLAP, SECRET_OVERLAP_MAX, TESTS_MAX, TESTS_PER_SERVICE_MAX},
    metrics::ALL as METRICS,
    record::EventSink,
    retry::{DISABLE_AFTER, JITTER, RETRY_AFTER_MAX, RETRY_DELAYS},
    schedule::{ENDPOINT_SLOTS, LANE_SLOTS, PAUSE_MAX, SERVICE_SLOTS, SLOW, SLOW_SLOTS_MAX},
    secret::{SECRET_PREFIX, SECRETS_MAX, SecretTimes},
    upkeep::{HISTORY_AGE_MAX, HISTORY_PER_ENDPOINT_MAX, PENDING_AGE_MAX},
};

/// Most connections at a time: both lanes and tests.
pub const CONNECTIONS_MAX: usize = LANE_SLOTS + SLOW_SLOTS_MAX + TESTS_MAX;

/// What can be set.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// `WEBHOOK_ALLOWED_NETWORKS`: addresses that may be reached although they are not public, and
    /// without TLS.
    pub allowed_networks: Networks,
    /// `WEBHOOK_TIMEOUT`: for all of one attempt.
    pub timeout: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { allowed_networks: Networks::default(), timeout: Duration::from_secs(15) }
    }
}

/// The webhooks of this node. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

struct Inner {
    control: Arc<Control>,
    client: Client,
    clock: Clock,
    known: ArcSwap<Known>,
    /// A change is in the file and not in `known`.
    stale: AtomicBool,
    /// None once it is closed.
    writer: RwLock<Option<Arc<Writer>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// For those who ask. Held while memory is brought up to date, so that an older state never
    /// replaces a newer one.
    reader: Mutex<Database>,
    /// For those who send, so that a long list does not hold them up.
    pages: Mutex<Database>,
    schedule: Mutex<Schedule>,
    /// Something may be due, or a slot is free.
    changed: Notify,
    stopping: watch::Sender<bool>,
    /// [`Webhooks::run`] was called.
    sending: AtomicBool,
    /// What this node may send for: everything, where it is the only one.
    tenure: Tenure,
    /// None where this node is the only one.
    keeper: Option<KeeperHandle>,
    tests: Tests,
    metrics: WebhookMetrics,
}

/// What tests put in place of the world.
struct World {
    clock: Clock,
    resolver: Arc<dyn Resolve>,
    roots: RootCertStore,
    timing: Timing,
}

impl World {
    /// Its clock is the one that all nodes go by.
    fn real(control: &Control) -> Self {
        let clock = control.clock().clone();
        Self {
            clock: Arc::new(move || clock.now()),
            resolver: Arc::new(SystemResolver),
            roots: system_roots(),
            timing: Timing::default(),
        }
    }
}

/// The connections of a node, and where its file is, if it has one.
struct Connections {
    writer: Database,
    reader: Database,
    pages: Database,
    file: Option<PathBuf>,
}

impl Webhooks {
    /// Opens `webhooks.db` in `dir`, or makes it (mode 0600). Nothing is sent before
    /// [`Webhooks::run`].
    ///
    /// # Errors
    /// [`WebhookError::Database`], [`WebhookError::Io`], [`WebhookError::Tls`].
    pub fn open(
        dir: &Path,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        Self::open_in(World::real(&control), dir, config, control, recorder)
    }

    fn open_in(
        world: World,
        dir: &Path,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let path = dir.join(FILE_NAME);
        let writer = Database::Sqlite(sqlite::Connection::open(&path, &AREA)?);
        let reader = || sqlite::Connection::open_reader(&path).map(Database::Sqlite);
        let (reader, pages) = (reader()?, reader()?);
        let connections = Connections { writer, reader, pages, file: Some(path) };
        let inner = Inner::new(world, connections, config, control, recorder)?;
        inner.load()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Opens the webhooks of nodes that share a PostgreSQL, making or upgrading their tables. A node has four
    /// connections for them: for changes, for those who ask, for those who send, and for its lease. Nothing
    /// is sent before [`Webhooks::run`], by which the node takes its part of it.
    ///
    /// # Errors
    /// [`WebhookError::Database`], also for a database that this build is too old for,
    /// [`WebhookError::Io`], [`WebhookError::Tls`].
    pub fn open_postgres(
        database: tokio_postgres::Config,
        tls: impl Tls,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, database, tls)?);
        Self::open_postgres_in(World::real(&control), &server, config, control, recorder)
    }

    /// Makes or upgrades the tables of webhooks in a PostgreSQL, and nothing else.
    ///
    /// # Errors
    /// As [`Webhooks::open_postgres`].
    pub fn migrate_postgres(
        database: tokio_postgres::Config,
        tls: impl Tls,
    ) -> Result<Migrated, WebhookError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, database, tls)?);
        Ok(postgres::migrate(&mut postgres::Connection::new(&server, &AREA))?)
    }

    /// How the tables of webhooks stand in a PostgreSQL; changes nothing. Waits for the database.
    ///
    /// # Errors
    /// As [`Webhooks::open_postgres`].
    pub fn examine_postgres(
        config: tokio_postgres::Config,
        tls: impl Tls,
    ) -> Result<Tables, WebhookError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, config, tls)?);
        Ok(postgres::look(&mut postgres::Connection::new(&server, &AREA))?)
    }

    fn open_postgres_in(
        world: World,
        server: &Arc<postgres::Server>,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let connection = || postgres::Connection::new(server, &AREA);
        let mut writer = connection();
        postgres::migrate(&mut writer)?;
        let (reader, pages) = (connection(), connection());
        let [writer, reader, pages] = [writer, reader, pages].map(Database::Postgres);
        let connections = Connections { writer, reader, pages, file: None };
        let keeper = Keeper::new(Database::Postgres(connection()), world.timing);
        let inner = Inner::new(world, connections, config, control, recorder)?;
        let inner = keeper.begin(|keeper| {
            let (tenure, keeper) = (Tenure::of_nothing(), Some(keeper));
            Arc::new(Inner { tenure, keeper, ..inner })
        })?;
        Ok(Self(inner))
    }

    /// Waits until everything that was recorded is written, gives back what this node sent for, and closes
    /// the file or its connection. After it everything that writes is [`WebhookError::Closed`]. May wait
    /// for the disk or the database.
    pub fn close(&self) {
        self.stop();
        if let Some(keeper) = &self.0.keeper {
            keeper.end();
        }
        drop(self.0.writer.write().take());
        if let Some(thread) = self.0.thread.lock().take() {
            // It has nothing to tell that could be acted on.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Of a node that is alone.
    fn new(
        world: World,
        connections: Connections,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let metrics = WebhookMetrics::new(recorder);
        let Connections { writer, reader, pages, file } = connections;
        let (writer, thread) = Writer::begin(writer, file, metrics.of_writer())?;
        let allowed = Allowed::Named(config.allowed_networks);
        Ok(Self {
            control,
            client: Client::new(allowed, world.resolver, world.roots, config.timeout)?,
            clock: world.clock,
            known: ArcSwap::default(),
            stale: AtomicBool::new(false),
            writer: RwLock::new(Some(Arc::new(writer))),
            thread: Mutex::new(Some(thread)),
            reader: Mutex::new(reader),
            pages: Mutex::new(pages),
            schedule: Mutex::default(),
            changed: Notify::new(),
            stopping: watch::Sender::new(false),
            sending: AtomicBool::new(false),
            tenure: Tenure::of_all(),
            keeper: None,
            tests: Tests::default(),
            metrics,
        })
    }

    fn now(&self) -> Time {
        (self.clock)()
    }

    fn writer(&self) -> Result<Arc<Writer>, WebhookError> {
        self.writer.read().clone().ok_or(WebhookError::Closed)
    }

    /// The connection for those who ask. A database that hangs must not gather them all.
    fn reader(&self) -> Result<MutexGuard<'_, Database>, WebhookError> {
        Ok(self.reader.try_lock_for(TURN_MAX).ok_or(SqlError::Busy)?)
    }
}

#[cfg(test)]
mod tests;
