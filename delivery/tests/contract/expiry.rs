//! Messages whose time has passed.

use delivery::{
    StoreError,
    store::{Change, ListQuery, Mark, MarkTarget, StatusFilter},
};
use protocol::{Seq, Status};

use super::{
    Backend,
    fixture::{Fixture, in_millis, inbox, message, words},
};

pub(crate) async fn an_expired_message_keeps_its_seq_and_loses_everything_else(
    backend: impl Backend,
) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut short = message("short");
    let deadline = in_millis(700);
    short.expire_at = Some(deadline);
    fix.send(&[&ann], "1").await;
    let id = fix.send_as(&[&ann], &short).await;
    fix.send(&[&ann], "3").await;
    assert_eq!(fix.unread(&ann).await, 3);
    assert_eq!(fix.titles(&ann).await, ["1", "short", "3"]);
    super::fixture::eventually("it expires", || delivery::clock::now() >= deadline).await;
    let gone = (2, format!("{id} expired"));
    for _ in 0..2 {
        assert_eq!(words(&fix.log(&ann).await), [(1, "1".into()), gone.clone(), (3, "3".into())]);
        assert!(matches!(
            &fix.log(&ann).await[1].change,
            Change::Status(change) if change.status == Status::Expired && change.message_id == id
        ));
        let head = fix.store.head(&ann).await.unwrap();
        assert_eq!((head.seq, head.unread), (Seq(3), 2), "an expiry takes no seq");
        for status in [StatusFilter::All, StatusFilter::Inbox, StatusFilter::Unread] {
            let page = fix.list(&ann, ListQuery { status, size: 10, ..ListQuery::default() }).await;
            assert_eq!((page.messages.len(), page.total, page.unread), (2, 2, 2));
        }
        assert!(matches!(fix.store.get(&ann, &id).await, Err(StoreError::NotFound)));
        let watch = fix.store.watch(&ann).await.unwrap();
        assert_eq!(watch.head.unread, 2);
        drop(watch);
        fix.reopen().await;
    }
}

pub(crate) async fn an_expired_message_is_not_marked(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut past = message("past");
    past.expire_at = Some(in_millis(-1_000));
    let id = fix.send_as(&[&ann], &past).await;
    let live = fix.send(&[&ann], "live").await;
    assert_eq!(fix.unread(&ann).await, 1);
    for mark in [Mark::Read, Mark::Archive, Mark::Unread] {
        let answer = fix.mark_one(&ann, mark, &id).await;
        assert!(matches!(answer, Err(StoreError::NotFound)), "{answer:?}");
        assert_eq!(fix.mark(&ann, mark, MarkTarget::Many(vec![id.clone()])).await.changed, 0);
    }
    let marked = fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(2))).await;
    assert_eq!((marked.changed, marked.head.unread), (1, 0));
    assert_eq!(fix.mark_one(&ann, Mark::Unread, &live).await.unwrap().head.unread, 1);
}
