//! Who receives a message: names as they were written become an audience that the sender may write
//! to (contract §5).
//!
//! A channel that a sender may not write to is not there for it: the answer is the same, word for
//! word, as for a name that nobody has.

use std::collections::{HashMap, HashSet};

use protocol::{ChannelId, RoleId, TenantId, UserId};

use super::{
    Refusal, SendError,
    limits::{GROUPS_MAX, NEAREST_LOOKED_AT_MAX, NEAREST_TOLD_MAX, USER_RECIPIENTS_MAX},
    permission::{self, allows_channel, allows_role},
    request::Recipient,
    validate::{Checked, RecipientKind},
};
use crate::{
    identity::{Caller, UserCaller, with_all_rights},
    nearest::near,
    problems::Problems,
    store::{Audience, Directory, Group, InboxKey, NameKind, StoreError},
};

/// Where a message goes, and in whose name.
pub(super) struct Addressed {
    /// The sender, with the rights that were needed.
    pub(super) caller: Caller,
    pub(super) audience: Audience,
    /// How many receive it; none for everybody.
    pub(super) count: Option<u64>,
    pub(super) channel_id: Option<ChannelId>,
}

/// What the caller of a request may do: what the token says, and, looked up when that is not enough,
/// what an admin added.
pub(super) struct Rights<'a> {
    caller: &'a Caller,
    all: Option<Caller>,
}

impl<'a> Rights<'a> {
    pub(super) const fn new(caller: &'a Caller) -> Self {
        Self { caller, all: None }
    }

    /// With the token's rights.
    pub(super) const fn caller(&self) -> &'a Caller {
        self.caller
    }

    /// With all rights.
    async fn all(&mut self, directory: &dyn Directory) -> Result<&Caller, StoreError> {
        if self.all.is_none() {
            self.all = Some(with_all_rights(directory, self.caller).await?);
        }
        Ok(self.all.as_ref().expect("just looked up"))
    }
}

/// What names are, as far as it was asked beforehand: a batch asks for all of its messages at once.
#[derive(Default)]
pub(super) struct Known(HashMap<UserId, NameKind>);

impl Known {
    /// Looks up the recipients of messages that do not say what theirs are. Those with many, which
    /// may be refused for that alone, are left to be looked up by themselves.
    pub(super) async fn of_batch<'a>(
        directory: &dyn Directory,
        tenant: &TenantId,
        messages: impl Iterator<Item = &'a Checked>,
    ) -> Result<Self, StoreError> {
        let names: HashSet<&UserId> = messages
            .filter(|message| message.recipient_kind == RecipientKind::Any)
            .filter(|message| message.recipient_count() <= USER_RECIPIENTS_MAX)
            .flat_map(|message| message.request.recipients.iter().flatten())
            .filter_map(|recipient| recipient.0.as_ref().ok())
            .collect();
        let names: Vec<UserId> = names.into_iter().cloned().collect();
        Self::look_up(directory, tenant, names).await
    }

    async fn look_up(
        directory: &dyn Directory,
        tenant: &TenantId,
        names: Vec<UserId>,
    ) -> Result<Self, StoreError> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let kinds = directory.kinds(tenant, &names).await?;
        Ok(Self(names.into_iter().zip(kinds).collect()))
    }
}

/// A recipient and its place in the request.
struct Name {
    at: usize,
    id: UserId,
}

/// Turns names into audiences.
pub(super) struct Recipients<'a> {
    pub(super) directory: &'a dyn Directory,
    pub(super) tenant: &'a TenantId,
    pub(super) known: &'a Known,
}

impl Recipients<'_> {
    /// Checks what the caller may send and to whom, and says who that is.
    pub(super) async fn resolve(
        &self,
        rights: &mut Rights<'_>,
        message: &Checked,
    ) -> Result<Addressed, SendError> {
        let directory = self.directory;
        if let Err(refusal) = permission::check(rights.caller, message) {
            match rights.all(directory).await? {
                Caller::User(_) => permission::check(rights.all(directory).await?, message)?,
                Caller::Service(_) | Caller::Admin(_) => return Err(refusal.into()),
            }
        }
        if message.to_everyone() {
            let caller = rights.all(directory).await?.clone();
            let channel_id = self.label(&caller, message).await?;
            return Ok(Addressed { caller, audience: Audience::Everyone, count: None, channel_id });
        }
        let mut names = distinct(message.request.recipients.as_deref().unwrap_or_default());
        if let (true, Some(channel)) = (names.is_empty(), &message.channel_id) {
            let id = UserId::new(channel).expect("ids are held to the same rules");
            names.push(Name { at: 0, id });
        }
        let kinds = self.kinds(message.recipient_kind, &names).await?;
        let only_users =
            kinds.iter().all(|kind| matches!(kind, NameKind::User | NameKind::Unknown));
        let many = message.recipient_count() > USER_RECIPIENTS_MAX;
        let plain = only_users
            && !many
            && message.channel_id.is_none()
            && message.on_behalf_of.is_none()
            && message.request.sender.is_none();
        let caller = if plain { rights.caller } else { rights.all(directory).await? }.clone();
        let (users, groups) = self.sort(&caller, message, names, &kinds).await?;
        if many && let Caller::User(user) = &caller {
            self.check_many(user, &users, groups.len()).await?;
        }
        let label = self.label(&caller, message).await?;
        let channel_id = label.or_else(|| match (&*users, &*groups) {
            ([], [Group::Channel(only)]) => Some(only.clone()),
            _ => None,
        });
        let (count, audience) = if groups.is_empty() {
            (Some(users.len() as u64), Audience::users(users))
        } else {
            let audience = Audience::Some { users: users.into(), groups: groups.into() };
            (directory.audience_size(self.tenant, &audience).await?, audience)
        };
        Ok(Addressed { caller, audience, count, channel_id })
    }

    async fn kinds(
        &self,
        said: RecipientKind,
        names: &[Name],
    ) -> Result<Vec<NameKind>, StoreError> {
        let all = |kind| Ok(vec![kind; names.len()]);
        match said {
            RecipientKind::User | RecipientKind::All => all(NameKind::User),
            RecipientKind::Channel => all(NameKind::Channel),
            RecipientKind::Role => all(NameKind::Role),
            RecipientKind::Any => {
                let missing = names.iter().filter(|name| !self.known.0.contains_key(&name.id));
                let missing = missing.map(|name| name.id.clone()).collect();
                let found = Known::look_up(self.directory, self.tenant, missing).await?;
                let of = |name: &Name| {
                    let kind = self.known.0.get(&name.id).or_else(|| found.0.get(&name.id));
                    kind.copied().unwrap_or(NameKind::Unknown)
                };
                Ok(names.iter().map(of).collect())
            }
        }
    }

    /// Users and groups apart. Where it was said what they are, each must be there for this caller;
    /// else what is not is a user not seen before.
    async fn sort(
        &self,
        caller: &Caller,
        message: &Checked,
        names: Vec<Name>,
        kinds: &[NameKind],
    ) -> Result<(Vec<UserId>, Vec<Group>), SendError> {
        let count = kinds.iter().filter(|kind| matches!(kind, NameKind::Channel | NameKind::Role));
        let mut problems = Problems::default();
        if count.count() > GROUPS_MAX {
            problems.say("recipients", format!("may have at most {GROUPS_MAX} channels and roles"));
            return Err(SendError::Invalid(problems.0));
        }
        let (mut users, mut groups) = (Vec::with_capacity(names.len()), Vec::new());
        for (name, kind) in names.into_iter().zip(kinds) {
            let group = match kind {
                NameKind::User | NameKind::Unknown => None,
                NameKind::Channel => self.channel(caller, message, &name, &mut problems).await?,
                NameKind::Role => self.role(caller, message, &name, &mut problems).await?,
            };
            match group {
                Some(group) => groups.push(group),
                None => users.push(name.id),
            }
        }
        if problems.0.is_empty() {
            Ok((users, groups))
        } else {
            Err(SendError::Invalid(problems.0))
        }
    }

    /// The channel of this name, if the caller may send to it.
    async fn channel(
        &self,
        caller: &Caller,
        message: &Checked,
        name: &Name,
        problems: &mut Problems,
    ) -> Result<Option<Group>, SendError> {
        let explicit = message.recipient_kind == RecipientKind::Channel;
        if let Caller::Service(service) = caller
            && !allows_channel(service, name.id.as_str())
        {
            // Asked before whether it is there, which is nothing to tell.
            return if explicit { Err(Refusal::OutOfScope("channel").into()) } else { Ok(None) };
        }
        let Ok(id) = ChannelId::new(&name.id) else { return Ok(None) };
        if self.may_write_to(caller, &id).await? {
            return Ok(Some(Group::Channel(id)));
        }
        if explicit {
            let near = if problems.0.len() < NEAREST_TOLD_MAX {
                self.near_channel(caller, id.as_str()).await?
            } else {
                None
            };
            problems.say(message.path_of(name.at), no_channel(caller, near));
        }
        Ok(None)
    }

    /// Whether there is such a channel for somebody whose scope allows it.
    async fn may_write_to(&self, caller: &Caller, id: &ChannelId) -> Result<bool, StoreError> {
        match caller {
            Caller::User(user) if !user.is_system_admin() => {
                self.directory.is_member(&user.inbox, &Group::Channel(id.clone())).await
            }
            Caller::User(_) | Caller::Service(_) | Caller::Admin(_) => {
                Ok(self.directory.channel(self.tenant, id).await?.is_some())
            }
        }
    }

    async fn role(
        &self,
        caller: &Caller,
        message: &Checked,
        name: &Name,
        problems: &mut Problems,
    ) -> Result<Option<Group>, SendError> {
        let Ok(id) = RoleId::new(&name.id) else { return Ok(None) };
        let explicit = message.recipient_kind == RecipientKind::Role;
        if !allows_role(caller, &id) {
            return if explicit { Err(Refusal::Role.into()) } else { Ok(None) };
        }
        let group = Group::Role(id);
        // Where nothing was said, `kinds` has found somebody already.
        if explicit && self.directory.members(self.tenant, &group, None, 1).await?.is_empty() {
            problems.say(message.path_of(name.at), "is a role that nobody carries");
        }
        Ok(Some(group))
    }

    /// Of many recipients those count that are not of the sender's own department.
    async fn check_many(
        &self,
        user: &UserCaller,
        users: &[UserId],
        groups: usize,
    ) -> Result<(), SendError> {
        if user.is_system_admin() {
            return Ok(());
        }
        let mut others = groups;
        let department = user.department_led().map(Group::Role);
        for recipient in users {
            let inbox = InboxKey::new(self.tenant.clone(), recipient.clone());
            let own = match &department {
                Some(department) => self.directory.is_member(&inbox, department).await?,
                None => false,
            };
            others += usize::from(!own);
            if others > USER_RECIPIENTS_MAX {
                return Err(Refusal::TooManyRecipients.into());
            }
        }
        Ok(())
    }

    /// The channel that the sender says a message belongs to. Services and system admins may use any
    /// word (its scope allowing); users only channels that they are members of: a label puts the
    /// message among the channel's, and counts it there.
    async fn label(
        &self,
        caller: &Caller,
        message: &Checked,
    ) -> Result<Option<ChannelId>, SendError> {
        let Some(label) = &message.channel_id else { return Ok(None) };
        if let Caller::User(user) = caller
            && !user.is_system_admin()
            && !self.may_write_to(caller, label).await?
        {
            let mut problems = Problems::default();
            let near = self.near_channel(caller, label.as_str()).await?;
            problems.say("channel_id", no_channel(caller, near));
            return Err(SendError::Invalid(problems.0));
        }
        Ok(Some(label.clone()))
    }

    /// A channel that the caller may write to and may have meant.
    async fn near_channel(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let mut known: Vec<ChannelId> = match caller {
            Caller::User(user) if !user.is_system_admin() => {
                let groups = self.directory.groups_of(&user.inbox).await?;
                let channel = |group| match group {
                    Group::Channel(id) => Some(id),
                    Group::Role(_) => None,
                };
                groups.into_iter().filter_map(channel).collect()
            }
            Caller::User(_) | Caller::Service(_) | Caller::Admin(_) => {
                // Those that begin alike are next to each other.
                let begin: String = name.chars().take((name.chars().count() / 2).max(1)).collect();
                let after = ChannelId::new(begin).ok();
                let found = self.directory.channels(self.tenant, after, NEAREST_LOOKED_AT_MAX);
                found.await?.into_iter().map(|found| found.channel.id).collect()
            }
        };
        if let Caller::Service(service) = caller {
            known.retain(|id| allows_channel(service, id.as_str()));
        }
        Ok(near(name, known.iter().map(ChannelId::as_str)).map(str::to_owned))
    }
}

fn no_channel(caller: &Caller, near: Option<String>) -> String {
    let what = match caller {
        Caller::User(user) if !user.is_system_admin() => "is no channel that you are a member of",
        Caller::User(_) | Caller::Service(_) | Caller::Admin(_) => "is no channel",
    };
    match near {
        Some(near) => format!("{what}; the nearest known is {near}"),
        None => what.to_owned(),
    }
}

/// Each name once, in the order and at the place of its first mention.
fn distinct(recipients: &[Recipient]) -> Vec<Name> {
    let names = recipients.iter().enumerate();
    let names = names.filter_map(|(at, name)| Some(Name { at, id: name.0.as_ref().ok()?.clone() }));
    let mut names: Vec<Name> = names.collect();
    if names.len() > 1 {
        // The default hasher: ids come from outside, and a cheap hash could be attacked.
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(name.id.clone()));
    }
    names
}
