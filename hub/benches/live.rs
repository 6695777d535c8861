//! What a connection and a delivery cost:
//! `cargo bench -p hub --bench live -- [connections [rounds [idle seconds]]]`.
//!
//! The server runs in this process, the clients in a child, so that memory and CPU can be told
//! apart. Both share the machine: read the figures with the clients' CPU beside them. Nothing is
//! stored; the store is a list in memory, so these are figures of the live side alone.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a terminal")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use delivery::{
    Fanout, Store,
    limit::{LimitConfig, Limiter},
};
use hub::{
    bus::LocalBus,
    http::{self, HttpLimits, HttpMetrics, Listener, Pages},
    live::{Live, LiveConfig, Registry},
};
use metrics::NoopRecorder;
use protocol::NodeId;
use support::{
    clients::{self, Clients},
    list_store::ListStore,
    store::{Everyone, NoChannels, change, inbox},
    usage::{Usage, rss_kib},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Frames of 128 bytes of content, as in the measurements of the bare write loop.
const CONTENT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn main() {
    if let Ok(address) = std::env::var(clients::ADDRESS) {
        return clients::run(&address);
    }
    // Cargo adds a word of its own.
    let numbers: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (connections, rounds, idle) = (number(0, 5_000), number(1, 20), number(2, 30));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let idle = Duration::from_secs(idle.into());
    runtime.block_on(measure(connections as usize, rounds.into(), idle));
}

async fn measure(connections: usize, rounds: u64, idle: Duration) {
    let config = config();
    let registry = Registry::new(&config, &metrics::NoopRecorder);
    let store = Arc::new(ListStore::default());
    let limiter = Arc::new(Limiter::new(LimitConfig::default(), &metrics::NoopRecorder));
    let live = Live::new(
        config,
        registry.clone(),
        store.clone(),
        Arc::new(Everyone),
        Arc::new(NoChannels),
        limiter,
        Arc::new(LocalBus),
    );
    let address = serve(&live).await;
    let mut clients = Clients::start(address);

    // Warm: code, allocator arenas, the first of everything.
    clients.connect(100, "warm").await;
    let before = rss_kib();
    let usage = Usage::now();
    let began = Instant::now();
    let client_cpu = clients.connect(connections, "user").await;
    let took = began.elapsed();
    report("connect", connections, took, usage.since(), client_cpu);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kib = (rss_kib() - before) as f64 / connections as f64;
    println!("idle memory: {kib:.2} KiB RSS a connection, {} in all", live.open_connections());

    let usage = Usage::now();
    tokio::time::sleep(idle).await;
    let per_second = usage.since().as_secs_f64() * 1e6 / idle.as_secs_f64() / connections as f64;
    println!("idle CPU: {per_second:.2} us/s a connection");

    fan_out(&registry, &mut clients, connections, rounds, 1).await;
    fan_out(&registry, &mut clients, connections, rounds, 16).await;
    backlog(&store, &mut clients, 2_000, 200).await;
}

/// Each round publishes `burst` changes to every connection, in one call per inbox.
async fn fan_out(
    registry: &Arc<Registry>,
    clients: &mut Clients,
    connections: usize,
    rounds: u64,
    burst: u64,
) {
    let first = support::store::next_seq(connections, rounds * burst);
    let usage = Usage::now();
    let began = Instant::now();
    let (registry, total) = (registry.clone(), connections as u64 * rounds * burst);
    let client_cpu = clients.cpu_while(total, async move {
        tokio::task::spawn_blocking(move || {
            for round in 0..rounds {
                for user in 0..connections {
                    let seq = first + round * burst;
                    let changes: Vec<_> = (seq..seq + burst)
                        .map(|seq| change(inbox("user", user), seq, CONTENT))
                        .collect();
                    registry.publish(&changes);
                }
            }
        })
        .await
        .unwrap();
    });
    let client_cpu = client_cpu.await;
    let name = format!("fan-out, {burst} a write");
    report(&name, total as usize, began.elapsed(), usage.since(), client_cpu);
}

/// Connections that come back with `changes` to read each.
async fn backlog(store: &Arc<ListStore>, clients: &mut Clients, connections: usize, changes: u64) {
    for user in 0..connections {
        let inbox = inbox("back", user);
        for _ in 0..changes {
            store.store(&inbox, |seq| change(inbox.clone(), seq, CONTENT));
        }
    }
    let usage = Usage::now();
    let began = Instant::now();
    let total = connections as u64 * changes;
    let client_cpu = clients.backlog(connections, "back", total).await;
    let took = began.elapsed();
    report("backlog, connections", connections, took, usage.since(), client_cpu);
    report("backlog, changes", total as usize, took, usage.since(), client_cpu);
    assert!(store.head(&inbox("back", 0)).await.is_ok());
}

fn report(name: &str, count: usize, took: Duration, server: Duration, client: Duration) {
    let per = |duration: Duration| duration.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{name}: {:.0}/s ({count} in {took:.2?}); CPU us each: server {:.2}, clients {:.2}",
        count as f64 / took.as_secs_f64(),
        per(server),
        per(client),
    );
}

fn config() -> LiveConfig {
    LiveConfig {
        ping_interval: Duration::from_secs(30),
        read_buffer_size: 4096,
        write_buffer_size: 4096,
        outbox_limit: 256 << 10,
        stall_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        max_connections: 100_000,
        max_connections_per_user: 100,
        allowed_origins: vec![],
        max_connection_age: None,
        node_id: NodeId::new("bench").unwrap(),
        clock: delivery::clock::WallClock::default(),
    }
}

async fn serve(live: &Arc<Live>) -> std::net::SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4_096).unwrap();
    let address = listener.local_addr().unwrap();
    let router = live.routes();
    let limits = HttpLimits {
        header_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        connections_max: 100_000,
    };
    let counts = Arc::new(HttpMetrics::new(&NoopRecorder, Listener::User));
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let pages = Pages::new(Listener::User, &[]);
    tokio::spawn(http::serve(listener, router, limits, pages, counts, shutdown, tracker));
    address
}
