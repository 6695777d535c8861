//! Users and channels, which are not encrypted, and what was sent to channels, which is.

use protocol::{ChannelId, TenantId, UserId};

use super::ContentStore;
use crate::{
    InboxKey, StoreError,
    store::{
        Audience, BoxFuture, Channel, ChannelInfo, Directory, Group, Member, MembersChanged,
        MessagePage, NameKind, TokenFacts, UserChange, UserRecord,
    },
};

impl Directory for ContentStore {
    fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<Option<ChannelInfo>, StoreError>> {
        self.store.channel(tenant, id)
    }

    fn channels(
        &self,
        tenant: &TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChannelInfo>, StoreError>> {
        self.store.channels(tenant, after, limit)
    }

    fn save_channel(
        &self,
        tenant: &TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> BoxFuture<'_, Result<ChannelInfo, StoreError>> {
        self.store.save_channel(tenant, channel, expected)
    }

    fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.store.delete_channel(tenant, id)
    }

    fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> BoxFuture<'_, Result<MembersChanged, StoreError>> {
        self.store.change_members(tenant, id, join, leave)
    }

    fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Member>, StoreError>> {
        self.store.members(tenant, group, after, limit)
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        group: &Group,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.store.is_member(inbox, group)
    }

    fn groups_of(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Vec<Group>, StoreError>> {
        self.store.groups_of(inbox)
    }

    fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        let (reading, tenant) = (self.store.channel_log(tenant, id, before, limit), tenant.clone());
        Box::pin(async move {
            let mut page = reading.await?;
            page.messages.iter_mut().try_for_each(|body| self.open(&tenant, body))?;
            Ok(page)
        })
    }

    fn user(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Option<UserRecord>, StoreError>> {
        self.store.user(inbox)
    }

    fn users(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        self.store.users(tenant, after, limit)
    }

    fn note_token(
        &self,
        inbox: &InboxKey,
        facts: TokenFacts,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.note_token(inbox, facts)
    }

    fn change_user(
        &self,
        inbox: &InboxKey,
        change: UserChange,
    ) -> BoxFuture<'_, Result<UserRecord, StoreError>> {
        self.store.change_user(inbox, change)
    }

    fn kinds<'a>(
        &'a self,
        tenant: &TenantId,
        names: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<NameKind>, StoreError>> {
        self.store.kinds(tenant, names)
    }

    fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.store.audience_size(tenant, audience)
    }
}
