//! Quiet hours: when a user's devices are not to ring.

use std::ops::RangeInclusive;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use protocol::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClockTime, Day};

/// From which priority messages may be let through quiet hours. Below it nothing is urgent, or senders of
/// everyday messages would be asked to lower theirs.
pub const ALLOW_PRIORITY: RangeInclusive<u8> = 8..=10;

/// The same where nothing is said.
pub(super) const ALLOW_PRIORITY_DEFAULT: u8 = 9;

/// A range of the day, by the clock on the user's wall.
///
/// It goes by what that clock shows: where clocks are put back, an hour that comes twice is quiet twice or not at
/// all; where they are put forward, what is left out is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuietHours {
    /// Whether they count; so they can be off without being forgotten.
    pub enabled: bool,
    /// When they begin.
    pub start: ClockTime,
    /// When they are over. Before the start, that is on the next day.
    pub end: ClockTime,
    /// The days on which they begin.
    pub days: Vec<Day>,
    /// The clock they go by, such as `Asia/Shanghai`; null for that of the profile, and UTC where that
    /// says nothing either.
    pub time_zone: Option<String>,
    /// Messages of this priority and above are heard nevertheless.
    pub allow_priority: u8,
}

impl QuietHours {
    /// Whether they are at what the wall's clock shows.
    pub(super) fn contain(&self, shown: DateTime) -> bool {
        let (time, today) = (ClockTime::of(shown), Day::from(shown.weekday()));
        let begins = |day| self.days.contains(&day);
        if self.start < self.end {
            return begins(today) && self.start <= time && time < self.end;
        }
        let yesterday = Day::from(shown.weekday().previous());
        begins(today) && self.start <= time || begins(yesterday) && time < self.end
    }
}

/// Quiet hours with their clock.
#[derive(Clone, Debug)]
pub(super) struct Clocked {
    hours: QuietHours,
    zone: TimeZone,
}

impl Clocked {
    /// None where they do not count. `of_profile` is the profile's time zone, empty for none; a zone that is
    /// not known any more is taken for UTC.
    pub(super) fn new(hours: &QuietHours, of_profile: &str) -> Option<Self> {
        if !hours.enabled {
            return None;
        }
        let name = hours.time_zone.as_deref().unwrap_or(of_profile);
        let zone = TimeZone::get(name).unwrap_or(TimeZone::UTC);
        Some(Self { hours: hours.clone(), zone })
    }

    pub(super) const fn allow_priority(&self) -> u8 {
        self.hours.allow_priority
    }

    /// Whether it is quiet at a moment.
    pub(super) fn are_at(&self, at: Time) -> bool {
        Timestamp::from_millisecond(at.millis())
            .is_ok_and(|at| self.hours.contain(self.zone.to_datetime(at)))
    }
}
