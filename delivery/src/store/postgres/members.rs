//! Who is in a channel or carries a role.

use std::collections::BTreeSet;

use protocol::{ChannelId, TenantId, UserId};
use rustc_hash::FxHashMap;

use super::{
    channels::{self, next_place},
    columns::{Columns as _, group_from, group_text, most},
    core::Core,
    errors::Failure,
    names,
    pool::{self, Transaction, execute, row, rows},
};
use crate::{
    InboxKey, StoreError,
    store::{
        Group, Member, MembersChanged,
        limits::{CHANNEL_MEMBERS_MAX, MEMBERS_CHANGE_MAX, USER_GROUPS_MAX},
    },
};

/// What a user is told who would be in too many groups.
pub(super) const FULL: StoreError =
    StoreError::Limit("a user is in at most 1,000 channels and roles");

/// Begins and ends stays in one group at a record. Answers how many are in it then.
async fn turn(
    transaction: &Transaction<'_>,
    (tenant, group, pos): (&TenantId, &str, i64),
    join: &[(i64, &UserId)],
    leave: &[i64],
    now: i64,
) -> Result<u64, Failure> {
    let tenant = tenant.as_str();
    let inboxes: Vec<i64> = join.iter().map(|(inbox, _)| *inbox).collect();
    let users: Vec<&str> = join.iter().map(|(_, user)| user.as_str()).collect();
    let sql = "INSERT INTO members (inbox, grp, since_pos, joined_at, tenant, usr)
        SELECT k.inbox, $3, $4, $5, $6, k.usr FROM unnest($1::bigint[], $2::text[]) AS k (inbox, usr)";
    execute(transaction, sql, &[&inboxes, &users, &group, &pos, &now, &tenant]).await?;
    let sql = "UPDATE members SET until_pos = $3
        WHERE inbox = ANY($1) AND grp = $2 AND until_pos IS NULL";
    execute(transaction, sql, &[&leave, &group, &pos]).await?;
    let by = join.len() as i64 - leave.len() as i64;
    let sql = "INSERT INTO groups AS g (tenant, grp, members) VALUES ($1, $2, $3)
        ON CONFLICT (tenant, grp) DO UPDATE SET members = g.members + excluded.members
        RETURNING members";
    let row = row(transaction, sql, &[&tenant, &group, &by]).await?;
    row.map_or(Ok(0), |row| row.count(0))
}

/// Turns of one user: the groups they come to and those they leave.
pub(super) async fn turns_of(
    transaction: &Transaction<'_>,
    key: &InboxKey,
    inbox: i64,
    (join, leave): (&BTreeSet<Group>, &BTreeSet<Group>),
    now: i64,
) -> Result<(), Failure> {
    let pos = next_place(transaction, &key.tenant).await?;
    for group in join.difference(leave) {
        let join = [(inbox, &key.user)];
        turn(transaction, (&key.tenant, &group_text(group), pos), &join, &[], now).await?;
    }
    for group in leave.difference(join) {
        turn(transaction, (&key.tenant, &group_text(group), pos), &[], &[inbox], now).await?;
    }
    Ok(())
}

/// The groups of an inbox's owner.
pub(super) async fn groups_of(
    client: &impl pool::Ask,
    key: &InboxKey,
) -> Result<BTreeSet<Group>, Failure> {
    let sql = "SELECT m.grp FROM inboxes i JOIN members m ON m.inbox = i.id AND m.until_pos IS NULL
        WHERE i.tenant = $1 AND i.usr = $2";
    let found = rows(client, sql, &[&key.tenant.as_str(), &key.user.as_str()]).await?;
    found.iter().map(|row| group_from(row.column(0)?)).collect()
}

impl Core {
    pub(super) async fn change_members(
        &self,
        tenant: &TenantId,
        id: &ChannelId,
        join: &[UserId],
        leave: &[UserId],
    ) -> Result<MembersChanged, Failure> {
        if join.len() + leave.len() > MEMBERS_CHANGE_MAX {
            return Err(StoreError::Limit("one change names at most 10,000 members").into());
        }
        // Whoever is named in both ends up outside.
        let leave: BTreeSet<&UserId> = leave.iter().collect();
        let join: BTreeSet<&UserId> = join.iter().filter(|user| !leave.contains(user)).collect();
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let pos = next_place(&transaction, tenant).await?;
        let now = self.now(&transaction).await?;
        let Some((channel, _)) = channels::find(&transaction, tenant, id).await? else {
            return Err(StoreError::NotFound.into());
        };
        let group = format!("c:{id}");
        let key = |user: &UserId| InboxKey::new(tenant.clone(), user.clone());
        let keys: Vec<InboxKey> = join.iter().chain(&leave).map(|user| key(user)).collect();
        let mut ids: FxHashMap<InboxKey, i64> =
            names::find(&transaction, &keys.iter().collect::<Vec<_>>())
                .await?
                .into_iter()
                .collect();
        let stays = stays(&transaction, ids.values().copied().collect(), &group).await?;
        let of = |id: &i64| stays.get(id).copied().unwrap_or_default();
        let joining: Vec<&InboxKey> = keys[..join.len()]
            .iter()
            .filter(|key| ids.get(key).is_none_or(|id| !of(id).inside))
            .collect();
        let leaving: Vec<i64> = keys[join.len()..]
            .iter()
            .filter_map(|key| ids.get(key).copied())
            .filter(|id| of(id).inside)
            .collect();
        let most = USER_GROUPS_MAX as i64;
        if joining.iter().filter_map(|key| ids.get(key)).any(|id| of(id).groups >= most) {
            return Err(FULL.into());
        }
        let (joined, left) = (joining.len() as u64, leaving.len() as u64);
        let members = (channel.members + joined).saturating_sub(left);
        if joined > 0 && members > CHANNEL_MEMBERS_MAX {
            return Err(StoreError::Limit("a channel has at most 1,000,000 members").into());
        }
        if joined + left == 0 {
            return Ok(MembersChanged { joined, left, members });
        }
        let new: Vec<_> = joining
            .iter()
            .filter(|key| !ids.contains_key(**key))
            .map(|key| (*key, Some(pos)))
            .collect();
        if !new.is_empty() {
            ids.extend(names::make(&transaction, &new, now).await?);
            let missing: Vec<&InboxKey> =
                joining.iter().filter(|key| !ids.contains_key(**key)).copied().collect();
            if !missing.is_empty() {
                ids.extend(names::find(&transaction, &missing).await?);
            }
        }
        let join: Vec<(i64, &UserId)> =
            joining.iter().filter_map(|key| Some((*ids.get(*key)?, &key.user))).collect();
        let members = turn(&transaction, (tenant, &group, pos), &join, &leaving, now).await?;
        self.commit(transaction).await?;
        Ok(MembersChanged { joined, left, members })
    }

    pub(super) async fn members(
        &self,
        tenant: &TenantId,
        group: &Group,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, Failure> {
        let client = self.db.client().await?;
        let sql = "SELECT usr, joined_at FROM members
            WHERE tenant = $1 AND grp = $2 AND until_pos IS NULL AND usr > $3 ORDER BY usr LIMIT $4";
        let after = after.map_or("", UserId::as_str);
        let values: pool::Values<'_> =
            &[&tenant.as_str(), &group_text(group), &after, &most(limit)];
        let found = rows(&client, sql, values).await?;
        found
            .iter()
            .map(|row| Ok(Member { user_id: row.id(0)?, joined_at: row.time(1)? }))
            .collect()
    }

    pub(super) async fn is_member(&self, key: &InboxKey, group: &Group) -> Result<bool, Failure> {
        let client = self.db.client().await?;
        let sql = "SELECT 1 FROM inboxes i JOIN members m ON m.inbox = i.id AND m.until_pos IS NULL
            WHERE i.tenant = $1 AND i.usr = $2 AND m.grp = $3";
        let values: pool::Values<'_> =
            &[&key.tenant.as_str(), &key.user.as_str(), &group_text(group)];
        Ok(row(&client, sql, values).await?.is_some())
    }
}

/// What one inbox has to do with groups.
#[derive(Clone, Copy, Default)]
struct Stay {
    /// Its owner is in the group that was asked for.
    inside: bool,
    /// Groups they are in.
    groups: i64,
}

async fn stays(
    transaction: &Transaction<'_>,
    inboxes: Vec<i64>,
    group: &str,
) -> Result<FxHashMap<i64, Stay>, Failure> {
    let sql = "SELECT inbox, bool_or(grp = $2), count(*) FROM members
        WHERE inbox = ANY($1) AND until_pos IS NULL GROUP BY inbox";
    let found = rows(transaction, sql, &[&inboxes, &group]).await?;
    let stay = |row: &tokio_postgres::Row| {
        Ok((row.column(0)?, Stay { inside: row.column(1)?, groups: row.column(2)? }))
    };
    found.iter().map(stay).collect()
}
