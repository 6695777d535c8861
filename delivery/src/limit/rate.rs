//! How fast: `N/s[:burst]`.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use governor::Quota;

use crate::control;

/// Highest rate, in units a second, and largest burst. Above it a limit limits nothing: say `off`.
pub const RATE_MAX: u32 = 10_000_000;

/// A token bucket: `burst` units at once, and one more each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: NonZeroU32,
}

/// The text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be N/s or N/s:burst, with whole numbers from 1 to {RATE_MAX}")]
pub struct NoRate;

impl Rate {
    /// A rate; numbers are brought into 1 to [`RATE_MAX`].
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst.clamp(1, RATE_MAX)).expect("it is at least 1");
        Self { interval: Duration::from_secs(1) / per_second.clamp(1, RATE_MAX), burst }
    }

    /// So slow that nothing comes back while a test runs.
    #[cfg(test)]
    pub(crate) fn hourly(burst: u32) -> Self {
        Self { interval: Duration::from_secs(3_600), ..Self::new(1, burst) }
    }

    /// Units at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst.get()
    }

    pub(super) fn quota(self) -> Quota {
        Quota::with_period(self.interval).expect("an interval is never 0").allow_burst(self.burst)
    }

    /// How long this many units take to come back.
    #[must_use]
    pub fn time_of(self, units: u32) -> Duration {
        self.interval * units
    }

    /// The same in nanoseconds: an interval is a second at most, or in tests an hour.
    pub(super) fn nanos_of(self, units: u32) -> u64 {
        self.interval.as_nanos() as u64 * u64::from(units)
    }

    /// How many units take this long to come back, in nanoseconds; begun ones count.
    pub(super) fn units_of(self, nanos: u64) -> u64 {
        nanos.div_ceil(self.interval.as_nanos() as u64)
    }
}

impl From<control::RateLimit> for Rate {
    fn from(own: control::RateLimit) -> Self {
        Self::new(own.per_second, own.burst)
    }
}

/// Without a burst, as many at once as in a second.
impl FromStr for Rate {
    type Err = NoRate;
    fn from_str(text: &str) -> Result<Self, NoRate> {
        let number = |text: &str| {
            // `parse` would take a plus sign.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|n| digits && (1..=RATE_MAX).contains(n));
            number.ok_or(NoRate)
        };
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(number(burst)?)),
            None => (text, None),
        };
        let per_second = number(rate.strip_suffix("/s").ok_or(NoRate)?)?;
        Ok(Self::new(per_second, burst.unwrap_or(per_second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        assert_eq!("5/s".parse(), Ok(Rate::new(5, 5)));
        assert_eq!("5/s:20".parse(), Ok(Rate::new(5, 20)));
        for bad in ["", "5", "5/m", "/s", "0/s", "5/s:", "5/s:0", "+5/s", "5/s:1:2", "99999999/s"] {
            assert_eq!(bad.parse::<Rate>(), Err(NoRate), "{bad}");
        }
        assert_eq!(Rate::new(7, 21).time_of(7).as_millis(), 999, "nanoseconds are rounded down");
        assert_eq!(Rate::new(u32::MAX, 0), Rate::new(RATE_MAX, 1));
        assert_eq!(Rate::new(RATE_MAX, 1).time_of(RATE_MAX).as_secs(), 1);
    }
}
