//! What inboxes need not keep.

use std::time::Duration;

use delivery::{
    StoreError,
    store::{ListQuery, Mark, MarkTarget, Retention, StatusFilter},
};
use protocol::Seq;
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, eventually, inbox, message, words},
};

const fn latest(messages: u64) -> Retention {
    Retention { max_age: None, max_messages: Some(messages) }
}

pub(crate) async fn the_oldest_go_and_what_stays_is_as_it_was(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 1..=6 {
        let mut fields = message(&n.to_string());
        fields.channel_id = (n % 2 == 0).then(|| "even".parse().unwrap());
        ids.push(fix.send_as(&[&ann], &fields).await);
    }
    let read = vec![ids[0].clone(), ids[1].clone(), ids[4].clone()];
    fix.mark(&ann, Mark::Read, MarkTarget::Many(read)).await;
    fix.send(&[&ann], "10").await;
    let read_at = fix.store.get(&ann, &ids[4]).await.unwrap().state.read_at;
    assert_eq!(fix.store.prune(&ann, Retention::default()).await.unwrap(), 0);
    assert_eq!(fix.store.prune(&ann, latest(7)).await.unwrap(), 0);
    assert_eq!(fix.store.prune(&ann, latest(3)).await.unwrap(), 4);
    assert_eq!(fix.store.prune(&ann, latest(3)).await.unwrap(), 0);
    for _ in 0..2 {
        let head = fix.store.head(&ann).await.unwrap();
        assert_eq!((head.seq, head.unread), (Seq(10), 2), "6 and 10");
        assert_eq!(fix.titles(&ann).await, ["5", "6", "10"]);
        let unread = fix.store.unread(&ann).await.unwrap();
        assert_eq!((unread.total, unread.direct, unread.channels.len()), (2, 1, 1));
        for since in 0..4 {
            let page = fix.page(&ann, since, 100, usize::MAX).await;
            assert_eq!((page.min_seq, page.changes.len()), (Seq(4), 0), "since {since}");
            assert_eq!(page.head, Seq(10));
        }
        let log = words(&fix.page(&ann, 4, 100, usize::MAX).await.changes);
        let read = |n: usize| format!("{} read", ids[n]);
        assert_eq!(
            log,
            [
                (5, "5".to_owned()),
                (6, "6".to_owned()),
                (7, read(0)),
                (8, read(1)),
                (9, read(4)),
                (10, "10".to_owned()),
            ]
        );
        assert!(matches!(fix.store.get(&ann, &ids[3]).await, Err(StoreError::NotFound)));
        assert_eq!(fix.store.get(&ann, &ids[4]).await.unwrap().state.read_at, read_at);
        assert!(fix.store.watch(&ann).await.is_ok());
        fix.reopen().await;
    }
    // When nothing stays, the positions do.
    assert_eq!(fix.store.prune(&ann, latest(0)).await.unwrap(), 3);
    for _ in 0..2 {
        let page = fix.page(&ann, 10, 100, usize::MAX).await;
        assert_eq!((page.head, page.min_seq, page.changes.len()), (Seq(10), Seq(10), 0));
        let list = ListQuery { status: StatusFilter::All, size: 9, ..ListQuery::default() };
        let list = fix.list(&ann, list).await;
        assert_eq!((list.total, list.unread, list.messages.len()), (0, 0, 0));
        fix.kill().await;
    }
    fix.send(&[&ann], "11").await;
    assert_eq!(words(&fix.page(&ann, 10, 9, 9).await.changes), [(11, "11".to_owned())]);
    assert_eq!(fix.store.prune(&inbox("never"), latest(1)).await.unwrap(), 0);
}

pub(crate) async fn what_is_older_than_it_may_be_goes(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..5 {
        // However long ago it was written: it came now.
        let mut fields = message(&n.to_string());
        fields.created_at = protocol::Time::from_millis(n * 1_000_000);
        fix.send_as(&[&ann], &fields).await;
    }
    let sent = delivery::clock::now().millis();
    let hour = Retention { max_age: Some(Duration::from_hours(1)), max_messages: None };
    assert_eq!(fix.store.prune(&ann, hour).await.unwrap(), 0);
    let age = Duration::from_secs(2);
    eventually("they are old", || delivery::clock::now().millis() > sent + 2_000).await;
    fix.send(&[&ann], "young").await;
    let short = Retention { max_age: Some(age), max_messages: None };
    assert_eq!(fix.store.prune(&ann, short).await.unwrap(), 5);
    fix.reopen().await;
    assert_eq!(fix.titles(&ann).await, ["young"]);
    assert_eq!(fix.unread(&ann).await, 1);
}

/// More than one transaction takes, with marks and messages coming in between.
pub(crate) async fn much_goes_piece_by_piece_while_the_inbox_is_used(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let items = (0..900).map(|n| super::fixture::outgoing(&[&ann], &message(&n.to_string())));
    fix.store.append(items.collect::<Vec<_>>().into()).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..4_u64 {
        let (store, ann) = (fix.store.clone(), ann.clone());
        tasks.spawn(async move {
            match task {
                0 | 1 => store.prune(&ann, latest(100)).await.map(drop).unwrap(),
                2 => {
                    for n in 0..30 {
                        let target = MarkTarget::UpTo(Seq(n * 30));
                        store.mark(&ann, None, Mark::Read, target).await.unwrap();
                    }
                }
                _ => {
                    for _ in 0..20 {
                        let head = store.head(&ann).await.unwrap();
                        let list = ListQuery {
                            status: StatusFilter::Unread,
                            size: 1_000,
                            ..ListQuery::default()
                        };
                        let list = store.list(&ann, list).await.unwrap();
                        assert_eq!(list.messages.len() as u64, list.total);
                        assert_eq!(list.unread, list.total);
                        assert!(head.unread >= list.unread, "it only goes down");
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    for _ in 0..2 {
        assert_eq!(fix.titles(&ann).await.len(), 100);
        let unread = ListQuery { status: StatusFilter::Unread, size: 1, ..ListQuery::default() };
        assert_eq!(fix.list(&ann, unread).await.total, fix.unread(&ann).await);
        let page = fix.page(&ann, 0, 1, 1).await;
        let log = fix.page(&ann, page.min_seq.0, usize::MAX, usize::MAX).await.changes;
        assert_eq!(log.len() as u64, page.head.0 - page.min_seq.0);
        fix.reopen().await;
    }
}

pub(crate) async fn nothing_goes_while_the_inbox_cannot_be_written(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..3 {
        fix.send(&[&ann], &n.to_string()).await;
    }
    fix.reopen().await;
    if !fix.backend.refuse_writes(&ann, true) {
        return;
    }
    let refused = fix.store.prune(&ann, latest(1)).await;
    assert!(matches!(refused, Err(StoreError::NotWritable(_))), "{refused:?}");
    assert_eq!((fix.titles(&ann).await.len(), fix.unread(&ann).await), (3, 3));
    fix.backend.refuse_writes(&ann, false);
    // Files that were opened in bad times are opened anew when that is noticed.
    let pruned = match fix.store.prune(&ann, latest(1)).await {
        Err(StoreError::NotWritable(_)) => fix.store.prune(&ann, latest(1)).await,
        pruned => pruned,
    };
    assert_eq!(pruned.unwrap(), 2);
    assert_eq!((fix.titles(&ann).await.len(), fix.unread(&ann).await), (1, 1));
}
