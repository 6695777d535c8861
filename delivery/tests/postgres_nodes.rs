//! Several nodes on one PostgreSQL: what the contract suites cannot say, for they open one store at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod postgres;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, Store, StoreError,
    store::{
        Audience, Batch, Channel, Directory as _, Group, Happening, Ledger as _, ListQuery, Mark,
        MarkTarget, Outgoing, Retention, SenderKey, SentState, StatsBy, StatsQuery, Stored,
        StoredAnswer, Witness,
        postgres::{MigrateError, OpenError, PostgresConfig, PostgresStore},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, MessageFields, MessageId, Seq, TenantId, Time, UserId};
use tokio_postgres::NoTls;

/// Keeps what a node publishes; a bus would hand it on.
#[derive(Default)]
struct Bus {
    told: Mutex<HashMap<InboxKey, Vec<u64>>>,
    advanced: Mutex<Vec<(TenantId, u64)>>,
}

impl Fanout for Bus {
    fn publish(&self, changes: &[Stored]) {
        let mut told = self.told.lock().unwrap();
        let of = told.entry(changes[0].inbox.clone()).or_default();
        of.extend(changes.iter().map(|change| change.seq.0));
    }

    fn wants_unwatched(&self) -> bool {
        true
    }

    fn advanced(&self, tenant: &TenantId, pos: u64) {
        self.advanced.lock().unwrap().push((tenant.clone(), pos));
    }
}

impl Bus {
    fn told(&self, key: &InboxKey) -> Vec<u64> {
        self.told.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

struct Node {
    store: Arc<PostgresStore>,
    bus: Arc<Bus>,
}

async fn nodes<const N: usize>() -> [Node; N] {
    let url = postgres::database();
    let mut nodes = Vec::new();
    for _ in 0..N {
        let bus = Arc::new(Bus::default());
        let config = PostgresConfig::new(url.clone());
        let store = PostgresStore::open(config, bus.clone(), &NoopRecorder).await.unwrap();
        nodes.push(Node { store, bus });
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
}

fn inbox(user: &str) -> InboxKey {
    InboxKey::new(TenantId::default(), user.parse().unwrap())
}

fn message(title: &str, audience: Audience) -> Outgoing {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let body = Body::new(&MessageFields {
        id: MessageId::new(format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap(),
        channel_id: None,
        title: title.to_owned(),
        content: String::new(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: delivery::clock::now(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    });
    let tenant = TenantId::default();
    Outgoing {
        tenant,
        sender: SenderKey::Admin,
        audience,
        body: Arc::new(body),
        scheduled_at: None,
    }
}

fn to(users: &[&str]) -> Audience {
    Audience::users(users.iter().map(|user| user.parse::<UserId>().unwrap()).collect())
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn seqs(store: &PostgresStore, key: &InboxKey) -> Vec<u64> {
    let page = store.changes(key, Seq(0), usize::MAX, usize::MAX).await.unwrap();
    page.changes.iter().map(|change| change.seq.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_write_to_the_same_inboxes_without_a_hole() {
    let nodes = nodes::<3>().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let store = nodes[n % 3].store.clone();
        tasks.spawn(async move {
            for _ in 0..15 {
                // In another order each time: nodes must not wait for each other in a circle.
                let users = if n % 2 == 0 { ["ann", "bob", "eve"] } else { ["eve", "bob", "ann"] };
                store.append(vec![message("x", to(&users))].into()).await.unwrap();
                let target = MarkTarget::UpTo(Seq(u64::MAX));
                store.mark(&inbox(users[n % 3]), None, Mark::Read, target).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for user in ["ann", "bob", "eve"] {
        let key = inbox(user);
        let found = seqs(&nodes[0].store, &key).await;
        assert!(found.len() >= 180 && found.iter().copied().eq(1..=found.len() as u64), "{user}");
        // Each change was told by the node that made it, in order.
        for node in &nodes {
            let told = node.bus.told(&key);
            assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        }
        eventually("all is told", || {
            let told: usize = nodes.iter().map(|node| node.bus.told(&key).len()).sum();
            told == found.len()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_elsewhere_is_told_of_groups_also_if_the_bus_loses_it() {
    let [here, there] = nodes::<2>().await;
    let (tenant, ann) = (TenantId::default(), inbox("ann"));
    let channel = Channel {
        id: "room".parse().unwrap(),
        name: String::new(),
        description: String::new(),
        open: true,
        history: true,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by: String::new(),
        created_at: Time::default(),
        updated_at: Time::default(),
        version: 0,
    };
    here.store.save_channel(&tenant, channel, Some(0)).await.unwrap();
    let watch = here.store.watch(&ann).await.unwrap();
    let users = vec![ann.user.clone()];
    there.store.change_members(&tenant, &"room".parse().unwrap(), users, vec![]).await.unwrap();
    let room = || Audience::group(Group::Channel("room".parse().unwrap()));
    there.store.append(vec![message("1", room())].into()).await.unwrap();
    let (of, pos) = there.bus.advanced.lock().unwrap().last().cloned().unwrap();
    here.store.catch_up(&of, pos);
    eventually("the bus tells it", || here.bus.told(&ann) == [1]).await;
    // Now the bus says nothing: the periodic check finds it.
    there.store.append(vec![message("2", room())].into()).await.unwrap();
    assert_eq!(here.store.heads(std::slice::from_ref(&ann)).await, [Some(Seq(2))]);
    eventually("the check tells it", || here.bus.told(&ann) == [1, 2]).await;
    drop(watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_stores_once_over_all_nodes() {
    let nodes = nodes::<3>().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let store = nodes[n % 3].store.clone();
        tasks.spawn(async move {
            let answer = StoredAnswer {
                tenant: TenantId::default(),
                sender: SenderKey::Admin,
                key: "once".to_owned(),
                fingerprint: [1; 32],
                data: n.to_string(),
                at: delivery::clock::now(),
            };
            let items = vec![message(&n.to_string(), to(&["ann"]))];
            match store.append(Batch { items, answer: Some(answer) }).await {
                Ok(()) => Some(n),
                Err(StoreError::KeyTaken) => None,
                Err(error) => panic!("{error}"),
            }
        });
    }
    let stored: Vec<usize> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(stored.len(), 1);
    for node in &nodes {
        assert_eq!(seqs(&node.store, &inbox("ann")).await, [1]);
        let answer = node.store.answer(&TenantId::default(), &SenderKey::Admin, "once").await;
        assert_eq!(answer.unwrap().unwrap().data, stored[0].to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_is_sent_once_over_all_nodes() {
    let nodes = nodes::<3>().await;
    let due = Time::from_millis(delivery::clock::now().millis() + 400);
    let mut ids = Vec::new();
    for n in 0..60 {
        let item = Outgoing { scheduled_at: Some(due), ..message("later", to(&["ann", "bob"])) };
        ids.push(item.body.id().clone());
        nodes[n % 3].store.append(vec![item].into()).await.unwrap();
    }
    let began = Instant::now();
    while seqs(&nodes[0].store, &inbox("ann")).await.len() < ids.len() {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    for user in ["ann", "bob"] {
        assert!(seqs(&nodes[1].store, &inbox(user)).await.into_iter().eq(1..=60), "{user}");
    }
    for id in &ids {
        let sent = nodes[2].store.sent(&TenantId::default(), id).await.unwrap().unwrap();
        assert_eq!(sent.state, SentState::Sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_migrate_once_and_what_is_newer_is_refused() {
    let url = postgres::empty_database();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let config = PostgresConfig::new(url.clone());
        tasks.spawn(async move { PostgresStore::migrate(&config).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let migrate = || {
        let config = PostgresConfig::new(url.clone());
        async move { PostgresStore::migrate(&config).await }
    };
    // A newer build that an older one may work beside, and one that it may not.
    let sql = "INSERT INTO schema_migrations (version, name, checksum, compatible_from) VALUES (900, 'x', '', 1)";
    client.batch_execute(sql).await.unwrap();
    migrate().await.unwrap();
    client
        .batch_execute("UPDATE schema_migrations SET compatible_from = 900 WHERE version = 900")
        .await
        .unwrap();
    let refused = migrate().await;
    assert!(
        matches!(refused, Err(OpenError::Migrate(MigrateError::Newer { found: 900, .. }))),
        "{refused:?}"
    );
    client.batch_execute("DELETE FROM schema_migrations WHERE version = 900").await.unwrap();
    client.batch_execute("UPDATE schema_migrations SET checksum = 'x'").await.unwrap();
    let changed = migrate().await;
    assert!(matches!(changed, Err(OpenError::Migrate(MigrateError::Changed(1)))), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_made_again() {
    let url = postgres::database();
    let bus = Arc::new(Bus::default());
    let store =
        PostgresStore::open(PostgresConfig::new(url.clone()), bus, &NoopRecorder).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for round in 1..=5_u64 {
        store.append(vec![message("x", to(&["ann"]))].into()).await.unwrap();
        assert_eq!(store.head(&inbox("ann")).await.unwrap().seq, Seq(round));
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.batch_execute(sql).await.unwrap();
    }
    store.close().await;
    assert!(matches!(store.head(&inbox("ann")).await, Err(StoreError::Closing)));
}

/// Counts what it is told, by kind.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Witness for Heard {
    fn wants(&self) -> bool {
        true
    }

    fn happened(
        &self,
        happenings: &[Happening],
    ) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        let words = happenings.iter().map(|one| format!("{} {:?}", one.message_seq, one.what));
        self.0.lock().unwrap().extend(words);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_statistics_and_the_witness_say_what_devices_did() {
    let heard = Arc::new(Heard::default());
    let config = PostgresConfig {
        witness: Some(heard.clone()),
        ..PostgresConfig::new(postgres::database())
    };
    let bus = Arc::new(Bus::default());
    let store = PostgresStore::open(config, bus, &NoopRecorder).await.unwrap();
    let (ann, tenant) = (inbox("ann"), TenantId::default());
    let mut ids = Vec::new();
    for n in 0..4 {
        let item = message(&n.to_string(), to(&["ann"]));
        ids.push(item.body.id().clone());
        store.append(vec![item].into()).await.unwrap();
    }
    let device = |name: &str| name.parse().unwrap();
    store.delivered(&ann, &device("phone"), Seq(0), Seq(3));
    // It came when the first two were there already, and confirms what it got.
    store.delivered(&ann, &device("desktop"), Seq(2), Seq(3));
    store.ack(&ann, &device("desktop"), Seq(3));
    store.ack(&ann, &device("phone"), Seq(2));
    assert_eq!(store.cursor(&ann, &device("phone")).await.unwrap(), Some(Seq(2)));
    store.ack(&ann, &device("phone"), Seq(3));
    store.delivered(&ann, &device("phone"), Seq(1), Seq(3));
    for _ in 0..2 {
        let target = MarkTarget::One { id: ids[0].clone(), expected: None };
        store.mark(&ann, None, Mark::Read, target.clone()).await.unwrap();
        store.mark(&ann, None, Mark::Unread, target).await.unwrap();
    }
    let receipt = async |n: usize| {
        let page = store.receipts(&tenant, &ids[n], None, 10).await.unwrap();
        let [receipt] = <[_; 1]>::try_from(page.receipts).unwrap();
        let devices = receipt.devices.iter().map(|device| {
            let at = (device.delivered_at.is_some(), device.acked_at.is_some());
            (device.device_id.to_string(), at)
        });
        devices.collect::<Vec<_>>()
    };
    let phone = |acked| ("phone".to_owned(), (true, acked));
    assert_eq!(receipt(0).await, [phone(true)]);
    assert_eq!(receipt(1).await, [phone(true)]);
    assert_eq!(receipt(2).await, [("desktop".to_owned(), (true, true)), phone(true)]);
    assert_eq!(receipt(3).await, []);
    let heard = heard.0.lock().unwrap().clone();
    let count = |word: &str| heard.iter().filter(|heard| heard.contains(word)).count();
    assert_eq!(count("Delivered { first: true }"), 3, "{heard:?}");
    assert_eq!(count("Acked { first: true }"), 3, "{heard:?}");
    assert_eq!((count("Read"), count("Unread")), (2, 2), "{heard:?}");
    let hour = 3_600_000;
    let now = delivery::clock::now().millis();
    let query = StatsQuery {
        tenant: None,
        from: Time::from_millis(now - hour),
        to: Time::from_millis(now + hour),
        by: StatsBy::MessageType,
        service: None,
    };
    let stats = store.stats(query).await.unwrap();
    assert_eq!(
        (stats[0].sent, stats[0].delivered, stats[0].read),
        (4, 3, 1),
        "read again is not counted"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_pruned_and_a_standby_answers_lists() {
    let url = postgres::database();
    let retention = Retention { max_age: None, max_messages: Some(2) };
    // The same database stands in for a standby that is not behind.
    let replica_url = Some(url.clone().into());
    let config = PostgresConfig { retention, replica_url, ..PostgresConfig::new(url) };
    let store = PostgresStore::open(config, Arc::new(Bus::default()), &NoopRecorder).await.unwrap();
    for user in ["ann", "bob"] {
        drop(store.watch(&inbox(user)).await.unwrap());
    }
    for n in 0..5 {
        let audience = if n % 2 == 0 { Audience::Everyone } else { to(&["ann"]) };
        store.append(vec![message(&n.to_string(), audience)].into()).await.unwrap();
    }
    // Bob has taken nothing over yet.
    assert_eq!(store.prune_all().await.unwrap(), 3 + 1);
    for (user, min_seq) in [("ann", 3), ("bob", 1)] {
        let page = store.list(&inbox(user), ListQuery { size: 9, ..ListQuery::default() }).await;
        let page = page.unwrap();
        assert_eq!((page.total, page.messages.len(), page.unread), (2, 2, 2), "{user}");
        let changes = store.changes(&inbox(user), Seq(0), 9, usize::MAX).await.unwrap();
        assert_eq!((changes.min_seq, changes.changes.len()), (Seq(min_seq), 0), "{user}");
    }
    store.close().await;
}
