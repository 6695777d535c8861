//! Hands durable records to the inboxes in memory, in journal order: this is where a change gets
//! its seq if its inbox is loaded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use protocol::{Seq, TenantId, UserId};

use super::{
    files::Files,
    forget::Forgets,
    inbox::{Ended, Inbox, Phase, Push, SharedEntry, State, TailEntry, What},
    inboxes::Inboxes,
    lag::Lag,
    ledger::Ledger,
    publisher::Publisher,
    record::{ForgetRecord, Lsn, MessageRecord, Record, RewriteRecord},
    shared::Shared,
    worker::Worker,
};
use crate::{
    Fanout, InboxKey, clock,
    store::{Accepted, Audience, Stored},
};

/// What a tail entry costs besides its share of the body, in bytes.
const ENTRY_WEIGHT: usize = 96;

pub(super) struct Sequencer {
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) forgets: Arc<Forgets>,
    pub(super) lag: Arc<Lag>,
    pub(super) sequenced: Arc<AtomicU64>,
    pub(super) workers: Arc<[Worker]>,
    pub(super) publishers: Arc<[Publisher]>,
    pub(super) fanout: Arc<dyn Fanout>,
    pub(super) dirty: Vec<Vec<Arc<Inbox>>>,
    pub(super) changes: Vec<Vec<Stored>>,
}

impl Sequencer {
    /// Hands one record over; see [`Sequencer::finish_batch`].
    pub(super) fn apply(&mut self, lsn: Lsn, record: Record, accepted: Option<Accepted>) {
        match record {
            Record::Message(record) => {
                self.message(lsn, &record, accepted);
                self.ledger.sent(lsn, record);
            }
            Record::Rewrite(record) => {
                self.rewrite(lsn, &record, accepted);
                self.ledger.rewritten(lsn, record);
            }
            Record::Mark(mark) => {
                let entry = TailEntry {
                    lsn,
                    at: mark.at,
                    seq: Seq::ZERO,
                    accepted,
                    weight: u32::try_from(mark.targets.len() * 64 + ENTRY_WEIGHT)
                        .unwrap_or(u32::MAX),
                    what: What::Mark(Arc::clone(&mark)),
                    to: None,
                };
                self.push(&mark.tenant, mark.user.clone(), entry);
            }
            Record::Press(press) => {
                let entry = TailEntry {
                    lsn,
                    at: press.at,
                    seq: Seq::ZERO,
                    accepted,
                    weight: u32::try_from(press.action.len() + ENTRY_WEIGHT).unwrap_or(u32::MAX),
                    what: What::Press(Arc::clone(&press)),
                    to: None,
                };
                self.push(&press.tenant, press.user.clone(), entry);
            }
            Record::Scheduled(record) => self.ledger.scheduled(lsn, record),
            Record::Cancelled { tenant, id } => self.ledger.cancelled(lsn, tenant, id),
            Record::Answer(answer) => self.ledger.answered(lsn, answer),
            Record::Directory(record) => self.directory(lsn, &record),
            Record::Forget(record) => self.forget(lsn, &record),
            Record::Seen { tenant, user, at } => {
                let key = InboxKey::new(tenant, user);
                self.shared.add_seen(lsn, key.clone(), at);
                if let Some(inbox) = self.inboxes.find(&key) {
                    inbox.state.lock().see(lsn);
                }
            }
            Record::Probe => {}
        }
        self.sequenced.store(lsn, Ordering::Release);
    }

    /// Makes the batch visible to whoever asks next: the workers know what to write.
    pub(super) fn finish_batch(&mut self) {
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
        let key = InboxKey::new(tenant.clone(), user);
        // What is of a message that came before is not for the inbox that began since.
        let of = match &entry.what {
            What::Rewrite(rewrite) => rewrite.target,
            What::Message(_) | What::Mark(_) | What::Press(_) => entry.lsn,
        };
        if self.forgets.hides(&key, of) {
            return;
        }
        let inbox = self.inboxes.get(key);
        let mut state = inbox.state.lock();
        let push = state.push(entry.clone());
        // What a load found in `shared.db` a moment ago waits for nobody.
        if push != Push::Known {
            self.lag.add(&entry);
        }
        self.pushed(&inbox, state, push, entry);
    }

    /// A user is forgotten: whoever loads the inbox from now on finds it ended.
    fn forget(&mut self, lsn: Lsn, record: &Arc<ForgetRecord>) {
        let key = InboxKey::new(record.tenant.clone(), record.user.clone());
        let inbox = self.inboxes.get(key.clone());
        let mut state = inbox.state.lock();
        self.forgets.add(key, lsn);
        // Under the lock: a load finds both or nothing.
        self.shared.add_forgotten(lsn, record);
        let Ended { tail, memberships, turns } = state.end(lsn);
        let stays = memberships.iter().map(|stay| &stay.group);
        self.inboxes.groups.remove(&inbox, stays.chain(turns.iter().map(|turn| &turn.group)));
        self.lag.remove(&tail);
        if !std::mem::replace(&mut state.queued, true) {
            self.dirty[inbox.worker].push(Arc::clone(&inbox));
        }
    }

    fn message(&mut self, lsn: Lsn, record: &MessageRecord, accepted: Option<Accepted>) {
        let what = What::Message(Arc::clone(&record.body));
        let entry = SharedEntry { lsn, at: record.at, to: Arc::clone(&record.audience), what };
        self.spread(&record.tenant, &entry, record.body.weight(), accepted);
    }

    fn rewrite(&mut self, lsn: Lsn, record: &Arc<RewriteRecord>, accepted: Option<Accepted>) {
        let weight = record.body.as_ref().map_or(0, |body| body.weight());
        let what = What::Rewrite(Arc::clone(record));
        let entry = SharedEntry { lsn, at: record.at, to: Arc::clone(&record.audience), what };
        self.spread(&record.tenant, &entry, weight, accepted);
    }

    /// Brings something to everyone it is for. What is for groups or everyone goes first where
    /// whoever loads an inbox from now on finds it, then to the inboxes that are loaded.
    fn spread(
        &mut self,
        tenant: &TenantId,
        sent: &SharedEntry,
        weight: usize,
        accepted: Option<Accepted>,
    ) {
        let kept = SharedEntry { to: in_shared(&sent.to), ..sent.clone() };
        let inboxes = match &*sent.to {
            Audience::Everyone => {
                self.shared.add_entry(tenant, kept.clone());
                self.inboxes.of_tenant(tenant)
            }
            Audience::Some { users, groups } => {
                if !groups.is_empty() {
                    self.shared.add_entry(tenant, kept.clone());
                }
                let weight = weight / users.len().max(1) + ENTRY_WEIGHT;
                let entry = TailEntry {
                    lsn: sent.lsn,
                    at: sent.at,
                    seq: Seq::ZERO,
                    accepted: accepted.clone(),
                    what: sent.what.clone(),
                    to: None,
                    weight: u32::try_from(weight).unwrap_or(u32::MAX),
                };
                for user in &**users {
                    self.push(tenant, user.clone(), entry.clone());
                }
                self.inboxes.groups.send(tenant, groups, sent.lsn)
            }
        };
        for inbox in inboxes {
            self.push_shared(&inbox, kept.clone().entry(accepted.clone()));
        }
    }

    fn push_shared(&mut self, inbox: &Arc<Inbox>, entry: TailEntry) {
        let mut state = inbox.state.lock();
        // An inbox that is not loaded finds it in `shared.db`; one that is being loaded may have
        // looked there already, and knows when it is whether it is meant.
        let wanted = match (&state.phase, &entry.to) {
            (Phase::Loaded(loaded), Some(to)) => {
                state.receives(loaded.since, entry.lsn, to, &entry.what)
            }
            (Phase::Loading(_), _) => true,
            (Phase::Loaded(_) | Phase::Unloaded, _) => false,
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
            if entry.is_edit() {
                self.publish_from_file(inbox, seq);
            } else {
                inbox.changes_of(&entry, clock::now(), &mut self.changes[publisher]);
            }
        }
    }

    /// Publishes an edit when its inbox's worker has looked up what the message is besides: read or
    /// not, and when. What comes later may be published before it; a connection that sees the hole
    /// reads the store, and finds the edit there.
    fn publish_from_file(&self, inbox: &Arc<Inbox>, seq: Seq) {
        let publisher = inbox.worker % self.publishers.len();
        let (publishers, fanout) = (Arc::clone(&self.publishers), Arc::clone(&self.fanout));
        let inbox = Arc::clone(inbox);
        self.workers[inbox.worker].tell(move |files: &mut Files| {
            // An error is the worker's to log; the position check of the connections finds the rest.
            if let Ok(mut changes) = files.changes(&inbox, Seq(seq.0 - 1), 1, usize::MAX) {
                publishers[publisher].offer(&mut changes.changes, false, &*fanout);
            }
        });
    }
}

/// Whom something in `shared.db` is for: the groups, sorted, for every inbox that is in one looks for
/// it there; users that are named have it from their own tails.
fn in_shared(to: &Arc<Audience>) -> Arc<Audience> {
    match &**to {
        Audience::Some { users, groups } if !users.is_empty() || !groups.is_sorted() => {
            let mut groups = groups.to_vec();
            groups.sort_unstable();
            Arc::new(Audience::Some { users: Arc::new([]), groups: groups.into() })
        }
        Audience::Some { .. } | Audience::Everyone => Arc::clone(to),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Body;

    use super::*;
    use crate::store::{
        Group, Keeping, SenderKey,
        single::{
            SingleConfig,
            inbox::Loaded,
            ledger::metrics::LedgerMetrics,
            membership::{Membership, Memberships},
            metrics::StoreMetrics,
        },
    };

    struct Nobody;

    impl Fanout for Nobody {
        fn publish(&self, _: &[Stored]) {}
    }

    fn sequencer(folder: &tempfile::TempDir) -> Sequencer {
        let metrics = Arc::new(StoreMetrics::new(&metrics::NoopRecorder));
        let shared = Shared::open(&folder.path().join("shared.db"), Arc::clone(&metrics)).unwrap();
        let counts = Arc::new(LedgerMetrics::new(&metrics::NoopRecorder));
        let (path, config) = (folder.path().join("ledger.db"), SingleConfig::default());
        let keeping = Arc::new(Keeping::new(config.retention, config.sent_kept, None));
        let (ledger, _) =
            Ledger::open(&path, &config, &keeping, counts, Arc::clone(&metrics)).unwrap();
        Sequencer {
            inboxes: Arc::new(Inboxes::new(1)),
            shared: Arc::new(shared),
            ledger,
            forgets: Arc::default(),
            lag: Arc::new(Lag::new(Arc::clone(&metrics))),
            sequenced: Arc::default(),
            workers: [Worker::new(Arc::clone(&metrics))].into(),
            publishers: [Publisher::new(metrics)].into(),
            fanout: Arc::new(Nobody),
            dirty: vec![Vec::new()],
            changes: vec![Vec::new()],
        }
    }

    /// A load that runs while a message is handed out finds it in `shared.db`. When it then comes by
    /// name it is known, and must not wait for a file for ever.
    #[test]
    fn what_a_load_has_found_already_is_not_counted_as_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let mut sequencer = sequencer(&folder);
        let (tenant, room) = (TenantId::default(), Group::Channel("room".parse().unwrap()));
        let ann: UserId = "ann".parse().unwrap();
        let inbox = sequencer.inboxes.get(InboxKey::new(tenant.clone(), ann.clone()));
        let body = Arc::new(Body::from_stored("m".parse().unwrap(), None, b"{}"));
        let to = Audience::Some { users: [ann].into(), groups: [room.clone()].into() };
        let audience = Arc::new(to);
        let found = SharedEntry {
            lsn: 5,
            at: clock::now(),
            to: in_shared(&audience),
            what: What::Message(Arc::clone(&body)),
        };
        let stay = Membership { group: Arc::new(room), since: 1, until: Membership::OPEN };
        let memberships = Memberships::from(vec![stay]);
        let base = Loaded { known: true, since: 1, ..Loaded::default() };
        inbox.state.lock().finish_load(base, 1, memberships, vec![found]);
        let record = MessageRecord {
            tenant,
            sender: SenderKey::Admin,
            audience,
            body,
            at: clock::now(),
            scheduled_at: None,
        };
        sequencer.apply(5, Record::Message(Arc::new(record)), None);
        let state = inbox.state.lock();
        assert_eq!((state.tail.len(), state.lazy), (1, 1));
        assert_eq!(state.loaded().map(|loaded| loaded.head), Some(Seq(1)));
        assert_eq!((sequencer.lag.records(), sequencer.lag.bytes()), (0, 0));
    }
}
