//! What governor keeps its states in: a map with a bound, and beside each state what the other nodes have
//! not been told of it.
//!
//! All amounts are times: how long what was taken takes to come back. A node that is told needs no rate
//! for it, and a caller who has used half of what he may on one node has used half of it everywhere, also
//! while a rate is being changed.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, mapref::entry::Entry as Place};
use governor::{
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore, keyed::ShrinkableKeyedStateStore},
};
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{
    key::Key,
    sharing::{CATCH_UP, NOTEWORTHY, Noted},
};

/// Most callers for whom it is kept what they used on other nodes, although they were never here, of each
/// scope: 200 KiB. A caller who goes from node to node finds his debt at the next one. What is told of more
/// is counted and dropped: they would begin here with a full bucket, as everybody does on a new node.
pub(super) const NEWCOMERS_MAX: usize = 8_192;

/// Longest time that anybody can be made to wait for a bucket that is empty, whatever other nodes say: an
/// hour, in nanoseconds. Of honest ones it takes hundreds: each adds at most a burst, which is seconds.
pub(super) const DEBT_NANOS_MAX: u64 = 3_600_000_000_000;

/// Who asks governor, and for how much.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) cost: u64,
}

/// One bucket's state.
#[derive(Default)]
pub(super) struct State {
    /// When it is full again, of the limiter's clock.
    full_at: InMemoryState,
    /// What was taken here since the other nodes were told; nothing on a node that has no others.
    untold: AtomicU64,
}

impl State {
    fn measure<T, F, E>(&self, asked: Asked, noted: Option<&Noted>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let outcome = self.full_at.measure_and_replace(&NotKeyed::NonKey, decide);
        if let Some(noted) = noted
            && outcome.is_ok()
        {
            self.took(asked, noted);
        }
        outcome
    }

    fn took(&self, asked: Asked, noted: &Noted) {
        let before = self.untold.fetch_add(asked.cost, Ordering::Relaxed);
        let crosses = before < NOTEWORTHY && before.saturating_add(asked.cost) >= NOTEWORTHY;
        if crosses && !noted.add(asked.key) {
            // Begins anew: the next time that it crosses there may be room.
            self.untold.store(0, Ordering::Relaxed);
        }
    }

    fn full_at(&self) -> u64 {
        // An error leaves the state as it is, and carries it out.
        let full_at = self.full_at.measure_and_replace(&NotKeyed::NonKey, |full_at| {
            Err::<((), Nanos), _>(full_at.unwrap_or_default())
        });
        full_at.expect_err("the closure only fails").as_u64()
    }

    /// Takes more than may be there, though never so much that it takes longer than `most` to be full.
    pub(super) fn charge(&self, now: u64, cost: u64, most: u64) {
        let charged: Result<(), Infallible> =
            self.full_at.measure_and_replace(&NotKeyed::NonKey, |full_at| {
                let full_at = full_at.unwrap_or_default().as_u64();
                Ok(((), later(full_at, now, cost, most).into()))
            });
        let Ok(()) = charged;
    }

    /// Takes more than may be there, after something was taken.
    fn owe(&self, asked: Asked, noted: Option<&Noted>) {
        let owed = self.full_at.measure_and_replace(&NotKeyed::NonKey, |full_at| {
            full_at.map(|full_at| ((), full_at + Nanos::from(asked.cost))).ok_or(())
        });
        // Without a state it was never used, or has been full since: nothing is in it to guard.
        if let Some(noted) = noted
            && owed.is_ok()
        {
            self.took(asked, noted);
        }
    }

    /// What the other nodes are to be told: what was taken here, but no more than what is missing, and what
    /// may have come back meanwhile. What was taken while nobody could be told, and came back, is past.
    pub(super) fn untold(&self, now: u64) -> u64 {
        self.tellable(self.untold.load(Ordering::Relaxed), now)
    }

    /// The same; from now on they know.
    pub(super) fn tell(&self, now: u64) -> u64 {
        self.tellable(self.untold.swap(0, Ordering::Relaxed), now)
    }

    fn tellable(&self, untold: u64, now: u64) -> u64 {
        let missing = self.full_at().saturating_sub(now);
        untold.min(missing.saturating_add(NOTEWORTHY + CATCH_UP))
    }
}

/// When a bucket is full, of which more is taken.
fn later(full_at: u64, now: u64, cost: u64, most: u64) -> u64 {
    let from = full_at.max(now);
    from.max(from.saturating_add(cost).min(now.saturating_add(most)))
}

/// What callers used elsewhere who were never here, or not since their bucket was full.
#[derive(Default)]
pub(super) struct Newcomers {
    full_at: Mutex<FxHashMap<Key, u64>>,
    count: AtomicUsize,
}

impl Newcomers {
    /// Adds to it; not if there is no room.
    pub(super) fn charge(&self, key: Key, now: u64, cost: u64, most: u64) -> bool {
        let mut all = self.full_at.lock();
        if all.len() >= NEWCOMERS_MAX && !all.contains_key(&key) {
            return false;
        }
        let full_at = all.entry(key).or_default();
        *full_at = later(*full_at, now, cost, most);
        self.count.store(all.len(), Ordering::Relaxed);
        true
    }

    /// Somebody is here now: when his bucket will be full.
    pub(super) fn arrived(&self, key: Key) -> Option<u64> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut all = self.full_at.lock();
        let full_at = all.remove(&key);
        self.count.store(all.len(), Ordering::Relaxed);
        full_at
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Forgets those who have all again.
    pub(super) fn forget_full(&self, now: u64) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut all = self.full_at.lock();
            all.retain(|_, full_at| *full_at > now);
            all.shrink_to(NEWCOMERS_MAX / 8);
            self.count.store(all.len(), Ordering::Relaxed);
        }
    }
}

/// The states of known keys, and one for all the others when there is no more room. A flood from
/// many addresses then shares one rate, while everybody known keeps the own bucket; forgetting
/// somebody instead would hand him, or the flood, a fresh burst.
pub(super) struct Kept {
    pub(super) states: DashMap<Key, State, FxBuildHasher>,
    count: AtomicUsize,
    pub(super) keys_max: usize,
    others: State,
    strangers: AtomicUsize,
    newcomers: Newcomers,
    /// None on a node that has no others.
    noted: Option<Arc<Noted>>,
}

impl Kept {
    pub(super) fn new(keys_max: usize, noted: Option<Arc<Noted>>) -> Self {
        Self {
            states: DashMap::with_hasher(FxBuildHasher),
            count: AtomicUsize::new(0),
            keys_max,
            others: State::default(),
            strangers: AtomicUsize::new(0),
            newcomers: Newcomers::default(),
            noted,
        }
    }

    /// Strangers have no name that other nodes could be told: of them nothing is noted.
    fn with<T>(&self, key: Key, work: impl FnOnce(&State, Option<&Noted>) -> T) -> T {
        let noted = self.noted.as_deref();
        if let Some(state) = self.states.get(&key) {
            return work(&state, noted);
        }
        // Counted before it is put in: two at once must not both take the last place.
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.keys_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.strangers.fetch_add(1, Ordering::Relaxed);
            return work(&self.others, None);
        }
        match self.states.entry(key) {
            Place::Occupied(state) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                work(state.get(), noted)
            }
            Place::Vacant(place) => {
                let state = place.insert(State::default());
                if let Some(full_at) = self.newcomers.arrived(key) {
                    state.charge(0, full_at, u64::MAX);
                }
                work(&state, noted)
            }
        }
    }

    pub(super) fn owe(&self, asked: Asked) {
        self.with(asked.key, |state, noted| state.owe(asked, noted));
    }

    /// What was used elsewhere; whether it is kept.
    pub(super) fn charge(&self, key: Key, now: u64, cost: u64, most: u64) -> bool {
        if let Some(state) = self.states.get(&key) {
            state.charge(now, cost, most);
            return true;
        }
        // The place is locked until it is kept: whoever comes in between would not find it.
        match self.states.entry(key) {
            Place::Occupied(state) => {
                state.get().charge(now, cost, most);
                true
            }
            Place::Vacant(_) => self.newcomers.charge(key, now, cost, most),
        }
    }

    /// Works on a state that is here.
    pub(super) fn known<T>(&self, key: Key, work: impl FnOnce(&State) -> T) -> Option<T> {
        self.states.get(&key).map(|state| work(&state))
    }

    pub(super) const fn newcomers(&self) -> &Newcomers {
        &self.newcomers
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts requests without a bucket of their own from there.
    pub(super) fn count_on(&self, strangers: usize) {
        self.strangers.store(strangers, Ordering::Relaxed);
    }

    /// Requests so far that found no bucket of their own.
    pub(super) fn strangers(&self) -> usize {
        self.strangers.load(Ordering::Relaxed)
    }
}

/// Many, as governor wants them.
pub(super) struct Many(pub(super) Arc<Kept>);

impl StateStore for Many {
    type Key = Asked;

    fn measure_and_replace<T, F, E>(&self, asked: &Asked, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.with(asked.key, |state, noted| state.measure(*asked, noted, decide))
    }
}

impl ShrinkableKeyedStateStore<Asked> for Many {
    fn retain_recent(&self, drop_below: Nanos) {
        let Kept { states, count, noted, .. } = &*self.0;
        // What is not told yet is not forgotten: by then it is.
        let grace = if noted.is_some() { CATCH_UP } else { 0 };
        states.retain(|_, state| {
            let recent = state.full_at().saturating_add(grace) > drop_below.as_u64();
            if !recent {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            recent
        });
    }

    fn shrink_to_fit(&self) {
        self.0.states.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.count()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One, as governor wants it.
#[derive(Clone)]
pub(super) struct One {
    pub(super) state: Arc<State>,
    pub(super) noted: Option<Arc<Noted>>,
}

impl StateStore for One {
    type Key = Asked;

    fn measure_and_replace<T, F, E>(&self, asked: &Asked, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.state.measure(*asked, self.noted.as_deref(), decide)
    }
}
