//! A move that ends anywhere goes on; what must not be moved is refused; what differs is found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_macros, unused_imports, reason = "the words of the contract's tests")]
mod contract;
mod postgres;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use delivery::{
    Store as _,
    control::{Control, NewService},
    move_in::{Counts, MoveError, Outcome, Progress, Step, move_in},
    store::{
        Batch, Directory as _, Ledger as _, Mark, MarkTarget, SenderKey, StoredAnswer,
        postgres::{OpenError, PostgresConfig, PostgresStore},
        single::{self, MOVED_MARK, SingleConfig, SingleStore, hub_dir},
    },
};
use metrics::NoopRecorder;
use protocol::{Body, Seq, TenantId};
use tempfile::TempDir;
use tokio::sync::Notify;

use contract::fixture::{
    Published, audience, button, channel, in_millis, inbox, inbox_of, message, outgoing,
    to_audience, to_everyone, token,
};

/// A folder with something of everything.
struct Folder {
    folder: TempDir,
    key: String,
}

impl Folder {
    fn root(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    fn config(&self) -> SingleConfig {
        SingleConfig { root: self.root(), ..SingleConfig::default() }
    }

    fn open(&self) -> Result<Arc<SingleStore>, single::OpenError> {
        SingleStore::open(&self.config(), Arc::new(Published::default()), &NoopRecorder)
    }

    fn mark(&self) -> PathBuf {
        hub_dir(&self.root()).join(MOVED_MARK)
    }

    async fn new() -> Self {
        let mut folder = Self { folder: tempfile::tempdir().unwrap(), key: String::new() };
        let store = folder.open().unwrap();
        let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox_of("t2", "eve"));
        store.note_token(&ann, token(1, &["admin"])).await.unwrap();
        for n in 0..5 {
            let mut fields = message(&format!("m{n}"));
            fields.actions = vec![button("yes")];
            store.append(vec![outgoing(&[&ann, &bob], &fields)].into()).await.unwrap();
            if n == 1 {
                store.press(&ann, Some("phone".parse().unwrap()), &fields.id, 0).await.unwrap();
            }
            if n == 2 {
                fields.title = "again".to_owned();
                store
                    .edit(&TenantId::default(), &fields.id, None, Arc::new(Body::new(&fields)))
                    .await
                    .unwrap();
            }
            if n == 3 {
                store.recall(&TenantId::default(), &fields.id).await.unwrap();
            }
        }
        store.save_channel(&TenantId::default(), channel("c"), Some(0)).await.unwrap();
        let users = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let id = "c".parse().unwrap();
        store
            .change_members(&TenantId::default(), &id, users(&["bob", "joe"]), vec![])
            .await
            .unwrap();
        let to = to_audience("default", audience(&[], &["#c", "admin"]), &message("to groups"));
        store.append(vec![to, to_everyone("default", &message("to all"))].into()).await.unwrap();
        store.append(vec![outgoing(&[&eve], &message("elsewhere"))].into()).await.unwrap();
        store.mark(&bob, None, Mark::Read, MarkTarget::UpTo(Seq(2))).await.unwrap();
        let phone = "phone".parse().unwrap();
        store.delivered(&ann, &phone, Seq(1), Seq(4));
        store.ack(&ann, &phone, Seq(3));
        let mut later = outgoing(&[&ann], &message("later"));
        later.scheduled_at = Some(in_millis(3_600_000));
        let answer = StoredAnswer {
            tenant: TenantId::default(),
            sender: SenderKey::Admin,
            key: "k".to_owned(),
            fingerprint: [7; 32],
            data: "{}".to_owned(),
            at: delivery::clock::now(),
        };
        store.append(Batch { items: vec![later], answer: Some(answer) }).await.unwrap();
        store.close().await;
        let control = Control::open(&hub_dir(&folder.root())).unwrap();
        let (_, key) = control.create_service(NewService::named("netdrive")).unwrap();
        key.expose().clone_into(&mut folder.key);
        folder
    }
}

/// Ends a move when it has told of so many things.
struct Ends {
    after: u64,
    at: Option<Step>,
    told: AtomicU64,
    end: Notify,
}

impl Ends {
    fn after(after: u64) -> Self {
        Self { after, at: None, told: AtomicU64::new(0), end: Notify::new() }
    }

    fn at(step: Step) -> Self {
        Self { at: Some(step), ..Self::after(u64::MAX) }
    }
}

impl Progress for Ends {
    fn begin(&self, step: Step, _: Option<u64>) {
        if self.at == Some(step) {
            self.end.notify_one();
        }
        self.advance(1);
    }

    fn advance(&self, _: u64) {
        if self.told.fetch_add(1, Ordering::Relaxed) == self.after {
            self.end.notify_one();
        }
    }
}

/// Moves; none where it was ended.
async fn run(folder: &Folder, url: &str, ends: Ends) -> Option<Result<Outcome, MoveError>> {
    let config = PostgresConfig::new(url.to_owned());
    let moving = move_in(&config, folder.config(), Arc::new(NoopRecorder), &ends);
    tokio::select! {
        biased;
        () = ends.end.notified() => None,
        moved = moving => Some(moved),
    }
}

async fn run_whole(folder: &Folder, url: &str) -> Result<Outcome, MoveError> {
    run(folder, url, Ends::after(u64::MAX)).await.unwrap()
}

async fn open_database(url: &str) -> Result<Arc<PostgresStore>, OpenError> {
    let config = PostgresConfig::new(url.to_owned());
    PostgresStore::open(config, Arc::new(Published::default()), &NoopRecorder).await
}

fn counts(outcome: &Outcome) -> Counts {
    let Outcome::Moved { counts, .. } = outcome else { panic!("{outcome:?}") };
    *counts
}

fn refusal<T: std::fmt::Debug>(refused: Result<T, MoveError>) -> String {
    refused.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_ends_anywhere_goes_on_and_a_second_changes_nothing() {
    let folder = Folder::new().await;
    let url = postgres::database();
    let (mut tries, began) = (0, Instant::now());
    let outcome = loop {
        match run(&folder, &url, Ends::after(tries)).await {
            None => {
                // Neither side is served in between, whatever is there already.
                if folder.mark().exists() {
                    let refused = open_database(&url).await;
                    assert!(matches!(refused, Err(OpenError::Moving)), "after {tries}");
                    let refused = folder.open();
                    assert!(
                        matches!(refused, Err(single::OpenError::Moved { .. })),
                        "after {tries}"
                    );
                }
                tries += 1;
            }
            // One that was ended while it opened the folder opens it to the end.
            Some(Err(error)) if error.to_string().contains("in use by another process") => {
                assert!(began.elapsed() < Duration::from_secs(60), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Some(moved) => break moved.unwrap(),
        }
    };
    assert!(tries > 10, "{tries}");
    let Outcome::Moved { counts, resumed, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(resumed);
    let expected = Counts {
        users: 4,
        messages: 5 * 2 + 3 + 3 + 1,
        changes: 2 * 2 + 1 + 2,
        devices: 1,
        receipts: 2,
        channels: 1,
        members: 3,
        records: 2,
        sent: 9,
        scheduled: 1,
        answers: 1,
        services: 1,
        keys: 1,
        quotas: 0,
        templates: 0,
        versions: 0,
        profiles: 0,
        identities: 0,
        sessions: 0,
        admins: 0,
        audit: 0,
        webhooks: 0,
        deliveries: 0,
    };
    assert_eq!(*counts, expected);
    // Twice changes nothing.
    for _ in 0..2 {
        let again = run_whole(&folder, &url).await.unwrap();
        assert!(matches!(again, Outcome::Before { .. }), "{again:?}");
    }
    let refused = folder.open().err().unwrap().to_string();
    assert!(refused.contains("was moved into the database 127.0.0.1:"), "{refused}");
    // It goes on there: keys, cursors, edits, who is in what.
    let control = tokio::task::spawn_blocking({
        let url = url.clone();
        move || {
            let clock = delivery::clock::SharedClock::default();
            Control::open_postgres(url.parse().unwrap(), tokio_postgres::NoTls, clock).unwrap()
        }
    })
    .await
    .unwrap();
    assert!(control.verify(&folder.key, [127, 0, 0, 1].into()).is_ok());
    let store = open_database(&url).await.unwrap();
    let (ann, phone) = (inbox("ann"), "phone".parse().unwrap());
    assert_eq!(store.cursor(&ann, &phone).await.unwrap(), Some(Seq(3)));
    let head = store.head(&ann).await.unwrap().seq;
    store.append(vec![to_everyone("default", &message("more"))].into()).await.unwrap();
    assert_eq!(store.head(&ann).await.unwrap().seq, head.next());
    store.close().await;
    tokio::task::spawn_blocking(move || drop(control)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_moved_is_refused() {
    let folder = Folder::new().await;
    // A node has it, or it is none.
    let store = folder.open().unwrap();
    let url = postgres::database();
    assert!(refusal(run_whole(&folder, &url).await).contains("in use by another process"));
    store.close().await;
    let nothing = Folder { folder: tempfile::tempdir().unwrap(), key: String::new() };
    assert!(refusal(run_whole(&nothing, &url).await).contains("is no storage folder"));
    // A database with something of others, or one that nodes work on.
    let foreign = postgres::database();
    let node = open_database(&foreign).await.unwrap();
    let told = refusal(run_whole(&folder, &foreign).await);
    assert!(told.contains("nodes work on this database"), "{told}");
    node.append(vec![outgoing(&[&inbox("zoe")], &message("x"))].into()).await.unwrap();
    node.close().await;
    let told = refusal(run_whole(&folder, &foreign).await);
    assert!(told.contains("has users that are not of this folder"), "{told}");
    assert!(!folder.mark().exists(), "a refused move leaves the folder as it was");
    // Two folders into one.
    let moved = run_whole(&folder, &url).await.unwrap();
    assert_eq!(counts(&moved).users, 4);
    let other = Folder::new().await;
    let told = refusal(run_whole(&other, &url).await);
    assert!(told.contains("has data of another folder"), "{told}");
    // A folder that says it is elsewhere.
    let told = refusal(run_whole(&folder, &postgres::database()).await);
    assert!(told.contains("delete moved.json"), "{told}");
    // One that was taken back into use.
    fs::remove_file(folder.mark()).unwrap();
    let store = folder.open().unwrap();
    store.append(vec![outgoing(&[&inbox("ann")], &message("back"))].into()).await.unwrap();
    store.close().await;
    let told = refusal(run_whole(&folder, &url).await);
    assert!(told.contains("taken back into use"), "{told}");
    let anew = run_whole(&folder, &postgres::database()).await.unwrap();
    assert_eq!(counts(&anew).sent, counts(&moved).sent + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_used_in_between_is_moved_from_the_beginning() {
    let folder = Folder::new().await;
    let url = postgres::database();
    assert!(run(&folder, &url, Ends::at(Step::Compare)).await.is_none());
    fs::remove_file(folder.mark()).unwrap();
    let store = folder.open().unwrap();
    store.append(vec![outgoing(&[&inbox("ann")], &message("back"))].into()).await.unwrap();
    store.close().await;
    let outcome = run_whole(&folder, &url).await.unwrap();
    let Outcome::Moved { counts, resumed: false, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(counts.sent, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_differs_is_found_and_named() {
    let folder = Folder::new().await;
    let url = postgres::database();
    assert!(run(&folder, &url, Ends::at(Step::Compare)).await.is_none());
    for (sql, named) in [
        ("UPDATE messages SET status = 1 WHERE seq = 1 AND status = 0", "the change at 1"),
        (
            "UPDATE inboxes SET unread = unread + 1 WHERE usr = 'joe'",
            "the unread messages of user joe",
        ),
        ("UPDATE inboxes SET head = head + 1 WHERE usr = 'joe'", "the latest change"),
        ("UPDATE inboxes SET min_seq = 1 WHERE usr = 'joe'", "the change at 1 of user joe"),
        ("UPDATE bodies SET body = replace(body, 'again', 'once more')", "the change at"),
        ("UPDATE changes SET at = at + 1 WHERE kind = 1", "the change at"),
        ("DELETE FROM changes WHERE kind = 3", "the change at"),
        ("UPDATE inboxes SET read = read + 1 WHERE usr = 'bob'", "the list of"),
        (
            "DELETE FROM messages WHERE seq = 1 AND inbox = (SELECT id FROM inboxes WHERE usr = 'eve')",
            "of user eve in tenant t2",
        ),
        ("UPDATE messages SET read_at = read_at + 1 WHERE read_at IS NOT NULL", "the change at"),
        ("UPDATE cursors SET seq = 2", "what a device has confirmed of user ann"),
        ("UPDATE receipts SET at = at + 1 WHERE kind = 1", "what went to which device of user ann"),
        ("UPDATE members SET joined_at = 1 WHERE grp = 'c:c'", "the members of channel c"),
        ("DELETE FROM members WHERE grp = 'r:admin'", "the channels and roles of user ann"),
        ("UPDATE users SET facts = replace(facts, 'name@', 'eman@')", "what is known of user ann"),
        (
            "UPDATE channels SET channel = replace(channel, 'The c', 'Some c')",
            "the channels of tenant",
        ),
        ("DELETE FROM broadcast_groups WHERE grp = 'c:c'", "what was sent to channel c"),
        ("UPDATE bodies SET sent_at = sent_at + 1 WHERE state = 1", "as it was sent"),
        ("DELETE FROM bodies WHERE state = 0", "as it was sent"),
        ("UPDATE answers SET data = '[]'", "answers to requests"),
        ("UPDATE stats SET read = read + 1", "statistics by Service"),
        ("DELETE FROM broadcasts WHERE everyone", "records: 2 in the folder, 1 there"),
        ("UPDATE control_service SET owner = 'x'", "rows of control_service"),
        ("DELETE FROM control_api_key", "rows of control_api_key"),
    ] {
        let copy = postgres::copy_of(&url);
        postgres::ask(&copy, sql);
        let told = refusal(run_whole(&folder, &copy).await);
        assert!(told.contains(named), "{sql}: {told}");
        assert!(!told.contains("again") && !told.contains("to groups"), "a content: {told}");
        assert!(fs::read_to_string(folder.mark()).unwrap().contains("\"done\":false"));
    }
    // Without any of that it ends well.
    run_whole(&folder, &url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_move_fills_is_emptied_before_it_begins_again() {
    let url = postgres::database();
    let config = PostgresConfig::new(url.clone());
    let folder = Folder::new().await;
    assert!(run(&folder, &url, Ends::at(Step::Compare)).await.is_none());
    fs::remove_file(folder.mark()).unwrap();
    // Ended before anything is brought.
    let ends = Ends::at(Step::Rest);
    let moving = move_in(&config, folder.config(), Arc::new(NoopRecorder), &ends);
    tokio::select! {
        biased;
        () = ends.end.notified() => {}
        moved = moving => panic!("{moved:?}"),
    }
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT relname::text FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition";
    for row in client.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        // What says how things stand.
        if ["moves", "webhook_share"].contains(&table.as_str())
            || ["_migrations", "_revision"].iter().any(|end| table.ends_with(end))
        {
            continue;
        }
        let rows = client.query(&format!("SELECT 1 FROM {table} LIMIT 1"), &[]).await.unwrap();
        assert!(rows.is_empty(), "{table}");
    }
}
