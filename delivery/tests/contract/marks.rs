//! Read, unread, archived.

use delivery::{
    StoreError,
    store::{Change, Mark, MarkTarget, UnreadCounts},
};
use protocol::{DeviceId, Seq, Status};
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, in_millis, inbox, message, words},
};

pub(crate) async fn read_twice_is_no_change(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = fix.send(&[&ann], "x").await;
    let device = DeviceId::new("phone").unwrap();
    let one = || MarkTarget::One { id: id.clone(), expected: None };
    let before = delivery::clock::now();
    let marked = fix.store.mark(&ann, Some(device.clone()), Mark::Read, one()).await.unwrap();
    assert_eq!((marked.changed, marked.head.seq, marked.head.unread), (1, Seq(2), 0));
    let state = marked.message.unwrap().state;
    assert_eq!((state.seq, state.version), (Seq(1), Seq(2)));
    assert_eq!((state.is_read, state.status), (true, Status::Read));
    assert!((before..=delivery::clock::now()).contains(&state.read_at.unwrap()));

    let again = fix.store.mark(&ann, None, Mark::Read, one()).await.unwrap();
    assert_eq!((again.changed, again.head), (0, marked.head));
    assert_eq!(again.message.unwrap().state, state);
    let log = fix.log(&ann).await;
    assert_eq!(log.len(), 2);
    let Change::Status(change) = &log[1].change else { panic!("{log:?}") };
    assert_eq!(change.message_id, id);
    assert_eq!((change.status, change.device.as_ref()), (Status::Read, Some(&device)));
    // At the seq of its creation it is read by now.
    let Change::Message { state: replayed, .. } = &log[0].change else { panic!("{log:?}") };
    assert_eq!(*replayed, state);
}

pub(crate) async fn unread_and_archive_have_their_rules(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = fix.send(&[&ann], "x").await;
    for (mark, changed, status) in [
        (Mark::Unread, 0, Status::Unread),
        (Mark::Read, 1, Status::Read),
        (Mark::Unread, 1, Status::Unread),
        (Mark::Archive, 1, Status::Archived),
        (Mark::Archive, 0, Status::Archived),
        (Mark::Read, 0, Status::Archived),
        (Mark::Unread, 0, Status::Archived),
    ] {
        let marked = fix.mark_one(&ann, mark, &id).await.unwrap();
        assert_eq!(marked.changed, changed, "{mark:?}");
        let state = marked.message.unwrap().state;
        assert_eq!((state.status, state.is_read), (status, status.is_read()), "{mark:?}");
        assert_eq!(state.read_at.is_some(), state.is_read, "{mark:?}");
        assert_eq!(fix.store.get(&ann, &id).await.unwrap().state, state);
        assert_eq!(fix.unread(&ann).await, u64::from(!state.is_read));
    }
    assert_eq!(fix.log(&ann).await.len(), 4, "one seq for each change");
}

pub(crate) async fn a_version_that_is_stale_is_a_conflict(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = fix.send(&[&ann], "x").await;
    let mark = async |mark, expected| {
        let target = MarkTarget::One { id: id.clone(), expected: Some(Seq(expected)) };
        fix.store.mark(&ann, None, mark, target).await
    };
    assert_eq!(mark(Mark::Read, 1).await.unwrap().changed, 1);
    for (what, stale) in [(Mark::Unread, 1), (Mark::Read, 1), (Mark::Archive, 3), (Mark::Read, 0)] {
        match mark(what, stale).await {
            Err(StoreError::VersionConflict(current)) => {
                assert_eq!((current.state.version, current.state.is_read), (Seq(2), true));
            }
            other => panic!("{what:?} of version {stale}: {other:?}"),
        }
    }
    assert_eq!(fix.log(&ann).await.len(), 2);
    assert_eq!(mark(Mark::Unread, 2).await.unwrap().head.seq, Seq(3));
}

pub(crate) async fn many_up_to_and_channel_mark_what_they_name(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 0..8 {
        let mut fields = message(&n.to_string());
        fields.channel_id = (n % 2 == 0).then(|| "even".parse().unwrap());
        ids.push(fix.send_as(&[&ann], &fields).await);
    }
    let unknown = "no-such".parse().unwrap();
    let many = vec![ids[6].clone(), unknown, ids[1].clone(), ids[6].clone()];
    let marked = fix.mark(&ann, Mark::Read, MarkTarget::Many(many)).await;
    assert_eq!((marked.changed, marked.head.seq, marked.head.unread), (2, Seq(10), 6));
    let marked = fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(3))).await;
    assert_eq!((marked.changed, marked.head.unread), (2, 4), "0 and 2; 1 was read");
    let marked = fix.mark(&ann, Mark::Archive, MarkTarget::Channel("even".into())).await;
    assert_eq!((marked.changed, marked.head.unread), (4, 3), "4 was unread");
    assert_eq!(fix.mark(&ann, Mark::Read, MarkTarget::Channel("odd".into())).await.changed, 0);
    assert_eq!(fix.mark(&ann, Mark::Read, MarkTarget::Many(vec![])).await.changed, 0);
    let marked = fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(u64::MAX))).await;
    assert_eq!((marked.changed, marked.head.unread), (3, 0));
    assert_eq!(marked.head.seq, Seq(8 + 2 + 2 + 4 + 3));
    let log = words(&fix.log(&ann).await);
    assert_eq!(log.len(), 19);
    assert!(log.iter().zip(1..).all(|((seq, _), at)| *seq == at));
}

pub(crate) async fn what_is_unknown_is_not_found(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, never) = (inbox("ann"), inbox("never"));
    fix.send(&[&ann], "x").await;
    let unknown = "no-such".parse().unwrap();
    for key in [&ann, &never] {
        assert!(matches!(fix.mark_one(key, Mark::Read, &unknown).await, Err(StoreError::NotFound)));
        assert!(matches!(fix.store.get(key, &unknown).await, Err(StoreError::NotFound)));
    }
    assert_eq!(fix.mark(&never, Mark::Read, MarkTarget::UpTo(Seq(9))).await.changed, 0);
    assert_eq!(fix.log(&never).await.len(), 0);
}

pub(crate) async fn concurrent_marks_count_once(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..40 {
        fix.send(&[&ann], &n.to_string()).await;
    }
    let mut tasks = JoinSet::new();
    for task in 0..12 {
        let (store, ann) = (fix.store.clone(), ann.clone());
        tasks.spawn(async move {
            let target = match task % 3 {
                0 => MarkTarget::UpTo(Seq(40)),
                1 => MarkTarget::UpTo(Seq(20)),
                _ => MarkTarget::UpTo(Seq(task)),
            };
            store.mark(&ann, None, Mark::Read, target).await.unwrap().changed
        });
    }
    let changed: u64 = tasks.join_all().await.iter().sum();
    assert_eq!((changed, fix.unread(&ann).await), (40, 0));
    assert_eq!(fix.log(&ann).await.len(), 80);
}

pub(crate) async fn unread_is_counted_by_channel(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for channel in [None, Some("b"), Some("a"), Some("b"), None, Some("界"), Some("b")] {
        let mut fields = message("x");
        fields.channel_id = channel.map(|channel| channel.parse().unwrap());
        fix.send_as(&[&ann], &fields).await;
    }
    let mut past = message("past");
    (past.channel_id, past.expire_at) = (Some("a".parse().unwrap()), Some(in_millis(-1_000)));
    fix.send_as(&[&ann], &past).await;
    let counts = |direct, channels: &[(&str, u64)]| UnreadCounts {
        total: direct + channels.iter().map(|(_, count)| count).sum::<u64>(),
        direct,
        channels: channels.iter().map(|(id, count)| (id.parse().unwrap(), *count)).collect(),
    };
    let unread = fix.store.unread(&ann).await.unwrap();
    assert_eq!(unread, counts(2, &[("a", 1), ("b", 3), ("界", 1)]));
    fix.mark(&ann, Mark::Archive, MarkTarget::Channel("a".into())).await;
    fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(2))).await;
    for _ in 0..2 {
        let unread = fix.store.unread(&ann).await.unwrap();
        assert_eq!(unread, counts(1, &[("b", 2), ("界", 1)]));
        assert_eq!(unread.total, fix.unread(&ann).await);
        fix.reopen().await;
    }
    let never = fix.store.unread(&inbox("never")).await.unwrap();
    assert_eq!(never, UnreadCounts::default());
}
