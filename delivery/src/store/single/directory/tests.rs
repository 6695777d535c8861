//! What only shows from inside: rewrites, which are another trait's to make, and what is in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::NoopRecorder;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use protocol::{Body, ChannelId, MessageFields, MessageId, Seq, TenantId, UserId};
use tempfile::TempDir;

use super::super::{
    SingleConfig, SingleStore,
    record::{Lsn, Record, RewriteRecord},
    segment,
};
use crate::{
    Fanout, InboxKey, Store, StoreError, clock,
    store::{
        Audience, Channel, Directory, Group, ListQuery, Outgoing, SenderKey, Sort, StatusFilter,
        Stored, UserChange, Watch,
    },
};

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// Files are written when a question needs them, or when the test says so.
fn open(folder: &TempDir) -> Arc<SingleStore> {
    let config = SingleConfig {
        root: folder.path().join("storage"),
        flush_interval: Duration::from_hours(1),
        ..SingleConfig::default()
    };
    SingleStore::open(&config, Arc::new(Nobody), &NoopRecorder).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn killed(folder: &TempDir) -> TempDir {
    let other = tempfile::tempdir().unwrap();
    copy(folder.path(), other.path());
    other
}

fn tenant() -> TenantId {
    TenantId::default()
}

fn key(user: &str) -> InboxKey {
    InboxKey::new(tenant(), user.parse().unwrap())
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn id(channel: &str) -> ChannelId {
    channel.parse().unwrap()
}

fn group(channel: &str) -> Group {
    Group::Channel(id(channel))
}

fn channel(name: &str) -> Channel {
    Channel {
        id: id(name),
        name: String::new(),
        description: String::new(),
        open: true,
        history: true,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by: String::new(),
        created_at: clock::now(),
        updated_at: clock::now(),
        version: 0,
    }
}

fn body(id: &str, title: &str) -> Arc<Body> {
    Arc::new(Body::new(&MessageFields {
        id: id.parse().unwrap(),
        channel_id: None,
        title: title.to_owned(),
        content: String::new(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: clock::now(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }))
}

async fn send(store: &SingleStore, to: Audience, id: &str) {
    let sender = SenderKey::Admin;
    let body = body(id, id);
    let item = Outgoing { tenant: tenant(), sender, audience: to, body, scheduled_at: None };
    store.append(vec![item].into()).await.unwrap();
}

/// The latest record in the journal.
fn latest(folder: &TempDir) -> Lsn {
    let hub = folder.path().join("storage/.hub");
    let mut latest = 0;
    for entry in fs::read_dir(hub).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().and_then(|name| segment::number_of(name.to_str()?)).is_some() {
            let db = rusqlite::Connection::open(path).unwrap();
            let last: Option<i64> =
                db.query_row("SELECT max(lsn) FROM journal", [], |row| row.get(0)).unwrap();
            latest = latest.max(last.unwrap_or(0).cast_unsigned());
        }
    }
    latest
}

/// An edit, or a recall, as the ledger makes it.
async fn rewrite(store: &SingleStore, target: &Sent, recall: bool) {
    let record = RewriteRecord {
        tenant: tenant(),
        id: target.id.clone(),
        target: target.lsn,
        audience: Arc::new(target.to.clone()),
        at: clock::now(),
        body: (!recall).then(|| body(target.id.as_str(), "edited")),
    };
    store.committer.submit(vec![Record::Rewrite(Arc::new(record))]).await.unwrap();
}

/// A message that was sent.
#[derive(Clone, Debug)]
struct Sent {
    id: MessageId,
    lsn: Lsn,
    to: Audience,
}

async fn sent(store: &SingleStore, folder: &TempDir, to: Audience, id: &str) -> Sent {
    send(store, to.clone(), id).await;
    Sent { id: id.parse().unwrap(), lsn: latest(folder), to }
}

async fn head(store: &SingleStore, user: &str) -> u64 {
    store.head(&key(user)).await.unwrap().seq.0
}

async fn received(store: &SingleStore, user: &str) -> Vec<String> {
    let query = ListQuery {
        status: StatusFilter::All,
        recalled: true,
        sort: Sort::Oldest,
        size: 10_000,
        ..ListQuery::default()
    };
    let page = store.list(&key(user), query).await.unwrap();
    page.messages.iter().map(|message| message.body.id().to_string()).collect()
}

/// Edits of a message to everyone once reached inboxes that began after it: a file does not say
/// since when it exists.
#[tokio::test]
async fn a_rewrite_for_everyone_reaches_no_inbox_that_began_later() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    drop(store.watch(&key("early")).await.unwrap());
    let notice = sent(&store, &folder, Audience::Everyone, "notice").await;
    // One with a file, one without, one in memory that was not known.
    send(&store, Audience::users(users(&["late"])), "direct").await;
    assert_eq!(received(&store, "late").await, ["direct"]);
    drop(store.watch(&key("seen-late")).await.unwrap());
    head(&store, "unknown").await;
    for round in 1..4 {
        rewrite(&store, &notice, false).await;
        assert_eq!(head(&store, "early").await, 1 + round);
        assert_eq!(head(&store, "late").await, 1);
        assert_eq!(head(&store, "seen-late").await, 0);
        assert_eq!(head(&store, "unknown").await, 0);
        if round == 1 {
            // The file of the late one is there, and the note that it exists is not yet.
            folder = killed(&folder);
        } else {
            store.close().await;
        }
        store = open(&folder);
    }
}

#[tokio::test]
async fn a_rewrite_reaches_whoever_received_and_has_left_since() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    let change = async |join: &[&str], leave: &[&str]| {
        store.change_members(&tenant(), &id("room"), users(join), users(leave)).await.unwrap();
    };
    let watch = store.watch(&key("left-watching")).await.unwrap();
    change(&["stays", "left", "left-watching", "back"], &[]).await;
    let to = Audience::Some {
        users: users(&["named", "stays"]).into(),
        groups: Arc::new([group("room")]),
    };
    let first = sent(&store, &folder, to, "first").await;
    change(&["later"], &["left", "left-watching", "back"]).await;
    change(&["back"], &[]).await;
    store.delete_channel(&tenant(), &id("room")).await.unwrap();
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    change(&["anew"], &[]).await;
    rewrite(&store, &first, false).await;
    for user in ["stays", "left", "left-watching", "back", "named"] {
        assert_eq!(head(&store, user).await, 2, "{user}");
    }
    for user in ["later", "anew"] {
        assert_eq!(head(&store, user).await, 0, "{user}");
    }
    drop(watch);
}

/// A load that fails leaves nothing behind, and the next one finds everything.
#[tokio::test]
async fn a_load_that_fails_is_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.change_members(&tenant(), &id("room"), users(&["ann"]), vec![]).await.unwrap();
    send(&store, Audience::group(group("room")), "1").await;
    let cursors = folder.path().join("storage/ann/.sync/devices.json");
    fs::create_dir_all(cursors.parent().unwrap()).unwrap();
    fs::write(&cursors, "nonsense").unwrap();
    assert!(store.head(&key("ann")).await.is_err());
    assert_eq!(store.inboxes.groups.len(), 0);
    store.change_members(&tenant(), &id("room"), users(&["bob"]), users(&["ann"])).await.unwrap();
    send(&store, Audience::group(group("room")), "2").await;
    fs::remove_file(&cursors).unwrap();
    assert_eq!(received(&store, "ann").await, ["1"]);
}

/// Holds the next load of an inbox when everything was read and nothing is loaded yet: its cursors
/// come out of a pipe.
struct Held(std::path::PathBuf);

impl Held {
    fn new(folder: &TempDir, user: &str) -> Self {
        let cursors = folder.path().join(format!("storage/{user}/.sync/devices.json"));
        fs::create_dir_all(cursors.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &cursors, fifo, mode, 0).unwrap();
        Self(cursors)
    }

    /// Goes on with the load after something has happened.
    async fn during(self, something: impl Future<Output = ()>) {
        let cursors = self.0.clone();
        // Opens when the other end does.
        let open = move || fs::File::options().write(true).open(cursors).unwrap();
        let mut end = tokio::task::spawn_blocking(open).await.unwrap();
        something.await;
        std::io::Write::write_all(&mut end, br#"{"devices":[]}"#).unwrap();
        fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_an_inbox_is_loaded_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let make = async || {
        store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    };
    make().await;
    let change = async |join: &[&str], leave: &[&str]| {
        store.change_members(&tenant(), &id("room"), users(join), users(leave)).await.unwrap();
    };
    let end = async || assert!(store.delete_channel(&tenant(), &id("room")).await.unwrap());
    let room = async |id: &str| send(&store, Audience::group(group("room")), id).await;
    let inside = ["leaves", "leaves-and-comes", "ends"];
    change(&inside, &[]).await;
    room("0").await;
    let users = ["joins", "comes-and-leaves", "leaves", "leaves-and-comes", "ends"];
    for flushed in [false, true] {
        for user in users {
            let prefix = if flushed { "f" } else { "w" };
            let name = |what: &str| format!("{prefix}-{user}-{what}");
            let was_in = store.is_member(&key(user), &group("room")).await.unwrap();
            assert_eq!(was_in, inside.contains(&user), "{user}");
            let before = received(&store, user).await;
            store.inboxes.sweep(Duration::ZERO);
            let held = Held::new(&folder, user);
            let loading = {
                let (store, user) = (store.clone(), user.to_owned());
                tokio::spawn(async move { head(&store, &user).await })
            };
            held.during(async {
                room(&name("1")).await;
                match user {
                    "joins" => change(&[user], &[]).await,
                    "comes-and-leaves" => {
                        change(&[user], &[]).await;
                        room(&name("2")).await;
                        change(&[], &[user]).await;
                    }
                    "leaves" => change(&[], &[user]).await,
                    "leaves-and-comes" => {
                        change(&[], &[user]).await;
                        room(&name("2")).await;
                        change(&[user], &[]).await;
                    }
                    _ => {
                        end().await;
                        make().await;
                    }
                }
                if flushed {
                    store.shared.flush().unwrap();
                }
                room(&name("3")).await;
            })
            .await;
            let loaded = loading.await.unwrap();
            room(&name("4")).await;
            let expected: &[&str] = match user {
                "joins" => &["3", "4"],
                "comes-and-leaves" => &["2"],
                "leaves" | "ends" => &["1"],
                _ => &["1", "3", "4"],
            };
            let mut all = before.clone();
            all.extend(expected.iter().map(|what| name(what)));
            let later = u64::from(expected.contains(&"4"));
            assert_eq!(loaded, all.len() as u64 - later, "{user}, flushed: {flushed}");
            for _ in 0..2 {
                assert_eq!(received(&store, user).await, all, "{user}, flushed: {flushed}");
                store.inboxes.sweep(Duration::ZERO);
            }
            // As it was before.
            let is_in = store.is_member(&key(user), &group("room")).await.unwrap();
            match (was_in, is_in) {
                (true, false) => change(&[user], &[]).await,
                (false, true) => change(&[], &[user]).await,
                _ => {}
            }
            if user == "ends" {
                change(&inside, &[]).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_forgotten_leaves_no_trace_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.change_members(&tenant(), &id("room"), users(&["ann", "bob"]), vec![]).await.unwrap();
    let watch = store.watch(&key("ann")).await.unwrap();
    head(&store, "bob").await;
    send(&store, Audience::group(group("room")), "1").await;
    let ann = store.inboxes.find(&key("ann")).unwrap();
    let bob = Arc::downgrade(&store.inboxes.find(&key("bob")).unwrap());
    assert_eq!((Arc::weak_count(&ann), ann.state.lock().tail.len()), (1, 1));
    drop(ann);
    store.inboxes.sweep(Duration::ZERO);
    assert!(bob.upgrade().is_none());
    assert_eq!((store.inboxes.len(), store.inboxes.groups.len()), (1, 1), "ann is watched");
    send(&store, Audience::group(group("room")), "2").await;
    assert_eq!(received(&store, "bob").await, ["1", "2"]);
    assert_eq!(head(&store, "ann").await, 2);
    drop(watch);
    store.inboxes.sweep(Duration::ZERO);
    assert_eq!((store.inboxes.len(), store.inboxes.groups.len()), (0, 0));
}

/// Whoever stays connected and comes and goes does not grow.
#[tokio::test]
async fn stays_in_which_nothing_was_sent_are_forgotten_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    let watch = store.watch(&key("ann")).await.unwrap();
    let ann = store.inboxes.find(&key("ann")).unwrap();
    for n in 0..50 {
        store.change_members(&tenant(), &id("room"), users(&["ann"]), vec![]).await.unwrap();
        if n == 20 {
            send(&store, Audience::group(group("room")), "1").await;
        }
        store.change_members(&tenant(), &id("room"), vec![], users(&["ann"])).await.unwrap();
        let stays = ann.state.lock().memberships.iter().count();
        assert_eq!(stays, usize::from(n >= 20), "{n}");
        assert_eq!(store.inboxes.groups.len(), stays);
    }
    drop(watch);
}

#[tokio::test]
async fn the_largest_numbers_are_limits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.change_members(&tenant(), &id("room"), users(&["ann"]), vec![]).await.unwrap();
    let set = |what: &str, n: u64| {
        store.shared.flush().unwrap();
        let db = rusqlite::Connection::open(folder.path().join("storage/.hub/shared.db")).unwrap();
        let changed =
            db.execute("UPDATE counts SET n = ?1 WHERE what = ?2", (n.cast_signed(), what));
        assert_eq!(changed.unwrap(), 1);
    };
    set("c:room", crate::store::limits::CHANNEL_MEMBERS_MAX - 1);
    let join = async |names: &[&str]| {
        store.change_members(&tenant(), &id("room"), users(names), vec![]).await
    };
    let over = join(&["bob", "eve"]).await;
    assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
    join(&["bob"]).await.unwrap();
    assert!(matches!(join(&["eve"]).await, Err(StoreError::Limit(_))));
    let swap = store.change_members(&tenant(), &id("room"), users(&["eve"]), users(&["bob"])).await;
    assert_eq!(swap.unwrap().members, crate::store::limits::CHANNEL_MEMBERS_MAX);
    set("channels", crate::store::limits::CHANNELS_MAX - 1);
    store.save_channel(&tenant(), channel("last"), None).await.unwrap();
    let over = store.save_channel(&tenant(), channel("over"), None).await;
    assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
    store.save_channel(&tenant(), channel("last"), None).await.unwrap();
    store.delete_channel(&tenant(), &id("room")).await.unwrap();
    store.save_channel(&tenant(), channel("over"), None).await.unwrap();
}

/// While `shared.db` cannot be written, memory has a limit and reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_too_long_is_refused_until_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.shared.set_writable(false);
    let mut refused = None;
    for part in 0..40 {
        let join = (0..10_000).map(|n| format!("u{part}-{n}").parse().unwrap()).collect();
        let changed = store.change_members(&tenant(), &id("room"), join, vec![]).await;
        if let Err(error) = changed {
            refused = Some((part, error));
            break;
        }
    }
    let (parts, error) = refused.expect("a limit");
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    assert!((10..20).contains(&parts), "after {parts} parts");
    let to = Audience::group(group("room"));
    let size = store.audience_size(&tenant(), &to).await.unwrap();
    assert_eq!(size, Some(parts * 10_000));
    let item = Outgoing {
        tenant: tenant(),
        sender: SenderKey::Admin,
        audience: to.clone(),
        body: body("refused", ""),
        scheduled_at: None,
    };
    assert!(matches!(store.append(vec![item].into()).await, Err(StoreError::Busy(_))));
    send(&store, Audience::users(users(&["ann"])), "direct").await;
    let listed = store.members(&tenant(), &group("room"), None, 7).await.unwrap();
    assert_eq!(listed.len(), 7);
    store.shared.set_writable(true);
    store.shared.flush().unwrap();
    send(&store, to, "1").await;
    assert_eq!(received(&store, "u3-77").await, ["1"]);
}

/// Everything at once, and then the rows of the journal's order are asked who should have received
/// what.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_at_a_time_the_order_of_records_decides() {
    const USERS: usize = 12;
    const CHANNELS: usize = 3;
    let mut folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    for n in 0..CHANNELS {
        store.save_channel(&tenant(), channel(&format!("c{n}")), Some(0)).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let chaos = {
        let (store, done) = (store.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                store.inboxes.sweep(Duration::ZERO);
                store.shared.flush().unwrap();
            }
        })
    };
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..USERS * 2 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("u{}", n % USERS);
            for round in 0..40_usize {
                let room = id(&format!("c{}", (n + round) % CHANNELS));
                let user = users(&[&name]);
                let (join, leave) =
                    if (n / USERS + round) % 2 == 0 { (user, vec![]) } else { (vec![], user) };
                match store.change_members(&tenant(), &room, join, leave).await {
                    // It is being made again.
                    Ok(_) | Err(StoreError::NotFound) => {}
                    Err(error) => panic!("{error}"),
                }
                if round == 25 && n % USERS == 3 {
                    store.delete_channel(&tenant(), &room).await.unwrap();
                    store.save_channel(&tenant(), channel(room.as_str()), None).await.unwrap();
                }
            }
        });
    }
    for n in 0..4_usize {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..100_usize {
                let groups = match round % 5 {
                    0 => (0..CHANNELS).map(|n| group(&format!("c{n}"))).collect(),
                    _ => Arc::new([group(&format!("c{}", (n + round) % CHANNELS))]) as Arc<[_]>,
                };
                let to = Audience::Some { users: Arc::new([]), groups };
                send(&store, to, &format!("m{n}-{round}")).await;
            }
        });
    }
    for n in 0..USERS {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("u{n}");
            for round in 0..60 {
                if round % 3 == 0 {
                    let watch = store.watch(&key(&name)).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(watch);
                } else if round % 3 == 1 {
                    head(&store, &name).await;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
    }
    tasks.join_all().await;
    done.store(true, Ordering::SeqCst);
    chaos.join().unwrap();
    for round in 0..3 {
        for n in 0..USERS {
            let name = format!("u{n}");
            let expected: Vec<String> = store
                .shared
                .ask_settled(|db| {
                    let mut select = db.prepare(
                        "SELECT DISTINCT b.lsn, b.id FROM members AS m
                         JOIN broadcast_groups AS g ON g.tenant = m.tenant AND g.grp = m.grp
                         JOIN broadcasts AS b ON b.lsn = g.lsn
                         WHERE m.user = ?1 AND g.lsn > m.since_lsn
                         AND g.lsn < ifnull(m.until_lsn, 1 << 60) ORDER BY b.lsn",
                    )?;
                    let rows = select.query_map([&name], |row| row.get(1))?;
                    rows.collect()
                })
                .unwrap();
            assert_eq!(received(&store, &name).await, expected, "{name} in round {round}");
            assert_eq!(head(&store, &name).await, expected.len() as u64);
        }
        if round == 0 {
            folder = killed(&folder);
        } else {
            store.close().await;
        }
        store = open(&folder);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Members { channel: usize, join: Vec<usize>, leave: Vec<usize> },
    Remake { channel: usize },
    Role { user: usize, carries: bool },
    Send { users: Vec<usize>, groups: BTreeSet<usize> },
    Everyone,
    Rewrite { which: prop::sample::Index, recall: bool },
    Look { user: usize },
    List { user: usize },
    Watch { user: usize },
    Unwatch { user: usize },
    Sweep,
    Flush,
    Reopen,
    Kill,
}

const NAMES: [&str; 4] = ["ann", "bob", "eve", "zoe"];

/// Two channels and a role.
fn groups() -> [Group; 3] {
    [group("one"), group("two"), Group::Role("dev".parse().unwrap())]
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..NAMES.len();
    let some = || vec(0..NAMES.len(), 0..3);
    prop_oneof![
        6 => (0..2_usize, some(), some())
            .prop_map(|(channel, join, leave)| Step::Members { channel, join, leave }),
        1 => (0..2_usize).prop_map(|channel| Step::Remake { channel }),
        2 => (user(), any::<bool>()).prop_map(|(user, carries)| Step::Role { user, carries }),
        6 => (some(), prop::collection::btree_set(0..3_usize, 0..3))
            .prop_map(|(users, groups)| Step::Send { users, groups }),
        2 => Just(Step::Everyone),
        6 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, recall)| Step::Rewrite { which, recall }),
        2 => user().prop_map(|user| Step::Look { user }),
        2 => user().prop_map(|user| Step::List { user }),
        2 => user().prop_map(|user| Step::Watch { user }),
        2 => user().prop_map(|user| Step::Unwatch { user }),
        2 => Just(Step::Sweep),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What a user should have: the messages they received, and a change for each rewrite of those.
#[derive(Default)]
struct Model {
    known: bool,
    messages: Vec<MessageId>,
    head: u64,
    groups: BTreeSet<usize>,
}

struct Life {
    folder: TempDir,
    store: Arc<SingleStore>,
    models: Vec<Model>,
    watches: BTreeMap<usize, Watch>,
    sent: Vec<Sent>,
    recalled: BTreeSet<MessageId>,
}

impl Life {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for name in ["one", "two"] {
            store.save_channel(&tenant(), channel(name), Some(0)).await.unwrap();
        }
        Self {
            folder,
            store,
            models: NAMES.iter().map(|_| Model::default()).collect(),
            watches: BTreeMap::new(),
            sent: vec![],
            recalled: BTreeSet::new(),
        }
    }

    async fn deliver(&mut self, to: Audience, receivers: impl Fn(usize, &Model) -> bool) {
        let name = format!("m{}", self.sent.len());
        let sent = sent(&self.store, &self.folder, to, &name).await;
        for (at, model) in self.models.iter_mut().enumerate() {
            if receivers(at, model) {
                model.known = true;
                model.messages.push(sent.id.clone());
                model.head += 1;
            }
        }
        self.sent.push(sent);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Members { channel, join, leave } => {
                let name = |at: &usize| NAMES[*at].parse().unwrap();
                let (joining, leaving) =
                    (join.iter().map(name).collect(), leave.iter().map(name).collect());
                let room = id(["one", "two"][channel]);
                self.store.change_members(&tenant(), &room, joining, leaving).await.unwrap();
                for at in join {
                    if !leave.contains(&at) {
                        self.models[at].known = true;
                        self.models[at].groups.insert(channel);
                    }
                }
                for at in leave {
                    self.models[at].groups.remove(&channel);
                }
            }
            Step::Remake { channel: at } => {
                let name = ["one", "two"][at];
                self.store.delete_channel(&tenant(), &id(name)).await.unwrap();
                self.store.save_channel(&tenant(), channel(name), Some(0)).await.unwrap();
                for model in &mut self.models {
                    model.groups.remove(&at);
                }
            }
            Step::Role { user, carries } => {
                let roles = if carries { vec!["dev".parse().unwrap()] } else { vec![] };
                let change = UserChange { added_roles: Some(roles), department: None };
                self.store.change_user(&key(NAMES[user]), change).await.unwrap();
                self.models[user].known = true;
                if carries {
                    self.models[user].groups.insert(2);
                } else {
                    self.models[user].groups.remove(&2);
                }
            }
            Step::Send { users, groups: to } if !users.is_empty() || !to.is_empty() => {
                let all = groups();
                let audience = Audience::Some {
                    users: users.iter().map(|at| NAMES[*at].parse().unwrap()).collect(),
                    groups: to.iter().map(|at| all[*at].clone()).collect(),
                };
                self.deliver(audience, |at, model| {
                    users.contains(&at) || !model.groups.is_disjoint(&to)
                })
                .await;
            }
            Step::Send { .. } => {}
            Step::Everyone => self.deliver(Audience::Everyone, |_, model| model.known).await,
            Step::Rewrite { which, recall } if !self.sent.is_empty() => {
                let target = which.get(&self.sent).clone();
                if self.recalled.contains(&target.id) {
                    return;
                }
                rewrite(&self.store, &target, recall).await;
                if recall {
                    self.recalled.insert(target.id.clone());
                }
                for model in &mut self.models {
                    model.head += u64::from(model.messages.contains(&target.id));
                }
            }
            Step::Rewrite { .. } => {}
            Step::Look { user } => {
                assert_eq!(head(&self.store, NAMES[user]).await, self.models[user].head);
            }
            Step::List { user } => self.compare(user).await,
            Step::Watch { user } => {
                let watch = self.store.watch(&key(NAMES[user])).await.unwrap();
                assert_eq!(watch.head.seq, Seq(self.models[user].head));
                self.models[user].known = true;
                self.watches.insert(user, watch);
            }
            Step::Unwatch { user } => {
                self.watches.remove(&user);
            }
            Step::Sweep => self.store.inboxes.sweep(Duration::ZERO),
            Step::Flush => self.store.shared.flush().unwrap(),
            Step::Reopen => {
                self.watches.clear();
                self.store.close().await;
                self.store = open(&self.folder);
            }
            Step::Kill => {
                self.watches.clear();
                self.folder = killed(&self.folder);
                self.store = open(&self.folder);
            }
        }
    }

    async fn compare(&self, at: usize) {
        let (name, model) = (NAMES[at], &self.models[at]);
        assert_eq!(head(&self.store, name).await, model.head, "{name}");
        let expected: Vec<String> = model.messages.iter().map(ToString::to_string).collect();
        assert_eq!(received(&self.store, name).await, expected, "{name}");
    }
}

#[test]
fn a_random_life_with_rewrites_is_like_the_model() {
    let cases = std::env::var("MODEL_CASES").map_or(60, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&vec(step(), 1..80), |steps| {
        runtime.block_on(async {
            let mut life = Life::new().await;
            for step in steps {
                life.step(step).await;
            }
            for at in 0..NAMES.len() {
                life.compare(at).await;
            }
        });
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
