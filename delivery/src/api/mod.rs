//! REST, `/api/v3` (contract §5): users and services on one port, admins on another.
//!
//! The endpoints are one list: [`doc`] makes of it the routes, their metrics and the description at
//! `/api/v3/openapi.json`.
//!
//! A request goes through `observe` (id, log, metrics, panics, the address's limit in `toll`), then its handler, whose arguments
//! say who may call it (`caller`) and what its body looks like (`body`). Handlers answer with an
//! `Answer` or an `ApiError`; `error` is the only place that knows statuses.

mod actions;
mod admins;
mod answer;
mod aside;
mod audit;
mod auth;
mod backup_jobs;
mod backup_runs;
mod backups;
mod body;
mod caller;
mod channel_keeping;
mod channel_messages;
mod channels;
mod connections;
mod deletions;
mod digest;
pub mod doc;
mod documents;
mod error;
mod export;
mod idempotency;
mod identities;
mod login;
mod maintenance;
mod marks;
mod messages;
mod metrics;
mod observe;
mod preferences;
mod query;
mod sends;
mod sent;
mod services;
mod settings;
mod shape;
mod signing_keys;
mod starting;
mod stats;
mod sync;
mod tail;
mod templates;
mod tenants;
mod toll;
mod trace;
mod users;
mod webhooks;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{Router, middleware::from_fn_with_state};

use self::{
    admins::{logins, oneself, single_sign_on},
    auth::{profile, sessions},
    caller::{Admin, Anyone},
    doc::{Endpoint, Operation, endpoints},
    documents::Which,
    webhooks::{OfService, Own},
};
use crate::{
    account::Accounts,
    admin::{Admins, SingleSignOn},
    audit::Audit,
    backup::Backups,
    channel::Channels,
    connections::Connections,
    control::Control,
    deletion::Deletions,
    identity::Identity,
    limit::Limiter,
    outbound::Outbound,
    provider::{Logins, Providers, ProvidersConfig},
    send::Sender,
    settings::Settings,
    spans::Spans,
    store::{Directory, Keeping, Storage, Store},
    tail::Tail,
    template::Templates,
    webhook::Webhooks,
};

pub use admins::single_sign_on::CALLBACK_PATH as ADMIN_CALLBACK_PATH;
pub use body::{BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX, BODY_DEPTH_MAX};
pub use idempotency::{KEY_BYTES_MAX, KEYS_RUNNING_MAX};
pub use metrics::ALL as METRICS;
pub use query::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
pub use starting::starting_routes;
pub use stats::STATS_SPAN_MAX;
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
    pub(crate) store: Arc<dyn Storage>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) control: Arc<Control>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) logins: Logins,
    pub(crate) admins: Arc<Admins>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) actions: trace::Actions,
    pub(crate) single_sign_on: Option<SingleSignOn>,
    pub(crate) templates: Arc<Templates>,
    pub(crate) channels: Channels,
    pub(crate) webhooks: Webhooks,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) sender: Sender,
    pub(crate) config: ApiConfig,
    pub(crate) running: Arc<idempotency::Running>,
    pub(crate) exports: Arc<export::Exports>,
    pub(crate) backups: Backups,
    pub(crate) metrics: metrics::ApiMetrics,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) connections: Arc<dyn Connections>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) spans: Spans,
    pub(crate) deletions: Deletions,
    pub(crate) settings: Arc<dyn Settings>,
    pub(crate) keeping: Arc<Keeping>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").finish_non_exhaustive()
    }
}

/// What the API is put together from.
pub struct ApiParts {
    /// Where messages are kept, and who there is.
    pub store: Arc<dyn Storage>,
    /// Who is asking.
    pub identity: Arc<Identity>,
    /// Services and their keys, templates.
    pub control: Arc<Control>,
    /// Who logs in.
    pub accounts: Arc<Accounts>,
    /// Where users log in.
    pub providers: ProvidersConfig,
    /// Calls providers.
    pub outbound: Outbound,
    /// Who wants to hear of what.
    pub webhooks: Webhooks,
    /// How much may be asked.
    pub limiter: Arc<Limiter>,
    /// Makes backups.
    pub backups: Backups,
    /// What can be set.
    pub config: ApiConfig,
    /// While it is set, sends are answered 503 and their connections closed; reads go on.
    pub draining: Arc<AtomicBool>,
    /// Who is connected, and which nodes there are.
    pub connections: Arc<dyn Connections>,
    /// What is told to who watches.
    pub tail: Arc<Tail>,
    /// What is set.
    pub settings: Arc<dyn Settings>,
    /// What inboxes keep.
    pub keeping: Arc<Keeping>,
    /// What is recorded of requests.
    pub spans: Spans,
}

impl std::fmt::Debug for ApiParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiParts").finish_non_exhaustive()
    }
}

impl ApiState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ApiParts, recorder: &dyn ::metrics::Recorder) -> Self {
        let ApiParts {
            store,
            identity,
            control,
            accounts,
            providers,
            outbound,
            webhooks,
            limiter,
            backups,
            config,
            draining,
            connections,
            tail,
            settings,
            keeping,
            spans,
        } = parts;
        accounts.register_metrics(recorder);
        let admins = Arc::new(Admins::new(Arc::clone(&control), Arc::clone(&accounts)));
        admins.register_metrics(recorder);
        let audit = Audit::new(Arc::clone(&control));
        audit.register_metrics(recorder);
        identity.register_metrics(recorder);
        let single_sign_on = providers.admin.clone().map(|config| {
            let who = (Arc::clone(&admins), Arc::clone(&accounts));
            let way = (&outbound, control.clock());
            SingleSignOn::new(config, providers.timeout, who, way, recorder)
        });
        let all = Providers::new(&providers, &outbound, control.clock());
        let logins = Logins::new(all, providers, Arc::clone(&accounts), recorder);
        control.register_metrics(recorder);
        let templates = Arc::new(Templates::new(Arc::clone(&control), recorder));
        let directory: Arc<dyn Directory> = store.clone();
        let channels = Channels::new(Arc::clone(&directory), Arc::clone(&control), recorder);
        let sender = Sender::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&directory),
            Arc::clone(&control),
            Arc::clone(&templates),
            Arc::clone(accounts.known_preferences()),
        );
        let deletions = Deletions::new(
            Arc::clone(&control),
            Arc::clone(&accounts),
            Arc::clone(&store),
            webhooks.clone(),
            Arc::clone(&backups.jobs),
            recorder,
        );
        let endpoints = user_endpoints().into_iter().chain(admin_endpoints());
        let routes: Vec<_> = endpoints
            .map(|endpoint| endpoint.operation)
            .chain(documents::operations(Which::User))
            .map(|operation| (operation.method, operation.path))
            .collect();
        Self(Arc::new(Shared {
            store,
            directory,
            identity,
            control,
            accounts,
            logins,
            admins,
            audit,
            actions: trace::Actions::new(&admin_endpoints()),
            single_sign_on,
            templates,
            channels,
            webhooks,
            limiter,
            sender,
            config,
            running: idempotency::Running::new(metrics::KeyMetrics::new(recorder)),
            exports: export::Exports::new(recorder),
            backups,
            metrics: metrics::ApiMetrics::new(recorder, &routes),
            draining,
            connections,
            tail,
            spans,
            deletions,
            settings,
            keeping,
        }))
    }

    /// Deletes users: for whoever takes up what a killed process has left.
    #[must_use]
    pub fn deletions(&self) -> Deletions {
        self.0.deletions.clone()
    }
}

fn user_endpoints() -> Vec<Endpoint<ApiState>> {
    endpoints! {
        post "/api/v3/auth/refresh" => auth::refresh;
        post "/api/v3/auth/logout" => auth::logout;
        post "/api/v3/auth/ws-ticket" => auth::ticket;
        get "/api/v3/auth/profile" => profile::get;
        put "/api/v3/auth/profile" => profile::update;
        get "/api/v3/auth/preferences" => preferences::own;
        put "/api/v3/auth/preferences" => preferences::update_own;
        delete "/api/v3/auth/profile" => deletions::own;
        get "/api/v3/auth/export" => export::own;
        get "/api/v3/auth/sessions" => sessions::list;
        delete "/api/v3/auth/sessions" => sessions::end_others;
        delete "/api/v3/auth/sessions/{id}" => sessions::end;
        get "/api/v3/auth/providers" => login::providers;
        get "/api/v3/auth/{provider}/login" => login::login;
        get "/api/v3/auth/{provider}/callback" => login::callback;
        post "/api/v3/auth/exchange" => login::exchange;
        get "/api/v3/auth/identities" => identities::list;
        post "/api/v3/auth/identities/{provider}" => identities::add;
        delete "/api/v3/auth/identities/{provider}" => identities::remove;
        post "/api/v3/messages/send" => sends::send::<Anyone>;
        post "/api/v3/messages/send-batch" => sends::send_batch;
        post "/api/v3/messages/send-template" => sends::send_template;
        get "/api/v3/messages/templates" => templates::list::<Anyone>;
        post "/api/v3/messages/templates" => templates::create::<Anyone>;
        get "/api/v3/messages/templates/{id}" => templates::get::<Anyone>;
        put "/api/v3/messages/templates/{id}" => templates::update::<Anyone>;
        delete "/api/v3/messages/templates/{id}" => templates::remove::<Anyone>;
        get "/api/v3/messages/templates/{id}/versions" => templates::versions::<Anyone>;
        post "/api/v3/messages/templates/{id}/preview" => templates::preview::<Anyone>;
        get "/api/v3/messages" => messages::list;
        get "/api/v3/messages/unread-count" => messages::unread_count;
        get "/api/v3/messages/{id}" => messages::get;
        put "/api/v3/messages/{id}" => sent::edit::<Anyone>;
        post "/api/v3/messages/{id}/recall" => sent::recall::<Anyone>;
        post "/api/v3/messages/{id}/cancel" => sent::cancel::<Anyone>;
        get "/api/v3/messages/{id}/receipts" => sent::receipts::<Anyone>;
        post "/api/v3/messages/{id}/actions/{index}" => actions::press;
        post "/api/v3/messages/{id}/read" => marks::read;
        post "/api/v3/messages/{id}/unread" => marks::unread;
        post "/api/v3/messages/{id}/archive" => marks::archive;
        post "/api/v3/messages/read-batch" => marks::read_batch;
        get "/api/v3/channels" => channels::list::<Anyone>;
        post "/api/v3/channels" => channel_keeping::create::<Anyone>;
        get "/api/v3/channels/{id}" => channels::get::<Anyone>;
        put "/api/v3/channels/{id}" => channel_keeping::update::<Anyone>;
        delete "/api/v3/channels/{id}" => channel_keeping::remove::<Anyone>;
        get "/api/v3/channels/{id}/messages" => channel_messages::list;
        get "/api/v3/channels/{id}/members" => channels::members::<Anyone>;
        post "/api/v3/channels/{id}/members" => channel_keeping::change_members::<Anyone>;
        post "/api/v3/channels/{id}/join" => channels::join;
        post "/api/v3/channels/{id}/leave" => channels::leave;
        get "/.well-known/jwks.json" => signing_keys::published;
        get "/api/v3/sync" => sync::changes;
        get "/api/v3/backup/database" => backups::database;
        get "/api/v3/backup/messages" => backups::messages;
        get "/api/v3/backup/jobs" => backup_jobs::list;
        post "/api/v3/backup/jobs" => backup_jobs::create;
        get "/api/v3/backup/jobs/{id}" => backup_jobs::get;
        delete "/api/v3/backup/jobs/{id}" => backup_jobs::remove;
        get "/api/v3/backup/jobs/{id}/file" => backup_jobs::file;
        get "/api/v3/backup/files/{name}" => backup_jobs::linked;
        get "/api/v3/stats" => stats::of_service;
        get "/api/v3/webhooks" => webhooks::list::<Own>;
        post "/api/v3/webhooks" => webhooks::create::<Own>;
        get "/api/v3/webhooks/{webhook_id}" => webhooks::get::<Own>;
        put "/api/v3/webhooks/{webhook_id}" => webhooks::update::<Own>;
        delete "/api/v3/webhooks/{webhook_id}" => webhooks::remove::<Own>;
        post "/api/v3/webhooks/{webhook_id}/enable" => webhooks::enable::<Own>;
        post "/api/v3/webhooks/{webhook_id}/disable" => webhooks::disable::<Own>;
        post "/api/v3/webhooks/{webhook_id}/secret" => webhooks::rotate::<Own>;
        post "/api/v3/webhooks/{webhook_id}/test" => webhooks::test::<Own>;
        get "/api/v3/webhooks/{webhook_id}/deliveries" => webhooks::deliveries::<Own>;
        post "/api/v3/webhooks/{webhook_id}/deliveries/{event_id}/redeliver" => webhooks::redeliver::<Own>;
    }
}

fn admin_endpoints() -> Vec<Endpoint<ApiState>> {
    endpoints! {
        post "/api/v3/admin/auth/login" => logins::log_in;
        post "/api/v3/admin/auth/totp" => logins::second_step;
        post "/api/v3/admin/auth/logout" => logins::log_out;
        get "/api/v3/admin/auth/me" => logins::me;
        get "/api/v3/admin/login/providers" => single_sign_on::providers;
        get "/api/v3/admin/login/oidc" => single_sign_on::login;
        get "/api/v3/admin/login/oidc/callback" => single_sign_on::callback;
        post "/api/v3/admin/login/exchange" => single_sign_on::exchange;
        put "/api/v3/admin/me/password" => oneself::change_password;
        post "/api/v3/admin/me/totp" => oneself::enrol;
        post "/api/v3/admin/me/totp/confirm" => oneself::confirm;
        post "/api/v3/admin/me/totp/recovery-codes" => oneself::recovery_codes;
        post "/api/v3/admin/me/totp/remove" => oneself::remove;
        get "/api/v3/admin/admins" => admins::list;
        post "/api/v3/admin/admins" => admins::create;
        get "/api/v3/admin/admins/{id}" => admins::get;
        put "/api/v3/admin/admins/{id}" => admins::update;
        delete "/api/v3/admin/admins/{id}" => admins::remove;
        get "/api/v3/admin/admins/{id}/sessions" => admins::sessions;
        delete "/api/v3/admin/admins/{id}/sessions" => admins::end_sessions;
        delete "/api/v3/admin/admins/{id}/sessions/{session_id}" => admins::end_session;
        post "/api/v3/admin/messages/send" => sends::send::<Admin>;
        get "/api/v3/admin/messages/scheduled" => sent::waiting;
        put "/api/v3/admin/messages/{id}" => sent::edit::<Admin>;
        post "/api/v3/admin/messages/{id}/recall" => sent::recall::<Admin>;
        post "/api/v3/admin/messages/{id}/cancel" => sent::cancel::<Admin>;
        get "/api/v3/admin/messages/{id}/receipts" => sent::receipts::<Admin>;
        get "/api/v3/admin/templates" => templates::list::<Admin>;
        post "/api/v3/admin/templates" => templates::create::<Admin>;
        get "/api/v3/admin/templates/{id}" => templates::get::<Admin>;
        put "/api/v3/admin/templates/{id}" => templates::update::<Admin>;
        delete "/api/v3/admin/templates/{id}" => templates::remove::<Admin>;
        get "/api/v3/admin/templates/{id}/versions" => templates::versions::<Admin>;
        post "/api/v3/admin/templates/{id}/preview" => templates::preview::<Admin>;
        get "/api/v3/admin/stats" => stats::of_all;
        post "/api/v3/admin/maintenance/prune" => maintenance::prune;
        get "/api/v3/admin/backups" => backup_runs::list;
        post "/api/v3/admin/backups" => backup_runs::ask;
        get "/api/v3/admin/backups/jobs" => backup_runs::jobs;
        get "/api/v3/admin/services" => services::list;
        post "/api/v3/admin/services" => services::create;
        get "/api/v3/admin/services/{id}" => services::get;
        put "/api/v3/admin/services/{id}" => services::update;
        post "/api/v3/admin/services/{id}/approve" => services::approve;
        post "/api/v3/admin/services/{id}/suspend" => services::suspend;
        post "/api/v3/admin/services/{id}/activate" => services::activate;
        post "/api/v3/admin/services/{id}/disable" => services::disable;
        get "/api/v3/admin/services/{id}/keys" => services::list_keys;
        post "/api/v3/admin/services/{id}/keys" => services::create_key;
        put "/api/v3/admin/services/{id}/keys/{key_id}" => services::update_key;
        delete "/api/v3/admin/services/{id}/keys/{key_id}" => services::revoke_key;
        post "/api/v3/admin/services/{id}/keys/{key_id}/rotate" => services::rotate_key;
        get "/api/v3/admin/users" => users::list;
        get "/api/v3/admin/users/{id}" => users::get;
        put "/api/v3/admin/users/{id}/roles" => users::set_roles;
        put "/api/v3/admin/users/{id}/department" => users::set_department;
        post "/api/v3/admin/users/{id}/disable" => users::disable;
        post "/api/v3/admin/users/{id}/enable" => users::enable;
        get "/api/v3/admin/users/{id}/preferences" => preferences::of_user;
        put "/api/v3/admin/users/{id}/preferences" => preferences::update_of_user;
        delete "/api/v3/admin/users/{id}" => deletions::of_user;
        get "/api/v3/admin/users/{id}/export" => export::of_user;
        get "/api/v3/admin/users/{id}/messages" => messages::of_user;
        get "/api/v3/admin/users/{id}/backup/database" => backups::database_of;
        get "/api/v3/admin/users/{id}/backup/messages" => backups::messages_of;
        get "/api/v3/admin/sessions" => sessions::list_all;
        post "/api/v3/admin/sessions" => sessions::create;
        delete "/api/v3/admin/sessions" => sessions::end_of_user;
        delete "/api/v3/admin/sessions/{id}" => sessions::end_any;
        get "/api/v3/admin/roles/{role}/members" => users::role_members;
        get "/api/v3/admin/channels" => channels::list::<Admin>;
        post "/api/v3/admin/channels" => channel_keeping::create::<Admin>;
        get "/api/v3/admin/channels/{id}" => channels::get::<Admin>;
        put "/api/v3/admin/channels/{id}" => channel_keeping::update::<Admin>;
        delete "/api/v3/admin/channels/{id}" => channel_keeping::remove::<Admin>;
        get "/api/v3/admin/channels/{id}/members" => channels::members::<Admin>;
        post "/api/v3/admin/channels/{id}/members" => channel_keeping::change_members::<Admin>;
        get "/api/v3/admin/connections" => connections::list;
        delete "/api/v3/admin/connections" => connections::disconnect_user;
        delete "/api/v3/admin/connections/{id}" => connections::disconnect;
        get "/api/v3/admin/nodes" => connections::nodes;
        get "/api/v3/admin/tail" => tail::watch;
        get "/api/v3/admin/tenants" => tenants::list;
        get "/api/v3/admin/tenants/{id}" => tenants::get;
        put "/api/v3/admin/tenants/{id}" => tenants::update;
        delete "/api/v3/admin/tenants/{id}" => tenants::remove;
        get "/api/v3/admin/services/{id}/webhooks" => webhooks::list::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks" => webhooks::create::<OfService>;
        get "/api/v3/admin/services/{id}/webhooks/{webhook_id}" => webhooks::get::<OfService>;
        put "/api/v3/admin/services/{id}/webhooks/{webhook_id}" => webhooks::update::<OfService>;
        delete "/api/v3/admin/services/{id}/webhooks/{webhook_id}" => webhooks::remove::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks/{webhook_id}/enable" => webhooks::enable::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks/{webhook_id}/disable" => webhooks::disable::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks/{webhook_id}/secret" => webhooks::rotate::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks/{webhook_id}/test" => webhooks::test::<OfService>;
        get "/api/v3/admin/services/{id}/webhooks/{webhook_id}/deliveries" => webhooks::deliveries::<OfService>;
        post "/api/v3/admin/services/{id}/webhooks/{webhook_id}/deliveries/{event_id}/redeliver" => webhooks::redeliver::<OfService>;
        get "/api/v3/admin/dead-letters" => webhooks::dead_letters;
        get "/api/v3/admin/config" => settings::get;
        put "/api/v3/admin/config" => settings::update;
        get "/api/v3/admin/config/versions" => settings::versions;
        post "/api/v3/admin/config/versions/{version}/restore" => settings::restore;
        get "/api/v3/admin/audit" => audit::list;
        get "/api/v3/admin/audit/verify" => audit::verify;
    }
}

/// The routes of users and services. `beside` are endpoints that others serve on the same port: they
/// are described, and not observed, like all routes that are added later.
pub fn user_routes(state: ApiState, beside: &[Operation]) -> Router {
    router(state, user_endpoints(), Which::User, beside)
}

/// The routes of a port on which this process serves none of the API's own endpoints, because of its
/// role: those beside are described, everything else is not there.
pub fn bare_user_routes(state: ApiState, beside: &[Operation]) -> Router {
    router(state, Vec::new(), Which::User, beside)
}

/// As [`bare_user_routes`], on the port of admins.
pub fn bare_admin_routes(state: ApiState, beside: &[Operation]) -> Router {
    router(state, Vec::new(), Which::Admin, beside)
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
