//! What groups cost, without HTTP and sockets: a channel of 100,000 members of whom 5,000 are
//! watched, what names are, tokens, loads.
//!
//! `cargo bench -p delivery --bench groups`; `BENCH_DIR` says on which disk.

#![expect(clippy::print_stdout, reason = "a report")]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, Store,
    store::{
        Audience, Channel, Directory, Group, Outgoing, SenderKey, Stored, TokenFacts, WatchGuard,
        single::{SingleConfig, SingleStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, ChannelId, RoleId, TenantId, Time, UserId};

const MEMBERS: usize = 100_000;
const WATCHED: usize = 5_000;

#[derive(Default)]
struct Count(AtomicU64);

impl Fanout for Count {
    fn publish(&self, changes: &[Stored]) {
        self.0.fetch_add(changes.len() as u64, Ordering::Relaxed);
    }
}

fn body(number: u64) -> Arc<Body> {
    Arc::new(Body::new(&support::message(
        format!("msg-{number}").parse().expect("a valid id"),
        "新消息",
        "消息内容 ".repeat(20),
    )))
}

fn to(audience: Audience, number: u64) -> Outgoing {
    Outgoing {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience,
        body: body(number),
        scheduled_at: None,
    }
}

fn channel(id: &ChannelId) -> Channel {
    Channel {
        id: id.clone(),
        name: "bench".into(),
        description: String::new(),
        open: true,
        history: false,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by: "bench".into(),
        created_at: Time::default(),
        updated_at: Time::default(),
        version: 0,
    }
}

fn user(name: &str, number: usize) -> UserId {
    format!("{name}{number:06}").parse().expect("a valid id")
}

fn key(user: &UserId) -> InboxKey {
    InboxKey::new(TenantId::default(), user.clone())
}

fn report(what: &str, started: Instant, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let seconds = started.elapsed().as_secs_f64();
    let count = latencies.len();
    let at = |percent: usize| latencies.get(count * percent / 100).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = count as f64 / seconds;
    println!("{what}: {count}, {rate:.0}/s; p50 {:?} p99 {:?}", at(50), at(99));
}

/// Resident memory, in KiB.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn watch(store: &Arc<SingleStore>, users: &[UserId], what: &str) -> Vec<Box<dyn WatchGuard>> {
    let started = Instant::now();
    let (mut guards, mut latencies) = (Vec::new(), Vec::new());
    for chunk in users.chunks(64) {
        let watches = chunk.iter().map(|user| {
            let (store, key) = (store.clone(), key(user));
            tokio::spawn(async move {
                let began = Instant::now();
                (store.watch(&key).await.expect("watched").guard, began.elapsed())
            })
        });
        for watch in watches.collect::<Vec<_>>() {
            let (guard, latency) = watch.await.expect("no panic");
            guards.push(guard);
            latencies.push(latency);
        }
    }
    report(what, started, &mut latencies);
    guards
}

async fn kinds(store: &SingleStore, names: &[UserId], rounds: usize, what: &str) {
    let started = Instant::now();
    let mut latencies = Vec::new();
    for round in 0..rounds {
        let names = if names.len() > 1_000 { names } else { &names[round % names.len()..][..1] };
        let began = Instant::now();
        store.kinds(&TenantId::default(), names).await.expect("kinds");
        latencies.push(began.elapsed());
    }
    report(what, started, &mut latencies);
}

async fn send(store: &Arc<SingleStore>, fanout: &Count, group: &Group) {
    for callers in [1_u64, 16] {
        let per_caller = 200 / callers;
        let before = fanout.0.load(Ordering::Relaxed);
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let (store, group) = (store.clone(), group.clone());
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    for n in 0..per_caller {
                        let began = Instant::now();
                        let item = to(
                            Audience::group(group.clone()),
                            (callers << 32) | (caller << 16) | n,
                        );
                        store.append(vec![item].into()).await.expect("stored");
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
        report(&format!("send to the channel, {callers} callers"), started, &mut latencies);
        let wanted = before + callers * per_caller * WATCHED as u64;
        while fanout.0.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = (wanted - before) as f64 / started.elapsed().as_secs_f64();
        println!("  ... all published: {:?}, {rate:.0} deliveries/s", started.elapsed());
    }
    // One alone: from the call to the last of 5,000.
    let (mut accepted, mut published) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for n in 0..100 {
        let before = fanout.0.load(Ordering::Relaxed);
        let began = Instant::now();
        let item = to(Audience::group(group.clone()), (1 << 40) | n);
        store.append(vec![item].into()).await.expect("stored");
        accepted.push(began.elapsed());
        while fanout.0.load(Ordering::Relaxed) < before + WATCHED as u64 {
            std::hint::spin_loop();
        }
        published.push(began.elapsed());
    }
    report("one send, accepted", started, &mut accepted);
    report("one send, published to the last of 5,000", started, &mut published);
}

async fn tokens(store: &Arc<SingleStore>) {
    let facts = |issued_at, roles: &[&str]| TokenFacts {
        issued_at: Time::from_millis(issued_at),
        username: "name".into(),
        email: "name@example.com".into(),
        roles: roles.iter().map(|role| role.parse::<RoleId>().expect("a valid id")).collect(),
        department: Some("研发".into()),
    };
    for (what, issued_at, roles) in [
        ("tokens of new users", 1, &["employee"][..]),
        ("tokens that were noted", 1, &["employee"]),
        ("newer tokens that say the same", 2, &["employee"]),
        ("tokens with another role", 3, &["employee", "admin"]),
    ] {
        let started = Instant::now();
        let mut latencies = Vec::new();
        for chunk in (0..8_000).collect::<Vec<_>>().chunks(256) {
            let notes = chunk.iter().map(|n| {
                let (store, facts) = (store.clone(), facts(issued_at, roles));
                let key = key(&user("carrier", *n));
                tokio::spawn(async move {
                    let began = Instant::now();
                    store.note_token(&key, facts).await.expect("noted");
                    began.elapsed()
                })
            });
            for note in notes.collect::<Vec<_>>() {
                latencies.push(note.await.expect("no panic"));
            }
        }
        report(what, started, &mut latencies);
    }
}

#[tokio::main]
async fn main() {
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let fanout = Arc::new(Count::default());
    let config = SingleConfig { root: folder.path().join("data"), ..SingleConfig::default() };
    let open = || SingleStore::open(&config, fanout.clone(), &NoopRecorder).expect("a store");
    let mut store = open();
    let tenant = TenantId::default();
    let all: ChannelId = "all".parse().expect("a valid id");
    store.save_channel(&tenant, channel(&all), Some(0)).await.expect("made");
    let members: Vec<UserId> = (0..MEMBERS).map(|n| user("member", n)).collect();
    let started = Instant::now();
    let mut latencies = Vec::new();
    for part in members.chunks(10_000) {
        let began = Instant::now();
        store.change_members(&tenant, &all, part.to_vec(), vec![]).await.expect("joined");
        latencies.push(began.elapsed());
    }
    report("joins of 10,000", started, &mut latencies);
    let started = Instant::now();
    store.members(&tenant, &Group::Channel(all.clone()), None, 1).await.expect("listed");
    println!("  ... and what was left of them written in {:?}", started.elapsed());

    let (plain, grouped): (Vec<UserId>, Vec<UserId>) =
        ((0..WATCHED).map(|n| user("plain", n)).collect(), members[..WATCHED].to_vec());
    let before = resident();
    let guards = watch(&store, &plain, "watch unknown users").await;
    let between = resident();
    let _watches = watch(&store, &grouped, "watch members").await;
    println!(
        "resident: {} KiB for {WATCHED} without a group, {} KiB with one",
        between - before,
        resident() - between
    );
    drop(guards);
    send(&store, &fanout, &Group::Channel(all.clone())).await;

    kinds(&store, &grouped, 20_000, "kinds of 1, watched").await;
    kinds(&store, &members[50_000..50_500], 20_000, "kinds of 1, known, not in memory").await;
    let strangers: Vec<UserId> = (0..10_000).map(|n| user("stranger", n)).collect();
    kinds(&store, &strangers[..500], 20_000, "kinds of 1, unknown").await;
    kinds(&store, &members[50_000..60_000], 50, "kinds of 10,000, known, not in memory").await;
    kinds(&store, &strangers, 50, "kinds of 10,000, unknown").await;
    let shuffled: Vec<UserId> = (0..10_000).map(|n| members[n * 7_919 % MEMBERS].clone()).collect();
    kinds(&store, &shuffled, 50, "kinds of 10,000, known, all over the table").await;

    tokens(&store).await;
    let two = Audience::Some {
        users: Arc::new([]),
        groups: Arc::new([
            Group::Channel(all.clone()),
            Group::Role("employee".parse().expect("a valid id")),
        ]),
    };
    for (what, audience, rounds) in [
        ("size of one group", Audience::group(Group::Channel(all.clone())), 10_000),
        ("size of two groups", two, 5),
    ] {
        let started = Instant::now();
        let mut latencies = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            store.audience_size(&tenant, &audience).await.expect("a size");
            latencies.push(began.elapsed());
        }
        report(what, started, &mut latencies);
    }

    // Loads: of users who are known, after a restart.
    let many = &members[20_000..25_000];
    for n in 0..20 {
        let id: ChannelId = format!("c{n}").parse().expect("a valid id");
        store.save_channel(&tenant, channel(&id), Some(0)).await.expect("made");
        store.change_members(&tenant, &id, many.to_vec(), vec![]).await.expect("joined");
    }
    store.close().await;
    drop(store);
    store = open();
    drop(watch(&store, &plain, "load and watch, no group").await);
    drop(watch(&store, &members[10_000..15_000], "load and watch, 1 group").await);
    drop(watch(&store, many, "load and watch, 21 groups").await);
    let started = Instant::now();
    store.delete_channel(&tenant, &all).await.expect("gone");
    println!("the end of the channel: {:?}", started.elapsed());
    let started = Instant::now();
    store.members(&tenant, &Group::Channel(all), None, 1).await.expect("listed");
    println!("  ... written in {:?}", started.elapsed());
    store.close().await;
}
