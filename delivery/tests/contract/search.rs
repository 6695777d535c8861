//! Searches: words, marks, and everything a list can do.

use std::time::Duration;

use delivery::{
    InboxKey, StoreError,
    search::Terms,
    store::{ListPage, ListPosition, ListQuery, Mark, MarkTarget, Sort, StatusFilter},
};
use protocol::{SenderInfo, Seq, Time};

use super::{
    Backend,
    fixture::{Fixture, eventually, in_millis, inbox, inbox_of, message, title, to_everyone},
};

fn words(text: &str) -> Option<Terms> {
    Some(Terms::parse(text).unwrap())
}

fn search(text: &str) -> ListQuery {
    ListQuery { text: words(text), sort: Sort::Oldest, size: 10_000, ..ListQuery::default() }
}

fn titles(page: &ListPage) -> Vec<String> {
    page.messages.iter().map(|message| title(&message.body)).collect()
}

impl<B: Backend> Fixture<B> {
    /// Titles of what has these words, oldest first.
    async fn found(&self, inbox: &InboxKey, text: &str) -> Vec<String> {
        let page = self.list(inbox, search(text)).await;
        assert_eq!(page.total, page.messages.len() as u64, "{text}");
        assert_eq!(page.highlights.len(), page.messages.len(), "{text}");
        titles(&page)
    }
}

pub(crate) async fn finds_words_and_marks_them(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for (title, content) in [
        ("a", "请在企微群里确认"),
        ("b", "企业微信 API 网关升级到 v2.5"),
        ("c", "Deployment of ＡＰＩ gateway finished, 10 GB used"),
        ("d", "订单 INV2025001 已发货 🎉"),
        ("e", "企业，微信"),
    ] {
        let mut fields = message(title);
        fields.content = content.to_owned();
        fix.send_as(&[&ann], &fields).await;
    }
    let mut named = message("f");
    named.sender_info = Some(SenderInfo {
        id: "u".to_owned(),
        kind: "user".to_owned(),
        name: "欧阳娜娜".to_owned(),
        avatar: String::new(),
        service_id: None,
    });
    fix.send_as(&[&ann], &named).await;
    for (text, expected) in [
        ("企微", "a"),
        ("微", "abe"),
        ("企", "abe"),
        ("微信", "be"),
        ("业微", "b"),
        ("企业微信", "b"),
        ("企业 微信", "be"),
        ("api", "bc"),
        ("API网关", "b"),
        ("网关 api", "b"),
        ("deploy", "c"),
        ("\"deploy\"", ""),
        ("ployment", ""),
        ("10gb", "c"),
        ("2025001", "d"),
        ("inv2025", "d"),
        ("已发货", "d"),
        ("🎉", "d"),
        ("v2.5", "b"),
        ("欧阳", "f"),
        ("内容", "f"),
        ("没有", ""),
        ("企微 没有", ""),
        ("api OR 企微", ""),
        ("a*", "a"),
    ] {
        assert_eq!(fix.found(&ann, text).await.concat(), expected, "{text}");
    }
    let page = fix.list(&ann, search("网关 api 升")).await;
    let shown = &page.highlights[0];
    assert_eq!(shown.title, "b");
    assert_eq!(shown.content, "企业微信 <em>API</em> <em>网关升</em>级到 v2.5");
    let mut markup = message("<b>企微</b>");
    markup.content = format!("{}企微", "很".repeat(500));
    fix.send_as(&[&ann], &markup).await;
    let page = fix.list(&ann, ListQuery { sort: Sort::Newest, ..search("企微") }).await;
    assert_eq!(page.highlights[0].title, "&lt;b&gt;<em>企微</em>&lt;/b&gt;");
    assert_eq!(page.highlights[0].content, format!("…{}<em>企微</em>", "很".repeat(30)));
}

pub(crate) async fn has_all_filters_sorts_and_pages_of_a_list(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut ids = vec![];
    for n in 0..40_u8 {
        // Every second one has the word; the list without it must look the same as that of these.
        let mut fields = message(&format!("{n:02}{}", if n % 2 == 0 { "周报" } else { "" }));
        fields.message_type = ["text", "alert"][usize::from(n / 2 % 2)].to_owned();
        fields.priority = n / 2 % 5 + 1;
        fields.sender = ["bob", "eve"][usize::from(n / 2 % 3 == 0)].to_owned();
        fields.channel_id = (n / 2 % 3 == 1).then(|| "c1".parse().unwrap());
        fields.created_at = Time::from_millis(1_000_000 + i64::from(n) * 1_000);
        fields.expire_at = (n / 2 == 9).then(|| in_millis(-1));
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
    let time = |n: i64| Some(Time::from_millis(1_000_000 + n * 1_000));
    let filters = [
        base(),
        all(),
        ListQuery { status: StatusFilter::Unread, ..base() },
        ListQuery { status: StatusFilter::Read, ..base() },
        ListQuery { status: StatusFilter::Archived, ..base() },
        ListQuery { channel_id: text("c1"), ..base() },
        ListQuery { message_type: text("alert"), ..all() },
        ListQuery { priority_min: Some(3), ..base() },
        ListQuery { sender: text("eve"), ..base() },
        ListQuery { since: time(11), until: time(30), ..all() },
        ListQuery { sender: text("bob"), priority_min: Some(2), since: time(5), ..base() },
        ListQuery { sender: text("' OR 1=1 --"), ..all() },
    ];
    for filter in filters {
        for sort in [Sort::Newest, Sort::Oldest, Sort::Priority] {
            let list = fix.list(&ann, ListQuery { sort, ..filter.clone() }).await;
            let expected: Vec<String> =
                titles(&list).into_iter().filter(|title| title.contains("周报")).collect();
            let asked = ListQuery { sort, text: words("周报"), ..filter.clone() };
            let page = fix.list(&ann, asked.clone()).await;
            assert_eq!(titles(&page), expected, "{asked:?}");
            assert_eq!((page.total, page.unread), (expected.len() as u64, list.unread));
            assert!(!page.more);

            // The same in pages.
            let mut paged = vec![];
            loop {
                let at = ListPosition::Offset(paged.len() as u64);
                let page = fix.list(&ann, ListQuery { at, size: 3, ..asked.clone() }).await;
                assert_eq!(page.total, expected.len() as u64);
                paged.extend(titles(&page));
                assert_eq!(page.more, paged.len() < expected.len());
                if !page.more {
                    break;
                }
            }
            assert_eq!(paged, expected, "{asked:?}");

            if sort == Sort::Priority {
                continue;
            }
            let mut at = ListPosition::Offset(0);
            paged.clear();
            loop {
                let page = fix.list(&ann, ListQuery { at, size: 3, ..asked.clone() }).await;
                assert_eq!(page.total, expected.len() as u64);
                paged.extend(titles(&page));
                let Some(last) = page.messages.last().filter(|_| page.more) else { break };
                at = ListPosition::After(last.state.seq);
            }
            assert_eq!(paged, expected, "{asked:?}");
        }
    }
    let beyond = ListQuery { at: ListPosition::Offset(1 << 40), ..search("周报") };
    assert!(fix.list(&ann, beyond).await.messages.is_empty());
    let nowhere = ListQuery { at: ListPosition::After(Seq(u64::MAX)), ..search("周报") };
    assert!(fix.list(&ann, nowhere).await.messages.is_empty());
}

pub(crate) async fn sees_every_change_at_once(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    assert!(fix.found(&ann, "企微").await.is_empty());
    for n in 0..20 {
        fix.send(&[&ann], &format!("企微{n:02}")).await;
        assert_eq!(fix.found(&ann, "企微").await.len(), n + 1);
    }
    let first = fix.list(&ann, search("企微")).await.messages[0].body.id().clone();
    fix.mark_one(&ann, Mark::Read, &first).await.unwrap();
    let page = fix.list(&ann, search("企微")).await;
    assert!(page.messages[0].state.is_read && page.messages[0].state.read_at.is_some());
    assert_eq!((page.unread, page.total), (19, 20));
    fix.mark_one(&ann, Mark::Archive, &first).await.unwrap();
    assert_eq!(fix.found(&ann, "企微").await.len(), 19);
    let archived = ListQuery { status: StatusFilter::Archived, ..search("企微") };
    assert_eq!(titles(&fix.list(&ann, archived).await), ["企微00"]);

    let mut short = message("企微短");
    let deadline = in_millis(400);
    short.expire_at = Some(deadline);
    fix.send_as(&[&ann], &short).await;
    assert_eq!(fix.found(&ann, "微短").await, ["企微短"]);
    eventually("it expires", || delivery::clock::now() >= deadline).await;
    assert!(fix.found(&ann, "微短").await.is_empty());
    assert_eq!(fix.found(&ann, "企微").await.len(), 19);
}

pub(crate) async fn finds_all_that_belongs_to_an_inbox_and_nothing_else(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob, odd) = (inbox("ann"), inbox("bob"), inbox("../?#% 张三"));
    let other = inbox_of("t2", "ann");
    fix.send(&[&ann, &odd], "企微 一").await;
    fix.send(&[&bob], "企微 二").await;
    fix.send(&[&other], "企微 三").await;
    fix.store.append(vec![to_everyone("default", &message("企微 四"))].into()).await.unwrap();
    for (inbox, expected) in [
        (&ann, &["企微 一", "企微 四"][..]),
        (&odd, &["企微 一", "企微 四"]),
        (&bob, &["企微 二", "企微 四"]),
        (&other, &["企微 三"]),
        (&inbox("never"), &[]),
    ] {
        assert_eq!(fix.found(inbox, "企微").await, expected, "{inbox:?}");
    }
}

pub(crate) async fn finds_everything_after_an_end_and_a_kill(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let mut sent = vec![];
    for round in 0..4 {
        for n in 0..5 {
            sent.push(format!("企微{round}{n}"));
            fix.send(&[&ann], sent.last().unwrap()).await;
        }
        // Once in each state of the index: not there, behind, up to date.
        if round > 0 {
            assert_eq!(fix.found(&ann, "企微").await, sent);
        }
        if round % 2 == 0 {
            fix.reopen().await;
        } else {
            fix.kill().await;
        }
    }
    assert_eq!(fix.found(&ann, "企微").await, sent);
}

pub(crate) async fn is_right_or_refused_while_an_inbox_cannot_be_written(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    fix.send(&[&ann], "企微 一").await;
    assert_eq!(fix.found(&ann, "企微").await.len(), 1);
    fix.reopen().await;
    if !fix.backend.refuse_writes(&ann, true) {
        return;
    }
    fix.send(&[&ann], "企微 二").await;
    match fix.store.list(&ann, search("企微")).await {
        Ok(page) => assert_eq!(titles(&page), ["企微 一", "企微 二"]),
        Err(error) => assert!(matches!(error, StoreError::NotWritable(_)), "{error:?}"),
    }
    assert_eq!(fix.titles(&ann).await.len(), 2, "lists stay in any case");
    fix.backend.refuse_writes(&ann, false);
    assert_eq!(fix.found(&ann, "企微").await, ["企微 一", "企微 二"]);
}

pub(crate) async fn many_at_once_find_the_same(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let inboxes: Vec<InboxKey> = (0..4).map(|n| inbox(&format!("user{n}"))).collect();
    for n in 0..50 {
        for inbox in &inboxes {
            fix.send(&[inbox], &format!("企微{n}")).await;
        }
    }
    let searches: Vec<_> = (0..64)
        .map(|n| {
            let (store, inbox) = (fix.store.clone(), inboxes[n % inboxes.len()].clone());
            tokio::spawn(async move {
                // Some give up.
                let search = store.list(&inbox, search("企微"));
                let patience = if n % 5 == 0 { Duration::from_micros(50) } else { Duration::MAX };
                tokio::time::timeout(patience, search).await
            })
        })
        .collect();
    for search in searches {
        if let Ok(page) = search.await.unwrap() {
            assert_eq!(page.unwrap().total, 50);
        }
    }
}

pub(crate) async fn a_closed_store_searches_nothing(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    fix.send(&[&ann], "企微").await;
    fix.store.close().await;
    let closed = fix.store.list(&ann, search("企微")).await;
    assert!(matches!(closed, Err(StoreError::Closing)), "{:?}", closed.err());
}
