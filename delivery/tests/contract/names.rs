//! What names are, and how many are behind an audience.

use delivery::store::{Audience, NameKind, UserChange};
use protocol::{TenantId, UserId};

use super::{
    Backend,
    fixture::{Fixture, audience, inbox, tenant_id},
};

fn names(list: &[&str]) -> Vec<UserId> {
    list.iter().map(|name| name.parse().unwrap()).collect()
}

pub(crate) async fn are_users_then_channels_then_roles(backend: impl Backend) {
    use NameKind::{Channel, Role, Unknown, User};
    let mut fix = Fixture::new(backend).await;
    let tenant = TenantId::default();
    let all = names(&["ann", "all", "general", "dev", "nobody", "ann", "gone", "left"]);
    assert_eq!(fix.store.kinds(&tenant, &all).await.unwrap(), [Unknown; 8]);
    assert_eq!(fix.store.kinds(&tenant, &[]).await.unwrap(), []);
    for id in ["all", "general", "gone"] {
        fix.make("default", id).await;
    }
    fix.store.delete_channel(&tenant, &"gone".parse().unwrap()).await.unwrap();
    fix.token("ann", 1_000, &["dev", "all", "general", "left"]).await;
    fix.token("all", 1_000, &[]).await;
    fix.token("ann", 2_000, &["dev", "all", "general"]).await;
    for _ in 0..3 {
        let kinds = fix.store.kinds(&tenant, &all).await.unwrap();
        assert_eq!(kinds, [User, User, Channel, Role, Unknown, User, Unknown, Unknown]);
        assert_eq!(fix.store.kinds(&tenant_id("t2"), &all).await.unwrap(), [Unknown; 8]);
        fix.kill().await;
        fix.reopen().await;
    }
    fix.send(&[&inbox("nobody")], "not any more").await;
    assert_eq!(fix.store.kinds(&tenant, &all[4..5]).await.unwrap(), [User]);
    // Whoever sends to a user of a channel's or a role's name takes nothing away from it.
    fix.send(&[&inbox("general"), &inbox("dev")], "hijack").await;
    for _ in 0..3 {
        assert_eq!(fix.store.kinds(&tenant, &all[2..4]).await.unwrap(), [Channel, Role]);
        fix.kill().await;
        fix.reopen().await;
    }
    fix.store.delete_channel(&tenant, &"general".parse().unwrap()).await.unwrap();
    assert_eq!(fix.store.kinds(&tenant, &all[2..3]).await.unwrap(), [Role]);
    fix.token("ann", 3_000, &[]).await;
    assert_eq!(fix.store.kinds(&tenant, &all[2..4]).await.unwrap(), [User; 2]);
}

pub(crate) async fn many_are_looked_up_in_order(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let tenant = TenantId::default();
    fix.make("default", "room").await;
    let all: Vec<UserId> =
        (0..3_000).map(|n| format!("n{}", n * 7 % 3_000).parse().unwrap()).collect();
    let known: Vec<UserId> = all.iter().step_by(2).cloned().collect();
    fix.store.change_members(&tenant, &"room".parse().unwrap(), known, vec![]).await.unwrap();
    for n in (1..30).step_by(2) {
        fix.make("default", all[n].as_str()).await;
    }
    for n in (31..60).step_by(2) {
        fix.token("carrier", n, &[all[usize::try_from(n).unwrap()].as_str()]).await;
    }
    for _ in 0..2 {
        let kinds = fix.store.kinds(&tenant, &all).await.unwrap();
        for (n, kind) in kinds.into_iter().enumerate() {
            let expected = match n {
                _ if n % 2 == 0 => NameKind::User,
                ..30 => NameKind::Channel,
                // Each token took the role of the one before.
                59 => NameKind::Role,
                _ => NameKind::Unknown,
            };
            assert_eq!(kind, expected, "{n}");
        }
        fix.reopen().await;
    }
}

pub(crate) async fn a_size_counts_each_once(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    for id in ["one", "two", "empty"] {
        fix.make("default", id).await;
    }
    fix.members("one", &["ann", "bob", "eve"], &[]).await;
    fix.members("two", &["bob", "eve", "zoe"], &["ann"]).await;
    fix.token("ann", 1, &["dev"]).await;
    let added_roles = Some(vec!["dev".parse().unwrap()]);
    let change = UserChange { added_roles, department: None };
    fix.store.change_user(&inbox("dan"), change).await.unwrap();
    for _ in 0..3 {
        let size = async |users: &[&str], groups: &[&str]| {
            let to = audience(users, groups);
            fix.store.audience_size(&TenantId::default(), &to).await.unwrap().unwrap()
        };
        assert_eq!(size(&[], &[]).await, 0);
        assert_eq!(size(&["ann", "new", "ann"], &[]).await, 2);
        assert_eq!(size(&[], &["#one"]).await, 3);
        assert_eq!(size(&[], &["#empty", "#none", "none"]).await, 0);
        assert_eq!(size(&["new"], &["#empty"]).await, 1);
        assert_eq!(size(&["ann", "new", "zoe"], &["#one"]).await, 5);
        assert_eq!(size(&[], &["#one", "#two", "#one"]).await, 4);
        assert_eq!(size(&[], &["#one", "#two", "dev"]).await, 5);
        assert_eq!(size(&["new", "ann", "dan"], &["#one", "#two", "dev", "#empty"]).await, 6);
        let everyone = fix.store.audience_size(&TenantId::default(), &Audience::Everyone).await;
        assert_eq!(everyone.unwrap(), None);
        fix.kill().await;
        fix.reopen().await;
    }
    fix.members("one", &[], &["ann"]).await;
    fix.store.delete_channel(&TenantId::default(), &"two".parse().unwrap()).await.unwrap();
    let to = audience(&["ann"], &["#one", "#two"]);
    assert_eq!(fix.store.audience_size(&TenantId::default(), &to).await.unwrap(), Some(3));
}
