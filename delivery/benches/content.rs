//! What encryption of content costs: one message sealed and opened, and sends with and without, in turns, so that
//! whatever else the machine does is on both sides. Run with `cargo bench -p delivery --bench content`.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use delivery::{
    Store,
    content::{ContentKeys, ContentStore, Opening},
    fanout::Nobody,
    store::{
        Audience, Outgoing, SenderKey, Storage,
        single::{SingleConfig, SingleStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, TenantId, UserId};

const ROUNDS: usize = 7;
const CALLERS: usize = 64;
const SENDS: usize = 20_000;
const KEY: &str = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn body(bytes: usize) -> Arc<Body> {
    Arc::new(Body::new(&support::message(support::new_id(), "A message", "x".repeat(bytes))))
}

fn one(bytes: usize) {
    let keys = ContentKeys::parse(KEY).expect("a key");
    let (tenant, body) = (TenantId::default(), body(bytes));
    let times = 20_000_u32;
    let began = Instant::now();
    for _ in 0..times {
        std::hint::black_box(keys.seal(&tenant, &body).expect("sealed"));
    }
    let seal = began.elapsed() / times;
    let sealed = keys.seal(&tenant, &body).expect("sealed").json();
    let stored = Arc::new(Body::from_stored(body.id().clone(), None, &sealed));
    let began = Instant::now();
    for _ in 0..times {
        std::hint::black_box(keys.open(&tenant, &stored).expect("opened"));
    }
    let open = began.elapsed() / times;
    let (before, after) = (body.json().len(), sealed.len());
    println!("a body of {before} bytes: sealed in {seal:?} to {after}, opened in {open:?}");
}

struct Side {
    store: Arc<ContentStore>,
    single: Arc<SingleStore>,
    _folder: tempfile::TempDir,
    rates: Vec<f64>,
}

fn side(keys: ContentKeys) -> Side {
    let folder = tempfile::tempdir().expect("a folder");
    let config = SingleConfig { root: folder.path().to_owned(), ..SingleConfig::default() };
    let keys = Arc::new(keys);
    let fanout = Opening::new(Arc::new(Nobody), Arc::clone(&keys), &NoopRecorder);
    let single = SingleStore::open(&config, fanout, &NoopRecorder).expect("a store");
    let storage: Arc<dyn Storage> = Arc::clone(&single) as Arc<dyn Storage>;
    let store = ContentStore::new(storage, keys, &NoopRecorder);
    Side { store, single, _folder: folder, rates: vec![] }
}

async fn round(side: &mut Side) {
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(&side.store);
            tokio::spawn(async move {
                let user = UserId::new(format!("user{caller}")).expect("a valid id");
                for _ in 0..SENDS / CALLERS {
                    let item = Outgoing {
                        tenant: TenantId::default(),
                        sender: SenderKey::Admin,
                        audience: Audience::users(vec![user.clone()]),
                        body: body(400),
                        scheduled_at: None,
                    };
                    store.append(vec![item].into()).await.expect("stored");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = SENDS as f64 / began.elapsed().as_secs_f64();
    side.rates.push(rate);
    while side.single.lag_records() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[tokio::main]
async fn main() {
    for bytes in [100, 400, 4_000] {
        one(bytes);
    }
    let (mut plain, mut sealed) =
        (side(ContentKeys::default()), side(ContentKeys::parse(KEY).expect("a key")));
    for _ in 0..ROUNDS {
        round(&mut plain).await;
        round(&mut sealed).await;
    }
    let (without, with) = (median(&mut plain.rates), median(&mut sealed.rates));
    println!(
        "{CALLERS} callers, bodies of 400 bytes: {without:.0} sends/s without, {with:.0} with: {:.2}",
        with / without
    );
    for side in [plain, sealed] {
        side.store.close().await;
    }
}
