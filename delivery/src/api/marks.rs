//! Read, unread, archived.

pub(super) mod docs;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{
    ChannelId, DeviceId, FieldProblem, IdError, MessageId, MessageState, Seq, limits::READ_IDS_MAX,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::User,
    error::ApiError,
    messages::message_id,
    shape::{Field, ID, NO_OR_ID, POSITION, Shape, may},
};
use crate::{
    identity::UserCaller,
    store::{Mark, MarkTarget, Marked},
};

/// The body of a mark of one message; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MarkOne {
    /// The device that does it; that of the token unless said.
    device_id: Option<String>,
    /// Only if the message has not changed since.
    expected_version: Option<Seq>,
}

/// `device_id`, for the body of what a user does to messages.
pub(super) const DEVICE_ID: Field =
    may("device_id", NO_OR_ID, "The device that does it; that of the token unless said.");

impl Payload for MarkOne {
    const SHAPE: Shape = Shape::Object(&[
        DEVICE_ID,
        may("expected_version", POSITION, "Only if the message has not changed since."),
    ]);
    const OPTIONAL: bool = true;
}

/// The body of `read-batch`: exactly one of the three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MarkMany {
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    message_ids: Option<Vec<String>>,
    #[serde(default)]
    up_to_seq: Option<Seq>,
    #[serde(default)]
    channel_id: Option<String>,
}

impl Payload for MarkMany {
    const SHAPE: Shape = Shape::OneOf(
        &["message_ids", "up_to_seq", "channel_id"],
        &[
            DEVICE_ID,
            may(
                "message_ids",
                Shape::List(&ID, 0, READ_IDS_MAX),
                "These; ids that are not there are passed over.",
            ),
            may("up_to_seq", POSITION, "All up to and with this position."),
            may("channel_id", ID, "All of this channel."),
        ],
    );
}

/// What a mark did, and how the message stands now.
#[derive(Serialize, JsonSchema)]
struct MarkedOne {
    /// The message.
    message_id: MessageId,
    #[serde(flatten)]
    state: Option<MessageState>,
    /// 1, or 0 where it was so already.
    changed: u64,
    /// How many are unread now.
    unread_count: u64,
}

/// What a mark of many did.
#[derive(Serialize, JsonSchema)]
struct MarkedMany {
    /// How many were changed.
    changed: u64,
    /// How many are unread now.
    unread_count: u64,
}

/// `POST /messages/{id}/read`
pub(super) async fn read(
    state: State<ApiState>,
    user: User,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
    Decoded(body): Decoded<MarkOne>,
) -> Result<Response, ApiError> {
    mark_one(&state, &user, answer, id, body, Mark::Read).await
}

/// `POST /messages/{id}/unread`
pub(super) async fn unread(
    state: State<ApiState>,
    user: User,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
    Decoded(body): Decoded<MarkOne>,
) -> Result<Response, ApiError> {
    mark_one(&state, &user, answer, id, body, Mark::Unread).await
}

/// `POST /messages/{id}/archive`
pub(super) async fn archive(
    state: State<ApiState>,
    user: User,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
    Decoded(body): Decoded<MarkOne>,
) -> Result<Response, ApiError> {
    mark_one(&state, &user, answer, id, body, Mark::Archive).await
}

async fn mark_one(
    state: &ApiState,
    User(user): &User,
    answer: Answer,
    id: Result<Path<String>, PathRejection>,
    body: MarkOne,
    mark: Mark,
) -> Result<Response, ApiError> {
    let id = message_id(id)?;
    let device = device(body.device_id, user)?;
    let target = MarkTarget::One { id: id.clone(), expected: body.expected_version };
    let Marked { changed, head, message } =
        state.0.store.mark(&user.inbox, device, mark, target).await?;
    Ok(answer.success(&MarkedOne {
        message_id: id,
        state: message.map(|message| message.state),
        changed,
        unread_count: head.unread,
    }))
}

/// `POST /messages/read-batch`
pub(super) async fn read_batch(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    Decoded(body): Decoded<MarkMany>,
) -> Result<Response, ApiError> {
    let device = device(body.device_id, &user)?;
    let target = match (body.message_ids, body.up_to_seq, body.channel_id) {
        (Some(ids), None, None) => MarkTarget::Many(message_ids(ids)?),
        (None, Some(seq), None) => MarkTarget::UpTo(seq),
        (None, None, Some(channel)) => {
            let checked = ChannelId::new(&channel);
            checked.map_err(|error| ApiError::field("channel_id", error.to_string()))?;
            MarkTarget::Channel(channel)
        }
        (None, None, None) | (Some(_), _, _) | (None, Some(_), Some(_)) => {
            let problem = "exactly one of message_ids, up_to_seq and channel_id is needed";
            return Err(ApiError::field("message_ids", problem));
        }
    };
    let marked = state.0.store.mark(&user.inbox, device, Mark::Read, target).await?;
    let done = MarkedMany { changed: marked.changed, unread_count: marked.head.unread };
    Ok(answer.success(&done))
}

fn message_ids(ids: Vec<String>) -> Result<Vec<MessageId>, ApiError> {
    if ids.len() > READ_IDS_MAX {
        let problem = format!("must have at most {READ_IDS_MAX} entries, has {}", ids.len());
        return Err(ApiError::field("message_ids", problem));
    }
    let mut problems = Vec::new();
    let mut checked = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        match MessageId::new(id) {
            Ok(id) => checked.push(id),
            Err(error) => problems.push(FieldProblem {
                path: format!("message_ids[{index}]"),
                problem: IdError::to_string(&error),
            }),
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(ApiError::Invalid(problems)) }
}

pub(super) fn device(
    said: Option<String>,
    user: &UserCaller,
) -> Result<Option<DeviceId>, ApiError> {
    match said.filter(|id| !id.is_empty()) {
        Some(id) => DeviceId::new(id)
            .map(Some)
            .map_err(|error| ApiError::field("device_id", error.to_string())),
        None => Ok(user.device.clone()),
    }
}
