//! Forgetting users while others are sent to: how long it takes with a ledger of a million messages, and what a
//! send waits meanwhile.
//!
//! `cargo bench -p delivery --bench forget`; `BENCH_DIR` says on which disk.

#![expect(clippy::print_stdout, reason = "a report")]

mod support;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, Store,
    store::{
        Audience, Outgoing, SenderKey, Stored,
        single::{SingleConfig, SingleStore, hub_dir},
    },
};
use metrics::NoopRecorder;
use mimalloc::MiMalloc;
use protocol::{Body, MessageFields, TenantId, UserId};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Rows of `ledger.db`.
const ROWS: i64 = 1_000_000;
/// Sends a second.
const RATE: u64 = 500;
/// How long is measured without and with forgetting.
const MEASURED: Duration = Duration::from_secs(15);

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

fn user(number: u64) -> UserId {
    UserId::new(format!("user-{number}")).expect("a valid id")
}

fn outgoing(number: u64) -> Outgoing {
    Outgoing {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience: Audience::users(vec![user(number % 10_000)]),
        body: Arc::new(Body::new(&MessageFields {
            sender: "calendar".to_owned(),
            created_at: delivery::clock::now(),
            ..support::message(support::new_id(), "提醒", "会议十分钟后开始。".repeat(8))
        })),
        scheduled_at: None,
    }
}

fn open(root: &Path) -> Arc<SingleStore> {
    let config = SingleConfig { root: root.to_owned(), ..SingleConfig::default() };
    SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).expect("a fresh folder")
}

/// Puts rows into the ledger, each of a message to two.
fn fill(root: &Path) {
    let db = rusqlite::Connection::open(hub_dir(root).join("ledger.db")).expect("it is there");
    let audience = Audience::users(vec![user(1), user(2)]);
    let audience = rmp_serde::to_vec(&audience).expect("ids");
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?2)
         INSERT INTO sent (id, tenant, lsn, state, accepted_at, sent_at, sender, audience)
         SELECT unhex(printf('019a%08x70008000000000000000', i)), 'default', 0, 1, 0, 0,
             'service:crm', ?1 FROM n",
        rusqlite::params![audience, ROWS],
    )
    .expect("rows");
}

/// Sends at a steady rate until told; answers the waits, sorted.
async fn send(store: Arc<SingleStore>, done: Arc<AtomicBool>) -> Vec<Duration> {
    let began = Instant::now();
    let mut sends = Vec::new();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let at = began + Duration::from_micros(number * 1_000_000 / RATE);
        tokio::time::sleep_until(at.into()).await;
        let store = Arc::clone(&store);
        sends.push(tokio::spawn(async move {
            let began = Instant::now();
            store.append(vec![outgoing(number)].into()).await.expect("stored");
            began.elapsed()
        }));
    }
    let mut waits = Vec::with_capacity(sends.len());
    for send in sends {
        waits.push(send.await.expect("sent"));
    }
    waits.sort_unstable();
    waits
}

fn report(what: &str, waits: &[Duration]) {
    let at = |share: usize| waits[waits.len() * share / 1_000];
    println!(
        "{what}: {} sends, p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, longest {:.1?}",
        waits.len(),
        at(500),
        at(990),
        at(999),
        waits[waits.len() - 1]
    );
}

async fn measure(root: &Path) {
    let store = open(root);
    for forgetting in [false, true] {
        let done = Arc::new(AtomicBool::new(false));
        let sends = tokio::spawn(send(Arc::clone(&store), Arc::clone(&done)));
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < MEASURED {
            if forgetting {
                let began = Instant::now();
                let key = InboxKey::new(TenantId::default(), user(5 + took.len() as u64));
                store.forget(&key).await.expect("forgotten");
                took.push(began.elapsed());
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        done.store(true, Ordering::Relaxed);
        let waits = sends.await.expect("sent");
        report(if forgetting { "while forgetting" } else { "without" }, &waits);
        if forgetting {
            println!("forgetting one took {took:.1?}");
        }
    }
    let began = Instant::now();
    let all = (200..300).map(|number| {
        let key = InboxKey::new(TenantId::default(), user(number));
        let store = Arc::clone(&store);
        async move { store.forget(&key).await.expect("forgotten") }
    });
    futures_util::future::join_all(all).await;
    println!("a hundred at once took {:.1?}", began.elapsed());
    store.close().await;
}

fn main() {
    let folder = match std::env::var_os("BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a folder");
    let root = folder.path().join("storage");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(open(&root).close());
    fill(&root);
    let size = fs::metadata(hub_dir(&root).join("ledger.db")).map_or(0, |file| file.len());
    println!("{ROWS} messages in a ledger of {} MiB", size >> 20);
    runtime.block_on(measure(&root));
}
