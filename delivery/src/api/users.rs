//! Users, the roles and departments they carry, for admins (contract §11).

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use http::Uri;
use protocol::{FieldProblem, RoleId, TenantId, UserId, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Admin,
    channels::group_members,
    error::ApiError,
    query::{ID_CURSOR_PARAMETER, PageMeta, Parameters, SIZE, TENANT_ID},
    shape::{Field, Form, Shape, formed, may, must},
    trace::Trace,
};
use crate::{
    identity::{DEPARTMENT_PREFIX, department_role},
    problems::Problems,
    store::{Group, InboxKey, UserChange, UserRecord},
};

/// Most roles that admins may add to a user: each is looked at when the user's inbox is loaded.
const ADDED_ROLES_MAX: usize = 64;

/// Longest name of a department, in bytes: it is the end of a role's id.
const DEPARTMENT_BYTES_MAX: usize = ID_BYTES_MAX - DEPARTMENT_PREFIX.len();

/// A role that may be added: an id that is no department's.
const ADDED_ROLE_PATTERN: &str = r"^(?!department:)[^\u0000-\u001f\u007f-\u009f]*$";

/// The query of a list.
const LIST_QUERY: &[Field] = &[TENANT_ID, ID_CURSOR_PARAMETER, SIZE];

/// The query of what is about one user.
pub(super) const QUERY: &[Field] = &[TENANT_ID];

/// The roles that are to be added to a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Roles {
    roles: Vec<String>,
}

impl Payload for Roles {
    const SHAPE: Shape = Shape::Object(&[must(
        "roles",
        Shape::List(
            &formed(Form::Pattern(ADDED_ROLE_PATTERN), 1, ID_BYTES_MAX),
            0,
            ADDED_ROLES_MAX,
        ),
        "All the roles that are to be added, in place of those that were; no departments.",
    )]);
}

/// The department that a user is to be in; none, or null, leaves it to tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Department {
    #[serde(default)]
    department: Option<String>,
}

impl Payload for Department {
    const SHAPE: Shape = Shape::Object(&[may(
        "department",
        formed(Form::Line, 1, DEPARTMENT_BYTES_MAX),
        "Its name; null, or left out, leaves it to tokens again.",
    )]);
}

/// A user, with all that is known.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KnownUser")]
struct Known<'a> {
    #[serde(flatten)]
    record: &'a UserRecord,
    /// All roles, those of tokens and those that were added.
    roles: Vec<&'a RoleId>,
    /// Whether an admin has disabled the user.
    disabled: bool,
}

impl<'a> Known<'a> {
    fn new(state: &ApiState, tenant: &TenantId, record: &'a UserRecord) -> Self {
        let inbox = InboxKey::new(tenant.clone(), record.user_id.clone());
        let disabled = state.0.accounts.revocations().is_disabled(&inbox);
        let mut roles: Vec<&RoleId> =
            record.token_roles.iter().chain(&record.added_roles).collect();
        roles.sort_unstable();
        roles.dedup();
        Self { record, roles, disabled }
    }
}

/// Users of a tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UserList")]
struct List<'a> {
    /// The page, by id.
    users: Vec<Known<'a>>,
}

type UserPath = Result<Path<String>, PathRejection>;

/// The id in the path. One that could not be an id belongs to no user.
pub(super) fn user_id(id: UserPath) -> Result<UserId, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoUser)?;
    UserId::new(id).map_err(|_| ApiError::NoUser)
}

/// The user in the path, of the tenant that the query [`QUERY`] says.
pub(super) fn in_path(admin: &Admin, uri: &Uri, id: UserPath) -> Result<InboxKey, ApiError> {
    let mut parameters = Parameters::new(uri, QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    parameters.finish()?;
    Ok(InboxKey::new(tenant, user_id(id)?))
}

/// What is known of a user, whom there must be.
pub(super) async fn known(state: &ApiState, inbox: &InboxKey) -> Result<UserRecord, ApiError> {
    state.0.directory.user(inbox).await?.ok_or(ApiError::NoUser)
}

/// `GET /admin/users`
pub(super) async fn list(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, LIST_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let mut found = state.0.directory.users(&tenant, after, size + 1).await?;
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().map(|user| user.user_id.as_str()).filter(|_| more);
    let meta = PageMeta::of_ids(size, last);
    Ok(answer.page(
        &List { users: found.iter().map(|user| Known::new(&state, &tenant, user)).collect() },
        &meta,
    ))
}

/// `GET /admin/users/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: UserPath,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    let record = known(&state, &inbox).await?;
    Ok(answer.success(&Known::new(&state, &inbox.tenant, &record)))
}

/// `PUT /admin/users/{id}/roles`
pub(super) async fn set_roles(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: UserPath,
    Decoded(Roles { roles }): Decoded<Roles>,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    let added_roles = Some(check_roles(roles).map_err(ApiError::Invalid)?);
    let change = UserChange { added_roles, department: None };
    let record = change_user(&state, &trace, &inbox, change).await?;
    Ok(answer.success(&Known::new(&state, &inbox.tenant, &record)))
}

/// Changes what the directory knows of a user.
async fn change_user(
    state: &ApiState,
    trace: &Trace,
    inbox: &InboxKey,
    change: UserChange,
) -> Result<UserRecord, ApiError> {
    trace.of_tenant(&inbox.tenant);
    trace.before(state.0.directory.user(inbox).await?);
    let record = state.0.directory.change_user(inbox, change).await?;
    trace.after(&record);
    Ok(record)
}

fn check_roles(said: Vec<String>) -> Result<Vec<RoleId>, Vec<FieldProblem>> {
    let mut problems = Problems::default();
    problems.at_most("roles", said.len(), ADDED_ROLES_MAX);
    let mut roles = Vec::new();
    for (index, role) in said.into_iter().take(ADDED_ROLES_MAX).enumerate() {
        let path = format!("roles[{index}]");
        if role.starts_with(DEPARTMENT_PREFIX) {
            problems.say(path, "is a department; a user has one, which is set by itself");
        } else if let Some(role) = problems.id(&path, RoleId::new(role)) {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if problems.0.is_empty() { Ok(roles) } else { Err(problems.0) }
}

/// `PUT /admin/users/{id}/department`
pub(super) async fn set_department(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: UserPath,
    Decoded(Department { department }): Decoded<Department>,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    if department.as_deref().is_some_and(|name| department_role(name).is_none()) {
        let problem = format!(
            "must have 1 to {DEPARTMENT_BYTES_MAX} bytes without control characters, or be null"
        );
        return Err(ApiError::field("department", problem));
    }
    let change = UserChange { added_roles: None, department: Some(department) };
    let record = change_user(&state, &trace, &inbox, change).await?;
    Ok(answer.success(&Known::new(&state, &inbox.tenant, &record)))
}

/// `POST /admin/users/{id}/disable`
pub(super) async fn disable(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: UserPath,
) -> Result<Response, ApiError> {
    set_disabled(&state, &admin, &trace, answer, &uri, id, true).await
}

/// `POST /admin/users/{id}/enable`
pub(super) async fn enable(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: UserPath,
) -> Result<Response, ApiError> {
    set_disabled(&state, &admin, &trace, answer, &uri, id, false).await
}

async fn set_disabled(
    state: &ApiState,
    admin: &Admin,
    trace: &Trace,
    answer: Answer,
    uri: &Uri,
    id: UserPath,
    disabled: bool,
) -> Result<Response, ApiError> {
    let inbox = in_path(admin, uri, id)?;
    // Made where there was none: one who has not come yet can be kept out.
    let record = state.0.directory.change_user(&inbox, UserChange::default()).await?;
    trace.of_tenant(&inbox.tenant);
    trace.before(Known::new(state, &inbox.tenant, &record));
    state.0.accounts.set_disabled(&inbox, disabled).await?;
    trace.after(Known::new(state, &inbox.tenant, &record));
    Ok(answer.success(&Known::new(state, &inbox.tenant, &record)))
}

/// `GET /admin/roles/{role}/members`
pub(super) async fn role_members(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    role: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, LIST_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let Path(role) = role.map_err(|_| ApiError::NoRoute)?;
    let role = RoleId::new(role).map_err(|error| ApiError::field("role", error.to_string()))?;
    let (members, meta) = group_members(&state, &tenant, &Group::Role(role), after, size).await?;
    Ok(answer.page(&members, &meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_names_the_prefix_of_departments() {
        assert!(ADDED_ROLE_PATTERN.starts_with(&format!("^(?!{DEPARTMENT_PREFIX})")));
    }
}
