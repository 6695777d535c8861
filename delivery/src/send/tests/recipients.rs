//! What names of recipients become, for everybody who may write them.

use protocol::{ChannelId, RoleId};

use super::*;
use crate::{
    identity::{DEPARTMENT_ADMIN, SYSTEM_ADMIN},
    store::{Audience, Channel, Directory, Group, TokenFacts, UserChange},
};

const ACME: &str = "acme";

fn key(user: &str) -> InboxKey {
    InboxKey::new(TenantId::new(ACME).unwrap(), UserId::new(user).unwrap())
}

fn channel(id: &str) -> ChannelId {
    ChannelId::new(id).unwrap()
}

fn role(id: &str) -> RoleId {
    RoleId::new(id).unwrap()
}

/// u1 is in `ops` and in the department sales, with dave; bob is in all channels; carol is on call.
async fn world() -> (Arc<TestStore>, Sender) {
    let (store, sender) = sender();
    let tenant = key("u1").tenant;
    for (user, roles, department) in [
        ("u1", &[][..], Some("sales")),
        ("bob", &[], None),
        ("carol", &["oncall"], None),
        ("dave", &[], Some("sales")),
        ("erin", &[], Some("hr")),
    ] {
        let facts = TokenFacts {
            issued_at: Time::from_millis(1),
            username: user.to_owned(),
            email: String::new(),
            roles: roles.iter().map(|name| role(name)).collect(),
            department: department.map(str::to_owned),
        };
        store.note_token(&key(user), facts).await.unwrap();
    }
    for (id, open, members) in [
        ("ops", false, &["u1", "bob"][..]),
        ("secret", false, &["bob"]),
        ("news", true, &["bob"]),
        ("bob", false, &["bob"]),
    ] {
        let channel = Channel {
            id: channel(id),
            name: id.to_owned(),
            description: String::new(),
            open,
            history: false,
            presence: false,
            metadata: serde_json::Map::new(),
            created_by: "a test".to_owned(),
            created_at: Time::default(),
            updated_at: Time::default(),
            version: 0,
        };
        store.save_channel(&tenant, channel, Some(0)).await.unwrap();
        let members = members.iter().map(|user| UserId::new(user).unwrap()).collect();
        let id = ChannelId::new(id).unwrap();
        store.change_members(&tenant, &id, members, vec![]).await.unwrap();
    }
    (store, sender)
}

fn in_acme(level: Level, channels: &[&str]) -> Caller {
    let channels = channels.iter().map(|&id| id.to_owned()).collect();
    let text = vec!["text".to_owned()];
    let scope = Scope { channels, message_types: text, ..Scope::default() };
    let Caller::Service(service) = service(level, &[], scope) else { unreachable!() };
    let mut service = Arc::unwrap_or_clone(service);
    service.tenant_id = TenantId::new(ACME).unwrap();
    Caller::Service(Arc::new(service))
}

/// What became of a name, in one letter: a (u)ser, a (c)hannel, a (r)ole, (e)verybody, (f)orbidden,
/// or (i)nvalid.
async fn outcome(sender: &Sender, caller: &Caller, name: &str, kind: Option<&str>) -> char {
    let recipients = if kind == Some("all") { json!([]) } else { json!([name]) };
    let request = plain(json!({"recipients": recipients, "recipient_type": kind}));
    match ready(sender, caller, request).await {
        Ok((outgoing, _)) => match outgoing.audience {
            Audience::Everyone => 'e',
            Audience::Some { users, groups } => match (&*users, &*groups) {
                ([_], []) => 'u',
                ([], [Group::Channel(_)]) => 'c',
                ([], [Group::Role(_)]) => 'r',
                other => panic!("{name}: {other:?}"),
            },
        },
        Err(SendError::Refused(_)) => 'f',
        Err(SendError::Invalid(problems)) => {
            assert_eq!(problems[0].path, "recipients[0]", "{name}");
            'i'
        }
        Err(other) => panic!("{name}: {other}"),
    }
}

/// Columns of the table: what is written as recipient, and as its type.
const COLUMNS: [(&str, Option<&str>); 19] = [
    // Nothing is said: known user, user of a channel's name, unknown, channels, roles.
    ("carol", None),
    ("bob", None),
    ("stranger", None),
    ("ops", None),
    ("secret", None),
    ("news", None),
    ("oncall", None),
    ("department:sales", None),
    ("department:hr", None),
    // Said: users.
    ("ops", Some("user")),
    // Channels, the last of which is none.
    ("ops", Some("channel")),
    ("secret", Some("channel")),
    ("news", Some("channel")),
    ("nothing", Some("channel")),
    // Roles, the last of which nobody carries.
    ("oncall", Some("role")),
    ("department:sales", Some("role")),
    ("department:hr", Some("role")),
    ("nothing", Some("role")),
    ("", Some("all")),
];

#[tokio::test]
async fn who_may_send_to_whom() {
    let (_store, sender) = world().await;
    let chief = user(&[SYSTEM_ADMIN], &[]);
    let ordinary = user(&[], &[]);
    let head = user(&[DEPARTMENT_ADMIN], &[]);
    let rows = [
        ("a service of level system", in_acme(Level::System, &[]), "uuucccrrr u ccci rrri e"),
        ("one of level business", in_acme(Level::Business, &[]), "uuucccrrr u ccci rrri f"),
        // What its scope does not list is refused, there or not, and no channel where nothing is said.
        ("one in its scope", in_acme(Level::Business, &["ops"]), "uuucuurrr u cfff rrri f"),
        ("a third party", in_acme(Level::ThirdParty, &[]), "uuuuuuuuu u ffff ffff f"),
        ("one in its scope", in_acme(Level::ThirdParty, &["ops"]), "uuucuuuuu u cfff ffff f"),
        // Open or not: who may send to a channel is in it, and else it is not there.
        ("an ordinary user", ordinary, "uuucuuuuu u ciii ffff f"),
        ("a department's admin", head, "uuucuuuru u ciii frff f"),
        ("a system admin", chief, "uuucccrrr u ccci rrri e"),
    ];
    for (who, caller, expected) in rows {
        let expected: String = expected.split(' ').collect();
        let mut found = String::new();
        for (name, kind) in COLUMNS {
            found.push(outcome(&sender, &caller, name, kind).await);
        }
        assert_eq!(found, expected, "{who}");
    }
}

#[tokio::test]
async fn what_one_may_not_send_to_is_not_there() {
    let (_store, sender) = world().await;
    let told = async |caller: &Caller, name: &str| {
        let request = plain(json!({"recipients": [name], "recipient_type": "channel"}));
        match ready(&sender, caller, request).await {
            Err(SendError::Invalid(problems)) => problems[0].problem.clone(),
            Err(SendError::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let ordinary = user(&[], &[]);
    assert_eq!(told(&ordinary, "secret").await, told(&ordinary, "absent").await);
    let partner = in_acme(Level::ThirdParty, &["ops"]);
    assert_eq!(told(&partner, "secret").await, told(&partner, "absent").await);
    // The nearest known name is one that the caller may know.
    let near =
        |told: String| told.rsplit_once("nearest known is ").map(|(_, near)| near.to_owned());
    assert_eq!(near(told(&ordinary, "obs").await).as_deref(), Some("ops"));
    assert_eq!(near(told(&ordinary, "secre").await), None);
    let shop = in_acme(Level::Business, &[]);
    assert_eq!(near(told(&shop, "secre").await).as_deref(), Some("secret"));
    assert_eq!(near(told(&shop, "zzz").await), None);
    // A tenant's channels are not there for another.
    assert_eq!(near(told(&business(), "secre").await), None);
}

#[tokio::test]
async fn roles_that_an_admin_added_count_and_departments_are_the_directorys() {
    let (store, sender) = world().await;
    let ordinary = user(&[], &[]);
    let add = async |names: &[&str], department: Option<Option<&str>>| {
        let added_roles = Some(names.iter().map(|name| role(name)).collect());
        let department = department.map(|name| name.map(str::to_owned));
        store.change_user(&key("u1"), UserChange { added_roles, department }).await.unwrap();
    };
    let sends_to = async |name: &str, kind| outcome(&sender, &ordinary, name, kind).await;
    assert_eq!(sends_to("department:sales", None).await, 'u');
    add(&[DEPARTMENT_ADMIN], None).await;
    assert_eq!(sends_to("department:sales", None).await, 'r');
    assert_eq!(sends_to("department:hr", Some("role")).await, 'f');
    add(&[DEPARTMENT_ADMIN], Some(Some("hr"))).await;
    assert_eq!(sends_to("department:sales", Some("role")).await, 'f');
    assert_eq!(sends_to("department:hr", Some("role")).await, 'r');
    add(&[SYSTEM_ADMIN], None).await;
    for (name, kind) in [("secret", Some("channel")), ("oncall", Some("role")), ("", Some("all"))] {
        assert!(!['f', 'i'].contains(&sends_to(name, kind).await), "{name}");
    }
    let posing = plain(json!({"sender": {"id": "platform", "type": "system"}}));
    let (outgoing, _) = ready(&sender, &ordinary, posing.clone()).await.unwrap();
    assert_eq!(outgoing.body.fields().unwrap().sender, "platform");
    // A token for reading stays one.
    assert_eq!(sends_to_with(&sender, &user(&[], &["read"])).await, 'f');
    add(&[], None).await;
    assert_eq!(sends_to("secret", Some("channel")).await, 'i');
    let (outgoing, _) = ready(&sender, &ordinary, posing).await.unwrap();
    assert_eq!(outgoing.body.fields().unwrap().sender, "u1");
}

async fn sends_to_with(sender: &Sender, caller: &Caller) -> char {
    outcome(sender, caller, "carol", None).await
}

#[tokio::test]
async fn the_admin_of_a_department_may_write_to_all_of_it() {
    let (store, sender) = world().await;
    let staff: Vec<String> = (0..40).map(|n| format!("sales-{n}")).collect();
    for name in &staff {
        let change = UserChange { department: Some(Some("sales".to_owned())), added_roles: None };
        store.change_user(&key(name), change).await.unwrap();
    }
    let strangers: Vec<String> = (0..21).map(|n| format!("stranger-{n}")).collect();
    let send = async |caller: &Caller, recipients: Vec<&String>, kind: Option<&str>| {
        let request = plain(json!({"recipients": recipients, "recipient_type": kind}));
        match ready(&sender, caller, request).await {
            Ok((_, receipt)) => receipt.recipients.unwrap(),
            Err(SendError::Refused(Refusal::TooManyRecipients)) => 0,
            Err(other) => panic!("{other}"),
        }
    };
    let head = user(&[DEPARTMENT_ADMIN], &[]);
    for kind in [None, Some("user")] {
        assert_eq!(send(&head, staff.iter().collect(), kind).await, 40);
        assert_eq!(send(&head, staff.iter().chain(&strangers[..20]).collect(), kind).await, 60);
        assert_eq!(send(&head, staff.iter().chain(&strangers).collect(), kind).await, 0);
        assert_eq!(send(&user(&[], &[]), staff[..20].iter().collect(), kind).await, 20);
        assert_eq!(send(&user(&[], &[]), staff[..21].iter().collect(), kind).await, 0);
    }
}

#[tokio::test]
async fn labels_are_for_those_who_are_in_the_channel() {
    let (_store, sender) = world().await;
    let labelled = async |caller: &Caller, label: &str| {
        let request = plain(json!({"channel_id": label}));
        match ready(&sender, caller, request).await {
            Ok((outgoing, _)) => outgoing.body.fields().unwrap().channel_id,
            Err(SendError::Invalid(problems)) => {
                assert_eq!(problems[0].path, "channel_id");
                None
            }
            Err(other) => panic!("{other}"),
        }
    };
    let ordinary = user(&[], &[]);
    assert_eq!(labelled(&ordinary, "ops").await, Some(channel("ops")));
    for label in ["secret", "news", "absent"] {
        assert_eq!(labelled(&ordinary, label).await, None, "{label}");
        for caller in [user(&[SYSTEM_ADMIN], &[]), in_acme(Level::Business, &[])] {
            assert_eq!(labelled(&caller, label).await, Some(channel(label)));
        }
    }
}

#[tokio::test]
async fn a_message_to_one_channel_belongs_to_it() {
    let (_store, sender) = world().await;
    let shop = in_acme(Level::Business, &[]);
    let sent = async |recipients: &[&str], kind: Option<&str>, label: Option<&str>| {
        let request =
            json!({"recipients": recipients, "recipient_type": kind, "channel_id": label});
        let (outgoing, receipt) = ready(&sender, &shop, plain(request)).await.unwrap();
        (outgoing.body.fields().unwrap().channel_id, receipt.recipients)
    };
    assert_eq!(sent(&["ops"], None, None).await, (Some(channel("ops")), Some(2)));
    assert_eq!(sent(&["ops", "ops"], Some("channel"), None).await, (Some(channel("ops")), Some(2)));
    assert_eq!(sent(&["ops"], Some("channel"), Some("x")).await, (Some(channel("x")), Some(2)));
    // Each is counted once, in whatever way they are named.
    assert_eq!(sent(&["ops", "secret", "bob", "u1", "new"], None, None).await, (None, Some(3)));
    assert_eq!(sent(&["ops", "secret", "news"], Some("channel"), None).await, (None, Some(2)));
    assert_eq!(sent(&["department:sales", "u1", "oncall"], None, None).await, (None, Some(3)));
}

#[tokio::test]
async fn the_channel_may_be_named_as_the_seeds_struct_has_it() {
    let (_store, sender) = world().await;
    let of = |label: &str, kind: Option<&str>| json!({"title": "t", "channel_id": label, "recipient_type": kind, "recipients": []});
    let send = async |caller: &Caller, label: &str, kind| match ready(
        &sender,
        caller,
        request(of(label, kind)),
    )
    .await
    {
        Ok((outgoing, receipt)) => {
            let channel_id = outgoing.body.fields().unwrap().channel_id;
            assert_eq!(channel_id.unwrap().as_str(), label);
            receipt.recipients.unwrap().to_string()
        }
        Err(SendError::Invalid(problems)) => problems[0].path.clone(),
        Err(other) => other.to_string(),
    };
    let shop = in_acme(Level::Business, &[]);
    assert_eq!(send(&shop, "ops", Some("channel")).await, "2");
    assert_eq!(send(&shop, "none", Some("channel")).await, "channel_id");
    assert_eq!(send(&user(&[], &[]), "ops", Some("channel")).await, "2");
    assert_eq!(send(&user(&[], &[]), "secret", Some("channel")).await, "channel_id");
    for kind in [None, Some("user"), Some("role")] {
        assert_eq!(send(&shop, "ops", kind).await, "recipients");
    }
}

#[tokio::test]
async fn groups_of_a_message_have_a_limit() {
    let (_store, sender) = world().await;
    let names: Vec<String> = (0..=GROUPS_MAX).map(|n| format!("c{n}")).collect();
    let request = plain(json!({"recipients": names, "recipient_type": "channel"}));
    match ready(&sender, &in_acme(Level::System, &[]), request).await {
        Err(SendError::Invalid(problems)) => {
            assert_eq!(problems.len(), 1);
            assert!(problems[0].problem.contains("100"), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_asks_once_for_all_its_names() {
    let (_store, sender) = world().await;
    let shop = in_acme(Level::Business, &[]);
    let mut batch: Vec<Result<SendRequest, Vec<FieldProblem>>> =
        (0..50).map(|n| Ok(plain(json!({"recipients": [format!("user-{n}"), "bob"]})))).collect();
    batch.push(Ok(plain(json!({"recipients": ["ops"]}))));
    batch.push(Ok(plain(json!({"recipients": ["absent"], "recipient_type": "channel"}))));
    let results = sender.prepare_batch(&shop, batch).await.unwrap().outcome;
    let counts: Vec<_> =
        results.iter().map(|result| result.as_ref().ok().and_then(|one| one.recipients)).collect();
    assert!(counts[..51].iter().all(|count| *count == Some(2)), "{counts:?}");
    assert_eq!(counts[51], None);
}
