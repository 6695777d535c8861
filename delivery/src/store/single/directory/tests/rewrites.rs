//! Edits and recalls reach whoever received the message.

use super::*;
use crate::store::Directory;

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
