//! Times as clocks on walls show them, and days of the week.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::civil::{DateTime, Weekday};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many minutes a day on the clock has.
const DAY_MINUTES: u16 = 24 * 60;

/// What [`ClockTime`] reads, as a regular expression of ECMA 262.
pub(crate) const PATTERN: &str = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";

/// A time of day, `00:00` to `24:00`, which is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockTime(u16);

/// Not a [`ClockTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time from 00:00 to 24:00, such as 22:30")]
pub struct NoClockTime;

impl ClockTime {
    /// Minutes since the day began.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }

    /// What the clock shows, in whole minutes.
    pub(super) fn of(at: DateTime) -> Self {
        let minutes = i16::from(at.hour()) * 60 + i16::from(at.minute());
        Self(u16::try_from(minutes).unwrap_or_default())
    }
}

impl FromStr for ClockTime {
    type Err = NoClockTime;

    fn from_str(text: &str) -> Result<Self, NoClockTime> {
        let &[h, i, b':', m, n] = text.as_bytes() else { return Err(NoClockTime) };
        if ![h, i, m, n].iter().all(u8::is_ascii_digit) {
            return Err(NoClockTime);
        }
        let number = |ten: u8, one: u8| u16::from(ten - b'0') * 10 + u16::from(one - b'0');
        let (hour, minute) = (number(h, i), number(m, n));
        let minutes = hour * 60 + minute;
        if minute < 60 && minutes <= DAY_MINUTES { Ok(Self(minutes)) } else { Err(NoClockTime) }
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for ClockTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClockTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ClockTime {
    fn schema_name() -> Cow<'static, str> {
        "ClockTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

/// A day of the week.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All of them, from Monday.
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// Every day's word on the wire, in the order of [`Day::ALL`].
    pub(crate) const WORDS: &'static [&'static str] =
        &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// The day of this word.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().position(|known| *known == word).map(|at| Self::ALL[at])
    }
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}
