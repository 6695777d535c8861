//! Every error with the status it is answered with.

use std::io;

use protocol::{Body, MessageFields, MessageId, MessageState, Time};

use super::*;
use crate::{
    channel::ChannelRefusal,
    control::{Quota, QuotaReached, ServiceStatus, TemplateLimit},
    limit::{LimitConfig, Limiter, Rate},
    send::Refusal,
    store::Channel,
    template::{NotYours, tests::built_in_one},
};

fn disk() -> Arc<dyn std::error::Error + Send + Sync> {
    Arc::new(io::Error::other("secret path"))
}

fn stored(json: &str) -> Box<InboxMessage> {
    let id = MessageId::new("msg-1").unwrap();
    let body = Arc::new(Body::from_stored(id, None, json.as_bytes()));
    Box::new(InboxMessage { state: MessageState::new(Seq(1)), body, pressed: Vec::new() })
}

fn fields() -> String {
    let fields = MessageFields {
        id: MessageId::new("msg-1").unwrap(),
        channel_id: None,
        title: String::new(),
        content: "content".to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "a".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::default(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: Vec::new(),
        actions: Vec::new(),
    };
    serde_json::to_string(&fields).unwrap()
}

fn problem() -> Vec<FieldProblem> {
    vec![FieldProblem { path: "a".to_owned(), problem: "is bad".to_owned() }]
}

fn limited() -> Limited {
    let connect = Some(Rate::hourly(1));
    let config = LimitConfig { connect, ..LimitConfig::default() };
    let limiter = Limiter::new(config, &metrics::NoopRecorder);
    let client = limiter.client(None, &http::HeaderMap::new());
    limiter.connect(client).unwrap();
    limiter.connect(client).unwrap_err()
}

fn broken_body() -> protocol::message::BodyError {
    stored("{}").body.fields().unwrap_err()
}

fn damaged() -> serde_json::Error {
    serde_json::from_str::<Seq>("secret").unwrap_err()
}

fn reached() -> QuotaReached {
    let retry_after = Duration::from_secs(3_600);
    QuotaReached { quota: Quota::MessagesPerDay, limit: 5, used: 5, retry_after }
}

fn channel() -> Box<ChannelInfo> {
    let channel = Channel {
        id: protocol::ChannelId::new("ops").unwrap(),
        name: "Operations".to_owned(),
        description: String::new(),
        open: false,
        history: false,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by: "a".to_owned(),
        created_at: Time::default(),
        updated_at: Time::default(),
        version: 3,
    };
    Box::new(ChannelInfo { channel, members: 2 })
}

fn template() -> Box<Template> {
    Box::new(built_in_one("file_share").source.clone())
}

fn place_away() -> RunError {
    RunError::Place { place: "secret path".to_owned(), source: "secret path".into() }
}

#[test]
fn every_error_has_its_status() {
    let sqlite = || ControlError::Sqlite(rusqlite::Error::InvalidQuery);
    let secret = || rusqlite::Error::InvalidPath("secret path".into());
    let database = |error| ApiError::from(WebhookError::Database(error));
    let cases: Vec<(ApiError, u16, bool, bool)> = vec![
        // error, status, Retry-After, Connection: close
        (ApiError::Malformed("x".to_owned()), 400, false, false),
        (ApiError::TooDeep(32), 400, false, false),
        (ApiError::BrokenBody, 400, false, false),
        (ApiError::NoRoute, 404, false, false),
        (ApiError::NoMethod, 405, false, false),
        (ApiError::NotAcceptable, 406, false, false),
        (ApiError::Slow(Duration::from_secs(30)), 408, false, true),
        (ApiError::TooLarge(1), 413, false, true),
        (ApiError::ContentType, 415, false, false),
        (ApiError::ContentEncoding, 415, false, false),
        (ApiError::Invalid(problem()), 422, false, false),
        (ApiError::UsersOnly, 403, false, false),
        (ApiError::ReadOnly, 403, false, false),
        (ApiError::OtherTenant, 403, false, false),
        (ApiError::TokenOnly, 403, false, false),
        (ApiError::NoUser, 404, false, false),
        (ApiError::NoConnection, 404, false, false),
        (ApiError::ExportsRunning, 503, true, false),
        (ApiError::NodesMissing(vec!["node-2".parse().unwrap()]), 503, true, false),
        (TooManyAsk.into(), 503, true, false),
        (ApiError::Resync { min_seq: Seq(5), head: Seq(9) }, 410, false, false),
        (RunError::UnderWay.into(), 409, true, false),
        (RunError::NoRun("x".to_owned()).into(), 404, false, false),
        (RunError::Full("x".to_owned()).into(), 507, false, false),
        (place_away().into(), 503, true, false),
        (RunError::TurnLost.into(), 503, true, false),
        (RunError::from(StoreError::Closing).into(), 503, true, true),
        (RunError::from(secret()).into(), 500, false, false),
        (ApiError::Draining, 503, true, true),
        (ApiError::AuditFull, 503, true, false),
        (ApiError::Panicked, 500, false, false),
        (broken_body().into(), 500, false, false),
        (limited().into(), 429, true, false),
        (AuthError::Missing.into(), 401, false, false),
        (AuthError::UnknownScheme.into(), 401, false, false),
        (AuthError::BadToken.into(), 401, false, false),
        (AuthError::Expired.into(), 401, false, false),
        (AuthError::NotYet.into(), 401, false, false),
        (AuthError::Revoked.into(), 401, false, false),
        (AuthError::BadTicket.into(), 401, false, false),
        (AuthError::UserDisabled.into(), 403, false, false),
        (AccountError::BadRefresh.into(), 401, false, false),
        (AccountError::Reused.into(), 401, false, false),
        (AccountError::Expired.into(), 401, false, false),
        (AccountError::UserDisabled.into(), 403, false, false),
        (AccountError::Nameless.into(), 422, false, false),
        (AccountError::NoSession.into(), 404, false, false),
        (AccountError::NoIdentity.into(), 404, false, false),
        (AccountError::LinkedElsewhere.into(), 409, false, false),
        (AccountError::LastIdentity.into(), 409, false, false),
        (AccountError::TooManyIdentities.into(), 422, false, false),
        (AuthError::BadKey.into(), 401, false, false),
        (AuthError::KeyAddress([10, 0, 0, 1].into()).into(), 403, false, false),
        (AuthError::ServiceInactive(ServiceStatus::Pending).into(), 403, false, false),
        (AuthError::NotAdmin.into(), 403, false, false),
        (AuthError::Unavailable(Box::new(sqlite())).into(), 503, true, false),
        (SendError::Invalid(problem()).into(), 422, false, false),
        (SendError::Refused(Refusal::Everyone).into(), 403, false, false),
        (SendError::Quota(reached()).into(), 429, true, false),
        (SendError::Store(StoreError::Busy("journal")).into(), 503, true, false),
        (StoreError::NotFound.into(), 404, false, false),
        (StoreError::VersionConflict(stored(&fields())).into(), 409, false, false),
        (StoreError::VersionConflict(stored("{}")).into(), 500, false, false),
        (StoreError::Busy("journal").into(), 503, true, false),
        (StoreError::NotWritable(disk()).into(), 503, true, false),
        (StoreError::Closing.into(), 503, true, true),
        (StoreError::Damaged(disk()).into(), 500, false, false),
        (ControlError::NotFound.into(), 404, false, false),
        (ControlError::Invalid(problem()).into(), 422, false, false),
        (ControlError::IdTaken.into(), 422, false, false),
        (ControlError::TooManyServices.into(), 422, false, false),
        (ControlError::TooManyKeys.into(), 422, false, false),
        (ControlError::TooManyTenants.into(), 422, false, false),
        (ControlError::KeyExpired.into(), 422, false, false),
        (ControlError::KeyReplaced("another".to_owned()).into(), 422, false, false),
        (
            ControlError::Transition {
                from: ServiceStatus::Pending,
                to: ServiceStatus::Active,
                why: "it must be approved first",
            }
            .into(),
            422,
            false,
            false,
        ),
        (ControlError::ExpiryInPast.into(), 422, false, false),
        (ControlError::UnknownVersion { found: 9, known: 1 }.into(), 500, false, false),
        (sqlite().into(), 500, false, false),
        (ControlError::Io(io::Error::other("secret path")).into(), 500, false, false),
        (ControlError::Template(TemplateLimit::Count).into(), 422, false, false),
        (ControlError::Document(damaged()).into(), 500, false, false),
        (SendError::Templates(Arc::new(sqlite())).into(), 503, true, false),
        (TemplateError::NotFound.into(), 404, false, false),
        (TemplateError::BuiltIn.into(), 403, false, false),
        (TemplateError::Invalid(problem()).into(), 422, false, false),
        (TemplateError::Refused(NotYours::NoWriter).into(), 403, false, false),
        (TemplateError::IdTaken(template()).into(), 409, false, false),
        (TemplateError::IdWasAnothers.into(), 422, false, false),
        (TemplateError::VersionConflict(template()).into(), 409, false, false),
        (
            TemplateError::Control(ControlError::Template(TemplateLimit::Bytes)).into(),
            422,
            false,
            false,
        ),
        (TemplateError::Control(sqlite()).into(), 500, false, false),
        (ChannelError::NotFound.into(), 404, false, false),
        (ChannelError::Invalid(problem()).into(), 422, false, false),
        (ChannelError::IdTaken(channel()).into(), 409, false, false),
        (ChannelError::VersionConflict(channel()).into(), 409, false, false),
        (ChannelError::Closed.into(), 403, false, false),
        (ChannelError::Refused(ChannelRefusal::NoKeeper).into(), 403, false, false),
        (ChannelError::Quota(3).into(), 422, false, false),
        (ChannelError::Store(StoreError::Limit("too many members")).into(), 422, false, false),
        (ChannelError::Store(StoreError::Damaged(disk())).into(), 500, false, false),
        (WebhookError::NotFound.into(), 404, false, false),
        (WebhookError::Invalid(problem()).into(), 422, false, false),
        (WebhookError::TooMany.into(), 422, false, false),
        (WebhookError::Disabled.into(), 422, false, false),
        (WebhookError::DisabledByAdmin.into(), 403, false, false),
        (WebhookError::TooManyTests.into(), 503, true, false),
        (WebhookError::NotWritable(Arc::new(secret().into())).into(), 503, true, false),
        (WebhookError::Unknown(Arc::new(secret().into())).into(), 503, true, false),
        (WebhookError::Closed.into(), 503, true, true),
        (database(DatabaseError::UnknownVersion { found: 9, known: 1 }), 500, false, false),
        (database(DatabaseError::MigrationChanged(1)), 500, false, false),
        (database(DatabaseError::Damaged("secret".into())), 500, false, false),
        (database(DatabaseError::Sqlite(secret())), 500, false, false),
        (database(DatabaseError::Io(io::Error::other("secret path"))), 500, false, false),
        (database(DatabaseError::Busy), 503, true, false),
        (database(DatabaseError::Unavailable("secret".into())), 503, true, false),
        (database(DatabaseError::Unknown("secret".into())), 503, true, false),
        (WebhookError::Io(io::Error::other("secret path")).into(), 500, false, false),
        (WebhookError::Tls("secret".into()).into(), 500, false, false),
    ];
    for (error, status, retries, closes) in cases {
        let failure = error.failure();
        assert_eq!(failure.status().as_u16(), status, "{error:?}");
        assert_eq!(failure.retry_after.is_some(), retries, "{error:?}");
        assert_eq!(failure.close, closes, "{error:?}");
        assert!(!failure.message.is_empty() && !failure.message.contains('\n'), "{error:?}");
        assert!(!failure.message.contains("secret"), "insides must stay inside: {error:?}");
        assert_eq!(error.into_response().status().as_u16(), status);
    }
}

#[test]
fn a_failure_carries_how_things_stand() {
    let conflict = ApiError::from(StoreError::VersionConflict(stored(&fields()))).failure();
    assert!(matches!(conflict.data, Some(FailureData::Message(_))));
    let conflict = ApiError::from(TemplateError::VersionConflict(template())).failure();
    assert!(matches!(conflict.data, Some(FailureData::Template(_))));
    let conflict = ApiError::from(ChannelError::VersionConflict(channel())).failure();
    let data = serde_json::to_value(conflict.data).unwrap();
    assert_eq!(
        (&data["id"], &data["version"], &data["members"]),
        (&"ops".into(), &3.into(), &2.into())
    );
    let resync = ApiError::Resync { min_seq: Seq(5), head: Seq(9) }.failure();
    assert_eq!(
        serde_json::to_value(resync.data).unwrap(),
        serde_json::json!({"min_seq": 5, "head": 9})
    );
}

#[test]
fn the_sentence_names_the_first_field() {
    let one = ApiError::Invalid(problem()).failure();
    assert_eq!(one.message, "a is bad");
    let two = ApiError::Invalid([problem(), problem()].concat()).failure();
    assert_eq!(two.message, "a is bad (and 1 more)");
    assert_eq!(two.fields.len(), 2);
}
