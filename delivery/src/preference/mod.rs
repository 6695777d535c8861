//! What users prefer: channels that are muted, quiet hours, languages.
//!
//! Nothing is lost by it: what a user does not want to hear is stored, numbered and delivered like everything
//! else, to all devices, and its frame says `silent`, so that clients neither ring nor pop up. Whether it does
//! is decided by the node that writes the frame, when it does ([`Silence`]); languages are asked when a
//! message is made from a template ([`Known::languages`]).
//!
//! Where they are kept and how nodes hear of changes is in [`crate::account`].

mod clock_time;
mod known;
mod quiet;
mod request;
mod silence;

use protocol::ChannelId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::{clock_time::PATTERN as CLOCK_TIME_PATTERN, request::is_time_zone};
pub use self::{
    clock_time::{ClockTime, Day},
    known::{Known, LANGUAGE_LISTS_MAX, Spoken},
    quiet::{ALLOW_PRIORITY, QuietHours},
    request::{PreferencesRequest, QuietHoursRequest},
    silence::{Reason, Silence},
};

/// Most muted channels of a user. They are in memory while the user is connected, some 50 bytes each, so
/// that 10,000 connected users with all of them muted are 100 MB.
pub const MUTED_CHANNELS_MAX: usize = 200;

/// Most languages of a user: more than anybody reads, and each is looked for in a template.
pub const LANGUAGES_MAX: usize = 8;

/// Longest name of a time zone, in bytes: the longest of the IANA database has 32.
pub const TIME_ZONE_BYTES_MAX: usize = 64;

/// What a user prefers. One who never said anything has the default: hears everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Preferences {
    /// Channels whose messages arrive silently, however urgent.
    pub muted_channels: Vec<ChannelId>,
    /// When everything but what is urgent arrives silently; null where nothing was said.
    pub quiet_hours: Option<QuietHours>,
    /// Languages (BCP 47), the dearest first.
    pub languages: Vec<String>,
}

impl Preferences {
    /// Whether anything can be silent by them at all.
    pub(crate) fn can_silence(&self) -> bool {
        !self.muted_channels.is_empty()
            || self.quiet_hours.as_ref().is_some_and(|quiet| quiet.enabled)
    }
}

#[cfg(test)]
mod tests;
