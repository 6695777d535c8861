//! Reading one's inbox.

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{Message, MessageId};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::User,
    error::{ApiError, message},
    query::ListRequest,
};
use crate::StoreError;

/// Some of an inbox.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageList")]
struct List {
    /// The page.
    messages: Vec<Message>,
    /// Unread ones of the whole inbox, whatever was asked for.
    unread_count: u64,
    /// How many fit what was asked for.
    total: u64,
}

/// `GET /messages`
pub(super) async fn list(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let request = ListRequest::parse(&uri)?;
    let page = state.0.store.list(&user.inbox, request.query.clone()).await?;
    let last = page.messages.last().filter(|_| page.more).map(|message| message.state.seq);
    let list = List {
        messages: page.messages.iter().map(message).collect::<Result<_, _>>()?,
        unread_count: page.unread,
        total: page.total,
    };
    Ok(answer.page(&list, &request.meta(page.total, last)))
}

/// `GET /messages/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let found = state.0.store.get(&user.inbox, &message_id(id)?).await?;
    Ok(answer.success(&message(&found)?))
}

/// How many are unread.
#[derive(Serialize, JsonSchema)]
struct UnreadCount {
    /// Unread messages.
    unread_count: u64,
}

/// `GET /messages/unread-count`
pub(super) async fn unread_count(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let head = state.0.store.head(&user.inbox).await?;
    Ok(answer.success(&UnreadCount { unread_count: head.unread }))
}

/// The id in the path. One that could not be an id belongs to no message.
pub(super) fn message_id(id: Result<Path<String>, PathRejection>) -> Result<MessageId, ApiError> {
    let Path(id) = id.map_err(|_| StoreError::NotFound)?;
    Ok(MessageId::new(id).map_err(|_| StoreError::NotFound)?)
}
