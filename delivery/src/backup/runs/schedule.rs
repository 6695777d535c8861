//! When backups are made by themselves.

use std::{str::FromStr, time::Duration};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use protocol::Time;

use crate::clock::after;

/// Longest schedule as it is written, in bytes: a cron expression has five fields.
const BYTES_MAX: usize = 128;

/// Shortest pause between two runs that a duration may say: each looks at every inbox.
pub const EVERY_MIN: Duration = Duration::from_secs(1);

/// Longest pause: beyond, an operator means something else.
pub const EVERY_MAX: Duration = Duration::from_secs(366 * 86_400);

/// When runs begin (`BACKUP_SCHEDULE`).
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// So long after the one before began; the first at once.
    Every(Duration),
    /// At the times of a cron expression of five fields, in UTC: no time of it is missing or twice.
    Cron(Box<Cron>),
}

/// A text is no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be `off`, a duration such as 24h, or a cron expression of five fields such as `30 3 * * *`, in UTC"
)]
pub struct NoSchedule;

impl FromStr for Schedule {
    type Err = NoSchedule;

    /// Of a cron expression; durations are read by whoever reads settings.
    fn from_str(text: &str) -> Result<Self, NoSchedule> {
        if text.len() > BYTES_MAX {
            return Err(NoSchedule);
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|_| NoSchedule)?;
        let schedule = Self::Cron(Box::new(cron));
        // The 31st of February never comes.
        schedule.next(crate::clock::now()).map(|_| schedule).ok_or(NoSchedule)
    }
}

impl Schedule {
    /// The first time after a moment; none where there is none that a calendar knows.
    pub(super) fn next(&self, from: Time) -> Option<Time> {
        match self {
            Self::Every(pause) => Some(after(from, *pause)),
            Self::Cron(cron) => {
                let from = Timestamp::from_millisecond(from.millis()).ok()?;
                let next = cron.find_next_occurrence(&from.to_zoned(TimeZone::UTC), false).ok()?;
                Some(Time::from_millis(next.timestamp().as_millisecond()))
            }
        }
    }

    /// When the next run is due, by when the latest began. `started` is since when this process runs: times of a
    /// cron expression that passed before there was any backup are not made up for.
    pub(super) fn due(&self, latest: Option<Time>, started: Time) -> Option<Time> {
        match (self, latest) {
            (_, Some(latest)) => self.next(latest),
            (Self::Every(_), None) => Some(started),
            (Self::Cron(_), None) => self.next(started),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[test]
    fn a_cron_expression_is_in_utc_and_a_missed_time_is_made_up_for_once() {
        let nightly: Schedule = "30 3 * * *".parse().unwrap();
        let (evening, night) = (at("2025-03-29T20:00:00Z"), at("2025-03-30T03:30:00Z"));
        assert_eq!(nightly.due(None, evening), Some(night));
        assert_eq!(nightly.due(Some(night), evening), Some(at("2025-03-31T03:30:00Z")));
        // Down for a week: the next is the one that was missed first, and so at once.
        assert_eq!(nightly.due(Some(night), at("2025-04-06T00:00:00Z")), nightly.next(night));
        let weekly: Schedule = "0 2 * * SUN".parse().unwrap();
        assert_eq!(weekly.next(at("2025-01-15T00:00:00Z")), Some(at("2025-01-19T02:00:00Z")));
        assert_eq!(
            "@daily".parse::<Schedule>().unwrap().next(evening),
            Some(at("2025-03-30T00:00:00Z"))
        );
    }

    #[test]
    fn a_duration_counts_from_the_run_before() {
        let daily = Schedule::Every(Duration::from_secs(86_400));
        let began = at("2025-01-15T09:12:00Z");
        assert_eq!(daily.due(None, began), Some(began));
        assert_eq!(daily.due(Some(began), began), Some(at("2025-01-16T09:12:00Z")));
    }

    #[test]
    fn what_never_comes_is_no_schedule() {
        for text in
            ["", "daily", "* * * *", "*/5 * * * * *", "0 0 31 2 *", "61 * * * *", "0 0 * * * 2030"]
        {
            assert_eq!(text.parse::<Schedule>(), Err(NoSchedule), "{text}");
        }
    }
}
