//! Making, changing and ending channels, and saying who is in them: for services and system admins. Who
//! may keep which is decided in [`crate::channel`].

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use http::Uri;
use protocol::{ChannelId, TenantId};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Who,
    channels::{ChannelPath, channel_id},
    error::ApiError,
    query::Parameters,
    shape::{Shape, may, must},
};
use crate::{
    channel::{ChannelChange, ChannelError, Keeper, MembersChange, NewChannel},
    identity::{Caller, with_all_rights},
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

/// Whether the caller keeps channels, with all rights.
pub(super) async fn keeper(state: &ApiState, caller: &Caller) -> Result<Keeper, ApiError> {
    let caller = with_all_rights(&*state.0.directory, caller).await?;
    Ok(Keeper::new(&caller).map_err(ChannelError::from)?)
}

/// Who changes what is where. Asked before the body is looked at: who may not keep channels is told
/// that, not what is wrong with it.
async fn keeping(
    state: &ApiState,
    who: impl Who,
    uri: &Uri,
) -> Result<(Keeper, TenantId), ApiError> {
    let mut parameters = Parameters::new(uri)?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    parameters.finish()?;
    Ok((keeper(state, &caller).await?, tenant))
}

fn log_change(keeper: &Keeper, event: &'static str, channel: &ChannelId) {
    tracing::info!(target: "business", event, by = keeper.name(), channel = channel.as_str());
}

/// `POST /channels`, `POST /admin/channels`
pub(super) async fn create<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    body: Result<Decoded<NewChannel>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &uri).await?;
    let Decoded(new) = body?;
    let made = state.0.channels.create(&tenant, &keeper, new).await?;
    log_change(&keeper, "channel_created", &made.channel.id);
    Ok(answer.success(&made))
}

/// `PUT /channels/{id}`, `PUT /admin/channels/{id}`
pub(super) async fn update<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    body: Result<Decoded<ChannelChange>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &uri).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    let made = state.0.channels.update(&tenant, &keeper, &id, &change).await?;
    log_change(&keeper, "channel_updated", &id);
    Ok(answer.success(&made))
}

/// `DELETE /channels/{id}`, `DELETE /admin/channels/{id}`
pub(super) async fn remove<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &uri).await?;
    let gone = state.0.channels.delete(&tenant, &keeper, &channel_id(id)?).await?;
    log_change(&keeper, "channel_deleted", &gone.channel.id);
    Ok(answer.success(&gone))
}

/// `POST /channels/{id}/members`, `POST /admin/channels/{id}/members`
pub(super) async fn change_members<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    body: Result<Decoded<MembersChange>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &uri).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    let changed = state.0.channels.change_members(&tenant, &keeper, &id, change).await?;
    log_change(&keeper, "channel_members_changed", &id);
    Ok(answer.success(&changed))
}
