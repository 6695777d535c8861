//! Sessions: a user's own, and, for admins, anybody's.

pub(in crate::api) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{DeviceId, TenantId, Time, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::log_in;
use crate::{
    account::{AccountError, DEVICE_NAME_BYTES_MAX, DeviceInfo, LogIn, LogInAs, Session},
    api::{
        ApiState,
        answer::Answer,
        body::{Decoded, Payload},
        caller::{Admin, User},
        error::ApiError,
        query::{ANY_TENANT, ID_CURSOR_PARAMETER, PageMeta, Parameters, SIZE, TENANT_ID},
        shape::{Field, Form, ID, Shape, formed, may, must},
        toll::Toll,
        trace::Trace,
    },
    problems::Problems,
    store::InboxKey,
};

/// The query of an admin's list.
const LIST_QUERY: &[Field] =
    &[ANY_TENANT, may("user_id", ID, "Of this user."), ID_CURSOR_PARAMETER, SIZE];

/// The query of ending all of a user.
const USER_QUERY: &[Field] = &[must("user_id", ID, "Whose sessions."), TENANT_ID];

/// The query of ending or making one.
const ONE_QUERY: &[Field] = &[ANY_TENANT];

/// A login that goes on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct Shown<'a> {
    /// Its id, which its tokens carry as `session_id`.
    session_id: &'a str,
    /// Whose.
    user_id: &'a UserId,
    /// The user's tenant.
    tenant_id: &'a TenantId,
    /// The device.
    device_id: &'a DeviceId,
    /// What its owner calls it; may be empty.
    device_name: &'a str,
    /// By which provider; `pushhub` where an admin vouched.
    provider: &'a str,
    /// Where it was seen last; empty where that is not known.
    address: &'a str,
    /// What the device said of itself.
    user_agent: &'a str,
    /// When it began.
    created_at: Time,
    /// When it was seen last, to the minute.
    last_seen_at: Time,
    /// When it ends unless it is refreshed.
    expires_at: Time,
    /// Whether it is the one that asks.
    current: bool,
}

impl<'a> Shown<'a> {
    fn new(session: &'a Session, current: Option<&str>) -> Self {
        Self {
            session_id: &session.id,
            user_id: &session.inbox.user,
            tenant_id: &session.inbox.tenant,
            device_id: &session.device_id,
            device_name: &session.device_name,
            provider: &session.provider,
            address: &session.address,
            user_agent: &session.user_agent,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            expires_at: session.expires_at,
            current: current == Some(session.id.as_str()),
        }
    }
}

/// Logins of a user.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionList")]
struct List<'a> {
    /// The one that was seen last first; in an admin's list of all, in the order in which they began.
    sessions: Vec<Shown<'a>>,
}

/// What has ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndedSessions")]
struct Ended {
    /// How many sessions. Tokens that name a session of another login service end as well, and are not
    /// counted.
    ended: u64,
}

/// A session that an admin makes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewSession {
    user_id: UserId,
    #[serde(default)]
    device_id: Option<DeviceId>,
    #[serde(default)]
    device_name: Option<String>,
}

impl Payload for NewSession {
    const SHAPE: Shape = Shape::Object(&[
        must("user_id", ID, "Whose. Need not be known before."),
        may("device_id", ID, "Which device; made up unless said. An older session of it ends."),
        may(
            "device_name",
            formed(Form::Line, 0, DEVICE_NAME_BYTES_MAX),
            "What its owner calls it.",
        ),
    ]);
}

type SessionPath = Result<Path<String>, PathRejection>;

/// Longest id that is looked for, in bytes. Longer ones are none of ours.
const SESSION_ID_BYTES_MAX: usize = 128;

fn session_id(id: SessionPath) -> Result<String, ApiError> {
    let id = id
        .ok()
        .map(|Path(id)| id)
        .filter(|id| (1..=SESSION_ID_BYTES_MAX).contains(&id.len()) && !id.contains('\0'));
    Ok(id.ok_or(AccountError::NoSession)?)
}

/// `GET /auth/sessions`
pub(in crate::api) async fn list(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let sessions = state.0.accounts.sessions(&user.inbox).await?;
    let current = user.session.as_deref();
    let sessions = sessions.iter().map(|session| Shown::new(session, current)).collect();
    Ok(answer.success(&List { sessions }))
}

/// `DELETE /auth/sessions/{id}`
pub(in crate::api) async fn end(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    id: SessionPath,
) -> Result<Response, ApiError> {
    let id = session_id(id)?;
    state.0.accounts.end_session(&user.inbox, &id).await?;
    log("session_ended", user.user().as_str(), user.user(), Some(&id));
    Ok(answer.success(&Ended { ended: 1 }))
}

/// `DELETE /auth/sessions`
pub(in crate::api) async fn end_others(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let ended = state.0.accounts.end_all_sessions(&user.inbox, user.session.as_deref()).await?;
    log("other_sessions_ended", user.user().as_str(), user.user(), None);
    Ok(answer.success(&Ended { ended }))
}

/// Who ended what.
fn log(event: &'static str, by: &str, user: &UserId, session: Option<&str>) {
    tracing::info!(target: "security", event, by, user = user.as_str(), session);
}

/// `GET /admin/sessions`
pub(in crate::api) async fn list_all(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, LIST_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters);
    let user: Option<UserId> = parameters.an_id("user_id");
    let (after, size) = parameters.id_paging::<String>();
    parameters.finish()?;
    let accounts = &state.0.accounts;
    let mut found = match user {
        Some(user) => {
            let inbox = InboxKey::new(tenant.unwrap_or_default(), user);
            let mut found = accounts.sessions(&inbox).await?;
            found.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            found.retain(|session| after.as_ref().is_none_or(|after| session.id > *after));
            found
        }
        None => accounts.all_sessions(tenant, after, size + 1).await?,
    };
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().map(|session| session.id.as_str()).filter(|_| more);
    let meta = PageMeta::of_ids(size, last);
    let sessions = found.iter().map(|session| Shown::new(session, None)).collect();
    Ok(answer.page(&List { sessions }, &meta))
}

/// `POST /admin/sessions`
pub(in crate::api) async fn create(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    toll: Toll,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    Decoded(NewSession { user_id, device_id, device_name }): Decoded<NewSession>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, ONE_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    parameters.finish()?;
    let device_name = device_name.unwrap_or_default();
    let mut problems = Problems::default();
    problems.bytes("device_name", &device_name, DEVICE_NAME_BYTES_MAX);
    if device_name.chars().any(char::is_control) {
        problems.say("device_name", "must have no control characters");
    }
    if !problems.0.is_empty() {
        return Err(ApiError::Invalid(problems.0));
    }
    trace.of_tenant(&tenant);
    let request = LogIn {
        who: LogInAs::User(InboxKey::new(tenant, user_id)),
        device: DeviceInfo { id: device_id, name: device_name },
        address: Some(toll.address()),
        user_agent: String::new(),
    };
    Ok(answer.success(&log_in(&state, request).await?.shown()))
}

/// `DELETE /admin/sessions/{id}`
pub(in crate::api) async fn end_any(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: SessionPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, ONE_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters);
    parameters.finish()?;
    let id = session_id(id)?;
    let inbox = state.0.accounts.end_any_session(tenant, &id).await?;
    trace.of_tenant(&inbox.tenant);
    trace.before(&inbox.user);
    Ok(answer.success(&Ended { ended: 1 }))
}

/// `DELETE /admin/sessions?user_id`
pub(in crate::api) async fn end_of_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, USER_QUERY)?;
    let user: Option<UserId> = parameters.an_id("user_id");
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    parameters.finish()?;
    let user = user.ok_or_else(|| ApiError::field("user_id", "is missing"))?;
    let inbox = InboxKey::new(tenant, user);
    let ended = state.0.accounts.end_all_sessions(&inbox, None).await?;
    trace.of_tenant(&inbox.tenant);
    trace.before(&inbox.user);
    trace.after(Ended { ended });
    Ok(answer.success(&Ended { ended }))
}
