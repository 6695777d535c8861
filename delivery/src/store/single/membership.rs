//! The groups that inboxes are in: of one inbox, and which inboxes in memory are in a group.

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use protocol::TenantId;
use rustc_hash::FxHashMap;

use super::{inbox::Inbox, record::Lsn};
use crate::store::Group;

/// A stay in a group. Ended ones are kept: edits and recalls of what was received then still come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: Arc<Group>,
    /// The record by which it began.
    pub(super) since: Lsn,
    /// The record by which it ended.
    pub(super) until: Option<Lsn>,
}

impl Membership {
    fn holds_at(&self, lsn: Lsn) -> bool {
        self.since < lsn && self.until.is_none_or(|until| lsn < until)
    }
}

/// All stays of an inbox; nothing at all for the many that are in no group.
#[derive(Debug, Default)]
pub(super) struct Memberships(Option<Box<Vec<Membership>>>);

impl From<Vec<Membership>> for Memberships {
    fn from(list: Vec<Membership>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl Memberships {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Membership> {
        self.0.iter().flat_map(|list| list.iter())
    }

    /// Whether it is in one of these groups at a record.
    pub(super) fn any_at(&self, groups: &[Group], lsn: Lsn) -> bool {
        self.iter().any(|stay| stay.holds_at(lsn) && groups.contains(&stay.group))
    }

    /// Whether it is in a group now.
    pub(super) fn has(&self, group: &Group) -> bool {
        self.iter().any(|stay| stay.until.is_none() && *stay.group == *group)
    }

    /// A stay begins; one that has begun goes on.
    pub(super) fn join(&mut self, group: &Arc<Group>, lsn: Lsn) {
        if !self.has(group) {
            let stay = Membership { group: Arc::clone(group), since: lsn, until: None };
            self.0.get_or_insert_default().push(stay);
        }
    }

    /// A stay ends. One that is not known here yet ends as well, see [`Memberships::merge`].
    pub(super) fn leave(&mut self, group: &Arc<Group>, lsn: Lsn) {
        let list = self.0.get_or_insert_default();
        let open = list.iter_mut().find(|stay| stay.until.is_none() && stay.group == *group);
        match open {
            Some(stay) => stay.until = Some(lsn),
            None => {
                list.push(Membership { group: Arc::clone(group), since: lsn, until: Some(lsn) })
            }
        }
    }

    /// Takes over what came while the rest was being read; some of it may have been read too.
    pub(super) fn merge(&mut self, later: Self) {
        for stay in later.0.map(|list| *list).unwrap_or_default() {
            let known = self.iter().any(|own| own.group == stay.group && own.since == stay.since);
            match stay.until {
                Some(until)
                    if !self
                        .iter()
                        .any(|own| own.until == Some(until) && own.group == stay.group) =>
                {
                    if stay.since < until {
                        self.join(&stay.group, stay.since);
                    }
                    self.leave(&stay.group, until);
                }
                None if !known => self.join(&stay.group, stay.since),
                Some(_) | None => {}
            }
        }
    }
}

/// Which inboxes in memory are, or were, in a group.
#[derive(Default)]
pub(super) struct GroupIndex {
    groups: DashMap<(TenantId, Arc<Group>), FxHashMap<usize, Weak<Inbox>>>,
}

impl GroupIndex {
    /// From now on the inbox is asked about what is sent to the group.
    pub(super) fn add(&self, group: &Arc<Group>, inbox: &Arc<Inbox>) {
        let key = (inbox.key.tenant.clone(), Arc::clone(group));
        let address = Arc::as_ptr(inbox) as usize;
        self.groups.entry(key).or_default().insert(address, Arc::downgrade(inbox));
    }

    /// The inbox is being forgotten.
    pub(super) fn remove(&self, inbox: &Arc<Inbox>, memberships: &Memberships) {
        let address = Arc::as_ptr(inbox) as usize;
        for stay in memberships.iter() {
            let key = (inbox.key.tenant.clone(), Arc::clone(&stay.group));
            self.groups.remove_if_mut(&key, |_, inboxes| {
                inboxes.remove(&address);
                inboxes.is_empty()
            });
        }
    }

    /// The inboxes of some groups, each once.
    pub(super) fn of(&self, tenant: &TenantId, groups: &[Group]) -> Vec<Arc<Inbox>> {
        let mut found: FxHashMap<usize, Arc<Inbox>> = FxHashMap::default();
        for group in groups {
            let key = (tenant.clone(), Arc::new(group.clone()));
            if let Some(inboxes) = self.groups.get(&key) {
                found
                    .extend(inboxes.iter().filter_map(|(at, inbox)| Some((*at, inbox.upgrade()?))));
            }
        }
        found.into_values().collect()
    }
}
