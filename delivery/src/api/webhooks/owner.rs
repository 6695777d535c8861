//! What a request's path and caller say: whose webhooks, which one, which event.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use protocol::{ServiceId, TenantId};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    api::{
        ApiState,
        caller::{Admin, Anyone},
        error::ApiError,
        services,
        trace::Trace,
    },
    control::ControlError,
    identity::Caller,
    webhook::{Actor, Webhook, WebhookError},
};

/// Whose webhooks, and who asks.
pub(crate) struct Owned {
    pub(super) tenant: TenantId,
    pub(super) service: ServiceId,
    by: By,
    trace: Trace,
}

enum By {
    Service,
    Admin,
}

impl Owned {
    pub(super) const fn actor(&self) -> Actor {
        match self.by {
            By::Service => Actor::Service,
            By::Admin => Actor::Admin,
        }
    }

    /// One line per change that a service made, without the URL, whose path may be a secret; an admin's is in
    /// the audit log.
    pub(super) fn log(&self, event: &'static str, webhook: &Webhook) {
        self.trace.after(webhook);
        if let By::Service = self.by {
            let (service, webhook) = (self.service.as_str(), webhook.id.as_str());
            tracing::info!(target: "security", event, by = service, service, webhook);
        }
    }
}

/// Says whose webhooks a request is about.
pub(crate) trait Owner:
    FromRequestParts<ApiState, Rejection = ApiError> + Into<Owned> + Send
{
    /// Whether it is the admin port, where the path names the service.
    const ADMIN: bool;
}

/// The caller's own. A user has none: 403.
pub(crate) struct Own(Owned);

impl Owner for Own {
    const ADMIN: bool = false;
}

impl From<Own> for Owned {
    fn from(own: Own) -> Self {
        own.0
    }
}

impl FromRequestParts<ApiState> for Own {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        match Anyone::from_request_parts(parts, state).await? {
            Anyone(Caller::Service(service)) => Ok(Self(Owned {
                tenant: service.tenant_id.clone(),
                service: service.id.clone(),
                by: By::Service,
                trace: Trace::of(parts),
            })),
            Anyone(Caller::User(_) | Caller::Admin(_)) => Err(ApiError::ServicesOnly),
        }
    }
}

/// Those of the service that an admin names in the path.
pub(crate) struct OfService(Owned);

impl Owner for OfService {
    const ADMIN: bool = true;
}

impl From<OfService> for Owned {
    fn from(of: OfService) -> Self {
        of.0
    }
}

#[derive(Deserialize)]
struct ServicePath {
    id: String,
}

impl FromRequestParts<ApiState> for OfService {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Admin(admin) = Admin::from_request_parts(parts, state).await?;
        let path = Path::<ServicePath>::from_request_parts(parts, state).await;
        let Path(ServicePath { id }) = path.map_err(|_| ControlError::NotFound)?;
        let id = ServiceId::new(id).map_err(|_| ControlError::NotFound)?;
        let service = services::reachable(state, &admin, &id).await?;
        let trace = Trace::of(parts);
        trace.of_tenant(&service.tenant_id);
        Ok(Self(Owned {
            tenant: service.tenant_id.clone(),
            service: service.id.clone(),
            by: By::Admin,
            trace,
        }))
    }
}

/// The webhook in the path.
#[derive(Deserialize)]
pub(crate) struct WebhookPath {
    pub(super) webhook_id: String,
}

/// The event in the path.
#[derive(Deserialize)]
pub(crate) struct EventPath {
    pub(super) event_id: String,
}

/// A part of the path; what cannot be one names nothing.
pub(crate) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Named<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(named) = path.map_err(|_| WebhookError::NotFound)?;
        Ok(Self(named))
    }
}
