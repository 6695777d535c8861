//! Receipts: who they are of. What they say is the inboxes' part.

use delivery::StoreError;
use protocol::{MessageId, UserId};

use super::{
    super::fixture::{inbox, inbox_of, message, to_everyone},
    HOUR, LedgerBackend, LedgerFixture, tenant,
};

async fn users<B: LedgerBackend>(
    fix: &LedgerFixture<B>,
    id: &MessageId,
    after: Option<&str>,
    limit: usize,
) -> (Vec<String>, bool) {
    let after = after.map(|user| UserId::new(user).unwrap());
    let page = fix.books.receipts(&tenant(), id, after, limit).await.unwrap();
    let users = page.receipts.iter().map(|receipt| receipt.user_id.to_string()).collect();
    (users, page.more)
}

pub(crate) async fn recipients_come_in_order_each_once_in_pages(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let names: Vec<String> = (0..30).map(|n| format!("u{n:02}")).collect();
    let keys: Vec<_> = names.iter().rev().map(|name| inbox(name)).collect();
    let id = fix.send(&keys.iter().chain(&keys).collect::<Vec<_>>(), "x").await;
    let mut seen = Vec::new();
    loop {
        let (page, more) = users(&fix, &id, seen.last().map(String::as_str), 7).await;
        assert_eq!(page.len(), 7.min(30 - seen.len()));
        seen.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(seen, names);
    assert_eq!(users(&fix, &id, Some("u29"), 7).await, (vec![], false));
    assert_eq!(users(&fix, &id, Some("u1"), 2).await, (vec!["u10".into(), "u11".into()], true));
    let page = fix.books.receipts(&tenant(), &id, None, 1).await.unwrap();
    assert!(page.receipts[0].stored_at.is_some() && page.receipts[0].read_at.is_none());
    // Nobody has what was not sent.
    let later = fix.schedule(&[&inbox("ann")], "later", HOUR).await;
    assert_eq!(users(&fix, &later, None, 10).await, (vec![], false));
    let unknown = fix.books.receipts(&tenant(), &"nobody's".parse().unwrap(), None, 10).await;
    assert!(matches!(unknown, Err(StoreError::NotFound)), "{unknown:?}");
}

pub(crate) async fn everybody_who_was_known_is_a_recipient(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let watch = async |key| drop(fix.books.watch(&key).await.unwrap());
    for name in ["cem", "ann", "bob"] {
        watch(inbox(name)).await;
    }
    watch(inbox_of("t2", "eve")).await;
    let fields = message("all");
    fix.append(vec![to_everyone("default", &fields)]).await;
    watch(inbox("dan")).await;
    for _ in 0..2 {
        assert_eq!(
            users(&fix, &fields.id, None, 10).await,
            (vec!["ann".into(), "bob".into(), "cem".into()], false)
        );
        assert_eq!(users(&fix, &fields.id, Some("ann"), 1).await, (vec!["bob".into()], true));
        fix.reopen().await;
    }
}
