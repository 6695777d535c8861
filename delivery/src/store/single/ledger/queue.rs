//! What the sequencer has handed over and `ledger.db` does not have yet.

use std::{collections::HashMap, sync::Arc, time::Instant};

use metrics::Counter;
use protocol::{MessageId, TenantId};

use super::{
    super::record::{Lsn, MessageRecord, RewriteRecord},
    desk::Jobs,
    file::LedgerFile,
};
use crate::store::{Audience, SenderKey, StoredAnswer};

/// What an item costs besides body, audience or answer, in bytes.
const ITEM_WEIGHT: usize = 128;

/// What a user or group in an audience costs, in bytes: the text, its counts, the pointer.
const RECIPIENT_WEIGHT: usize = 48;

/// One thing for the ledger.
pub(super) enum Item {
    Sent(Arc<MessageRecord>),
    Rewritten(Arc<RewriteRecord>),
    Scheduled(Arc<MessageRecord>),
    Cancelled { tenant: TenantId, id: MessageId },
    Answered(Arc<StoredAnswer>),
}

impl Item {
    /// Memory it holds, in bytes; its share of what inboxes hold too is not told apart.
    fn weight(&self) -> usize {
        let own = match self {
            Self::Sent(record) | Self::Scheduled(record) => {
                record.body.weight() + audience_weight(&record.audience)
            }
            Self::Rewritten(record) => {
                record.body.as_ref().map_or(0, |body| body.weight())
                    + audience_weight(&record.audience)
            }
            Self::Cancelled { .. } => 0,
            // Twice: it stands in the index as well.
            Self::Answered(answer) => answer.data.len() + 2 * answer.key.len() + ITEM_WEIGHT,
        };
        own + ITEM_WEIGHT
    }
}

fn audience_weight(audience: &Audience) -> usize {
    match audience {
        Audience::Some { users, groups } => (users.len() + groups.len()) * RECIPIENT_WEIGHT,
        Audience::Everyone => 0,
    }
}

/// An item at its place in the journal.
pub(super) struct Queued {
    pub(super) lsn: Lsn,
    pub(super) item: Item,
    weight: usize,
}

/// Whose answer to what: the key of the index.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    pub(super) tenant: TenantId,
    pub(super) sender: SenderKey,
    pub(super) key: String,
}

impl AnswerKey {
    fn of(answer: &StoredAnswer) -> Self {
        let StoredAnswer { tenant, sender, key, .. } = answer;
        Self { tenant: tenant.clone(), sender: sender.clone(), key: key.clone() }
    }
}

/// The ledger thread's queue.
pub(super) struct Queue {
    items: Vec<Queued>,
    /// The first item that the thread has taken and not written yet.
    taken: Option<Lsn>,
    /// Memory of all that is not written, in bytes.
    bytes: usize,
    count: usize,
    /// Since when something waits to be written.
    since: Option<Instant>,
    /// Answers that are not written yet.
    answers: HashMap<AnswerKey, (Lsn, Arc<StoredAnswer>)>,
    pub(super) jobs: Jobs<LedgerFile>,
}

impl Queue {
    pub(super) fn new(busy: Counter) -> Self {
        Self {
            items: Vec::new(),
            taken: None,
            bytes: 0,
            count: 0,
            since: None,
            answers: HashMap::new(),
            jobs: Jobs::new(busy),
        }
    }

    pub(super) fn push(&mut self, lsn: Lsn, item: Item) {
        if let Item::Answered(answer) = &item {
            self.answers.insert(AnswerKey::of(answer), (lsn, Arc::clone(answer)));
        }
        let weight = item.weight();
        self.bytes += weight;
        self.count += 1;
        self.items.push(Queued { lsn, item, weight });
    }

    /// Something waits from now on, if nothing did. Whether that is so.
    pub(super) fn begin(&mut self) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        first
    }

    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How many items the thread has not taken yet.
    pub(super) fn untaken(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn answer(&self, key: &AnswerKey) -> Option<Arc<StoredAnswer>> {
        self.answers.get(key).map(|(_, answer)| Arc::clone(answer))
    }

    /// The first record that `ledger.db` does not have yet.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.taken.or_else(|| self.items.first().map(|queued| queued.lsn))
    }

    /// Hands everything to the thread.
    pub(super) fn take(&mut self, into: &mut std::collections::VecDeque<Queued>) {
        into.extend(self.items.drain(..));
        // A burst must not leave its capacity behind.
        self.items.shrink_to(1024);
        self.taken = into.front().map(|queued| queued.lsn);
        self.since = None;
    }

    /// These are in `ledger.db`; the thread goes on with `next`.
    pub(super) fn written<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Queued>,
        next: Option<Lsn>,
    ) {
        for queued in items {
            self.bytes -= queued.weight;
            self.count -= 1;
            if let Item::Answered(answer) = &queued.item {
                let key = AnswerKey::of(answer);
                // A later one with the same key may wait.
                if self.answers.get(&key).is_some_and(|(lsn, _)| *lsn == queued.lsn) {
                    self.answers.remove(&key);
                }
            }
        }
        self.taken = next;
        if self.answers.is_empty() {
            self.answers.shrink_to(1024);
        }
    }
}
