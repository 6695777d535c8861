//! Channels: named groups of users (contract §1, §5). Services and admins make, change and end them and
//! say who is in them; users join and leave open ones.
//!
//! Who is a member, and what a channel is, is kept by [`Directory`]; here is what may be asked of it.

mod error;
mod metrics;
mod permission;
mod request;

use std::sync::Arc;

use protocol::{ChannelId, TenantId, Time, UserId};
use tokio::sync::Mutex;

use crate::{
    control::Control,
    store::{Channel, ChannelInfo, Directory, Group, InboxKey, MembersChanged, StoreError},
};

pub use error::ChannelError;
pub use metrics::ALL as METRICS;
pub use permission::{ChannelRefusal, Keeper};
pub use request::{
    ChannelChange, DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX, MembersChange, NAME_BYTES_MAX,
    NewChannel,
};

/// How often a change that said no version is tried against others who change the same channel. Each
/// try loses only to one that succeeded.
const TRIES_MAX: usize = 8;

/// Channels that are read at a time to count them.
const COUNT_PAGE: usize = 1_000;

/// Makes and changes channels.
pub struct Channels {
    directory: Arc<dyn Directory>,
    control: Arc<Control>,
    /// Held while a tenant with a quota gets a channel, so that two at once do not both take the last
    /// one of it. Other nodes are not kept from it.
    counting: Mutex<()>,
    metrics: metrics::ChannelMetrics,
}

impl Channels {
    /// Channels of this directory.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        control: Arc<Control>,
        recorder: &dyn ::metrics::Recorder,
    ) -> Self {
        let metrics = metrics::ChannelMetrics::new(recorder);
        Self { directory, control, counting: Mutex::default(), metrics }
    }

    /// Makes a channel.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn create(
        &self,
        tenant: &TenantId,
        keeper: &Keeper,
        new: NewChannel,
    ) -> Result<ChannelInfo, ChannelError> {
        let made = self.try_create(tenant, keeper, new).await;
        self.metrics.count(&self.metrics.created, &made);
        made
    }

    async fn try_create(
        &self,
        tenant: &TenantId,
        keeper: &Keeper,
        new: NewChannel,
    ) -> Result<ChannelInfo, ChannelError> {
        let id = new.check_id()?;
        keeper.may_keep(&id)?;
        let channel = new.into_channel(id, keeper.name())?;
        let quota = self.control.quotas(tenant).channels;
        let _counting = match quota {
            Some(quota) => {
                let guard = self.counting.lock().await;
                self.check_quota(tenant, quota).await?;
                Some(guard)
            }
            None => None,
        };
        let id = channel.id.clone();
        match self.directory.save_channel(tenant, channel, Some(0)).await {
            Ok(made) => Ok(made),
            Err(StoreError::Conflict(_)) => match self.directory.channel(tenant, &id).await? {
                Some(present) => Err(ChannelError::IdTaken(Box::new(present))),
                // It was ended in between; whoever asks again makes it.
                None => Err(ChannelError::Store(StoreError::Busy("a channel is being ended"))),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn check_quota(&self, tenant: &TenantId, quota: u64) -> Result<(), ChannelError> {
        let (mut count, mut after) = (0, None);
        while count < quota {
            let page = self.directory.channels(tenant, after, COUNT_PAGE).await?;
            count += page.len() as u64;
            after = match page.last() {
                Some(last) if page.len() == COUNT_PAGE => Some(last.channel.id.clone()),
                Some(_) | None => {
                    return if count < quota { Ok(()) } else { Err(ChannelError::Quota(quota)) };
                }
            };
        }
        Err(ChannelError::Quota(quota))
    }

    /// Changes a channel; what is not said stays.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn update(
        &self,
        tenant: &TenantId,
        keeper: &Keeper,
        id: &ChannelId,
        change: &ChannelChange,
    ) -> Result<ChannelInfo, ChannelError> {
        keeper.may_keep(id)?;
        change.check()?;
        for _ in 0..TRIES_MAX {
            let present = self.get(tenant, id).await?;
            if change.expected_version.is_some_and(|expected| expected != present.channel.version) {
                return Err(ChannelError::VersionConflict(Box::new(present)));
            }
            let version = present.channel.version;
            let changed = change.apply(present.channel);
            match self.directory.save_channel(tenant, changed, Some(version)).await {
                Err(StoreError::Conflict(_)) => {}
                saved => {
                    let saved = saved.map_err(ChannelError::from);
                    self.metrics.count(&self.metrics.updated, &saved);
                    return saved;
                }
            }
        }
        Err(ChannelError::Store(StoreError::Busy("too many change this channel at once")))
    }

    /// Ends a channel and says what it was.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn delete(
        &self,
        tenant: &TenantId,
        keeper: &Keeper,
        id: &ChannelId,
    ) -> Result<ChannelInfo, ChannelError> {
        keeper.may_keep(id)?;
        let present = self.get(tenant, id).await?;
        if self.directory.delete_channel(tenant, id).await? {
            self.metrics.deleted.increment(1);
            Ok(present)
        } else {
            Err(ChannelError::NotFound)
        }
    }

    /// Changes who is in a channel.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn change_members(
        &self,
        tenant: &TenantId,
        keeper: &Keeper,
        id: &ChannelId,
        change: MembersChange,
    ) -> Result<MembersChanged, ChannelError> {
        keeper.may_keep(id)?;
        let (join, leave) = change.check()?;
        self.change(tenant, id, join, leave).await
    }

    async fn change(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> Result<MembersChanged, ChannelError> {
        let changed = self.directory.change_members(tenant, id, join, leave).await;
        let changed = changed.map_err(|error| match error {
            StoreError::NotFound => ChannelError::NotFound,
            other => ChannelError::Store(other),
        });
        self.metrics.count(&self.metrics.members, &changed);
        changed
    }

    /// A user joins an open channel, or stays in one that they are in.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`] for one that is closed, and for one that is not there.
    pub async fn join(
        &self,
        inbox: &InboxKey,
        id: &ChannelId,
    ) -> Result<MembersChanged, ChannelError> {
        let channel = self.get(&inbox.tenant, id).await?;
        if !channel.channel.open && !self.is_member(inbox, id).await? {
            return Err(ChannelError::NotFound);
        }
        self.change(&inbox.tenant, id, vec![inbox.user.clone()], vec![]).await
    }

    /// A user leaves an open channel, or stays out of one.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] for members of a closed one; [`ChannelError::NotFound`] for others.
    pub async fn leave(
        &self,
        inbox: &InboxKey,
        id: &ChannelId,
    ) -> Result<MembersChanged, ChannelError> {
        let channel = self.get(&inbox.tenant, id).await?;
        if !channel.channel.open {
            let member = self.is_member(inbox, id).await?;
            return Err(if member { ChannelError::Closed } else { ChannelError::NotFound });
        }
        self.change(&inbox.tenant, id, vec![], vec![inbox.user.clone()]).await
    }

    /// A channel, whoever asks.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`], [`ChannelError::Store`].
    pub async fn get(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> Result<ChannelInfo, ChannelError> {
        self.directory.channel(tenant, id).await?.ok_or(ChannelError::NotFound)
    }

    /// Whether a user is in a channel.
    ///
    /// # Errors
    /// [`ChannelError::Store`].
    pub async fn is_member(&self, inbox: &InboxKey, id: &ChannelId) -> Result<bool, ChannelError> {
        let group = Group::Channel(id.clone());
        Ok(self.directory.is_member(inbox, &group).await?)
    }
}

impl NewChannel {
    fn into_channel(self, id: ChannelId, by: &str) -> Result<Channel, ChannelError> {
        self.check()?;
        Ok(Channel {
            id,
            name: self.name,
            description: self.description,
            open: self.open,
            history: self.history,
            presence: self.presence,
            metadata: self.metadata,
            created_by: by.to_owned(),
            created_at: Time::default(),
            updated_at: Time::default(),
            version: 0,
        })
    }
}
