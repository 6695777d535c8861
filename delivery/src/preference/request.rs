//! What is asked for as preferences, and what is wrong with it.

use protocol::{ChannelId, FieldProblem};
use serde::Deserialize;

use super::{
    ALLOW_PRIORITY, Day, LANGUAGES_MAX, MUTED_CHANNELS_MAX, Preferences, QuietHours,
    TIME_ZONE_BYTES_MAX, quiet::ALLOW_PRIORITY_DEFAULT,
};
use crate::{
    object,
    problems::Problems,
    template::locale::{LOCALE_PROBLEM, normal},
};

/// Preferences in place of those that were; what is left out is as at the beginning.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferencesRequest {
    /// Channels by id.
    #[serde(default, deserialize_with = "object::or_default")]
    pub muted_channels: Vec<String>,
    /// Quiet hours.
    #[serde(default, deserialize_with = "object::maybe")]
    pub quiet_hours: Option<QuietHoursRequest>,
    /// Languages, the dearest first.
    #[serde(default, deserialize_with = "object::or_default")]
    pub languages: Vec<String>,
    /// The version that they are made over; none for whichever it is.
    #[serde(default)]
    pub expected_version: Option<u64>,
}

/// Quiet hours as they were written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHoursRequest {
    /// On, where nothing is said.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// When they begin.
    pub start: String,
    /// When they are over.
    pub end: String,
    /// The days on which they begin; every day, where nothing is said.
    #[serde(default)]
    pub days: Option<Vec<String>>,
    /// An IANA name; the profile's, where nothing is said.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// What is heard nevertheless.
    #[serde(default)]
    pub allow_priority: Option<u64>,
}

impl PreferencesRequest {
    /// What it says, with repeats left out.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(self) -> Result<Preferences, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        problems.at_most("muted_channels", self.muted_channels.len(), MUTED_CHANNELS_MAX);
        let mut muted_channels = Vec::new();
        for (index, id) in self.muted_channels.into_iter().take(MUTED_CHANNELS_MAX).enumerate() {
            let id = problems.id(&format!("muted_channels[{index}]"), ChannelId::new(id));
            if let Some(id) = id.filter(|id| !muted_channels.contains(id)) {
                muted_channels.push(id);
            }
        }
        problems.at_most("languages", self.languages.len(), LANGUAGES_MAX);
        let mut languages: Vec<String> = Vec::new();
        for (index, language) in self.languages.into_iter().take(LANGUAGES_MAX).enumerate() {
            let Some(name) = normal(&language) else {
                problems.say(format!("languages[{index}]"), LOCALE_PROBLEM);
                continue;
            };
            if !languages.iter().any(|known| normal(known).as_ref() == Some(&name)) {
                languages.push(language.replace('_', "-"));
            }
        }
        let quiet_hours = self.quiet_hours.and_then(|hours| hours.check(&mut problems));
        if problems.0.is_empty() {
            Ok(Preferences { muted_channels, quiet_hours, languages })
        } else {
            Err(problems.0)
        }
    }
}

impl QuietHoursRequest {
    fn check(self, problems: &mut Problems) -> Option<QuietHours> {
        let mut time = |name: &str, text: &str| {
            let parsed = text.parse();
            parsed.map_err(|error| problems.say(format!("quiet_hours.{name}"), no(error))).ok()
        };
        let (start, end) = (time("start", &self.start), time("end", &self.end));
        if start.is_some() && start == end {
            problems
                .say("quiet_hours.end", "must differ from start; a whole day is 00:00 to 24:00");
        }
        if self.start == "24:00" {
            problems.say("quiet_hours.start", "must be before 24:00, which is the day's end");
        }
        let days = self.days.map_or_else(|| Day::ALL.to_vec(), |words| days(&words, problems));
        let time_zone = self.time_zone.filter(|zone| !zone.is_empty());
        if time_zone.as_deref().is_some_and(|zone| !is_time_zone(zone)) {
            let problem = "must be a time zone of the IANA database such as Asia/Shanghai";
            problems.say("quiet_hours.time_zone", problem);
        }
        let wanted = self.allow_priority.unwrap_or(ALLOW_PRIORITY_DEFAULT.into());
        let allow_priority = u8::try_from(wanted).ok().filter(|it| ALLOW_PRIORITY.contains(it));
        if allow_priority.is_none() {
            let (least, most) = ALLOW_PRIORITY.into_inner();
            problems.say("quiet_hours.allow_priority", format!("must be {least} to {most}"));
        }
        Some(QuietHours {
            enabled: self.enabled.unwrap_or(true),
            start: start?,
            end: end?,
            days,
            time_zone,
            allow_priority: allow_priority?,
        })
    }
}

fn no(error: super::clock_time::NoClockTime) -> String {
    error.to_string()
}

/// The days of these words, each once and from Monday on.
fn days(words: &[String], problems: &mut Problems) -> Vec<Day> {
    if words.is_empty() || words.len() > Day::ALL.len() {
        problems.say("quiet_hours.days", format!("must have 1 to {} entries", Day::ALL.len()));
    }
    let mut days = Vec::new();
    for (index, word) in words.iter().take(Day::ALL.len()).enumerate() {
        match Day::of_word(word) {
            Some(day) => days.push(day),
            None => problems.one_of(format!("quiet_hours.days[{index}]"), word, Day::WORDS),
        }
    }
    days.sort_unstable();
    days.dedup();
    days
}

/// Whether a text names a time zone of the IANA database.
pub(crate) fn is_time_zone(text: &str) -> bool {
    text.len() <= TIME_ZONE_BYTES_MAX && jiff::tz::TimeZone::get(text).is_ok()
}
