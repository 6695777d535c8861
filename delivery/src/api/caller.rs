//! Who is asking, as arguments of handlers: a handler that names one cannot be reached without.

use std::sync::{Arc, atomic::Ordering};

use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use super::{ApiState, error::ApiError, toll::Toll};
use crate::identity::{AdminCaller, Caller, UserCaller, note};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

fn authorization(parts: &Parts) -> Option<&[u8]> {
    parts.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes)
}

/// Who it is, once their limit has been asked too, and what a user's token says is remembered.
async fn caller(parts: &Parts, state: &ApiState) -> Result<Caller, ApiError> {
    let toll = Toll::of(parts);
    let caller = toll.recognised(state.0.identity.caller(authorization(parts)))?;
    toll.pay(&caller)?;
    if let Caller::User(user) = &caller {
        note(&*state.0.directory, user).await;
    }
    Ok(caller)
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

/// An admin.
pub(crate) struct Admin(pub(crate) AdminCaller);

impl FromRequestParts<ApiState> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let admin = Toll::of(parts).recognised(state.0.identity.admin(authorization(parts)))?;
        if let AdminCaller::User(user) = &admin {
            note(&*state.0.directory, user).await;
        }
        Ok(Self(admin))
    }
}

/// Whoever may try to send, on a node that still takes messages. Asked before the body is read: a
/// node that goes down answers at once, so that the sender can try another.
pub(crate) struct Submitter(pub(crate) Caller);

impl FromRequestParts<ApiState> for Submitter {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        if state.0.draining.load(Ordering::Relaxed) {
            return Err(ApiError::Draining);
        }
        let Anyone(caller) = Anyone::from_request_parts(parts, state).await?;
        // To pass over it would be a promise: the sender would repeat a send it believes protected.
        if parts.headers.contains_key(IDEMPOTENCY_KEY) {
            let problem = "idempotency keys cannot be honoured by this version; leave it out";
            return Err(ApiError::field("Idempotency-Key", problem));
        }
        Ok(Self(caller))
    }
}
