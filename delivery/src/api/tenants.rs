//! Tenants: what they may use and what they have used, for admins.

pub(super) mod docs;

use axum::{
    extract::{FromRequestParts, OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use http::request::Parts;
use protocol::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    aside::blocking,
    body::{Decoded, Payload},
    caller::Admin,
    doc::{Part, Told},
    error::ApiError,
    query::{PAGE, PageMeta, Parameters, SIZE, on_page},
    shape::{Field, ID, Shape, may, must},
    trace::Trace,
};
use crate::{
    control::{Control, Quotas, Tenant},
    deletion::DeletedTenant,
    identity::AdminCaller,
    object,
};

/// What is to become of a tenant's quotas.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantChange {
    #[serde(deserialize_with = "object::one")]
    quotas: Quotas,
}

/// A limit: as the answers, null means none.
const LIMIT: Shape = Shape::Whole(0, u64::MAX);

/// As [`LIMIT`], of what is kept: nothing at all would be a hub that delivers nothing.
const KEPT: Shape = Shape::Whole(1, u64::MAX);

impl Payload for TenantChange {
    const SHAPE: Shape = Shape::Object(&[must(
        "quotas",
        Shape::Object(&[
            may(
                "messages_per_day",
                LIMIT,
                "Messages a day (UTC); one is one, however many its recipients.",
            ),
            may(
                "recipients_per_day",
                LIMIT,
                "Recipients of all messages of a day (UTC). A message to everybody counts as one.",
            ),
            may("channels", LIMIT, "Channels that are there at a time."),
            may(
                "templates",
                LIMIT,
                "Templates that are there at a time, those built in not counted.",
            ),
            may(
                "kept_seconds",
                KEPT,
                "How long inboxes keep messages, where that is shorter than `RETENTION_MAX_AGE`.",
            ),
            may(
                "kept_messages",
                KEPT,
                "How many messages an inbox keeps, where that is fewer than `RETENTION_MAX_MESSAGES`.",
            ),
        ]),
        "All of them: what is left out is not limited.",
    )]);
}

/// Tenants with quotas and those that used something today.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TenantList")]
struct List<'a> {
    /// The page, by id.
    tenants: &'a [Tenant],
    /// How many there are.
    total: usize,
}

/// The bearer of the admin token, or an admin for all tenants. One of a tenant is known, but nobody sets limits to
/// oneself: 403.
pub(super) struct AboveTenants(pub(super) AdminCaller);

impl FromRequestParts<ApiState> for AboveTenants {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Admin(admin) = Admin::from_request_parts(parts, state).await?;
        if admin.tenant().is_none() { Ok(Self(admin)) } else { Err(ApiError::TokenOnly) }
    }
}

impl Part for AboveTenants {
    fn tell(told: &mut Told) {
        Admin::tell(told);
        told.users = Some(false);
    }
}

type TenantPath = Result<Path<String>, PathRejection>;

/// The tenant in the path. A system admin looks after the own one.
fn tenant_id(admin: &AdminCaller, id: TenantPath) -> Result<TenantId, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoRoute)?;
    let id = TenantId::new(id).map_err(|error| ApiError::field("id", error.to_string()))?;
    match admin.tenant() {
        Some(own) if *own != id => Err(ApiError::OtherTenant),
        Some(_) | None => Ok(id),
    }
}

/// What became of a tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedTenant")]
struct Deleted<'a> {
    /// Which.
    tenant_id: &'a TenantId,
    /// `deleted`: nothing is left. `deleting`: nobody of the tenant comes in any more, and all that it has is on its way
    /// out; asking again tells whether it is gone.
    #[schemars(regex(pattern = "^(deleted|deleting)$"))]
    state: &'static str,
    /// Services that there were.
    services: u64,
    /// Users who were deleted with it since somebody last asked; null while that is under way.
    users: Option<u64>,
}

const QUERY: &[Field] = &[PAGE, SIZE];

/// The query of a deletion.
const DELETE_QUERY: &[Field] = &[must(
    "confirm",
    ID,
    "The tenant's id once more: nobody says that by mistake, or of the wrong one.",
)];

/// `GET /admin/tenants`
pub(super) async fn list(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let all = match admin.tenant() {
        None => blocking(&state, Control::tenants).await?,
        Some(own) => {
            let own = own.clone();
            vec![blocking(&state, move |control| control.tenant(&own)).await?]
        }
    };
    let shown = on_page(&all, page, size);
    let meta = PageMeta::of_page(page, size, all.len() as u64);
    Ok(answer.page(&List { tenants: shown, total: all.len() }, &meta))
}

/// `GET /admin/tenants/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: TenantPath,
) -> Result<Response, ApiError> {
    let id = tenant_id(&admin, id)?;
    let tenant = blocking(&state, move |control| control.tenant(&id)).await?;
    Ok(answer.success(&tenant))
}

/// `PUT /admin/tenants/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    AboveTenants(admin): AboveTenants,
    trace: Trace,
    answer: Answer,
    id: TenantPath,
    Decoded(TenantChange { quotas }): Decoded<TenantChange>,
) -> Result<Response, ApiError> {
    let id = tenant_id(&admin, id)?;
    let (before, tenant) = blocking(&state, move |control| {
        Ok((control.tenant(&id)?, control.set_quotas(&id, quotas)?))
    })
    .await?;
    trace.before(&before);
    trace.after(&tenant);
    Ok(answer.success(&tenant))
}

/// `DELETE /admin/tenants/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    AboveTenants(admin): AboveTenants,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TenantPath,
) -> Result<Response, ApiError> {
    let id = tenant_id(&admin, id)?;
    let mut parameters = Parameters::new(&uri, DELETE_QUERY)?;
    if parameters.text("confirm").is_none_or(|confirm| confirm != id.as_str()) {
        parameters.say("confirm", "must be the tenant's id");
    }
    parameters.finish()?;
    if id == TenantId::default() {
        let problem = "everybody is in this one who names none: delete its users one by one";
        return Err(ApiError::field("id", problem));
    }
    trace.of_tenant(&id);
    let DeletedTenant { services, users } = state.0.deletions.delete_tenant(&id).await?;
    let state = if users.is_some() { "deleted" } else { "deleting" };
    let deleted = Deleted { tenant_id: &id, state, services, users };
    trace.after(&deleted);
    Ok(answer.success(&deleted))
}
