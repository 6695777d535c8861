//! Channels, for those who are in them, may join them, or keep them.

pub(super) mod docs;
mod walk;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{ChannelId, TenantId};
use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::{Asker, User, of_port},
    channel_keeping::keeper,
    error::ApiError,
    query::{ID_CURSOR_PARAMETER, PAGE, PageMeta, Parameters, SIZE, TENANT_ID, on_page},
    shape::{Field, Shape, may},
};
use crate::{
    channel::{ChannelError, ChannelRefusal, Keeper},
    identity::{Caller, UserCaller, with_all_rights},
    store::{ChannelInfo, Group, Member},
};

/// The query of a list.
const LIST: &[Field] = &[
    PAGE,
    SIZE,
    ID_CURSOR_PARAMETER,
    may(
        "show",
        Shape::Word(&["mine", "open", "all"]),
        "Which. `mine`: those that the user is in, by `page`; users see these unless they say. `open`: \
         those that can be joined, by `cursor`. `all`, by `cursor`: for services, who see these \
         unless they say, and for system admins.",
    ),
];

/// The same of an admin, who is in none of them.
const LIST_OF_ADMIN: &[Field] = &[
    SIZE,
    ID_CURSOR_PARAMETER,
    may(
        "show",
        Shape::Word(&["open", "all"]),
        "Which: `open`, those that can be joined, or `all`, which is what is shown unless said.",
    ),
    TENANT_ID,
];

/// The query of a list of members.
const MEMBERS: &[Field] = &[SIZE, ID_CURSOR_PARAMETER];

/// The same of an admin.
const MEMBERS_OF_ADMIN: &[Field] = &[SIZE, ID_CURSOR_PARAMETER, TENANT_ID];

/// The query of what names one channel and asks for nothing else.
const ONE: &[Field] = &[];

/// The same of an admin.
const ONE_OF_ADMIN: &[Field] = &[TENANT_ID];

/// What may stand in the query of a request that names one channel.
pub(super) const fn query_of_one<A: Asker>() -> &'static [Field] {
    of_port::<A>(ONE, ONE_OF_ADMIN)
}

/// A channel as one caller sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SeenChannel")]
pub(super) struct Seen {
    #[serde(flatten)]
    info: ChannelInfo,
    /// What it is to a user; nothing where a service or an admin asks.
    #[serde(flatten)]
    mine: Option<Mine>,
}

/// What a channel is to a user.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChannelOfUser")]
struct Mine {
    /// Whether the user is in it; not there where a service or an admin asks.
    is_member: bool,
    /// Unread messages of it in the user's inbox; not there where a service or an admin asks.
    unread_count: u64,
}

/// Channels.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChannelList")]
pub(super) struct List {
    /// The page, by id.
    channels: Vec<Seen>,
    /// How many there are in all; null where nobody counted.
    total: Option<usize>,
}

/// Members of a channel, or those who carry a role.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MemberList")]
pub(super) struct Members {
    /// The page, by id.
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
pub(super) async fn list<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, of_port::<A>(LIST, LIST_OF_ADMIN))?;
    let (tenant, caller) = (who.tenant(&mut parameters), who.caller());
    let words = [("open", Show::Open), ("all", Show::All), ("mine", Show::Mine)];
    let words = if A::ADMIN { &words[..2] } else { &words };
    let show = parameters.word("show", words).unwrap_or(match caller {
        Caller::User(_) => Show::Mine,
        Caller::Service(_) | Caller::Admin(_) => Show::All,
    });
    if let (Show::Mine, Caller::User(user)) = (show, &caller) {
        let (page, size) = parameters.paging();
        if parameters.text("cursor").is_some() {
            parameters.say("cursor", "is for show=open and show=all; here it is page");
        }
        parameters.finish()?;
        let (list, meta) = mine(&state, user, page.unwrap_or(1), size).await?;
        return Ok(answer.page(&list, &meta));
    }
    if show == Show::Mine {
        parameters.say("show", "must be open or all: only users are in channels");
    }
    if !A::ADMIN && parameters.text("page").is_some() {
        parameters.say("page", "is for show=mine; here it is cursor");
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
            walk::listed(&state, &tenant, &service.scope.channels, after, size, shown).await?
        }
        Caller::Service(_) | Caller::User(_) | Caller::Admin(_) => {
            walk::some(&state, &tenant, after, size, shown).await?
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
    let mut found = Vec::new();
    for id in on_page(&ids, page, size) {
        // One that was ended in between is left out.
        found.extend(state.0.directory.channel(user.tenant(), id).await?);
    }
    let channels = seen_by(state, user, found).await?;
    let meta = PageMeta::of_page(page, size, total as u64);
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
pub(super) async fn get<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, query_of_one::<A>())?;
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
pub(super) async fn members<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: ChannelPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, of_port::<A>(MEMBERS, MEMBERS_OF_ADMIN))?;
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
