//! Statistics of what was sent. What happens to messages is the inboxes' part.

use delivery::store::{StatsBy, StatsQuery, StatsRow};
use protocol::{SenderInfo, TenantId, Time};

use super::{
    super::fixture::{inbox, inbox_of, message, outgoing},
    HOUR, LedgerBackend, LedgerFixture, SECOND,
};

fn query<B: LedgerBackend>(fix: &LedgerFixture<B>, by: StatsBy) -> StatsQuery {
    StatsQuery {
        tenant: Some(TenantId::default()),
        from: fix.clock.later(-3 * HOUR),
        to: fix.clock.later(2 * HOUR),
        by,
        service: None,
    }
}

async fn counts<B: LedgerBackend>(
    fix: &LedgerFixture<B>,
    query: StatsQuery,
) -> Vec<(Option<String>, u64)> {
    let rows = fix.books.stats(query).await.unwrap();
    rows.into_iter().map(|StatsRow { key, sent, .. }| (key, sent)).collect()
}

pub(crate) async fn messages_are_counted_by_what_they_are(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox_of("t2", "eve"));
    let info = |service: &str| SenderInfo {
        id: service.to_owned(),
        kind: "service".to_owned(),
        name: String::new(),
        avatar: String::new(),
        service_id: Some(service.to_owned()),
    };
    let mut file = message("file");
    file.message_type = "file_share".to_owned();
    file.sender_info = Some(info("drive"));
    file.template_id = Some("file_share".to_owned());
    file.channel_id = Some("docs".parse().unwrap());
    // To how many does not matter: one message is one.
    fix.append(vec![outgoing(&[&ann, &bob], &file), outgoing(&[&ann], &message("a"))]).await;
    fix.append(vec![outgoing(&[&eve], &message("b"))]).await;
    // An hour ago.
    let mut old = message("old");
    old.created_at = Time::from_millis(fix.clock.now().millis() - HOUR);
    old.sender_info = Some(info("shop"));
    fix.append(vec![outgoing(&[&ann], &old)]).await;
    fix.schedule(&[&ann], "later", HOUR).await;
    let due = fix.schedule(&[&bob], "due", 1).await;
    fix.arrived(&bob, 2).await;
    assert!(fix.books.sent(&TenantId::default(), &due).await.unwrap().unwrap().sent_at.is_some());
    let some = |text: &str| Some(text.to_owned());
    for _ in 0..2 {
        let of = |by| query(&fix, by);
        assert_eq!(
            counts(&fix, of(StatsBy::Service)).await,
            [(None, 2), (some("drive"), 1), (some("shop"), 1)]
        );
        assert_eq!(counts(&fix, of(StatsBy::Template)).await, [(None, 3), (some("file_share"), 1)]);
        assert_eq!(
            counts(&fix, of(StatsBy::MessageType)).await,
            [(some("file_share"), 1), (some("text"), 3)]
        );
        assert_eq!(counts(&fix, of(StatsBy::Channel)).await, [(None, 3), (some("docs"), 1)]);
        let hours = counts(&fix, of(StatsBy::Hour)).await;
        assert_eq!(hours.iter().map(|(_, sent)| sent).sum::<u64>(), 4);
        let begin = |time: Time| Time::from_millis(time.millis() / HOUR * HOUR).to_string();
        assert!(hours.contains(&(Some(begin(old.created_at)), 1)), "{hours:?}");
        let drive = StatsQuery { service: some("drive"), ..of(StatsBy::Channel) };
        assert_eq!(counts(&fix, drive).await, [(some("docs"), 1)]);
        let all = StatsQuery { tenant: None, ..of(StatsBy::MessageType) };
        assert_eq!(counts(&fix, all).await, [(some("file_share"), 1), (some("text"), 4)]);
        // Without the hour of `to`.
        let none = StatsQuery { to: old.created_at, ..of(StatsBy::Hour) };
        assert_eq!(counts(&fix, none).await, []);
        fix.reopen().await;
    }
}

pub(crate) async fn nothing_is_counted_twice_after_a_kill(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let mut sent = 0;
    for round in 0..4 {
        for _ in 0..10 {
            fix.send(&[&ann], "x").await;
        }
        fix.schedule(&[&ann], "y", SECOND / 100).await;
        sent += 11;
        fix.arrived(&ann, sent).await;
        if round % 2 == 1 {
            assert_eq!(
                counts(&fix, query(&fix, StatsBy::MessageType)).await,
                [(Some("text".to_owned()), sent as u64)]
            );
        }
        fix.kill().await;
        assert_eq!(
            counts(&fix, query(&fix, StatsBy::MessageType)).await,
            [(Some("text".to_owned()), sent as u64)]
        );
    }
}
