//! The latest of what was sent to groups and to everyone, in memory.

use std::{collections::VecDeque, sync::Arc};

use protocol::TenantId;
use rustc_hash::FxHashSet;

use super::super::{
    inbox::{SharedEntry, What},
    record::Lsn,
};
use crate::store::{Audience, Group};

/// What was sent to groups and to everyone, as far as it is kept in memory: ten thousand inboxes
/// that take over the same hundred messages need not read and copy a million rows.
const RECENT_MAX: usize = super::super::files::CATCH_UP_MAX;

/// Memory of their bodies, at most, in bytes.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// The latest of them, in order.
pub(super) struct Recent {
    entries: VecDeque<(TenantId, Arc<SharedEntry>)>,
    bytes: usize,
    /// Every one from this record on is here.
    complete_from: Lsn,
}

impl Recent {
    pub(super) fn new(complete_from: Lsn) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, complete_from }
    }

    pub(super) fn push(&mut self, tenant: TenantId, entry: Arc<SharedEntry>) {
        self.bytes += weight(&entry);
        self.entries.push_back((tenant, entry));
        while self.entries.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, gone)) = self.entries.pop_front() else { break };
            self.bytes -= weight(&gone);
            self.complete_from = gone.lsn + 1;
        }
    }

    /// Those of a tenant after a record that may concern an inbox that is or was in these groups,
    /// if all of them are here.
    pub(super) fn after(
        &self,
        tenant: &TenantId,
        groups: &FxHashSet<&Group>,
        after: Lsn,
    ) -> Option<Vec<SharedEntry>> {
        if after + 1 < self.complete_from {
            return None;
        }
        let start = self.entries.partition_point(|(_, entry)| entry.lsn <= after);
        Some(
            self.entries
                .range(start..)
                .filter(|(of, entry)| of == tenant && concerns(entry, groups))
                .map(|(_, entry)| SharedEntry::clone(entry))
                .collect(),
        )
    }
}

/// What an entry holds in memory, in bytes.
pub(super) fn weight(entry: &SharedEntry) -> usize {
    match &entry.what {
        What::Message(body) => body.weight(),
        What::Rewrite(rewrite) => {
            let users = match &*rewrite.audience {
                Audience::Some { users, .. } => users.len() * 64,
                Audience::Everyone => 0,
            };
            rewrite.body.as_ref().map_or(0, |body| body.weight()) + users + 128
        }
        What::Mark(_) | What::Press(_) => 0,
    }
}

/// Whether it is for everyone, or for one of the groups that an inbox is or was in. When is not
/// looked at here, but where an inbox takes it over (`inbox::load::receives`).
pub(super) fn concerns(entry: &SharedEntry, groups: &FxHashSet<&Group>) -> bool {
    match &*entry.to {
        Audience::Everyone => true,
        Audience::Some { groups: to, .. } => to.iter().any(|group| groups.contains(group)),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Body, MessageId, Time};

    use super::*;

    fn entry(lsn: Lsn, to: Audience) -> Arc<SharedEntry> {
        let id = MessageId::new(format!("m{lsn}")).unwrap();
        let body = Arc::new(Body::from_stored(id, None, b"{}"));
        let what = What::Message(body);
        Arc::new(SharedEntry { lsn, at: Time::default(), to: Arc::new(to), what })
    }

    #[test]
    fn it_answers_only_where_it_has_everything() {
        let tenant = TenantId::default();
        let channel = Group::Channel("c".parse().unwrap());
        let mut recent = Recent::new(11);
        for lsn in 11..=20 {
            let to =
                if lsn % 2 == 0 { Audience::Everyone } else { Audience::group(channel.clone()) };
            recent.push(tenant.clone(), entry(lsn, to));
        }
        let lsns = |groups: &[&Group], after| {
            let groups = groups.iter().copied().collect();
            let found = recent.after(&tenant, &groups, after)?;
            Some(found.iter().map(|entry| entry.lsn).collect::<Vec<_>>())
        };
        assert_eq!(lsns(&[], 9), None);
        assert_eq!(lsns(&[], 10), Some(vec![12, 14, 16, 18, 20]));
        assert_eq!(lsns(&[&channel], 16), Some(vec![17, 18, 19, 20]));
        assert_eq!(lsns(&[&channel], 20), Some(vec![]));
    }

    #[test]
    fn the_oldest_make_room_and_it_knows() {
        let mut recent = Recent::new(1);
        for lsn in 1..=RECENT_MAX as u64 + 5 {
            recent.push(TenantId::default(), entry(lsn, Audience::Everyone));
        }
        let groups = FxHashSet::default();
        assert!(recent.after(&TenantId::default(), &groups, 4).is_none());
        let found = recent.after(&TenantId::default(), &groups, 5).unwrap();
        assert_eq!(found.len(), RECENT_MAX);
    }
}
