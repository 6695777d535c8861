//! Admins, for admins of role `admin` and the bearer of `ADMIN_TOKEN`.

pub(super) mod docs;
pub(super) mod logins;
pub(super) mod oneself;
pub(super) mod single_sign_on;

use axum::{
    extract::{FromRequestParts, OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Admin,
    doc::{Part, Told},
    error::ApiError,
    query::{PAGE, PageMeta, Parameters, SIZE, on_page},
    shape::{Field, Form, ID, Shape, formed, may, must, text},
    trace::Trace,
};
use crate::{
    admin::{
        AdminAccount, AdminChanges, AdminError, AdminSession, EMAIL_BYTES_MAX, NewAdmin,
        PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN, Role, USERNAME_BYTES_MAX,
    },
    control::TEXT_BYTES_MAX,
    identity::{AdminCaller, AuthError},
};

const PASSWORD: Shape = text(PASSWORD_BYTES_MAX);

impl Payload for NewAdmin {
    const SHAPE: Shape = Shape::Object(&[
        must(
            "username",
            formed(Form::Pattern("^[A-Za-z0-9.@_-]+$"), 1, USERNAME_BYTES_MAX),
            "The name to log in with, whatever its case.",
        ),
        may("name", formed(Form::Line, 0, TEXT_BYTES_MAX), "What people call them."),
        must("role", Shape::Word(Role::WORDS), "What they may do."),
        may("tenant_id", ID, "The only tenant that they see; all unless said."),
        may(
            "email",
            formed(Form::Line, 3, EMAIL_BYTES_MAX),
            "The address by which the issuer of `ADMIN_OIDC_ISSUER` knows them: their first login there finds \
             them by it. None unless said.",
        ),
        must(
            "password",
            formed(Form::Any, PASSWORD_BYTES_MIN, PASSWORD_BYTES_MAX),
            "To log in with, before the second factor.",
        ),
    ]);
}

impl Payload for AdminChanges {
    const SHAPE: Shape = Shape::Object(&[
        may("name", formed(Form::Line, 0, TEXT_BYTES_MAX), "What people call them."),
        may("role", Shape::Word(Role::WORDS), "What they may do."),
        may(
            "email",
            formed(Form::Line, 0, EMAIL_BYTES_MAX),
            "Another address by which the issuer knows them; empty for none. The login there that was found by \
             the one before is theirs no more. Their sessions end.",
        ),
        may("disabled", Shape::Flag, "Whether they are out. Their sessions end."),
        may(
            "password",
            formed(Form::Any, PASSWORD_BYTES_MIN, PASSWORD_BYTES_MAX),
            "A new password. Their sessions end.",
        ),
        may(
            "forget_second_factor",
            Shape::Flag,
            "Whether they enrol another second factor with the next login. Their sessions end.",
        ),
    ]);
}

/// Who may keep admins: the bearer of the admin token, and admins of role `admin`. Not users with the role
/// `system_admin`: whom the login service lets go must not leave admins behind.
pub(super) struct Keeper(AdminCaller);

impl FromRequestParts<ApiState> for Keeper {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Admin(admin) = Admin::from_request_parts(parts, state).await?;
        match admin {
            AdminCaller::Token | AdminCaller::Account(_) | AdminCaller::Within(..) => {
                Ok(Self(admin))
            }
            AdminCaller::User(_) => Err(AuthError::Role(Role::Admin).into()),
        }
    }
}

impl Part for Keeper {
    fn tell(told: &mut Told) {
        Admin::tell(told);
        told.users = Some(false);
    }
}

/// Admins.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminList")]
struct List<'a> {
    /// The page, by username.
    admins: &'a [AdminAccount],
    /// How many there are.
    total: usize,
}

/// Logins of an admin.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminSessionList")]
struct Sessions {
    /// Those that go on, the one that was used last first.
    sessions: Vec<AdminSession>,
}

/// What has ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndedAdminSessions")]
struct Ended {
    /// How many sessions.
    ended: u64,
}

/// An admin who is gone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedAdmin")]
struct Deleted {
    /// Who it was.
    id: String,
}

type AdminPath = Result<Path<String>, PathRejection>;

/// The id in the path. No database has one with a zero byte.
fn id(path: AdminPath) -> Result<String, ApiError> {
    let found = path.ok().map(|Path(id)| id).filter(|id| !id.contains('\0'));
    Ok(found.ok_or(AdminError::NotFound)?)
}

const QUERY: &[Field] = &[PAGE, SIZE];

/// `GET /admin/admins`
pub(super) async fn list(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let all = state.0.admins.list(by.tenant().cloned()).await?;
    let meta = PageMeta::of_page(page, size, all.len() as u64);
    let admins = on_page(&all, page, size);
    Ok(answer.page(&List { admins, total: all.len() }, &meta))
}

/// `POST /admin/admins`
pub(super) async fn create(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    trace: Trace,
    answer: Answer,
    Decoded(new): Decoded<NewAdmin>,
) -> Result<Response, ApiError> {
    let made = state.0.admins.create(new, by.tenant().cloned()).await?;
    trace.after(&made);
    Ok(answer.success(&made))
}

/// `GET /admin/admins/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    answer: Answer,
    path: AdminPath,
) -> Result<Response, ApiError> {
    let admin = state.0.admins.get(id(path)?, by.tenant().cloned()).await?;
    Ok(answer.success(&admin))
}

/// `PUT /admin/admins/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    trace: Trace,
    answer: Answer,
    path: AdminPath,
    Decoded(changes): Decoded<AdminChanges>,
) -> Result<Response, ApiError> {
    let id = id(path)?;
    trace.before(state.0.admins.get(id.clone(), by.tenant().cloned()).await?);
    let changed = state.0.admins.update(id, changes, by.tenant().cloned()).await?;
    trace.after(&changed);
    Ok(answer.success(&changed))
}

/// `DELETE /admin/admins/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    trace: Trace,
    answer: Answer,
    path: AdminPath,
) -> Result<Response, ApiError> {
    let id = id(path)?;
    trace.before(state.0.admins.get(id.clone(), by.tenant().cloned()).await?);
    state.0.admins.delete(id.clone(), by.tenant().cloned()).await?;
    Ok(answer.success(&Deleted { id }))
}

/// `GET /admin/admins/{id}/sessions`
pub(super) async fn sessions(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    answer: Answer,
    path: AdminPath,
) -> Result<Response, ApiError> {
    let sessions = state.0.admins.sessions(id(path)?, by.tenant().cloned()).await?;
    Ok(answer.success(&Sessions { sessions }))
}

/// `DELETE /admin/admins/{id}/sessions`
pub(super) async fn end_sessions(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    trace: Trace,
    answer: Answer,
    path: AdminPath,
) -> Result<Response, ApiError> {
    let id = id(path)?;
    let ended = state.0.admins.end_sessions(id.clone(), None, by.tenant().cloned()).await?;
    trace.after(&Ended { ended });
    Ok(answer.success(&Ended { ended }))
}

/// `DELETE /admin/admins/{id}/sessions/{session_id}`
pub(super) async fn end_session(
    State(state): State<ApiState>,
    Keeper(by): Keeper,
    trace: Trace,
    answer: Answer,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path((admin, session)) = path.map_err(|_| AdminError::NotFound)?;
    let too_long = admin.len().max(session.len()) > docs::ID_BYTES_MAX;
    if too_long || admin.contains('\0') || session.contains('\0') {
        return Err(AdminError::NotFound.into());
    }
    let tenant = by.tenant().cloned();
    let ended = state.0.admins.end_sessions(admin.clone(), Some(session), tenant).await?;
    trace.after(&Ended { ended });
    Ok(answer.success(&Ended { ended }))
}
