//! A million messages that wait for their time, without HTTP: what accepting them costs, what memory
//! they hold while they wait, and how long a store with them takes to open.
//!
//! `cargo bench -p delivery --bench scheduled`; `BENCH_DIR` says on which disk.

#![expect(clippy::print_stdout, reason = "a report")]

mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use delivery::{
    Fanout, Store, StoreError,
    store::{
        Audience, Ledger, Outgoing, SenderKey, Stored,
        single::{SingleConfig, SingleStore},
    },
};
use metrics::NoopRecorder;
use mimalloc::MiMalloc;
use protocol::{Body, MessageFields, MessageId, TenantId, Time, UserId};
use tokio::runtime::Runtime;

/// That of the server: what another one keeps of freed memory is not ours to report.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MESSAGES: u64 = 1_000_000;
const BATCH: u64 = 1_000;
/// Batches between two lines of the report.
const LINE: u64 = 100;

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

fn id(number: u64) -> MessageId {
    MessageId::new(format!("msg-{number:032x}")).expect("a valid id")
}

/// Far ahead, each a second after the one before.
fn outgoing(number: u64) -> Outgoing {
    let at = 4_000_000_000_000 + i64::try_from(number).expect("small") * 1_000;
    let user = UserId::new(format!("user-{}", number % 100_000)).expect("a valid id");
    Outgoing {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience: Audience::users(vec![user]),
        body: Arc::new(Body::new(&MessageFields {
            sender: "calendar".to_owned(),
            ..support::message(id(number), "提醒", "会议十分钟后开始。".repeat(8))
        })),
        scheduled_at: Some(Time::from_millis(at)),
    }
}

/// Memory of this process in MiB: (all, without the pages of files).
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of Linux");
        let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        number.expect("a number of KiB") >> 10
    };
    (of("VmRSS:"), of("RssAnon:"))
}

/// Until `ledger.db` has all: a question about a message is answered behind what waits.
async fn written(store: &SingleStore, last: u64) {
    let id = id(last);
    let sent = store.sent(&TenantId::default(), &id).await.expect("answered");
    assert!(sent.is_some(), "{id} is known");
}

/// A batch, as a sender would that is told to come again.
async fn accept(store: &SingleStore, first: u64) {
    loop {
        let items: Vec<_> = (first..first + BATCH).map(outgoing).collect();
        match store.append(items.into()).await {
            Ok(()) => return,
            Err(StoreError::Busy(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn main() {
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let config = SingleConfig { root: folder.path().join("data"), ..SingleConfig::default() };
    let open = || SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).expect("opened");
    let runtime = Runtime::new().expect("a runtime");
    let store = open();
    let begun = Instant::now();
    println!("scheduled, seconds, MiB resident, of which not files");
    runtime.block_on(async {
        for batch in 0..MESSAGES / BATCH {
            if batch.is_multiple_of(LINE) {
                let (all, anonymous) = memory();
                println!(
                    "{:9} {:7.1} {all:6} {anonymous:6}",
                    batch * BATCH,
                    begun.elapsed().as_secs_f64()
                );
            }
            accept(&store, batch * BATCH).await;
            written(&store, (batch + 1) * BATCH - 1).await;
        }
        let (all, anonymous) = memory();
        println!("{MESSAGES:9} {:7.1} {all:6} {anonymous:6}", begun.elapsed().as_secs_f64());
        store.close().await;
    });
    drop(store);
    let file = config.root.join(".hub/ledger.db");
    println!("ledger.db {} MiB", fs::metadata(file).map_or(0, |metadata| metadata.len() >> 20));
    let begun = Instant::now();
    let store = open();
    let (all, anonymous) = memory();
    println!("opened again in {:.2?}, {all} MiB, {anonymous} not files", begun.elapsed());
    runtime.block_on(store.close());
}
