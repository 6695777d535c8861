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

const TOLD: Metric = Metric::counter(
    "pushhub_rate_limit_told_total",
    "scope",
    "Callers whose use other nodes were told, once for each telling.",
);

const CHARGED: Metric = Metric::counter(
    "pushhub_rate_limit_charged_total",
    "scope",
    "Units that callers used on other nodes and were charged with here.",
);

const NEWCOMERS: Metric = Metric::gauge(
    "pushhub_rate_limit_newcomers",
    "scope",
    "Callers who are known only from what other nodes tell of them; those that paused long enough are \
     forgotten.",
);

const UNSHARED: Metric = Metric::counter(
    "pushhub_rate_limit_unshared_total",
    "reason",
    "Uses that count on one node only, because there was no room: to note that others are to be told \
     (noted), or to keep what others told of callers who were never here (newcomers).",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[LIMITED, KEYS, SHARED, TOLD, CHARGED, NEWCOMERS, UNSHARED];

pub(super) struct LimitMetrics {
    limited: [Counter; Scope::ALL.len()],
    keys: [Gauge; Scope::ALL.len()],
    shared: [Counter; Scope::ALL.len()],
    told: [Counter; Scope::ALL.len()],
    charged: [Counter; Scope::ALL.len()],
    newcomers: [Gauge; Scope::ALL.len()],
    not_noted: Counter,
    pub(super) no_newcomers: Counter,
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
            told: Scope::ALL.map(|scope| TOLD.to_counter(recorder, &label(scope))),
            charged: Scope::ALL.map(|scope| CHARGED.to_counter(recorder, &label(scope))),
            not_noted: UNSHARED.to_counter(recorder, &[("reason", "noted")]),
            newcomers: Scope::ALL.map(|scope| NEWCOMERS.to_gauge(recorder, &label(scope))),
            no_newcomers: UNSHARED.to_counter(recorder, &[("reason", "newcomers")]),
        }
    }

    pub(super) fn limited(&self, scope: Scope) {
        self.limited[scope as usize].increment(1);
    }

    /// `shared` is a count since the start.
    pub(super) fn kept(&self, scope: Scope, keys: usize, shared: usize, newcomers: usize) {
        self.keys[scope as usize].set(keys as f64);
        self.shared[scope as usize].absolute(shared as u64);
        self.newcomers[scope as usize].set(newcomers as f64);
    }

    pub(super) fn told(&self, scope: Scope) {
        self.told[scope as usize].increment(1);
    }

    pub(super) fn charged(&self, scope: Scope, units: u64) {
        self.charged[scope as usize].increment(units);
    }

    /// A count since the start.
    pub(super) fn not_noted(&self, count: usize) {
        self.not_noted.absolute(count as u64);
    }
}
