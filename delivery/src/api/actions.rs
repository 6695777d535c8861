//! Pressing the buttons of a message.

pub(super) mod docs;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{MessageId, MessageState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::User,
    error::ApiError,
    marks::{DEVICE_ID, device},
    shape::Shape,
};
use crate::{
    StoreError,
    store::{Pressed, Pressing},
};

/// The body of a press; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Press {
    /// The device that does it; that of the token unless said.
    device_id: Option<String>,
}

impl Payload for Press {
    const SHAPE: Shape = Shape::Object(&[DEVICE_ID]);
    const OPTIONAL: bool = true;
}

/// What a press did, and how the message stands now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PressedButton")]
struct Done {
    /// The message's id.
    message_id: MessageId,
    /// Whether it was this press that counts.
    first: bool,
    /// The press that counts.
    pressed: Pressed,
    #[serde(flatten)]
    state: MessageState,
    /// Unread messages of the whole inbox.
    unread_count: u64,
}

/// `POST /messages/{id}/actions/{index}`
pub(super) async fn press(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    path: Result<Path<(String, String)>, PathRejection>,
    Decoded(body): Decoded<Press>,
) -> Result<Response, ApiError> {
    // What could be no id and no index is no button of any message.
    let Path((id, index)) = path.map_err(|_| StoreError::NotFound)?;
    let id = MessageId::new(id).map_err(|_| StoreError::NotFound)?;
    let index: u8 = index.parse().map_err(|_| StoreError::NotFound)?;
    let device = device(body.device_id, &user)?;
    let store = &state.0.store;
    let Pressing { first, message } = store.press(&user.inbox, device, &id, index).await?;
    let unread_count = store.head(&user.inbox).await?.unread;
    let pressed = message.pressed.into_iter().find(|pressed| pressed.action.index == index);
    let pressed = pressed.ok_or(StoreError::NotFound)?;
    let state = message.state;
    Ok(answer.success(&Done { message_id: id, first, pressed, state, unread_count }))
}
