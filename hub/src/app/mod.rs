//! The composition root: the only place that knows every part.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::Router;
use delivery::{
    Store,
    api::{
        ApiConfig, ApiParts, ApiState, admin_routes,
        doc::{self, Endpoint, Operation},
        user_routes,
    },
    identity::{self, AuthError, Identity, UserCaller},
    limit::Limiter,
    store::{
        BoxFuture, Directory, Witness,
        limits::SENT_KEPT,
        single::{SingleConfig, SingleStore, hub_dir},
    },
    webhook::Webhooks,
};
use protocol::NodeId;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bus::{Bus, LocalBus},
    config::{Config, SocketConfig, store_open_files},
    foundation::Foundation,
    health::{self, HealthState},
    http::{self, HttpLimits, HttpMetrics, Listener},
    live::{DirectoryGate, Live, LiveConfig, Refusal, Registry, TokenVerifier},
    telemetry::Metrics,
};

/// How much of the drain time sockets may take; the rest is for what was accepted to reach its
/// files.
const DRAIN_SOCKETS_SHARE: f64 = 0.8;

/// A node that is listening.
pub struct App {
    /// Where clients and backends are served.
    pub user_address: SocketAddr,
    /// Where admins, probes and scrapers are served.
    pub admin_address: SocketAddr,
    store: Arc<SingleStore>,
    webhooks: Webhooks,
    sending: JoinHandle<()>,
    live: Arc<Live>,
    draining: Arc<AtomicBool>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    background: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
}

impl App {
    /// Opens the store, binds both ports and serves. `descriptors` is the process's limit of open
    /// files, which sockets and users' files share.
    ///
    /// # Errors
    /// When the storage folder or a port cannot be used.
    pub async fn start(
        config: &Config,
        descriptors: usize,
        foundation: &Foundation,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let recorder = metrics.recorder();
        // Bound before anything is opened: a second start by mistake fails at once and changes
        // nothing.
        let user = bind("USER_SERVER_PORT", config.process.user_address).await?;
        let admin = bind("ADMIN_SERVER_PORT", config.process.admin_address).await?;
        let (user_address, admin_address) = (user.local_addr()?, admin.local_addr()?);

        let live_config = live_config(&config.socket, node_id(config)?);
        let registry = Registry::new(&live_config, &*recorder);
        let webhooks = {
            let (folder, settings) = (hub_dir(&config.store.path), config.webhook.clone());
            let (control, recorder) = (Arc::clone(&foundation.control), Arc::clone(&recorder));
            let open = move || Webhooks::open(&folder, settings, control, &*recorder);
            tokio::task::spawn_blocking(open).await?.context("webhooks cannot be opened")?
        };
        let store = {
            let witness: Arc<dyn Witness> = Arc::new(webhooks.clone());
            let settings =
                SingleConfig { witness: Some(witness), ..store_config(config, descriptors) };
            let (registry, recorder) = (Arc::clone(&registry), Arc::clone(&recorder));
            // A long journal is replayed before the first answer; not on a thread of the runtime.
            tokio::task::spawn_blocking(move || SingleStore::open(&settings, registry, &*recorder))
                .await?
                .context("the store cannot be opened")?
        };
        let shared: Arc<dyn Store> = store.clone();
        let verifier = Arc::new(Tokens {
            identity: Arc::clone(&foundation.identity),
            directory: store.clone(),
        });
        let limiter = Arc::new(Limiter::new(config.limit.clone(), &*recorder));
        let channels = Arc::new(DirectoryGate(store.clone()));
        let bus: Arc<dyn Bus> = Arc::new(LocalBus);
        let live = Live::new(
            live_config,
            registry,
            Arc::clone(&shared),
            verifier,
            channels,
            Arc::clone(&limiter),
            Arc::clone(&bus),
        );

        let draining = Arc::new(AtomicBool::new(false));
        let api = ApiParts {
            store: store.clone(),
            identity: Arc::clone(&foundation.identity),
            control: Arc::clone(&foundation.control),
            webhooks: webhooks.clone(),
            limiter: Arc::clone(&limiter),
            config: ApiConfig {
                body_timeout: config.http.body_timeout,
                retention: config.store.retention,
            },
            draining: Arc::clone(&draining),
        };
        let api = ApiState::new(api, &*recorder);
        let health = HealthState::new(shared, bus, Arc::clone(&draining), metrics.clone());
        let user_router =
            user_routes(api.clone(), &operations(Live::endpoints())).merge(live.routes());
        let admin_router = admin_routes(api, &operations(health::endpoints()))
            .merge(doc::router(health::endpoints()).with_state(health));

        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let limits = HttpLimits::from(&config.http);
        let serve = |listener: TcpListener, router: Router, which: Listener| {
            let counts = Arc::new(HttpMetrics::new(&*recorder, which));
            tracker.spawn(http::serve(
                listener,
                router,
                limits,
                counts,
                shutdown.clone(),
                tracker.clone(),
            ));
        };
        serve(user, user_router, Listener::User);
        serve(admin, admin_router, Listener::Admin);
        let background = vec![
            tokio::spawn(Arc::clone(&live).check_positions()),
            tokio::spawn(limiter.upkeep()),
            tokio::spawn(metrics.clone().upkeep(shutdown.clone())),
        ];
        Ok(Self {
            user_address,
            admin_address,
            store,
            // Not before the store is open, which only one process has: nobody else sends the same.
            sending: tokio::spawn(webhooks.clone().run()),
            webhooks,
            live,
            draining,
            shutdown,
            tracker,
            background,
            drain_timeout: config.process.drain_timeout,
        })
    }

    /// Ends the node in order: it turns unready, sends its sockets away, finishes what it accepted
    /// and writes it to its files. Takes at most `DRAIN_TIMEOUT`, but never leaves the store open.
    pub async fn drain(mut self) {
        let started = Instant::now();
        let left = || self.drain_timeout.saturating_sub(started.elapsed());
        self.draining.store(true, Ordering::Release);
        self.webhooks.stop();
        self.live.drain(self.drain_timeout.mul_f64(DRAIN_SOCKETS_SHARE)).await;
        self.shutdown.cancel();
        self.tracker.close();
        if timeout(left(), self.tracker.wait()).await.is_err() {
            tracing::warn!(
                left = self.tracker.len(),
                "requests were still running at the drain deadline"
            );
        }
        for task in self.background {
            task.abort();
        }
        // What is broken off is sent again after the next start.
        if timeout(left(), &mut self.sending).await.is_err() {
            self.sending.abort();
            tracing::warn!("webhooks were still being sent at the drain deadline");
        }
        self.store.close().await;
        // Last, because what the store finishes is told too.
        let webhooks = self.webhooks;
        if tokio::task::spawn_blocking(move || webhooks.close()).await.is_err() {
            tracing::error!("closing the webhooks panicked");
        }
        tracing::info!(seconds = started.elapsed().as_secs_f64(), "drained");
    }
}

/// What is described of endpoints that the live side and health serve themselves.
fn operations<S>(endpoints: Vec<Endpoint<S>>) -> Vec<Operation> {
    endpoints.into_iter().map(|endpoint| endpoint.operation).collect()
}

/// Lets the live side ask who connects.
struct Tokens {
    identity: Arc<Identity>,
    directory: Arc<dyn Directory>,
}

impl TokenVerifier for Tokens {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        self.identity.verify_user(token).map_err(|error: AuthError| {
            let refusal = if error.is_guess() { Refusal::Forged } else { Refusal::Unauthorized };
            refusal(error.to_string())
        })
    }

    fn note<'a>(&'a self, caller: &'a UserCaller) -> BoxFuture<'a, ()> {
        Box::pin(identity::note(&*self.directory, caller))
    }
}

fn store_config(config: &Config, descriptors: usize) -> SingleConfig {
    SingleConfig {
        root: config.store.path.clone(),
        flush_interval: config.store.flush_interval,
        open_inboxes: store_open_files(config, descriptors),
        journal_sync: config.store.journal_sync,
        retention: config.store.retention,
        // An inbox must not outlive what its senders can change of it.
        sent_kept: config.store.retention.max_age.map_or(SENT_KEPT, |age| age.max(SENT_KEPT)),
        ..SingleConfig::default()
    }
}

fn node_id(config: &Config) -> anyhow::Result<NodeId> {
    let name = match &config.process.node_id {
        Some(name) => name.clone(),
        None => format!("node-{}", uuid::Uuid::now_v7().simple()),
    };
    NodeId::new(name).context("NODE_ID")
}

fn live_config(socket: &SocketConfig, node_id: NodeId) -> LiveConfig {
    LiveConfig {
        ping_interval: socket.ping_interval,
        read_buffer_size: socket.read_buffer_bytes,
        write_buffer_size: socket.write_buffer_bytes,
        outbox_limit: socket.outbox_bytes_max,
        stall_timeout: socket.stall_timeout,
        handshake_timeout: socket.handshake_timeout,
        max_connections: socket.connections_max,
        max_connections_per_user: socket.connections_per_user_max,
        allowed_origins: socket.allowed_origins.clone(),
        node_id,
    }
}

async fn bind(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({variable}, BIND_ADDRESS)"))
}
