//! Templates that a send can name.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use serde::Serialize;

use super::{ApiState, answer::Answer, caller::Anyone, error::ApiError};
use crate::template::Template;

#[derive(Serialize)]
struct List<'a> {
    templates: Vec<&'a Template>,
    total: usize,
}

/// `GET /messages/templates`
pub(super) async fn list(
    State(state): State<ApiState>,
    Anyone(_): Anyone,
    answer: Answer,
) -> Response {
    let all = state.0.templates.list();
    let templates: Vec<_> = all.iter().map(|template| &template.source).collect();
    answer.success(&List { total: templates.len(), templates })
}

/// `GET /messages/templates/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Anyone(_): Anyone,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoRoute)?;
    let template = state.0.templates.get(&id).ok_or(ApiError::NoRoute)?;
    Ok(answer.success(&template.source))
}
