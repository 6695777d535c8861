//! What the store takes, without HTTP and sockets: single sends from many callers, batches, and the
//! time until everything is in the users' files. Run with `cargo bench -p delivery`.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

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
        Audience, Outgoing, SenderKey, Stored,
        single::{SingleConfig, SingleStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, TenantId, UserId};

#[derive(Default)]
struct Count(AtomicU64);

impl Fanout for Count {
    fn publish(&self, changes: &[Stored]) {
        self.0.fetch_add(changes.len() as u64, Ordering::Relaxed);
    }
}

fn body() -> Arc<Body> {
    Arc::new(Body::new(&support::message(support::new_id(), "A message", "x".repeat(100))))
}

fn to(users: &[UserId]) -> Outgoing {
    Outgoing {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience: Audience::users(users.to_vec()),
        body: body(),
        scheduled_at: None,
    }
}

async fn drained(store: &SingleStore) {
    while store.lag_records() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn report(what: &str, count: u64, started: Instant, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let seconds = started.elapsed().as_secs_f64();
    let at = |p: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (latencies.len() as f64 * p) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    println!(
        "{what}: {count} in {seconds:.2} s = {:.0}/s; p50 {:?} p99 {:?}",
        count as f64 / seconds,
        at(0.5),
        at(0.99)
    );
}

#[tokio::main]
async fn main() {
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let fanout = Arc::new(Count::default());
    let config = SingleConfig {
        root: folder.path().join("data"),
        open_inboxes: 4_096,
        ..SingleConfig::default()
    };
    let store = SingleStore::open(&config, fanout.clone(), &NoopRecorder).expect("a fresh store");
    let users: Arc<[UserId]> =
        (0..4_000).map(|n| UserId::new(format!("user{n}")).expect("a valid id")).collect();

    let started = Instant::now();
    let mut guards = Vec::new();
    let mut latencies = Vec::new();
    for chunk in users.chunks(256) {
        let watches = chunk.iter().map(|user| {
            let store = store.clone();
            let key = InboxKey::new(TenantId::default(), user.clone());
            tokio::spawn(async move { store.watch(&key).await.expect("watched").guard })
        });
        for watch in watches.collect::<Vec<_>>() {
            guards.push(watch.await.expect("no panic"));
        }
    }
    report("watch new users", users.len() as u64, started, &mut latencies);

    for callers in [1_u64, 8, 64, 256] {
        let per_caller = if callers == 1 { 3_000 } else { 200_000 / callers };
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let (store, users) = (store.clone(), users.clone());
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    for n in 0..per_caller {
                        let number = (callers << 48) | (caller << 32) | n;
                        let user =
                            usize::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33)
                                .expect("31 bits")
                                % users.len();
                        let began = Instant::now();
                        store.append(vec![to(&users[user..=user])].into()).await.expect("stored");
                        latencies.push(began.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("no panic"));
        }
        report(
            &format!("single, {callers} callers"),
            callers * per_caller,
            started,
            &mut latencies,
        );
        drained(&store).await;
        report("  ... in the users' files", callers * per_caller, started, &mut latencies);
    }
    for _ in 0..2 {
        let started = Instant::now();
        let mut latencies = Vec::new();
        for n in 0..400_u64 {
            let start = usize::try_from(n * 100).expect("small") % users.len();
            let began = Instant::now();
            store.append(vec![to(&users[start..start + 100])].into()).await.expect("stored");
            latencies.push(began.elapsed());
        }
        report("100 recipients", 40_000, started, &mut latencies);
        drained(&store).await;
        report("  ... in the users' files", 40_000, started, &mut latencies);
    }
    println!("published {}", fanout.0.load(Ordering::Relaxed));
    drop(guards);
    let started = Instant::now();
    store.close().await;
    println!("closed in {:?}", started.elapsed());
}
