//! Reading one's inbox.

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{Message, MessageId};
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::User,
    error::{ApiError, message},
    query::ListRequest,
};
use crate::{StoreError, search::Highlight};

#[derive(Serialize)]
struct List<'a> {
    messages: Vec<Listed<'a>>,
    unread_count: u64,
    total: u64,
}

/// A message of a list; where the list was searched, with what matched.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    message: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    highlight: Option<&'a Highlight>,
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
    let highlights = page.highlights.iter().map(Some).chain(std::iter::repeat(None));
    let listed = page
        .messages
        .iter()
        .zip(highlights)
        .map(|(stored, highlight)| Ok(Listed { message: message(stored)?, highlight }));
    let list = List {
        messages: listed.collect::<Result<_, ApiError>>()?,
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

#[derive(Serialize)]
struct UnreadCount {
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
