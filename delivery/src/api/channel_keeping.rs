//! Making, changing and ending channels, and saying who is in them: for services and system admins. Who
//! may keep which is decided in [`crate::channel`].

pub(super) mod docs;

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
    caller::Asker,
    channels::{ChannelPath, channel_id, query_of_one},
    error::ApiError,
    query::Parameters,
    shape::{Field, Form, ID, NAME_PATTERN, NO_OR_ID, POSITION, Shape, formed, may, must, text},
    trace::Trace,
};
use crate::{
    channel::{
        ChannelChange, ChannelError, DESCRIPTION_BYTES_MAX, Keeper, METADATA_BYTES_MAX,
        MembersChange, NAME_BYTES_MAX, NewChannel,
    },
    identity::{Caller, with_all_rights},
    store::limits::MEMBERS_CHANGE_MAX,
};

const NAME: Shape = formed(Form::Pattern(NAME_PATTERN), 1, NAME_BYTES_MAX);

const DESCRIPTION: Field = may("description", text(DESCRIPTION_BYTES_MAX), "What it is for.");
const OPEN: Field = may("open", Shape::Flag, "Whether users may join and leave by themselves.");
const HISTORY: Field =
    may("history", Shape::Flag, "Whether members see what was sent to it before they joined.");
const PRESENCE: Field = may(
    "presence",
    Shape::Flag,
    "Whether members that joined it on a socket are shown who else did.",
);
const METADATA: Shape = Shape::Map(usize::MAX, METADATA_BYTES_MAX);

impl Payload for NewChannel {
    const SHAPE: Shape = Shape::Object(&[
        may("id", NO_OR_ID, "Its id, for ever; made up where none is given."),
        must("name", NAME, "What people call it."),
        DESCRIPTION,
        OPEN,
        HISTORY,
        PRESENCE,
        may("metadata", METADATA, "Free data, 16 levels deep at most."),
    ]);
}

impl Payload for ChannelChange {
    const SHAPE: Shape = Shape::Object(&[
        may("name", NAME, "What people call it."),
        DESCRIPTION,
        OPEN,
        HISTORY,
        PRESENCE,
        may("metadata", METADATA, "Free data, 16 levels deep at most; replaced as a whole."),
        may("expected_version", POSITION, "Only if it has not changed since this version."),
    ]);
}

impl Payload for MembersChange {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "join",
            Shape::List(&ID, 0, MEMBERS_CHANGE_MAX),
            "Users who are to be in it. With `leave` there is at least one user, and at most as many \
             as each of the two may have.",
        ),
        may(
            "leave",
            Shape::List(&ID, 0, MEMBERS_CHANGE_MAX),
            "Users who are not to be in it; none that stands in `join` as well.",
        ),
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
async fn keeping<A: Asker>(
    state: &ApiState,
    who: A,
    trace: &Trace,
    uri: &Uri,
) -> Result<(Keeper, TenantId), ApiError> {
    let mut parameters = Parameters::new(uri, query_of_one::<A>())?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    parameters.finish()?;
    trace.of_tenant(&tenant);
    Ok((keeper(state, &caller).await?, tenant))
}

fn log_change(keeper: &Keeper, event: &'static str, channel: &ChannelId) {
    tracing::info!(target: "business", event, by = keeper.name(), channel = channel.as_str());
}

/// `POST /channels`, `POST /admin/channels`
pub(super) async fn create<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    body: Result<Decoded<NewChannel>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &trace, &uri).await?;
    let Decoded(new) = body?;
    let made = state.0.channels.create(&tenant, &keeper, new).await?;
    log_change(&keeper, "channel_created", &made.channel.id);
    trace.after(&made);
    Ok(answer.success(&made))
}

/// `PUT /channels/{id}`, `PUT /admin/channels/{id}`
pub(super) async fn update<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    body: Result<Decoded<ChannelChange>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &trace, &uri).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    trace.before(state.0.directory.channel(&tenant, &id).await?);
    let made = state.0.channels.update(&tenant, &keeper, &id, &change).await?;
    log_change(&keeper, "channel_updated", &id);
    trace.after(&made);
    Ok(answer.success(&made))
}

/// `DELETE /channels/{id}`, `DELETE /admin/channels/{id}`
pub(super) async fn remove<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &trace, &uri).await?;
    let gone = state.0.channels.delete(&tenant, &keeper, &channel_id(id)?).await?;
    log_change(&keeper, "channel_deleted", &gone.channel.id);
    trace.before(&gone);
    Ok(answer.success(&gone))
}

/// `POST /channels/{id}/members`, `POST /admin/channels/{id}/members`
pub(super) async fn change_members<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
    body: Result<Decoded<MembersChange>, ApiError>,
) -> Result<Response, ApiError> {
    let (keeper, tenant) = keeping(&state, who, &trace, &uri).await?;
    let id = channel_id(id)?;
    let Decoded(change) = body?;
    let changed = state.0.channels.change_members(&tenant, &keeper, &id, change).await?;
    log_change(&keeper, "channel_members_changed", &id);
    trace.after(changed);
    Ok(answer.success(&changed))
}
