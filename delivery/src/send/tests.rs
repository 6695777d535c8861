//! Who may send what, and what is refused.

use std::sync::Arc;

use protocol::{TenantId, Time, UserId};
use serde_json::{Value, json};

mod later;
mod recipients;

use super::{limits::*, *};
use crate::{
    InboxKey,
    api::tests::store::TestStore,
    control::{
        Author, AuthorKind, Control, Level, ON_BEHALF_OF, Scope, Service, ServiceStatus,
        ServiceType,
    },
    identity::{AdminCaller, UserCaller},
    template::tests::{built_in, built_in_one},
};

fn service(level: Level, permissions: &[&str], scope: Scope) -> Caller {
    Caller::Service(Arc::new(Service {
        id: protocol::ServiceId::new("netdrive").unwrap(),
        name: "企业网盘".to_owned(),
        kind: ServiceType::Internal,
        level,
        permissions: permissions.iter().map(|&p| p.to_owned()).collect(),
        scope,
        rate_limit: None,
        allowed_networks: Default::default(),
        owner: String::new(),
        status: ServiceStatus::Active,
        tenant_id: TenantId::default(),
        created_at: Time::default(),
    }))
}

fn system() -> Caller {
    service(Level::System, &[], Scope::default())
}

fn business() -> Caller {
    service(Level::Business, &[], Scope::default())
}

fn user(roles: &[&str], scope: &[&str]) -> Caller {
    let inbox = InboxKey::new(TenantId::new("acme").unwrap(), UserId::new("u1").unwrap());
    Caller::User(Arc::new(UserCaller {
        username: "john.doe".to_owned(),
        roles: roles.iter().map(|&r| r.to_owned()).collect(),
        scope: scope.iter().map(|&s| s.to_owned()).collect(),
        ..UserCaller::new(inbox, Time::MAX)
    }))
}

fn sender() -> (Arc<TestStore>, Sender) {
    let store = TestStore::open();
    // The folder goes at once; the open file is looked at no more.
    let control = Arc::new(Control::open(tempfile::tempdir().unwrap().path()).unwrap());
    let sender = Sender::new(store.clone(), store.clone(), control, built_in(), Arc::default());
    (store, sender)
}

fn request(value: Value) -> SendRequest {
    serde_json::from_value(value).unwrap()
}

/// A plain message with changes.
fn plain(changes: Value) -> SendRequest {
    let mut value = json!({"title": "t", "content": "c", "recipients": ["a"]});
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    request(value)
}

/// Everything but the store.
async fn ready(
    sender: &Sender,
    caller: &Caller,
    request: SendRequest,
) -> Result<(Outgoing, Receipt), SendError> {
    let now = crate::clock::now();
    let checked = sender.check(&caller.tenant(), request, &Ok(()), now)?;
    let mut rights = Rights::new(caller);
    let prepared = sender.prepare_one(&mut rights, &Known::default(), checked, now).await?;
    let [outgoing] = prepared.outgoing.into_vec().try_into().expect("one language");
    Ok((outgoing, prepared.receipt))
}

fn prepared(caller: &Caller, request: SendRequest) -> Result<MessageFields, SendError> {
    thread_local! {
        // One store for all questions of a test, which has a thread of its own.
        static SENDER: Sender = sender().1;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    SENDER.with(|sender| {
        let (outgoing, _) = runtime.block_on(ready(sender, caller, request))?;
        Ok(outgoing.body.fields().unwrap())
    })
}

fn refused(caller: &Caller, request: SendRequest) -> Refusal {
    match prepared(caller, request) {
        Err(SendError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn problem_paths(request: SendRequest) -> Vec<String> {
    match prepared(&system(), request) {
        Err(SendError::Invalid(problems)) => problems.into_iter().map(|p| p.path).collect(),
        other => panic!("not invalid: {other:?}"),
    }
}

fn from_now(seconds: i64) -> String {
    Time::from_millis(crate::clock::now().millis() + seconds * 1_000).to_string()
}

#[test]
fn a_message_has_everything_that_was_said() {
    let soon = from_now(60);
    let fields = prepared(
        &business(),
        plain(json!({
            "channel_id": "c1", "message_type": "file_share", "priority": 9, "expire_at": soon,
            "recipient_type": "user", "metadata": {"a": [1]},
            "attachments": [{"type": "file", "url": "https://a/b", "size": 5}],
            "actions": [{"type": "link", "text": "Open", "url": "/x", "style": "primary"}],
        })),
    )
    .unwrap();
    assert!(fields.id.as_str().starts_with("msg-") && fields.id.as_str().len() == 36);
    assert_eq!(fields.channel_id.unwrap().as_str(), "c1");
    assert_eq!((fields.title.as_str(), fields.content.as_str()), ("t", "c"));
    assert_eq!((fields.message_type.as_str(), fields.priority), ("file_share", 9));
    assert_eq!(fields.expire_at.unwrap().to_string(), soon);
    assert_eq!(fields.metadata["a"], json!([1]));
    assert_eq!((fields.attachments[0].size, fields.actions[0].url.as_str()), (5, "/x"));
    let info = fields.sender_info.unwrap();
    assert_eq!(fields.sender, "netdrive");
    assert_eq!((info.kind.as_str(), info.name.as_str()), ("service", "企业网盘"));
    assert_eq!(info.service_id.as_deref(), Some("netdrive"));
}

#[test]
fn what_is_left_out_has_its_default() {
    let zero = json!({"channel_id": "", "message_type": "", "recipient_type": "", "on_behalf_of": "",
        "template_id": "", "variables": {}});
    for request in [plain(json!({})), plain(zero)] {
        let fields = prepared(&business(), request).unwrap();
        assert_eq!((fields.message_type.as_str(), fields.priority), ("text", 5));
        assert_eq!((fields.channel_id, fields.on_behalf_of), (None, None));
    }
    let past = plain(json!({"scheduled_at": from_now(-60)}));
    assert!(prepared(&business(), past).is_ok(), "a past time means now");
}

#[test]
fn templates_bring_type_and_priority() {
    let alert = json!({
        "template_id": "system_alert", "recipients": ["admin_team"],
        "variables": {"alert_type": "a", "alert_message": "b", "affected_scope": "c"},
    });
    let fields = prepared(&system(), request(alert.clone())).unwrap();
    assert_eq!((fields.message_type.as_str(), fields.priority), ("alert", 8));
    assert_eq!(fields.title, "系统告警：a");
    assert_eq!(fields.template_id.as_deref(), Some("system_alert"));
    let mut own = alert;
    own["priority"] = json!(2);
    own["title"] = json!("");
    own["actions"] = json!([{"type": "button", "text": "OK", "action": "ok"}]);
    let fields = prepared(&system(), request(own)).unwrap();
    assert_eq!((fields.priority, fields.actions.len()), (2, 1));
}

#[test]
fn every_field_at_fault_is_named() {
    let all = json!({
        "channel_id": "a\nb", "title": "t".repeat(TITLE_BYTES_MAX + 1),
        "content": "c".repeat(CONTENT_BYTES_MAX + 1), "message_type": "a b",
        "recipients": ["a", "", "b\u{0}", "c".repeat(129)], "recipient_type": "users",
        "on_behalf_of": "x".repeat(129), "priority": 11, "collapse_key": "k\n",
        "scheduled_at": from_now(SCHEDULE_AHEAD_MAX.as_secs() as i64 + 60),
        "expire_at": from_now(-1),
        "sender": {"id": "", "type": "robot", "avatar": "javascript:x"},
        "attachments": [{"type": "virus", "url": ""}],
        "actions": [{"type": "link", "text": ""}, {"type": "button", "text": "x", "style": "big"}],
        "variables": {"a": "b"}, "metadata": {"a": "m".repeat(METADATA_BYTES_MAX)},
    });
    let mut paths = problem_paths(request(all));
    paths.sort();
    assert_eq!(
        paths,
        [
            "actions[0].text",
            "actions[0].url",
            "actions[1].style",
            "attachments[0].type",
            "attachments[0].url",
            "channel_id",
            "collapse_key",
            "content",
            "expire_at",
            "message_type",
            "metadata",
            "on_behalf_of",
            "priority",
            "recipient_type",
            "recipients[1]",
            "recipients[2]",
            "recipients[3]",
            "scheduled_at",
            "sender.avatar",
            "sender.id",
            "sender.type",
            "title",
            "variables",
        ]
    );
}

#[test]
fn limits_are_exact() {
    let ok = |changes: Value| prepared(&system(), plain(changes)).unwrap();
    let bad = |changes: Value| problem_paths(plain(changes));
    ok(json!({"title": "t".repeat(TITLE_BYTES_MAX)}));
    ok(json!({"content": "c".repeat(CONTENT_BYTES_MAX)}));
    ok(json!({"message_type": "t".repeat(MESSAGE_TYPE_BYTES_MAX)}));
    assert_eq!(
        bad(json!({"message_type": "t".repeat(MESSAGE_TYPE_BYTES_MAX + 1)})),
        ["message_type"]
    );
    for priority in [1, 10] {
        ok(json!({"priority": priority}));
    }
    for priority in [0, 11, -1, 300] {
        assert_eq!(bad(json!({"priority": priority})), ["priority"]);
    }
    let people = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    ok(json!({"recipients": people(RECIPIENTS_MAX)}));
    assert_eq!(bad(json!({"recipients": people(RECIPIENTS_MAX + 1)})), ["recipients"]);
    assert_eq!(bad(json!({"recipients": []})), ["recipients"]);
    assert_eq!(bad(json!({"recipients": null})), ["recipients"]);
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    ok(json!({"metadata": {"a": nested(METADATA_DEPTH_MAX)}}));
    assert_eq!(bad(json!({"metadata": {"a": nested(METADATA_DEPTH_MAX + 1)}})), ["metadata"]);
    let files = |count: usize| vec![json!({"type": "file", "url": "https://a/b"}); count];
    ok(json!({"attachments": files(ATTACHMENTS_MAX)}));
    assert_eq!(bad(json!({"attachments": files(ATTACHMENTS_MAX + 1)})), ["attachments"]);
    let buttons = |count: usize| vec![json!({"type": "button", "text": "x"}); count];
    ok(json!({"actions": buttons(ACTIONS_MAX)}));
    assert_eq!(bad(json!({"actions": buttons(ACTIONS_MAX + 1)})), ["actions"]);
    ok(json!({"content": null}));
    assert_eq!(bad(json!({"title": "", "content": null})), ["content"]);
    assert!(problem_paths(plain(json!({"recipients": vec![""; 9_999]}))).len() <= PROBLEMS_MAX);
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(problem_paths(plain(json!({"recipient_type": "channel"}))), ["recipients[0]"]);
    assert_eq!(problem_paths(plain(json!({"recipient_type": "role"}))), ["recipients[0]"]);
    assert_eq!(problem_paths(plain(json!({"recipient_type": "group"}))), ["recipient_type"]);
    assert_eq!(problem_paths(plain(json!({"recipient_type": "all"}))), ["recipients"]);
    let unknown = json!({"template_id": "none", "recipients": ["a"]});
    assert_eq!(problem_paths(request(unknown)), ["template_id"]);
    let both = plain(json!({"template_id": "file_share", "message_type": "x"}));
    assert_eq!(problem_paths(both), ["title", "content", "message_type"]);
}

#[test]
fn business_services_send_business_messages() {
    for word in ["alert", "Alert", "ANNOUNCEMENT", "system"] {
        let message = || plain(json!({"message_type": word}));
        assert_eq!(refused(&business(), message()), Refusal::ReservedType);
        assert!(prepared(&system(), message()).is_ok());
        assert!(prepared(&user(&["system_admin"], &[]), message()).is_ok());
        assert_eq!(refused(&user(&["department_admin"], &[]), message()), Refusal::ReservedType);
    }
    let alert = || {
        request(json!({
            "template_id": "system_alert", "recipients": ["a"],
            "variables": {"alert_type": "a", "alert_message": "b", "affected_scope": "c"},
        }))
    };
    assert!(matches!(refused(&business(), alert()), Refusal::ReservedType));
    let everyone = || request(json!({"title": "t", "recipient_type": "all"}));
    for caller in [business(), user(&[], &[])] {
        assert_eq!(refused(&caller, everyone()), Refusal::Everyone);
    }
    for caller in [system(), user(&["system_admin"], &[]), Caller::Admin(AdminCaller::Token)] {
        assert!(prepared(&caller, everyone()).is_ok());
    }
}

#[test]
fn a_template_of_category_system_is_reserved_whatever_its_type() {
    let mut source = built_in_one("system_alert").source.clone();
    source.message_type = "text".to_owned();
    let checked = validate::Checked::new(
        request(json!({"template_id": "file_share", "recipients": ["a"]})),
        Some(built_in_one("file_share")),
        crate::clock::now(),
    );
    let mut checked = checked.ok().unwrap();
    checked.template = Some(Arc::new(crate::template::Compiled::new(source, None)));
    checked.message_type = "text".to_owned();
    assert_eq!(permission::check(&business(), &checked), Err(Refusal::SystemTemplate));
    assert_eq!(permission::check(&system(), &checked), Ok(()));
}

#[test]
fn a_services_own_template_gives_it_no_type_beyond_its_scope() {
    let news = Scope { message_types: vec!["news".to_owned()], ..Scope::default() };
    let caller = service(Level::Business, &[], news);
    let of = |author: &str| Author { kind: AuthorKind::Service, id: author.to_owned() };
    let file = request(json!({"template_id": "file_share", "recipients": ["a"]}));
    let builtin = built_in_one("file_share");
    let mut checked =
        validate::Checked::new(file, Some(Arc::clone(&builtin)), crate::clock::now()).ok().unwrap();
    assert_eq!(permission::check(&caller, &checked), Ok(()));
    for (author, allowed) in [("another", true), ("netdrive", false)] {
        let template = crate::template::Compiled::new(builtin.source.clone(), Some(of(author)));
        checked.template = Some(Arc::new(template));
        assert_eq!(permission::check(&caller, &checked).is_ok(), allowed, "{author}");
    }
}

#[test]
fn a_locale_is_for_templates_and_names_a_language() {
    let problems = |changes: Value| problem_paths(plain(changes));
    assert_eq!(problems(json!({"locale": "en"})), ["locale"]);
    let file = |locale: &str| {
        json!({"template_id": "file_share", "recipients": ["a"],
        "variables": {"sender_name": "a", "file_name": "b", "file_size": "c",
            "share_time": "2025-01-15 14:30:00", "file_url": "/f"}, "locale": locale})
    };
    assert_eq!(problem_paths(request(file("english please"))), ["locale"]);
    for good in ["en", "zh_CN", ""] {
        assert!(prepared(&business(), request(file(good))).is_ok(), "{good}");
    }
}

#[test]
fn third_party_services_send_what_their_scope_lists() {
    let nothing = service(Level::ThirdParty, &[], Scope::default());
    let word = |text: &str| vec![text.to_owned()];
    let scoped = service(
        Level::ThirdParty,
        &[],
        Scope { templates: word("file_share"), channels: word("c1"), message_types: word("news") },
    );
    let file = || {
        request(json!({
            "template_id": "file_share", "recipients": ["a"],
            "variables": {"sender_name": "a", "file_name": "b", "file_size": "c",
                "share_time": "2025-01-15 14:30:00", "file_url": "/f"},
        }))
    };
    let news = || plain(json!({"message_type": "news"}));
    assert_eq!(refused(&nothing, news()), Refusal::OutOfScope("message type"));
    assert_eq!(refused(&nothing, file()), Refusal::OutOfScope("template"));
    assert!(prepared(&scoped, file()).is_ok() && prepared(&scoped, news()).is_ok());
    assert_eq!(refused(&scoped, plain(json!({}))), Refusal::OutOfScope("message type"));
    let there = plain(json!({"message_type": "news", "channel_id": "c1"}));
    assert!(prepared(&scoped, there).is_ok());
    let elsewhere = plain(json!({"message_type": "news", "channel_id": "c2"}));
    assert_eq!(refused(&scoped, elsewhere), Refusal::OutOfScope("channel"));
    // A scope limits a business service too, where it lists something.
    let narrow = Scope { message_types: word("news"), ..Scope::default() };
    let narrow = service(Level::Business, &[], narrow);
    assert!(prepared(&narrow, news()).is_ok() && prepared(&narrow, file()).is_ok());
    assert_eq!(refused(&narrow, plain(json!({}))), Refusal::OutOfScope("message type"));
}

#[test]
fn sending_in_a_users_name_needs_its_permission() {
    let trusted = service(Level::Business, &[ON_BEHALF_OF], Scope::default());
    let behalf = || plain(json!({"on_behalf_of": "user456"}));
    for caller in [business(), system(), user(&[], &[])] {
        assert_eq!(refused(&caller, behalf()), Refusal::OnBehalfOf);
    }
    let fields = prepared(&trusted, behalf()).unwrap();
    let info = fields.sender_info.unwrap();
    assert_eq!(fields.sender, "user456");
    assert_eq!(fields.on_behalf_of.unwrap().as_str(), "user456");
    assert_eq!((info.kind.as_str(), info.service_id.as_deref()), ("user", Some("netdrive")));

    let posing = || plain(json!({"sender": {"id": "user456", "type": "user"}}));
    assert_eq!(refused(&business(), posing()), Refusal::OnBehalfOf);
    assert!(prepared(&trusted, posing()).is_ok());
    let official = || plain(json!({"sender": {"id": "platform", "type": "system"}}));
    assert_eq!(refused(&business(), official()), Refusal::SystemSender);
    assert_eq!(prepared(&system(), official()).unwrap().sender, "platform");
    let named = json!({"sender": {"id": "drive", "type": "service", "service_id": "other"}});
    let info = prepared(&business(), plain(named)).unwrap().sender_info.unwrap();
    assert_eq!((info.id.as_str(), info.service_id.as_deref()), ("drive", Some("netdrive")));
}

#[test]
fn users_are_always_themselves() {
    let posing = plain(json!({"sender": {"id": "boss", "type": "system", "name": "Boss"}}));
    let fields = prepared(&user(&[], &["read", "write"]), posing).unwrap();
    let info = fields.sender_info.unwrap();
    assert_eq!((fields.sender.as_str(), info.name.as_str()), ("u1", "john.doe"));
    assert_eq!((info.kind.as_str(), info.service_id), ("user", None));
    let people: Vec<_> = (0..21).map(|n| format!("u{n}")).collect();
    let many = plain(json!({"recipients": people}));
    assert_eq!(refused(&user(&[], &[]), many.clone()), Refusal::TooManyRecipients);
    assert!(prepared(&user(&["system_admin"], &[]), many).is_ok());
    let twenty = plain(json!({"recipients": people[..20]}));
    assert!(prepared(&user(&[], &[]), twenty).is_ok());
    assert_eq!(
        refused(&user(&["system_admin"], &["read"]), plain(json!({}))),
        Refusal::ReadOnlyToken
    );
}

async fn sent(sender: &Sender, caller: &Caller, request: SendRequest) -> Receipt {
    let prepared = sender.prepare(caller, request).await.unwrap();
    sender.store(prepared, None).await.unwrap()
}

#[tokio::test]
async fn recipients_receive_once_and_behind_their_wall() {
    let (store, sender) = sender();
    let twice = plain(json!({"recipients": ["a", "b", "a"]}));
    let receipt = sent(&sender, &user(&[], &[]), twice).await;
    assert_eq!((receipt.status, receipt.recipients), ("accepted", Some(2)));
    let inbox = |tenant: &str, user: &str| {
        InboxKey::new(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
    };
    assert_eq!(store.messages(&inbox("acme", "a")).await.len(), 1);
    assert!(store.messages(&inbox("default", "a")).await.is_empty());
    let all = request(json!({"content": "x", "recipient_type": "all", "recipients": []}));
    let receipt = sent(&sender, &user(&["system_admin"], &[]), all).await;
    assert_eq!(receipt.recipients, None);
    assert_eq!(store.messages(&inbox("acme", "b")).await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_one_append_of_its_good_messages() {
    let (store, sender) = sender();
    let unreadable = vec![FieldProblem { path: "titel".to_owned(), problem: String::new() }];
    let batch = vec![
        Ok(plain(json!({}))),
        Ok(plain(json!({"priority": 99}))),
        Err(unreadable),
        Ok(plain(json!({"message_type": "alert"}))),
        Ok(plain(json!({"recipients": ["b"]}))),
    ];
    let business = business();
    let send = async |batch| {
        let prepared = sender.prepare_batch(&business, batch).await?;
        sender.store(prepared, None).await
    };
    let results = send(batch).await.unwrap();
    let good: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, false, true]);
    assert_eq!(*store.appends.lock(), [2]);
    let nothing = send(vec![Ok(plain(json!({"priority": 0})))]).await;
    assert!(nothing.unwrap()[0].is_err());
    assert_eq!(*store.appends.lock(), [2], "nothing to store, nothing asked");
    store.fail_with(|| StoreError::Busy("journal"));
    let failed = send(vec![Ok(plain(json!({})))]).await;
    assert!(matches!(failed, Err(StoreError::Busy(_))));
}

#[test]
fn ids_are_distinct_and_ascend() {
    let ids: Vec<_> = (0..1_000).map(|_| message_id()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
}
