//! [`Directory`] for [`PostgresStore`].

use std::sync::Arc;

use protocol::{ChannelId, TenantId, UserId};

use super::{PostgresStore, channels};
use crate::{
    InboxKey, StoreError,
    store::{
        Audience, BoxFuture, Channel, ChannelInfo, Directory, Group, Member, MembersChanged,
        MessagePage, NameKind, TokenFacts, UserChange, UserRecord, facts::cleaned,
    },
};

impl Directory for PostgresStore {
    fn channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<Option<ChannelInfo>, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move {
            let client = core.db.client().await?;
            Ok(channels::find(&client, &tenant, &id).await?.map(|(info, _)| info))
        }))
    }

    fn channels(
        &self,
        tenant: &TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChannelInfo>, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        Box::pin(self.run(async move { core.channels(&tenant, after.as_ref(), limit).await }))
    }

    fn save_channel(
        &self,
        tenant: &TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> BoxFuture<'_, Result<ChannelInfo, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        Box::pin(self.run(async move {
            core.retry(|| core.save_channel(&tenant, &channel, expected)).await
        }))
    }

    fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { core.retry(|| core.delete_channel(&tenant, &id)).await }))
    }

    fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> BoxFuture<'_, Result<MembersChanged, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move {
            core.retry(|| core.change_members(&tenant, &id, &join, &leave)).await
        }))
    }

    fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Member>, StoreError>> {
        let (core, tenant, group) = (Arc::clone(&self.core), tenant.clone(), group.clone());
        Box::pin(
            self.run(async move { core.members(&tenant, &group, after.as_ref(), limit).await }),
        )
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        group: &Group,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (core, key, group) = (Arc::clone(&self.core), inbox.clone(), group.clone());
        Box::pin(self.run(async move { core.is_member(&key, &group).await }))
    }

    fn groups_of(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Vec<Group>, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move {
            let client = core.db.client().await?;
            Ok(super::members::groups_of(&client, &key).await?.into_iter().collect())
        }))
    }

    fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { core.channel_log(&tenant, &id, before, limit).await }))
    }

    fn user(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Option<UserRecord>, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.user(&key).await }))
    }

    fn users(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        Box::pin(self.run(async move { core.users(&tenant, after.as_ref(), limit).await }))
    }

    fn note_token(
        &self,
        inbox: &InboxKey,
        facts: TokenFacts,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        let fingerprint = core.noted.fingerprint(&key, &facts);
        if core.check_open().is_ok() && core.noted.has(fingerprint) {
            core.metrics.tokens_known.increment(1);
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.run(async move {
            let facts = cleaned(facts);
            core.retry(|| core.note_token(&key, &facts)).await?;
            core.noted.add(fingerprint);
            Ok(())
        }))
    }

    fn change_user(
        &self,
        inbox: &InboxKey,
        change: UserChange,
    ) -> BoxFuture<'_, Result<UserRecord, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.retry(|| core.change_user(&key, &change)).await }))
    }

    fn kinds<'a>(
        &'a self,
        tenant: &TenantId,
        names: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<NameKind>, StoreError>> {
        let (core, tenant, names) = (Arc::clone(&self.core), tenant.clone(), names.to_vec());
        Box::pin(self.run(async move { core.kinds(&tenant, &names).await }))
    }

    fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        let (core, tenant, audience) = (Arc::clone(&self.core), tenant.clone(), audience.clone());
        Box::pin(self.run(async move { core.audience_size(&tenant, &audience).await }))
    }
}
