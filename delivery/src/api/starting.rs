//! What a node answers while it cannot do its work yet: its database is away at the start.

use axum::{Router, extract::Request, response::Response};
use http::header::HeaderValue;
use protocol::Codec;

use super::{
    answer::{Answer, negotiate},
    error::ApiError,
    observe::{REQUEST_ID, request_id},
};

/// Refuses every request for a moment (503 with `Retry-After`), in the API's own words.
pub fn starting_routes() -> Router {
    Router::new().fallback(refuse)
}

async fn refuse(request: Request) -> Response {
    let id: HeaderValue = request_id(&request);
    let answer = Answer(negotiate(request.headers()).unwrap_or(Codec::Json));
    let mut response =
        answer.failure(&ApiError::Starting.failure(), id.to_str().unwrap_or_default());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
