//! What a connected user does not want to hear.

use protocol::{ChannelId, Time, message::BodyFacts};

use super::{Preferences, quiet::Clocked};

/// Why a message is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its channel is muted.
    Muted,
    /// These are quiet hours.
    QuietHours,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Muted, Self::QuietHours];

    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Muted => "muted",
            Self::QuietHours => "quiet_hours",
        }
    }
}

/// What a user does not want to hear, ready to be asked for each message. Kept by nodes for the users that
/// are connected to them.
#[derive(Clone, Debug)]
pub struct Silence {
    as_of: i64,
    /// Sorted.
    muted: Box<[ChannelId]>,
    quiet: Option<Clocked>,
}

impl Silence {
    /// Of preferences as of a revision; `time_zone` is the profile's, empty for none.
    pub(crate) fn new(as_of: i64, preferences: &Preferences, time_zone: &str) -> Self {
        let mut muted = preferences.muted_channels.clone();
        muted.sort_unstable();
        let quiet =
            preferences.quiet_hours.as_ref().and_then(|hours| Clocked::new(hours, time_zone));
        Self { as_of, muted: muted.into(), quiet }
    }

    /// Whether it is of later preferences than another.
    #[must_use]
    pub const fn is_newer_than(&self, other: &Self) -> bool {
        self.as_of > other.as_of
    }

    /// Whether a message is not to be heard at a moment, and why. `now` is only asked where quiet hours
    /// are set.
    #[must_use]
    pub fn of(&self, facts: &BodyFacts, now: impl FnOnce() -> Time) -> Option<Reason> {
        if let Some(channel) = &facts.channel_id
            && self.muted.binary_search(channel).is_ok()
        {
            return Some(Reason::Muted);
        }
        let quiet = self.quiet.as_ref().filter(|quiet| facts.priority < quiet.allow_priority())?;
        quiet.are_at(now()).then_some(Reason::QuietHours)
    }
}
