//! The live side: sockets and event streams, who is connected, and how changes reach them.
//!
//! # The life of a connection
//! `handshake` checks the request and answers 101, or `stream` does and answers 200 → `establish` registers the connection, begins
//! to watch the inbox and queues `welcome` → `driver` catches up and is live → one
//! [`CloseReason`] → `goodbye`.
//!
//! # Why nothing is missed or repeated
//! A connection is registered before its backlog is read. While it catches up, published changes
//! only move a mark; it goes live, under the lock that publishing takes, when it has read up to that
//! mark. See `outbox`. What the fan-out loses shows as a hole in the seqs, or, for a last change,
//! in `position_check`; both read the store.

mod channels;
mod connection;
mod drain;
mod driver;
mod establish;
mod frame_reader;
mod framing;
mod goodbye;
mod handshake;
mod heartbeat;
mod inbound;
mod inquiry;
mod last_ack;
pub mod metrics;
mod outbox;
mod position_check;
mod presence;
mod present;
mod queue;
mod refusal;
mod registry;
mod replay;
mod session;
mod shed;
mod stream;
#[cfg(test)]
mod tests;
mod unacked;
mod verifier;
mod wire_frame;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    InboxKey, Store,
    api::doc::Endpoint,
    clock::WallClock,
    limit::{Limiter, Rate},
};
use protocol::{
    CloseReason, NodeId,
    envelope::{Findings, Inquiry},
};
use rand::RngExt;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::bus::Bus;

pub use self::{
    channels::{Admission, ChannelGate, DirectoryGate},
    connection::ConnectionInfo,
    drain::Drained,
    framing::Transport,
    inbound::{FromNodes, Upkeep},
    registry::Registry,
    verifier::{Refusal, TokenVerifier},
};
use self::{
    connection::Connection, metrics::LiveMetrics, presence::Presence, queue::Io,
    replay::PAGE_READS_MAX, session::Timing,
};

/// Settings of the live side.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// `WS_PING_INTERVAL`: how often a connection is pinged, and the store's heads are compared.
    pub ping_interval: Duration,
    /// `WS_READ_BUFFER_SIZE`: what one read takes, in bytes. Idle connections keep no buffer.
    pub read_buffer_size: usize,
    /// `WS_WRITE_BUFFER_SIZE`: what one write gathers of waiting frames, in bytes; a larger frame goes
    /// alone.
    pub write_buffer_size: usize,
    /// `WS_OUTBOX_LIMIT`: memory of a connection's waiting frames, in bytes. Over it they are
    /// dropped and read from the store again as the socket takes them.
    pub outbox_limit: usize,
    /// `WS_STALL_TIMEOUT`: how long a socket may take nothing of what waits.
    pub stall_timeout: Duration,
    /// `WS_HANDSHAKE_TIMEOUT`: from the accepted request to the queued `welcome`.
    pub handshake_timeout: Duration,
    /// `WS_MAX_CONNECTIONS`: on this node.
    pub max_connections: usize,
    /// Of one user on this node: each change is written to each of them.
    pub max_connections_per_user: usize,
    /// Origins of web pages that may connect, as `https://app.example.com`; `*` for any. A page of
    /// the same host and a client that sends no `Origin` always may.
    pub allowed_origins: Vec<String>,
    /// `WS_MAX_CONNECTION_AGE`: after this a client is asked to connect anew; none never. Each
    /// connection draws its own from the last part of it, see [`AGE_DRAWN_FROM`].
    pub max_connection_age: Option<Duration>,
    /// This node's name, in `welcome`.
    pub node_id: NodeId,
    /// What time it is for all nodes: when tokens and messages expire.
    pub clock: WallClock,
}

/// A connection's age is drawn from this part of the largest to the whole: those that came together do
/// not go together, and a fifth is wide enough for ten thousand of one hour to go at 14 a second.
const AGE_DRAWN_FROM: f64 = 0.8;

/// The live side of a node.
pub struct Live {
    config: LiveConfig,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    verifier: Arc<dyn TokenVerifier>,
    channels: Arc<dyn ChannelGate>,
    presence: Presence,
    limiter: Arc<Limiter>,
    bus: Arc<dyn Bus>,
    in_doubt: Notify,
    page_permits: Arc<Semaphore>,
    open: AtomicUsize,
    /// `WS_MAX_CONNECTIONS`, as it is now.
    connections_max: AtomicUsize,
    /// Of the open ones, those that are saying goodbye.
    leaving: AtomicUsize,
    draining: AtomicBool,
    restart_spread_ms: AtomicU64,
    tasks: TaskTracker,
    started: Instant,
}

/// Pings go out at multiples of this since the start, so that one wake of a worker serves many
/// connections: on an idle node waking costs several times what a ping does. Ten thousand
/// connections are then pinged some 80 at a time.
const PING_GRID: Duration = Duration::from_millis(250);

impl Live {
    /// The live side over a registry that `store` already publishes to, and `bus` does once it is started
    /// with a [`FromNodes`].
    #[must_use]
    pub fn new(
        config: LiveConfig,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        verifier: Arc<dyn TokenVerifier>,
        channels: Arc<dyn ChannelGate>,
        limiter: Arc<Limiter>,
        bus: Arc<dyn Bus>,
    ) -> Arc<Self> {
        registry.report_to(&store);
        registry.metrics().connections_limit.set(config.max_connections as f64);
        Arc::new(Self {
            connections_max: AtomicUsize::new(config.max_connections),
            config,
            registry,
            store,
            verifier,
            channels,
            presence: Presence::default(),
            limiter,
            bus,
            in_doubt: Notify::new(),
            page_permits: Arc::new(Semaphore::new(PAGE_READS_MAX)),
            open: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            restart_spread_ms: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            started: Instant::now(),
        })
    }

    /// The routes of sockets, `/ws`, and of event streams, `/api/v3/stream`. They must be served by
    /// [`crate::http::serve`], out of which the connections are taken.
    pub fn routes(self: &Arc<Self>) -> axum::Router {
        handshake::routes(self.clone())
    }

    /// What is described of them in the API's document.
    #[must_use]
    pub fn endpoints() -> Vec<Endpoint<Arc<Self>>> {
        vec![stream::endpoint()]
    }

    /// Compares live connections with the store's heads, once per ping interval and after
    /// [`Live::doubt`], for ever. Spawn it once per node and drop it to stop.
    pub async fn check_positions(self: Arc<Self>) {
        position_check::run(&self).await;
    }

    /// Sends connections above the cluster's average to other nodes at this pace (`WS_SHED_RATE`), for
    /// ever. Spawn it once per node and drop it to stop.
    pub async fn shed(self: Arc<Self>, rate: Rate) {
        shed::run(&self, rate).await;
    }

    /// Changes may have been missed: all connections are compared with the store soon. Said many times
    /// it is done once, and once more if it is said while it is done.
    pub fn doubt(&self) {
        self.in_doubt.notify_one();
    }

    /// Sends every connection away, spread over a part of `deadline`, refuses new ones, and waits
    /// until all are gone or the deadline has passed.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        drain::drain(self, deadline).await
    }

    /// Open connections, in their handshake or later.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The same without those that are on their way out.
    fn staying_connections(&self) -> usize {
        self.open_connections().saturating_sub(self.leaving.load(Ordering::Relaxed))
    }

    /// Whether this node holds connections at all: not by every role.
    #[must_use]
    pub const fn holds_connections(&self) -> bool {
        self.config.max_connections > 0
    }

    /// This node's name.
    #[must_use]
    pub const fn node_id(&self) -> &NodeId {
        &self.config.node_id
    }

    /// Whether another connection would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open_connections() < self.connections_max()
    }

    /// How many there may be now (`WS_MAX_CONNECTIONS`).
    fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// So many there may be from here on, in all (`WS_MAX_CONNECTIONS`) and of one user
    /// (`WS_MAX_CONNECTIONS_PER_USER`). Who is there stays, also where that is more. Nothing for a node that holds
    /// none by its role.
    pub fn set_limits(&self, connections_max: usize, per_user_max: usize) {
        if self.holds_connections() {
            self.connections_max.store(connections_max, Ordering::Relaxed);
            self.registry.metrics().connections_limit.set(connections_max as f64);
            self.registry.set_per_user_max(per_user_max);
        }
    }

    /// Every connection of this node, as of about now.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.registry.all().iter().map(|connection| connection.describe()).collect()
    }

    /// What an operator asks of this node's connections: names or closes them. None where it holds none
    /// by its role, or where another node is meant. Looks at each connection.
    #[must_use]
    pub fn inquire(&self, inquiry: &Inquiry) -> Option<Findings> {
        inquiry::inquire(self, inquiry)
    }

    /// Ends the connections of one inbox whose token is not to be believed any more.
    pub fn close_void(&self, inbox: &InboxKey) {
        for connection in self.registry.of(inbox) {
            if !self.verifier.is_valid(inbox, &connection.login()) {
                connection.close(CloseReason::Revoked);
            }
        }
    }

    /// As [`Live::close_void`], of every inbox: a key is withdrawn, and who has come by it is nowhere noted; or
    /// somebody was deleted, who is not named any more. Rare: it looks at each connection, some hundred nanoseconds.
    pub fn close_all_void(&self) {
        for connection in self.registry.all() {
            if !self.verifier.is_valid(connection.inbox(), &connection.login()) {
                connection.close(CloseReason::Revoked);
            }
        }
    }

    /// How often a channel was joined, over all connections of this node.
    #[must_use]
    pub fn channel_joins(&self) -> usize {
        self.presence.joins()
    }

    /// Memory of frames that wait for their sockets, in bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.registry.all().iter().map(|connection| connection.outbox().lock().queued_bytes()).sum()
    }

    const fn config(&self) -> &LiveConfig {
        &self.config
    }

    const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    const fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn verifier(&self) -> &dyn TokenVerifier {
        &*self.verifier
    }

    fn channels(&self) -> &dyn ChannelGate {
        &*self.channels
    }

    const fn presence(&self) -> &Presence {
        &self.presence
    }

    fn bus(&self) -> &dyn Bus {
        &*self.bus
    }

    fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    const fn page_permits(&self) -> &Arc<Semaphore> {
        &self.page_permits
    }

    fn metrics(&self) -> &LiveMetrics {
        self.registry.metrics()
    }

    const fn timing(&self) -> Timing {
        Timing {
            ping_interval: self.config.ping_interval,
            stall_timeout: self.config.stall_timeout,
        }
    }

    /// When a new connection is pinged for the first time, from now: drawn from the interval, so
    /// that ten thousand that came back at once are not pinged at once for ever after.
    fn first_ping(&self) -> Duration {
        let interval = self.config.ping_interval;
        let drawn = self.started.elapsed() + interval.mul_f64(rand::rng().random_range(0.0..1.0));
        let grid = PING_GRID.min(interval / 4).max(Duration::from_millis(1));
        let beyond = drawn.as_nanos() % grid.as_nanos();
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or(0));
        (drawn - beyond).saturating_sub(self.started.elapsed())
    }

    /// How old a new connection may become.
    fn draw_age(&self) -> Option<Duration> {
        let max = self.config.max_connection_age?;
        Some(max.mul_f64(rand::rng().random_range(AGE_DRAWN_FROM..=1.0)))
    }

    fn restart_spread(&self) -> Duration {
        Duration::from_millis(self.restart_spread_ms.load(Ordering::Relaxed))
    }

    const fn wall(&self) -> &WallClock {
        &self.config.clock
    }

    fn io<'a>(&'a self, connection: &'a Connection, now: Instant) -> Io<'a> {
        Io {
            socket: connection.socket(),
            limits: self.registry.limits(),
            metrics: self.metrics(),
            transport: connection.transport(),
            now,
            wall: self.wall(),
        }
    }
}
