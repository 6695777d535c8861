//! Channels.

use protocol::{ChannelId, TenantId, Time};
use tokio_postgres::Row;

use super::{
    columns::{Columns as _, most},
    core::Core,
    deliver,
    errors::Failure,
    pool::{self, Ask, Transaction, execute, row, rows},
};
use crate::{
    StoreError,
    store::{Channel, ChannelInfo, MessagePage, limits::CHANNELS_MAX},
};

/// Messages that one page of a channel's log looks at, at most: in a channel in which nearly everything
/// was recalled or has expired, a page may be short, or empty, and not the last.
const LOOK_MAX: usize = 2_000;

const SELECT: &str = "SELECT c.channel, coalesce(g.members, 0), c.since_pos FROM channels c
    LEFT JOIN groups g ON g.tenant = c.tenant AND g.grp = 'c:' || c.id";

fn info_of(row: &Row) -> Result<ChannelInfo, Failure> {
    let channel = serde_json::from_str(row.column(0)?).map_err(Failure::unreadable)?;
    Ok(ChannelInfo { channel, members: row.count(1)? })
}

/// A channel, and the record that made it.
pub(super) async fn find(
    client: &impl Ask,
    tenant: &TenantId,
    id: &ChannelId,
) -> Result<Option<(ChannelInfo, i64)>, Failure> {
    let sql = format!("{SELECT} WHERE c.tenant = $1 AND c.id = $2");
    let found = row(client, &sql, &[&tenant.as_str(), &id.as_str()]).await?;
    found.map(|row| Ok((info_of(&row)?, row.column(2)?))).transpose()
}

/// The next place among a tenant's records. Holds its row from here on, so that nothing else is decided.
pub(super) async fn next_place(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
) -> Result<i64, Failure> {
    let places = deliver::places(transaction, std::iter::once(tenant)).await?;
    Ok(places.get(tenant).copied().unwrap_or_default())
}

impl Core {
    pub(super) async fn channels(
        &self,
        tenant: &TenantId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelInfo>, Failure> {
        let client = self.db.client().await?;
        let sql = format!("{SELECT} WHERE c.tenant = $1 AND c.id > $2 ORDER BY c.id LIMIT $3");
        let after = after.map_or("", ChannelId::as_str);
        rows(&client, &sql, &[&tenant.as_str(), &after, &most(limit)])
            .await?
            .iter()
            .map(info_of)
            .collect()
    }

    pub(super) async fn save_channel(
        &self,
        tenant: &TenantId,
        channel: &Channel,
        expected: Option<u64>,
    ) -> Result<ChannelInfo, Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let pos = next_place(&transaction, tenant).await?;
        let now = self.now(&transaction).await?;
        let there = find(&transaction, tenant, &channel.id).await?;
        let version = there.as_ref().map_or(0, |(info, _)| info.channel.version);
        match expected {
            Some(expected) if expected == version => {}
            None => {}
            Some(0) => return Err(StoreError::Conflict("there is a channel of this id").into()),
            Some(_) if version == 0 => {
                return Err(StoreError::Conflict("there is no channel of this id any more").into());
            }
            Some(_) => return Err(StoreError::Conflict("the channel has changed since").into()),
        }
        let now = Time::from_millis(now);
        let (created_by, created_at, members) = match &there {
            Some((info, _)) => {
                (info.channel.created_by.clone(), info.channel.created_at, info.members)
            }
            None => (channel.created_by.clone(), now, 0),
        };
        let version = version + 1;
        let channel =
            Channel { created_by, created_at, updated_at: now, version, ..channel.clone() };
        let json = serde_json::to_string(&channel).map_err(Failure::unreadable)?;
        let (tenant, id) = (tenant.as_str(), channel.id.as_str());
        if there.is_none() {
            let sql =
                "UPDATE tenants SET channels = channels + 1 WHERE tenant = $1 AND channels < $2";
            let most = i64::try_from(CHANNELS_MAX).unwrap_or(i64::MAX);
            if execute(&transaction, sql, &[&tenant, &most]).await? == 0 {
                return Err(StoreError::Limit("a tenant has at most 100,000 channels").into());
            }
        }
        let sql = "INSERT INTO channels (tenant, id, since_pos, channel) VALUES ($1, $2, $3, $4)
            ON CONFLICT (tenant, id) DO UPDATE SET channel = excluded.channel";
        execute(&transaction, sql, &[&tenant, &id, &pos, &json]).await?;
        self.commit(transaction).await?;
        Ok(ChannelInfo { channel, members })
    }

    pub(super) async fn delete_channel(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> Result<bool, Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let pos = next_place(&transaction, tenant).await?;
        let group = format!("c:{id}");
        let (tenant, id) = (tenant.as_str(), id.as_str());
        let sql = "DELETE FROM channels WHERE tenant = $1 AND id = $2";
        if execute(&transaction, sql, &[&tenant, &id]).await? == 0 {
            return Ok(false);
        }
        let sql = "UPDATE tenants SET channels = channels - 1 WHERE tenant = $1";
        execute(&transaction, sql, &[&tenant]).await?;
        let sql = "UPDATE members SET until_pos = $3
            WHERE tenant = $1 AND grp = $2 AND until_pos IS NULL";
        execute(&transaction, sql, &[&tenant, &group, &pos]).await?;
        let sql = "DELETE FROM groups WHERE tenant = $1 AND grp = $2";
        execute(&transaction, sql, &[&tenant, &group]).await?;
        self.commit(transaction).await?;
        Ok(true)
    }

    /// A page of what was sent to a channel since it was made, latest first.
    pub(super) async fn channel_log(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<MessagePage, Failure> {
        let client = self.db.client().await?;
        let Some((_, since)) = find(&client, tenant, id).await? else {
            return Ok(MessagePage::default());
        };
        let before = before.map_or(i64::MAX, |pos| i64::try_from(pos).unwrap_or(i64::MAX));
        // One that was edited stands there once, where it was sent; what it says is what it says now.
        let sql =
            "SELECT r.pos, b.state <> 3 AND (b.expire_at IS NULL OR b.expire_at > now_ms($6)),
                b.message_id, b.expire_at, b.body
            FROM broadcast_groups g JOIN broadcasts r ON r.tenant = g.tenant AND r.pos = g.pos
            JOIN bodies b ON b.id = r.body
            WHERE g.tenant = $1 AND g.grp = $2 AND g.pos > $3 AND g.pos < $4 AND r.target IS NULL
            ORDER BY g.pos DESC LIMIT $5";
        let group = format!("c:{id}");
        let mut page = MessagePage::default();
        let mut before = before;
        let mut looked = 0;
        loop {
            // One more than is shown tells whether there are more.
            let take = limit.saturating_sub(page.messages.len()).saturating_add(1).min(LOOK_MAX);
            let values: pool::Values<'_> =
                &[&tenant.as_str(), &group, &since, &before, &most(take), &self.shift()];
            let found = rows(&client, sql, values).await?;
            let full = found.len() >= take;
            for row in &found {
                if page.messages.len() >= limit || looked >= LOOK_MAX {
                    page.next = Some(before.cast_unsigned());
                    return Ok(page);
                }
                looked += 1;
                before = row.column(0)?;
                if row.column(1)? {
                    page.messages.push(row.body(2)?);
                }
            }
            if !full {
                return Ok(page);
            }
        }
    }
}
