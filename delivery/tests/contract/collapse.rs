//! Messages that take the place of older ones.

use delivery::{
    InboxKey, StoreError,
    store::{Change, ListQuery, Mark, MarkTarget, StatusFilter},
};
use protocol::{MessageId, Seq, Status};

use super::{
    Backend,
    fixture::{Fixture, inbox, message, to_everyone, words},
};

async fn send<B: Backend>(
    fix: &Fixture<B>,
    to: &InboxKey,
    title: &str,
    sender: &str,
    key: Option<&str>,
) -> MessageId {
    let mut fields = message(title);
    sender.clone_into(&mut fields.sender);
    fields.collapse_key = key.map(ToOwned::to_owned);
    fix.send_as(&[to], &fields).await
}

pub(crate) async fn a_newer_one_takes_the_place_of_unread_older_ones(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let read = send(&fix, &ann, "read", "ci", Some("build")).await;
    fix.mark_one(&ann, Mark::Read, &read).await.unwrap();
    let watch = fix.store.watch(&ann).await.unwrap();
    let older = send(&fix, &ann, "older", "ci", Some("build")).await;
    send(&fix, &ann, "other key", "ci", Some("deploy")).await;
    send(&fix, &ann, "other sender", "bot", Some("build")).await;
    send(&fix, &ann, "no key", "ci", None).await;
    assert_eq!(fix.unread(&ann).await, 4);
    send(&fix, &ann, "newer", "ci", Some("build")).await;
    assert_eq!(fix.store.head(&ann).await.unwrap().seq, Seq(7), "it takes no seq more");
    assert_eq!(fix.told(&ann, 5).await, [3, 4, 5, 6, 7]);
    drop(watch);
    for _ in 0..2 {
        assert_eq!(fix.unread(&ann).await, 4);
        let shown = ["read", "other key", "other sender", "no key", "newer"];
        assert_eq!(fix.titles(&ann).await, shown);
        for status in [StatusFilter::Unread, StatusFilter::All, StatusFilter::Inbox] {
            let query = ListQuery { status, recalled: true, size: 10, ..ListQuery::default() };
            let page = fix.list(&ann, query).await;
            assert_eq!(page.total, page.messages.len() as u64);
            assert!(page.messages.iter().all(|message| *message.body.id() != older));
        }
        let log = fix.log(&ann).await;
        assert_eq!(words(&log)[2], (3, format!("{older} collapsed")));
        let Change::Status(change) = &log[2].change else { panic!("{log:?}") };
        assert!(change.at > protocol::Time::default() && change.at <= delivery::clock::now());
        assert!(matches!(fix.store.get(&ann, &older).await, Err(StoreError::NotFound)));
        let marked = fix.mark(&ann, Mark::Read, MarkTarget::Many(vec![older.clone()])).await;
        assert_eq!(marked.changed, 0);
        fix.reopen().await;
    }
}

/// Counting goes on in memory, where only the file knows what vanished.
pub(crate) async fn counts_stay_right_while_they_come_and_go(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.send(&[&ann, &bob], "first").await;
    for n in 0_u64..60 {
        let mut fields = message(&n.to_string());
        fields.collapse_key = Some((n % 3).to_string());
        if n % 2 == 0 {
            fix.store.append(vec![to_everyone("default", &fields)].into()).await.unwrap();
        } else {
            fix.send_as(&[&ann, &bob], &fields).await;
        }
        let expected = 1 + 3.min(n + 1);
        assert_eq!(fix.unread(&ann).await, expected, "after {n}");
        if n % 7 == 0 {
            assert_eq!(fix.unread(&bob).await, expected);
        }
        if n % 5 == 0 {
            let target = MarkTarget::UpTo(Seq(1));
            fix.mark(&ann, Mark::Read, target.clone()).await;
            assert_eq!(fix.unread(&ann).await, expected - 1, "read after {n}");
            fix.mark(&ann, Mark::Unread, target).await;
        }
    }
    let states: Vec<Status> = fix.log(&bob).await.iter().fold(vec![], |mut states, stored| {
        states.push(match &stored.change {
            Change::Message { state, .. } => state.status,
            Change::Status(change) => change.status,
        });
        states
    });
    assert_eq!(states.iter().filter(|status| **status == Status::Collapsed).count(), 57);
}

/// Nobody can be asked what vanished but a draft of the file.
pub(crate) async fn counts_stay_right_while_the_inbox_cannot_be_written(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    send(&fix, &ann, "1", "ci", Some("build")).await;
    send(&fix, &ann, "2", "ci", None).await;
    fix.reopen().await;
    if !fix.backend.refuse_writes(&ann, true) {
        return;
    }
    for n in 3..6 {
        send(&fix, &ann, &n.to_string(), "ci", Some("build")).await;
        assert_eq!(fix.unread(&ann).await, 2, "after {n}");
        let unread = fix.store.unread(&ann).await.unwrap();
        assert_eq!((unread.total, unread.direct), (2, 2));
    }
    let read = fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(2))).await;
    assert_eq!((read.changed, read.head.unread), (1, 1), "the first is collapsed");
    for refused in [true, false, false] {
        assert_eq!(fix.titles(&ann).await, ["2", "5"], "refused: {refused}");
        assert_eq!((fix.unread(&ann).await, fix.log(&ann).await.len()), (1, 6));
        assert_eq!(fix.store.watch(&ann).await.unwrap().head.unread, 1);
        if refused {
            fix.backend.refuse_writes(&ann, false);
        } else {
            fix.reopen().await;
        }
    }
}
