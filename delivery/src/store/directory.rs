//! Who there is: users, the roles and departments they carry, channels and their members.
//!
//! # Contract
//! * **Durable.** As [`super::Store::append`]: what was answered `Ok` survives.
//! * **Ordered with messages.** A change of a group's members and a message to the group have one
//!   order; whoever is a member at the message's place receives it, and nobody else. If a join was
//!   answered before a send began, the new member receives it; if a leave was, the old one does not.
//! * **Once.** A user in several of a message's groups, and named as well, receives it once.
//! * **What was received stays.** Leaving a group, or the end of a channel, takes no message away;
//!   edits and recalls of it still come.

use protocol::{ChannelId, RoleId, TenantId, Time, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Audience, BoxFuture, Group, InboxKey, MessagePage, StoreError};

/// A channel (seed 003 §2.1, contract §1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// Its id, for ever: a rename changes the name.
    pub id: ChannelId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Users may join and leave by themselves.
    pub open: bool,
    /// Members see what was sent to it before they joined.
    pub history: bool,
    /// Members that joined it on a socket are shown who else did.
    pub presence: bool,
    /// Free data.
    pub metadata: Map<String, Value>,
    /// Who made it: a service, a user, or `admin`.
    pub created_by: String,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// 1, 2, 3 … with each change of the above.
    pub version: u64,
}

/// A channel and how many are in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelInfo {
    /// The channel.
    #[serde(flatten)]
    pub channel: Channel,
    /// How many are in it.
    pub members: u64,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// Since when.
    pub joined_at: Time,
}

/// What a change of members did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MembersChanged {
    /// Users who are members now and were not before.
    pub joined: u64,
    /// Users who are not any more.
    pub left: u64,
    /// How many are members now.
    pub members: u64,
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRecord {
    /// Who.
    pub user_id: UserId,
    /// What to call the user, as the latest token said.
    pub username: String,
    /// Where to write to, as the latest token said.
    pub email: String,
    /// Roles of the latest token.
    pub token_roles: Vec<RoleId>,
    /// Roles that an admin added.
    pub added_roles: Vec<RoleId>,
    /// The department: an admin's word, else the latest token's; null where neither said one.
    pub department: Option<String>,
    /// Whether an admin said the department.
    pub department_set: bool,
    /// Since when the user is known.
    pub created_at: Time,
    /// When a token last brought something new.
    pub updated_at: Time,
}

/// What a valid token says of its user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenFacts {
    /// When it was made: an older token does not undo what a newer one said.
    pub issued_at: Time,
    /// What to call the user.
    pub username: String,
    /// Where to write to.
    pub email: String,
    /// Roles.
    pub roles: Vec<RoleId>,
    /// Department.
    pub department: Option<String>,
}

/// What an admin changes of a user; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// The added roles become these.
    pub added_roles: Option<Vec<RoleId>>,
    /// The department becomes this; `Some(None)` leaves it to tokens again.
    pub department: Option<Option<String>>,
}

/// What a name in a send without `recipient_type` is (contract §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A user: one who showed a token or of whom an admin said something; or one who has merely been
    /// sent something, where it is no channel and no role.
    User,
    /// A channel.
    Channel,
    /// A role that somebody carries.
    Role,
    /// Nothing that is known: a user not seen before.
    Unknown,
}

/// Keeps users, roles and channels. The module's doc is the contract.
pub trait Directory: Send + Sync + 'static {
    /// A channel; none where there is none of that id.
    fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<Option<ChannelInfo>, StoreError>>;

    /// Channels in the order of their ids, after one of them.
    fn channels(
        &self,
        tenant: &TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChannelInfo>, StoreError>>;

    /// Makes a channel, or changes one that is there: only if its version is `expected`, 0 for one
    /// that must not be there. `version`, `created_*` and `updated_at` of `channel` are set by the
    /// store.
    ///
    /// # Errors
    /// `Conflict` where the version is another one; `Limit` at [`super::limits::CHANNELS_MAX`].
    fn save_channel(
        &self,
        tenant: &TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> BoxFuture<'_, Result<ChannelInfo, StoreError>>;

    /// Ends a channel: it has no members any more, and its id may be used again. Whether it was
    /// there.
    fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Changes who is in a channel. Who is in or out already is passed over.
    ///
    /// # Errors
    /// `NotFound` for a channel that is not there; `Limit` at
    /// [`super::limits::CHANNEL_MEMBERS_MAX`] and [`super::limits::USER_GROUPS_MAX`].
    fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> BoxFuture<'_, Result<MembersChanged, StoreError>>;

    /// Members of a group in the order of their ids, after one of them.
    fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Member>, StoreError>>;

    /// Whether a user is in a group now. From memory for an inbox that is watched.
    fn is_member(&self, inbox: &InboxKey, group: &Group)
    -> BoxFuture<'_, Result<bool, StoreError>>;

    /// The groups a user is in.
    fn groups_of(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Vec<Group>, StoreError>>;

    /// What was sent to a channel, latest first, before a position (`None`: from the latest on),
    /// without what is recalled or expired: for members of channels with [`Channel::history`].
    fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>>;

    /// What is known of a user; none for one that was never seen.
    fn user(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Option<UserRecord>, StoreError>>;

    /// Users in the order of their ids, after one of them.
    fn users(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>>;

    /// A user showed a valid token. Cheap where it says nothing new.
    fn note_token(
        &self,
        inbox: &InboxKey,
        facts: TokenFacts,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// An admin changes a user, who is made where there was none.
    ///
    /// # Errors
    /// `Limit` at [`super::limits::USER_GROUPS_MAX`].
    fn change_user(
        &self,
        inbox: &InboxKey,
        change: UserChange,
    ) -> BoxFuture<'_, Result<UserRecord, StoreError>>;

    /// What names are, in their order: users first, then channels, then roles, then inboxes of which
    /// nobody but a sender has ever spoken. Else anybody could take a channel's name, by sending a
    /// message to a user of that name.
    fn kinds<'a>(
        &'a self,
        tenant: &TenantId,
        names: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<NameKind>, StoreError>>;

    /// How many receive a message now, each counted once; none for [`Audience::Everyone`].
    fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> BoxFuture<'_, Result<Option<u64>, StoreError>>;
}
