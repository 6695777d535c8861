//! Limits that are too far away for the contract's suite.

use super::*;
use crate::{
    StoreError,
    store::{
        Directory,
        limits::{CHANNEL_MEMBERS_MAX, CHANNELS_MAX},
    },
};

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
    set("c:room", CHANNEL_MEMBERS_MAX - 1);
    let join = async |names: &[&str]| {
        store.change_members(&tenant(), &id("room"), users(names), vec![]).await
    };
    let over = join(&["bob", "eve"]).await;
    assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
    join(&["bob"]).await.unwrap();
    assert!(matches!(join(&["eve"]).await, Err(StoreError::Limit(_))));
    let swap = store.change_members(&tenant(), &id("room"), users(&["eve"]), users(&["bob"])).await;
    assert_eq!(swap.unwrap().members, CHANNEL_MEMBERS_MAX);
    set("channels", CHANNELS_MAX - 1);
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
