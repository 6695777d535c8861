//! What is counted about logins.

use metrics::{Counter, Gauge, Recorder};

use super::{AccountError, TokenPair};
use crate::metrics::Metric;

const REFRESHES: Metric = Metric::counter(
    "pushhub_refreshes_total",
    "result",
    "Refresh tokens that were shown: `ok`, `bad`, `expired`, `reused` (somebody has a copy), or `failed` \
     for those that could not be looked at.",
);

const REVOKED: Metric = Metric::gauge(
    "pushhub_revoked",
    "",
    "Sessions, tokens and users in memory that are not believed any more; one takes about 40 bytes.",
);

const PREFERENCES_KNOWN: Metric = Metric::gauge(
    "pushhub_preferences_known",
    "",
    "Users in memory who mute, have quiet hours or named languages; one takes about 24 bytes.",
);

const LANGUAGES_LEFT_OUT: Metric = Metric::counter(
    "pushhub_preferences_languages_left_out_total",
    "",
    "Lists of languages that were not kept, because as many different ones are as may be; templates do not \
     go by them.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[REFRESHES, REVOKED, PREFERENCES_KNOWN, LANGUAGES_LEFT_OUT];

const RESULTS: [&str; 5] = ["ok", "bad", "expired", "reused", "failed"];

pub(super) struct AccountMetrics {
    refreshes: [Counter; RESULTS.len()],
    pub(super) revoked: Gauge,
    pub(super) preferences_known: Gauge,
    pub(super) languages_left_out: Counter,
}

impl AccountMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            refreshes: RESULTS.map(|result| REFRESHES.to_counter(recorder, &[("result", result)])),
            revoked: REVOKED.to_gauge(recorder, &[]),
            preferences_known: PREFERENCES_KNOWN.to_gauge(recorder, &[]),
            languages_left_out: LANGUAGES_LEFT_OUT.to_counter(recorder, &[]),
        }
    }

    pub(super) fn refreshed(&self, done: &Result<TokenPair, AccountError>) {
        let index = match done {
            Ok(_) => 0,
            Err(AccountError::Expired) => 2,
            Err(AccountError::Reused) => 3,
            Err(AccountError::Control(_)) => 4,
            Err(_) => 1,
        };
        self.refreshes[index].increment(1);
    }
}
