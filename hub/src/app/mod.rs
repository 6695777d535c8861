//! The composition root: the only place that knows every part.

mod parts;
mod ports;
mod settings;
mod upkeep;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use delivery::{
    InboxKey, Store,
    account::{Accounts, LoginMark, Unread},
    api::{
        ApiConfig, ApiParts, ApiState, admin_routes, bare_admin_routes, bare_user_routes,
        doc::{self, Endpoint, Operation},
        starting_routes, user_routes,
    },
    backup::{Area, Backups, Jobs, JobsConfig, Runs, remove_left},
    clock::{SharedClock, WallClock},
    identity::{self, AuthError, Identity, UserCaller},
    limit::Limiter,
    preference::Silence,
    spans::{Spans, SpansConfig},
    store::{BoxFuture, Directory, Storage},
    tail::Tail,
    webhook::Webhooks,
};
use protocol::{NodeId, envelope::NodeAbout};
use tokio::{task::JoinHandle, time::timeout};

use self::{
    parts::{Cluster, Opening, Parts},
    ports::{Ports, Routers, Serving},
    settings::Targets,
    upkeep::{FromOthers, count_nodes, tell_spent},
};
use crate::{
    bus::Inbound,
    census::Census,
    config::{BackupConfig, Config, Loaded, ProcessConfig, Role, SocketConfig, TraceConfig},
    console,
    foundation::{Foundation, overlap},
    health::{self, HealthState},
    live::{DirectoryGate, FromNodes, Live, LiveConfig, Refusal, Registry, TokenVerifier},
    telemetry::{LogFilter, Metrics, VERSION},
};

pub use self::settings::METRICS;

/// How much of the drain time sockets may take; the rest is for what was accepted to reach its
/// files.
const DRAIN_SOCKETS_SHARE: f64 = 0.8;

/// How much of the drain time a database may take to answer what is under way; the rest is for what
/// then fails to be told.
const DRAIN_DATABASE_SHARE: f64 = 0.9;

/// The least time it has for that, however short the drain time is: a healthy one needs milliseconds.
const DRAIN_DATABASE_MIN: Duration = Duration::from_secs(1);

/// The least time for the webhooks to be closed, which healthy ones are in milliseconds.
const CLOSE_MIN: Duration = Duration::from_secs(1);

/// A node that is listening.
pub struct App {
    /// Where clients and backends are served; none where the role has none.
    pub user_address: Option<SocketAddr>,
    /// Where admins, probes and scrapers are served.
    pub admin_address: SocketAddr,
    /// Who is who.
    pub foundation: Foundation,
    /// How it stands.
    pub health: HealthState,
    store: Arc<dyn Storage>,
    webhooks: Webhooks,
    sending: Option<JoinHandle<()>>,
    live: Arc<Live>,
    cluster: Option<Cluster>,
    runs: Arc<Runs>,
    draining: Arc<AtomicBool>,
    serving: Serving,
    background: Vec<JoinHandle<()>>,
    spans: Spans,
    drain_timeout: Duration,
}

impl App {
    /// Binds the ports, opens the store and serves. `log` is what admins may change of the process's log; `descriptors`
    /// is the process's limit of open files, which sockets and users' files share.
    ///
    /// A database that is away is waited for: meanwhile the ports answer, and say that the node is not
    /// ready. May be dropped at any time.
    ///
    /// # Errors
    /// When the storage folder, the database or a port cannot be used.
    pub async fn start(
        loaded: &Loaded,
        descriptors: usize,
        metrics: &Metrics,
        log: Option<LogFilter>,
    ) -> anyhow::Result<Self> {
        let config = &loaded.config;
        let recorder = metrics.recorder();
        let ProcessConfig { role, drain_timeout, .. } = config.process;
        // Bound before anything is opened: a second start by mistake fails at once and changes
        // nothing.
        let ports = Ports::bind(config, &recorder).await?;
        let draining = Arc::new(AtomicBool::new(false));
        let health = HealthState::new(role, Arc::clone(&draining), metrics.clone());

        let node = node_id(config)?;
        let clock = SharedClock::default();
        let live_config = live_config(&config.socket, role, node.clone(), clock.clock());
        let spans = Spans::start(spans_config(config, &node), &*recorder)
            .context("the collector of spans cannot be called")?;
        let registry = Registry::new(&live_config, &*recorder);
        let tail = Tail::new(&*recorder);
        registry.tell(&tail);
        let opening = Opening {
            loaded,
            descriptors,
            node: &node,
            registry: &registry,
            recorder: &recorder,
            clock: &clock,
            spans: &spans,
        };
        let parts = open(&opening, &ports, &health).await?;
        let Parts { foundation, webhooks, store, bus, cluster, settings, keeping } = parts;
        // What admins have changed wins from here on.
        let config = &settings.config();

        let redis = cluster.as_ref().and_then(|cluster| cluster.redis.as_ref());
        let limiter = Arc::new(match redis {
            None => Limiter::new(config.limit.clone(), &*recorder),
            Some(_) => {
                let secret = foundation.secrets.of_budgets();
                Limiter::in_cluster(config.limit.clone(), &secret, &*recorder)
            }
        });
        let shared: Arc<dyn Store> = store.clone();
        let directory: Arc<dyn Directory> = store.clone();
        let verifier = Tokens {
            identity: Arc::clone(&foundation.identity),
            accounts: Arc::clone(&foundation.accounts),
            directory: Arc::clone(&directory),
        };
        let silencing = Arc::downgrade(&registry);
        foundation.accounts.on_preferences(move |inbox, silence| {
            if let Some(registry) = silencing.upgrade() {
                registry.respect(inbox, silence);
            }
        });
        let live = Live::new(
            live_config,
            registry,
            Arc::clone(&shared),
            Arc::new(verifier),
            Arc::new(DirectoryGate(directory)),
            Arc::clone(&limiter),
            Arc::clone(&bus),
        );
        let weak = Arc::downgrade(&live);
        foundation.accounts.on_revoked(move |inbox| {
            if let Some(live) = weak.upgrade() {
                match inbox {
                    Some(inbox) => live.close_void(inbox),
                    None => live.close_all_void(),
                }
            }
        });
        let weak = Arc::downgrade(&live);
        foundation.identity.on_key_withdrawn(move || {
            if let Some(live) = weak.upgrade() {
                live.close_all_void();
            }
        });
        if let Some(age) = config.auth.rotation {
            foundation.signing.rotate_by_age(age, overlap(config));
        }
        let telling = Arc::clone(&bus);
        foundation.accounts.on_written(move || telling.revoked());
        let about = about(role, &clock.clock());
        if let Some(Cluster { store, redis: Some(redis), .. }) = &cluster {
            let others = Arc::new(FromOthers::new(
                Arc::clone(store),
                Arc::clone(&limiter),
                Arc::clone(&foundation.accounts),
                Arc::clone(&settings),
            ));
            let inbound = FromNodes::new(Arc::clone(&live), others).about(about.clone());
            redis.start(Arc::new(inbound) as Arc<dyn Inbound>);
        }

        let backups = backups(config, &foundation, &*recorder).await?;
        let (jobs, runs) = (Arc::clone(&backups.jobs), Arc::clone(&backups.runs));
        let targets = Targets {
            limiter: Arc::clone(&limiter),
            live: Arc::clone(&live),
            keeping: Arc::clone(&keeping),
            area: Arc::clone(&backups.area),
            jobs: Arc::clone(&jobs),
            log,
        };
        let telling = Arc::clone(&bus);
        settings.connect(targets, move || telling.revoked());
        let api = ApiParts {
            store: Arc::clone(&store),
            identity: Arc::clone(&foundation.identity),
            control: Arc::clone(&foundation.control),
            accounts: Arc::clone(&foundation.accounts),
            providers: config.providers.clone(),
            outbound: foundation.outbound.clone(),
            webhooks: webhooks.clone(),
            limiter: Arc::clone(&limiter),
            backups,
            config: ApiConfig { body_timeout: config.http.body_timeout },
            draining: Arc::clone(&draining),
            connections: Arc::new(Census::new(Arc::clone(&live), Arc::clone(&bus), about)),
            tail,
            settings,
            keeping,
            spans: spans.clone(),
        };
        let api = ApiState::new(api, &*recorder);
        let counting = cluster.as_ref().and_then(|Cluster { redis, place, .. }| {
            Some(count_nodes(Arc::clone(place), Arc::clone(redis.as_ref()?)))
        });
        let telling = redis.map(|_| tell_spent(Arc::clone(&limiter), Arc::clone(&bus)));
        let deletions = api.deletions();
        health.opened(shared, bus, Arc::clone(&live));
        let serving = ports.serve(routers(role, api, &live, health.clone()))?;
        let shutdown = serving.shutdown.clone();
        let mut background = vec![
            tokio::spawn(Arc::clone(&live).check_positions()),
            tokio::spawn(limiter.upkeep()),
            tokio::spawn(deletions.upkeep()),
            tokio::spawn(metrics.clone().upkeep(shutdown)),
            tokio::spawn(health.clone().watch()),
        ];
        if let Some(rate) = config.socket.shed_rate.filter(|_| role.holds_sockets()) {
            background.push(tokio::spawn(Arc::clone(&live).shed(rate)));
        }
        if role.delivers() {
            background.push(tokio::spawn(jobs.run(Arc::clone(&store) as Arc<dyn Storage>)));
            let run = Arc::clone(&runs).run(Arc::clone(&store) as Arc<dyn Storage>);
            background.push(tokio::spawn(run));
        }
        background.extend(telling.map(tokio::spawn));
        background.extend(counting.map(tokio::spawn));
        Ok(Self {
            user_address: ports.user_address(),
            admin_address: ports.admin_address(),
            foundation,
            health,
            store,
            runs,
            // Not before the store is open, which of one folder only one process has: nobody else sends
            // the same.
            sending: role.delivers().then(|| tokio::spawn(webhooks.clone().run())),
            webhooks,
            live,
            cluster,
            draining,
            serving,
            background,
            spans,
            drain_timeout,
        })
    }

    /// Ends the node in order: it turns unready, sends its sockets away, finishes what it accepted
    /// and writes it to its place. Takes at most `DRAIN_TIMEOUT`, and a second where a database does not
    /// answer, but never leaves files open.
    pub async fn drain(mut self) {
        let started = Instant::now();
        let left = || self.drain_timeout.saturating_sub(started.elapsed());
        self.draining.store(true, Ordering::Release);
        if let Some(Cluster { store, .. }) = &self.cluster {
            let most = self.drain_timeout.mul_f64(DRAIN_DATABASE_SHARE);
            store.give_up_after(most.max(DRAIN_DATABASE_MIN));
        }
        self.webhooks.stop();
        self.live.drain(self.drain_timeout.mul_f64(DRAIN_SOCKETS_SHARE)).await;
        self.serving.shutdown.cancel();
        let tracker = &self.serving.tracker;
        tracker.close();
        if timeout(left(), tracker.wait()).await.is_err() {
            tracing::warn!(
                left = tracker.len(),
                "requests were still running at the drain deadline"
            );
        }
        for task in self.background {
            task.abort();
        }
        self.runs.stop();
        // What is broken off is sent again after the next start.
        if let Some(sending) = &mut self.sending
            && timeout(left(), &mut *sending).await.is_err()
        {
            sending.abort();
            tracing::warn!("webhooks were still being sent at the drain deadline");
        }
        self.store.close().await;
        // After the store, which publishes to its end what it finishes.
        if let Some(Cluster { redis: Some(redis), .. }) = &self.cluster {
            redis.close().await;
        }
        self.spans.finish().await;
        // Last, because what the store finishes is told too.
        let (webhooks, foundation) = (self.webhooks, self.foundation);
        let close = tokio::task::spawn_blocking(move || {
            webhooks.close();
            // Writes what was counted.
            drop(foundation);
        });
        let most = left().max(CLOSE_MIN);
        let closed =
            if self.cluster.is_some() { timeout(most, close).await } else { Ok(close.await) };
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("closing the webhooks panicked"),
            // Its lease runs out; events that could not be written are lost, as by a crash.
            Err(_) => tracing::warn!("webhooks were still being closed at the drain deadline"),
        }
        tracing::info!(seconds = started.elapsed().as_secs_f64(), "drained");
    }
}

/// What backups are made with, and the jobs that are there.
async fn backups(
    config: &Config,
    foundation: &Foundation,
    recorder: &(dyn metrics::Recorder + Send + Sync),
) -> anyhow::Result<Backups> {
    let runs = config.runs();
    let BackupConfig { area, key, job_kept, jobs_bytes_max, .. } = config.backup.clone();
    let folder = area.path.clone();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || remove_left(&folder)).await {
        // It takes room and nothing else.
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "what a killed restore left cannot be removed now");
    }
    let jobs = JobsConfig {
        path: area.path.clone(),
        kept: job_kept,
        bytes_max: jobs_bytes_max,
        link_key: foundation.secrets.of_backup_links(),
    };
    let area = Area::new(area, recorder);
    let jobs = Jobs::new(jobs, Arc::clone(&area), key.clone(), recorder);
    if config.process.role.delivers()
        && let Err(error) = jobs.take_up().await
    {
        // It is tried again every minute; everything else needs no folder of backups.
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "backup jobs cannot be looked through now");
    }
    let runs = Runs::new(runs, config.home(), Arc::clone(&area), key.clone(), recorder)
        .context("BACKUP_BUCKET")?;
    Ok(Backups { area, key, jobs, runs })
}

/// Opens what the node is built on. While a database is away, the ports say so.
async fn open(opening: &Opening<'_>, ports: &Ports, health: &HealthState) -> anyhow::Result<Parts> {
    // Served until this returns.
    let mut _serving = None;
    opening
        .open_when_there(|| {
            let admin = starting_routes()
                .merge(doc::router(health::endpoints()).with_state(health.clone()));
            let routers = Routers { user: starting_routes(), admin };
            _serving = Some(ports.serve(routers).context("the ports cannot be served")?);
            Ok(())
        })
        .await
}

/// What a role serves. Health and metrics are everybody's.
fn routers(role: Role, api: ApiState, live: &Arc<Live>, health: HealthState) -> Routers {
    let sockets = if role.holds_sockets() { Live::endpoints() } else { Vec::new() };
    let sockets = operations(sockets);
    let mut user = if role.delivers() {
        user_routes(api.clone(), &sockets)
    } else {
        bare_user_routes(api.clone(), &sockets)
    };
    if role.holds_sockets() {
        user = user.merge(live.routes());
    }
    let beside = operations(health::endpoints());
    let admin = if role.administers() {
        admin_routes(api, &beside).merge(console::routes())
    } else {
        bare_admin_routes(api, &beside)
    };
    Routers { user, admin: admin.merge(doc::router(health::endpoints()).with_state(health)) }
}

/// What is described of endpoints that the live side and health serve themselves.
fn operations<S>(endpoints: Vec<Endpoint<S>>) -> Vec<Operation> {
    endpoints.into_iter().map(|endpoint| endpoint.operation).collect()
}

/// Lets the live side ask who connects.
struct Tokens {
    identity: Arc<Identity>,
    accounts: Arc<Accounts>,
    directory: Arc<dyn Directory>,
}

impl TokenVerifier for Tokens {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        self.identity.verify_user(token).map_err(|error| refusal(&error))
    }

    fn redeem<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Result<UserCaller, Refusal>> {
        Box::pin(async { self.accounts.redeem(ticket).await.map_err(|error| refusal(&error)) })
    }

    fn is_valid(&self, inbox: &InboxKey, login: &LoginMark) -> bool {
        self.identity.check_mark(inbox, login).is_ok()
    }

    fn silence<'a>(
        &'a self,
        inbox: &'a InboxKey,
    ) -> BoxFuture<'a, Result<Option<Arc<Silence>>, Unread>> {
        Box::pin(self.accounts.silence(inbox))
    }

    fn fetch_key<'a>(&'a self, token: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.identity.fetch_key_of(token))
    }

    fn note<'a>(&'a self, caller: &'a UserCaller, from: IpAddr) -> BoxFuture<'a, ()> {
        self.accounts.seen(caller, Some(from));
        Box::pin(identity::note(&*self.directory, caller))
    }
}

/// What a client is told of why it was not recognised.
fn refusal(error: &AuthError) -> Refusal {
    let kind = match error {
        AuthError::UserDisabled => Refusal::Forbidden,
        AuthError::NoKeys | AuthError::Unavailable(_) => Refusal::Unavailable,
        _ if error.is_guess() => Refusal::Forged,
        _ => Refusal::Unauthorized,
    };
    kind(error.to_string())
}

/// What this node says of itself.
fn about(role: Role, clock: &WallClock) -> NodeAbout {
    NodeAbout {
        role: role.label().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: clock.now(),
        draining: false,
    }
}

/// What is said of spans, where they go anywhere.
fn spans_config(config: &Config, node: &NodeId) -> Option<SpansConfig> {
    let TraceConfig { url, headers, service_name, sampling } = config.trace.clone()?;
    let version = VERSION.to_owned();
    Some(SpansConfig { url, headers, sampling, service_name, version, node: node.to_string() })
}

fn node_id(config: &Config) -> anyhow::Result<NodeId> {
    let name = match &config.process.node_id {
        Some(name) => name.clone(),
        None => format!("node-{}", uuid::Uuid::now_v7().simple()),
    };
    NodeId::new(name).context("NODE_ID")
}

fn live_config(socket: &SocketConfig, role: Role, node_id: NodeId, clock: WallClock) -> LiveConfig {
    LiveConfig {
        ping_interval: socket.ping_interval,
        read_buffer_size: socket.read_buffer_bytes,
        write_buffer_size: socket.write_buffer_bytes,
        outbox_limit: socket.outbox_bytes_max,
        stall_timeout: socket.stall_timeout,
        handshake_timeout: socket.handshake_timeout,
        max_connections: if role.holds_sockets() { socket.connections_max } else { 0 },
        max_connections_per_user: socket.connections_per_user_max,
        allowed_origins: socket.allowed_origins.clone(),
        max_connection_age: socket.connection_age_max,
        node_id,
        clock,
    }
}
