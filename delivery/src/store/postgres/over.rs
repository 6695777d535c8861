//! Inboxes that have more than they keep: pruned soon, not when all are gone over.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::{slot::Slot, work::Work};
use crate::store::Retention;

/// Most inboxes that are remembered. What is beyond is pruned when all inboxes are gone over.
const OVER_MAX: usize = 10_000;

/// An inbox is let grow by this part of what it keeps: else one that is at its limit would be pruned for
/// each message.
const SLACK: u64 = 8;

/// The inboxes.
#[derive(Default)]
pub(super) struct Over(Mutex<BTreeSet<i64>>);

impl Over {
    /// Remembers those of a transaction, which is committed.
    pub(super) fn note(&self, work: &Work, retention: Retention) {
        let Some(most) = retention.max_messages else { return };
        let most = i64::try_from(most.saturating_add(most / SLACK)).unwrap_or(i64::MAX);
        let over = |slot: &&Slot| slot.touched && slot.inbox.kept > most;
        if work.slots.iter().any(|slot| over(&slot)) {
            let mut all = self.0.lock();
            let room = OVER_MAX.saturating_sub(all.len());
            all.extend(work.slots.iter().filter(over).map(|slot| slot.inbox.id).take(room));
        }
    }

    /// All of them, forgotten.
    pub(super) fn take(&self) -> Vec<i64> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }
}
