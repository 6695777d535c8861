//! A user who is forgotten: what is gone, what stays with others, and how they begin anew.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use delivery::{
    InboxKey, StoreError,
    search::Terms,
    store::{
        Audience, Batch, Channel, Head, ListQuery, Mark, MarkTarget, NameKind, Outgoing, Retention,
        SenderKey, Sort, StatusFilter, StoredAnswer, UnreadCounts, UserChange,
    },
};
use protocol::{DeviceId, MessageId, Seq, TenantId, UserId};

use super::{
    Backend,
    fixture::{
        Fixture, audience, button, channel, eventually, group, inbox, inbox_of, message, outgoing,
        tenant_id, to_audience, to_everyone, token, words,
    },
};

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

impl<B: Backend> Fixture<B> {
    async fn forget(&self, inbox: &InboxKey) -> u64 {
        self.store.forget(inbox).await.unwrap()
    }

    /// Nothing is known of a user who was never heard of, by any question.
    async fn is_unknown(&self, inbox: &InboxKey, ids: &[MessageId], devices: &[DeviceId]) {
        let (tenant, user) = (&inbox.tenant, &inbox.user);
        assert_eq!(self.store.head(inbox).await.unwrap(), Head::default(), "{inbox:?}");
        assert_eq!(self.log(inbox).await.len(), 0);
        assert_eq!(self.page(inbox, 0, 9, 9).await.min_seq, Seq::ZERO);
        let all = ListQuery {
            status: StatusFilter::All,
            recalled: true,
            size: 100,
            ..ListQuery::default()
        };
        let page = self.list(inbox, all).await;
        assert_eq!((page.messages.len(), page.total, page.unread), (0, 0, 0));
        let search = ListQuery {
            text: Some(Terms::parse("内容").unwrap()),
            sort: Sort::Oldest,
            size: 100,
            ..ListQuery::default()
        };
        assert_eq!(self.list(inbox, search).await.total, 0);
        assert_eq!(self.store.unread(inbox).await.unwrap(), UnreadCounts::default());
        for id in ids {
            let got = self.store.get(inbox, id).await;
            assert!(matches!(got, Err(StoreError::NotFound)), "{got:?}");
        }
        for device in devices {
            assert_eq!(self.store.cursor(inbox, device).await.unwrap(), None, "{device:?}");
        }
        assert_eq!(self.store.groups_of(inbox).await.unwrap(), []);
        assert_eq!(self.store.user(inbox).await.unwrap(), None);
        let users = self.store.users(tenant, None, 1_000).await.unwrap();
        assert!(users.iter().all(|record| record.user_id != *user), "{users:?}");
        let kinds = self.store.kinds(tenant, std::slice::from_ref(user)).await.unwrap();
        assert_eq!(kinds, [NameKind::Unknown]);
    }

    async fn names_of(&self, group_name: &str) -> Vec<String> {
        let tenant = TenantId::default();
        let members = self.store.members(&tenant, &group(group_name), None, 100).await.unwrap();
        let size = self.store.audience_size(&tenant, &audience(&[], &[group_name])).await.unwrap();
        assert_eq!(size, Some(members.len() as u64), "{group_name}");
        members.into_iter().map(|member| member.user_id.to_string()).collect()
    }

    async fn recipients(&self, id: &MessageId) -> Vec<String> {
        let page = self.store.receipts(&TenantId::default(), id, None, 100).await.unwrap();
        page.receipts.into_iter().map(|receipt| receipt.user_id.to_string()).collect()
    }
}

pub(crate) async fn nothing_of_an_inbox_is_left(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let (phone, laptop) = (device("phone"), device("laptop"));
    let mut ids = vec![];
    for n in 0..5 {
        let mut fields = message(&n.to_string());
        fields.channel_id = (n == 3).then(|| "news".parse().unwrap());
        fields.actions = vec![button("approve")];
        ids.push(fix.send_as(&[&ann, &bob], &fields).await);
    }
    fix.send_to(Audience::Everyone, "to everyone").await;
    fix.mark_one(&ann, Mark::Read, &ids[0]).await.unwrap();
    fix.mark_one(&ann, Mark::Archive, &ids[1]).await.unwrap();
    fix.store.press(&ann, Some(phone.clone()), &ids[2], 0).await.unwrap();
    fix.mark_one(&bob, Mark::Read, &ids[0]).await.unwrap();
    for (key, device) in [(&ann, &phone), (&ann, &laptop), (&bob, &phone)] {
        fix.store.delivered(key, device, Seq(1), Seq(4));
        fix.store.ack(key, device, Seq(3));
    }
    fix.token("ann", 1_000, &["dev"]).await;
    let search = ListQuery { text: Some(Terms::parse("内容").unwrap()), ..ListQuery::default() };
    assert!(fix.list(&ann, search).await.total > 0, "an index is made");
    assert_eq!(fix.titles(&ann).await.len(), 6);
    let (log, devices) = (words(&fix.log(&bob).await), [phone.clone(), laptop]);
    assert_eq!(fix.forget(&ann).await, 6);
    for _ in 0..3 {
        fix.is_unknown(&ann, &ids, &devices).await;
        assert_eq!(words(&fix.log(&bob).await), log, "others are undisturbed");
        assert_eq!(fix.store.cursor(&bob, &phone).await.unwrap(), Some(Seq(3)));
        assert_eq!(fix.unread(&bob).await, 5);
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn a_forgotten_user_is_in_no_group(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (tenant, room) = (TenantId::default(), "room".parse().unwrap());
    let made = Channel { created_by: "ann".to_owned(), ..channel("room") };
    fix.store.save_channel(&tenant, made, Some(0)).await.unwrap();
    fix.make("default", "left").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.members("left", &["ann", "bob"], &[]).await;
    fix.members("left", &[], &["ann"]).await;
    fix.token("ann", 1_000, &["dev"]).await;
    fix.token("bob", 1_000, &["dev"]).await;
    let law = UserChange {
        added_roles: Some(vec!["ops".parse().unwrap()]),
        department: Some(Some("law".to_owned())),
    };
    fix.store.change_user(&inbox("ann"), law).await.unwrap();
    let id = fix.send_to(audience(&[], &["#room", "#left", "dev"]), "before").await;
    fix.titles(&inbox("ann")).await;
    fix.forget(&inbox("ann")).await;
    for round in 0..3 {
        fix.is_unknown(&inbox("ann"), std::slice::from_ref(&id), &[]).await;
        for name in ["#room", "#left", "dev"] {
            assert_eq!(fix.names_of(name).await, ["bob"], "{name}");
        }
        for name in ["ops", "department:law"] {
            assert!(fix.names_of(name).await.is_empty(), "{name}");
        }
        let info = fix.store.channel(&tenant, &room).await.unwrap().unwrap();
        assert_eq!((info.members, &*info.channel.created_by), (1, ""));
        assert_eq!((info.channel.version, &*info.channel.name), (1, "The room"));
        assert!(!fix.store.is_member(&inbox("ann"), &group("#room")).await.unwrap());
        assert_eq!(fix.recipients(&id).await, ["bob"]);
        let more = format!("after {round}");
        fix.send_to(audience(&[], &["#room", "dev", "ops"]), &more).await;
        assert_eq!(fix.titles(&inbox("bob")).await.last(), Some(&more));
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn what_was_sent_to_it_names_it_no_longer(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let tenant = TenantId::default();
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.make("default", "room").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    let pruned = fix.send(&[&ann], "pruned").await;
    let pruned_too = fix.send(&[&ann, &bob], "pruned of both").await;
    let none = Retention { max_age: None, max_messages: Some(0) };
    fix.store.prune(&ann, none).await.unwrap();
    fix.store.prune(&bob, none).await.unwrap();
    let alone = fix.send(&[&ann], "alone").await;
    let both = fix.send(&[&ann, &bob], "both").await;
    let with_group = fix.send_to(audience(&["ann"], &["#room"]), "with a group").await;
    let of_group = fix.send_to(audience(&[], &["#room"]), "to a group").await;
    let all = fix.send_to(Audience::Everyone, "to everyone").await;
    fix.titles(&ann).await;
    fix.forget(&ann).await;
    for _ in 0..3 {
        for id in [&pruned, &alone] {
            assert!(fix.store.sent(&tenant, id).await.unwrap().is_none(), "{id}");
            assert!(fix.store.sent_body(&tenant, id).await.unwrap().is_none(), "{id}");
            let receipts = fix.store.receipts(&tenant, id, None, 9).await;
            assert!(matches!(receipts, Err(StoreError::NotFound)), "{receipts:?}");
        }
        let of = async |id| fix.store.sent(&tenant, id).await.unwrap().unwrap().audience;
        for id in [&both, &pruned_too] {
            assert_eq!(of(id).await, Audience::users(vec![bob.user.clone()]));
        }
        assert_eq!(of(&with_group).await, audience(&[], &["#room"]));
        for id in [&both, &pruned_too, &with_group, &of_group, &all] {
            assert_eq!(fix.recipients(id).await, ["bob"], "{id}");
        }
        let titles = ["both", "with a group", "to a group", "to everyone"];
        assert_eq!(fix.titles(&bob).await, titles);
        fix.kill().await;
        fix.reopen().await;
    }
    // Whoever it named with others hears of it as before, and nobody else does.
    assert!(fix.store.recall(&tenant, &both).await.is_ok());
    assert_eq!(fix.titles(&bob).await.len(), 3);
    assert_eq!(fix.store.head(&ann).await.unwrap(), Head::default());
}

pub(crate) async fn what_it_sent_stays_with_who_received_it(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (tenant, ann, bob) = (TenantId::default(), inbox("ann"), inbox("bob"));
    let sender = SenderKey::User(ann.user.clone());
    fix.make("default", "room").await;
    fix.members("room", &["bob"], &[]).await;
    let mut ids = vec![];
    let mut own = vec![];
    for (title, to) in [
        ("to bob", audience(&["bob"], &[])),
        ("to herself and bob", audience(&["ann", "bob"], &[])),
        ("to the room", audience(&[], &["#room"])),
        ("to herself", audience(&["ann"], &[])),
    ] {
        let mut fields = message(title);
        fields.sender = "ann".to_owned();
        let answer = StoredAnswer {
            tenant: tenant.clone(),
            sender: sender.clone(),
            key: title.to_owned(),
            fingerprint: [7; 32],
            data: "{}".to_owned(),
            at: delivery::clock::now(),
        };
        let sent = to_audience("default", to, &fields);
        let items = vec![Outgoing { sender: sender.clone(), ..sent }];
        fix.store.append(Batch { items, answer: Some(answer) }).await.unwrap();
        let list = if title == "to herself" { &mut own } else { &mut ids };
        list.push((fields.id, title));
    }
    assert_eq!(fix.store.sent_by(&tenant, &sender, None, 9).await.unwrap().messages.len(), 4);
    fix.mark_one(&bob, Mark::Read, &ids[0].0).await.unwrap();
    fix.forget(&ann).await;
    for _ in 0..3 {
        assert_eq!(fix.titles(&bob).await, ["to bob", "to herself and bob", "to the room"]);
        assert!(fix.store.get(&bob, &ids[0].0).await.unwrap().state.is_read);
        assert_eq!(fix.unread(&bob).await, 2);
        let page = fix.store.sent_by(&tenant, &sender, None, 9).await.unwrap();
        assert_eq!(page.messages.len(), 0);
        for (id, key) in ids.iter().chain(&own) {
            assert!(fix.store.sent(&tenant, id).await.unwrap().is_none(), "{key}");
            assert!(fix.store.answer(&tenant, &sender, key).await.unwrap().is_none(), "{key}");
            let recalled = fix.store.recall(&tenant, id).await;
            assert!(matches!(recalled, Err(StoreError::NotFound)), "{recalled:?}");
        }
        fix.kill().await;
        fix.reopen().await;
    }
    fix.mark_one(&bob, Mark::Read, &ids[2].0).await.unwrap();
    assert_eq!(fix.unread(&bob).await, 1);
}

pub(crate) async fn what_comes_after_makes_a_new_inbox(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.make("default", "room").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.token("ann", 1_000, &["dev"]).await;
    for n in 0..4 {
        fix.send(&[&ann], &n.to_string()).await;
    }
    fix.store.ack(&ann, &device("phone"), Seq(3));
    // Somebody who does not go away, as a connection on another node for a moment.
    let watch = fix.store.watch(&ann).await.unwrap();
    fix.send(&[&ann], "watched").await;
    fix.told(&ann, 1).await;
    assert_eq!(fix.forget(&ann).await, 5);
    fix.send_to(audience(&[], &["#room", "dev"]), "to the groups").await;
    fix.send_to(Audience::Everyone, "to everyone who is there").await;
    assert_eq!(fix.store.head(&ann).await.unwrap(), Head::default());
    let first = fix.send(&[&ann, &bob], "first").await;
    fix.send_to(Audience::Everyone, "to everyone").await;
    assert_eq!(fix.told(&ann, 3).await, [5, 1, 2], "the watch is of whoever has the name");
    let changed = fix.members("room", &["ann"], &[]).await;
    assert_eq!((changed.joined, changed.members), (1, 2));
    fix.send_to(audience(&[], &["#room"]), "again a member").await;
    assert_eq!(fix.told(&ann, 4).await, [5, 1, 2, 3]);
    // The same words of a token that was noted before.
    fix.token("ann", 1_000, &["dev"]).await;
    fix.send_to(audience(&[], &["dev"]), "again a dev").await;
    drop(watch);
    for _ in 0..3 {
        let titles = ["first", "to everyone", "again a member", "again a dev"];
        assert_eq!(fix.titles(&ann).await, titles);
        assert_eq!(fix.log(&ann).await.len(), 4);
        assert_eq!(fix.store.head(&ann).await.unwrap(), Head { seq: Seq(4), unread: 4 });
        assert_eq!(fix.store.cursor(&ann, &device("phone")).await.unwrap(), None);
        assert_eq!(fix.recipients(&first).await, ["ann", "bob"]);
        assert_eq!(&*fix.store.user(&ann).await.unwrap().unwrap().username, "name");
        fix.kill().await;
        fix.reopen().await;
    }
    assert_eq!(fix.forget(&ann).await, 4, "and once more");
    fix.is_unknown(&ann, &[first], &[device("phone")]).await;
}

pub(crate) async fn an_unknown_user_and_a_second_time_are_no_error(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    assert_eq!(fix.forget(&ann).await, 0);
    fix.send(&[&ann], "x").await;
    // Known by nothing but a token, a membership, a message that it sent.
    fix.token("by-token", 1, &["dev"]).await;
    fix.make("default", "room").await;
    fix.members("room", &["by-channel"], &[]).await;
    fix.send_to(audience(&["sender"], &[]), "x").await;
    for (name, messages) in [("ann", 1), ("by-token", 0), ("by-channel", 0), ("sender", 1)] {
        for count in [messages, 0, 0] {
            assert_eq!(fix.forget(&inbox(name)).await, count, "{name}");
        }
        fix.is_unknown(&inbox(name), &[], &[]).await;
    }
    fix.reopen().await;
    assert_eq!(fix.forget(&ann).await, 0);
    let at_once = tokio::join!(fix.store.forget(&ann), fix.store.forget(&ann));
    assert!(matches!(at_once, (Ok(0), Ok(0))), "{at_once:?}");
}

pub(crate) async fn another_tenants_user_is_untouched(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (ours, theirs) = (inbox("ann"), inbox_of("t2", "ann"));
    let t2 = tenant_id("t2");
    for tenant in ["default", "t2"] {
        fix.make(tenant, "room").await;
        let join = vec![ours.user.clone()];
        let room = "room".parse().unwrap();
        fix.store.change_members(&tenant_id(tenant), &room, join, vec![]).await.unwrap();
        fix.store.append(vec![to_everyone(tenant, &message("all"))].into()).await.unwrap();
    }
    fix.send(&[&ours], "ours").await;
    let id = fix.send(&[&theirs], "theirs").await;
    let mine = Outgoing {
        sender: SenderKey::User(ours.user.clone()),
        ..outgoing(&[&theirs], &message("own"))
    };
    fix.store.append(vec![mine].into()).await.unwrap();
    fix.store.note_token(&theirs, token(1, &["dev"])).await.unwrap();
    fix.store.ack(&theirs, &device("phone"), Seq(2));
    assert_eq!(fix.titles(&ours).await.len(), 2);
    fix.forget(&ours).await;
    for _ in 0..3 {
        fix.is_unknown(&ours, &[], &[]).await;
        assert_eq!(fix.titles(&theirs).await, ["all", "theirs", "own"]);
        assert_eq!(fix.store.cursor(&theirs, &device("phone")).await.unwrap(), Some(Seq(2)));
        assert_eq!(fix.store.groups_of(&theirs).await.unwrap().len(), 2);
        let sent = fix.store.sent(&t2, &id).await.unwrap().unwrap();
        assert_eq!(sent.audience, Audience::users(vec![theirs.user.clone()]));
        let by = SenderKey::User(ours.user.clone());
        assert_eq!(fix.store.sent_by(&t2, &by, None, 9).await.unwrap().messages.len(), 1);
        fix.kill().await;
        fix.reopen().await;
    }
}

/// Whatever else is going on: what was answered before it began is gone, what began after it was
/// answered is there, what came in between is one or the other; and the new inbox is whole.
pub(crate) async fn while_it_is_used_by_everybody(backend: impl Backend) {
    const SENDS: usize = 60;
    let mut fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    fix.make("default", "room").await;
    fix.members("room", &["bob"], &[]).await;
    for round in 0..4 {
        let watch = fix.store.watch(&ann).await.unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        let sends = tokio::spawn({
            let (store, answered, ann, bob) =
                (fix.store.clone(), answered.clone(), ann.clone(), bob.clone());
            async move {
                for n in 0..SENDS {
                    let fields = message(&format!("{round}.{n}"));
                    store.append(vec![outgoing(&[&ann, &bob], &fields)].into()).await.unwrap();
                    answered.store(n + 1, Ordering::SeqCst);
                }
            }
        });
        let uses = tokio::spawn({
            let (store, ann) = (fix.store.clone(), ann.clone());
            async move {
                let (tenant, room) = (TenantId::default(), "room".parse().unwrap());
                for n in 0..SENDS {
                    let users: Vec<UserId> = vec![ann.user.clone()];
                    let (join, leave) = if n % 2 == 0 { (users, vec![]) } else { (vec![], users) };
                    store.change_members(&tenant, &room, join, leave).await.unwrap();
                    let mark = MarkTarget::UpTo(Seq(n as u64));
                    store.mark(&ann, None, Mark::Read, mark).await.unwrap();
                    store.delivered(&ann, &device("phone"), Seq(1), Seq(n as u64));
                    store.ack(&ann, &device("phone"), Seq(n as u64));
                    drop(store.watch(&ann).await.unwrap());
                    let query = ListQuery { size: 10, ..ListQuery::default() };
                    store.list(&ann, query).await.unwrap();
                }
            }
        });
        eventually("some are sent", || answered.load(Ordering::SeqCst) > SENDS / 3).await;
        let before = answered.load(Ordering::SeqCst);
        fix.store.forget(&ann).await.unwrap();
        // One may be under way.
        let after = answered.load(Ordering::SeqCst) + 1;
        sends.await.unwrap();
        uses.await.unwrap();
        let last = fix.send(&[&ann], &format!("{round}.last")).await;
        let head = fix.store.head(&ann).await.unwrap();
        eventually("the new inbox is told", || {
            fix.published.seqs(&ann).last() == Some(&head.seq.0)
        })
        .await;
        drop(watch);
        for _ in 0..2 {
            let all = fix.titles(&ann).await;
            let (bell, titles) = all.split_last().unwrap();
            let from = SENDS - titles.len();
            assert!(before <= from && from <= after, "{before} <= {from} <= {after}");
            let expected: Vec<String> = (from..SENDS).map(|n| format!("{round}.{n}")).collect();
            assert_eq!((titles, &**bell), (&*expected, &*format!("{round}.last")));
            let log = fix.log(&ann).await;
            assert!(log.iter().map(|stored| stored.seq.0).eq(1..=head.seq.0));
            let unread = fix.list(&ann, ListQuery { size: 1, ..ListQuery::default() }).await.unread;
            assert_eq!(fix.store.unread(&ann).await.unwrap().total, unread);
            let cursor = fix.store.cursor(&ann, &device("phone")).await.unwrap();
            assert!(cursor.is_none_or(|seq| seq <= head.seq));
            // The last of the changes was that she left.
            assert_eq!(fix.names_of("#room").await, ["bob"]);
            assert_eq!(fix.recipients(&last).await, ["ann"]);
            fix.kill().await;
            fix.reopen().await;
        }
        assert_eq!(fix.titles(&bob).await.len(), SENDS * (round + 1));
    }
}
