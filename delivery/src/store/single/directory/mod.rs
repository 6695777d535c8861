//! [`Directory`] for [`SingleStore`].
//!
//! What changes is decided under [`Locks`], on what is visible, and journaled as a decision, in one
//! order with messages. It is visible when the sequencer has got to it: in [`super::shared`] for
//! whoever reads, in the inboxes in memory for whoever is sent something.

mod apply;
mod channels;
mod locks;
mod log;
mod members;
mod names;
#[cfg(test)]
mod tests;
mod users;

use std::sync::atomic::Ordering;

use protocol::{ChannelId, TenantId, UserId};

pub(super) use self::locks::Locks;
use super::{SingleStore, layout, record::Record, sql};
use crate::{
    InboxKey, StoreError,
    store::{
        Audience, BoxFuture, Channel, ChannelInfo, Directory, Group, Member, MembersChanged,
        MessagePage, NameKind, TokenFacts, UserChange, UserRecord,
    },
};

/// Names or users that are looked up where the caller is, at some 2 µs each; more of them go to a
/// thread that may take its time.
const INLINE_MAX: usize = 64;

impl SingleStore {
    /// Refuses what comes after the end.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Closing) } else { Ok(()) }
    }

    /// Stores a change of the directory that was decided under locks, which are held until it is
    /// visible, also if this future is dropped.
    async fn decided(
        &self,
        record: super::record::DirectoryRecord,
        locks: impl Send + 'static,
    ) -> Result<(), StoreError> {
        if self.shared.is_behind() {
            self.metrics.busy_shared.increment(1);
            return Err(StoreError::Busy("too much waits for shared.db"));
        }
        self.committer.submit_holding(vec![Record::Directory(record.into())], locks).await
    }

    /// What reads of `shared.db` answer.
    pub(super) fn read<T>(&self, read: rusqlite::Result<T>) -> Result<T, StoreError> {
        read.map_err(|error| {
            self.metrics.shared_errors.increment(1);
            let damage = sql::is_damage(&error);
            let error = std::sync::Arc::new(error);
            if damage { StoreError::Damaged(error) } else { StoreError::NotWritable(error) }
        })
    }

    /// Runs what reads much, or waits for the file, on a thread that nobody else needs.
    async fn aside<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => self.read(read),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closing),
            },
        }
    }

    /// Whether a user has an inbox on the disk.
    fn has_files(root: &std::path::Path, key: &InboxKey) -> bool {
        layout::inbox_dir(root, key).join("messages.db").exists()
    }
}

impl Directory for SingleStore {
    fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<Option<ChannelInfo>, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move {
            self.check_open()?;
            self.read(self.find_channel(&tenant, &id))
        })
    }

    fn channels(
        &self,
        tenant: &TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChannelInfo>, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(async move { self.list_channels(tenant, after, limit).await })
    }

    fn save_channel(
        &self,
        tenant: &TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> BoxFuture<'_, Result<ChannelInfo, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(async move { self.run_save_channel(tenant, channel, expected).await })
    }

    fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_delete_channel(tenant, id).await })
    }

    fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> BoxFuture<'_, Result<MembersChanged, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_change_members(tenant, id, join, leave).await })
    }

    fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Member>, StoreError>> {
        let (tenant, group) = (tenant.clone(), group.clone());
        Box::pin(async move { self.list_members(tenant, group, after, limit).await })
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        group: &Group,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (key, group) = (inbox.clone(), group.clone());
        Box::pin(async move {
            self.check_open()?;
            self.read(self.with_memberships(&key, |stays| stays.has(&group)))
        })
    }

    fn groups_of(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Vec<Group>, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move {
            self.check_open()?;
            let groups = self.with_memberships(&key, |stays| {
                stays.open().map(|stay| Group::clone(&stay.group)).collect::<Vec<_>>()
            });
            let mut groups = self.read(groups)?;
            groups.sort_unstable();
            Ok(groups)
        })
    }

    fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.read_channel_log(tenant, id, before, limit).await })
    }

    fn user(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Option<UserRecord>, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move {
            self.check_open()?;
            Ok(self.read(self.find_user(&key))?.map(|facts| facts.record))
        })
    }

    fn users(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(async move { self.list_users(tenant, after, limit).await })
    }

    fn note_token(
        &self,
        inbox: &InboxKey,
        facts: TokenFacts,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = inbox.clone();
        Box::pin(async move { self.run_note_token(key, facts).await })
    }

    fn change_user(
        &self,
        inbox: &InboxKey,
        change: UserChange,
    ) -> BoxFuture<'_, Result<UserRecord, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move { self.run_change_user(key, change).await })
    }

    fn kinds<'a>(
        &'a self,
        tenant: &TenantId,
        names: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<NameKind>, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(async move { self.find_kinds(tenant, names).await })
    }

    fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        let (tenant, audience) = (tenant.clone(), audience.clone());
        Box::pin(async move { self.find_audience_size(tenant, audience).await })
    }
}
