//! How an inbox ends: its user is forgotten.

use protocol::Time;

use super::{
    super::{
        membership::{Memberships, Turn},
        record::Lsn,
        shared::Shared,
    },
    Loaded, Phase, State, TailEntry,
};
use crate::InboxKey;

/// What an inbox had in memory when its user was forgotten.
pub(in super::super) struct Ended {
    pub(in super::super) tail: Vec<TailEntry>,
    pub(in super::super) memberships: Memberships,
    pub(in super::super) turns: Vec<Turn>,
}

impl State {
    /// The first record that nothing but the journal keeps for it.
    pub(in super::super) fn needed(&self) -> Option<Lsn> {
        let ending = (self.ending > 0).then_some(self.ending);
        ending.or_else(|| self.first_own())
    }

    /// Notes that the inbox exists since a record at the latest. Under its lock, so that nobody who was
    /// forgotten is noted after that.
    pub(in super::super) fn tell_known(
        &self,
        shared: &Shared,
        key: &InboxKey,
        since: Lsn,
        at: Time,
    ) {
        if self.ending == 0 {
            shared.add_known(key.clone(), since, at);
        }
    }

    /// Its user is forgotten by a record: what it has is void, and what comes from now on begins with
    /// seq 1. Its files go when its worker has got to it. Answers what was in the tail.
    pub(in super::super) fn end(&mut self, lsn: Lsn) -> Ended {
        self.ending = lsn;
        (self.lazy, self.rewrites) = (0, 0);
        (self.seen, self.damaged, self.cursors, self.notes) = (None, None, None, None);
        let turns = match &mut self.phase {
            Phase::Unloaded => Vec::new(),
            // Its worker finds that it has ended, and reads it once more.
            Phase::Loading(turns) => std::mem::take(turns),
            Phase::Loaded(loaded) => {
                *loaded = Loaded { since: Lsn::MAX, last_lsn: lsn, ..Loaded::default() };
                Vec::new()
            }
        };
        let memberships = std::mem::take(&mut self.memberships);
        Ended { tail: std::mem::take(&mut self.tail).into(), memberships, turns }
    }
}
