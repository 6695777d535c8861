//! What tokens and admins say of users.

use delivery::{
    StoreError,
    store::{NameKind, TokenFacts, UserChange, UserRecord, limits::USER_GROUPS_MAX},
};
use protocol::{RoleId, TenantId, UserId};
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, audience, group, inbox, message, to_everyone, token},
};

async fn user<B: Backend>(fix: &Fixture<B>, name: &str) -> UserRecord {
    fix.store.user(&inbox(name)).await.unwrap().expect("a user who is known")
}

fn roles(names: &[&str]) -> Vec<RoleId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn added(names: &[&str]) -> UserChange {
    UserChange { added_roles: Some(roles(names)), department: None }
}

fn department(name: Option<&str>) -> UserChange {
    UserChange { added_roles: None, department: Some(name.map(ToOwned::to_owned)) }
}

async fn carries<B: Backend>(fix: &Fixture<B>, name: &str) -> Vec<String> {
    let groups = fix.store.groups_of(&inbox(name)).await.unwrap();
    let mut names: Vec<String> = groups.into_iter().map(|group| format!("{group:?}")).collect();
    names.sort();
    names
}

pub(crate) async fn a_token_makes_its_user_known(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    assert_eq!(fix.store.user(&inbox("ann")).await.unwrap(), None);
    fix.store.append(vec![to_everyone("default", &message("before"))].into()).await.unwrap();
    let facts =
        TokenFacts { department: Some("研发".to_owned()), ..token(5_000, &["dev", "dev"]) };
    fix.store.note_token(&inbox("ann"), facts.clone()).await.unwrap();
    fix.send_to(audience(&[], &["dev"]), "to a role").await;
    fix.send_to(audience(&[], &["department:研发"]), "to a department").await;
    fix.send_to(audience(&[], &["ops"]), "to another").await;
    for _ in 0..3 {
        let ann = user(&fix, "ann").await;
        assert_eq!((&*ann.username, &*ann.email), ("name", "name@example.com"));
        assert_eq!((ann.token_roles, ann.added_roles), (roles(&["dev"]), vec![]));
        assert_eq!((ann.department.as_deref(), ann.department_set), (Some("研发"), false));
        assert!(ann.created_at.millis() > 0);
        assert_eq!(fix.titles(&inbox("ann")).await, ["to a role", "to a department"]);
        fix.store.note_token(&inbox("ann"), facts.clone()).await.unwrap();
        assert_eq!(carries(&fix, "ann").await.len(), 2);
        fix.kill().await;
        fix.reopen().await;
    }
    // Known before, by a message of his own.
    fix.send(&[&inbox("bob")], "hello").await;
    let before = user(&fix, "bob").await;
    assert_eq!(before.username, "");
    fix.token("bob", 1, &[]).await;
    let after = user(&fix, "bob").await;
    assert_eq!((&*after.username, after.created_at), ("name", before.created_at));
}

pub(crate) async fn an_older_token_undoes_nothing(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.token("ann", 2_000, &["b"]).await;
    for _ in 0..3 {
        fix.token("ann", 1_000, &["a"]).await;
        assert_eq!(user(&fix, "ann").await.token_roles, roles(&["b"]));
        fix.kill().await;
    }
    // In the same second: whoever is shown last.
    fix.token("ann", 2_000, &["c"]).await;
    assert_eq!(user(&fix, "ann").await.token_roles, roles(&["c"]));
    // It says what is known, and is the newest that says so.
    fix.token("ann", 4_000, &["c"]).await;
    fix.token("ann", 3_000, &["a"]).await;
    assert_eq!(user(&fix, "ann").await.token_roles, roles(&["c"]));
    fix.reopen().await;
    fix.token("ann", 3_500, &["a"]).await;
    assert_eq!(user(&fix, "ann").await.token_roles, roles(&["c"]));
    fix.token("ann", 5_000, &["a"]).await;
    assert_eq!(user(&fix, "ann").await.token_roles, roles(&["a"]));
    assert_eq!(carries(&fix, "ann").await, [format!("{:?}", group("a"))]);
}

pub(crate) async fn a_role_is_left_when_nobody_says_it_any_more(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let watch = fix.store.watch(&ann).await.unwrap();
    let send = async |fix: &Fixture<_>, title: &str| {
        fix.send_to(audience(&[], &["x"]), title).await;
    };
    fix.token("ann", 1_000, &["x"]).await;
    send(&fix, "by token").await;
    let record = fix.store.change_user(&ann, added(&["x", "y", "x"])).await.unwrap();
    assert_eq!(record.added_roles, roles(&["x", "y"]));
    fix.token("ann", 2_000, &[]).await;
    send(&fix, "by admin").await;
    fix.store.change_user(&ann, added(&[])).await.unwrap();
    send(&fix, "by nobody").await;
    fix.store.change_user(&ann, added(&["x"])).await.unwrap();
    fix.token("ann", 3_000, &["x"]).await;
    fix.store.change_user(&ann, added(&[])).await.unwrap();
    send(&fix, "by token again").await;
    fix.token("ann", 4_000, &[]).await;
    send(&fix, "by nobody again").await;
    // An admin may know a user before anybody else does.
    let bob = fix.store.change_user(&inbox("bob"), added(&["x"])).await.unwrap();
    assert_eq!((&*bob.username, bob.added_roles), ("", roles(&["x"])));
    send(&fix, "to bob").await;
    drop(watch);
    for _ in 0..3 {
        assert_eq!(fix.titles(&ann).await, ["by token", "by admin", "by token again"]);
        assert_eq!(fix.titles(&inbox("bob")).await, ["to bob"]);
        assert_eq!(carries(&fix, "ann").await.len(), 0);
        fix.kill().await;
        fix.reopen().await;
    }
}

pub(crate) async fn an_admins_department_stands_over_the_tokens(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let said = |at, name: Option<&str>| TokenFacts {
        department: name.map(ToOwned::to_owned),
        ..token(at, &[])
    };
    fix.store.note_token(&ann, said(1_000, Some("sales"))).await.unwrap();
    let record = fix.store.change_user(&ann, department(Some("law"))).await.unwrap();
    assert_eq!((record.department.as_deref(), record.department_set), (Some("law"), true));
    fix.store.note_token(&ann, said(2_000, Some("support"))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(user(&fix, "ann").await.department.as_deref(), Some("law"));
        assert_eq!(carries(&fix, "ann").await, [format!("{:?}", group("department:law"))]);
        fix.reopen().await;
    }
    let record = fix.store.change_user(&ann, department(None)).await.unwrap();
    assert_eq!((record.department.as_deref(), record.department_set), (Some("support"), false));
    assert_eq!(carries(&fix, "ann").await, [format!("{:?}", group("department:support"))]);
    fix.store.note_token(&ann, said(3_000, None)).await.unwrap();
    assert_eq!(user(&fix, "ann").await.department, None);
    for name in ["", &"x".repeat(118), "a\nb"] {
        let refused = fix.store.change_user(&ann, department(Some(name))).await;
        assert!(matches!(refused, Err(StoreError::Limit(_))), "{refused:?}");
    }
    // What changes nothing answers all the same.
    let same = fix.store.change_user(&ann, UserChange::default()).await.unwrap();
    assert_eq!(same, user(&fix, "ann").await);
}

pub(crate) async fn everybody_known_is_listed(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    fix.send(&[&inbox("by-message")], "hello").await;
    drop(fix.store.watch(&inbox("by-watch")).await.unwrap());
    fix.members("room", &["by-channel"], &[]).await;
    fix.token("by-token", 1, &["dev"]).await;
    fix.store.change_user(&inbox("by-admin"), added(&["dev"])).await.unwrap();
    fix.store.head(&inbox("only-looked-at")).await.unwrap();
    fix.send_to(audience(&["with-a-group"], &["#room"]), "hello").await;
    let everybody =
        ["by-admin", "by-channel", "by-message", "by-token", "by-watch", "with-a-group"];
    for round in 0..4 {
        let list = async |after: Option<&str>, limit| -> Vec<String> {
            let after = after.map(|after| after.parse().unwrap());
            let page = fix.store.users(&TenantId::default(), after, limit).await.unwrap();
            assert!(page.iter().all(|user| user.created_at.millis() > 0));
            page.into_iter().map(|user| user.user_id.to_string()).collect()
        };
        assert_eq!(list(None, 100).await, everybody, "round {round}");
        assert_eq!(list(None, 2).await, everybody[..2]);
        assert_eq!(list(Some("by-message"), 2).await, everybody[3..5]);
        for name in everybody {
            user(&fix, name).await;
        }
        let names: Vec<UserId> = everybody.map(|name| name.parse().unwrap()).into();
        let kinds = fix.store.kinds(&TenantId::default(), &names).await.unwrap();
        assert_eq!(kinds, [NameKind::User; 6], "round {round}");
        match round {
            0 => fix.kill().await,
            1 => fix.reopen().await,
            // Now there are files.
            2 => {
                for name in everybody {
                    fix.titles(&inbox(name)).await;
                }
                fix.kill().await;
            }
            _ => {}
        }
    }
    assert_eq!(fix.store.user(&inbox("only-looked-at")).await.unwrap(), None);
}

pub(crate) async fn limits_are_kept(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    fix.make("default", "one").await;
    fix.make("default", "two").await;
    fix.members("one", &["ann"], &[]).await;
    let many = |count: usize| -> Vec<RoleId> {
        (0..count).map(|n| format!("r{n}").parse().unwrap()).collect()
    };
    let change = |count| UserChange { added_roles: Some(many(count)), department: None };
    let over = fix.store.change_user(&ann, change(USER_GROUPS_MAX)).await;
    assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
    fix.store.change_user(&ann, change(USER_GROUPS_MAX - 1)).await.unwrap();
    for _ in 0..2 {
        let (tenant, two) = (TenantId::default(), "two".parse().unwrap());
        let users = vec!["bob".parse().unwrap(), "ann".parse().unwrap()];
        let over = fix.store.change_members(&tenant, &two, users, vec![]).await;
        assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
        let over = fix.store.change_user(&ann, department(Some("law"))).await;
        assert!(matches!(over, Err(StoreError::Limit(_))), "{over:?}");
        fix.reopen().await;
    }
    // A token is not refused; there is no room for what it says.
    fix.token("ann", 1_000, &["r5", "new"]).await;
    assert_eq!(user(&fix, "ann").await.token_roles, roles(&["r5"]));
    assert_eq!(carries(&fix, "ann").await.len(), USER_GROUPS_MAX);
    fix.send_to(audience(&[], &["r998"]), "hello").await;
    assert_eq!(fix.titles(&ann).await, ["hello"]);
    // Less is never too much.
    fix.store.change_user(&ann, change(3)).await.unwrap();
    fix.members("two", &["ann"], &[]).await;
    fix.token("ann", 2_000, &["r5", "new"]).await;
    assert_eq!(carries(&fix, "ann").await.len(), 7);
}

pub(crate) async fn many_tokens_at_once_are_counted_right(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let mut tasks = JoinSet::new();
    for n in 0..200_i64 {
        let store = fix.store.clone();
        tasks.spawn(async move {
            let user = inbox(&format!("u{}", n % 50));
            let roles: &[&str] = if n % 3 == 0 { &["a", "b"] } else { &["a"] };
            store.note_token(&user, token(n, roles)).await.unwrap();
            if n % 7 == 0 {
                store.change_user(&user, added(&["c"])).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for _ in 0..2 {
        let tenant = TenantId::default();
        let mut carried = 0;
        for name in ["a", "b", "c"] {
            let members = fix.store.members(&tenant, &group(name), None, 100).await.unwrap();
            let size = fix.store.audience_size(&tenant, &audience(&[], &[name])).await.unwrap();
            assert_eq!(size, Some(members.len() as u64), "{name}");
            carried += members.len();
        }
        let mut expected = 0;
        for n in 0..50 {
            let newest = 150 + n;
            let found = user(&fix, &format!("u{n}")).await;
            assert_eq!(found.token_roles.len(), if newest % 3 == 0 { 2 } else { 1 }, "u{n}");
            expected += found.token_roles.len() + found.added_roles.len();
        }
        assert_eq!(carried, expected);
        fix.reopen().await;
    }
}
