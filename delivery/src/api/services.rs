//! Services and their keys, for admins (contract §11).

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{ServiceId, Time};
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Admin,
    error::ApiError,
    query::{PageMeta, Parameters},
    shape::{Shape, may, must},
};
use crate::{
    control::{
        ApiKey, ApiKeyOnce, Control, ControlError, Level, NewService, Service, ServiceStatus,
        ServiceType,
    },
    identity::AdminCaller,
};

const WORDS: Shape = Shape::List(&Shape::Text);

impl Payload for NewService {
    const SHAPE: Shape = Shape::Object(&[
        may("id", Shape::Text),
        must("name", Shape::Text),
        may("type", Shape::Word(ServiceType::WORDS)),
        may("level", Shape::Word(Level::WORDS)),
        may("permissions", WORDS),
        may(
            "scope",
            Shape::Object(&[
                may("templates", WORDS),
                may("channels", WORDS),
                may("message_types", WORDS),
            ]),
        ),
        may(
            "rate_limit",
            Shape::Object(&[must("per_second", Shape::Whole), must("burst", Shape::Whole)]),
        ),
        may("owner", Shape::Text),
        may("tenant_id", Shape::Text),
    ]);
}

/// The body of a new key; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewKey {
    expires_at: Option<Time>,
}

impl Payload for NewKey {
    const SHAPE: Shape = Shape::Object(&[may("expires_at", Shape::Time)]);
    const OPTIONAL: bool = true;
}

#[derive(Serialize)]
struct ServiceList<'a> {
    services: Vec<&'a Service>,
    total: usize,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    service: &'a Service,
    /// Shown here and never again.
    api_key: &'a str,
    key: &'a ApiKey,
}

#[derive(Serialize)]
struct CreatedKey<'a> {
    #[serde(flatten)]
    key: &'a ApiKey,
    /// Shown here and never again.
    api_key: &'a str,
}

#[derive(Serialize)]
struct KeyList {
    keys: Vec<ApiKey>,
}

#[derive(Serialize)]
struct RevokedKey {
    id: String,
    service_id: ServiceId,
}

/// Control data is read and written on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Control) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ApiError> {
    let control = Arc::clone(&state.0.control);
    match tokio::task::spawn_blocking(move || work(&control)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::Panicked),
    }
}

type ServicePath = Result<Path<String>, PathRejection>;

/// The service in the path. Another tenant's is not there for a tenant's system admin.
async fn service_id(
    state: &ApiState,
    admin: &AdminCaller,
    id: ServicePath,
) -> Result<ServiceId, ApiError> {
    let Path(id) = id.map_err(|_| ControlError::NotFound)?;
    let id = ServiceId::new(id).map_err(|_| ControlError::NotFound)?;
    reachable(state, admin, &id).await?;
    Ok(id)
}

async fn reachable(state: &ApiState, admin: &AdminCaller, id: &ServiceId) -> Result<(), ApiError> {
    let AdminCaller::User(user) = admin else { return Ok(()) };
    let asked = id.clone();
    let service = blocking(state, move |control| control.get(&asked)).await?;
    if service.tenant_id == *user.tenant() { Ok(()) } else { Err(ControlError::NotFound.into()) }
}

/// Who changed what, until there is an audit log: one line per change that was made.
fn log_change(admin: &AdminCaller, event: &'static str, service: &ServiceId) {
    let by = match admin {
        AdminCaller::Token => "admin_token",
        AdminCaller::User(user) => user.user().as_str(),
    };
    tracing::info!(target: "security", event, by, service = service.as_str());
}

/// `GET /admin/services`
pub(super) async fn list(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let mut all = blocking(&state, Control::list).await?;
    if let AdminCaller::User(user) = &admin {
        all.retain(|service| service.tenant_id == *user.tenant());
    }
    let skipped = usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(size);
    let services = all.iter().skip(skipped).take(size).map(|service| &**service).collect();
    let meta = PageMeta {
        page: Some(page),
        size,
        total_pages: Some(all.len().div_ceil(size) as u64),
        next_cursor: None,
    };
    Ok(answer.page(&ServiceList { services, total: all.len() }, &meta))
}

/// `POST /admin/services`
pub(super) async fn create(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    Decoded(mut new): Decoded<NewService>,
) -> Result<Response, ApiError> {
    if let AdminCaller::User(user) = &admin {
        let own = user.tenant().as_str();
        if new.tenant_id.get_or_insert_with(|| own.to_owned()) != own {
            return Err(ApiError::OtherTenant);
        }
    }
    let (service, key) = blocking(&state, |control| control.create_service(new)).await?;
    log_change(&admin, "service_created", &service.id);
    Ok(answer.success(&Created { service: &service, api_key: key.expose(), key: &key.key }))
}

/// `GET /admin/services/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let id = service_id(&state, &admin, id).await?;
    let service = blocking(&state, move |control| control.get(&id)).await?;
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/approve`
pub(super) async fn approve(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let id = service_id(&state, &admin, id).await?;
    let service = blocking(&state, move |control| control.approve(&id)).await?;
    log_change(&admin, "service_approved", &service.id);
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/suspend`
pub(super) async fn suspend(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, id, ServiceStatus::Suspended).await?;
    log_change(&admin, "service_suspended", &service.id);
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/activate`
pub(super) async fn activate(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, id, ServiceStatus::Active).await?;
    log_change(&admin, "service_activated", &service.id);
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/disable`
pub(super) async fn disable(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, id, ServiceStatus::Disabled).await?;
    log_change(&admin, "service_disabled", &service.id);
    Ok(answer.success(&*service))
}

async fn set_status(
    state: &ApiState,
    admin: &AdminCaller,
    id: ServicePath,
    to: ServiceStatus,
) -> Result<Arc<Service>, ApiError> {
    let id = service_id(state, admin, id).await?;
    blocking(state, move |control| control.set_status(&id, to)).await
}

/// `GET /admin/services/{id}/keys`
pub(super) async fn list_keys(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let id = service_id(&state, &admin, id).await?;
    let keys = blocking(&state, move |control| control.list_keys(&id)).await?;
    Ok(answer.success(&KeyList { keys }))
}

/// `POST /admin/services/{id}/keys`
pub(super) async fn create_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
    Decoded(new): Decoded<NewKey>,
) -> Result<Response, ApiError> {
    let id = service_id(&state, &admin, id).await?;
    let made: ApiKeyOnce =
        blocking(&state, move |control| control.create_key(&id, new.expires_at)).await?;
    log_change(&admin, "service_key_created", &made.key.service_id);
    Ok(answer.success(&CreatedKey { key: &made.key, api_key: made.expose() }))
}

/// `DELETE /admin/services/{id}/keys/{key_id}`
pub(super) async fn revoke_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path((service, key)) = path.map_err(|_| ControlError::NotFound)?;
    let service_id = ServiceId::new(service).map_err(|_| ControlError::NotFound)?;
    reachable(&state, &admin, &service_id).await?;
    let revoked = RevokedKey { id: key.clone(), service_id: service_id.clone() };
    blocking(&state, move |control| control.revoke_key(&service_id, &key)).await?;
    log_change(&admin, "service_key_revoked", &revoked.service_id);
    Ok(answer.success(&revoked))
}
