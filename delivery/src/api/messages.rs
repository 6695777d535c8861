//! Reading one's inbox.

pub(super) mod docs;

use std::collections::BTreeMap;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{ChannelId, MessageId};
use schemars::JsonSchema;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    ApiState,
    answer::Answer,
    caller::{Admin, User},
    error::{ApiError, Shown, message},
    query::{ListRequest, Parameters},
    shape::{Field, ID, may},
    trace::Trace,
    users::{known, user_id},
};
use crate::{
    StoreError,
    search::Highlight,
    store::{InboxKey, UnreadCounts},
};

/// Some of an inbox.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageList")]
struct List<'a> {
    /// The page.
    messages: Vec<Listed<'a>>,
    /// Unread ones of the whole inbox, whatever was asked for.
    unread_count: u64,
    /// How many fit what was asked for.
    total: u64,
}

/// A message of a list; where the list was searched, with what matched.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedMessage")]
struct Listed<'a> {
    #[serde(flatten)]
    message: Shown,
    /// What matched, where the list was searched.
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
    shown(&state, &user.inbox, request, answer).await
}

/// `GET /admin/users/{id}/messages`
pub(super) async fn of_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (tenant, request) = ListRequest::parse_of_user(&uri, |parameters| {
        admin.asked_tenant(parameters).unwrap_or_default()
    })?;
    let inbox = InboxKey::new(tenant, user_id(id)?);
    known(&state, &inbox).await?;
    trace.of_tenant(&inbox.tenant);
    shown(&state, &inbox, request, answer).await
}

async fn shown(
    state: &ApiState,
    inbox: &InboxKey,
    request: ListRequest,
    answer: Answer,
) -> Result<Response, ApiError> {
    let page = state.0.store.list(inbox, request.query.clone()).await?;
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

/// The query of `GET /messages/unread-count`.
const UNREAD_COUNT: &[Field] = &[may("channel_id", ID, "Of this channel alone.")];

/// Unread messages, in all and where.
#[derive(Serialize, JsonSchema)]
struct Unread {
    /// Unread messages.
    unread_count: u64,
    /// Of the channels that have any.
    #[serde(serialize_with = "by_channel")]
    #[schemars(with = "BTreeMap<ChannelId, u64>")]
    channels: Vec<(ChannelId, u64)>,
    /// Of those in no channel.
    direct: u64,
    /// Of those in channels that the user has muted: what a badge leaves out.
    muted: u64,
}

fn by_channel<S: Serializer>(
    counts: &[(ChannelId, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(counts.len()))?;
    for (channel, count) in counts {
        map.serialize_entry(channel, count)?;
    }
    map.end()
}

/// Unread messages of one channel.
#[derive(Serialize, JsonSchema)]
struct UnreadIn {
    /// The channel.
    channel_id: ChannelId,
    /// Unread messages in it.
    unread_count: u64,
}

/// `GET /messages/unread-count`
pub(super) async fn unread_count(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, UNREAD_COUNT)?;
    let channel = parameters.parsed::<ChannelId>("channel_id", "the id of a channel");
    parameters.finish()?;
    let UnreadCounts { total, direct, channels } = state.0.store.unread(&user.inbox).await?;
    let Some(channel_id) = channel else {
        let muted = muted_of(&state, &user.inbox, &channels).await?;
        return Ok(answer.success(&Unread { unread_count: total, channels, direct, muted }));
    };
    let unread_count = channels.iter().find(|(id, _)| *id == channel_id).map_or(0, |(_, n)| *n);
    Ok(answer.success(&UnreadIn { channel_id, unread_count }))
}

/// How many of these are in channels that the user has muted. The database is asked where anything can be.
async fn muted_of(
    state: &ApiState,
    inbox: &InboxKey,
    channels: &[(ChannelId, u64)],
) -> Result<u64, ApiError> {
    let accounts = &state.0.accounts;
    let can = accounts.known_preferences().can_silence(&inbox.tenant, &inbox.user);
    if channels.is_empty() || !can {
        return Ok(0);
    }
    let muted = accounts.preferences(inbox).await?.preferences.muted_channels;
    Ok(channels.iter().filter(|(id, _)| muted.contains(id)).map(|(_, count)| count).sum())
}

/// The id in the path. One that could not be an id belongs to no message.
pub(super) fn message_id(id: Result<Path<String>, PathRejection>) -> Result<MessageId, ApiError> {
    let Path(id) = id.map_err(|_| StoreError::NotFound)?;
    Ok(MessageId::new(id).map_err(|_| StoreError::NotFound)?)
}
