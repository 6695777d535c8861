//! Lists: filters, sorts, pages.

use std::sync::Arc;

use delivery::{
    InboxKey,
    search::Terms,
    store::{ListPage, ListPosition, ListQuery, Mark, MarkTarget, MetadataIs, Sort, StatusFilter},
};
use protocol::{Body, MessageFields, Seq, Time};
use serde_json::{Value, json};

use super::{
    Backend,
    fixture::{
        Fixture, audience, inbox, inbox_of, message, outgoing, title, to_audience, to_everyone,
    },
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

fn with_metadata(title: &str, metadata: Value) -> MessageFields {
    let Value::Object(metadata) = metadata else { panic!("metadata is an object") };
    MessageFields { metadata, ..message(title) }
}

/// Everything whose metadata has these, oldest first.
fn asking(asked: &[&str]) -> ListQuery {
    ListQuery {
        status: StatusFilter::All,
        metadata: asked.iter().map(|text| MetadataIs::parse(text).unwrap()).collect(),
        sort: Sort::Oldest,
        size: 1_000,
        ..ListQuery::default()
    }
}

fn names(page: &ListPage) -> String {
    page.messages.iter().map(|message| title(&message.body)).collect()
}

impl<B: Backend> Fixture<B> {
    /// Titles of everything whose metadata has these, oldest first.
    async fn having(&self, inbox: &InboxKey, asked: &[&str]) -> String {
        let page = self.list(inbox, asking(asked)).await;
        assert_eq!(page.total, page.messages.len() as u64, "{asked:?}");
        names(&page)
    }
}

pub(crate) async fn metadata_is_found_by_what_it_says(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for (name, metadata) in [
        ("a", json!({"k": "v", "other": "w"})),
        ("b", json!({"k": 42})),
        ("c", json!({"k": "42", "other": "w"})),
        ("d", json!({"k": 2.5, "K": "v"})),
        ("e", json!({"k": 1.0})),
        ("f", json!({"k": true})),
        ("g", json!({"k": null})),
        ("h", json!({"k": {"k": "v"}, "other": ["w"]})),
        ("i", json!({"k": ["v"]})),
        ("j", json!({"k": ""})),
        ("k", json!({})),
        (
            "l",
            json!({"订单\"\\'": "顺丰 🚚\n\t\u{1}%_", "{a}": "$.k", "k\u{0}": "v", "nul": "v\u{0}"}),
        ),
        ("m", json!({"k": -7, "large": 1e30, "u": u64::MAX})),
        ("n", json!({"k": "v".repeat(128), "long": "v".repeat(129)})),
        ("o", json!({"metadata": {}, "k": "x:y"})),
    ] {
        fix.send_as(&[&ann], &with_metadata(name, metadata)).await;
    }
    let long = format!("k:{}", "v".repeat(128));
    let questions: [(&[&str], &str); 30] = [
        (&["k:v"], "a"),
        (&["k:42"], "bc"),
        (&["k:2.5"], "d"),
        (&["K:v"], "d"),
        (&["k:1.0"], "e"),
        (&["k:1"], ""),
        (&["k:true"], "f"),
        (&["k:null"], "g"),
        (&["k:"], "j"),
        (&["other:w"], "ac"),
        (&["k:42", "other:w"], "c"),
        (&["k:42", "k:42"], "bc"),
        (&["k:42", "k:v"], ""),
        (&["k:V"], ""),
        (&["k:v "], ""),
        (&["订单\"\\':顺丰 🚚\n\t\u{1}%_"], "l"),
        (&["{a}:$.k"], "l"),
        (&["nul:v\u{fffd}"], ""),
        (&["k\u{fffd}:v"], ""),
        (&["nul:v"], ""),
        (&["k:-7"], "m"),
        (&["large:1e+30"], "m"),
        (&["u:18446744073709551615"], "m"),
        (&[&long], "n"),
        (&["k:x:y"], "o"),
        (&["metadata:{}"], ""),
        (&["k:[\"v\"]"], ""),
        (&["title:a"], ""),
        (&["' OR 1=1 --:'"], ""),
        (&["none:v"], ""),
    ];
    for _ in 0..2 {
        for (asked, expected) in questions {
            assert_eq!(fix.having(&ann, asked).await, expected, "{asked:?}");
        }
        fix.reopen().await;
    }
    assert_eq!(fix.having(&inbox("never"), &["k:v"]).await, "");
    fix.send_as(&[&inbox_of("t2", "ann")], &with_metadata("x", json!({"k": "v"}))).await;
    fix.send_as(&[&inbox("bob")], &with_metadata("y", json!({"k": "v"}))).await;
    assert_eq!(fix.having(&ann, &["k:v"]).await, "a", "what is another's is not found");
    // Many, where a store may ask in another way.
    let many = (0..1_500).map(|n| {
        let fields =
            with_metadata("z", json!({"n": n, "k": if n % 2 == 0 { "even" } else { "v" }}));
        outgoing(&[&ann], &fields)
    });
    fix.store.append(many.collect::<Vec<_>>().into()).await.unwrap();
    assert_eq!(fix.having(&ann, &["n:777"]).await, "z");
    assert_eq!(fix.having(&ann, &["n:777", "k:even"]).await, "");
    assert_eq!(fix.list(&ann, asking(&["k:even"])).await.total, 750);
    let words = Some(Terms::parse("内容").unwrap());
    let found = fix.list(&ann, ListQuery { text: words, size: 9, ..asking(&["k:v"]) }).await;
    assert_eq!((found.total, names(&found)), (751, "azzzzzzzz".to_owned()));
}

pub(crate) async fn metadata_goes_with_everything_else_a_list_can_do(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 0..60_u8 {
        // Every second one is asked for; the list without that must look the same as that of these.
        let half = n / 2;
        let mut fields = with_metadata(
            &format!("{n:02}{} ", if half % 2 == 0 { "周报" } else { "月报" }),
            json!({"n": n, "mine": n % 2 == 0, "much": "x".repeat(usize::from(n) * 20)}),
        );
        fields.message_type = ["text", "alert"][usize::from(half % 3 == 0)].to_owned();
        fields.priority = half % 5 + 1;
        fields.sender = ["bob", "eve"][usize::from(half % 4 == 0)].to_owned();
        fields.channel_id = (half % 3 == 1).then(|| "c1".parse().unwrap());
        fields.created_at = Time::from_millis(1_000_000 + i64::from(n) * 1_000);
        ids.push(fix.send_as(&[&ann], &fields).await);
    }
    let every = |step: usize, from: usize| {
        MarkTarget::Many(ids.iter().skip(from).step_by(step).cloned().collect())
    };
    fix.mark(&ann, Mark::Read, every(3, 0)).await;
    fix.mark(&ann, Mark::Archive, every(7, 1)).await;

    let text = |word: &str| Some(word.to_owned());
    let base = || ListQuery { size: 100, ..ListQuery::default() };
    let all = || ListQuery { status: StatusFilter::All, ..base() };
    let words = |text: &str| Some(Terms::parse(text).unwrap());
    let mine = vec![MetadataIs::parse("mine:true").unwrap()];
    for filter in [
        base(),
        all(),
        ListQuery { status: StatusFilter::Unread, ..base() },
        ListQuery { status: StatusFilter::Archived, ..base() },
        ListQuery { channel_id: text("c1"), ..base() },
        ListQuery { message_type: text("alert"), ..all() },
        ListQuery { priority_min: Some(3), ..base() },
        ListQuery { sender: text("eve"), ..base() },
        ListQuery { since: Some(Time::from_millis(1_011_000)), ..all() },
        ListQuery { text: words("周报"), ..all() },
        ListQuery { text: words("报"), sender: text("bob"), ..base() },
        ListQuery { text: words("没有"), ..all() },
    ] {
        for sort in [Sort::Newest, Sort::Oldest, Sort::Priority] {
            let list = fix.list(&ann, ListQuery { sort, ..filter.clone() }).await;
            let of_mine = |message: &&delivery::store::InboxMessage| {
                message.body.fields().unwrap().metadata["mine"] == json!(true)
            };
            let expected: Vec<Seq> =
                list.messages.iter().filter(of_mine).map(|message| message.state.seq).collect();
            let asked = ListQuery { sort, metadata: mine.clone(), ..filter.clone() };
            let (mut paged, mut at) = (vec![], ListPosition::Offset(0));
            loop {
                let page = fix.list(&ann, ListQuery { at, size: 4, ..asked.clone() }).await;
                assert_eq!((page.total, page.unread), (expected.len() as u64, list.unread));
                let highlights = if filter.text.is_some() { page.messages.len() } else { 0 };
                assert_eq!(page.highlights.len(), highlights);
                paged.extend(page.messages.iter().map(|message| message.state.seq));
                assert_eq!(page.more, paged.len() < expected.len(), "{asked:?}");
                let Some(last) = page.messages.last().filter(|_| page.more) else { break };
                at = match sort {
                    Sort::Priority => ListPosition::Offset(paged.len() as u64),
                    Sort::Newest | Sort::Oldest => ListPosition::After(last.state.seq),
                };
            }
            assert_eq!(paged, expected, "{asked:?}");
            let at = ListPosition::Offset(expected.len() as u64 / 2);
            let page = fix.list(&ann, ListQuery { at, size: 100, ..asked }).await;
            let seqs: Vec<Seq> = page.messages.iter().map(|message| message.state.seq).collect();
            assert_eq!(seqs, expected[expected.len() / 2..]);
        }
    }
}

pub(crate) async fn metadata_is_that_of_now(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    for user in ["ann", "bob"] {
        fix.token(user, 1, &["staff"]).await;
    }
    let mut sent = vec![];
    for (name, to) in [("a", audience(&["ann", "bob"], &[])), ("b", audience(&[], &["staff"]))] {
        let fields = with_metadata(name, json!({"step": 1, "kind": "order"}));
        fix.store.append(vec![to_audience("default", to, &fields)].into()).await.unwrap();
        sent.push(fields);
    }
    let fields = with_metadata("c", json!({"step": 1, "kind": "order"}));
    fix.store.append(vec![to_everyone("default", &fields)].into()).await.unwrap();
    sent.push(fields);
    let change = async |fix: &Fixture<_>, fields: &MessageFields| {
        let body = Arc::new(Body::new(fields));
        fix.store.edit(&ann.tenant, &fields.id, None, body).await.unwrap();
    };
    // Bob has not looked yet when it is edited.
    assert_eq!(fix.having(&ann, &["step:1"]).await, "abc");
    for fields in &mut sent {
        fields.metadata["step"] = json!(2);
        fields.metadata.insert("more".to_owned(), json!("yes"));
        change(&fix, fields).await;
    }
    for _ in 0..2 {
        for user in [&ann, &bob] {
            assert_eq!(fix.having(user, &["step:1"]).await, "");
            assert_eq!(fix.having(user, &["step:2", "kind:order", "more:yes"]).await, "abc");
        }
        fix.reopen().await;
    }
    sent[0].metadata.clear();
    change(&fix, &sent[0]).await;
    for fields in &sent[1..] {
        fix.store.recall(&ann.tenant, &fields.id).await.unwrap();
    }
    for user in [&ann, &bob] {
        for asked in ["step:2", "kind:order", "more:yes"] {
            assert_eq!(fix.having(user, &[asked]).await, "");
            let recalled = ListQuery { recalled: true, ..asking(&[asked]) };
            assert_eq!(fix.list(user, recalled).await.total, 0, "what was taken back is gone");
        }
    }
    sent[0].metadata.insert("step".to_owned(), json!(3));
    change(&fix, &sent[0]).await;
    assert_eq!(fix.having(&bob, &["step:3"]).await, "a");
}
