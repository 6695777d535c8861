//! A user who is forgotten, among what waits and what is counted.

use delivery::store::{Audience, Outgoing, SenderKey, SentState, StatsBy, StatsQuery};
use protocol::Seq;

use super::{
    super::fixture::{audience, inbox, message, outgoing, to_audience},
    HOUR, LedgerBackend, LedgerFixture, at, tenant,
};

pub(crate) async fn what_waits_for_it_or_from_it_does_not_come(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let alone = fix.schedule(&[&ann], "to ann", HOUR).await;
    let both = fix.schedule(&[&ann, &bob], "to both", HOUR).await;
    let by_ann = Outgoing {
        sender: SenderKey::User(ann.user.clone()),
        ..outgoing(&[&bob], &message("from ann"))
    };
    let from = by_ann.body.id().clone();
    let mixed = to_audience("default", audience(&["ann"], &["nobody"]), &message("to a role too"));
    let role = mixed.body.id().clone();
    let due = fix.clock.later(HOUR);
    fix.append(vec![at(by_ann, due), at(mixed, due)]).await;
    assert_eq!(fix.books.forget(&ann).await.unwrap(), 0);
    for _ in 0..2 {
        for id in [&alone, &from] {
            assert!(fix.books.sent(&tenant(), id).await.unwrap().is_none());
        }
        let sent = fix.books.sent(&tenant(), &both).await.unwrap().unwrap();
        assert_eq!(sent.audience, Audience::users(vec![bob.user.clone()]));
        assert_eq!(sent.state, SentState::Scheduled);
        let sent = fix.books.sent(&tenant(), &role).await.unwrap().unwrap();
        assert_eq!(sent.audience, audience(&[], &["nobody"]));
        fix.kill().await;
        fix.reopen().await;
    }
    fix.clock.step(2 * HOUR);
    fix.settled("bell").await;
    for _ in 0..2 {
        assert_eq!(fix.arrived(&bob, 1).await, ["to both"]);
        assert_eq!(fix.books.head(&ann).await.unwrap().seq, Seq::ZERO);
        fix.reopen().await;
    }
}

pub(crate) async fn sums_stay(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.send(&[&ann], "one").await;
    fix.send(&[&ann, &bob], "two").await;
    let query = StatsQuery {
        tenant: Some(tenant()),
        from: fix.clock.later(-3 * HOUR),
        to: fix.clock.later(2 * HOUR),
        by: StatsBy::MessageType,
        service: None,
    };
    fix.books.forget(&ann).await.unwrap();
    for _ in 0..2 {
        let rows = fix.books.stats(query.clone()).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.sent).sum::<u64>(), 2);
        fix.reopen().await;
    }
}
