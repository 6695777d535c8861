//! Webhooks in a temporary folder.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::NoopRecorder;
use parking_lot::Mutex;
use protocol::{ServiceId, TenantId, Time};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_rustls::rustls::RootCertStore;

use crate::{
    control::{Control, NewService},
    outbound::Resolve,
    sql::postgres::Server,
    webhook::{
        Delivery, Event, EventKind, EventSink, NewWebhook, Webhook, WebhookConfig, WebhookError,
        Webhooks, World, cluster::Timing,
    },
};

/// How long anything may take that ought to be at once.
const SOON: Duration = Duration::from_secs(15);

/// Waits until it is so.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// For what may wait for the disk, which tasks must not: on a thread of its own.
pub(super) fn blocking<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Names and their addresses, as the test says.
#[derive(Default)]
pub(super) struct Names {
    pub(super) known: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(super) asked: AtomicUsize,
    /// The name server does not answer.
    pub(super) hangs: AtomicBool,
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let known = self.known.lock();
        known.get(name).cloned().ok_or_else(|| io::Error::other("no such name"))
    }
}

/// Where the webhooks are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    File,
    Postgres,
}

/// Makes tests of functions that take an [`At`], for each that there is.
macro_rules! everywhere {
    ($($test:ident),* $(,)?) => {
        mod in_a_file {
            $(#[tokio::test] async fn $test() {
                super::$test(crate::webhook::tests::fixture::At::File).await;
            })*
        }
        mod in_postgres {
            $(#[tokio::test] async fn $test() {
                super::$test(crate::webhook::tests::fixture::At::Postgres).await;
            })*
        }
    };
}
pub(super) use everywhere;

/// In a hurry: a dead node's webhooks are sent by another one a second later.
pub(super) const TIMING: Timing = Timing {
    lease: Duration::from_millis(1_500),
    margin: Duration::from_millis(400),
    renew: Duration::from_millis(200),
    members: Duration::from_millis(50),
    look: Duration::from_millis(20),
};

pub(super) struct Fixture {
    pub(super) webhooks: Webhooks,
    pub(super) control: Arc<Control>,
    pub(super) names: Arc<Names>,
    pub(super) shop: ServiceId,
    pub(super) config: WebhookConfig,
    now: Arc<AtomicI64>,
    running: Option<JoinHandle<()>>,
    pub(super) dir: tempfile::TempDir,
    /// The address of the database, if there is one.
    pub(super) url: Option<String>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.names.hangs.store(false, Ordering::Relaxed);
        self.break_off();
    }
}

impl Fixture {
    /// May reach 127.0.0.0/8, and sends.
    pub(super) fn start(at: At) -> Self {
        Self::with(at, "127.0.0.0/8", Duration::from_secs(10))
    }

    pub(super) fn with(at: At, allowed: &str, timeout: Duration) -> Self {
        let url = (at == At::Postgres).then(servers::empty_database);
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        let shop = NewService { id: Some("shop".to_owned()), ..NewService::named("shop") };
        let shop = control.create_service(shop).unwrap().0.id;
        let (now, names) = (Arc::new(AtomicI64::new(1_736_937_000_000)), Arc::<Names>::default());
        let config = WebhookConfig { allowed_networks: allowed.parse().unwrap(), timeout };
        let webhooks = open(url.as_deref(), &dir, &config, &control, &now, &names);
        let running = None;
        let mut fixture = Self { webhooks, control, names, shop, config, now, running, dir, url };
        fixture.run();
        fixture
    }

    fn run(&mut self) {
        self.running = Some(tokio::spawn(self.webhooks.clone().run()));
    }

    /// Everything under way is dropped where it stands.
    fn break_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    /// As after `kill -9`: what was not committed is gone.
    pub(super) async fn crash_and_restart(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        self.restart();
    }

    /// It must have been stopped.
    pub(super) fn restart(&mut self) {
        self.webhooks = self.open();
        self.run();
    }

    fn open(&self) -> Webhooks {
        self.open_at(self.url.as_deref())
    }

    fn open_at(&self, url: Option<&str>) -> Webhooks {
        open(url, &self.dir, &self.config, &self.control, &self.now, &self.names)
    }

    /// On another database.
    pub(super) fn open_on(&self, server: &Arc<Server>) -> Result<Webhooks, WebhookError> {
        let (config, control) = (self.config.clone(), Arc::clone(&self.control));
        let world = world(&self.now, &self.names);
        Webhooks::open_postgres_in(world, server, config, control, &NoopRecorder)
    }

    /// One more node on the same database, which sends too.
    pub(super) fn node(&self) -> Node {
        self.node_at(self.url.as_deref().unwrap())
    }

    /// The same, which gets to the database by another way.
    pub(super) fn node_at(&self, url: &str) -> Node {
        let webhooks = blocking(|| self.open_at(Some(url)));
        let running = tokio::spawn(webhooks.clone().run());
        Node { webhooks, running }
    }

    /// In order.
    pub(super) async fn stop(&mut self) {
        self.webhooks.stop();
        self.running.take().unwrap().await.unwrap();
    }

    pub(super) fn now(&self) -> Time {
        Time::from_millis(self.now.load(Ordering::Relaxed))
    }

    /// Sets the clock forward.
    pub(super) fn wait(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        self.webhooks.0.changed.notify_one();
    }

    /// An endpoint of the shop for everything; also its secret.
    pub(super) fn endpoint(&self, url: &str) -> (Webhook, String) {
        self.endpoint_of(&self.shop, url)
    }

    pub(super) fn endpoint_of(&self, service: &ServiceId, url: &str) -> (Webhook, String) {
        let new = NewWebhook {
            url: url.to_owned(),
            events: vec!["*".to_owned()],
            description: String::new(),
        };
        let create = || self.webhooks.create(&TenantId::default(), service, new);
        let (made, secret) = blocking(create).unwrap();
        (made, secret.expose_secret().to_owned())
    }

    pub(super) fn event(&self, service: &ServiceId, id: &str) -> Event {
        Event {
            id: id.to_owned(),
            tenant: TenantId::default(),
            service: service.clone(),
            kind: EventKind::Read,
            at: self.now(),
            data: json!({"message_id": id, "user_id": "ann"}),
        }
    }

    /// Records an event of the shop.
    pub(super) fn record(&self, id: &str) {
        self.record_all(vec![self.event(&self.shop, id)]);
    }

    pub(super) fn record_all(&self, events: Vec<Event>) {
        blocking(|| self.webhooks.record(events)).unwrap();
    }

    /// The endpoint as it stands.
    pub(super) fn get(&self, webhook: &Webhook) -> Webhook {
        self.webhooks.get(&webhook.service_id, &webhook.id).unwrap()
    }

    /// Its deliveries, newest first.
    pub(super) fn deliveries(&self, webhook: &Webhook) -> Vec<Delivery> {
        let page = self.webhooks.deliveries(&webhook.service_id, &webhook.id, None, None, 200);
        page.unwrap().items
    }

    /// Waits until the endpoint's newest event has had so many attempts.
    pub(super) async fn attempted(&self, webhook: &Webhook, attempts: u64) -> Delivery {
        let mut newest = None;
        eventually(&format!("{attempts} attempts"), || {
            newest = self.deliveries(webhook).into_iter().next();
            newest.as_ref().is_some_and(|delivery| delivery.attempts == attempts)
        })
        .await;
        newest.unwrap()
    }

    /// The database, behind the program's back.
    pub(super) fn sql(&self, statement: &str) {
        if let Some(url) = &self.url {
            return servers::ask(url, statement);
        }
        let file = rusqlite::Connection::open(self.dir.path().join(crate::webhook::FILE_NAME));
        file.unwrap().execute_batch(statement).unwrap();
    }
}

/// Another node on the database of a fixture.
pub(super) struct Node {
    pub(super) webhooks: Webhooks,
    running: JoinHandle<()>,
}

impl Node {
    /// As by `kill -9`.
    pub(super) async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    /// In order.
    pub(super) async fn stop(self) {
        self.webhooks.stop();
        self.running.await.unwrap();
        blocking(|| self.webhooks.close());
    }
}

fn open(
    url: Option<&str>,
    dir: &tempfile::TempDir,
    config: &WebhookConfig,
    control: &Arc<Control>,
    now: &Arc<AtomicI64>,
    names: &Arc<Names>,
) -> Webhooks {
    let world = world(now, names);
    let (config, control) = (config.clone(), Arc::clone(control));
    match url {
        None => Webhooks::open_in(world, dir.path(), config, control, &NoopRecorder),
        Some(url) => {
            let server = Server::new("webhooks", url.parse().unwrap(), NoTls).unwrap();
            Webhooks::open_postgres_in(world, &Arc::new(server), config, control, &NoopRecorder)
        }
    }
    .unwrap()
}

fn world(now: &Arc<AtomicI64>, names: &Arc<Names>) -> World {
    let now = Arc::clone(now);
    World {
        clock: Arc::new(move || Time::from_millis(now.load(Ordering::Relaxed))),
        resolver: Arc::clone(names) as Arc<dyn Resolve>,
        roots: RootCertStore::empty(),
        timing: TIMING,
    }
}
