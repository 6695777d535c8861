//! The inboxes that are in memory.

use std::{
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use protocol::TenantId;

use super::{group_index::GroupIndex, inbox::Inbox};
use crate::InboxKey;

/// How long an inbox that nobody watches stays in memory after it was last asked for.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(10);

/// Inboxes by key. Bounded by use: what is not watched, has nothing to write and was not asked for
/// in [`IDLE_MAX`] is forgotten by [`Inboxes::sweep`].
pub(super) struct Inboxes {
    map: DashMap<InboxKey, Arc<Inbox>>,
    /// Which of them are in a group.
    pub(super) groups: GroupIndex,
    hasher: std::hash::RandomState,
    workers: usize,
}

impl Inboxes {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            map: DashMap::new(),
            groups: GroupIndex::default(),
            hasher: std::hash::RandomState::new(),
            workers,
        }
    }

    /// The inbox, in memory from now on.
    pub(super) fn get(&self, key: InboxKey) -> Arc<Inbox> {
        if let Some(inbox) = self.map.get(&key) {
            return Arc::clone(&inbox);
        }
        let worker = usize::try_from(self.hasher.hash_one(&key) % self.workers as u64)
            .expect("a remainder of a small number");
        let fresh = Arc::new(Inbox::new(key.clone(), worker));
        Arc::clone(&self.map.entry(key).or_insert(fresh))
    }

    /// The inbox if it is in memory.
    pub(super) fn find(&self, key: &InboxKey) -> Option<Arc<Inbox>> {
        self.map.get(key).map(|inbox| Arc::clone(&inbox))
    }

    /// All inboxes of a tenant that are in memory.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> Vec<Arc<Inbox>> {
        self.map
            .iter()
            .filter(|inbox| inbox.key().tenant == *tenant)
            .map(|inbox| Arc::clone(&inbox))
            .collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Inbox>> {
        self.map.iter().map(|inbox| Arc::clone(&inbox)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the inbox is in memory and exists.
    pub(super) fn knows(&self, key: &InboxKey) -> bool {
        self.map.get(key).is_some_and(|inbox| {
            let state = inbox.state.lock();
            state.loaded().is_some_and(|loaded| loaded.known) || state.first_own().is_some()
        })
    }

    /// Forgets what is not needed in memory and was not asked for in so long. Answers the inboxes that
    /// must be written before they can be; their `queued` is set.
    pub(super) fn sweep(&self, idle_max: Duration) -> Vec<Arc<Inbox>> {
        let now = Instant::now();
        let mut first_written = Vec::new();
        // Whoever else holds the inbox got it under the lock that `retain` holds now, or from the
        // index of groups, and finds it unloaded.
        self.map.retain(|_, inbox| {
            let mut state = inbox.state.lock();
            let idle = state.used.is_none_or(|used| now.duration_since(used) > idle_max);
            if idle && state.watchers == 0 && state.write_notes() {
                first_written.push(Arc::clone(inbox));
            }
            let forget = idle && state.forgettable() && Arc::strong_count(inbox) == 1;
            if forget {
                self.groups.remove(inbox, state.memberships.iter().map(|stay| &stay.group));
                state.unload();
            }
            !forget
        });
        first_written
    }
}
