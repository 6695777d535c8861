//! Channels, for those who are in them, may join them, or keep them.

use std::collections::BTreeSet;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{ChannelId, TenantId};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::{User, Who},
    channel_keeping::keeper,
    error::ApiError,
    query::{PageMeta, Parameters},
};
use crate::{
    channel::{ChannelError, ChannelRefusal, Keeper},
    identity::{Caller, UserCaller, with_all_rights},
    store::{ChannelInfo, Group, Member},
};

/// Most channels that one request looks at to find those that it lists. What was not reached is
/// behind `next_cursor`, of which a page may then be shorter than it was asked for.
const LOOKED_AT_MAX: usize = 2_000;

/// Channels that are read at a time.
const READ_AT_A_TIME: usize = 200;

/// A channel as one caller sees it.
#[derive(Serialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    info: ChannelInfo,
    /// What it is to a user; nothing where a service or an admin asks.
    #[serde(flatten)]
    mine: Option<Mine>,
}

/// What a channel is to a user.
#[derive(Serialize)]
struct Mine {
    /// Whether the user is in it.
    is_member: bool,
    /// Unread messages of it in the user's inbox.
    unread_count: u64,
}

#[derive(Serialize)]
pub(super) struct List {
    channels: Vec<Seen>,
    /// How many there are in all; null where nobody counted.
    total: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Members {
    members: Vec<Member>,
}

pub(super) type ChannelPath = Result<Path<String>, PathRejection>;

/// The id in the path. One that could not be an id belongs to no channel.
pub(super) fn channel_id(id: ChannelPath) -> Result<ChannelId, ApiError> {
    let Path(id) = id.map_err(|_| ChannelError::NotFound)?;
    Ok(ChannelId::new(id).map_err(|_| ChannelError::NotFound)?)
}

/// Which channels a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Mine,
    Open,
    All,
}

/// `GET /channels`, `GET /admin/channels`
pub(super) async fn list<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    let words = [("mine", Show::Mine), ("open", Show::Open), ("all", Show::All)];
    let show = parameters.word("show", &words).unwrap_or(match caller {
        Caller::User(_) => Show::Mine,
        Caller::Service(_) | Caller::Admin(_) => Show::All,
    });
    if let (Show::Mine, Caller::User(user)) = (show, &caller) {
        let (page, size) = parameters.paging();
        parameters.finish()?;
        let (list, meta) = mine(&state, user, page.unwrap_or(1), size).await?;
        return Ok(answer.page(&list, &meta));
    }
    if show == Show::Mine {
        parameters.say("show", "must be open or all: only users are in channels");
    }
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    if show == Show::All
        && let Caller::User(_) = &caller
    {
        keeper(&state, &caller).await?;
    }
    let shown = |channel: &ChannelInfo| show == Show::All || channel.channel.open;
    let (found, meta) = match &caller {
        Caller::Service(service) if service.is_limited_to(&service.scope.channels) => {
            listed(&state, &tenant, &service.scope.channels, after, size, shown).await?
        }
        Caller::Service(_) | Caller::User(_) | Caller::Admin(_) => {
            some(&state, &tenant, after, size, shown).await?
        }
    };
    let channels = match &caller {
        Caller::User(user) => seen_by(&state, user, found).await?,
        Caller::Service(_) | Caller::Admin(_) => of_keeper(found),
    };
    Ok(answer.page(&List { channels, total: None }, &meta))
}

fn of_keeper(found: Vec<ChannelInfo>) -> Vec<Seen> {
    found.into_iter().map(|info| Seen { info, mine: None }).collect()
}

/// Channels in the order of their ids, those that are `shown`.
async fn some(
    state: &ApiState,
    tenant: &TenantId,
    mut after: Option<ChannelId>,
    size: usize,
    shown: impl Fn(&ChannelInfo) -> bool,
) -> Result<(Vec<ChannelInfo>, PageMeta), ApiError> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    loop {
        let page = state.0.directory.channels(tenant, after, READ_AT_A_TIME).await?;
        let (read, full) = (page.len(), page.len() == READ_AT_A_TIME);
        let mut last = None;
        for (index, channel) in page.into_iter().enumerate() {
            let id = channel.channel.id.clone();
            if shown(&channel) {
                found.push(channel);
            }
            if found.len() == size {
                let more = full || index + 1 < read;
                let meta = PageMeta::of_ids(size, Some(id.as_str()).filter(|_| more));
                return Ok((found, meta));
            }
            last = Some(id);
        }
        looked_at += read;
        if !full || looked_at >= LOOKED_AT_MAX {
            let last = last.as_ref().map(ChannelId::as_str).filter(|_| full);
            return Ok((found, PageMeta::of_ids(size, last)));
        }
        after = last;
    }
}

/// Those of a scope that are there.
async fn listed(
    state: &ApiState,
    tenant: &TenantId,
    scope: &[String],
    after: Option<ChannelId>,
    size: usize,
    shown: impl Fn(&ChannelInfo) -> bool,
) -> Result<(Vec<ChannelInfo>, PageMeta), ApiError> {
    let ids: BTreeSet<ChannelId> = scope.iter().filter_map(|id| ChannelId::new(id).ok()).collect();
    let mut found: Vec<ChannelInfo> = Vec::new();
    for id in ids.into_iter().filter(|id| after.as_ref().is_none_or(|after| id > after)) {
        let channel = state.0.directory.channel(tenant, &id).await?;
        let Some(channel) = channel.filter(|channel| shown(channel)) else { continue };
        if found.len() == size {
            let last = found.last().map(|last| last.channel.id.as_str());
            let meta = PageMeta::of_ids(size, last);
            return Ok((found, meta));
        }
        found.push(channel);
    }
    Ok((found, PageMeta::of_ids(size, None)))
}

/// A user's channels.
async fn mine(
    state: &ApiState,
    user: &UserCaller,
    page: u64,
    size: usize,
) -> Result<(List, PageMeta), ApiError> {
    let groups = state.0.directory.groups_of(&user.inbox).await?;
    let channel = |group| match group {
        Group::Channel(id) => Some(id),
        Group::Role(_) => None,
    };
    let mut ids: Vec<ChannelId> = groups.into_iter().filter_map(channel).collect();
    ids.sort_unstable();
    let total = ids.len();
    let skipped = usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(size);
    let mut found = Vec::new();
    for id in ids.iter().skip(skipped).take(size) {
        // One that was ended in between is left out.
        found.extend(state.0.directory.channel(user.tenant(), id).await?);
    }
    let channels = seen_by(state, user, found).await?;
    let meta = PageMeta {
        page: Some(page),
        size,
        total_pages: Some(total.div_ceil(size) as u64),
        next_cursor: None,
    };
    Ok((List { channels, total: Some(total) }, meta))
}

/// Channels as a user sees them.
async fn seen_by(
    state: &ApiState,
    user: &UserCaller,
    found: Vec<ChannelInfo>,
) -> Result<Vec<Seen>, ApiError> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let unread = state.0.store.unread(&user.inbox).await?.channels;
    let unread: FxHashMap<ChannelId, u64> = unread.into_iter().collect();
    let mut seen = Vec::with_capacity(found.len());
    for info in found {
        let id = &info.channel.id;
        let is_member = state.0.channels.is_member(&user.inbox, id).await?;
        let unread_count = unread.get(id).copied().unwrap_or_default();
        let mine = Some(Mine { is_member, unread_count });
        seen.push(Seen { info, mine });
    }
    Ok(seen)
}

fn in_scope(caller: &Caller, id: &ChannelId) -> bool {
    match caller {
        Caller::Service(service) => service.scope_allows(&service.scope.channels, id.as_str()),
        Caller::User(_) | Caller::Admin(_) => true,
    }
}

/// A channel that the caller may know of: its members, everybody if it is open, services in their
/// scope, and system admins.
async fn known(
    state: &ApiState,
    tenant: &TenantId,
    caller: &Caller,
    id: &ChannelId,
) -> Result<ChannelInfo, ApiError> {
    let channel = state.0.channels.get(tenant, id).await?;
    let may_know = match caller {
        Caller::Service(_) | Caller::Admin(_) => in_scope(caller, id),
        Caller::User(user) => {
            channel.channel.open
                || state.0.channels.is_member(&user.inbox, id).await?
                || is_system_admin(&with_all_rights(&*state.0.directory, caller).await?)
        }
    };
    if may_know { Ok(channel) } else { Err(ChannelError::NotFound.into()) }
}

fn is_system_admin(caller: &Caller) -> bool {
    matches!(caller, Caller::User(user) if user.is_system_admin())
}

/// `GET /channels/{id}`, `GET /admin/channels/{id}`
pub(super) async fn get<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    parameters.finish()?;
    let info = known(&state, &tenant, &caller, &channel_id(id)?).await?;
    let seen = match &caller {
        Caller::User(user) => seen_by(&state, user, vec![info]).await?,
        Caller::Service(_) | Caller::Admin(_) => of_keeper(vec![info]),
    };
    Ok(answer.success(seen.first().expect("one for one")))
}

/// `GET /channels/{id}/members`, `GET /admin/channels/{id}/members`
pub(super) async fn members<W: Who>(
    State(state): State<ApiState>,
    who: W,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let id = channel_id(id)?;
    known(&state, &tenant, &caller, &id).await?;
    if let Caller::User(user) = &caller {
        // An open channel shows itself to everybody, and who is in it to those who are.
        if !state.0.channels.is_member(&user.inbox, &id).await?
            && !is_system_admin(&with_all_rights(&*state.0.directory, &caller).await?)
        {
            return Err(ChannelError::NotFound.into());
        }
    } else {
        Keeper::new(&caller).map_err(ChannelError::from)?;
    }
    let group = Group::Channel(id);
    let (members, meta) = group_members(&state, &tenant, &group, after, size).await?;
    Ok(answer.page(&members, &meta))
}

/// A page of a group's members.
pub(super) async fn group_members(
    state: &ApiState,
    tenant: &TenantId,
    group: &Group,
    after: Option<protocol::UserId>,
    size: usize,
) -> Result<(Members, PageMeta), ApiError> {
    let mut members = state.0.directory.members(tenant, group, after, size + 1).await?;
    let more = members.len() > size;
    members.truncate(size);
    let last = members.last().map(|member| member.user_id.as_str()).filter(|_| more);
    let meta = PageMeta::of_ids(size, last);
    Ok((Members { members }, meta))
}

/// Users who would change what they are in need a token for it.
fn may_write(user: &UserCaller) -> Result<(), ApiError> {
    if user.may_write() {
        Ok(())
    } else {
        Err(ChannelError::from(ChannelRefusal::ReadOnlyToken).into())
    }
}

/// `POST /channels/{id}/join`
pub(super) async fn join(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    may_write(&user)?;
    let changed = state.0.channels.join(&user.inbox, &channel_id(id)?).await?;
    Ok(answer.success(&changed))
}

/// `POST /channels/{id}/leave`
pub(super) async fn leave(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    may_write(&user)?;
    let changed = state.0.channels.leave(&user.inbox, &channel_id(id)?).await?;
    Ok(answer.success(&changed))
}
