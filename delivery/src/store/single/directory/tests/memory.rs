//! What stays in memory.

use super::*;
use crate::store::Directory;

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
    sweep(&store);
    assert!(bob.upgrade().is_none());
    assert_eq!((store.inboxes.len(), store.inboxes.groups.len()), (1, 1), "ann is watched");
    send(&store, Audience::group(group("room")), "2").await;
    assert_eq!(received(&store, "bob").await, ["1", "2"]);
    assert_eq!(head(&store, "ann").await, 2);
    drop(watch);
    sweep(&store);
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
