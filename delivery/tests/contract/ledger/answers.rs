//! Answers to requests with an `Idempotency-Key`.

use delivery::{
    StoreError,
    store::{Batch, SenderKey, StoredAnswer},
};
use protocol::TenantId;

use super::{
    super::fixture::{inbox, message, outgoing},
    HOUR, LedgerBackend, LedgerFixture, SECOND,
};

fn answer<B: LedgerBackend>(fix: &LedgerFixture<B>, key: &str, data: &str) -> StoredAnswer {
    StoredAnswer {
        tenant: TenantId::default(),
        sender: SenderKey::Service("shop".parse().unwrap()),
        key: key.to_owned(),
        fingerprint: [7; 32],
        data: data.to_owned(),
        at: fix.clock.now(),
    }
}

async fn found<B: LedgerBackend>(
    fix: &LedgerFixture<B>,
    like: &StoredAnswer,
) -> Option<StoredAnswer> {
    fix.books.answer(&like.tenant, &like.sender, &like.key).await.unwrap()
}

pub(crate) async fn an_answer_is_found_at_once_and_by_its_owner_only(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..200 {
        let mine = answer(&fix, &format!("key-{n}"), &format!(r#"{{"n":{n}}}"#));
        assert_eq!(found(&fix, &mine).await, None);
        fix.send_once(&ann, "x", &mine).await;
        assert_eq!(found(&fix, &mine).await, Some(mine.clone()));
        let tenant = TenantId::new("other").unwrap();
        let user = SenderKey::User("shop".parse().unwrap());
        for other in [
            StoredAnswer { tenant, ..mine.clone() },
            StoredAnswer { sender: user, ..mine.clone() },
            StoredAnswer { sender: SenderKey::Admin, ..mine.clone() },
            StoredAnswer { key: format!("key-{n} "), ..mine.clone() },
        ] {
            assert_eq!(found(&fix, &other).await, None, "{other:?}");
        }
    }
}

pub(crate) async fn an_answer_survives_and_ends_after_a_day(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let key = "a key of 255 bytes ".repeat(14)[..255].to_owned();
    let one = answer(&fix, &key, "{}");
    fix.send_once(&ann, "x", &one).await;
    for _ in 0..2 {
        fix.kill().await;
        assert_eq!(found(&fix, &one).await, Some(one.clone()));
        fix.reopen().await;
        assert_eq!(found(&fix, &one).await, Some(one.clone()));
    }
    fix.clock.step(24 * HOUR - 10 * SECOND);
    assert_eq!(found(&fix, &one).await, Some(one.clone()));
    fix.clock.step(11 * SECOND);
    assert_eq!(found(&fix, &one).await, None);
    fix.reopen().await;
    assert_eq!(found(&fix, &one).await, None);
    // The key is free again.
    let two = answer(&fix, &key, r#"{"again":true}"#);
    fix.send_once(&ann, "y", &two).await;
    assert_eq!(found(&fix, &two).await, Some(two.clone()));
    fix.reopen().await;
    assert_eq!(found(&fix, &two).await, Some(two));
}

pub(crate) async fn an_answer_is_there_if_and_only_if_its_messages_are(
    backend: impl LedgerBackend,
) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let mut stored = 0;
    for n in 0..40_u64 {
        let one = answer(&fix, &n.to_string(), "{}");
        let items = vec![outgoing(&[&ann], &message(&n.to_string()))];
        let append = fix.books.append(Batch { items, answer: Some(one) });
        let patience = std::time::Duration::from_micros(n * 20);
        let _ = tokio::time::timeout(patience, append).await;
    }
    fix.send(&[&ann], "last").await;
    fix.kill().await;
    fix.reopen().await;
    let titles = fix.titles(&ann).await;
    for n in 0..40_u64 {
        let n = n.to_string();
        let is_there = found(&fix, &answer(&fix, &n, "{}")).await.is_some();
        assert_eq!(is_there, titles.contains(&n), "{n}");
        stored += usize::from(is_there);
    }
    assert_eq!(titles.len(), stored + 1);
    fix.books.close().await;
    let late = answer(&fix, "late", "{}");
    let items = vec![outgoing(&[&ann], &message("late"))];
    let append = fix.books.append(Batch { items, answer: Some(late.clone()) }).await;
    assert!(matches!(append, Err(StoreError::Closing)), "{append:?}");
    let asked = fix.books.answer(&late.tenant, &late.sender, &late.key).await;
    assert!(matches!(asked, Err(StoreError::Closing)), "{asked:?}");
    fix.reopen().await;
    assert_eq!(found(&fix, &late).await, None);
}
