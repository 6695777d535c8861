//! Inboxes that have more than they keep: pruned soon, not when all are gone over.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::{slot::Slot, work::Work};
use crate::store::Keeping;

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
    pub(super) fn note(&self, work: &Work, keeping: &Keeping) {
        if keeping.is_everything() {
            return;
        }
        let over = |slot: &&Slot| {
            let most = || keeping.of(&slot.inbox.key.tenant).max_messages;
            slot.touched
                && most().is_some_and(|most| {
                    let most = most.saturating_add(most / SLACK);
                    slot.inbox.kept > i64::try_from(most).unwrap_or(i64::MAX)
                })
        };
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
