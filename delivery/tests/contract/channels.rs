//! Channels and their members.

use std::time::Duration;

use delivery::{
    StoreError,
    store::{Channel, MembersChanged, limits::MEMBERS_CHANGE_MAX},
};
use protocol::{ChannelId, TenantId, UserId};
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{
        Fixture, audience, channel, group, in_millis, message, tenant_id, title, to_audience,
    },
};

pub(crate) async fn a_change_needs_the_version_it_was_made_from(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let tenant = TenantId::default();
    let made = fix.make("default", "news").await;
    assert_eq!((made.channel.version, made.members), (1, 0));
    assert!(made.channel.created_at.millis() > 0);
    assert_eq!(made.channel.created_at, made.channel.updated_at);
    let again = fix.store.save_channel(&tenant, channel("news"), Some(0)).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    let change = Channel {
        name: "新闻".to_owned(),
        open: false,
        history: false,
        created_by: "somebody else".to_owned(),
        ..channel("news")
    };
    for stale in [2, 7] {
        let stale = fix.store.save_channel(&tenant, change.clone(), Some(stale)).await;
        assert!(matches!(stale, Err(StoreError::Conflict(_))), "{stale:?}");
    }
    let missing = fix.store.save_channel(&tenant, channel("other"), Some(1)).await;
    assert!(matches!(missing, Err(StoreError::Conflict(_))), "{missing:?}");
    fix.members("news", &["ann"], &[]).await;
    let changed = fix.store.save_channel(&tenant, change, Some(1)).await.unwrap();
    assert_eq!((changed.channel.version, changed.members), (2, 1));
    assert_eq!((&*changed.channel.name, changed.channel.open), ("新闻", false));
    assert_eq!(changed.channel.created_by, "maker");
    assert_eq!(changed.channel.created_at, made.channel.created_at);
    for _ in 0..2 {
        let found = fix.store.channel(&tenant, &changed.channel.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&changed));
        assert_eq!(fix.store.channel(&tenant, &"other".parse().unwrap()).await.unwrap(), None);
        fix.kill().await;
        fix.reopen().await;
    }
    let third = fix.store.save_channel(&tenant, channel("news"), None).await.unwrap();
    assert_eq!((third.channel.version, third.members), (3, 1));
}

pub(crate) async fn are_listed_in_order_with_their_members_counted(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let tenant = TenantId::default();
    for id in ["b", "a", "界", "c"] {
        fix.make("default", id).await;
    }
    fix.make("t2", "theirs").await;
    fix.members("b", &["ann", "bob"], &[]).await;
    fix.members("c", &["ann"], &[]).await;
    assert!(fix.store.delete_channel(&tenant, &"a".parse().unwrap()).await.unwrap());
    assert!(!fix.store.delete_channel(&tenant, &"a".parse().unwrap()).await.unwrap());
    assert!(!fix.store.delete_channel(&tenant, &"theirs".parse().unwrap()).await.unwrap());
    for _ in 0..3 {
        let list = async |after: Option<&str>, limit| -> Vec<(String, u64)> {
            let after = after.map(|after| after.parse().unwrap());
            let page = fix.store.channels(&tenant, after, limit).await.unwrap();
            page.into_iter().map(|info| (info.channel.id.to_string(), info.members)).collect()
        };
        let all = [("b", 2), ("c", 1), ("界", 0)].map(|(id, members)| (id.to_owned(), members));
        assert_eq!(list(None, 10).await, all);
        assert_eq!(list(None, 2).await, all[..2]);
        assert_eq!(list(Some("b"), 10).await, all[1..]);
        assert_eq!(list(Some("界"), 10).await, []);
        let theirs = fix.store.channels(&tenant_id("t2"), None, 10).await.unwrap();
        assert_eq!(theirs.len(), 1);
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn members_come_and_go_once(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (tenant, id): (_, ChannelId) = (TenantId::default(), "room".parse().unwrap());
    let missing =
        fix.store.change_members(&tenant, &id, vec!["ann".parse().unwrap()], vec![]).await;
    assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    fix.make("default", "room").await;
    let changed = |joined, left, members| MembersChanged { joined, left, members };
    assert_eq!(fix.members("room", &["bob", "ann", "bob"], &["eve"]).await, changed(2, 0, 2));
    assert_eq!(fix.members("room", &["ann", "eve"], &["bob"]).await, changed(1, 1, 2));
    assert_eq!(fix.members("room", &["ann"], &["bob"]).await, changed(0, 0, 2));
    // Named in both: outside.
    assert_eq!(fix.members("room", &["ann", "dan"], &["ann", "dan"]).await, changed(0, 1, 1));
    assert_eq!(fix.members("room", &["zoe", "ann"], &[]).await, changed(2, 0, 3));
    for _ in 0..3 {
        let list = async |after: Option<&str>, limit| -> Vec<String> {
            let after = after.map(|after| after.parse().unwrap());
            let page = fix.store.members(&tenant, &group("#room"), after, limit).await.unwrap();
            assert!(page.iter().all(|member| member.joined_at.millis() > 0));
            page.into_iter().map(|member| member.user_id.to_string()).collect()
        };
        assert_eq!(list(None, 10).await, ["ann", "eve", "zoe"]);
        assert_eq!(list(None, 1).await, ["ann"]);
        assert_eq!(list(Some("ann"), 10).await, ["eve", "zoe"]);
        for (user, inside) in [("ann", true), ("bob", false), ("never", false)] {
            let key = super::fixture::inbox(user);
            // Not in memory, and in memory.
            for _ in 0..2 {
                let is_member = fix.store.is_member(&key, &group("#room")).await.unwrap();
                assert_eq!(is_member, inside, "{user}");
                let groups = fix.store.groups_of(&key).await.unwrap();
                assert_eq!(groups, if inside { vec![group("#room")] } else { vec![] }, "{user}");
                fix.store.head(&key).await.unwrap();
            }
        }
        fix.kill().await;
        fix.reopen().await;
    }
    let users = |count: usize| -> Vec<UserId> {
        (0..count).map(|n| format!("u{n}").parse().unwrap()).collect()
    };
    let many = users(MEMBERS_CHANGE_MAX);
    let over = fix.store.change_members(&tenant, &id, many.clone(), users(1)).await;
    assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
    let full = fix.store.change_members(&tenant, &id, many, vec![]).await.unwrap();
    assert_eq!(full, changed(MEMBERS_CHANGE_MAX as u64, 0, MEMBERS_CHANGE_MAX as u64 + 3));
}

pub(crate) async fn concurrent_changes_of_members_count_once(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    let mut tasks = JoinSet::new();
    for n in 0..40_usize {
        let store = fix.store.clone();
        tasks.spawn(async move {
            let users = |from: usize| -> Vec<UserId> {
                (from..from + 5).map(|n| format!("u{}", n % 8).parse().unwrap()).collect()
            };
            let (join, leave) = if n % 3 == 0 { (vec![], users(n)) } else { (users(n), vec![]) };
            let change =
                store.change_members(&TenantId::default(), &"room".parse().unwrap(), join, leave);
            // Some callers give up.
            tokio::time::timeout(Duration::from_millis(if n % 5 == 0 { 0 } else { 60_000 }), change)
                .await
        });
    }
    tasks.join_all().await;
    // What they left under way is done before what comes after it.
    let last = fix.members("room", &["last"], &[]).await;
    for _ in 0..2 {
        let tenant = TenantId::default();
        let listed = fix.store.members(&tenant, &group("#room"), None, 100).await.unwrap();
        let size = fix.store.audience_size(&tenant, &audience(&[], &["#room"])).await.unwrap();
        assert_eq!((size, last.members), (Some(listed.len() as u64), listed.len() as u64));
        fix.reopen().await;
    }
}

pub(crate) async fn the_log_is_what_was_sent_since_it_was_made(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let (tenant, id): (_, ChannelId) = (TenantId::default(), "room".parse().unwrap());
    assert_eq!(fix.store.channel_log(&tenant, &id, None, 10).await.unwrap().messages.len(), 0);
    fix.send_to(audience(&[], &["#room"]), "before").await;
    fix.make("default", "room").await;
    for n in 0..5 {
        let groups: &[&str] = if n % 2 == 0 { &["#room"] } else { &["#room", "#other"] };
        fix.send_to(audience(&["ann"], groups), &n.to_string()).await;
        fix.send_to(audience(&["ann"], &["#other"]), "elsewhere").await;
    }
    let mut short_lived = message("gone");
    short_lived.expire_at = Some(in_millis(-1));
    let expired = to_audience("default", audience(&[], &["#room"]), &short_lived);
    fix.store.append(vec![expired].into()).await.unwrap();
    for _ in 0..3 {
        let log = async |before, limit| {
            let page = fix.store.channel_log(&tenant, &id, before, limit).await.unwrap();
            let titles: Vec<_> = page.messages.iter().map(|body| title(body)).collect();
            (titles, page.next)
        };
        assert_eq!(log(None, 10).await, (["4", "3", "2", "1", "0"].map(String::from).into(), None));
        assert_eq!(log(None, 5).await.1, None, "nothing is left");
        let (first, next) = log(None, 2).await;
        assert_eq!(first, ["4", "3"]);
        let (second, next) = log(next, 2).await;
        assert_eq!(second, ["2", "1"]);
        assert_eq!(log(next, 2).await, (vec!["0".to_owned()], None));
        fix.kill().await;
        fix.reopen().await;
    }
    fix.store.delete_channel(&tenant, &id).await.unwrap();
    fix.make("default", "room").await;
    fix.send_to(audience(&[], &["#room"]), "after").await;
    let page = fix.store.channel_log(&tenant, &id, None, 10).await.unwrap();
    assert_eq!(page.messages.iter().map(|body| title(body)).collect::<Vec<_>>(), ["after"]);
}
