//! Dense, ordered, visible before published, walls.

use std::{sync::Arc, time::Duration};

use delivery::{
    Fanout, InboxKey,
    store::{Change, Mark, MarkTarget, Stored},
};
use protocol::Seq;
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, inbox, inbox_of, message, outgoing, words},
};

pub(crate) async fn seqs_are_dense_and_in_order(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    assert_eq!(fix.store.head(&ann).await.unwrap(), delivery::store::Head::default());
    assert!(fix.log(&ann).await.is_empty());
    fix.send(&[&ann], "1").await;
    fix.send(&[&bob], "a").await;
    let items = ["2", "3", "4"].map(|title| outgoing(&[&ann, &bob], &message(title)));
    fix.store.append(items.to_vec().into()).await.unwrap();
    fix.send(&[&ann], "5").await;
    let expected = |words: &[&str]| -> Vec<(u64, String)> {
        (1..).zip(words.iter().map(ToString::to_string)).collect()
    };
    assert_eq!(words(&fix.log(&ann).await), expected(&["1", "2", "3", "4", "5"]));
    assert_eq!(words(&fix.log(&bob).await), expected(&["a", "2", "3", "4"]));
    let head = fix.store.head(&ann).await.unwrap();
    assert_eq!((head.seq.0, head.unread), (5, 5));
}

pub(crate) async fn concurrent_appends_make_one_log_that_stays(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let _watch = fix.store.watch(&ann).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (store, ann) = (fix.store.clone(), ann.clone());
        tasks.spawn(async move {
            for n in 0..25 {
                let fields = message(&format!("{task}/{n}"));
                store.append(vec![outgoing(&[&ann], &fields)].into()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let log = words(&fix.log(&ann).await);
    assert_eq!(log.len(), 400);
    for (at, (seq, _)) in (1..).zip(&log) {
        assert_eq!(*seq, at, "dense");
    }
    for task in 0..16 {
        // What one task appended one after the other stands in that order.
        let mine = format!("{task}/");
        let numbers: Vec<u32> =
            log.iter().filter_map(|(_, title)| title.strip_prefix(&mine)?.parse().ok()).collect();
        assert_eq!(numbers, (0..25).collect::<Vec<_>>());
    }
    fix.told(&ann, 400).await;
    fix.reopen().await;
    assert_eq!(words(&fix.log(&ann).await), log, "the same change at the same seq for ever");
}

pub(crate) async fn pages_are_contiguous_and_limited(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..10 {
        let mut fields = message(&n.to_string());
        fields.content = "x".repeat(1_000);
        fix.send_as(&[&ann], &fields).await;
    }
    fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(3))).await;
    for (limit, bytes_max) in [(1, usize::MAX), (4, usize::MAX), (100, 3_000), (100, 0), (3, 2_500)]
    {
        let (mut since, mut seqs) = (0, vec![]);
        loop {
            let page = fix.page(&ann, since, limit, bytes_max).await;
            assert_eq!((page.head, page.min_seq <= Seq(since)), (Seq(13), true));
            assert!(page.changes.len() <= limit);
            // "About": one body over, and an entry's own weight.
            let bytes: usize = page
                .changes
                .iter()
                .map(|stored| match &stored.change {
                    Change::Message { body, .. } => body.weight(),
                    Change::Status(_) => 0,
                })
                .sum();
            assert!(page.changes.len() == 1 || bytes <= bytes_max.saturating_add(1_500), "{bytes}");
            let Some(last) = page.changes.last() else { break };
            since = last.seq.0;
            seqs.extend(page.changes.iter().map(|stored| stored.seq.0));
        }
        assert_eq!(seqs, (1..=13).collect::<Vec<_>>(), "limit {limit}, {bytes_max} bytes");
    }
    for beyond in [13, 14, 1 << 40, u64::MAX] {
        let page = fix.page(&ann, beyond, 10, usize::MAX).await;
        assert!(page.changes.is_empty(), "at the head or beyond it");
        assert_eq!(page.head, Seq(13));
    }
}

/// Looks into the store at the very moment of the call.
struct Looking {
    runtime: tokio::runtime::Handle,
    store: std::sync::OnceLock<std::sync::Weak<dyn delivery::store::Storage>>,
    looked: std::sync::atomic::AtomicUsize,
    missing: std::sync::Mutex<Vec<Seq>>,
}

impl Fanout for Looking {
    fn publish(&self, changes: &[Stored]) {
        let Some(store) = self.store.get().and_then(std::sync::Weak::upgrade) else { return };
        let inbox = changes[0].inbox.clone();
        let last = changes.last().unwrap().seq;
        // On a thread of its own: the caller may be one that must not wait for a runtime.
        let runtime = self.runtime.clone();
        let found = std::thread::spawn(move || {
            runtime.block_on(async {
                let since = Seq(last.0 - 1);
                let page = store.changes(&inbox, since, 1, usize::MAX);
                let page = tokio::time::timeout(Duration::from_secs(10), page).await;
                page.expect("a read does not wait for a publish").unwrap().changes.len()
            })
        })
        .join()
        .unwrap();
        if found == 0 {
            self.missing.lock().unwrap().push(last);
        }
        self.looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

pub(crate) async fn a_change_is_visible_before_it_is_published(backend: impl Backend) {
    let looking = Arc::new(Looking {
        runtime: tokio::runtime::Handle::current(),
        store: std::sync::OnceLock::new(),
        looked: std::sync::atomic::AtomicUsize::new(0),
        missing: std::sync::Mutex::default(),
    });
    let store = backend.open(looking.clone()).await;
    looking.store.set(Arc::downgrade(&store)).unwrap();
    let ann = inbox("ann");
    let _watch = store.watch(&ann).await.unwrap();
    for n in 0..50 {
        store.append(vec![outgoing(&[&ann], &message(&n.to_string()))].into()).await.unwrap();
    }
    store.mark(&ann, None, Mark::Read, MarkTarget::UpTo(Seq(50))).await.unwrap();
    super::fixture::eventually("it is published", || {
        looking.looked.load(std::sync::atomic::Ordering::Relaxed) > 0
    })
    .await;
    store.close().await;
    assert_eq!(*looking.missing.lock().unwrap(), []);
}

pub(crate) async fn who_watches_is_told_each_change_once_in_order(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.send(&[&ann], "before").await;
    let watch = fix.store.watch(&ann).await.unwrap();
    assert_eq!((watch.head.seq.0, watch.head.unread), (1, 1));
    let again = fix.store.watch(&ann).await.unwrap();
    for n in 0..20 {
        fix.send(&[&ann, &bob], &n.to_string()).await;
    }
    fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(5))).await;
    assert_eq!(fix.told(&ann, 25).await, (2..=26).collect::<Vec<_>>());
    drop(again);
    fix.send(&[&ann], "one still watches").await;
    assert_eq!(fix.told(&ann, 26).await.last(), Some(&27));
    drop(watch);
    fix.send(&[&ann], "nobody watches").await;
    let watch = fix.store.watch(&ann).await.unwrap();
    assert_eq!(watch.head.seq.0, 28);
    fix.send(&[&ann], "again").await;
    super::fixture::eventually("it is published", || fix.published.seqs(&ann).last() == Some(&29))
        .await;
    let seqs = fix.published.seqs(&ann);
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}

pub(crate) async fn inboxes_and_tenants_are_apart(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let keys: Vec<InboxKey> =
        [("default", "ann"), ("default", "bob"), ("t2", "ann"), ("T2", "ann")]
            .map(|(tenant, user)| inbox_of(tenant, user))
            .to_vec();
    let mut ids = vec![];
    for key in &keys {
        ids.push(fix.send(&[key], &format!("{key:?}")).await);
    }
    for reopened in [false, true] {
        if reopened {
            fix.reopen().await;
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(fix.titles(key).await, [format!("{key:?}")]);
            for (other, id) in ids.iter().enumerate() {
                assert_eq!(fix.store.get(key, id).await.is_ok(), at == other);
                if at != other {
                    assert!(fix.mark_one(key, Mark::Read, id).await.is_err());
                }
            }
            let many = MarkTarget::Many(ids.iter().filter(|id| **id != ids[at]).cloned().collect());
            assert_eq!(fix.mark(key, Mark::Archive, many).await.changed, 0);
            assert_eq!(fix.unread(key).await, 1);
        }
    }
}

pub(crate) async fn heads_are_of_watched_inboxes(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    for _ in 0..3 {
        fix.send(&[&ann, &bob], "x").await;
    }
    let _ann = fix.store.watch(&ann).await.unwrap();
    let _eve = fix.store.watch(&eve).await.unwrap();
    let asked = [eve.clone(), ann.clone(), ann.clone(), inbox("never")];
    assert_eq!(fix.store.heads(&asked).await, [Some(Seq(0)), Some(Seq(3)), Some(Seq(3)), None]);
    fix.send(&[&eve], "x").await;
    assert_eq!(fix.store.heads(&[eve]).await, [Some(Seq(1))]);
    assert_eq!(fix.store.heads(&[]).await, []);
}

pub(crate) async fn a_duplicate_recipient_receives_once(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let _watch = fix.store.watch(&ann).await.unwrap();
    fix.send(&[&ann, &bob, &ann], "x").await;
    fix.send(&[&bob], "y").await;
    assert_eq!(fix.titles(&ann).await, ["x"]);
    assert_eq!(fix.titles(&bob).await, ["x", "y"]);
    assert_eq!(fix.told(&ann, 1).await, [1]);
}
