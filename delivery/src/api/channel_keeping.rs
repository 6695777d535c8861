//! Making, changing and ending channels, and saying who is in them: for services and system admins. Who
//! may keep which is decided in [`crate::channel`].

use axum::{extract::State, response::Response};
use protocol::{ChannelId, TenantId};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Anyone,
    channels::{ChannelPath, channel_id},
    error::ApiError,
    shape::{Shape, may, must},
};
use crate::{
    channel::{ChannelChange, ChannelError, Keeper, MembersChange, NewChannel},
    identity::{Caller, with_all_rights},
    store::{ChannelInfo, MembersChanged},
};

impl Payload for NewChannel {
    const SHAPE: Shape = Shape::Object(&[
        may("id", Shape::Text),
        must("name", Shape::Text),
        may("description", Shape::Text),
        may("open", Shape::Flag),
        may("history", Shape::Flag),
        may("presence", Shape::Flag),
        may("metadata", Shape::Map),
    ]);
}

impl Payload for ChannelChange {
    const SHAPE: Shape = Shape::Object(&[
        may("name", Shape::Text),
        may("description", Shape::Text),
        may("open", Shape::Flag),
        may("history", Shape::Flag),
        may("presence", Shape::Flag),
        may("metadata", Shape::Map),
        may("expected_version", Shape::Whole),
    ]);
}

impl Payload for MembersChange {
    const SHAPE: Shape = Shape::Object(&[
        may("join", Shape::List(&Shape::Text)),
        may("leave", Shape::List(&Shape::Text)),
    ]);
    // Ten thousand of the longest ids.
    const BYTES_MAX: usize = 2 << 20;
}

/// Asked before the body is looked at: who may not keep channels is told that, not what is wrong
/// with it.
pub(super) async fn keeper(state: &ApiState, caller: &Caller) -> Result<Keeper, ApiError> {
    let caller = with_all_rights(&*state.0.directory, caller).await?;
    Ok(Keeper::new(&caller).map_err(ChannelError::from)?)
}

/// `POST /channels`
pub(super) async fn create(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    body: Result<Decoded<NewChannel>, ApiError>,
) -> Result<Response, ApiError> {
    let keeper = keeper(&state, &caller).await?;
    let Decoded(new) = body?;
    let made = create_in(&state, &caller.tenant(), &keeper, new).await?;
    Ok(answer.success(&made))
}

/// `PUT /channels/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: ChannelPath,
    body: Result<Decoded<ChannelChange>, ApiError>,
) -> Result<Response, ApiError> {
    let keeper = keeper(&state, &caller).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    let made = update_in(&state, &caller.tenant(), &keeper, &id, &change).await?;
    Ok(answer.success(&made))
}

/// `DELETE /channels/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let keeper = keeper(&state, &caller).await?;
    let gone = remove_in(&state, &caller.tenant(), &keeper, &channel_id(id)?).await?;
    Ok(answer.success(&gone))
}

/// `POST /channels/{id}/members`
pub(super) async fn change_members(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: ChannelPath,
    body: Result<Decoded<MembersChange>, ApiError>,
) -> Result<Response, ApiError> {
    let keeper = keeper(&state, &caller).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    let changed = change_members_in(&state, &caller.tenant(), &keeper, &id, change).await?;
    Ok(answer.success(&changed))
}

pub(super) async fn create_in(
    state: &ApiState,
    tenant: &TenantId,
    keeper: &Keeper,
    new: NewChannel,
) -> Result<ChannelInfo, ApiError> {
    let made = state.0.channels.create(tenant, keeper, new).await?;
    log_change(keeper, "channel_created", &made.channel.id);
    Ok(made)
}

pub(super) async fn update_in(
    state: &ApiState,
    tenant: &TenantId,
    keeper: &Keeper,
    id: &ChannelId,
    change: &ChannelChange,
) -> Result<ChannelInfo, ApiError> {
    let made = state.0.channels.update(tenant, keeper, id, change).await?;
    log_change(keeper, "channel_updated", id);
    Ok(made)
}

pub(super) async fn remove_in(
    state: &ApiState,
    tenant: &TenantId,
    keeper: &Keeper,
    id: &ChannelId,
) -> Result<ChannelInfo, ApiError> {
    let gone = state.0.channels.delete(tenant, keeper, id).await?;
    log_change(keeper, "channel_deleted", id);
    Ok(gone)
}

pub(super) async fn change_members_in(
    state: &ApiState,
    tenant: &TenantId,
    keeper: &Keeper,
    id: &ChannelId,
    change: MembersChange,
) -> Result<MembersChanged, ApiError> {
    let changed = state.0.channels.change_members(tenant, keeper, id, change).await?;
    log_change(keeper, "channel_members_changed", id);
    Ok(changed)
}

fn log_change(keeper: &Keeper, event: &'static str, channel: &ChannelId) {
    tracing::info!(target: "business", event, by = keeper.name(), channel = channel.as_str());
}
