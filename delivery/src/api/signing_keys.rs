//! `GET /.well-known/jwks.json`: by what others check the tokens that this service signs.

pub(super) mod docs;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use schemars::JsonSchema;
use serde::Serialize;

use super::ApiState;
use crate::identity::jwks::PublicJwk;

/// How long others may keep the answer: a new key is published for as long before it signs
/// ([`KEY_LEAD`](crate::identity::signing::KEY_LEAD)).
const CACHE_CONTROL: &str = "public, max-age=300";

/// A JSON Web Key Set (RFC 7517 §5).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JsonWebKeySet")]
struct Published {
    /// The keys; empty where tokens are signed with `JWT_SECRET`.
    keys: Vec<PublicJwk>,
}

/// Without the envelope: its readers know this form only.
pub(super) async fn published(State(state): State<ApiState>) -> Response {
    let keys = state.0.identity.published_keys();
    ([(header::CACHE_CONTROL, CACHE_CONTROL)], Json(Published { keys })).into_response()
}
