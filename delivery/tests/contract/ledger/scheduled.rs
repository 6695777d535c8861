//! Messages that wait for their time.

use delivery::{
    StoreError,
    store::{ListQuery, SentState, Sort, StatusFilter},
};
use protocol::{MessageId, Seq, Time};
use tokio::task::JoinSet;

use super::{
    super::fixture::{inbox, inbox_of, message, outgoing, to_everyone},
    HOUR, LedgerBackend, LedgerFixture, SECOND, at, edited, tenant,
};

/// A second is promised, of a machine that is not busy with a hundred other tests.
const LATE_MAX: i64 = 10 * SECOND;

pub(crate) async fn a_message_is_sent_at_its_time_once(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let _guard = fix.books.watch(&ann).await.unwrap();
    let mut fields = message("now");
    fields.created_at = Time::from_millis(0);
    let due = fix.clock.later(HOUR);
    fix.append(vec![at(outgoing(&[&ann, &bob], &fields), due)]).await;
    fix.settled("bell").await;
    assert_eq!(fix.books.head(&ann).await.unwrap().seq, Seq::ZERO);
    let sent = fix.books.sent(&tenant(), &fields.id).await.unwrap().unwrap();
    assert_eq!((sent.state, sent.sent_at), (SentState::Scheduled, None));
    assert_eq!(sent.scheduled_at, Some(due));
    let accepted = sent.accepted_at;
    fix.clock.step(due.millis() - fix.clock.now().millis() - 300);
    fix.arrived(&ann, 1).await;
    super::super::fixture::eventually("it is published", || fix.published.seqs(&ann) == [1]).await;
    let sent = fix.books.sent(&tenant(), &fields.id).await.unwrap().unwrap();
    assert_eq!((sent.state, sent.accepted_at), (SentState::Sent, accepted));
    let sent_at = sent.sent_at.unwrap();
    let late = sent_at.millis() - due.millis();
    assert!((0..LATE_MAX).contains(&late), "{late} ms late");
    for _ in 0..2 {
        for inbox in [&ann, &bob] {
            assert_eq!(fix.titles(inbox).await, ["now"]);
            let message = fix.books.get(inbox, &fields.id).await.unwrap();
            assert_eq!(message.body.fields().unwrap().created_at, sent_at);
        }
        fix.reopen().await;
        fix.settled("bell").await;
    }
}

pub(crate) async fn a_time_that_has_passed_is_now(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    for millis in [0, -1, -HOUR] {
        let id = fix.schedule(&[&ann], "now", millis).await;
        let sent = fix.books.sent(&tenant(), &id).await.unwrap().unwrap();
        assert_eq!(sent.state, SentState::Sent);
        assert_eq!(sent.sent_at, Some(sent.accepted_at));
    }
    assert_eq!(fix.titles(&ann).await.len(), 3, "without waiting");
}

async fn in_order<B: LedgerBackend>(fix: &LedgerFixture<B>, to: &delivery::InboxKey) -> Vec<u8> {
    let query = ListQuery {
        status: StatusFilter::All,
        sort: Sort::Oldest,
        size: 100_000,
        ..ListQuery::default()
    };
    let page = fix.books.list(to, query).await.unwrap();
    page.messages.iter().map(|message| message.body.facts().priority).collect()
}

pub(crate) async fn due_at_once_go_by_priority(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let due = fix.clock.later(HOUR);
    // The later ones first: they stay behind whatever their priority is.
    let mut expected = Vec::new();
    for time in [due.millis() + 1, due.millis()] {
        for priority in [3, 10, 1, 5, 10, 3] {
            let mut fields = message(&format!("{priority}.{}", expected.len()));
            fields.priority = priority;
            expected.push((time, 10 - priority, expected.len(), fields.title.clone()));
            let item = at(outgoing(&[&ann], &fields), Time::from_millis(time));
            fix.append(vec![item]).await;
        }
    }
    expected.sort_unstable();
    fix.reopen().await;
    fix.clock.step(2 * HOUR);
    let expected: Vec<_> = expected.into_iter().map(|(.., title)| title).collect();
    assert_eq!(fix.arrived(&ann, 12).await, expected);
}

pub(crate) async fn a_million_would_be_sent_in_pages(backend: impl LedgerBackend) {
    const COUNT: usize = 10_000;
    let fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let due = fix.clock.later(HOUR);
    let mut priorities = Vec::new();
    for chunk in 0..10 {
        let items = (0..COUNT / 10)
            .map(|n| {
                let mut fields = message("x");
                fields.priority = u8::try_from((n * 7 + chunk) % 10 + 1).unwrap();
                priorities.push(fields.priority);
                at(outgoing(&[&ann], &fields), due)
            })
            .collect();
        fix.append(items).await;
    }
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    fix.clock.step(HOUR);
    // Live sends go on in between.
    let bob = inbox("bob");
    while fix.books.head(&ann).await.unwrap().seq.0 < COUNT as u64 {
        fix.send(&[&bob], "live").await;
    }
    fix.settled("bell").await;
    assert_eq!(in_order(&fix, &ann).await, priorities);
}

pub(crate) async fn what_is_due_while_the_store_is_closed_is_sent_when_it_opens(
    backend: impl LedgerBackend,
) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    for (title, hours) in [("third", 3), ("first", 1), ("second", 2), ("not yet", 9)] {
        fix.schedule(&[&ann], title, hours * HOUR).await;
    }
    fix.books.close().await;
    fix.clock.step(5 * HOUR);
    fix.reopen().await;
    assert_eq!(fix.arrived(&ann, 3).await, ["first", "second", "third"]);
    fix.settled("bell").await;
    assert_eq!(fix.titles(&ann).await.len(), 3);
}

/// What a kill finds: everything in the journal only; the ledger's file as well; a message that was
/// sent according to the journal and waits according to the file; the same, cancelled or edited.
pub(crate) async fn a_kill_at_any_point_sends_it_once(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let written = async |fix: &LedgerFixture<_>, id: &MessageId| {
        // A question brings everything to the file.
        fix.books.sent(&tenant(), id).await.unwrap().unwrap().state
    };
    let mut expected: Vec<String> = Vec::new();
    for point in ["journal", "file", "sent", "sent and written", "cancelled", "edited"] {
        let fields = message(point);
        let id = fix.schedule_as(&[&ann], &fields, HOUR).await;
        if point != "journal" {
            assert_eq!(written(&fix, &id).await, SentState::Scheduled, "{point}");
        }
        match point {
            "sent" | "sent and written" => {
                fix.clock.step(HOUR);
                expected.push(point.to_owned());
                fix.arrived(&ann, expected.len()).await;
                if point == "sent and written" {
                    assert_eq!(written(&fix, &id).await, SentState::Sent);
                }
            }
            "cancelled" => fix.books.cancel(&tenant(), &id).await.unwrap(),
            "edited" => {
                fix.books.edit(&tenant(), &id, None, edited(&fields, "edit")).await.unwrap();
                expected.push("edit".to_owned());
            }
            _ => expected.push(point.to_owned()),
        }
        fix.kill().await;
        fix.clock.step(2 * HOUR);
        assert_eq!(fix.arrived(&ann, expected.len()).await, expected, "{point}");
        fix.settled("bell").await;
        assert_eq!(fix.titles(&ann).await, expected, "{point}");
        // And while what was sent after the first kill is not in the file.
        fix.kill().await;
        fix.settled("bell").await;
        assert_eq!(fix.titles(&ann).await, expected, "{point}");
    }
}

pub(crate) async fn a_cancellation_and_the_time_decide_once(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let mut outcomes = [0_usize; 2];
    for round in 0..8 {
        let ann = inbox(&format!("ann{round}"));
        let mut ids = Vec::new();
        let items = (0..100)
            .map(|n| {
                let fields = message(&n.to_string());
                ids.push(fields.id.clone());
                at(outgoing(&[&ann], &fields), fix.clock.later(10 + n / 2))
            })
            .collect();
        fix.append(items).await;
        let mut tasks = JoinSet::new();
        for (n, id) in ids.clone().into_iter().enumerate() {
            let books = fix.books.clone();
            tasks.spawn(async move {
                let cancelled = match books.cancel(&tenant(), &id).await {
                    Ok(()) => true,
                    Err(StoreError::Conflict(_)) => false,
                    Err(error) => panic!("{error}"),
                };
                (n, cancelled)
            });
        }
        let mut expected = vec![false; ids.len()];
        while let Some(task) = tasks.join_next().await {
            let (n, cancelled) = task.unwrap();
            expected[n] = !cancelled;
        }
        fix.settled("bell").await;
        if round % 2 == 0 {
            fix.kill().await;
            fix.settled("bell").await;
        }
        let titles = fix.titles(&ann).await;
        for (n, id) in ids.iter().enumerate() {
            let count = titles.iter().filter(|title| **title == n.to_string()).count();
            assert_eq!(count, usize::from(expected[n]), "{n} in round {round}");
            let state = fix.books.sent(&tenant(), id).await.unwrap().unwrap().state;
            let stands = if expected[n] { SentState::Sent } else { SentState::Cancelled };
            assert_eq!(state, stands, "{n} in round {round}");
            outcomes[usize::from(expected[n])] += 1;
        }
    }
    assert_eq!(outcomes.iter().sum::<usize>(), 800);
}

pub(crate) async fn what_expires_before_its_time_is_never_sent(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    let mut fields = message("too late");
    fields.expire_at = Some(fix.clock.later(2 * HOUR));
    let id = fix.schedule_as(&[&ann], &fields, HOUR).await;
    let mut in_time = message("in time");
    in_time.expire_at = Some(fix.clock.later(9 * HOUR));
    fix.schedule_as(&[&ann], &in_time, HOUR).await;
    fix.books.close().await;
    fix.clock.step(3 * HOUR);
    fix.reopen().await;
    fix.arrived(&ann, 1).await;
    for _ in 0..2 {
        fix.settled("bell").await;
        assert_eq!(fix.titles(&ann).await, ["in time"]);
        assert_eq!(fix.books.head(&ann).await.unwrap().seq, Seq(1));
        let sent = fix.books.sent(&tenant(), &id).await.unwrap().unwrap();
        assert_eq!((sent.state, sent.sent_at), (SentState::Cancelled, None));
        fix.kill().await;
    }
}

pub(crate) async fn the_clock_may_be_set(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let ann = inbox("ann");
    fix.schedule(&[&ann], "tomorrow", 24 * HOUR).await;
    fix.schedule(&[&ann], "in a minute", 60 * SECOND).await;
    // Back: nothing is due any more.
    fix.clock.step(-48 * HOUR);
    fix.settled("bell").await;
    assert_eq!(fix.titles(&ann).await.len(), 0);
    // Forward: the sleep that had begun before does not count.
    fix.clock.step(48 * HOUR + 60 * SECOND);
    assert_eq!(fix.arrived(&ann, 1).await, ["in a minute"]);
    fix.clock.step(24 * HOUR);
    assert_eq!(fix.arrived(&ann, 2).await, ["in a minute", "tomorrow"]);
}

pub(crate) async fn it_reaches_who_is_there_when_it_is_sent(backend: impl LedgerBackend) {
    let fix = LedgerFixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    drop(fix.books.watch(&ann).await.unwrap());
    let item = at(to_everyone("default", &message("all")), fix.clock.later(HOUR));
    fix.append(vec![item]).await;
    drop(fix.books.watch(&bob).await.unwrap());
    fix.clock.step(HOUR + SECOND);
    fix.arrived(&ann, 1).await;
    assert_eq!(fix.titles(&bob).await, ["all"]);
    assert_eq!(fix.titles(&inbox("nobody")).await.len(), 0);
}

pub(crate) async fn what_waits_is_listed_soonest_first_each_once(backend: impl LedgerBackend) {
    let mut fix = LedgerFixture::new(backend).await;
    let (ann, other) = (inbox("ann"), inbox_of("t2", "ann"));
    let mut expected = Vec::new();
    let now = fix.clock.later(HOUR).millis();
    // Several at one time, and in between some of another tenant.
    for n in 0..12 {
        let due = Time::from_millis(now + i64::from(12 - n) / 3 * HOUR);
        let fields = message(&format!("{n}"));
        expected.push((due, fields.id.clone()));
        fix.append(vec![at(outgoing(&[&ann], &fields), due)]).await;
        fix.append(vec![at(outgoing(&[&other], &message("theirs")), due)]).await;
    }
    fix.send(&[&ann], "sent at once").await;
    let (_, cancelled) = expected.swap_remove(5);
    fix.books.cancel(&tenant(), &cancelled).await.unwrap();
    for _ in 0..2 {
        for limit in [1, 5, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = fix.books.waiting(&tenant(), after.clone(), limit).await.unwrap();
                assert!(page.messages.len() <= limit);
                for waiting in page.messages {
                    assert_eq!(waiting.message.state, SentState::Scheduled);
                    assert_eq!(waiting.message.id, *waiting.body.id());
                    found.push((waiting.message.scheduled_at.unwrap(), waiting.message.id));
                }
                if page.next.is_none() {
                    break;
                }
                assert_ne!(page.next, after, "it goes on");
                after = page.next;
            }
            assert!(found.is_sorted_by_key(|(due, _)| *due));
            let sorted = |mut all: Vec<(Time, MessageId)>| {
                all.sort_unstable_by(|a, b| {
                    (a.0.millis(), a.1.as_str()).cmp(&(b.0.millis(), b.1.as_str()))
                });
                all
            };
            assert_eq!(sorted(found), sorted(expected.clone()), "by {limit}");
        }
        fix.reopen().await;
    }
}
