//! A user is forgotten, with everything, and nothing is left of it in any byte of a file.
//!
//! ```text
//! forget ─▶ journal: the record by which the inbox ends
//!              │ then, in memory: its tail and what is known of it is void, a new one may begin
//!              ├─▶ worker: the folder goes, before anything is written for the new inbox
//!              ├─▶ shared.db: the user, memberships, who made a channel; and that this is under way
//!              └─▶ forgetter, for all who are forgotten at the time: ledger.db is walked over, the
//!                  journal begins a new segment and lets all older ones go, what the files do not use
//!                  any more is overwritten, their `-wal` is emptied; then it is no more under way
//! ```
//!
//! **When it ends.** At the record's place in the journal: what has an earlier place is of the old inbox, also
//! what is still being written, decided or loaded; what has a later one is of the new. Replaying the journal
//! comes to the same, for a folder says up to which record it is.
//!
//! **What is left out of the journal.** Segments hold what everybody was sent, so all that are older than the
//! end of the work on the other files go, when what they have is where it belongs; their `-wal` is not used
//! again, as it is else, and neither are the spares.
//!
//! **After a crash.** The record is durable or nothing has begun. From then on either the journal or the table
//! `forgetting` of `shared.db` says what is under way, and it is done from the start; each step may be repeated.
//!
//! **Limits.** [`FORGETTING_MAX`] users at a time, above it `Busy`. One pass is for all who came before it began.
//! A pass that fails is tried again after [`RETRY_AFTER`], also when nobody waits any more. The journal goes
//! only when the inboxes whose changes it keeps can be written: another user's damaged file makes forgetting
//! `NotWritable` until it is repaired, removed, or its owner forgotten. While a folder cannot be removed, the new inbox
//! of its user cannot be read.

mod forgetter;
mod scrub;
mod targets;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use protocol::{TenantId, UserId};
use tokio::sync::oneshot;

pub(super) use self::{
    forgetter::{Forgetter, rest},
    scrub::{ScrubError, Scrubbed},
    targets::{Left, Targets},
};
use super::{
    SingleStore,
    membership::Memberships,
    metrics::StoreMetrics,
    record::{ForgetRecord, Lsn, MessageRecord, Record},
};
use crate::{
    InboxKey,
    store::{Group, StoreError, noted::Noted},
};

/// Users who are being forgotten at a time: each is some 300 bytes until it is done. One more is answered
/// `Busy`.
const FORGETTING_MAX: usize = 10_000;

/// How long a pass that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A user who is forgotten, and the record by which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) key: InboxKey,
    pub(super) lsn: Lsn,
}

type Waiting = oneshot::Sender<Result<(), StoreError>>;

/// Who is being forgotten.
#[derive(Default)]
pub(super) struct Forgets {
    state: Mutex<State>,
    wake: Condvar,
    /// How many, for who asks often.
    count: AtomicUsize,
    metrics: Option<Arc<StoreMetrics>>,
    noted: Noted,
}

#[derive(Default)]
struct State {
    users: HashMap<InboxKey, UnderWay>,
    waiting: Vec<Waiting>,
    /// Somebody has come since the last pass began, or waits for one.
    asked: bool,
    stop: bool,
}

struct UnderWay {
    lsn: Lsn,
    since: Instant,
    /// `ledger.db` was walked over.
    walked: bool,
}

/// What a pass is for.
struct Pass {
    users: Vec<Forgotten>,
    /// Of whom `ledger.db` may still say something.
    to_walk: Vec<Forgotten>,
    waiting: Vec<Waiting>,
}

impl Forgets {
    pub(super) fn new(users: Vec<Forgotten>, metrics: Arc<StoreMetrics>) -> Self {
        let forgets = Self { metrics: Some(metrics), ..Self::default() };
        for Forgotten { key, lsn } in users {
            forgets.add(key, lsn);
        }
        forgets
    }

    /// A user is forgotten by a record.
    pub(super) fn add(&self, key: InboxKey, lsn: Lsn) {
        let mut state = self.state.lock();
        state.users.insert(key, UnderWay { lsn, since: Instant::now(), walked: false });
        state.asked = true;
        self.show(&state);
        drop(state);
        // Tokens that were noted make their users known again.
        self.noted.renew();
        self.wake.notify_one();
    }

    /// Tokens that were looked at lately.
    pub(super) fn noted(&self) -> &Noted {
        &self.noted
    }

    fn show(&self, state: &State) {
        self.count.store(state.users.len(), Ordering::Release);
        if let Some(metrics) = &self.metrics {
            #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
            metrics.forgetting.set(state.users.len() as f64);
        }
    }

    /// Whether somebody is being forgotten.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether what is of a record is of an inbox that has ended since.
    pub(super) fn hides(&self, key: &InboxKey, of: Lsn) -> bool {
        self.any() && self.state.lock().users.get(key).is_some_and(|user| of < user.lsn)
    }

    /// A message that was scheduled by a record, as it is sent now; none for one of somebody who is being
    /// forgotten, or to nobody else.
    pub(super) fn strip(
        &self,
        lsn: Lsn,
        record: &Arc<MessageRecord>,
    ) -> Option<Arc<MessageRecord>> {
        if !self.any() {
            return Some(Arc::clone(record));
        }
        let users = Targets::new(self.all());
        match users.left(&record.tenant, &record.sender, &record.audience, lsn) {
            Left::All => Some(Arc::clone(record)),
            Left::Nothing => None,
            Left::Some(audience) => {
                let audience = Arc::new(audience);
                Some(Arc::new(MessageRecord { audience, ..(**record).clone() }))
            }
        }
    }

    fn all(&self) -> Vec<Forgotten> {
        let state = self.state.lock();
        let user =
            |(key, user): (&InboxKey, &UnderWay)| Forgotten { key: key.clone(), lsn: user.lsn };
        state.users.iter().map(user).collect()
    }

    /// Waits until all who are being forgotten now are.
    pub(super) async fn settled(&self) -> Result<(), StoreError> {
        let (answer, receive) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.stop {
                return Err(StoreError::Closing);
            }
            state.waiting.push(answer);
            state.asked = true;
        }
        self.wake.notify_one();
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// Ends the thread after the step it is at. What is not done is done after the next start.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        state.waiting.clear();
        drop(state);
        self.wake.notify_one();
    }

    fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// What the next pass is for, when there is something; none when stopped.
    fn next(&self) -> Option<Pass> {
        let mut state = self.state.lock();
        while !state.asked && !state.stop {
            if state.users.is_empty() {
                self.wake.wait(&mut state);
            } else if self.wake.wait_for(&mut state, RETRY_AFTER).timed_out() {
                break;
            }
        }
        if state.stop {
            return None;
        }
        state.asked = false;
        let user =
            |(key, user): (&InboxKey, &UnderWay)| Forgotten { key: key.clone(), lsn: user.lsn };
        Some(Pass {
            users: state.users.iter().map(user).collect(),
            to_walk: state.users.iter().filter(|(_, user)| !user.walked).map(user).collect(),
            waiting: std::mem::take(&mut state.waiting),
        })
    }

    fn walked(&self, users: &[Forgotten]) {
        let mut state = self.state.lock();
        for Forgotten { key, lsn } in users {
            if let Some(user) = state.users.get_mut(key).filter(|user| user.lsn == *lsn) {
                user.walked = true;
            }
        }
    }

    /// These users are forgotten; one who was again since is not.
    fn done(&self, users: &[Forgotten]) {
        let mut state = self.state.lock();
        for Forgotten { key, lsn } in users {
            if state.users.get(key).is_some_and(|user| user.lsn == *lsn)
                && let Some(user) = state.users.remove(key)
                && let Some(metrics) = &self.metrics
            {
                metrics.forgotten.increment(1);
                metrics.forget_seconds.record(user.since.elapsed());
            }
        }
        self.show(&state);
    }
}

/// Records of a tenant that `shared.db` forgets at once: the committer waits for its turn behind them.
const TENANT_RECORDS: u32 = 500;

impl SingleStore {
    /// See [`crate::Store::forget_tenant`].
    pub(super) async fn run_forget_tenant(&self, tenant: TenantId) -> Result<(), StoreError> {
        self.check_open()?;
        let whole = Arc::new(Targets::of_tenant(tenant.clone()));
        self.ledger.forget(&whole, || self.forgets.stopped()).await?;
        self.ledger.forget_stats(&tenant).await?;
        loop {
            if self.forgets.stopped() {
                return Err(StoreError::Closing);
            }
            let began = Instant::now();
            let (shared, of) = (Arc::clone(&self.shared), tenant.clone());
            let step = move || shared.forget_tenant(&of, TENANT_RECORDS);
            let more = tokio::task::spawn_blocking(step).await.map_err(|_| StoreError::Closing)?;
            if !more.map_err(|error| StoreError::NotWritable(Arc::new(error)))? {
                return Ok(());
            }
            rest(began).await;
        }
    }

    /// See [`crate::Store::forget`].
    pub(super) async fn run_forget(&self, key: InboxKey) -> Result<u64, StoreError> {
        self.check_open()?;
        if self.forgets.count.load(Ordering::Acquire) >= FORGETTING_MAX {
            self.metrics.busy_forgetting.increment(1);
            return Err(StoreError::Busy("too many users are being forgotten"));
        }
        let inbox = self.inbox(&key);
        // What is decided on what is there now is stored before the end of it, or not at all.
        let marking = Arc::clone(inbox.marking()).lock_owned().await;
        let had = self.ask(&inbox, |open, _| open.count()).await;
        let had = match had {
            Err(StoreError::Damaged(_)) => 0,
            had => had?.unwrap_or_default(),
        };
        let deciding = self.locks.all_channels_and(&key).await;
        let sending = Arc::clone(&self.ledger.schedule).lock_owned().await;
        let open = |stays: &Memberships| -> Vec<Group> {
            stays.open().map(|stay| Group::clone(&stay.group)).collect()
        };
        let leave = self.read(self.with_memberships(&key, open))?;
        let user: UserId = key.user.clone();
        let record = ForgetRecord { tenant: key.tenant, user, leave };
        let records = vec![Record::Forget(Arc::new(record))];
        self.committer.submit_holding(records, (marking, deciding, sending)).await?;
        self.forgets.settled().await?;
        Ok(had)
    }
}
