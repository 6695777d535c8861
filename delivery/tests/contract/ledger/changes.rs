//! Edits, recalls and cancellations.

use std::{sync::Arc, time::Duration};

use delivery::{
    StoreError,
    store::{Audience, Outgoing, SenderKey, SentState},
};
use protocol::{MessageFields, MessageId};
use tokio::task::JoinSet;

use super::{
    super::fixture::{inbox, message, outgoing, title, to_everyone},
    HOUR, LedgerBackend, LedgerFixture, edited, tenant,
};

async fn says<B: LedgerBackend>(fix: &LedgerFixture<B>, id: &MessageId) -> Option<String> {
    fix.books.sent_body(&tenant(), id).await.unwrap().map(|body| title(&body))
}

async fn state<B: LedgerBackend>(fix: &LedgerFixture<B>, id: &MessageId) -> SentState {
    fix.books.sent(&tenant(), id).await.unwrap().unwrap().state
}

pub(crate) async fn an_edit_over_what_is_not_there_any_more_changes_nothing(
    backend: impl LedgerBackend,
) {
    let mut fix = LedgerFixture::new(backend).await;
    let (now, later) = (message("one"), message("one"));
    fix.append(vec![outgoing(&[&inbox("ann")], &now)]).await;
    let due = Some(fix.clock.later(HOUR));
    fix.append(vec![Outgoing { scheduled_at: due, ..outgoing(&[&inbox("ann")], &later) }]).await;
    for fields in [&now, &later] {
        let id = &fields.id;
        let over = fix.books.sent_body(&tenant(), id).await.unwrap();
        fix.books.edit(&tenant(), id, over.clone(), edited(fields, "two")).await.unwrap();
        let raced = fix.books.edit(&tenant(), id, over, edited(fields, "lost")).await;
        assert!(matches!(raced, Err(StoreError::Raced)), "{raced:?}");
        assert_eq!(says(&fix, id).await.as_deref(), Some("two"));
    }
    fix.kill().await;
    for fields in [&now, &later] {
        let over = fix.books.sent_body(&tenant(), &fields.id).await.unwrap();
        fix.books.edit(&tenant(), &fields.id, over, edited(fields, "three")).await.unwrap();
        assert_eq!(says(&fix, &fields.id).await.as_deref(), Some("three"));
    }
}

pub(crate) async fn a_sent_message_is_edited_and_recalled(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let fields = message("first");
    fix.append(vec![outgoing(&[&inbox("ann")], &fields)]).await;
    let id = fields.id.clone();
    assert_eq!(says(&fix, &id).await.as_deref(), Some("first"));
    for word in ["second", "third"] {
        fix.books.edit(&tenant(), &id, None, edited(&fields, word)).await.unwrap();
        assert_eq!(says(&fix, &id).await.as_deref(), Some(word));
    }
    fix.kill().await;
    assert_eq!(says(&fix, &id).await.as_deref(), Some("third"));
    assert_eq!(state(&fix, &id).await, SentState::Sent);
    let cancelled = fix.books.cancel(&tenant(), &id).await;
    assert!(matches!(cancelled, Err(StoreError::Conflict(_))), "{cancelled:?}");
    for _ in 0..2 {
        assert_eq!(fix.books.recall(&tenant(), &id).await.unwrap(), SentState::Recalled);
        assert_eq!(says(&fix, &id).await, None);
        fix.reopen().await;
        assert_eq!(state(&fix, &id).await, SentState::Recalled);
    }
    let edit = fix.books.edit(&tenant(), &id, None, edited(&fields, "late")).await;
    assert!(matches!(edit, Err(StoreError::Conflict(_))), "{edit:?}");
    let cancelled = fix.books.cancel(&tenant(), &id).await;
    assert!(matches!(cancelled, Err(StoreError::Conflict(_))), "{cancelled:?}");
    // Walls, and what is not there.
    let mine = fix.send(&[&inbox("ann")], "mine").await;
    let other = protocol::TenantId::new("t2").unwrap();
    let nobody = MessageId::new("nobody's").unwrap();
    for (tenant, id) in [(other, mine.clone()), (tenant(), nobody)] {
        let body = edited(&MessageFields { id: id.clone(), ..message("x") }, "y");
        let edit = fix.books.edit(&tenant, &id, None, body).await;
        assert!(matches!(edit, Err(StoreError::NotFound)), "{edit:?}");
        let recall = fix.books.recall(&tenant, &id).await;
        assert!(matches!(recall, Err(StoreError::NotFound)), "{recall:?}");
        let cancel = fix.books.cancel(&tenant, &id).await;
        assert!(matches!(cancel, Err(StoreError::NotFound)), "{cancel:?}");
        assert!(fix.books.sent_body(&tenant, &id).await.unwrap().is_none());
    }
    assert_eq!(says(&fix, &mine).await.as_deref(), Some("mine"));
}

pub(crate) async fn a_recall_is_published_once(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let _guards =
        [fix.books.watch(&ann).await.unwrap().guard, fix.books.watch(&bob).await.unwrap().guard];
    let id = fix.send(&[&ann], "x").await;
    for _ in 0..3 {
        fix.books.recall(&tenant(), &id).await.unwrap();
    }
    let next = fix.send(&[&ann, &bob], "y").await;
    super::super::fixture::eventually("three changes", || fix.published.seqs(&ann).len() >= 3)
        .await;
    assert_eq!(fix.published.seqs(&ann), [1, 2, 3]);
    super::super::fixture::eventually("one change", || !fix.published.seqs(&bob).is_empty()).await;
    assert_eq!(fix.published.seqs(&bob), [1], "nobody else is told of it");
    assert_eq!(state(&fix, &next).await, SentState::Sent);
}

/// In the inboxes of those who were named, once for all, or where an edit put it.
pub(crate) async fn what_is_said_now_is_found_wherever_it_stands(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let many: Vec<_> = (0..20).map(|n| inbox(&format!("u{n}"))).collect();
    let many_id = fix.send(&many.iter().collect::<Vec<_>>(), "to many").await;
    let all = message("to all");
    fix.append(vec![to_everyone("default", &all)]).await;
    let empty = Outgoing {
        tenant: tenant(),
        sender: SenderKey::Admin,
        audience: Audience::group(delivery::store::Group::Role("nobody has it".parse().unwrap())),
        body: edited(&message("x"), "to a group"),
        scheduled_at: None,
    };
    let group_id = empty.body.id().clone();
    fix.append(vec![empty]).await;
    let later = fix.schedule(&[&inbox("ann")], "later", HOUR).await;
    for round in 0..3 {
        assert_eq!(says(&fix, &many_id).await.as_deref(), Some("to many"), "{round}");
        assert_eq!(says(&fix, &all.id).await.as_deref(), Some("to all"), "{round}");
        assert_eq!(says(&fix, &group_id).await.as_deref(), Some("to a group"), "{round}");
        assert_eq!(says(&fix, &later).await.as_deref(), Some("later"), "{round}");
        if round == 0 {
            fix.kill().await;
        } else {
            fix.reopen().await;
        }
    }
    fix.books.edit(&tenant(), &all.id, None, edited(&all, "edited")).await.unwrap();
    assert_eq!(says(&fix, &all.id).await.as_deref(), Some("edited"));
    fix.reopen().await;
    assert_eq!(says(&fix, &all.id).await.as_deref(), Some("edited"));
}

pub(crate) async fn a_scheduled_message_is_edited_and_cancelled(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let fields = message("draft");
    let one = fix.schedule_as(&[&ann], &fields, HOUR).await;
    let two = fix.schedule(&[&ann], "cancelled", HOUR).await;
    let three = fix.schedule(&[&ann], "recalled", HOUR).await;
    let accepted = fix.books.sent(&tenant(), &one).await.unwrap().unwrap().accepted_at;
    fix.books.edit(&tenant(), &one, None, edited(&fields, "final")).await.unwrap();
    assert_eq!(says(&fix, &one).await.as_deref(), Some("final"));
    for _ in 0..2 {
        fix.books.cancel(&tenant(), &two).await.unwrap();
        assert_eq!(fix.books.recall(&tenant(), &three).await.unwrap(), SentState::Cancelled);
        assert_eq!((says(&fix, &two).await, says(&fix, &three).await), (None, None));
        fix.kill().await;
    }
    let two_fields = MessageFields { id: two.clone(), ..message("late") };
    let edit = fix.books.edit(&tenant(), &two, None, edited(&two_fields, "late")).await;
    assert!(matches!(edit, Err(StoreError::Conflict(_))), "{edit:?}");
    fix.clock.step(2 * HOUR);
    assert_eq!(fix.arrived(&ann, 1).await, ["final"]);
    fix.settled("bell").await;
    assert_eq!(fix.titles(&ann).await, ["final"]);
    let sent = fix.books.sent(&tenant(), &one).await.unwrap().unwrap();
    assert_eq!((sent.state, sent.accepted_at), (SentState::Sent, accepted));
    for id in [&two, &three] {
        assert_eq!(state(&fix, id).await, SentState::Cancelled);
    }
    // From here on it is like any other.
    fix.books.edit(&tenant(), &one, None, edited(&fields, "afterwards")).await.unwrap();
    assert_eq!(says(&fix, &one).await.as_deref(), Some("afterwards"));
    assert_eq!(fix.books.recall(&tenant(), &one).await.unwrap(), SentState::Recalled);
}

pub(crate) async fn concurrent_changes_of_one_message_are_in_one_order(
    backend: impl LedgerBackend,
) {
    let mut fix = LedgerFixture::new(backend).await;
    for round in 0..10 {
        let fields = message("first");
        fix.append(vec![outgoing(&[&inbox("ann")], &fields)]).await;
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let (books, fields) = (fix.books.clone(), fields.clone());
            tasks.spawn(async move {
                if n == 10 {
                    let state = books.recall(&tenant(), &fields.id).await.unwrap();
                    assert_eq!(state, SentState::Recalled);
                    return None;
                }
                let body = edited(&fields, &n.to_string());
                match books.edit(&tenant(), &fields.id, None, body).await {
                    Ok(()) => Some(true),
                    Err(StoreError::Conflict(_)) => Some(false),
                    Err(error) => panic!("{error}"),
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(state(&fix, &fields.id).await, SentState::Recalled, "round {round}");
        assert_eq!(says(&fix, &fields.id).await, None, "round {round}");
    }
    // Without a recall one of the edits is the last one, for good.
    let fields = message("first");
    fix.append(vec![outgoing(&[&inbox("ann")], &fields)]).await;
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (books, fields) = (fix.books.clone(), fields.clone());
        tasks.spawn(async move {
            books.edit(&tenant(), &fields.id, None, edited(&fields, &n.to_string())).await.unwrap();
        });
    }
    tasks.join_all().await;
    let last = says(&fix, &fields.id).await.unwrap();
    assert!(last.parse::<u32>().is_ok_and(|n| n < 20), "{last}");
    fix.kill().await;
    assert_eq!(says(&fix, &fields.id).await, Some(last));
}

pub(crate) async fn a_dropped_future_leaves_no_lock_behind(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let (ann, books) = (inbox("ann"), Arc::clone(&fix.books));
    let fields = message("first");
    fix.append(vec![outgoing(&[&ann], &fields)]).await;
    for n in 0..60_u64 {
        let edit = books.edit(&tenant(), &fields.id, None, edited(&fields, &n.to_string()));
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), edit).await;
        let waiting = fix.schedule(&[&ann], "w", HOUR).await;
        let cancel = books.cancel(&tenant(), &waiting);
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), cancel).await;
    }
    let last = books.edit(&tenant(), &fields.id, None, edited(&fields, "last"));
    tokio::time::timeout(Duration::from_secs(10), last).await.unwrap().unwrap();
    assert_eq!(says(&fix, &fields.id).await.as_deref(), Some("last"));
    fix.schedule(&[&inbox("bob")], "due", 1).await;
    assert_eq!(fix.arrived(&inbox("bob"), 1).await, ["due"]);
}
