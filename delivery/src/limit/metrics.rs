//! What is counted about limits.

use metrics::{Counter, Gauge, Recorder};

use super::Scope;
use crate::metrics::Metric;

const LIMITED: Metric = Metric::counter(
    "pushhub_rate_limited_total",
    "scope",
    "Requests and handshakes answered 429, by the limit that was reached.",
);

const KEYS: Metric = Metric::gauge(
    "pushhub_rate_limit_keys",
    "scope",
    "Addresses, users and services whose use is being counted; those that paused long enough are forgotten.",
);

const SHARED: Metric = Metric::counter(
    "pushhub_rate_limit_shared_total",
    "scope",
    "Requests of callers that shared one limit because there was no room to count them apart.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[LIMITED, KEYS, SHARED];

pub(super) struct LimitMetrics {
    limited: [Counter; Scope::ALL.len()],
    keys: [Gauge; Scope::ALL.len()],
    shared: [Counter; Scope::ALL.len()],
}

impl LimitMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let label = |scope: Scope| [("scope", scope.label())];
        Self {
            limited: Scope::ALL.map(|scope| LIMITED.to_counter(recorder, &label(scope))),
            keys: Scope::ALL.map(|scope| KEYS.to_gauge(recorder, &label(scope))),
            shared: Scope::ALL.map(|scope| SHARED.to_counter(recorder, &label(scope))),
        }
    }

    pub(super) fn limited(&self, scope: Scope) {
        self.limited[scope as usize].increment(1);
    }

    /// `shared` is a count since the start.
    pub(super) fn kept(&self, scope: Scope, keys: usize, shared: usize) {
        self.keys[scope as usize].set(keys as f64);
        self.shared[scope as usize].absolute(shared as u64);
    }
}
