//! What the PostgreSQL store takes, without HTTP and sockets, with the server on the same machine: sends
//! to one and to many, messages to everyone who is watched, reads. Run with
//! `cargo bench -p delivery --bench postgres`; the server is started for it.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]
#![allow(clippy::unwrap_used, reason = "the test server is shared with tests")]

#[path = "../tests/postgres/mod.rs"]
mod postgres;

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, Store,
    store::{
        Audience, Mark, MarkTarget, Outgoing, SenderKey, Stored,
        postgres::{PostgresConfig, PostgresStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, MessageFields, Seq, TenantId, UserId};

/// Users that messages go to.
const USERS: usize = 20_000;

/// How long each kind of send goes on.
const SECONDS: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Count(AtomicU64);

impl Fanout for Count {
    fn publish(&self, changes: &[Stored]) {
        self.0.fetch_add(changes.len() as u64, Ordering::Relaxed);
    }
}

/// What a sender of orders puts into each message: three values that can be asked for.
fn of_an_order(n: usize) -> serde_json::Map<String, serde_json::Value> {
    [("kind", "order".into()), ("order", n.into()), ("customer", (n * 7_919 % USERS).into())]
        .map(|(key, value): (&str, serde_json::Value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn outgoing(audience: Audience) -> Outgoing {
    with_metadata(audience, serde_json::Map::new())
}

fn with_metadata(
    audience: Audience,
    metadata: serde_json::Map<String, serde_json::Value>,
) -> Outgoing {
    let body = Body::new(&MessageFields {
        created_at: delivery::clock::now(),
        metadata,
        ..support::message(support::new_id(), "A message", "x".repeat(100))
    });
    let (tenant, sender) = (TenantId::default(), SenderKey::Admin);
    Outgoing { tenant, sender, audience, body: Arc::new(body), scheduled_at: None }
}

fn user(n: usize) -> UserId {
    UserId::new(format!("user-{:05}", n % USERS)).unwrap()
}

/// Sends from so many callers, each to so many users at a time, one after the other.
async fn sends(store: &Arc<PostgresStore>, callers: usize, recipients: usize, metadata: bool) {
    let (next, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < SECONDS {
                let n = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                // Neighbours and strangers: rows of an index lie anywhere.
                let users = (0..recipients).map(|at| user((n * recipients + at) * 7_919)).collect();
                let began = Instant::now();
                let metadata = if metadata { of_an_order(n) } else { serde_json::Map::new() };
                let item = with_metadata(Audience::users(users), metadata);
                store.append(vec![item].into()).await.unwrap();
                latencies.push(began.elapsed());
            }
            latencies
        });
    }
    let mut latencies: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    let rows = (latencies.len() * recipients) as f64 / started.elapsed().as_secs_f64();
    let with = if metadata { ", with metadata" } else { "" };
    println!(
        "{callers:>4} callers, {recipients:>5} recipients a send{with}: {rows:>8.0} rows/s, p50 {:?}, p99 {:?}",
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
    );
}

async fn everyone(store: &Arc<PostgresStore>, told: &Count, watched: usize) {
    let mut watches = Vec::new();
    for n in 0..watched {
        watches.push(store.watch(&InboxKey::new(TenantId::default(), user(n))).await.unwrap());
    }
    for _ in 0..3 {
        let (before, started) = (told.0.load(Ordering::Relaxed), Instant::now());
        store.append(vec![outgoing(Audience::Everyone)].into()).await.unwrap();
        let answered = started.elapsed();
        while told.0.load(Ordering::Relaxed) < before + watched as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!(
            "to everyone, {watched} watched: answered after {answered:?}, the last told after {:?}",
            started.elapsed()
        );
    }
}

async fn reads(store: &Arc<PostgresStore>) {
    for (what, callers) in [("one caller", 1), ("8 callers", 8)] {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let store = Arc::clone(store);
            tasks.spawn(async move {
                let mut count = 0_u64;
                while started.elapsed() < SECONDS / 4 {
                    let key =
                        InboxKey::new(TenantId::default(), user(caller * 31 + 7 * count as usize));
                    store.changes(&key, Seq(0), 50, 1 << 20).await.unwrap();
                    count += 1;
                }
                count
            });
        }
        let count: u64 = tasks.join_all().await.iter().sum();
        println!("backlogs of 50, {what}: {:.0}/s", count as f64 / started.elapsed().as_secs_f64());
    }
    let started = Instant::now();
    let mut marks = 0_u64;
    while started.elapsed() < SECONDS / 4 {
        let key = InboxKey::new(TenantId::default(), user(marks as usize));
        store.mark(&key, None, Mark::Read, MarkTarget::UpTo(Seq(10))).await.unwrap();
        marks += 1;
    }
    println!("marks, one caller: {:.0}/s", marks as f64 / started.elapsed().as_secs_f64());
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let told = Arc::new(Count::default());
    let config = PostgresConfig::new(postgres::database());
    let store = PostgresStore::open(config, told.clone(), &NoopRecorder).await.unwrap();
    for part in (0..USERS).collect::<Vec<_>>().chunks(1_000) {
        let users = part.iter().map(|n| user(*n)).collect();
        store.append(vec![outgoing(Audience::users(users))].into()).await.unwrap();
    }
    sends(&store, 1, 1, false).await;
    sends(&store, 32, 1, false).await;
    sends(&store, 256, 1, false).await;
    // Turn about, so that what the machine does besides falls on both.
    for metadata in [true, false, true] {
        sends(&store, 256, 1, metadata).await;
    }
    sends(&store, 32, 100, false).await;
    sends(&store, 8, 1_000, false).await;
    sends(&store, 2, 10_000, false).await;
    reads(&store).await;
    everyone(&store, &told, 1_000).await;
    everyone(&store, &told, 10_000).await;
    store.close().await;
}
