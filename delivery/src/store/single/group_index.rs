//! Which inboxes in memory are in which group.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Weak},
};

use dashmap::DashMap;
use protocol::TenantId;
use rustc_hash::FxHashSet;

use super::{inbox::Inbox, record::Lsn};
use crate::store::Group;

/// An inbox by its address, which stays its own as long as this is held.
struct ByAddress(Weak<Inbox>);

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

/// The inboxes of one group: 9 bytes each, as a hash set is filled 10 to 20.
struct Online {
    inboxes: FxHashSet<ByAddress>,
    /// The latest record that was sent to the group, as far as is known: every one after
    /// `known_from` is.
    latest: Lsn,
    known_from: Lsn,
}

/// Which inboxes in memory are, or were, in a group.
///
/// Weak, for the map of inboxes alone decides what stays in memory. An inbox is here for each group
/// among its memberships and, while it is being loaded, among its turns: from before what was sent
/// to the group is read until it is forgotten.
#[derive(Default)]
pub(super) struct GroupIndex {
    groups: DashMap<(TenantId, Arc<Group>), Online>,
}

impl GroupIndex {
    /// From now on the inbox is asked about what is sent to the group, after `known_from` for sure.
    /// Answers the group as all its members in memory share it.
    pub(super) fn add(
        &self,
        group: &Arc<Group>,
        inbox: &Arc<Inbox>,
        known_from: Lsn,
    ) -> Arc<Group> {
        let key = (inbox.key.tenant.clone(), Arc::clone(group));
        let mut online = self.groups.entry(key).or_insert_with(|| Online {
            inboxes: FxHashSet::default(),
            latest: 0,
            known_from,
        });
        online.inboxes.insert(ByAddress(Arc::downgrade(inbox)));
        Arc::clone(&online.key().1)
    }

    /// The inbox is not asked any more.
    pub(super) fn remove<'a>(
        &self,
        inbox: &Arc<Inbox>,
        groups: impl IntoIterator<Item = &'a Arc<Group>>,
    ) {
        let address = ByAddress(Arc::downgrade(inbox));
        for group in groups {
            let key = (inbox.key.tenant.clone(), Arc::clone(group));
            self.groups.remove_if_mut(&key, |_, online| {
                online.inboxes.remove(&address);
                online.inboxes.is_empty()
            });
        }
    }

    /// Whether certainly nothing was sent to a group after a record.
    pub(super) fn quiet_since(&self, tenant: &TenantId, group: &Arc<Group>, since: Lsn) -> bool {
        let key = (tenant.clone(), Arc::clone(group));
        self.groups
            .get(&key)
            .is_some_and(|online| online.known_from <= since && online.latest <= since)
    }

    /// Something is sent to groups by a record: their inboxes, each once.
    pub(super) fn send(&self, tenant: &TenantId, groups: &[Group], lsn: Lsn) -> Vec<Arc<Inbox>> {
        let mut found = Vec::new();
        for group in groups {
            let key = (tenant.clone(), Arc::new(group.clone()));
            if let Some(mut online) = self.groups.get_mut(&key) {
                online.latest = online.latest.max(lsn);
                found.reserve(online.inboxes.len());
                found.extend(online.inboxes.iter().filter_map(|inbox| inbox.0.upgrade()));
            }
        }
        if groups.len() > 1 {
            found.sort_unstable_by_key(Arc::as_ptr);
            found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        }
        found
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InboxKey;

    fn inbox(user: &str) -> Arc<Inbox> {
        Arc::new(Inbox::new(InboxKey::new(TenantId::default(), user.parse().unwrap()), 0))
    }

    fn group(name: &str) -> Arc<Group> {
        Arc::new(Group::Channel(name.parse().unwrap()))
    }

    #[test]
    fn an_inbox_of_several_groups_is_found_once_and_leaves_nothing_behind() {
        let index = GroupIndex::default();
        let (ann, bob) = (inbox("ann"), inbox("bob"));
        let (one, two) = (group("one"), group("two"));
        let shared = index.add(&one, &ann, 0);
        assert!(Arc::ptr_eq(&shared, &index.add(&group("one"), &bob, 0)), "one for all");
        index.add(&two, &ann, 0);
        let tenant = TenantId::default();
        let both = [(*one).clone(), (*two).clone()];
        assert_eq!(index.send(&tenant, &both, 1).len(), 2);
        assert_eq!(index.send(&"t2".parse().unwrap(), &both, 1).len(), 0);
        index.remove(&ann, [&one, &two]);
        assert_eq!(index.send(&tenant, &both, 1).len(), 1);
        index.remove(&bob, [&one]);
        assert_eq!(index.len(), 0);
        assert_eq!((Arc::weak_count(&ann), Arc::weak_count(&bob)), (0, 0));
    }

    #[test]
    fn quiet_is_said_only_where_it_is_known() {
        let index = GroupIndex::default();
        let (ann, tenant, one) = (inbox("ann"), TenantId::default(), group("one"));
        assert!(!index.quiet_since(&tenant, &one, 5), "nobody is looking");
        index.add(&one, &ann, 5);
        assert!(!index.quiet_since(&tenant, &one, 4), "nobody was looking then");
        assert!(index.quiet_since(&tenant, &one, 5));
        index.send(&tenant, &[(*one).clone()], 7);
        assert!(!index.quiet_since(&tenant, &one, 6));
        assert!(index.quiet_since(&tenant, &one, 7));
    }
}
