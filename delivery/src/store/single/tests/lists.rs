//! Lists of a long inbox, which gets an index when it is asked for them.

use std::{sync::Arc, time::Duration};

use protocol::MessageFields;
use rusqlite::Connection;

use super::{
    super::{SingleConfig, SingleStore, inbox_dir},
    contract::fixture::{Published, inbox, message, outgoing, title},
};
use crate::{
    InboxKey, Store,
    store::{ListPosition, ListQuery, Mark, MarkTarget, Sort, StatusFilter},
};

/// As many as make an index worth it.
const MANY: u32 = 10_000;

fn numbered(n: u32) -> MessageFields {
    MessageFields {
        id: format!("m{n}").parse().unwrap(),
        priority: u8::try_from(n % 10 + 1).unwrap(),
        sender: if n.is_multiple_of(3) { "crm" } else { "erp" }.to_owned(),
        ..message(&n.to_string())
    }
}

async fn send(store: &SingleStore, key: &InboxKey, numbers: std::ops::Range<u32>) {
    let items: Vec<_> = numbers.map(|n| outgoing(&[key], &numbered(n))).collect();
    store.append(items.into()).await.unwrap();
}

/// What a list of these numbers should show, and does.
async fn assert_lists(store: &SingleStore, key: &InboxKey, shown: &[u32]) {
    let mut by_priority = shown.to_vec();
    by_priority.sort_by_key(|n| std::cmp::Reverse((n % 10, *n)));
    let crm: Vec<u32> = shown.iter().copied().filter(|n| n.is_multiple_of(3)).rev().collect();
    let sender = || Some("crm".to_owned());
    for (sort, sender, expected) in
        [(Sort::Priority, None, by_priority), (Sort::Newest, sender(), crm)]
    {
        for skip in [0, expected.len() / 2, expected.len() - 3] {
            let at = ListPosition::Offset(skip as u64);
            let sender = sender.clone();
            let query = ListQuery { sort, sender, at, size: 5, ..ListQuery::default() };
            let page = store.list(key, query).await.unwrap();
            let numbers: Vec<u32> =
                page.messages.iter().map(|message| title(&message.body).parse().unwrap()).collect();
            let end = (skip + 5).min(expected.len());
            assert_eq!(numbers, expected[skip..end], "{sort:?} from {skip}");
            assert_eq!(page.total, expected.len() as u64);
        }
    }
}

#[tokio::test]
async fn a_long_inbox_gets_an_index_with_the_first_list_that_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = SingleConfig {
        root: folder.path().join("storage"),
        flush_interval: Duration::from_hours(1),
        journal_sync: false,
        ..SingleConfig::default()
    };
    let nobody = Arc::new(Published::default());
    let store = SingleStore::open(&config, nobody, &metrics::NoopRecorder).unwrap();
    let key = inbox("ann");
    let indexes = || -> i64 {
        let db = Connection::open(inbox_dir(&config.root, &key).join("messages.db")).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema
                   WHERE name IN ('message_priority', 'message_sender')";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    for from in (0..MANY - 1).step_by(1_000) {
        send(&store, &key, from..(from + 1_000).min(MANY - 1)).await;
    }
    let mut shown: Vec<u32> = (0..MANY - 1).collect();
    assert_lists(&store, &key, &shown).await;
    assert_eq!(indexes(), 0, "a short inbox needs none");
    send(&store, &key, MANY - 1..MANY).await;
    shown.push(MANY - 1);
    assert_lists(&store, &key, &shown).await;
    assert_eq!(indexes(), 2);
    // They follow what comes and what is marked.
    send(&store, &key, MANY..MANY + 50).await;
    shown.extend(MANY..MANY + 50);
    let away = (0..MANY).step_by(7).map(|n| format!("m{n}").parse().unwrap()).collect();
    store.mark(&key, None, Mark::Archive, MarkTarget::Many(away)).await.unwrap();
    shown.retain(|n| *n >= MANY || !n.is_multiple_of(7));
    assert_lists(&store, &key, &shown).await;
    let query = ListQuery {
        status: StatusFilter::Archived,
        sort: Sort::Priority,
        size: 1,
        ..ListQuery::default()
    };
    let archived = store.list(&key, query).await.unwrap();
    assert_eq!(archived.total, u64::from(MANY.div_ceil(7)));
    assert_eq!(title(&archived.messages[0].body), "9989");
    store.close().await;
}
