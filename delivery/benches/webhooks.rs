//! What webhooks take and send, on a file and on PostgreSQL by one node and by two, with the server and the
//! receiver on the same machine. Run with `cargo bench -p delivery --bench webhooks`; the server is started
//! for it.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]
#![allow(clippy::unwrap_used, reason = "the test server is shared with tests")]

#[path = "../tests/postgres/mod.rs"]
mod postgres;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use delivery::{
    control::{Control, NewService},
    webhook::{Event, EventKind, EventSink, NewWebhook, WebhookConfig, Webhooks},
};
use metrics::NoopRecorder;
use protocol::{ServiceId, TenantId};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_postgres::NoTls;

/// Services with an endpoint each.
const SERVICES: usize = 32;

/// How long each kind of load goes on.
const SECONDS: Duration = Duration::from_secs(6);

/// Threads that record at a time, over all nodes.
const CALLERS: usize = 32;

/// Events that wait before they are sent.
const SENT: u64 = 32_000;

struct World {
    control: Arc<Control>,
    services: Vec<ServiceId>,
    folder: tempfile::TempDir,
    url: Option<String>,
    next: AtomicU64,
}

impl World {
    fn new(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(folder.path()).unwrap());
        let service = |n: usize| {
            let new = NewService { id: Some(format!("s{n}")), ..NewService::named("bench") };
            control.create_service(new).unwrap().0.id
        };
        let services = (0..SERVICES).map(service).collect();
        Self { control, services, folder, url, next: AtomicU64::new(0) }
    }

    fn node(&self) -> Webhooks {
        let config = WebhookConfig {
            allowed_networks: "127.0.0.0/8".parse().unwrap(),
            timeout: Duration::from_secs(10),
        };
        let control = Arc::clone(&self.control);
        match &self.url {
            None => Webhooks::open(self.folder.path(), config, control, &NoopRecorder),
            Some(url) => {
                Webhooks::open_postgres(url.parse().unwrap(), NoTls, config, control, &NoopRecorder)
            }
        }
        .unwrap()
    }

    fn endpoints(&self, node: &Webhooks, url: &str) {
        for service in &self.services {
            let (url, events) = (url.to_owned(), vec!["*".to_owned()]);
            let new = NewWebhook { url, events, description: String::new() };
            node.create(&TenantId::default(), service, new).unwrap();
        }
    }

    fn events(&self, count: usize) -> Vec<Event> {
        let first = self.next.fetch_add(count as u64, Ordering::Relaxed);
        let event = |n: u64| Event {
            id: format!("message.read/{n}"),
            tenant: TenantId::default(),
            service: self.services[n as usize % SERVICES].clone(),
            kind: EventKind::Read,
            at: delivery::clock::now(),
            data: json!({"message_id": format!("msg-{n}"), "user_id": "ann", "at": "2026-01-01T00:00:00Z"}),
        };
        (first..first + count as u64).map(event).collect()
    }

    fn delivered(&self, node: &Webhooks) -> u64 {
        let all = self.services.iter().flat_map(|service| node.list(service).unwrap());
        all.map(|webhook| webhook.delivered).sum()
    }
}

/// Commits with events so far.
fn commits(runtime: &tokio::runtime::Runtime, url: &str) -> i64 {
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT news FROM webhook_revision", &[]).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        row.get(0)
    })
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// So many callers record so many events at a time, nothing is sent.
fn records(runtime: &tokio::runtime::Runtime, place: &str, nodes: usize, url: Option<String>) {
    let world = World::new(url);
    let opened: Vec<_> = (0..nodes).map(|_| world.node()).collect();
    world.endpoints(&opened[0], "http://127.0.0.1:9/");
    // Other nodes hear of them.
    thread::sleep(Duration::from_secs(1));
    for size in [1, 20, 1_000] {
        let before = world.url.as_deref().map(|url| commits(runtime, url));
        let began = Instant::now();
        let mut latencies: Vec<Duration> = thread::scope(|scope| {
            let caller = |n: usize| {
                let (world, node) = (&world, &opened[n % nodes]);
                scope.spawn(move || {
                    let mut latencies = vec![];
                    while began.elapsed() < SECONDS {
                        let events = world.events(size);
                        let began = Instant::now();
                        node.record(events).unwrap();
                        latencies.push(began.elapsed());
                    }
                    latencies
                })
            };
            let callers: Vec<_> = (0..CALLERS).map(caller).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        });
        let seconds = began.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let calls = latencies.len() as f64 / seconds;
        let commits = before.map(|before| {
            let commits = commits(runtime, world.url.as_deref().unwrap()) - before;
            format!(", {:.0} commits/s", commits as f64 / seconds)
        });
        println!(
            "{place}, {nodes} node(s), {size} events a call: {calls:.0} calls/s, {:.0} events/s{}; \
             p50 {:?}, p99 {:?}",
            calls * size as f64,
            commits.unwrap_or_default(),
            percentile(&latencies, 0.5),
            percentile(&latencies, 0.99),
        );
    }
    opened.iter().for_each(Webhooks::close);
}

/// What waits is sent to a receiver that answers at once.
fn sends(runtime: &tokio::runtime::Runtime, place: &str, nodes: usize, url: Option<String>) {
    let world = World::new(url);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let receiving = runtime.spawn(receive(listener));
    let opened: Vec<_> = (0..nodes).map(|_| world.node()).collect();
    world.endpoints(&opened[0], &format!("http://{address}/"));
    for _ in 0..SENT / 1_000 {
        opened[0].record(world.events(1_000)).unwrap();
    }
    let began = Instant::now();
    let running: Vec<_> = opened.iter().map(|node| runtime.spawn(node.clone().run())).collect();
    while world.delivered(&opened[0]) < SENT {
        thread::sleep(Duration::from_millis(50));
    }
    let rate = SENT as f64 / began.elapsed().as_secs_f64();
    println!("{place}, {nodes} node(s): {rate:.0} events/s sent and written down");
    opened.iter().for_each(Webhooks::stop);
    for running in running {
        runtime.block_on(running).unwrap();
    }
    opened.iter().for_each(Webhooks::close);
    receiving.abort();
}

async fn receive(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            loop {
                // A request has one body, which is JSON and ends in "}}".
                while !buffer.ends_with(b"}}") {
                    if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                buffer.clear();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    records(&runtime, "file", 1, None);
    sends(&runtime, "file", 1, None);
    for nodes in [1, 2] {
        records(&runtime, "PostgreSQL", nodes, Some(postgres::empty_database()));
        sends(&runtime, "PostgreSQL", nodes, Some(postgres::empty_database()));
    }
}
