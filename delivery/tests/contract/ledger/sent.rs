//! What was sent.

use std::sync::Arc;

use delivery::store::{Audience, Group, Outgoing, SenderKey, SentState, limits};
use protocol::{MessageId, TenantId};

use super::{
    super::fixture::{inbox, inbox_of, message, outgoing, to_everyone},
    LedgerBackend, LedgerFixture, at, tenant,
};

pub(crate) async fn what_was_sent_is_known_to_its_tenant(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox_of("t2", "eve"));
    let mut fields = message("one");
    fields.id = "msg-019abc0012347def8123456789abcdef".parse().unwrap();
    let before = fix.clock.now();
    fix.append(vec![outgoing(&[&ann, &bob, &ann], &fields)]).await;
    let after = fix.clock.now();
    let group = Outgoing {
        sender: SenderKey::Service("shop:1".parse().unwrap()),
        audience: Audience::Some {
            users: Arc::from([ann.user.clone()]),
            groups: Arc::from([
                Group::Channel("news".parse().unwrap()),
                Group::Role("department:研发".parse().unwrap()),
            ]),
        },
        ..outgoing(&[&ann], &message("group"))
    };
    let (group_id, audience) = (group.body.id().clone(), group.audience.clone());
    let all = to_everyone("t2", &message("all"));
    let all_id = all.body.id().clone();
    fix.append(vec![group, all, outgoing(&[&eve], &message("eve's"))]).await;
    for round in 0..4 {
        let told = format!("round {round}");
        let one = fix.books.sent(&tenant(), &fields.id).await.unwrap().expect(&told);
        assert_eq!((&one.id, one.state), (&fields.id, SentState::Sent), "{told}");
        assert_eq!(one.sender, SenderKey::User("sender".parse().unwrap()), "{told}");
        let users = vec![ann.user.clone(), bob.user.clone()];
        assert_eq!(one.audience, Audience::users(users), "{told}");
        assert!(before <= one.accepted_at && one.accepted_at <= after, "{told}");
        assert_eq!((one.scheduled_at, one.sent_at), (None, Some(one.accepted_at)), "{told}");
        let sent = fix.books.sent(&tenant(), &group_id).await.unwrap().expect(&told);
        assert_eq!(sent.sender, SenderKey::Service("shop:1".parse().unwrap()), "{told}");
        assert_eq!(sent.audience, audience, "{told}");
        let t2 = TenantId::new("t2").unwrap();
        let sent = fix.books.sent(&t2, &all_id).await.unwrap().expect(&told);
        assert_eq!((sent.sender, sent.audience), (SenderKey::Admin, Audience::Everyone), "{told}");
        // Walls.
        assert!(fix.books.sent(&t2, &fields.id).await.unwrap().is_none(), "{told}");
        assert!(fix.books.sent(&tenant(), &all_id).await.unwrap().is_none(), "{told}");
        let unknown = MessageId::new("msg-019abc0012347def8123456789abcdee").unwrap();
        assert!(fix.books.sent(&tenant(), &unknown).await.unwrap().is_none(), "{told}");
        if round % 2 == 0 {
            fix.kill().await;
        } else {
            fix.reopen().await;
        }
    }
}

pub(crate) async fn nothing_is_lost_or_doubled_by_reopening(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids: Vec<(MessageId, SentState)> = Vec::new();
    for round in 0..6 {
        for n in 0..50 {
            ids.push((fix.send(&[&ann], &format!("{round}.{n}")).await, SentState::Sent));
        }
        let item = at(outgoing(&[&ann], &message("later")), fix.clock.later(super::HOUR));
        ids.push((item.body.id().clone(), SentState::Scheduled));
        fix.append(vec![item]).await;
        let recalled = fix.send(&[&inbox("bob")], "recalled").await;
        assert_eq!(fix.books.recall(&tenant(), &recalled).await.unwrap(), SentState::Recalled);
        ids.push((recalled, SentState::Recalled));
        let cancelled = fix.schedule(&[&ann], "cancelled", super::HOUR).await;
        fix.books.cancel(&tenant(), &cancelled).await.unwrap();
        ids.push((cancelled, SentState::Cancelled));
        if round % 2 == 0 {
            fix.kill().await;
        } else {
            fix.reopen().await;
        }
        for (id, state) in &ids {
            let sent = fix.books.sent(&tenant(), id).await.unwrap();
            assert_eq!(sent.map(|sent| sent.state), Some(*state), "{id} in round {round}");
        }
        assert_eq!(fix.titles(&ann).await.len(), 50 * (round + 1));
    }
}

/// Pages of what a sender sent, until there is no more.
async fn sent_by<B: LedgerBackend>(
    fix: &LedgerFixture<B>,
    of: &TenantId,
    sender: &SenderKey,
    limit: usize,
) -> Vec<(MessageId, SentState)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = fix.books.sent_by(of, sender, after.as_ref(), limit).await.unwrap();
        assert!(page.messages.len() <= limit);
        assert!(page.messages.iter().all(|message| message.sender == *sender));
        found.extend(page.messages.into_iter().map(|message| (message.id, message.state)));
        if page.next.is_none() {
            return found;
        }
        assert_ne!(page.next, after, "it goes on");
        after = page.next;
    }
}

pub(crate) async fn what_a_sender_has_sent_comes_in_pages_each_once(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, t2) = (inbox("ann"), TenantId::new("t2").unwrap());
    let sender = SenderKey::User("sender".parse().unwrap());
    let mut expected = Vec::new();
    for n in 0..10 {
        expected.push((fix.send(&[&ann], &format!("{n}")).await, SentState::Sent));
        // As a send makes them, and one of the same id behind another wall.
        let mut fields = message("uuid");
        fields.id = format!("msg-019abc0012347def8123456789abcd{n:02x}").parse().unwrap();
        fix.append(vec![outgoing(&[&ann], &fields)]).await;
        fix.append(vec![outgoing(&[&inbox_of("t2", "ann")], &fields)]).await;
        expected.push((fields.id, SentState::Sent));
    }
    fix.books.recall(&tenant(), &expected[3].0).await.unwrap();
    expected[3].1 = SentState::Recalled;
    let later = at(outgoing(&[&ann], &message("later")), fix.clock.later(super::HOUR));
    expected.push((later.body.id().clone(), SentState::Scheduled));
    // More of somebody else than one look goes through, in between.
    let other = SenderKey::User("sende".parse().unwrap());
    let of_other = (0..limits::SENT_LOOK_MAX + 100).map(|_| Outgoing {
        sender: other.clone(),
        ..outgoing(&[&inbox("bob")], &message("other"))
    });
    let of_other: Vec<Outgoing> = of_other.collect();
    let count = of_other.len();
    fix.append(of_other).await;
    fix.append(vec![later]).await;
    expected.push((fix.send(&[&ann], "last").await, SentState::Sent));
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    for limit in [1, 7, 1_000] {
        let mut found = sent_by(&fix, &tenant(), &sender, limit).await;
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(found, expected, "{limit} a page");
        fix.reopen().await;
    }
    assert_eq!(sent_by(&fix, &tenant(), &other, 500).await.len(), count);
    assert_eq!(sent_by(&fix, &t2, &sender, 3).await.len(), 10);
    let nobody = SenderKey::Service("sender".parse().unwrap());
    assert!(sent_by(&fix, &tenant(), &nobody, 10).await.is_empty());
    assert!(sent_by(&fix, &TenantId::new("t3").unwrap(), &sender, 10).await.is_empty());
}
