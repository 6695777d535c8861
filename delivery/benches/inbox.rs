//! Reads of an inbox of 100,000 messages, without HTTP: lists, changes, unread counts; and searches:
//! the first one, which makes the index, one behind a new message, and warm ones.
//!
//! `cargo bench -p delivery --bench inbox`; `BENCH_DIR` says on which disk.

#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

mod support;

use std::{
    fs,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};
use delivery::{
    Fanout, InboxKey, Store, StoreError,
    search::Terms,
    store::{
        Audience, ListPage, ListPosition, ListQuery, Mark, MarkTarget, MetadataIs, Outgoing,
        SenderKey, Sort, StatusFilter, Stored,
        single::{SingleConfig, SingleStore, inbox_dir},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, MessageFields, MessageId, Seq, TenantId, UserId};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::runtime::Runtime;

const MESSAGES: u64 = 100_000;

/// Times each search is measured for its percentiles.
const ROUNDS: usize = 300;

/// Times each other read is, and how long at most.
const READ_ROUNDS: usize = 2_000;
const READ_TIME: Duration = Duration::from_secs(10);

/// What a connection reads of its backlog at a time.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 64 << 10;

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// Text like that of a company's notifications: three in ten share a file, two alert, the rest is
/// written by people, in words of which few are frequent.
struct Writer(SmallRng);

const LATIN: [&str; 16] = [
    "API", "v2", "server", "deploy", "release", "PDF", "cpu", "disk", "timeout", "login",
    "invoice", "order", "kafka", "meeting", "review", "prod",
];

impl Writer {
    /// Small numbers often, large ones seldom.
    fn rank(&mut self, below: u32) -> u32 {
        let exponent: f64 = self.0.random();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
        let rank = f64::from(below).powf(exponent) as u32;
        rank - 1
    }

    fn word(&mut self, of: u32) -> String {
        let mut seed = SmallRng::seed_from_u64(u64::from(self.rank(of)));
        let length = if seed.random_ratio(1, 7) { 3 } else { 2 };
        (0..length)
            .filter_map(|_| char::from_u32(0x4e00 + seed.random_range(0..2_500) * 7))
            .collect()
    }

    fn pick(&mut self) -> &'static str {
        LATIN[self.0.random_range(0..LATIN.len())]
    }

    fn message(&mut self, number: u64) -> (String, String) {
        match self.0.random_range(0..10) {
            0..3 => {
                let (name, file) = (self.word(3_000), self.word(8_000));
                let (size, day) = (self.0.random_range(1..90), self.0.random_range(1..29));
                let content = format!(
                    "{name} 分享了文件 \"{file}{number}.pdf\" 给你\n\n文件大小：{size}MB\n分享时间：2025-01-{day:02}"
                );
                (format!("{name} 分享了文件"), content)
            }
            3..5 => {
                let (what, where_) = (self.pick(), self.word(5_000));
                let node = self.0.random_range(0..200);
                let content = format!("告警详情：{what} {where_} 在节点 node-{node} 上异常");
                (format!("系统告警：{what}"), content)
            }
            _ => {
                let mut content = String::new();
                for part in 0..self.0.random_range(8..48) {
                    if self.0.random_ratio(1, 12) {
                        content += &format!(" {} ", self.pick());
                    } else {
                        content += &self.word(20_000);
                    }
                    if part % 9 == 8 {
                        content.push('，');
                    }
                }
                if number.is_multiple_of(97) {
                    content += "企微通知";
                }
                (self.word(20_000) + &self.word(20_000), content + "。")
            }
        }
    }

    fn outgoing(&mut self, key: &InboxKey, number: u64) -> Outgoing {
        let (title, content) = self.message(number);
        let body = Body::new(&MessageFields {
            priority: u8::try_from(number % 10 + 1).expect("small"),
            sender: if number.is_multiple_of(3) { "crm" } else { "erp" }.to_owned(),
            metadata: serde_json::Map::from_iter([
                ("order".to_owned(), number.into()),
                (
                    "kind".to_owned(),
                    if number.is_multiple_of(5) { "invoice" } else { "note" }.into(),
                ),
            ]),
            ..support::message(
                MessageId::new(format!("msg-{number:032x}")).expect("a valid id"),
                &title,
                content + " 企业通知",
            )
        });
        Outgoing {
            tenant: key.tenant.clone(),
            sender: SenderKey::Admin,
            audience: Audience::users(vec![key.user.clone()]),
            body: Arc::new(body),
            scheduled_at: None,
        }
    }
}

fn asked(text: &str) -> Vec<MetadataIs> {
    vec![MetadataIs::parse(text).expect("key:value")]
}

fn query(words: &str) -> ListQuery {
    ListQuery { text: Some(Terms::parse(words).expect("words")), size: 20, ..ListQuery::default() }
}

/// What is asked, from what nothing has to what everything has.
fn searches() -> Vec<(&'static str, ListQuery)> {
    vec![
        ("nothing", query("查无此词")),
        ("two characters, 0.6 %", query("企微")),
        ("four characters, 0.6 %", query("企微通知")),
        ("two characters, 30 %", query("文件")),
        ("mixed, 30 %", query("2025 文件 pdf")),
        ("one character, 36 %", query("享")),
        ("begins with, 12 %", query("deploy")),
        ("two characters, all", query("通知")),
        ("four characters, all", query("企业通知")),
        ("all, unread", ListQuery { status: StatusFilter::Unread, ..query("通知") }),
        ("all, archived", ListQuery { status: StatusFilter::Archived, ..query("通知") }),
        ("30 %, sender", ListQuery { sender: Some("crm".to_owned()), ..query("文件") }),
        ("30 %, by priority", ListQuery { sort: Sort::Priority, ..query("文件") }),
        ("0.6 %, metadata", ListQuery { metadata: asked("kind:invoice"), ..query("企微") }),
        ("all, sender", ListQuery { sender: Some("crm".to_owned()), ..query("通知") }),
    ]
}

async fn fill(store: &SingleStore, key: &InboxKey) {
    let mut writer = Writer(SmallRng::seed_from_u64(1));
    for first in (0..MESSAGES).step_by(1_000) {
        let items: Vec<_> =
            (first..first + 1_000).map(|number| writer.outgoing(key, number)).collect();
        store.append(items.into()).await.expect("stored");
    }
    while store.lag_records() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (mark, every) in [(Mark::Read, 2), (Mark::Archive, 20)] {
        let ids = (0..MESSAGES).step_by(every);
        let ids = ids.map(|n| MessageId::new(format!("msg-{n:032x}")).expect("a valid id"));
        store.mark(key, None, mark, MarkTarget::Many(ids.collect())).await.expect("marked");
    }
}

/// What is listed, from what all clients ask to what few do.
fn lists() -> Vec<(&'static str, ListQuery)> {
    let page =
        |skip| ListQuery { at: ListPosition::Offset(skip), size: 20, ..ListQuery::default() };
    vec![
        ("list, newest 20", page(0)),
        ("list, page 100", page(1_980)),
        ("list, unread", ListQuery { status: StatusFilter::Unread, ..page(0) }),
        ("list, archived", ListQuery { status: StatusFilter::Archived, ..page(0) }),
        ("list, oldest", ListQuery { sort: Sort::Oldest, ..page(0) }),
        ("list, by priority", ListQuery { sort: Sort::Priority, ..page(0) }),
        ("list, sender", ListQuery { sender: Some("crm".to_owned()), ..page(0) }),
        ("list, metadata, one", ListQuery { metadata: asked("order:77777"), ..page(0) }),
        ("list, metadata, 20 %", ListQuery { metadata: asked("kind:invoice"), ..page(0) }),
    ]
}

async fn reads(store: &SingleStore, key: &InboxKey) {
    for (what, query) in lists() {
        let (mut times, mut total, began) = (Vec::new(), 0, Instant::now());
        while times.len() < READ_ROUNDS && began.elapsed() < READ_TIME {
            let (page, time) = timed(store, key, query.clone()).await;
            total = page.total;
            times.push(time);
        }
        report(what, total, &mut times);
    }
    let mut places = SmallRng::seed_from_u64(3);
    let (mut times, mut found) = (Vec::new(), 0);
    for _ in 0..READ_ROUNDS {
        let since = Seq(places.random_range(0..MESSAGES));
        let began = Instant::now();
        let page = store.changes(key, since, PAGE, PAGE_BYTES).await.expect("read");
        times.push(began.elapsed());
        found = page.changes.len() as u64;
    }
    report("changes, a page", found, &mut times);
    let (mut times, mut unread) = (Vec::new(), 0);
    for _ in 0..READ_ROUNDS {
        let began = Instant::now();
        unread = store.unread(key).await.expect("counted").total;
        times.push(began.elapsed());
    }
    report("unread", unread, &mut times);
}

async fn timed(store: &SingleStore, key: &InboxKey, query: ListQuery) -> (ListPage, Duration) {
    let began = Instant::now();
    loop {
        match store.list(key, query.clone()).await {
            Ok(page) => return (page, began.elapsed()),
            // On a machine that is busy with others the index is not made in time.
            Err(StoreError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn report(what: &str, total: u64, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{what:24} {total:6} found; p50 {:.2?} p99 {:.2?} max {:.2?}",
        at(50),
        at(99),
        at(100)
    );
}

fn megabytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len() >> 20)
}

fn main() {
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let config = SingleConfig { root: folder.path().join("data"), ..SingleConfig::default() };
    let store = SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).expect("a fresh store");
    let key = InboxKey::new(TenantId::default(), UserId::new("ann").expect("a valid id"));
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        fill(&store, &key).await;
        reads(&store, &key).await;
        let (page, first) = timed(&store, &key, query("企微")).await;
        println!("the first search, {} found: {first:.2?}", page.total);
        let dir = inbox_dir(&config.root, &key);
        println!(
            "messages.db {} MiB, search.db {} MiB",
            megabytes(&dir.join("messages.db")),
            megabytes(&dir.join(".sync/search.db"))
        );
        for (what, query) in searches() {
            let (mut times, mut total) = (Vec::new(), 0);
            for _ in 0..ROUNDS {
                let (page, time) = timed(&store, &key, query.clone()).await;
                total = page.total;
                times.push(time);
            }
            report(what, total, &mut times);
        }
        let (mut times, mut total) = (Vec::new(), 0);
        let mut writer = Writer(SmallRng::seed_from_u64(2));
        for number in 0..ROUNDS as u64 {
            let item = writer.outgoing(&key, MESSAGES + number);
            store.append(vec![item].into()).await.expect("stored");
            let (page, time) = timed(&store, &key, query("企微")).await;
            total = page.total;
            times.push(time);
        }
        report("behind a new message", total, &mut times);
    });

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("search 100,000");
    group.sampling_mode(SamplingMode::Flat).sample_size(50);
    for (what, query) in searches() {
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                let page = runtime.block_on(store.list(&key, query.clone()));
                black_box(page.expect("searched"))
            });
        });
    }
    group.finish();
    criterion.final_summary();
    runtime.block_on(store.close());
}
