//! Channels through the admin port: all of a tenant's, whoever is in them.

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use http::Uri;
use protocol::TenantId;

use super::{
    ApiState,
    answer::Answer,
    body::Decoded,
    caller::Admin,
    channel_keeping::{change_members_in, create_in, remove_in, update_in},
    channels::{ChannelPath, all_in, channel_id, group_members},
    error::ApiError,
    query::Parameters,
};
use crate::{
    channel::{ChannelChange, ChannelError, Keeper, MembersChange, NewChannel},
    identity::{AdminCaller, Caller},
    store::Group,
};

/// Who changes what is where.
fn keeper(admin: &AdminCaller, uri: &Uri) -> Result<(Keeper, TenantId), ApiError> {
    let mut parameters = Parameters::new(uri)?;
    let tenant = parameters.tenant(admin)?;
    parameters.finish()?;
    let keeper = Keeper::new(&Caller::Admin(admin.clone())).map_err(ChannelError::from)?;
    Ok((keeper, tenant))
}

/// `GET /admin/channels`
pub(super) async fn list(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let tenant = parameters.tenant(&admin)?;
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let (list, meta) = all_in(&state, &tenant, after, size).await?;
    Ok(answer.page(&list, &meta))
}

/// `GET /admin/channels/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let tenant = parameters.tenant(&admin)?;
    parameters.finish()?;
    let found = state.0.channels.get(&tenant, &channel_id(id)?).await?;
    Ok(answer.success(&found))
}

/// `GET /admin/channels/{id}/members`
pub(super) async fn members(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let tenant = parameters.tenant(&admin)?;
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let id = channel_id(id)?;
    state.0.channels.get(&tenant, &id).await?;
    let (members, meta) = group_members(&state, &tenant, &Group::Channel(id), after, size).await?;
    Ok(answer.page(&members, &meta))
}

/// `POST /admin/channels`
pub(super) async fn create(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    Decoded(new): Decoded<NewChannel>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeper(&admin, &uri)?;
    let made = create_in(&state, &tenant, &keeper, new).await?;
    Ok(answer.success(&made))
}

/// `PUT /admin/channels/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    Decoded(change): Decoded<ChannelChange>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeper(&admin, &uri)?;
    let made = update_in(&state, &tenant, &keeper, &channel_id(id)?, &change).await?;
    Ok(answer.success(&made))
}

/// `DELETE /admin/channels/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeper(&admin, &uri)?;
    let gone = remove_in(&state, &tenant, &keeper, &channel_id(id)?).await?;
    Ok(answer.success(&gone))
}

/// `POST /admin/channels/{id}/members`
pub(super) async fn change_members(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    Decoded(change): Decoded<MembersChange>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeper(&admin, &uri)?;
    let changed = change_members_in(&state, &tenant, &keeper, &channel_id(id)?, change).await?;
    Ok(answer.success(&changed))
}
