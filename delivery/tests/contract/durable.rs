//! What survives an orderly end. Kills and power cuts are proven with the real process
//! (`hub/tests/it/promises`).

use std::time::Duration;

use delivery::{
    StoreError,
    store::{Head, Health, Mark, MarkTarget},
};
use protocol::{DeviceId, Seq};
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, in_millis, inbox, message, outgoing, to_everyone, words},
};

pub(crate) async fn everything_is_there_after_reopening(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let mut rich = message("rich");
    rich.metadata.insert("k".into(), serde_json::json!([1.5, null, "\u{0}\u{1f600}"]));
    rich.channel_id = Some("channel".parse().unwrap());
    let id = fix.send_as(&[&ann, &bob], &rich).await;
    fix.store.append(vec![to_everyone("default", &message("notice"))].into()).await.unwrap();
    let device: DeviceId = "phone".parse().unwrap();
    let target = MarkTarget::One { id: id.clone(), expected: None };
    fix.store.mark(&ann, Some(device), Mark::Read, target).await.unwrap();
    let before = (words(&fix.log(&ann).await), words(&fix.log(&bob).await));
    let state = fix.store.get(&ann, &id).await.unwrap().state;
    let log = format!("{:?}", fix.log(&ann).await.last().unwrap().change);
    for _ in 0..3 {
        fix.reopen().await;
        assert_eq!((words(&fix.log(&ann).await), words(&fix.log(&bob).await)), before);
        let message = fix.store.get(&ann, &id).await.unwrap();
        assert_eq!(message.state, state);
        assert_eq!(message.body.fields().unwrap(), rich);
        assert_eq!(format!("{:?}", fix.log(&ann).await.last().unwrap().change), log);
        assert_eq!((fix.unread(&ann).await, fix.unread(&bob).await), (1, 2));
    }
    fix.send(&[&ann], "after").await;
    assert_eq!(fix.log(&ann).await.last().unwrap().seq, Seq(4));
}

pub(crate) async fn everything_is_there_after_a_kill(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    let id = fix.send(&[&ann, &bob], "1").await;
    drop(fix.store.watch(&eve).await.unwrap());
    fix.store.append(vec![to_everyone("default", &message("notice"))].into()).await.unwrap();
    fix.mark_one(&ann, Mark::Read, &id).await.unwrap();
    fix.send(&[&ann], "last").await;
    for _ in 0..3 {
        fix.kill().await;
        let log = |expected: &[&str]| -> Vec<(u64, String)> {
            (1..).zip(expected.iter().map(ToString::to_string)).collect()
        };
        let read = format!("{id} read");
        assert_eq!(words(&fix.log(&ann).await), log(&["1", "notice", &read, "last"]));
        assert_eq!(words(&fix.log(&bob).await), log(&["1", "notice"]));
        assert_eq!(words(&fix.log(&eve).await), log(&["notice"]));
        assert_eq!((fix.unread(&ann).await, fix.unread(&bob).await), (2, 2));
    }
}

/// A watch of an unknown inbox looks, then records that it was seen. What is stored in between has
/// a lower place in the journal; a start after a kill once took the log to begin behind it.
pub(crate) async fn what_came_while_an_inbox_was_first_seen_is_there_after_a_kill(
    backend: impl Backend,
) {
    let mut fix = Fixture::new(backend).await;
    let keys: Vec<_> = (0..200).map(|n| inbox(&format!("u{n}"))).collect();
    let mut tasks = JoinSet::new();
    for key in &keys {
        let (store, key) = (fix.store.clone(), key.clone());
        tasks.spawn(async move {
            let send = store.append(vec![outgoing(&[&key], &message("first"))].into());
            let (sent, watch) = tokio::join!(send, store.watch(&key));
            sent.unwrap();
            drop(watch.unwrap());
        });
    }
    tasks.join_all().await;
    fix.kill().await;
    for key in &keys {
        drop(fix.store.watch(key).await.unwrap());
        assert_eq!(words(&fix.log(key).await), [(1, "first".to_owned())], "{key:?}");
    }
}

pub(crate) async fn an_append_is_all_or_nothing(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let items: Vec<_> =
        (0..200).map(|n| outgoing(&[&ann, &bob], &message(&n.to_string()))).collect();
    fix.store.append(items.into()).await.unwrap();
    assert_eq!((fix.log(&ann).await.len(), fix.log(&bob).await.len()), (200, 200));
    fix.store.append(vec![].into()).await.unwrap();
    assert_eq!(fix.log(&ann).await.len(), 200);
}

pub(crate) async fn a_closed_store_answers_closing(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = fix.send(&[&ann], "x").await;
    fix.store.close().await;
    fix.store.close().await;
    let append = fix.store.append(vec![outgoing(&[&ann], &message("y"))].into()).await;
    assert!(matches!(append, Err(StoreError::Closing)), "{append:?}");
    let marked = fix.mark_one(&ann, Mark::Read, &id).await;
    assert!(matches!(marked, Err(StoreError::Closing)), "{marked:?}");
    assert!(matches!(fix.store.watch(&ann).await.err(), Some(StoreError::Closing)));
    assert!(matches!(fix.store.health().await, Health::NotWritable(_)));
}

pub(crate) async fn a_writable_store_says_so(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    assert_eq!(fix.store.health().await, Health::Writable);
    fix.send(&[&inbox("ann")], "x").await;
    assert_eq!(fix.store.health().await, Health::Writable);
    assert_eq!(fix.log(&inbox("ann")).await.len(), 1, "the proof leaves nothing in an inbox");
}

/// A disk that is full or fails takes nothing away of what it has, and nothing of what the journal
/// has and the inbox's place could not take over yet.
pub(crate) async fn reads_stay_while_an_inbox_cannot_be_written(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let (one, two) = (fix.send(&[&ann], "1").await, fix.send(&[&ann], "2").await);
    fix.mark_one(&ann, Mark::Read, &one).await.unwrap();
    fix.reopen().await;
    if !fix.backend.refuse_writes(&ann, true) || !fix.backend.refuse_writes(&bob, true) {
        return;
    }
    let mut short_lived = message("3");
    short_lived.expire_at = Some(in_millis(3_600_000));
    fix.send_as(&[&ann, &bob], &short_lived).await;
    let marked = fix.mark_one(&ann, Mark::Read, &two).await.unwrap();
    assert_eq!(marked.head, Head { seq: Seq(5), unread: 1 });
    let read_at = marked.message.unwrap().state.read_at;
    assert!(read_at.is_some());
    for refused in [true, false, false] {
        let told = format!("refused: {refused}");
        for _ in 0..2 {
            let (first, second) = (format!("{one} read"), format!("{two} read"));
            let log = ["1", "2", &first, "3", &second];
            let log: Vec<(u64, String)> = (1..).zip(log.iter().map(ToString::to_string)).collect();
            assert_eq!(words(&fix.log(&ann).await), log, "{told}");
            assert_eq!(words(&fix.log(&bob).await), [(1, "3".to_owned())], "{told}");
            assert_eq!(fix.titles(&ann).await, ["1", "2", "3"], "{told}");
            assert_eq!(fix.titles(&bob).await, ["3"], "{told}");
            assert_eq!((fix.unread(&ann).await, fix.unread(&bob).await), (1, 1), "{told}");
            let message = fix.store.get(&ann, &two).await.unwrap();
            assert_eq!(message.state.read_at, read_at, "{told}");
            assert_eq!(fix.store.watch(&ann).await.unwrap().head.unread, 1, "{told}");
        }
        if refused {
            fix.backend.refuse_writes(&ann, false);
            fix.backend.refuse_writes(&bob, false);
        } else {
            fix.reopen().await;
        }
    }
}

/// A caller that gives up (a request that was cut) leaves the operation done or not done.
pub(crate) async fn a_dropped_future_leaves_a_whole_operation(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    for n in 0..50 {
        let items: Vec<_> =
            (0..3).map(|_| outgoing(&[&ann, &bob], &message(&n.to_string()))).collect();
        let patience = Duration::from_micros(n * 20);
        let _ = tokio::time::timeout(patience, fix.store.append(items.into())).await;
    }
    fix.send(&[&ann, &bob], "last").await;
    let (ann, bob) = (words(&fix.log(&ann).await), words(&fix.log(&bob).await));
    assert_eq!(ann, bob);
    assert_eq!(ann.len() % 3, 1, "three at a time, and the last one");
}
