//! A channel's messages: those in one's inbox, and behind them what was sent to it before one came.

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use protocol::{Body, ChannelId, MessageState, Seq, Status};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::User,
    channels::{ChannelPath, channel_id},
    error::{ApiError, Shown, message},
    query::ListRequest,
};
use crate::{
    channel::ChannelError,
    identity::UserCaller,
    store::{
        InboxMessage, ListPosition, ListQuery, Sort, StatusFilter, StoreError, metadata::has_all,
    },
};

/// Most messages of a channel's history that one request looks at to find those that it lists. What
/// was not reached is behind `next_cursor`.
const LOOKED_AT_MAX: usize = 1_000;

/// Messages of a channel.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChannelMessageList")]
struct List {
    /// The page, as in `GET /api/v3/messages`.
    messages: Vec<Shown>,
    /// Unread messages of the channel.
    unread_count: u64,
    /// How many of the inbox fit what was asked for. 0 on a page of the channel's history, which
    /// nobody counts.
    total: u64,
}

/// `GET /channels/{id}/messages`
pub(super) async fn list(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let id = channel_id(id)?;
    let request = ListRequest::parse_of_channel(&uri, &id)?;
    let is_member = state.0.channels.is_member(&user.inbox, &id).await?;
    if !is_member && !has_any(&state, &user, &id).await? {
        return Err(ChannelError::NotFound.into());
    }
    let has_history = is_member
        && of_history(&request.query)
        && state.0.channels.get(user.tenant(), &id).await?.channel.history;
    let unread = state.0.store.unread(&user.inbox).await?;
    let unread_count = unread.channels.into_iter().find(|(channel, _)| *channel == id);
    let unread_count = unread_count.map_or(0, |(_, count)| count);
    if let Some(before) = request.history {
        let found = if has_history {
            history(&state, &user, &id, &request.query, before).await?
        } else {
            History::default()
        };
        let meta = request.meta_of_history(found.next);
        let list = List { messages: found.messages, unread_count, total: 0 };
        return Ok(answer.page(&list, &meta));
    }
    let page = state.0.store.list(&user.inbox, request.query.clone()).await?;
    let last = page.messages.last().filter(|_| page.more).map(|message| message.state.seq);
    let mut meta = request.meta(page.total, last);
    if !page.more && has_history {
        meta.next_cursor = request.meta_of_history(Some(None)).next_cursor;
    }
    let messages = page.messages.iter().map(message).collect::<Result<_, _>>()?;
    Ok(answer.page(&List { messages, unread_count, total: page.total }, &meta))
}

/// Whether the user has messages of this channel: of one that they left, that was ended, or that is
/// a mere label.
async fn has_any(state: &ApiState, user: &UserCaller, id: &ChannelId) -> Result<bool, ApiError> {
    let query = ListQuery {
        status: StatusFilter::All,
        channel_id: Some(id.as_str().to_owned()),
        at: ListPosition::Offset(0),
        size: 1,
        ..ListQuery::default()
    };
    Ok(state.0.store.list(&user.inbox, query).await?.total > 0)
}

/// Whether a list goes on into what was sent before: nothing of that was ever unread or archived.
fn of_history(query: &ListQuery) -> bool {
    let status = match query.status {
        StatusFilter::Inbox | StatusFilter::Read | StatusFilter::All => true,
        StatusFilter::Unread | StatusFilter::Archived => false,
    };
    status && query.sort == Sort::Newest
}

/// A page of what was sent before.
#[derive(Default)]
struct History {
    messages: Vec<Shown>,
    /// Where the next page begins; none on the last one.
    next: Option<Option<u64>>,
}

/// What was sent to the channel and is not in the inbox.
async fn history(
    state: &ApiState,
    user: &UserCaller,
    id: &ChannelId,
    query: &ListQuery,
    mut before: Option<u64>,
) -> Result<History, ApiError> {
    let (mut messages, mut looked_at) = (Vec::new(), 0);
    loop {
        let take = query.size - messages.len();
        let page = state.0.directory.channel_log(user.tenant(), id, before, take).await?;
        looked_at += page.messages.len();
        for body in page.messages.iter().filter(|body| fits(body, query)) {
            match state.0.store.get(&user.inbox, body.id()).await {
                Ok(_) => {}
                Err(StoreError::NotFound) => {
                    let (state, body) = (NEVER_RECEIVED, body.clone());
                    messages.push(message(&InboxMessage { state, body, pressed: Vec::new() })?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let Some(next) = page.next else { return Ok(History { messages, next: None }) };
        if messages.len() >= query.size || looked_at >= LOOKED_AT_MAX {
            return Ok(History { messages, next: Some(Some(next)) });
        }
        before = Some(next);
    }
}

/// The inbox's half of a message that never was in it.
const NEVER_RECEIVED: MessageState = MessageState {
    seq: Seq::ZERO,
    version: Seq::ZERO,
    is_read: true,
    status: Status::Read,
    read_at: None,
};

fn fits(body: &Body, query: &ListQuery) -> bool {
    let facts = body.facts();
    let created_at = facts.created_at.unwrap_or_default();
    query.message_type.as_ref().is_none_or(|kind| *kind == facts.message_type)
        && query.priority_min.is_none_or(|least| least <= facts.priority)
        && query.sender.as_ref().is_none_or(|sender| *sender == facts.sender)
        && query.since.is_none_or(|since| since <= created_at)
        && query.until.is_none_or(|until| created_at < until)
        && (query.metadata.is_empty()
            || std::str::from_utf8(&body.json()).is_ok_and(|json| has_all(json, &query.metadata)))
}
