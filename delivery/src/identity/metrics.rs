//! What is counted about who asks.

use metrics::{Counter, Recorder};

use super::AuthError;
use crate::metrics::Metric;

const FAILURES: Metric = Metric::counter(
    "pushhub_auth_failures_total",
    "reason",
    "Requests and handshakes whose token or key was refused.",
);

const TOKEN_CACHE: Metric = Metric::counter(
    "pushhub_auth_token_cache_total",
    "result",
    "User tokens that were found in the cache of checked tokens (hit) or checked anew (miss).",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[FAILURES, TOKEN_CACHE];

pub(super) struct IdentityMetrics {
    failures: [Counter; AuthError::LABELS.len()],
    hits: Counter,
    misses: Counter,
}

impl IdentityMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            failures: AuthError::LABELS
                .map(|label| FAILURES.to_counter(recorder, &[("reason", label)])),
            hits: TOKEN_CACHE.to_counter(recorder, &[("result", "hit")]),
            misses: TOKEN_CACHE.to_counter(recorder, &[("result", "miss")]),
        }
    }

    pub(super) fn failed(&self, error: &AuthError) {
        let index = AuthError::LABELS.iter().position(|label| *label == error.label());
        self.failures[index.expect("LABELS has every label")].increment(1);
    }

    pub(super) fn cache(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.increment(1);
    }
}
