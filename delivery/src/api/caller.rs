//! Who is asking, as arguments of handlers: a handler that names one cannot be reached without.

use std::sync::{Arc, atomic::Ordering};

use axum::extract::{FromRequestParts, MatchedPath};
use http::{Method, header, request::Parts};
use protocol::TenantId;

use super::{ApiState, error::ApiError, query::Parameters, shape::Field, toll::Toll, trace::Trace};
use crate::{
    admin::{AdminError, Role, SESSION_PREFIX},
    control::Service,
    guard::Attempt,
    identity::{AdminCaller, AuthError, Caller, UserCaller, note},
    spans,
};

fn authorization(parts: &Parts) -> Option<&[u8]> {
    parts.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes)
}

/// Who it is, once their limit has been asked too, and what a user's token says is remembered.
async fn caller(parts: &Parts, state: &ApiState) -> Result<Caller, ApiError> {
    let toll = Toll::of(parts);
    let caller =
        toll.recognised(state.0.identity.caller(authorization(parts), toll.address()).await)?;
    spans::note_tenant(|| caller.tenant());
    toll.pay(&caller)?;
    if let Caller::User(user) = &caller {
        note(&*state.0.directory, user).await;
    }
    Ok(caller)
}

/// A service. A user is known, but has no part in it: 403.
pub(crate) struct ServiceOnly(pub(crate) Arc<Service>);

impl FromRequestParts<ApiState> for ServiceOnly {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        match caller(parts, state).await? {
            Caller::Service(service) => Ok(Self(service)),
            Caller::User(_) | Caller::Admin(_) => Err(ApiError::ServicesOnly),
        }
    }
}

/// A user or a service.
pub(crate) struct Anyone(pub(crate) Caller);

impl FromRequestParts<ApiState> for Anyone {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        caller(parts, state).await.map(Self)
    }
}

/// A user. A service is known, but has no inbox: 403.
pub(crate) struct User(pub(crate) Arc<UserCaller>);

impl FromRequestParts<ApiState> for User {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        match caller(parts, state).await? {
            Caller::User(user) => Ok(Self(user)),
            Caller::Service(_) | Caller::Admin(_) => Err(ApiError::UsersOnly),
        }
    }
}

/// An admin whose role reaches for what is asked, see [`needed`].
pub(crate) struct Admin(pub(crate) AdminCaller);

impl FromRequestParts<ApiState> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let toll = Toll::of(parts);
        let (authorization, from) = (authorization(parts), toll.address());
        let identity = &state.0.identity;
        let known = match session_token(authorization) {
            Some(token) => {
                let known = state.0.admins.recognise(token, from).await;
                identity.counted(known.map(AdminCaller::Account))
            }
            None => {
                let attempt = at_admin_token(state, toll, authorization)?;
                let known = identity.admin(authorization, from).await;
                if let Some(attempt) = attempt {
                    let (guard, now) = (state.0.admins.guard(), state.0.control.clock().now());
                    match &known {
                        Ok(_) => guard.passed(attempt, now),
                        Err(AuthError::BadToken) => {}
                        Err(_) => guard.unjudged(attempt),
                    }
                }
                known
            }
        };
        let admin = toll.recognised(known)?;
        Trace::of(parts).by(&admin);
        if let Some(tenant) = admin.tenant() {
            spans::note_tenant(|| tenant.clone());
        }
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let needed = needed(&parts.method, path);
        if !admin.role().may(needed) {
            identity.counted(Err(AuthError::Role(needed)))?;
        }
        if let AdminCaller::User(user) = &admin {
            note(&*state.0.directory, user).await;
        }
        Ok(Self(admin))
    }
}

/// The token of an admin's session, where one is shown.
fn session_token(authorization: Option<&[u8]>) -> Option<&str> {
    let text = std::str::from_utf8(authorization?).ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && token.starts_with(SESSION_PREFIX)).then_some(token)
}

/// Counts a request that shows what could be the admin token, which a person may have chosen. Not of whoever is
/// on this very machine, who can do worse than guess.
fn at_admin_token(
    state: &ApiState,
    toll: &Toll,
    authorization: Option<&[u8]>,
) -> Result<Option<Attempt>, ApiError> {
    const ACCOUNT: &str = "admin_token";
    let text = authorization.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let Some((scheme, token)) = text.trim().split_once(' ') else { return Ok(None) };
    let token = token.trim_start();
    // A user's token is signed: nobody finds one by guessing.
    let is_signed = token.starts_with("eyJ") && token.matches('.').count() == 2;
    if toll.is_local() || is_signed || !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let now = state.0.control.clock().now();
    let attempt = state.0.admins.guard().enter(ACCOUNT, toll.address(), now);
    Ok(Some(attempt.map_err(AdminError::from)?))
}

/// What operators may change; everything else needs an admin, so that a new endpoint does until somebody
/// decides.
const OPERATED: [&str; 6] = [
    "/api/v3/admin/messages",
    "/api/v3/admin/users",
    "/api/v3/admin/sessions",
    "/api/v3/admin/connections",
    "/api/v3/admin/channels",
    "/api/v3/admin/backups",
];

/// What only admins may see: who the others are and from where they log in, and how the hub is set up.
const ADMINS: [&str; 2] = ["/api/v3/admin/admins", "/api/v3/admin/config"];

/// Where operators may do everything but what nobody can undo.
const USERS: &str = "/api/v3/admin/users";

/// What everybody who has logged in may do about the own login.
const OWN_LOGIN: [&str; 2] = ["/api/v3/admin/auth", "/api/v3/admin/me"];

/// What answers and changes nothing, although it has a body.
pub(crate) const LOOKS: &str = "/api/v3/admin/templates/{id}/preview";

/// What people were sent or will be: who only looks after the hub need not read it.
pub(crate) const LETTERS: [&str; 5] = [
    "/api/v3/admin/users/{id}/messages",
    "/api/v3/admin/users/{id}/export",
    "/api/v3/admin/users/{id}/backup/database",
    "/api/v3/admin/users/{id}/backup/messages",
    "/api/v3/admin/messages/scheduled",
];

/// The role that an endpoint of admins needs: the one place that says so, for what is enforced and for what
/// the description says.
pub(crate) fn needed(method: &Method, path: &str) -> Role {
    let below = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if OWN_LOGIN.into_iter().any(below) {
        Role::Viewer
    } else if ADMINS.into_iter().any(below) || *method == Method::DELETE && below(USERS) {
        Role::Admin
    } else if LETTERS.contains(&path) {
        Role::Operator
    } else if *method == Method::GET || path == LOOKS {
        Role::Viewer
    } else if OPERATED.into_iter().any(below) {
        Role::Operator
    } else {
        Role::Admin
    }
}

/// A caller of either port, for handlers that both have.
pub(crate) trait Asker: FromRequestParts<ApiState, Rejection = ApiError> {
    /// Whether it is the admin port.
    const ADMIN: bool;
    /// Behind which wall they look: their own, but for the bearer of the admin token, who says it.
    fn tenant(&self, parameters: &mut Parameters) -> TenantId;
    fn caller(self) -> Caller;
    /// The caller, who acts behind that wall and no other.
    fn caller_behind(self, parameters: &mut Parameters) -> Caller;
}

/// What may stand in a query at the caller's port.
pub(crate) const fn of_port<A: Asker>(
    user: &'static [Field],
    admin: &'static [Field],
) -> &'static [Field] {
    if A::ADMIN { admin } else { user }
}

impl Asker for Anyone {
    const ADMIN: bool = false;

    fn tenant(&self, _: &mut Parameters) -> TenantId {
        self.0.tenant()
    }

    fn caller(self) -> Caller {
        self.0
    }

    fn caller_behind(self, _: &mut Parameters) -> Caller {
        self.0
    }
}

impl Asker for Admin {
    const ADMIN: bool = true;

    fn tenant(&self, parameters: &mut Parameters) -> TenantId {
        self.asked_tenant(parameters).unwrap_or_default()
    }

    fn caller(self) -> Caller {
        Caller::Admin(self.0)
    }

    fn caller_behind(self, parameters: &mut Parameters) -> Caller {
        let tenant = self.tenant(parameters);
        Caller::Admin(match self.0.tenant() {
            Some(_) => self.0,
            None => AdminCaller::Within(Arc::new(self.0), tenant),
        })
    }
}

impl Admin {
    /// The parameter `tenant_id`: any, for the bearer of the admin token; for a user with the role
    /// `system_admin` their own and no other.
    pub(crate) fn asked_tenant(&self, parameters: &mut Parameters) -> Option<TenantId> {
        const NAME: &str = "tenant_id";
        let asked = parameters.text(NAME).map(TenantId::new);
        let own = self.0.tenant();
        match (asked, own) {
            (Some(Err(error)), _) => parameters.say(NAME, error.to_string()),
            (Some(Ok(asked)), None) => return Some(asked),
            (Some(Ok(asked)), Some(own)) if asked != *own => {
                parameters.say(NAME, "must be your own tenant");
            }
            (Some(Ok(_)) | None, Some(own)) => return Some(own.clone()),
            (None, None) => {}
        }
        None
    }
}

/// Whoever may try to send, on a node that still takes messages. Asked before the body is read: a
/// node that goes down answers at once, so that the sender can try another.
pub(crate) struct Submitter<A>(pub(crate) A);

impl<A: Asker> FromRequestParts<ApiState> for Submitter<A> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        if state.0.draining.load(Ordering::Relaxed) {
            return Err(ApiError::Draining);
        }
        A::from_request_parts(parts, state).await.map(Self)
    }
}
