//! Token buckets by key: governor decides, [`super::state`] bounds how many it keeps.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    NotUntil, RateLimiter,
    clock::{Clock, Reference},
    middleware::{StateInformationMiddleware, StateSnapshot},
};

use super::{
    Limited, Rate, Reading, Scope,
    headers::policy,
    key::Key,
    sharing::Noted,
    state::{Asked, DEBT_NANOS_MAX, Kept, Many, One, State},
};

/// What one bucket, or all of one kind, give.
struct Meter<I> {
    scope: Scope,
    rate: Rate,
    policy: http::HeaderValue,
    /// Not later than governor's own.
    start: I,
}

impl<I: Reference> Meter<I> {
    fn new(scope: Scope, rate: Rate, clock: &impl Clock<Instant = I>) -> Self {
        Self { scope, rate, policy: policy(scope, rate), start: clock.now() }
    }

    /// What governor said, for callers. `more` is added to the wait.
    fn judge(
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
                // It may be over by now, and who is refused is never told to wait for nothing.
                let wait = wait.max(Duration::from_nanos(1));
                Err(Limited { retry_after: wait, reading: reading(0, wait) })
            }
        }
    }

    /// More than the burst never fits; it costs the whole of it.
    fn units(&self, units: u32) -> NonZeroU32 {
        NonZeroU32::new(units.min(self.rate.burst())).unwrap_or(NonZeroU32::MIN)
    }

    fn asked(&self, key: Key, units: u32) -> Asked {
        Asked { key, cost: self.rate.nanos_of(units) }
    }

    /// On the clock that states count by.
    fn now(&self, clock: &impl Clock<Instant = I>) -> u64 {
        clock.now().duration_since(self.start).as_u64()
    }

    /// Longest time until a bucket is full that others can bring about.
    fn most(&self) -> u64 {
        self.rate.nanos_of(self.rate.burst()).saturating_add(DEBT_NANOS_MAX)
    }
}

/// One bucket.
pub(super) struct Bucket<C: Clock> {
    meter: Meter<C::Instant>,
    limiter: RateLimiter<Asked, One, C, StateInformationMiddleware>,
    key: Key,
    state: Arc<State>,
}

impl<C: Clock + Clone> Bucket<C> {
    pub(super) fn new(
        scope: Scope,
        key: Key,
        rate: Rate,
        clock: &C,
        noted: Option<Arc<Noted>>,
    ) -> Self {
        let (meter, state) = (Meter::new(scope, rate, clock), Arc::new(State::default()));
        let one = One { state: Arc::clone(&state), noted };
        Self { meter, limiter: RateLimiter::new(rate.quota(), one, clock.clone()), key, state }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.meter.rate
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, units: u32, more: u32) -> Result<Reading, Limited> {
        let units = self.meter.units(units);
        let outcome = self.limiter.check_key_n(&self.meter.asked(self.key, units.get()), units);
        let outcome = outcome.expect("units are at most the burst");
        self.meter.judge(outcome, || self.limiter.clock().now(), more)
    }

    /// Takes what was used elsewhere.
    pub(super) fn charge(&self, cost: u64) {
        self.state.charge(self.meter.now(self.limiter.clock()), cost, self.meter.most());
    }

    /// Its state, and the time on the state's clock.
    pub(super) fn known<T>(&self, work: impl FnOnce(&State, u64) -> T) -> T {
        work(&self.state, self.meter.now(self.limiter.clock()))
    }
}

/// Buckets of one rate, by key.
pub(super) struct Buckets<C: Clock> {
    meter: Meter<C::Instant>,
    limiter: RateLimiter<Asked, Many, C, StateInformationMiddleware>,
    kept: Arc<Kept>,
}

impl<C: Clock> Buckets<C> {
    /// At most `keys_max` buckets.
    pub(super) fn new(
        scope: Scope,
        rate: Rate,
        keys_max: usize,
        clock: C,
        noted: Option<Arc<Noted>>,
    ) -> Self {
        let kept = Arc::new(Kept::new(keys_max, noted));
        let meter = Meter::new(scope, rate, &clock);
        let limiter = RateLimiter::new(rate.quota(), Many(Arc::clone(&kept)), clock);
        Self { meter, limiter, kept }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.meter.rate
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, key: Key, units: u32, more: u32) -> Result<Reading, Limited> {
        let units = self.meter.units(units);
        let outcome = self.limiter.check_key_n(&self.meter.asked(key, units.get()), units);
        let outcome = outcome.expect("units are at most the burst");
        self.meter.judge(outcome, || self.limiter.clock().now(), more)
    }

    /// Takes units that may not be there: the bucket is in debt until they are. Only after a
    /// [`Buckets::take`], so that debt grows no faster than what is let through.
    pub(super) fn owe(&self, key: Key, units: u32) {
        self.kept.owe(self.meter.asked(key, units));
    }

    /// Takes what was used elsewhere, or keeps it for the day that somebody comes with this key; false if
    /// there is no room to.
    pub(super) fn charge(&self, key: Key, cost: u64) -> bool {
        self.kept.charge(key, self.meter.now(self.limiter.clock()), cost, self.meter.most())
    }

    /// The state of a key that is here, and the time on the state's clock.
    pub(super) fn known<T>(&self, key: Key, work: impl FnOnce(&State, u64) -> T) -> Option<T> {
        self.kept.known(key, |state| work(state, self.meter.now(self.limiter.clock())))
    }

    /// Forgets buckets that are full again.
    pub(super) fn forget_full(&self) {
        self.limiter.retain_recent();
        self.kept.newcomers().forget_full(self.meter.now(self.limiter.clock()));
        // What a flood took is given back; what is in use would only be taken again.
        if self.keys() < self.kept.keys_max / 8 {
            self.limiter.shrink_to_fit();
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.kept.count()
    }

    /// Callers who were not here yet, but elsewhere.
    pub(super) fn newcomers(&self) -> usize {
        self.kept.newcomers().len()
    }

    /// Counts requests without a bucket of their own from there.
    pub(super) fn count_on(&self, shared: usize) {
        self.kept.count_on(shared);
    }

    /// Requests so far that found no bucket of their own.
    pub(super) fn shared(&self) -> usize {
        self.kept.strangers()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(rate: &str, keys_max: usize) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = rate.parse().unwrap();
        (Buckets::new(Scope::Ip, rate, keys_max, clock.clone(), None), clock)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_the_rate() {
        let (buckets, clock) = buckets("2/s:3", 10);
        let left: Vec<_> = (0..3).map(|_| buckets.take(Key(1), 1, 0).unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let limited = buckets.take(Key(1), 1, 0).unwrap_err();
        assert_eq!(limited.retry_after, SECOND / 2);
        assert!(buckets.take(Key(2), 1, 0).is_ok(), "another's bucket is full");
        clock.advance(limited.retry_after);
        assert_eq!(buckets.take(Key(1), 1, 0).unwrap().reset, SECOND * 3 / 2);
        assert!(buckets.take(Key(1), 1, 0).is_err());
    }

    #[test]
    fn units_are_taken_all_or_none() {
        let (buckets, clock) = buckets("1/s:10", 10);
        buckets.take(Key(1), 7, 0).unwrap();
        let limited = buckets.take(Key(1), 5, 0).unwrap_err();
        assert_eq!(limited.retry_after, SECOND * 2);
        assert_eq!(buckets.take(Key(1), 3, 0).unwrap().remaining, 0);
        clock.advance(SECOND * 10);
        assert!(buckets.take(Key(1), 1_000, 0).is_ok(), "more than the burst costs all of it");
        assert_eq!(buckets.take(Key(1), 1, 4).unwrap_err().retry_after, SECOND * 5);
    }

    #[test]
    fn debt_is_paid_first() {
        let (buckets, clock) = buckets("1/s:5", 10);
        buckets.take(Key(1), 1, 0).unwrap();
        buckets.owe(Key(1), 10);
        assert_eq!(buckets.take(Key(1), 1, 0).unwrap_err().retry_after, SECOND * 7);
        buckets.forget_full();
        clock.advance(SECOND * 6);
        assert!(buckets.take(Key(1), 1, 0).is_err(), "not forgotten with it");
        clock.advance(SECOND);
        assert!(buckets.take(Key(1), 1, 0).is_ok());
        buckets.owe(Key(2), 10);
        assert!(buckets.take(Key(2), 1, 0).is_ok());
    }

    #[test]
    fn strangers_share_when_there_is_no_room_and_full_buckets_go() {
        let (buckets, clock) = buckets("1/s:2", 2);
        for key in [1, 2] {
            buckets.take(Key(key), 1, 0).unwrap();
        }
        assert!(buckets.take(Key(3), 1, 0).is_ok() && buckets.take(Key(4), 1, 0).is_ok());
        assert!(buckets.take(Key(5), 1, 0).is_err(), "the strangers' one bucket is empty");
        assert!(buckets.take(Key(1), 1, 0).is_ok(), "who is known keeps the own");
        assert_eq!((buckets.keys(), buckets.shared()), (2, 3));
        clock.advance(SECOND * 2);
        buckets.forget_full();
        assert_eq!(buckets.keys(), 1, "1 was emptier");
        assert!((0..2).all(|_| buckets.take(Key(5), 1, 0).is_ok()), "5 has an own one now");
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
                            let ok = buckets.take(Key(key), 1, 0).is_ok();
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
