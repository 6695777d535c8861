//! Webhooks: services are told what became of their messages (contract §11).
//!
//! ```text
//! EventSink::record ─▶ writer: webhooks.db, one synced commit for all that wait
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
//! **Where they may go** is in `address`: public addresses by `https`, and whatever the operator
//! named in `WEBHOOK_ALLOWED_NETWORKS`.

mod address;
mod client;
mod database;
mod deliveries;
mod dispatch;
mod endpoint;
mod endpoints;
mod error;
mod event;
mod manage;
mod metrics;
mod record;
mod retry;
mod schedule;
mod secret;
mod target;
mod witness;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ::metrics::Recorder;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use protocol::{ServiceId, Time};
use rusqlite::Connection;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::RootCertStore;

use self::{
    address::Allowed,
    client::{Client, Resolve, SystemResolver, system_roots},
    endpoint::Endpoint,
    manage::Tests,
    metrics::WebhookMetrics,
    schedule::Schedule,
    writer::Writer,
};
use crate::{clock, control::Control, networks::Networks};

pub use self::{
    client::{Attempt, Outcome, RESPONSE_BYTES_MAX},
    database::FILE_NAME,
    deliveries::{
        DeadLetter, Delivery, DeliveryStatus, GivenUp, PENDING_BYTES_PER_ENDPOINT_MAX,
        PENDING_PER_ENDPOINT_MAX,
    },
    dispatch::{HISTORY_AGE_MAX, HISTORY_PER_ENDPOINT_MAX, PENDING_AGE_MAX},
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
    target::URL_BYTES_MAX,
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
    reader: Mutex<Connection>,
    /// For those who send, so that a long list does not hold them up.
    pages: Mutex<Connection>,
    schedule: Mutex<Schedule>,
    /// Something may be due, or a slot is free.
    changed: Notify,
    stopping: watch::Sender<bool>,
    tests: Tests,
    metrics: WebhookMetrics,
}

/// The endpoints, in memory.
#[derive(Clone, Default)]
struct Known {
    by_key: FxHashMap<i64, Arc<Endpoint>>,
    by_service: FxHashMap<ServiceId, Vec<Arc<Endpoint>>>,
    /// How many are active.
    active: usize,
}

impl Known {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let mut known = Self::default();
        known.add(endpoints);
        known
    }

    fn add(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            let endpoint = Arc::new(endpoint);
            self.active += usize::from(endpoint.active);
            self.by_key.insert(endpoint.key, Arc::clone(&endpoint));
            self.by_service.entry(endpoint.service.clone()).or_default().push(endpoint);
        }
    }

    /// Puts a service's endpoints in place of those it had.
    fn replace(&mut self, service: &ServiceId, endpoints: Vec<Endpoint>) {
        for old in self.by_service.remove(service).unwrap_or_default() {
            self.active -= usize::from(old.active);
            self.by_key.remove(&old.key);
        }
        self.add(endpoints);
    }

    /// Those of a service.
    fn of(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_service.get(service).into_iter().flatten()
    }
}

/// What tests put in place of the world.
struct World {
    clock: Clock,
    resolver: Arc<dyn Resolve>,
    roots: RootCertStore,
}

impl Webhooks {
    /// Opens `webhooks.db` in `dir`, or makes it (mode 0600). Nothing is sent before
    /// [`Webhooks::run`].
    ///
    /// # Errors
    /// [`WebhookError::UnknownVersion`], [`WebhookError::Sqlite`], [`WebhookError::Io`],
    /// [`WebhookError::Tls`].
    pub fn open(
        dir: &Path,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let world = World {
            clock: Arc::new(clock::now),
            resolver: Arc::new(SystemResolver),
            roots: system_roots(),
        };
        Self::open_in(world, dir, config, control, recorder)
    }

    fn open_in(
        world: World,
        dir: &Path,
        config: WebhookConfig,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Self, WebhookError> {
        let path = dir.join(FILE_NAME);
        let metrics = WebhookMetrics::new(recorder);
        let written = database::open(&path)?;
        let (reader, pages) = (database::open_reader(&path)?, database::open_reader(&path)?);
        let (writer, thread) = Writer::begin(path, written, metrics.write_errors.clone())?;
        let allowed = Allowed(config.allowed_networks);
        let inner = Inner {
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
            tests: Tests::default(),
            metrics,
        };
        inner.load()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Waits until everything that was recorded is written, and closes the file. After it everything
    /// that writes is [`WebhookError::Closed`]. May wait for the disk.
    pub fn close(&self) {
        self.stop();
        drop(self.0.writer.write().take());
        if let Some(thread) = self.0.thread.lock().take() {
            // It has nothing to tell that could be acted on.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn now(&self) -> Time {
        (self.clock)()
    }

    fn writer(&self) -> Result<Arc<Writer>, WebhookError> {
        self.writer.read().clone().ok_or(WebhookError::Closed)
    }

    /// Reads all endpoints.
    fn load(&self) -> Result<(), WebhookError> {
        let file = self.reader.lock();
        let known = Known::new(endpoints::load(&file, None, &self.client.allowed)?);
        self.known.store(Arc::new(known));
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the endpoints of a service after a change. That is durable already: that it could not be
    /// read must not be told as its failure. It comes into force when it can be.
    fn refresh(&self, service: &ServiceId) {
        let file = self.reader.lock();
        match endpoints::load(&file, Some(service), &self.client.allowed) {
            Ok(endpoints) => {
                let mut known = Known::clone(&self.known.load());
                known.replace(service, endpoints);
                self.known.store(Arc::new(known));
            }
            Err(error) => {
                self.stale.store(true, Ordering::Relaxed);
                self.metrics.read_errors.increment(1);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "webhooks.db cannot be read; endpoints are used as they were last known"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
