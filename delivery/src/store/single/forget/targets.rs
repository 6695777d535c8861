//! Users who are forgotten, as it is looked for them in what was sent.

use std::{collections::HashMap, sync::Arc};

use protocol::{TenantId, UserId};

use super::Forgotten;
use crate::store::{Audience, SenderKey, single::record::Lsn};

/// Users by tenant, with the records by which they are forgotten; or all of a tenant.
pub(in super::super) struct Targets {
    users: HashMap<TenantId, HashMap<UserId, Lsn>>,
    whole: Option<TenantId>,
}

/// What is left of a message.
pub(in super::super) enum Left {
    /// All of it: it has nothing to do with them.
    All,
    /// It is for these, as it was before.
    Some(Audience),
    /// It was theirs, or to nobody else.
    Nothing,
}

impl Targets {
    pub(in super::super) fn new(users: Vec<Forgotten>) -> Self {
        let mut by_tenant: HashMap<TenantId, HashMap<UserId, Lsn>> = HashMap::new();
        for Forgotten { key, lsn } in users {
            by_tenant.entry(key.tenant).or_default().insert(key.user, lsn);
        }
        Self { users: by_tenant, whole: None }
    }

    /// Everything of a tenant, whoever sent it to whom.
    pub(in super::super) fn of_tenant(tenant: TenantId) -> Self {
        Self { users: HashMap::new(), whole: Some(tenant) }
    }

    fn is_whole(&self, tenant: &TenantId) -> bool {
        self.whole.as_ref() == Some(tenant)
    }

    /// Whether there is one of a tenant.
    pub(in super::super) fn any_of(&self, tenant: &TenantId) -> bool {
        self.is_whole(tenant) || self.users.contains_key(tenant)
    }

    /// Whether a sender is one of them, as of a record.
    pub(in super::super) fn has_sent(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        lsn: Lsn,
    ) -> bool {
        if self.is_whole(tenant) {
            return true;
        }
        match (self.users.get(tenant), sender) {
            (Some(users), SenderKey::User(user)) => has(users, user, lsn),
            _ => false,
        }
    }

    /// What is left of a message by a record.
    pub(in super::super) fn left(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        audience: &Audience,
        lsn: Lsn,
    ) -> Left {
        if self.is_whole(tenant) {
            return Left::Nothing;
        }
        let Some(gone) = self.users.get(tenant) else { return Left::All };
        if self.has_sent(tenant, sender, lsn) {
            return Left::Nothing;
        }
        let Audience::Some { users, groups } = audience else { return Left::All };
        let stay: Vec<UserId> =
            users.iter().filter(|user| !has(gone, user, lsn)).cloned().collect();
        if stay.len() == users.len() {
            Left::All
        } else if stay.is_empty() && groups.is_empty() {
            Left::Nothing
        } else {
            Left::Some(Audience::Some { users: stay.into(), groups: Arc::clone(groups) })
        }
    }
}

fn has(users: &HashMap<UserId, Lsn>, user: &UserId, lsn: Lsn) -> bool {
    users.get(user).is_some_and(|forgotten| lsn < *forgotten)
}
