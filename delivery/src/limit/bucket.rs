//! Token buckets by key: governor decides, this bounds how many it keeps.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, mapref::entry::Entry};
use governor::{
    NotUntil, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::{StateInformationMiddleware, StateSnapshot},
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore, keyed::ShrinkableKeyedStateStore},
};

use super::{Limited, Rate, Reading, Scope, headers::policy};

/// What one bucket, or all of one kind, give.
pub(super) struct Meter {
    scope: Scope,
    rate: Rate,
    policy: http::HeaderValue,
}

impl Meter {
    fn new(scope: Scope, rate: Rate) -> Self {
        Self { scope, rate, policy: policy(scope, rate) }
    }

    /// What governor said, for callers. `more` is added to the wait.
    fn judge<I: Reference>(
        &self,
        outcome: Result<StateSnapshot, NotUntil<I>>,
        now: impl FnOnce() -> I,
        more: u32,
    ) -> Result<Reading, Limited> {
        let reading = |remaining: u32, reset| Reading {
            scope: self.scope,
            remaining,
            reset,
            policy: self.policy.clone(),
        };
        match outcome {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let gone = self.rate.burst().saturating_sub(remaining);
                Ok(reading(remaining, self.rate.time_of(gone)))
            }
            Err(until) => {
                let wait = until.wait_time_from(now()) + self.rate.time_of(more);
                Err(Limited { retry_after: wait, reading: reading(0, wait) })
            }
        }
    }

    /// More than the burst never fits; it costs the whole of it.
    fn units(&self, units: u32) -> NonZeroU32 {
        NonZeroU32::new(units.min(self.rate.burst())).unwrap_or(NonZeroU32::MIN)
    }
}

/// One bucket.
pub(super) struct Bucket<C: Clock = DefaultClock> {
    meter: Meter,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

impl<C: Clock + Default> Bucket<C> {
    pub(super) fn new(scope: Scope, rate: Rate) -> Self {
        let limiter = RateLimiter::new(rate.quota(), InMemoryState::default(), C::default());
        Self { meter: Meter::new(scope, rate), limiter }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.meter.rate
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, units: u32, more: u32) -> Result<Reading, Limited> {
        let outcome = self.limiter.check_n(self.meter.units(units));
        let outcome = outcome.expect("units are at most the burst");
        self.meter.judge(outcome, || self.limiter.clock().now(), more)
    }
}

/// Buckets of one rate, by key.
pub(super) struct Buckets<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    meter: Meter,
    limiter: RateLimiter<K, Bounded<K>, C, StateInformationMiddleware>,
    kept: Arc<Kept<K>>,
}

impl<K: Hash + Eq + Clone, C: Clock> Buckets<K, C> {
    /// At most `keys_max` buckets.
    pub(super) fn new(scope: Scope, rate: Rate, keys_max: usize, clock: C) -> Self {
        let kept = Arc::new(Kept::new(keys_max));
        let limiter = RateLimiter::new(rate.quota(), Bounded(Arc::clone(&kept)), clock);
        Self { meter: Meter::new(scope, rate), limiter, kept }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.meter.rate
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, key: &K, units: u32, more: u32) -> Result<Reading, Limited> {
        let outcome = self.limiter.check_key_n(key, self.meter.units(units));
        let outcome = outcome.expect("units are at most the burst");
        self.meter.judge(outcome, || self.limiter.clock().now(), more)
    }

    /// Takes units that may not be there: the bucket is in debt until they are. Only after a
    /// [`Buckets::take`], so that debt grows no faster than what is let through.
    pub(super) fn owe(&self, key: &K, units: u32) {
        let debt = Nanos::from(self.meter.rate.time_of(units));
        self.kept.with(key, |state| {
            let owed = state.measure_and_replace(&NotKeyed::NonKey, |full_at| {
                full_at.map(|full_at| ((), full_at + debt)).ok_or(())
            });
            // Without a state it was never used, or has been full since: nothing is in it to guard.
            owed.unwrap_or_default();
        });
    }

    /// Forgets buckets that are full again.
    pub(super) fn forget_full(&self) {
        self.limiter.retain_recent();
        // What a flood took is given back; what is in use would only be taken again.
        if self.keys() < self.kept.keys_max / 8 {
            self.limiter.shrink_to_fit();
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.kept.count.load(Ordering::Relaxed)
    }

    /// Requests so far that found no bucket of their own.
    pub(super) fn shared(&self) -> usize {
        self.kept.strangers.load(Ordering::Relaxed)
    }
}

/// What governor keeps its states in.
struct Bounded<K>(Arc<Kept<K>>);

/// The states of known keys, and one for all the others when there is no more room. A flood from
/// many addresses then shares one rate, while everybody known keeps the own bucket; forgetting
/// somebody instead would hand him, or the flood, a fresh burst.
struct Kept<K> {
    states: DashMap<K, InMemoryState>,
    count: AtomicUsize,
    keys_max: usize,
    others: InMemoryState,
    strangers: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Kept<K> {
    fn new(keys_max: usize) -> Self {
        Self {
            states: DashMap::new(),
            count: AtomicUsize::new(0),
            keys_max,
            others: InMemoryState::default(),
            strangers: AtomicUsize::new(0),
        }
    }

    fn with<T>(&self, key: &K, work: impl FnOnce(&InMemoryState) -> T) -> T {
        if let Some(state) = self.states.get(key) {
            return work(&state);
        }
        // Counted before it is put in: two at once must not both take the last place.
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.keys_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.strangers.fetch_add(1, Ordering::Relaxed);
            return work(&self.others);
        }
        match self.states.entry(key.clone()) {
            Entry::Occupied(state) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                work(state.get())
            }
            Entry::Vacant(place) => work(&place.insert(InMemoryState::default())),
        }
    }
}

impl<K: Hash + Eq + Clone> StateStore for Bounded<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.with(key, |state| state.measure_and_replace(&NotKeyed::NonKey, f))
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Bounded<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        let Kept { states, count, .. } = &*self.0;
        states.retain(|_, state| {
            // An error leaves the state as it is, and carries it out.
            let full_at = state
                .measure_and_replace(&NotKeyed::NonKey, |full_at| {
                    Err::<((), Nanos), _>(full_at.unwrap_or_default())
                })
                .expect_err("the closure only fails");
            let recent = full_at > drop_below;
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
        self.0.count.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(
        rate: &str,
        keys_max: usize,
    ) -> (Buckets<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = rate.parse().unwrap();
        (Buckets::new(Scope::Ip, rate, keys_max, clock.clone()), clock)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_the_rate() {
        let (buckets, clock) = buckets("2/s:3", 10);
        let left: Vec<_> = (0..3).map(|_| buckets.take(&1, 1, 0).unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let limited = buckets.take(&1, 1, 0).unwrap_err();
        assert_eq!(limited.retry_after, SECOND / 2);
        assert!(buckets.take(&2, 1, 0).is_ok(), "another's bucket is full");
        clock.advance(limited.retry_after);
        assert_eq!(buckets.take(&1, 1, 0).unwrap().reset, SECOND * 3 / 2);
        assert!(buckets.take(&1, 1, 0).is_err());
    }

    #[test]
    fn units_are_taken_all_or_none() {
        let (buckets, clock) = buckets("1/s:10", 10);
        buckets.take(&1, 7, 0).unwrap();
        let limited = buckets.take(&1, 5, 0).unwrap_err();
        assert_eq!(limited.retry_after, SECOND * 2);
        assert_eq!(buckets.take(&1, 3, 0).unwrap().remaining, 0);
        clock.advance(SECOND * 10);
        assert!(buckets.take(&1, 1_000, 0).is_ok(), "more than the burst costs all of it");
        assert_eq!(buckets.take(&1, 1, 4).unwrap_err().retry_after, SECOND * 5);
    }

    #[test]
    fn debt_is_paid_first() {
        let (buckets, clock) = buckets("1/s:5", 10);
        buckets.take(&1, 1, 0).unwrap();
        buckets.owe(&1, 10);
        assert_eq!(buckets.take(&1, 1, 0).unwrap_err().retry_after, SECOND * 7);
        buckets.forget_full();
        clock.advance(SECOND * 6);
        assert!(buckets.take(&1, 1, 0).is_err(), "not forgotten with it");
        clock.advance(SECOND);
        assert!(buckets.take(&1, 1, 0).is_ok());
        buckets.owe(&2, 10);
        assert!(buckets.take(&2, 1, 0).is_ok());
    }

    #[test]
    fn strangers_share_when_there_is_no_room_and_full_buckets_go() {
        let (buckets, clock) = buckets("1/s:2", 2);
        for key in [1, 2] {
            buckets.take(&key, 1, 0).unwrap();
        }
        assert!(buckets.take(&3, 1, 0).is_ok() && buckets.take(&4, 1, 0).is_ok());
        assert!(buckets.take(&5, 1, 0).is_err(), "the strangers' one bucket is empty");
        assert!(buckets.take(&1, 1, 0).is_ok(), "who is known keeps the own");
        assert_eq!((buckets.keys(), buckets.shared()), (2, 3));
        clock.advance(SECOND * 2);
        buckets.forget_full();
        assert_eq!(buckets.keys(), 1, "1 was emptier");
        assert!((0..2).all(|_| buckets.take(&5, 1, 0).is_ok()), "5 has an own one now");
        clock.advance(SECOND * 10);
        buckets.forget_full();
        assert_eq!((buckets.keys(), buckets.kept.states.len()), (0, 0));
    }

    #[test]
    fn many_threads_do_not_get_more_than_one() {
        let (buckets, _) = buckets("1/s:100", 3);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for key in 0..4 {
                        for _ in 0..100 {
                            let ok = buckets.take(&key, 1, 0).is_ok();
                            taken.fetch_add(usize::from(ok), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        // Three own buckets and the strangers'; while two put in the same key, one of them may find
        // no room and be let in as a stranger.
        let taken = taken.into_inner();
        assert_eq!((taken, buckets.keys()), (400, 3));
    }
}
