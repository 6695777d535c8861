//! Edits and recalls, as the journal has them: a random life of inboxes with them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::{Body, MessageFields, Status};
use tempfile::TempDir;

use super::{
    super::{
        SingleConfig, SingleStore,
        inbox::What,
        membership::Memberships,
        record::{Lsn, Record, RewriteRecord},
    },
    contract::{
        self, Backend, Sent,
        fixture::{Fixture, in_millis, inbox, message, outgoing, title, to_everyone},
    },
};
use crate::{
    Fanout, InboxKey, Store, clock,
    store::{Change, Mark, Stored},
};

struct Single<const FLUSH_MS: u64> {
    folder: TempDir,
    store: Mutex<Option<Arc<SingleStore>>>,
}

impl<const FLUSH_MS: u64> Backend for Single<FLUSH_MS> {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: Mutex::default() }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Store> {
        let config = SingleConfig {
            root: self.folder.path().join("storage"),
            flush_interval: Duration::from_millis(FLUSH_MS),
            ..SingleConfig::default()
        };
        let store = SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap();
        *self.store.lock() = Some(Arc::clone(&store));
        store
    }

    fn killed(&self) -> Option<Self> {
        // Where workers write at any time a copy would be torn.
        (FLUSH_MS > 1_000).then(|| {
            let copy = Self::new();
            copy_folder(self.folder.path(), copy.folder.path());
            copy
        })
    }

    fn refuse_writes(&self, _: &InboxKey, _: bool) -> bool {
        false
    }

    async fn rewrite(&self, message: &Sent, body: Option<Arc<Body>>) -> bool {
        let store = self.store.lock().clone().unwrap();
        let record = RewriteRecord {
            tenant: message.tenant.clone(),
            id: message.id.clone(),
            target: place_of(&store, message),
            audience: Arc::new(message.audience.clone()),
            at: clock::now(),
            body,
        };
        store.committer.submit(vec![Record::Rewrite(Arc::new(record))]).await.unwrap();
        true
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.folder.path())
    }
}

/// Where a message to everyone stands in the journal.
fn place_of(store: &SingleStore, message: &Sent) -> Lsn {
    let shared = store.pruner.shared.entries_after(&message.tenant, &Memberships::default(), 0);
    let found = shared
        .unwrap()
        .into_iter()
        .find(|entry| matches!(&entry.what, What::Message(body) if *body.id() == message.id));
    found.map_or(0, |entry| entry.lsn)
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

type Fix = Fixture<Single<3_600_000>>;

async fn edit(fix: &Fix, sent: &Sent, fields: &MessageFields) {
    assert!(fix.backend.rewrite(sent, Some(Arc::new(Body::new(fields)))).await);
}

/// Title, status and whether it says when it was read.
fn shown(change: &Stored) -> (u64, String, Status, bool) {
    match &change.change {
        Change::Message { state, body } => {
            (change.seq.0, title(body), state.status, state.read_at.is_some())
        }
        Change::Status(status) => {
            (change.seq.0, status.message_id.to_string(), status.status, false)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_and_recalls_are_told_as_what_the_message_is_then() {
    let mut fix = Fix::new(Single::new()).await;
    let ann = inbox("ann");
    let mut fields = message("first");
    fields.expire_at = Some(in_millis(3_600_000));
    let sent = Sent::of(&outgoing(&[&ann], &fields));
    let watch = fix.store.watch(&ann).await.unwrap();
    fix.send_as(&[&ann], &fields).await;
    fix.mark_one(&ann, Mark::Read, &fields.id).await.unwrap();
    fields.title = "second".to_owned();
    edit(&fix, &sent, &fields).await;
    fix.told(&ann, 3).await;
    fields.title = "third".to_owned();
    edit(&fix, &sent, &fields).await;
    fix.told(&ann, 4).await;
    let message = |seq, title: &str| (seq, title.to_owned(), Status::Read, true);
    let told = fix.published.changes(&ann);
    let told: Vec<_> = told.iter().map(shown).collect();
    assert_eq!(told[2..], [message(3, "second"), message(4, "third")]);
    let id = fields.id.to_string();
    let log = || async { fix.log(&ann).await.iter().map(shown).collect::<Vec<_>>() };
    assert_eq!(
        log().await,
        [
            message(1, "third"),
            (2, id.clone(), Status::Read, false),
            message(3, "third"),
            message(4, "third"),
        ]
    );
    // Even where a page has room for one of them only.
    for since in [0, 2, 3] {
        let page = fix.page(&ann, since, 9, 1).await;
        assert_eq!((page.changes.len(), page.changes[0].seq.0), (1, since + 1));
    }
    assert!(fix.backend.rewrite(&sent, None).await);
    fix.told(&ann, 5).await;
    let recalled = |seq| (seq, id.clone(), Status::Recalled, false);
    assert_eq!(fix.published.changes(&ann).last().map(shown), Some(recalled(5)));
    let expected =
        [recalled(1), (2, id.clone(), Status::Read, false), recalled(3), recalled(4), recalled(5)];
    assert_eq!(log().await, expected);
    let Change::Status(at_recall) = &fix.log(&ann).await[4].change else { panic!() };
    let Change::Status(at_first) = &fix.log(&ann).await[0].change else { panic!() };
    assert_eq!(at_first.at, at_recall.at, "when it was recalled, not when somebody looked");
    drop(watch);
    fix.reopen().await;
    assert_eq!(fix.log(&ann).await.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(fix.unread(&ann).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_after_a_message_to_everyone_hears_nothing_of_its_recall() {
    let mut fix = Fix::new(Single::new()).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    fix.send(&[&ann], "1").await;
    drop(fix.store.watch(&bob).await.unwrap());
    let item = to_everyone("default", &message("notice"));
    let sent = Sent::of(&item);
    fix.store.append(vec![item].into()).await.unwrap();
    drop(fix.store.watch(&eve).await.unwrap());
    fix.send(&[&eve], "1").await;
    // One of them has a file that says since when it is there.
    assert_eq!(fix.titles(&eve).await, ["1"]);
    assert_eq!(fix.unread(&bob).await, 1);
    fix.reopen().await;
    assert!(fix.backend.rewrite(&sent, None).await);
    for _ in 0..2 {
        assert_eq!(fix.log(&eve).await.len(), 1);
        let recalled = Status::Recalled;
        let id = sent.id.to_string();
        let log: Vec<_> = fix.log(&bob).await.iter().map(shown).collect();
        assert_eq!(log, [(1, id.clone(), recalled, false), (2, id.clone(), recalled, false)]);
        assert_eq!((fix.log(&ann).await.len(), fix.unread(&ann).await), (3, 1));
        assert_eq!((fix.unread(&bob).await, fix.unread(&eve).await), (0, 1));
        fix.kill().await;
    }
}

#[test]
fn a_random_life_with_edits_and_recalls_is_like_the_model() {
    contract::model::a_random_life_is_like_the_model::<Single<50>>();
}

#[test]
fn the_same_unwritten_and_with_kills() {
    contract::model::a_random_life_is_like_the_model::<Single<3_600_000>>();
}
