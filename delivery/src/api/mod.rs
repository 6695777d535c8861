//! REST, `/api/v3` (contract §5): users and services on one port, admins on another.
//!
//! The endpoints are one list: [`doc`] makes of it the routes, their metrics and the description at
//! `/api/v3/openapi.json`.
//!
//! A request goes through `observe` (id, log, metrics, panics, the address's limit in `toll`), then its handler, whose arguments
//! say who may call it (`caller`) and what its body looks like (`body`). Handlers answer with an
//! `Answer` or an `ApiError`; `error` is the only place that knows statuses.

mod answer;
mod body;
mod caller;
pub mod doc;
mod documents;
mod error;
mod marks;
mod messages;
mod metrics;
mod observe;
mod query;
mod sends;
mod services;
mod shape;
mod sync;
mod templates;
mod toll;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{Router, middleware::from_fn_with_state};

use self::{
    doc::{Endpoint, Operation, endpoints},
    documents::Which,
};
use crate::{
    Store, control::Control, identity::Identity, limit::Limiter, send::Sender, template::Templates,
};

pub use body::{BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX, BODY_DEPTH_MAX};
pub use metrics::ALL as METRICS;
pub use query::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
pub use sync::{SYNC_BYTES_MAX, SYNC_LIMIT_MAX};

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// How long a request's body may take to arrive, all of it (`HTTP_BODY_TIMEOUT`).
    pub body_timeout: Duration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { body_timeout: Duration::from_secs(30) }
    }
}

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(pub(crate) Arc<Shared>);

/// What the clones of an [`ApiState`] share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) control: Arc<Control>,
    pub(crate) templates: Arc<Templates>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) sender: Sender,
    pub(crate) config: ApiConfig,
    pub(crate) metrics: metrics::ApiMetrics,
    pub(crate) draining: Arc<AtomicBool>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").finish_non_exhaustive()
    }
}

impl ApiState {
    /// Puts the parts together. While `draining` is set, sends are answered 503 and their
    /// connections closed; reads go on.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        identity: Arc<Identity>,
        control: Arc<Control>,
        limiter: Arc<Limiter>,
        config: ApiConfig,
        recorder: &dyn ::metrics::Recorder,
        draining: Arc<AtomicBool>,
    ) -> Self {
        identity.register_metrics(recorder);
        let templates = Arc::new(Templates::new(Arc::clone(&control), recorder));
        let sender = Sender::new(Arc::clone(&store), Arc::clone(&templates));
        let endpoints = user_endpoints().into_iter().chain(admin_endpoints());
        let routes: Vec<_> = endpoints
            .map(|endpoint| endpoint.operation)
            .chain(documents::operations(Which::User))
            .map(|operation| (operation.method, operation.path))
            .collect();
        Self(Arc::new(Shared {
            store,
            identity,
            control,
            templates,
            limiter,
            sender,
            config,
            metrics: metrics::ApiMetrics::new(recorder, &routes),
            draining,
        }))
    }
}

fn user_endpoints() -> Vec<Endpoint<ApiState>> {
    endpoints! {
        post "/api/v3/messages/send" => sends::send;
        post "/api/v3/messages/send-batch" => sends::send_batch;
        post "/api/v3/messages/send-template" => sends::send_template;
        get "/api/v3/messages/templates" => templates::list;
        post "/api/v3/messages/templates" => templates::create;
        get "/api/v3/messages/templates/{id}" => templates::get;
        put "/api/v3/messages/templates/{id}" => templates::update;
        delete "/api/v3/messages/templates/{id}" => templates::remove;
        get "/api/v3/messages/templates/{id}/versions" => templates::versions;
        post "/api/v3/messages/templates/{id}/preview" => templates::preview;
        get "/api/v3/messages" => messages::list;
        get "/api/v3/messages/unread-count" => messages::unread_count;
        get "/api/v3/messages/{id}" => messages::get;
        post "/api/v3/messages/{id}/read" => marks::read;
        post "/api/v3/messages/{id}/unread" => marks::unread;
        post "/api/v3/messages/{id}/archive" => marks::archive;
        post "/api/v3/messages/read-batch" => marks::read_batch;
        get "/api/v3/sync" => sync::changes;
    }
}

fn admin_endpoints() -> Vec<Endpoint<ApiState>> {
    endpoints! {
        get "/api/v3/admin/services" => services::list;
        post "/api/v3/admin/services" => services::create;
        get "/api/v3/admin/services/{id}" => services::get;
        post "/api/v3/admin/services/{id}/approve" => services::approve;
        post "/api/v3/admin/services/{id}/suspend" => services::suspend;
        post "/api/v3/admin/services/{id}/activate" => services::activate;
        post "/api/v3/admin/services/{id}/disable" => services::disable;
        get "/api/v3/admin/services/{id}/keys" => services::list_keys;
        post "/api/v3/admin/services/{id}/keys" => services::create_key;
        delete "/api/v3/admin/services/{id}/keys/{key_id}" => services::revoke_key;
    }
}

/// The routes of users and services. `beside` are endpoints that others serve on the same port: they
/// are described, and not observed, like all routes that are added later.
pub fn user_routes(state: ApiState, beside: &[Operation]) -> Router {
    router(state, user_endpoints(), Which::User, beside)
}

/// The routes of admins, as [`user_routes`].
pub fn admin_routes(state: ApiState, beside: &[Operation]) -> Router {
    router(state, admin_endpoints(), Which::Admin, beside)
}

fn router(
    state: ApiState,
    endpoints: Vec<Endpoint<ApiState>>,
    which: Which,
    beside: &[Operation],
) -> Router {
    let described: Vec<&Operation> =
        endpoints.iter().map(|endpoint| &endpoint.operation).chain(beside).collect();
    let documents = documents::routes(which, &described);
    doc::router(endpoints)
        .merge(documents)
        .fallback(observe::no_route)
        .method_not_allowed_fallback(observe::no_method)
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .with_state(state)
}

#[cfg(test)]
pub(crate) mod tests;
