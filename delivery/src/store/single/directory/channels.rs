//! Channels.

use protocol::{ChannelId, TenantId};
use rusqlite::params;

use super::super::{
    SingleStore,
    record::DirectoryRecord,
    shared::{self, most},
};
use crate::{
    StoreError, clock,
    store::{Channel, ChannelInfo, Group, limits::CHANNELS_MAX},
};

impl SingleStore {
    pub(super) fn find_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> rusqlite::Result<Option<ChannelInfo>> {
        let Some(kept) = self.shared.channel(tenant, id)? else { return Ok(None) };
        let members = self.shared.size(tenant, &Group::Channel(id.clone()))?;
        Ok(Some(ChannelInfo { channel: kept.channel.clone(), members }))
    }

    pub(super) async fn list_channels(
        &self,
        tenant: TenantId,
        after: Option<ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelInfo>, StoreError> {
        self.check_open()?;
        let shared = std::sync::Arc::clone(&self.shared);
        self.aside(move || {
            shared.ask_settled(|db| {
                let mut select = db.prepare_cached(
                    "SELECT c.channel, ifnull(n.n, 0) FROM channels AS c
                     LEFT JOIN counts AS n ON n.tenant = c.tenant AND n.what = 'c:' || c.id
                     WHERE c.tenant = ?1 AND c.id > ?2 ORDER BY c.id LIMIT ?3",
                )?;
                let after = after.as_ref().map_or("", ChannelId::as_str);
                let rows =
                    select.query_map(params![tenant.as_str(), after, most(limit)], |row| {
                        let members = row.get::<_, i64>(1)?.cast_unsigned();
                        Ok(ChannelInfo { channel: shared::from_json(row, 0)?, members })
                    })?;
                rows.collect()
            })
        })
        .await
    }

    pub(super) async fn run_save_channel(
        &self,
        tenant: TenantId,
        channel: Channel,
        expected: Option<u64>,
    ) -> Result<ChannelInfo, StoreError> {
        self.check_open()?;
        let deciding = self.locks.channel(&tenant, &channel.id).await;
        let there = self.read(self.shared.channel(&tenant, &channel.id))?;
        let version = there.as_ref().map_or(0, |kept| kept.channel.version);
        match expected {
            Some(expected) if expected == version => {}
            None => {}
            Some(0) => return Err(StoreError::Conflict("there is a channel of this id")),
            Some(_) if version == 0 => {
                return Err(StoreError::Conflict("there is no channel of this id any more"));
            }
            Some(_) => return Err(StoreError::Conflict("the channel has changed since")),
        }
        let mut making = None;
        if there.is_none() {
            making = Some(self.locks.making().await);
            if self.read(self.shared.channels(&tenant))? >= CHANNELS_MAX {
                return Err(StoreError::Limit("a tenant has at most 100,000 channels"));
            }
        }
        let now = clock::now();
        let (created_by, created_at) = match &there {
            Some(kept) => (kept.channel.created_by.clone(), kept.channel.created_at),
            None => (channel.created_by, now),
        };
        let version = version + 1;
        let channel = Channel { created_by, created_at, updated_at: now, version, ..channel };
        let record = DirectoryRecord::Channel {
            tenant: tenant.clone(),
            channel: channel.clone(),
            since: there.map(|kept| kept.since),
        };
        let group = Group::Channel(channel.id.clone());
        let members = self.read(self.shared.size(&tenant, &group))?;
        self.decided(record, (deciding, making)).await?;
        Ok(ChannelInfo { channel, members })
    }

    pub(super) async fn run_delete_channel(
        &self,
        tenant: TenantId,
        id: ChannelId,
    ) -> Result<bool, StoreError> {
        self.check_open()?;
        let deciding = self.locks.channel(&tenant, &id).await;
        if self.read(self.shared.channel(&tenant, &id))?.is_none() {
            return Ok(false);
        }
        self.decided(DirectoryRecord::ChannelGone { tenant, id }, deciding).await?;
        Ok(true)
    }
}
