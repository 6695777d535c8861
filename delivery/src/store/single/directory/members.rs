//! Who is in a channel or carries a role.

use std::{collections::BTreeSet, sync::Arc};

use protocol::{ChannelId, TenantId, Time, UserId};
use rusqlite::params;

use super::super::{
    SingleStore,
    membership::Memberships,
    record::DirectoryRecord,
    shared::{self, Shared, most},
};
use super::INLINE_MAX;
use crate::{
    InboxKey, StoreError, clock,
    store::{
        Group, Member, MembersChanged,
        limits::{CHANNEL_MEMBERS_MAX, MEMBERS_CHANGE_MAX, USER_GROUPS_MAX},
    },
};

impl SingleStore {
    pub(super) async fn run_change_members(
        &self,
        tenant: TenantId,
        id: ChannelId,
        join: Vec<UserId>,
        leave: Vec<UserId>,
    ) -> Result<MembersChanged, StoreError> {
        self.check_open()?;
        if join.len() + leave.len() > MEMBERS_CHANGE_MAX {
            return Err(StoreError::Limit("one change names at most 10,000 members"));
        }
        // Whoever is named in both ends up outside.
        let leave: BTreeSet<UserId> = leave.into_iter().collect();
        let join: BTreeSet<UserId> =
            join.into_iter().filter(|user| !leave.contains(user)).collect();
        let keys = |users: BTreeSet<UserId>| -> Vec<InboxKey> {
            users.into_iter().map(|user| InboxKey::new(tenant.clone(), user)).collect()
        };
        let (join, leave) = (keys(join), keys(leave));
        let deciding = self.locks.channel(&tenant, &id).await;
        // In how many groups they are must not change meanwhile.
        let joining = self.locks.users(&join).await;
        let Some(channel) = self.read(self.find_channel(&tenant, &id))? else {
            return Err(StoreError::NotFound);
        };
        let group = Group::Channel(id.clone());
        let decision = if join.len() + leave.len() <= INLINE_MAX {
            self.read(decide(&self.shared, &group, join, leave))?
        } else {
            let shared = Arc::clone(&self.shared);
            self.aside(move || decide(&shared, &group, join, leave)).await?
        };
        let Decision { join, leave, full } = decision;
        if full {
            return Err(StoreError::Limit("a user is in at most 1,000 channels and roles"));
        }
        let (joined, left) = (join.len() as u64, leave.len() as u64);
        let members = (channel.members + joined).saturating_sub(left);
        if joined > 0 && members > CHANNEL_MEMBERS_MAX {
            return Err(StoreError::Limit("a channel has at most 1,000,000 members"));
        }
        if joined + left > 0 {
            let at = clock::now();
            let record = DirectoryRecord::Members { tenant, id, join, leave, at };
            self.decided(record, (deciding, joining)).await?;
        }
        Ok(MembersChanged { joined, left, members })
    }

    pub(super) async fn list_members(
        &self,
        tenant: TenantId,
        group: Group,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        self.check_open()?;
        let shared = Arc::clone(&self.shared);
        self.aside(move || {
            shared.ask_settled(|db| {
                let mut select = db.prepare_cached(
                    "SELECT user, joined_at FROM members
                     WHERE tenant = ?1 AND grp = ?2 AND until_lsn IS NULL AND user > ?3
                     ORDER BY user LIMIT ?4",
                )?;
                let after = after.as_ref().map_or("", UserId::as_str);
                let values =
                    params![tenant.as_str(), shared::group_text(&group), after, most(limit)];
                let rows = select.query_map(values, |row| {
                    let joined_at = Time::from_millis(row.get(1)?);
                    Ok(Member { user_id: shared::id_of(row, 0)?, joined_at })
                })?;
                rows.collect()
            })
        })
        .await
    }

    /// Looks at the stays of a user; in memory where the inbox is loaded.
    pub(in super::super) fn with_memberships<T>(
        &self,
        key: &InboxKey,
        look: impl FnOnce(&Memberships) -> T,
    ) -> rusqlite::Result<T> {
        if let Some(inbox) = self.inboxes.find(key) {
            let state = inbox.state.lock();
            if state.loaded().is_some() {
                return Ok(look(&state.memberships));
            }
        }
        let found = self.shared.memberships(std::slice::from_ref(key))?;
        Ok(look(found.first().expect("an answer for each user")))
    }
}

/// Who comes and who goes of those that were named.
struct Decision {
    join: Vec<UserId>,
    leave: Vec<UserId>,
    /// Somebody who would come is in as many groups as one may be.
    full: bool,
}

fn decide(
    shared: &Shared,
    group: &Group,
    join: Vec<InboxKey>,
    leave: Vec<InboxKey>,
) -> rusqlite::Result<Decision> {
    let mut full = false;
    let stays = shared.memberships(&join)?;
    let mut joining = Vec::with_capacity(join.len());
    for (key, stays) in join.into_iter().zip(stays) {
        if !stays.has(group) {
            full |= stays.open().count() >= USER_GROUPS_MAX;
            joining.push(key.user);
        }
    }
    let stays = shared.memberships(&leave)?;
    let leaving = leave.into_iter().zip(stays).filter(|(_, stays)| stays.has(group));
    Ok(Decision { join: joining, leave: leaving.map(|(key, _)| key.user).collect(), full })
}
