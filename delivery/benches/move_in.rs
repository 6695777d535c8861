//! How long a folder takes to move into PostgreSQL, with the server on the same machine. Run with
//! `cargo bench -p delivery --bench move_in`; the server is started for it.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]
#![allow(clippy::unwrap_used, reason = "the test server is shared with tests")]

#[path = "../tests/postgres/mod.rs"]
mod postgres;

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use delivery::{
    Fanout, Store,
    move_in::{Outcome, Progress, Step, move_in},
    store::{
        Audience, Outgoing, SenderKey, Stored,
        postgres::PostgresConfig,
        single::{SingleConfig, SingleStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, MessageFields, TenantId, UserId};

/// Users, and messages that each has.
const USERS: usize = 2_000;
const EACH: usize = 100;

/// Messages in one append.
const BATCH: usize = 100;

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// When each step began.
#[derive(Default)]
struct Times(Mutex<Vec<(Step, Instant)>>);

impl Progress for Times {
    fn begin(&self, step: Step, _: Option<u64>) {
        self.0.lock().unwrap().push((step, Instant::now()));
    }

    fn advance(&self, _: u64) {}
}

fn outgoing(users: Vec<UserId>) -> Outgoing {
    let body = Body::new(&MessageFields {
        created_at: delivery::clock::now(),
        ..support::message(support::new_id(), "A message", "x".repeat(100))
    });
    let (tenant, sender) = (TenantId::default(), SenderKey::Admin);
    let audience = Audience::users(users);
    Outgoing { tenant, sender, audience, body: Arc::new(body), scheduled_at: None }
}

fn user(n: usize) -> UserId {
    UserId::new(format!("user-{:05}", n % USERS)).unwrap()
}

/// Moves a folder in which each message went to so many users.
async fn moves(recipients: usize) {
    let folder = tempfile::tempdir().unwrap();
    let config = SingleConfig { root: folder.path().join("storage"), ..SingleConfig::default() };
    let store = SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).unwrap();
    let sends = USERS * EACH / recipients;
    for first in (0..sends).step_by(BATCH) {
        let items = (first..sends.min(first + BATCH))
            .map(|n| outgoing((0..recipients).map(|at| user(n * recipients + at)).collect()));
        store.append(items.collect::<Vec<_>>().into()).await.unwrap();
        while store.lag_records() > 50_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    store.close().await;
    let database = PostgresConfig::new(postgres::database());
    let (times, began) = (Times::default(), Instant::now());
    let outcome = move_in(&database, config, Arc::new(NoopRecorder), &times).await.unwrap();
    let took = began.elapsed();
    let Outcome::Moved { counts, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(counts.messages, (USERS * EACH) as u64);
    println!(
        "{} messages of {} users, {recipients} recipients each: {took:?}, {:.0} messages/s",
        counts.messages,
        counts.users,
        counts.messages as f64 / took.as_secs_f64()
    );
    let times = times.0.into_inner().unwrap();
    let ends = times.iter().skip(1).map(|(_, at)| *at).chain([began + took]);
    for ((step, at), end) in times.iter().zip(ends) {
        println!("    {:32} {:?}", step.words(), end - *at);
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    moves(1).await;
    moves(20).await;
}
