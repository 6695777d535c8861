//! Hands durable records to the inboxes in memory, in journal order: this is where a change gets
//! its seq if its inbox is loaded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use protocol::{TenantId, UserId};

use super::{
    inbox::{Inbox, LAZY_WEIGHT, Phase, Push, State, TailEntry, What},
    inboxes::Inboxes,
    lag::Lag,
    metrics::StoreMetrics,
    publisher::Publisher,
    record::{Lsn, Record},
    shared::Shared,
    worker::Worker,
};
use crate::{Fanout, InboxKey, clock, store::Stored};

/// What a tail entry costs besides its share of the body, in bytes.
const ENTRY_WEIGHT: usize = 96;

pub(super) struct Sequencer {
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) shared: Arc<Shared>,
    pub(super) lag: Arc<Lag>,
    pub(super) sequenced: Arc<AtomicU64>,
    pub(super) workers: Arc<[Worker]>,
    pub(super) publishers: Arc<[Publisher]>,
    pub(super) fanout: Arc<dyn Fanout>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) dirty: Vec<Vec<Arc<Inbox>>>,
    pub(super) changes: Vec<Vec<Stored>>,
}

impl Sequencer {
    /// Hands one record over; see [`Sequencer::finish_batch`].
    pub(super) fn apply(&mut self, lsn: Lsn, record: Record, accepted: Option<Instant>) {
        match record {
            Record::Message { tenant, users, body } => {
                let weight = body.weight() / users.len().max(1) + ENTRY_WEIGHT;
                let entry = TailEntry {
                    lsn,
                    seq: protocol::Seq::ZERO,
                    accepted,
                    what: What::Message(body),
                    lazy: false,
                    weight: u32::try_from(weight).unwrap_or(u32::MAX),
                };
                for user in users {
                    self.push(&tenant, user, entry.clone());
                }
            }
            Record::Everyone { tenant, body } => {
                // First there for whoever loads an inbox from now on, then in those that are loaded.
                self.shared.add_broadcast(lsn, tenant.clone(), Arc::clone(&body));
                let entry = TailEntry {
                    lsn,
                    seq: protocol::Seq::ZERO,
                    accepted,
                    what: What::Message(body),
                    lazy: true,
                    weight: LAZY_WEIGHT,
                };
                for inbox in self.inboxes.of_tenant(&tenant) {
                    self.push_for_everyone(&inbox, entry.clone());
                }
            }
            Record::Mark(mark) => {
                let entry = TailEntry {
                    lsn,
                    seq: protocol::Seq::ZERO,
                    accepted,
                    weight: u32::try_from(mark.targets.len() * 64 + ENTRY_WEIGHT)
                        .unwrap_or(u32::MAX),
                    what: What::Mark(Arc::clone(&mark)),
                    lazy: false,
                };
                self.push(&mark.tenant, mark.user.clone(), entry);
            }
            Record::Seen { tenant, user } => {
                let key = InboxKey::new(tenant, user);
                self.shared.add_user(lsn, key.clone());
                if let Some(inbox) = self.inboxes.find(&key) {
                    let mut state = inbox.state.lock();
                    state.seen = Some(lsn);
                    if let Phase::Loaded(loaded) = &mut state.phase {
                        loaded.known = true;
                        loaded.last_lsn = loaded.last_lsn.max(lsn);
                    }
                }
            }
            Record::Probe => {}
        }
        self.sequenced.store(lsn, Ordering::Release);
    }

    /// Makes the batch visible to whoever asks next: what is for all inboxes is on its way to
    /// `shared.db`, and the workers know what to write.
    pub(super) fn finish_batch(&mut self) {
        if let Err(error) = self.shared.flush() {
            self.metrics.shared_errors.increment(1);
            tracing::warn!(%error, "shared.db cannot be written now; the journal keeps what belongs there");
        }
        self.lag.show();
        let now = Instant::now();
        for (worker, dirty) in self.workers.iter().zip(&mut self.dirty) {
            worker.mark_dirty(now, dirty);
        }
    }

    /// Offers the batch to whoever is connected; `at_leisure` when no commit waits for it.
    pub(super) fn publish(&mut self, at_leisure: bool) {
        for (publisher, changes) in self.publishers.iter().zip(&mut self.changes) {
            publisher.offer(changes, at_leisure, &*self.fanout);
        }
    }

    fn push(&mut self, tenant: &TenantId, user: UserId, entry: TailEntry) {
        let inbox = self.inboxes.get(InboxKey::new(tenant.clone(), user));
        let mut state = inbox.state.lock();
        self.lag.add(&entry);
        let push = state.push(entry.clone());
        self.pushed(&inbox, state, push, entry);
    }

    fn push_for_everyone(&mut self, inbox: &Arc<Inbox>, entry: TailEntry) {
        let mut state = inbox.state.lock();
        // An inbox that is not loaded finds it in `shared.db`; one that is being loaded may have
        // looked there already.
        let wanted = match &state.phase {
            Phase::Loaded(loaded) => loaded.known,
            Phase::Loading => true,
            Phase::Unloaded => false,
        };
        if !wanted {
            return;
        }
        let push = state.push(entry.clone());
        self.pushed(inbox, state, push, entry);
    }

    fn pushed(
        &mut self,
        inbox: &Arc<Inbox>,
        mut state: parking_lot::MutexGuard<'_, State>,
        push: Push,
        mut entry: TailEntry,
    ) {
        if !state.queued && state.needs_work() {
            state.queued = true;
            self.dirty[inbox.worker].push(Arc::clone(inbox));
        }
        let watched = state.watchers > 0;
        drop(state);
        if let (Push::At(seq), true) = (push, watched) {
            entry.seq = seq;
            let publisher = inbox.worker % self.changes.len();
            inbox.changes_of(&entry, clock::now(), &mut self.changes[publisher]);
        }
    }
}
