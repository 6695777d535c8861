//! Messages to everyone.

use delivery::store::{Mark, MarkTarget};
use protocol::Seq;

use super::{
    Backend,
    fixture::{Fixture, inbox, inbox_of, message, outgoing, to_everyone, words},
};

fn seqs(expected: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(expected.iter().map(ToString::to_string)).collect()
}

pub(crate) async fn reaches_who_exists_in_order_with_direct_messages(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    fix.send(&[&ann], "hello ann").await;
    drop(fix.store.watch(&bob).await.unwrap());
    let items = vec![
        outgoing(&[&ann], &message("first")),
        to_everyone("default", &message("notice")),
        outgoing(&[&ann, &eve], &message("last")),
    ];
    fix.store.append(items.into()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(words(&fix.log(&ann).await), seqs(&["hello ann", "first", "notice", "last"]));
        assert_eq!(words(&fix.log(&bob).await), seqs(&["notice"]), "was here once");
        assert_eq!(words(&fix.log(&eve).await), seqs(&["last"]), "came after it");
        assert_eq!(fix.log(&inbox("never")).await.len(), 0);
        fix.reopen().await;
    }
}

pub(crate) async fn is_merged_for_users_that_were_not_watched(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    fix.send(&[&ann], "1").await;
    for n in 2..=6 {
        let fields = message(&n.to_string());
        let item =
            if n % 2 == 0 { to_everyone("default", &fields) } else { outgoing(&[&ann], &fields) };
        fix.store.append(vec![item].into()).await.unwrap();
        if n == 4 {
            fix.reopen().await;
        }
    }
    assert_eq!(fix.unread(&ann).await, 6, "counted without being looked at");
    let marked = fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(4))).await;
    assert_eq!((marked.changed, marked.head.unread), (4, 2));
    assert_eq!(fix.titles(&ann).await, ["1", "2", "3", "4", "5", "6"]);
    fix.reopen().await;
    assert_eq!(fix.unread(&ann).await, 2);
    assert_eq!(fix.log(&ann).await.len(), 10);
}

pub(crate) async fn stays_in_its_tenant(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ours, theirs) = (inbox("ann"), inbox_of("t2", "ann"));
    fix.send(&[&ours], "ours").await;
    fix.send(&[&theirs], "theirs").await;
    fix.store.append(vec![to_everyone("t2", &message("notice"))].into()).await.unwrap();
    assert_eq!(fix.titles(&ours).await, ["ours"]);
    assert_eq!(fix.titles(&theirs).await, ["theirs", "notice"]);
}

pub(crate) async fn is_published_to_who_is_watched(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let watched: Vec<_> = (0..20).map(|n| inbox(&format!("u{n}"))).collect();
    let mut watches = vec![];
    for key in &watched {
        watches.push(fix.store.watch(key).await.unwrap());
    }
    fix.store.append(vec![to_everyone("default", &message("one"))].into()).await.unwrap();
    fix.send(&[&watched[3]], "direct").await;
    fix.store.append(vec![to_everyone("default", &message("two"))].into()).await.unwrap();
    for (at, key) in watched.iter().enumerate() {
        let count: u64 = if at == 3 { 3 } else { 2 };
        let told = fix.told(key, usize::try_from(count).unwrap()).await;
        assert_eq!(told, (1..=count).collect::<Vec<_>>());
    }
}
