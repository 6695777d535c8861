//! Messages to channels and roles.

use std::time::{Duration, Instant};

use delivery::store::{Mark, MarkTarget, MembersChanged};
use protocol::{TenantId, UserId};

use super::{
    Backend,
    fixture::{
        Fixture, audience, group, inbox, inbox_of, message, outgoing, tenant_id, to_audience,
        to_everyone, words,
    },
};

pub(crate) async fn whoever_is_a_member_receives_and_nobody_else(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    // Some are looked at all the time, some never until the end.
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    let watch = fix.store.watch(&ann).await.unwrap();
    fix.send_to(audience(&[], &["#room"]), "nobody").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.send_to(audience(&[], &["#room"]), "1").await;
    fix.members("room", &["eve"], &["ann"]).await;
    fix.send_to(audience(&[], &["#room"]), "2").await;
    fix.send(&[&ann], "direct").await;
    fix.members("room", &["ann"], &["eve", "bob"]).await;
    fix.send_to(audience(&[], &["#room"]), "3").await;
    drop(watch);
    for _ in 0..3 {
        assert_eq!(fix.titles(&ann).await, ["1", "direct", "3"]);
        assert_eq!(fix.titles(&bob).await, ["1", "2"]);
        assert_eq!(fix.titles(&eve).await, ["2"]);
        assert_eq!((fix.unread(&ann).await, fix.unread(&eve).await), (3, 1));
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn a_user_in_several_groups_receives_once(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "one").await;
    fix.make("default", "two").await;
    fix.members("one", &["ann", "bob"], &[]).await;
    fix.members("two", &["ann", "eve"], &[]).await;
    fix.token("ann", 1, &["dev"]).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let watch = fix.store.watch(&ann).await.unwrap();
    for n in 0..3 {
        let to = audience(&["ann", "zoe", "ann"], &["#two", "#one", "dev", "#two"]);
        fix.send_to(to, &n.to_string()).await;
        if n == 0 {
            let (told, seqs) = (fix.told(&ann, 1).await, [1]);
            assert_eq!(told, seqs);
        }
    }
    drop(watch);
    for _ in 0..3 {
        for user in ["ann", "bob", "eve", "zoe"] {
            assert_eq!(fix.titles(&inbox(user)).await, ["0", "1", "2"], "{user}");
        }
        fix.kill().await;
        fix.reopen().await;
    }
    assert_eq!(fix.mark(&bob, Mark::Read, MarkTarget::UpTo(protocol::Seq(2))).await.changed, 2);
}

pub(crate) async fn members_that_are_watched_are_told_at_once(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    let mut watches = vec![];
    for n in 0..30 {
        watches.push(fix.store.watch(&inbox(&format!("u{n}"))).await.unwrap());
    }
    let users: Vec<UserId> = (0..20).map(|n| format!("u{n}").parse().unwrap()).collect();
    let (tenant, room) = (TenantId::default(), "room".parse().unwrap());
    fix.store.change_members(&tenant, &room, users.clone(), vec![]).await.unwrap();
    fix.send_to(audience(&[], &["#room"]), "1").await;
    fix.store.change_members(&tenant, &room, vec![], users[..10].to_vec()).await.unwrap();
    fix.send_to(audience(&["u25"], &["#room"]), "2").await;
    for n in 0..30 {
        let expected: &[u64] = match n {
            0..10 | 25 => &[1],
            10..20 => &[1, 2],
            _ => &[],
        };
        let key = inbox(&format!("u{n}"));
        assert_eq!(fix.told(&key, expected.len()).await, expected, "u{n}");
        assert_eq!(fix.store.head(&key).await.unwrap().seq.0, expected.len() as u64);
    }
}

pub(crate) async fn what_was_received_stays(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.send_to(audience(&[], &["#room"]), "1").await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    // Ann has looked, Bob has not.
    let before = words(&fix.log(&ann).await);
    fix.members("room", &[], &["ann", "bob"]).await;
    fix.store.delete_channel(&TenantId::default(), &"room".parse().unwrap()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(words(&fix.log(&ann).await), before);
        assert_eq!(words(&fix.log(&bob).await), before);
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn a_channel_made_again_is_empty(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (tenant, room) = (TenantId::default(), "room".parse().unwrap());
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let watch = fix.store.watch(&ann).await.unwrap();
    fix.make("default", "room").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.send_to(audience(&[], &["#room"]), "1").await;
    assert!(fix.store.delete_channel(&tenant, &room).await.unwrap());
    fix.send_to(audience(&[], &["#room"]), "to nobody").await;
    assert_eq!(fix.store.channel(&tenant, &room).await.unwrap(), None);
    let info = fix.make("default", "room").await;
    assert_eq!((info.members, info.channel.version), (0, 1));
    fix.send_to(audience(&[], &["#room"]), "to an empty one").await;
    let changed = MembersChanged { joined: 1, left: 0, members: 1 };
    assert_eq!(fix.members("room", &["bob"], &["ann"]).await, changed);
    fix.send_to(audience(&[], &["#room"]), "2").await;
    drop(watch);
    for _ in 0..3 {
        assert_eq!(fix.titles(&ann).await, ["1"]);
        assert_eq!(fix.titles(&bob).await, ["1", "2"]);
        assert!(!fix.store.is_member(&ann, &group("#room")).await.unwrap());
        let members = fix.store.members(&tenant, &group("#room"), None, 9).await.unwrap();
        assert_eq!(members.len(), 1);
        let size = fix.store.audience_size(&tenant, &audience(&[], &["#room"])).await.unwrap();
        assert_eq!(size, Some(1));
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn a_member_has_an_inbox(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    // Bob's inbox is in memory, and unknown.
    let (ann, bob, eve) = (inbox("ann"), inbox("bob"), inbox("eve"));
    assert_eq!(fix.unread(&bob).await, 0);
    fix.store.append(vec![to_everyone("default", &message("before"))].into()).await.unwrap();
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.token("eve", 1, &[]).await;
    fix.store.append(vec![to_everyone("default", &message("notice"))].into()).await.unwrap();
    fix.members("room", &[], &["ann", "bob"]).await;
    fix.store.append(vec![to_everyone("default", &message("another"))].into()).await.unwrap();
    for _ in 0..3 {
        for key in [&ann, &bob, &eve] {
            assert_eq!(fix.titles(key).await, ["notice", "another"], "{key:?}");
        }
        assert_eq!(fix.log(&inbox("never")).await.len(), 0);
        fix.kill().await;
        fix.reopen().await;
    }
}

/// Stays in which nothing was sent are forgotten; the others are not.
pub(crate) async fn whoever_comes_and_goes_receives_what_came_meanwhile(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let mut watch = Some(fix.store.watch(&ann).await.unwrap());
    let mut expected = vec![];
    for n in 0..40 {
        fix.members("room", &["ann", "bob"], &[]).await;
        if n % 3 == 0 {
            fix.send_to(audience(&[], &["#room"]), &n.to_string()).await;
            expected.push(n.to_string());
        }
        fix.members("room", &[], &["ann", "bob"]).await;
        fix.send_to(audience(&[], &["#room"]), "to nobody").await;
        if n == 20 {
            watch = None;
            fix.kill().await;
        }
        if n == 30 {
            fix.reopen().await;
            watch = Some(fix.store.watch(&ann).await.unwrap());
        }
    }
    drop(watch);
    for _ in 0..2 {
        assert_eq!(fix.titles(&ann).await, expected);
        assert_eq!(fix.titles(&bob).await, expected);
        fix.reopen().await;
    }
}

/// Far more than a load takes into memory, with messages and marks of their own among them.
pub(crate) async fn a_long_absence_is_made_up_in_order(backend: impl Backend) {
    const COUNT: usize = 2_500;
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    fix.make("default", "other").await;
    fix.members("room", &["ann", "bob"], &[]).await;
    fix.members("other", &["bob"], &[]).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    let first = fix.send_to(audience(&[], &["#room"]), "first").await;
    fix.mark_one(&ann, Mark::Read, &first).await.unwrap();
    fix.reopen().await;
    let mut expected = vec!["first".to_owned()];
    let mut items = vec![];
    for n in 0..COUNT {
        let name = n.to_string();
        items.push(match n % 25 {
            0 => outgoing(&[&ann, &bob], &message(&name)),
            1 => to_everyone("default", &message(&name)),
            2 => to_audience("default", audience(&[], &["#other"]), &message(&name)),
            _ => to_audience("default", audience(&[], &["#room"]), &message(&name)),
        });
        if n % 25 != 2 {
            expected.push(name);
        }
        if items.len() == 500 {
            fix.store.append(std::mem::take(&mut items).into()).await.unwrap();
            if n > COUNT / 2 {
                fix.kill().await;
            }
        }
    }
    for round in 0..3 {
        let log = words(&fix.log(&bob).await);
        assert_eq!(log.len(), COUNT + 1, "round {round}");
        assert!(log.iter().map(|(seq, _)| *seq).eq(1..=COUNT as u64 + 1));
        assert_eq!(fix.titles(&ann).await, expected);
        assert_eq!(fix.unread(&ann).await, expected.len() as u64 - 1);
        assert_eq!(fix.unread(&bob).await, COUNT as u64 + 1);
        if round == 0 {
            fix.kill().await;
        } else {
            fix.reopen().await;
        }
    }
}

pub(crate) async fn a_hundred_thousand_members_cost_one_write(backend: impl Backend) {
    const MEMBERS: usize = 100_000;
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "all").await;
    let (tenant, all) = (TenantId::default(), "all".parse().unwrap());
    let users: Vec<UserId> = (0..MEMBERS).map(|n| format!("user{n:06}").parse().unwrap()).collect();
    for part in users.chunks(10_000) {
        fix.store.change_members(&tenant, &all, part.to_vec(), vec![]).await.unwrap();
    }
    let watched = inbox("user000007");
    let watch = fix.store.watch(&watched).await.unwrap();
    let started = Instant::now();
    for n in 0..20 {
        fix.send_to(audience(&["user000003", "somebody"], &["#all"]), &n.to_string()).await;
    }
    let took = started.elapsed();
    // A write for each member would be a hundred times as long.
    assert!(took < Duration::from_secs(5), "20 sends took {took:?}");
    assert_eq!(fix.told(&watched, 20).await.len(), 20);
    drop(watch);
    let size = async |groups: &[&str]| {
        let audience = audience(&["user000003", "somebody"], groups);
        fix.store.audience_size(&tenant, &audience).await.unwrap()
    };
    assert_eq!(size(&["#all"]).await, Some(MEMBERS as u64 + 1));
    assert_eq!(size(&["#all", "#none"]).await, Some(MEMBERS as u64 + 1));
    let page = fix.store.members(&tenant, &group("#all"), Some(users[49_999].clone()), 3).await;
    let page: Vec<_> = page.unwrap().into_iter().map(|member| member.user_id).collect();
    assert_eq!(page, users[50_000..50_003]);
    for user in ["user000000", "user050000", "user099999"] {
        assert_eq!(fix.unread(&inbox(user)).await, 20);
    }
    assert!(fix.store.delete_channel(&tenant, &all).await.unwrap());
    fix.send_to(audience(&[], &["#all"]), "to nobody").await;
    assert_eq!(size(&["#all"]).await, Some(2));
    fix.reopen().await;
    assert!(fix.store.members(&tenant, &group("#all"), None, 3).await.unwrap().is_empty());
    assert_eq!(fix.unread(&inbox("user012345")).await, 20);
}

pub(crate) async fn tenants_are_apart(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    fix.make("t2", "room").await;
    fix.members("room", &["ann"], &[]).await;
    let (theirs, ours) = (inbox_of("t2", "ann"), inbox("ann"));
    fix.store.watch(&theirs).await.unwrap();
    let users = vec!["bob".parse().unwrap()];
    let room = "room".parse().unwrap();
    fix.store.change_members(&tenant_id("t2"), &room, users, vec![]).await.unwrap();
    let item = to_audience("t2", audience(&[], &["#room", "dev"]), &message("theirs"));
    fix.store.append(vec![item].into()).await.unwrap();
    fix.send_to(audience(&[], &["#room"]), "ours").await;
    fix.token("ann", 1, &["dev"]).await;
    for _ in 0..3 {
        assert_eq!(fix.titles(&ours).await, ["ours"]);
        assert_eq!(fix.log(&theirs).await.len(), 0);
        assert_eq!(fix.titles(&inbox_of("t2", "bob")).await, ["theirs"]);
        assert_eq!(fix.log(&inbox("bob")).await.len(), 0);
        assert!(!fix.store.is_member(&theirs, &group("#room")).await.unwrap());
        let sizes = audience(&[], &["#room", "dev"]);
        let size = fix.store.audience_size(&tenant_id("t2"), &sizes).await.unwrap();
        assert_eq!(size, Some(1));
        fix.kill().await;
        fix.reopen().await;
    }
}
