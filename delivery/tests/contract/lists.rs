//! Lists: filters, sorts, pages.

use delivery::store::{ListPosition, ListQuery, Mark, MarkTarget, Sort, StatusFilter};
use protocol::{Seq, Time};

use super::{
    Backend,
    fixture::{Fixture, inbox, message, title},
};

pub(crate) async fn filters_select_and_sorts_order(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for (n, (name, kind, priority, sender, channel)) in (0_i64..).zip([
        ("a", "text", 5, "bob", Some("c1")),
        ("b", "alert", 9, "bob", None),
        ("c", "text", 1, "eve", Some("c2")),
        ("d", "alert", 9, "eve", Some("c1")),
        ("e", "text", 5, "bob", None),
    ]) {
        let mut fields = message(name);
        fields.message_type = kind.to_owned();
        fields.priority = priority;
        fields.sender = sender.to_owned();
        fields.channel_id = channel.map(|channel| channel.parse().unwrap());
        fields.created_at = Time::from_millis(1_000_000 + n * 1_000);
        ids.push(fix.send_as(&[&ann], &fields).await);
    }
    fix.mark(&ann, Mark::Read, MarkTarget::Many(vec![ids[0].clone(), ids[2].clone()])).await;
    fix.mark(&ann, Mark::Archive, MarkTarget::Many(vec![ids[1].clone()])).await;
    let base = || ListQuery { size: 100, ..ListQuery::default() };
    let all = || ListQuery { status: StatusFilter::All, ..base() };
    let text = |word: &str| Some(word.to_owned());
    for (what, query, expected) in [
        ("inbox", base(), "edca"),
        ("unread", ListQuery { status: StatusFilter::Unread, ..base() }, "ed"),
        ("read", ListQuery { status: StatusFilter::Read, ..base() }, "ca"),
        ("archived", ListQuery { status: StatusFilter::Archived, ..base() }, "b"),
        ("all", all(), "edcba"),
        ("oldest", ListQuery { sort: Sort::Oldest, ..all() }, "abcde"),
        ("priority", ListQuery { sort: Sort::Priority, ..all() }, "dbeac"),
        ("priority of the inbox", ListQuery { sort: Sort::Priority, ..base() }, "deac"),
        ("channel", ListQuery { channel_id: text("c1"), ..all() }, "da"),
        ("type", ListQuery { message_type: text("alert"), ..all() }, "db"),
        ("sender", ListQuery { sender: text("eve"), ..all() }, "dc"),
        ("priority_min", ListQuery { priority_min: Some(5), ..all() }, "edba"),
        ("since", ListQuery { since: Some(Time::from_millis(1_002_000)), ..all() }, "edc"),
        ("until", ListQuery { until: Some(Time::from_millis(1_002_000)), ..all() }, "ba"),
        ("several", ListQuery { sender: text("bob"), message_type: text("text"), ..base() }, "ea"),
        ("quotes", ListQuery { sender: text("' OR 1=1 --"), ..all() }, ""),
        ("nothing", ListQuery { channel_id: text(""), ..all() }, ""),
    ] {
        let page = fix.list(&ann, query).await;
        let names: String = page.messages.iter().map(|message| title(&message.body)).collect();
        assert_eq!(names, expected, "{what}");
        assert_eq!(page.total, expected.len() as u64, "{what}");
        assert_eq!((page.unread, page.more), (2, false), "{what}");
    }
    let never = fix.list(&inbox("never"), all()).await;
    assert_eq!((never.messages.len(), never.total, never.unread), (0, 0, 0));
}

pub(crate) async fn pages_by_offset_cover_everything_once(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 0..25 {
        let mut fields = message(&format!("{n:02}"));
        fields.priority = n % 3 + 1;
        fix.send_as(&[&ann], &fields).await;
    }
    for sort in [Sort::Newest, Sort::Oldest, Sort::Priority] {
        for size in [1, 7, 25, 30] {
            let mut names = vec![];
            loop {
                let at = ListPosition::Offset(names.len() as u64);
                let page =
                    fix.list(&ann, ListQuery { sort, at, size, ..ListQuery::default() }).await;
                assert_eq!(page.total, 25);
                assert!(page.messages.len() <= size);
                names.extend(page.messages.iter().map(|message| title(&message.body)));
                assert_eq!(page.more, names.len() < 25, "{sort:?} {size}");
                if !page.more {
                    break;
                }
            }
            assert_eq!(names.len(), 25);
            match sort {
                Sort::Newest => assert!(names.is_sorted_by(|a, b| a > b)),
                Sort::Oldest => assert!(names.is_sorted_by(|a, b| a < b)),
                Sort::Priority => names.sort(),
            }
            names.dedup();
            assert_eq!(names.len(), 25);
        }
    }
    let beyond = ListQuery { at: ListPosition::Offset(1 << 40), size: 5, ..ListQuery::default() };
    assert!(fix.list(&ann, beyond).await.messages.is_empty());
    let at = ListPosition::After(Seq(u64::MAX));
    for (sort, expected) in [(Sort::Newest, 25), (Sort::Oldest, 0)] {
        let page = fix.list(&ann, ListQuery { sort, at, size: 50, ..ListQuery::default() }).await;
        assert_eq!(page.messages.len(), expected, "{sort:?} after a seq that never was");
    }
}

pub(crate) async fn a_cursor_does_not_move_when_messages_arrive(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for n in 1..=12 {
        fix.send(&[&ann], &n.to_string()).await;
    }
    for sort in [Sort::Newest, Sort::Oldest] {
        let old = fix.list(&ann, ListQuery { sort, size: 1_000, ..ListQuery::default() }).await;
        let expected: Vec<Seq> = old.messages.iter().map(|message| message.state.seq).collect();
        let (mut seen, mut at) = (vec![], ListPosition::Offset(0));
        loop {
            let page =
                fix.list(&ann, ListQuery { sort, at, size: 5, ..ListQuery::default() }).await;
            seen.extend(page.messages.iter().map(|message| message.state.seq));
            let Some(last) = page.messages.last() else { break };
            at = ListPosition::After(last.state.seq);
            fix.send(&[&ann], "new").await;
            fix.mark(&ann, Mark::Read, MarkTarget::UpTo(Seq(2))).await;
            if !page.more || seen.len() > expected.len() + 5 {
                break;
            }
            fix.reopen().await;
        }
        assert_eq!(
            seen[..expected.len().min(seen.len())],
            expected[..expected.len().min(seen.len())]
        );
        assert!(seen.len() >= expected.len());
    }
}
