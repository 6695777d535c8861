//! Pruning all inboxes, and what was sent to many.

use std::{fs, path::Path, sync::Arc, time::Duration};

use protocol::{Seq, Time};

use super::{
    super::{SingleConfig, SingleStore, inbox_dir, walk::Walk},
    contract::fixture::{Published, inbox, inbox_of, message, outgoing, title, to_everyone},
};
use crate::{
    InboxKey, Store, StoreError,
    store::{ListQuery, Retention, Sort, StatusFilter},
};

fn open(folder: &Path, retention: Retention) -> Arc<SingleStore> {
    let config = SingleConfig {
        root: folder.join("storage"),
        flush_interval: Duration::from_hours(1),
        retention,
        ..SingleConfig::default()
    };
    let nobody = Arc::new(Published::default());
    SingleStore::open(&config, nobody, &metrics::NoopRecorder).unwrap()
}

async fn titles(store: &SingleStore, key: &InboxKey) -> Vec<String> {
    let (status, sort) = (StatusFilter::All, Sort::Oldest);
    let query = ListQuery { status, sort, size: 100, ..ListQuery::default() };
    let page = store.list(key, query).await.unwrap();
    page.messages.iter().map(|message| title(&message.body)).collect()
}

async fn to_all(store: &SingleStore, title: &str) {
    store.append(vec![to_everyone("default", &message(title))].into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_inbox_is_pruned_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { max_age: None, max_messages: Some(2) };
    let store = open(folder.path(), retention);
    let long = "界".repeat(42);
    let keys = [
        inbox("ann"),
        inbox("../x"),
        inbox(&long),
        inbox_of("t2", "ann"),
        inbox_of(&long, "ann"),
        inbox_of(".hub", "%%"),
    ];
    for key in &keys {
        for n in 0..5 {
            store.append(vec![outgoing(&[key], &message(&n.to_string()))].into()).await.unwrap();
        }
    }
    // In their files, and in memory only.
    for key in &keys[..5] {
        assert_eq!(titles(&store, key).await.len(), 5);
    }
    assert_eq!(store.prune_all().await.unwrap(), 15);
    assert_eq!(store.prune_all().await.unwrap(), 0);
    for key in &keys[..5] {
        assert_eq!(titles(&store, key).await, ["3", "4"], "{key:?}");
    }
    assert_eq!(titles(&store, &keys[5]).await.len(), 5, "it has no file yet");
    assert_eq!(store.prune_all().await.unwrap(), 3);
    // One that is damaged does not keep the others from being pruned.
    store.close().await;
    let root = folder.path().join("storage");
    fs::write(inbox_dir(&root, &keys[0]).join("messages.db"), vec![1; 200_000]).unwrap();
    let store = open(folder.path(), Retention { max_age: None, max_messages: Some(1) });
    assert_eq!(store.prune_all().await.unwrap(), 5);
    assert!(matches!(store.head(&keys[0]).await, Err(StoreError::Damaged(_))));
    store.close().await;
    assert!(matches!(store.prune_all().await, Err(StoreError::Closing)));
}

/// Positions in an inbox depend on what was sent to everyone before: it may be forgotten only when
/// everybody has taken it over, also who is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_to_many_is_forgotten_when_all_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { max_age: Some(Duration::from_hours(1)), max_messages: None };
    let store = open(folder.path(), retention);
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    // With a file, without one but seen, and one that comes later.
    store.append(vec![outgoing(&[&ann], &message("0"))].into()).await.unwrap();
    assert_eq!(titles(&store, &ann).await, ["0"]);
    drop(store.watch(&bob).await.unwrap());
    to_all(&store, "1").await;
    to_all(&store, "2").await;
    assert_eq!(store.head(&bob).await.unwrap().seq, Seq(2), "it was told these positions");
    assert_eq!(store.prune_all().await.unwrap(), 0, "all is young");
    store.close().await;
    let root = folder.path().join("storage");
    let shared = rusqlite::Connection::open(root.join(".hub/shared.db")).unwrap();
    let entries = || -> u32 {
        shared.query_row("SELECT count(*) FROM broadcasts", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(entries(), 2);
    // Two hours go by.
    shared.execute("UPDATE broadcasts SET at = at - 7200000", []).unwrap();
    rusqlite::Connection::open(inbox_dir(&root, &ann).join("messages.db"))
        .unwrap()
        .execute("UPDATE message SET stored_at = stored_at - 7200000", [])
        .unwrap();
    let mut store = open(folder.path(), retention);
    to_all(&store, "3").await;
    drop(store.watch(&eve).await.unwrap());
    to_all(&store, "4").await;
    assert_eq!(store.prune_all().await.unwrap(), 5, "0, and two times 1 and 2");
    store.shared.flush().unwrap();
    assert_eq!(entries(), 2, "3 and 4 are young");
    for _ in 0..2 {
        for (key, seqs) in [(&ann, [4, 5].as_slice()), (&bob, &[3, 4]), (&eve, &[1])] {
            let since = Seq(seqs[0] - 1);
            let page = store.changes(key, since, 100, usize::MAX).await.unwrap();
            let found: Vec<u64> = page.changes.iter().map(|change| change.seq.0).collect();
            assert_eq!(found, seqs, "{key:?}");
            assert_eq!(page.min_seq, since, "{key:?}");
            assert_eq!(store.head(key).await.unwrap().unread, seqs.len() as u64);
        }
        store.close().await;
        store = open(folder.path(), retention);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_nothing_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Retention::default());
    let ann = inbox("ann");
    let mut old = message("old");
    old.created_at = Time::default();
    store.append(vec![outgoing(&[&ann], &old)].into()).await.unwrap();
    assert_eq!(store.prune_all().await.unwrap(), 0);
    assert_eq!(titles(&store, &ann).await, ["old"]);
    store.close().await;
}

/// It ended the pruner's thread; and as the end of a walk it would forget what nobody has taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_folder_that_is_gone_fails_the_walk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Retention::default());
    let mut walk = Walk::new(&folder.path().join("gone"));
    assert!(walk.next(&store.shared).unwrap().is_err());
    assert!(walk.next(&store.shared).is_none());
}
