//! Forgets, slowly and for ever again, what inboxes need not keep.
//!
//! A thread walks over all inboxes, a few at a time, and has each one's worker drop what is too old or
//! too much. What was sent to everyone, or to groups, stands in `shared.db` until every inbox has
//! taken it over at its place: so the walk brings that to inboxes that nobody asks for, in one write
//! for all that has come to them in the meantime, and forgets it when it has been everywhere.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use protocol::{TenantId, Time};
use tokio::sync::oneshot;

use super::{
    inbox::Inbox, inboxes::Inboxes, metrics::StoreMetrics, record::Lsn, shared::Shared, walk::Walk,
    worker::Worker,
};
use crate::{
    InboxKey, clock,
    store::{Keeping, Retention, StoreError},
};

/// How often some inboxes are looked at while a walk is under way.
const ROUND_EVERY: Duration = Duration::from_secs(10);

/// Inboxes that one round looks at. A look costs half a millisecond where nothing is to be done, so
/// this is one percent of a core; a million inboxes take fourteen hours.
const ROUND_INBOXES: usize = 200;

/// How long after a walk has ended the next one begins.
const WALK_EVERY: Duration = Duration::from_hours(1);

/// Rows of `shared.db` that are forgotten at once: the committer waits for its turn behind them.
const FORGET_MAX: u32 = 500;

/// See the module.
pub(super) struct Pruner {
    pub(super) root: PathBuf,
    pub(super) keeping: Arc<Keeping>,
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) workers: Arc<[Worker]>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) orders: Mutex<Orders>,
    pub(super) wake: Condvar,
}

/// What the thread is asked to do.
#[derive(Default)]
pub(super) struct Orders {
    /// Walks that somebody waits for: admins, so few.
    now: VecDeque<Answer>,
    stop: bool,
}

type Answer = oneshot::Sender<Result<u64, StoreError>>;

/// Why the thread woke up.
enum Woken {
    /// Somebody waits for a whole walk.
    Asked(Answer),
    /// It is time for some inboxes.
    Due,
    Stopped,
}

/// A walk that is under way.
struct Round {
    walk: Walk,
    /// Up to where what was sent to many is too old, for everybody.
    stale: Option<Lsn>,
    /// And for tenants that keep less.
    stale_of: BTreeMap<TenantId, Lsn>,
    /// Messages that went.
    pruned: u64,
    /// The first inbox that could not be written.
    failed: Option<StoreError>,
}

impl Pruner {
    /// Prunes one inbox.
    pub(super) async fn prune(
        &self,
        inbox: &Arc<Inbox>,
        retention: Retention,
    ) -> Result<u64, StoreError> {
        let mut total = 0;
        if retention == Retention::default() {
            return Ok(total);
        }
        loop {
            // Else closing would wait for the whole of a long inbox.
            if self.orders.lock().stop {
                return Err(StoreError::Closing);
            }
            // No mark may be decided on a message that goes. It is let go between transactions, for
            // others wait for it.
            let deciding = Arc::clone(inbox.marking()).lock_owned().await;
            let asked = Arc::clone(inbox);
            let went = self.workers[inbox.worker]
                .ask(move |files| {
                    let _deciding = deciding;
                    files.prune(&asked, retention)
                })
                .await?;
            total += went;
            if went == 0 {
                return Ok(total);
            }
        }
    }

    /// Walks over all inboxes now.
    pub(super) async fn prune_all(&self) -> Result<u64, StoreError> {
        if self.keeping.is_everything() {
            return Ok(0);
        }
        let (answer, receive) = oneshot::channel();
        {
            let mut orders = self.orders.lock();
            if orders.stop {
                return Err(StoreError::Closing);
            }
            orders.now.push_back(answer);
        }
        self.wake.notify_one();
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        let mut orders = self.orders.lock();
        orders.stop = true;
        // Whoever waits is answered that the store is closing.
        orders.now.clear();
        drop(orders);
        self.wake.notify_one();
    }

    /// Works until stopped.
    pub(super) fn run(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers needs nothing of the system");
        let mut under_way: Option<Round> = None;
        let mut next_walk = Instant::now() + ROUND_EVERY;
        let kept = || (self.keeping.retention(), self.keeping.of_tenants());
        let mut known = kept();
        loop {
            // It may be another one by then: a walk that was an hour away is due then.
            let due = Instant::now() + ROUND_EVERY;
            let due = if under_way.is_some() { due } else { next_walk.min(due) };
            let woken = self.wait(due);
            let now_kept = kept();
            if now_kept != known {
                known = now_kept;
                next_walk = Instant::now();
            }
            match woken {
                Woken::Stopped => return,
                Woken::Asked(answer) => {
                    let mut round = self.begin();
                    while runtime.block_on(self.go_on(&mut round, ROUND_INBOXES)) {}
                    let _ = answer.send(self.end(round));
                }
                Woken::Due if under_way.is_none() && Instant::now() < next_walk => {}
                Woken::Due if under_way.is_none() && self.keeping.is_everything() => {
                    next_walk = Instant::now() + WALK_EVERY;
                }
                Woken::Due => {
                    let mut round = under_way.take().unwrap_or_else(|| self.begin());
                    if runtime.block_on(self.go_on(&mut round, ROUND_INBOXES)) {
                        under_way = Some(round);
                        continue;
                    }
                    next_walk = Instant::now() + WALK_EVERY;
                    if let Err(error) = self.end(round) {
                        tracing::warn!(%error, "not every inbox was pruned; the next walk tries again");
                    }
                }
            }
        }
    }

    fn wait(&self, due: Instant) -> Woken {
        let mut orders = self.orders.lock();
        loop {
            if orders.stop {
                return Woken::Stopped;
            }
            if let Some(answer) = orders.now.pop_front() {
                return Woken::Asked(answer);
            }
            if self.wake.wait_until(&mut orders, due).timed_out() {
                return Woken::Due;
            }
        }
    }

    fn begin(&self) -> Round {
        let stale = |retention: Retention, tenant: Option<&TenantId>| {
            self.stale(retention, tenant).unwrap_or_else(|error| {
                self.shared_failed(&error);
                None
            })
        };
        let of_tenants = self.keeping.of_tenants().into_iter();
        let stale_of = of_tenants
            .filter_map(|(tenant, retention)| {
                let up_to = stale(retention, Some(&tenant))?;
                Some((tenant, up_to))
            })
            .collect();
        let stale = stale(self.keeping.retention(), None);
        Round { walk: Walk::new(&self.root), stale, stale_of, pruned: 0, failed: None }
    }

    fn stale(
        &self,
        retention: Retention,
        tenant: Option<&TenantId>,
    ) -> rusqlite::Result<Option<Lsn>> {
        let Some(age) = retention.max_age else { return Ok(None) };
        let age = crate::clock::millis(age);
        let moment = Time::from_millis(clock::now().millis().saturating_sub(age));
        self.shared.older_than(tenant, moment)
    }

    /// Looks at some inboxes. Whether there are more.
    async fn go_on(&self, round: &mut Round, inboxes: usize) -> bool {
        for _ in 0..inboxes {
            if self.orders.lock().stop {
                round.failed.get_or_insert(StoreError::Closing);
                return false;
            }
            let key = match round.walk.next(&self.shared) {
                None => return false,
                Some(Ok(key)) => key,
                Some(Err(error)) => {
                    round.failed.get_or_insert(StoreError::NotWritable(Arc::new(error)));
                    continue;
                }
            };
            let stale = round.stale.max(round.stale_of.get(&key.tenant).copied());
            match self.look_at(key, stale).await {
                Ok(pruned) => round.pruned += pruned,
                // It is closed until somebody repairs it; the others go on.
                Err(StoreError::Damaged(_)) => {}
                Err(error) => {
                    round.failed.get_or_insert(error);
                }
            }
        }
        true
    }

    async fn look_at(&self, key: InboxKey, stale: Option<Lsn>) -> Result<u64, StoreError> {
        let inbox = self.inboxes.get(key);
        if let Some(up_to) = stale {
            let asked = Arc::clone(&inbox);
            self.workers[inbox.worker].ask(move |files| files.take_over(&asked, up_to)).await?;
        }
        let (asked, retention) = (Arc::clone(&inbox), self.keeping.of(&inbox.key.tenant));
        let overdue = self.workers[inbox.worker]
            .ask(move |files| files.is_overdue(&asked, retention))
            .await?;
        if overdue { self.prune(&inbox, retention).await } else { Ok(0) }
    }

    /// Every inbox was looked at, and those that could be written have taken over what was sent to
    /// many.
    fn end(&self, round: Round) -> Result<u64, StoreError> {
        if let Some(error) = round.failed {
            return Err(error);
        }
        let of_tenants = round.stale_of.iter().map(|(tenant, up_to)| (Some(tenant), *up_to));
        for (tenant, up_to) in round.stale.map(|up_to| (None, up_to)).into_iter().chain(of_tenants)
        {
            loop {
                match self.shared.forget(tenant, up_to, FORGET_MAX) {
                    Ok(0) => break,
                    Ok(count) => self.metrics.pruned_shared.increment(count),
                    Err(error) => {
                        self.shared_failed(&error);
                        break;
                    }
                }
            }
        }
        Ok(round.pruned)
    }

    fn shared_failed(&self, error: &rusqlite::Error) {
        self.metrics.shared_errors.increment(1);
        tracing::warn!(%error, "shared.db cannot be pruned now");
    }
}
