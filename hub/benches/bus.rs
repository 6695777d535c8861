//! What a change costs that crosses nodes:
//! `cargo bench -p hub --bench bus -- [changes [users]]`.
//!
//! Two buses in this process against a Redis of its own. Nothing is stored and no socket written: these are
//! the figures of the bus alone, of both nodes together. Redis's share stands beside them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a terminal")]

#[path = "support/usage.rs"]
mod usage;

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    InboxKey,
    store::{Change, Stored},
};
use hub::bus::{Bus, Doubt, Inbound, PresenceNews, RedisBus, RedisConfig, State};
use metrics::NoopRecorder;
use protocol::{
    Body, ChannelId, ConnectionId, MessageFields, MessageState, Seq, TenantId, Time, UserId,
    envelope::Spent,
};
use usage::{Usage, rss_kib};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Most changes that are under way: below what the queue to the bus takes.
const UNDER_WAY_MAX: u64 = 20_000;

fn main() {
    // Cargo adds a word of its own.
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (changes, users) = (number(0, 500_000), number(1, 10_000));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(changes, users));
}

async fn measure(changes: u64, users: u64) {
    let redis = Redis::start();
    let (a, a_ears) = node(&redis, "a").await;
    let (b, b_ears) = node(&redis, "b").await;
    let inboxes: Vec<InboxKey> = (0..users)
        .map(|user| InboxKey::new(TenantId::default(), format!("user-{user}").parse().unwrap()))
        .collect();
    let body = Arc::new(body());
    println!("bodies of {} bytes", body.json().len());

    let (memory, used, began) = (rss_kib(), Usage::now(), Instant::now());
    let waits = inboxes.iter().map(|inbox| b.attend(inbox));
    let listening = futures_util::future::join_all(waits).await;
    report("subscribe", users, began, &used, &redis, None);
    println!(
        "memory of a topic, in the node: {:.2} KiB",
        (rss_kib() - memory) as f64 / users as f64
    );

    let change = |number: u64| {
        let inbox = inboxes[(number % users) as usize].clone();
        let seq = Seq(number / users + 1);
        let change = Change::Message { state: MessageState::new(seq), body: Arc::clone(&body) };
        Stored { inbox, seq, change, accepted: None }
    };
    for (first, count) in [(0, users), (users, changes)] {
        let before = b_ears.heard();
        let redis_before = redis.cpu();
        let (used, began) = (Usage::now(), Instant::now());
        for number in first..first + count {
            a.publish(&[change(number)]);
            while number - first > b_ears.heard() - before + UNDER_WAY_MAX {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while b_ears.heard() - before < count {
            assert!(Instant::now() < deadline, "changes were lost");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        report("changes", count, began, &used, &redis, Some(redis_before));
    }
    assert_eq!(a_ears.heard(), 0);

    // One at a time, a thousand a second: what a quiet node sees.
    let mut took = Vec::new();
    for number in users + changes..users + changes + 1_000 {
        let before = b_ears.heard();
        let began = Instant::now();
        a.publish(&[change(number)]);
        while b_ears.heard() == before {
            tokio::task::yield_now().await;
        }
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort();
    println!("one at a time: p50 {:?}, p99 {:?}", took[500], took[990]);
    drop(listening);
    a.close().await;
    b.close().await;
}

fn report(
    what: &str,
    count: u64,
    began: Instant,
    used: &Usage,
    redis: &Redis,
    redis_before: Option<Duration>,
) {
    let (took, cpu) = (began.elapsed(), used.since());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let redis = redis_before.map_or(Duration::ZERO, |before| redis.cpu() - before);
    println!(
        "{what}: {count} in {:.2} s, {:.0}/s; CPU {:.2} µs each in both nodes, {:.2} in Redis",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        each(cpu),
        each(redis),
    );
}

async fn node(redis: &Redis, name: &str) -> (Arc<RedisBus>, Arc<Ears>) {
    let config = RedisConfig {
        address: format!("redis://127.0.0.1:{}", redis.port).parse().unwrap(),
        ca: None,
        prefix: "bench".to_owned(),
        node: name.parse().unwrap(),
        secrets: None,
        clock: delivery::clock::WallClock::default(),
        spans: delivery::spans::Spans::default(),
    };
    let bus = RedisBus::new(config, &NoopRecorder);
    let ears = Arc::new(Ears::default());
    bus.start(Arc::clone(&ears) as Arc<dyn Inbound>);
    let mut states = bus.states();
    let up = states.wait_for(|state| *state == State::Up);
    tokio::time::timeout(Duration::from_secs(10), up).await.unwrap().unwrap();
    (bus, ears)
}

/// Counts.
#[derive(Default)]
struct Ears(AtomicU64);

impl Ears {
    fn heard(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Inbound for Ears {
    fn changes(&self, changes: &[Stored]) {
        self.0.fetch_add(changes.len() as u64, Ordering::Relaxed);
    }
    fn connections(&self) -> Option<u64> {
        None
    }
    fn in_store(&self, _: &InboxKey, _: Seq) {}
    fn group(&self, _: &TenantId, _: u64) {}
    fn doubt(&self, why: Doubt) {
        println!("doubt: {}", why.label());
    }
    fn replaced(&self, _: &InboxKey, _: &ConnectionId) {}
    fn revoked(&self) {}
    fn spent(&self, _: &[Spent]) {}
    fn presence(&self, _: u64, _: &TenantId, _: &ChannelId, _: PresenceNews<'_>) {}
    fn node_gone(&self, _: u64) {}
    fn presence_here(&self, _: &TenantId, _: &ChannelId) -> (Vec<UserId>, bool) {
        (Vec::new(), false)
    }
}

fn body() -> Body {
    Body::new(&MessageFields {
        id: "0197a1b2c3d47e8f9a0b1c2d3e4f5061".parse().unwrap(),
        channel_id: Some("builds".parse().unwrap()),
        title: "Build finished".into(),
        content: "0123456789abcdef".repeat(6),
        message_type: "text".into(),
        priority: 5,
        sender: "bench".into(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::from_millis(1_700_000_000_000),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    })
}

/// A server of our own, killed by its id when dropped.
struct Redis {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; see scripts/tools.sh");
        Self { process, port, _folder: folder }
    }

    /// User and system time, to a hundredth of a second.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
