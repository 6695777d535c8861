//! Services and their keys, for admins (contract §11).

pub(super) mod docs;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{ServiceId, Time, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    aside::blocking,
    body::{Decoded, Payload},
    caller::Admin,
    error::ApiError,
    query::{PAGE, PageMeta, Parameters, SIZE, on_page},
    shape::{Field, Form, ID, NAME_PATTERN, Shape, formed, may, must, some_text},
    trace::Trace,
};
use crate::{
    control::{
        ApiKey, ApiKeyOnce, Control, ControlError, KEY_OVERLAP, KEY_OVERLAP_MAX, KeyChanges,
        LIST_MAX, Level, NewKey, NewService, PERMISSIONS, Rotation, Service, ServiceChanges,
        ServiceStatus, ServiceType, TEXT_BYTES_MAX,
    },
    identity::AdminCaller,
    networks::NETWORKS_MAX,
};

const WORDS: Shape = Shape::List(&some_text(ID_BYTES_MAX), 0, LIST_MAX);

const SCOPE: Shape = Shape::Object(&[
    may("templates", WORDS, "Template ids."),
    may("channels", WORDS, "Channel ids."),
    may("message_types", WORDS, "Message types."),
]);

/// Addresses, or networks such as 10.0.0.0/8. That a text is one is not said by a pattern: nobody
/// could read it.
const NETWORKS: Shape =
    Shape::List(&Shape::Lenient(&some_text(NETWORK_BYTES_MAX)), 0, NETWORKS_MAX);

/// Longest network, in bytes: an IPv6 address with an IPv4 one in it, and its prefix.
const NETWORK_BYTES_MAX: usize = 49;

impl Payload for NewService {
    const SHAPE: Shape = Shape::Object(&[
        may("id", ID, "Its id; made up where none is given."),
        must(
            "name",
            formed(Form::Pattern(NAME_PATTERN), 1, TEXT_BYTES_MAX),
            "What people call it.",
        ),
        may(
            "type",
            Shape::Word(ServiceType::WORDS),
            "Where it comes from, for people; `internal` unless said.",
        ),
        may(
            "level",
            Shape::Word(Level::WORDS),
            "What it may send; `business` unless said. A `third_party` service waits for approval.",
        ),
        may(
            "permissions",
            Shape::List(&Shape::Word(&PERMISSIONS), 0, LIST_MAX),
            "Rights beyond its level.",
        ),
        may(
            "scope",
            SCOPE,
            "What it may send, in detail. An empty list is no limit for `system` and `business`, and \
             nothing at all for `third_party`.",
        ),
        may(
            "rate_limit",
            Shape::Object(&[
                must(
                    "per_second",
                    Shape::Whole(1, u32::MAX as u64),
                    "Units a second in the long run: a request costs one, a batch as many as it has messages.",
                ),
                must("burst", Shape::Whole(1, u32::MAX as u64), "Units at once."),
            ]),
            "How fast it may ask, where that differs from `RATE_LIMIT_SERVICE`.",
        ),
        may(
            "allowed_networks",
            NETWORKS,
            "From where its keys may be used; everywhere unless said.",
        ),
        may("owner", formed(Form::Line, 0, TEXT_BYTES_MAX), "Who answers for it."),
        may("tenant_id", ID, "The wall it lives behind; the default tenant unless said."),
    ]);
}

impl Payload for ServiceChanges {
    const SHAPE: Shape = Shape::Object(&[
        may("name", formed(Form::Pattern(NAME_PATTERN), 1, TEXT_BYTES_MAX), "What people call it."),
        may(
            "permissions",
            Shape::List(&Shape::Word(&PERMISSIONS), 0, LIST_MAX),
            "Rights beyond its level.",
        ),
        may("scope", SCOPE, "What it may send, in detail."),
        may("allowed_networks", NETWORKS, "From where its keys may be used; empty for everywhere."),
        may("owner", formed(Form::Line, 0, TEXT_BYTES_MAX), "Who answers for it."),
    ]);
}

/// The body may be left out.
impl Payload for NewKey {
    const SHAPE: Shape = Shape::Object(&[
        may("name", formed(Form::Line, 0, TEXT_BYTES_MAX), "What people call it."),
        may("expires_at", Shape::Time, "When it ends, which must be ahead; never unless said."),
        may(
            "allowed_networks",
            NETWORKS,
            "From where it may be used, beside what the service allows; everywhere unless said.",
        ),
    ]);
    const OPTIONAL: bool = true;
}

impl Payload for KeyChanges {
    const SHAPE: Shape = Shape::Object(&[
        may("name", formed(Form::Line, 0, TEXT_BYTES_MAX), "What people call it."),
        may("allowed_networks", NETWORKS, "From where it may be used; empty for everywhere."),
    ]);
}

/// The body of a rotation; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyRotation {
    /// How long the old key goes on.
    overlap_seconds: Option<u64>,
    /// When the new one ends.
    expires_at: Option<Time>,
}

impl Payload for KeyRotation {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "overlap_seconds",
            Shape::Whole(0, KEY_OVERLAP_MAX.as_secs()),
            "How long the old key goes on: a day unless said, 0 for one that leaked.",
        ),
        may(
            "expires_at",
            Shape::Time,
            "When the new key ends, which must be ahead. Unless said it lives as long as the old one was \
             made for.",
        ),
    ]);
    const OPTIONAL: bool = true;
}

/// Registered services.
#[derive(Serialize, JsonSchema)]
struct ServiceList<'a> {
    /// The page, by id.
    services: Vec<&'a Service>,
    /// How many there are.
    total: usize,
}

/// A service as it was made, with its first key.
#[derive(Serialize, JsonSchema)]
struct Created<'a> {
    #[serde(flatten)]
    service: &'a Service,
    /// Shown here and never again.
    api_key: &'a str,
    /// What is kept of the key.
    key: &'a ApiKey,
}

/// A key as it was made.
#[derive(Serialize, JsonSchema)]
struct CreatedKey<'a> {
    #[serde(flatten)]
    key: &'a ApiKey,
    /// Shown here and never again.
    api_key: &'a str,
}

/// Keys of a service.
#[derive(Serialize, JsonSchema)]
struct KeyList {
    /// All of them, without their secrets.
    keys: Vec<ApiKey>,
}

/// A key that is gone.
#[derive(Serialize, JsonSchema)]
struct RevokedKey {
    /// The key.
    id: String,
    /// Whose it was.
    service_id: ServiceId,
}

type ServicePath = Result<Path<String>, PathRejection>;

/// The service in the path. Another tenant's is not there for a tenant's system admin.
async fn in_path(
    state: &ApiState,
    admin: &AdminCaller,
    id: ServicePath,
) -> Result<Arc<Service>, ApiError> {
    let Path(id) = id.map_err(|_| ControlError::NotFound)?;
    let id = ServiceId::new(id).map_err(|_| ControlError::NotFound)?;
    reachable(state, admin, &id).await
}

/// A service as an admin may know of it.
pub(super) async fn reachable(
    state: &ApiState,
    admin: &AdminCaller,
    id: &ServiceId,
) -> Result<Arc<Service>, ApiError> {
    let asked = id.clone();
    let service = blocking(state, move |control| control.get(&asked)).await?;
    match admin.tenant() {
        Some(own) if service.tenant_id != *own => Err(ControlError::NotFound.into()),
        Some(_) | None => Ok(service),
    }
}

const QUERY: &[Field] = &[PAGE, SIZE];

/// `GET /admin/services`
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
    let mut all = blocking(&state, Control::list).await?;
    if let Some(own) = admin.tenant() {
        all.retain(|service| service.tenant_id == *own);
    }
    let services = on_page(&all, page, size).iter().map(|service| &**service).collect();
    let meta = PageMeta::of_page(page, size, all.len() as u64);
    Ok(answer.page(&ServiceList { services, total: all.len() }, &meta))
}

/// `POST /admin/services`
pub(super) async fn create(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    Decoded(mut new): Decoded<NewService>,
) -> Result<Response, ApiError> {
    if let Some(own) = admin.tenant() {
        let own = own.as_str();
        if new.tenant_id.get_or_insert_with(|| own.to_owned()) != own {
            return Err(ApiError::OtherTenant);
        }
    }
    let (service, key) = blocking(&state, |control| control.create_service(new)).await?;
    trace.after(&service);
    Ok(answer.success(&Created { service: &service, api_key: key.expose(), key: &key.key }))
}

/// `GET /admin/services/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    Ok(answer.success(&*in_path(&state, &admin, id).await?))
}

/// `PUT /admin/services/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
    Decoded(changes): Decoded<ServiceChanges>,
) -> Result<Response, ApiError> {
    let before = in_path(&state, &admin, id).await?;
    trace.before(&*before);
    let id = before.id.clone();
    let service = blocking(&state, move |control| control.update_service(&id, changes)).await?;
    trace.after(&*service);
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/approve`
pub(super) async fn approve(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, &trace, id, Control::approve).await?;
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/suspend`
pub(super) async fn suspend(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, &trace, id, |control, id| {
        control.set_status(id, ServiceStatus::Suspended)
    })
    .await?;
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/activate`
pub(super) async fn activate(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, &trace, id, |control, id| {
        control.set_status(id, ServiceStatus::Active)
    })
    .await?;
    Ok(answer.success(&*service))
}

/// `POST /admin/services/{id}/disable`
pub(super) async fn disable(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = set_status(&state, &admin, &trace, id, |control, id| {
        control.set_status(id, ServiceStatus::Disabled)
    })
    .await?;
    Ok(answer.success(&*service))
}

async fn set_status(
    state: &ApiState,
    admin: &AdminCaller,
    trace: &Trace,
    id: ServicePath,
    change: impl FnOnce(&Control, &ServiceId) -> Result<Arc<Service>, ControlError> + Send + 'static,
) -> Result<Arc<Service>, ApiError> {
    let before = in_path(state, admin, id).await?;
    trace.before(&*before);
    let after = blocking(state, move |control| change(control, &before.id)).await?;
    trace.after(&*after);
    Ok(after)
}

/// `GET /admin/services/{id}/keys`
pub(super) async fn list_keys(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    id: ServicePath,
) -> Result<Response, ApiError> {
    let service = in_path(&state, &admin, id).await?;
    let keys = blocking(&state, move |control| control.list_keys(&service.id)).await?;
    Ok(answer.success(&KeyList { keys }))
}

/// `POST /admin/services/{id}/keys`
pub(super) async fn create_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    id: ServicePath,
    Decoded(new): Decoded<NewKey>,
) -> Result<Response, ApiError> {
    let service = in_path(&state, &admin, id).await?;
    trace.of_tenant(&service.tenant_id);
    let made: ApiKeyOnce =
        blocking(&state, move |control| control.create_key(&service.id, new)).await?;
    trace.after(&made.key);
    Ok(answer.success(&CreatedKey { key: &made.key, api_key: made.expose() }))
}

type KeyPath = Result<Path<(String, String)>, PathRejection>;

/// The service and the key in the path, and what the key was.
async fn key_path(
    state: &ApiState,
    admin: &AdminCaller,
    trace: &Trace,
    path: KeyPath,
) -> Result<(ServiceId, String), ApiError> {
    let Path((service, key)) = path.map_err(|_| ControlError::NotFound)?;
    let service = ServiceId::new(service).map_err(|_| ControlError::NotFound)?;
    let found = reachable(state, admin, &service).await?;
    trace.of_tenant(&found.tenant_id);
    let keys = blocking(state, move |control| control.list_keys(&found.id)).await?;
    trace.before(keys.iter().find(|known| known.id == key));
    Ok((service, key))
}

/// `PUT /admin/services/{id}/keys/{key_id}`
pub(super) async fn update_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    path: KeyPath,
    Decoded(changes): Decoded<KeyChanges>,
) -> Result<Response, ApiError> {
    let (service, key) = key_path(&state, &admin, &trace, path).await?;
    let changed =
        blocking(&state, move |control| control.update_key(&service, &key, changes)).await?;
    trace.after(&changed);
    Ok(answer.success(&changed))
}

/// `POST /admin/services/{id}/keys/{key_id}/rotate`
pub(super) async fn rotate_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    path: KeyPath,
    Decoded(KeyRotation { overlap_seconds, expires_at }): Decoded<KeyRotation>,
) -> Result<Response, ApiError> {
    let overlap = overlap_seconds.map_or(KEY_OVERLAP, Duration::from_secs);
    if overlap > KEY_OVERLAP_MAX {
        let problem = format!("must be 0 to {}", KEY_OVERLAP_MAX.as_secs());
        return Err(ApiError::field("overlap_seconds", problem));
    }
    let (service, key) = key_path(&state, &admin, &trace, path).await?;
    let rotation = Rotation { overlap, expires_at };
    let made = blocking(&state, move |control| control.rotate_keys(&service, Some(&key), rotation))
        .await?;
    trace.after(&made.key);
    Ok(answer.success(&CreatedKey { key: &made.key, api_key: made.expose() }))
}

/// `DELETE /admin/services/{id}/keys/{key_id}`
pub(super) async fn revoke_key(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    path: KeyPath,
) -> Result<Response, ApiError> {
    let (service_id, key) = key_path(&state, &admin, &trace, path).await?;
    let revoked = RevokedKey { id: key.clone(), service_id: service_id.clone() };
    blocking(&state, move |control| control.revoke_key(&service_id, &key)).await?;
    Ok(answer.success(&revoked))
}
