//! Edits and recalls, as recipients see them; the model has more of them.

use std::sync::Arc;

use delivery::{
    InboxKey,
    store::{Change, Mark, Stored},
};
use protocol::{Body, MessageFields, Status};

use super::{
    Backend,
    fixture::{Fixture, in_millis, inbox, message, title, to_everyone},
};

async fn edit<B: Backend>(fix: &Fixture<B>, inbox: &InboxKey, fields: &MessageFields) {
    let body = Arc::new(Body::new(fields));
    fix.store.edit(&inbox.tenant, &fields.id, None, body).await.unwrap();
}

/// Title, status and whether it says when it was read.
fn shown(change: &Stored) -> (u64, String, Status, bool) {
    match &change.change {
        Change::Message { state, body } => {
            (change.seq.0, title(body), state.status, state.read_at.is_some())
        }
        Change::Status(status) => {
            (change.seq.0, status.message_id.to_string(), status.status, false)
        }
    }
}

pub(crate) async fn are_told_as_what_the_message_is_then(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut fields = message("first");
    fields.expire_at = Some(in_millis(3_600_000));
    let watch = fix.store.watch(&ann).await.unwrap();
    fix.send_as(&[&ann], &fields).await;
    fix.mark_one(&ann, Mark::Read, &fields.id).await.unwrap();
    fields.title = "second".to_owned();
    edit(&fix, &ann, &fields).await;
    fix.told(&ann, 3).await;
    fields.title = "third".to_owned();
    edit(&fix, &ann, &fields).await;
    fix.told(&ann, 4).await;
    let message = |seq, title: &str| (seq, title.to_owned(), Status::Read, true);
    let told = fix.published.changes(&ann);
    let told: Vec<_> = told.iter().map(shown).collect();
    assert_eq!(told[2..], [message(3, "second"), message(4, "third")]);
    let id = fields.id.to_string();
    let log = || async { fix.log(&ann).await.iter().map(shown).collect::<Vec<_>>() };
    assert_eq!(
        log().await,
        [
            message(1, "third"),
            (2, id.clone(), Status::Read, false),
            message(3, "third"),
            message(4, "third"),
        ]
    );
    // Even where a page has room for one of them only.
    for since in [0, 2, 3] {
        let page = fix.page(&ann, since, 9, 1).await;
        assert_eq!((page.changes.len(), page.changes[0].seq.0), (1, since + 1));
    }
    fix.store.recall(&ann.tenant, &fields.id).await.unwrap();
    fix.told(&ann, 5).await;
    let recalled = |seq| (seq, id.clone(), Status::Recalled, false);
    assert_eq!(fix.published.changes(&ann).last().map(shown), Some(recalled(5)));
    let expected =
        [recalled(1), (2, id.clone(), Status::Read, false), recalled(3), recalled(4), recalled(5)];
    assert_eq!(log().await, expected);
    let Change::Status(at_recall) = &fix.log(&ann).await[4].change else { panic!() };
    let Change::Status(at_first) = &fix.log(&ann).await[0].change else { panic!() };
    assert_eq!(at_first.at, at_recall.at, "when it was recalled, not when somebody looked");
    drop(watch);
    fix.reopen().await;
    assert_eq!(fix.log(&ann).await.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(fix.unread(&ann).await, 0);
}

pub(crate) async fn who_came_after_a_message_to_everyone_hears_nothing(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    fix.send(&[&ann], "1").await;
    drop(fix.store.watch(&bob).await.unwrap());
    let notice = message("notice");
    fix.store.append(vec![to_everyone("default", &notice)].into()).await.unwrap();
    drop(fix.store.watch(&eve).await.unwrap());
    fix.send(&[&eve], "1").await;
    // One of them has a file that says since when it is there.
    assert_eq!(fix.titles(&eve).await, ["1"]);
    assert_eq!(fix.unread(&bob).await, 1);
    fix.reopen().await;
    fix.store.recall(&ann.tenant, &notice.id).await.unwrap();
    for _ in 0..2 {
        assert_eq!(fix.log(&eve).await.len(), 1);
        let recalled = Status::Recalled;
        let id = notice.id.to_string();
        let log: Vec<_> = fix.log(&bob).await.iter().map(shown).collect();
        assert_eq!(log, [(1, id.clone(), recalled, false), (2, id.clone(), recalled, false)]);
        assert_eq!((fix.log(&ann).await.len(), fix.unread(&ann).await), (3, 1));
        assert_eq!((fix.unread(&bob).await, fix.unread(&eve).await), (0, 1));
        fix.kill().await;
    }
}
