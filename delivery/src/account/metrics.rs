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

/// Every metric of this area.
pub const ALL: &[Metric] = &[REFRESHES, REVOKED];

const RESULTS: [&str; 5] = ["ok", "bad", "expired", "reused", "failed"];

pub(super) struct AccountMetrics {
    refreshes: [Counter; RESULTS.len()],
    pub(super) revoked: Gauge,
}

impl AccountMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            refreshes: RESULTS.map(|result| REFRESHES.to_counter(recorder, &[("result", result)])),
            revoked: REVOKED.to_gauge(recorder, &[]),
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
