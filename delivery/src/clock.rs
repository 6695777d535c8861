//! The wall clock. Order never depends on it: positions in an inbox do.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use protocol::Time;

/// Now, in milliseconds.
#[must_use]
pub fn now() -> Time {
    Time::from_millis(jiff::Timestamp::now().as_millisecond())
}

/// A duration as times count; a longer one than they can is the longest.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// That long after a moment.
pub(crate) fn after(moment: Time, duration: Duration) -> Time {
    Time::from_millis(moment.millis().saturating_add(millis(duration)))
}

/// A wall clock that is handed down, so that a test can step it as an operator or NTP does.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Time + Send + Sync>);

impl WallClock {
    /// A clock that shows what `now` says.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, in milliseconds.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl Default for WallClock {
    /// The system's.
    fn default() -> Self {
        Self::new(now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

/// The clock of the database that nodes share, as far as one of them knows it: by its own clock and the
/// difference that was found last. So a token, a key and a message last as long on each node, however wrong its
/// clock is. Until something is learned it is the system's.
#[derive(Clone, Debug, Default)]
pub struct SharedClock(Arc<AtomicI64>);

/// Smaller differences are not followed: they may be of the way, and a clock that NTP keeps would tremble with
/// each look.
const DIFFERENCE_MIN: Duration = Duration::from_millis(500);

/// A look that took longer than this says too little of the time.
const LOOK_MAX: Duration = Duration::from_millis(900);

impl SharedClock {
    /// As it is handed down.
    #[must_use]
    pub fn clock(&self) -> WallClock {
        let ahead = Arc::clone(&self.0);
        WallClock::new(move || {
            Time::from_millis(now().millis().saturating_add(ahead.load(Ordering::Relaxed)))
        })
    }

    /// The shared clock has shown a time between two moments of this node's own clock.
    pub(crate) fn learn(&self, asked: Time, shown: Time, answered: Time) {
        let took = answered.millis().saturating_sub(asked.millis());
        // A clock that was set meanwhile may have gone backwards.
        if !u64::try_from(took).is_ok_and(|took| u128::from(took) <= LOOK_MAX.as_millis()) {
            return;
        }
        let ahead = shown.millis().saturating_sub(asked.millis() + took / 2);
        let before = self.0.load(Ordering::Relaxed);
        if u128::from(ahead.abs_diff(before)) < DIFFERENCE_MIN.as_millis() {
            return;
        }
        self.0.store(ahead, Ordering::Relaxed);
        tracing::warn!(
            milliseconds = ahead,
            "the database's clock is ahead of this node's by so much, or behind; the database's counts"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_followed_and_trembling_is_not() {
        let shared = SharedClock::default();
        let ahead = |shared: &SharedClock| shared.0.load(Ordering::Relaxed);
        let ms = Time::from_millis;
        shared.learn(ms(1_000), ms(1_420), ms(1_010));
        assert_eq!(ahead(&shared), 0, "too little");
        shared.learn(ms(1_000), ms(9_000), ms(4_000));
        assert_eq!(ahead(&shared), 0, "too slow an answer");
        shared.learn(ms(4_000), ms(9_000), ms(1_000));
        assert_eq!(ahead(&shared), 0, "the clock was set meanwhile");
        shared.learn(ms(10_000), ms(3_005), ms(10_010));
        assert_eq!(ahead(&shared), -7_000);
        shared.learn(ms(10_000), ms(3_205), ms(10_010));
        assert_eq!(ahead(&shared), -7_000);
        shared.learn(ms(10_000), ms(10_000), ms(10_000));
        assert_eq!(ahead(&shared), 0, "it was set right");
        let clock = shared.clock();
        shared.learn(ms(0), ms(3_600_000), ms(0));
        assert!(clock.now().millis() - now().millis() > 3_500_000, "clocks that were given follow");
    }
}
