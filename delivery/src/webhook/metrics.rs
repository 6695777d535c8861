//! What is counted about webhooks.

use metrics::{Counter, Gauge, Histogram, Recorder};

use super::{client::Outcome, writer};
use crate::metrics::Metric;

const EVENTS: Metric = Metric::counter(
    "pushhub_webhook_events_total",
    "",
    "Events that were kept for an endpoint; one that three endpoints want counts three times.",
);
const ATTEMPTS: Metric = Metric::counter(
    "pushhub_webhook_attempts_total",
    "outcome",
    "Attempts to deliver an event to a webhook, tests included, by what came of it.",
);
const ATTEMPT_SECONDS: Metric = Metric::histogram(
    "pushhub_webhook_attempt_seconds",
    "",
    "Time of one attempt, from the name's resolution to the answer's end.",
);
const PENDING: Metric = Metric::gauge(
    "pushhub_webhook_pending",
    "",
    "Events that wait for their delivery, over all webhooks, whichever node tells it; brought up to date every 10 s.",
);
const DEAD: Metric = Metric::counter(
    "pushhub_webhook_dead_letters_total",
    "reason",
    "Events that were given up: after their last attempt, or for their age.",
);
const DROPPED: Metric = Metric::counter(
    "pushhub_webhook_dropped_total",
    "reason",
    "Events that were not kept: too much waits for the endpoint (full), or the event is too large.",
);
const DISABLED: Metric = Metric::counter(
    "pushhub_webhook_disabled_total",
    "by",
    "Endpoints that were disabled without anybody asking: by days of failures, or by a 410.",
);
const RUNNING: Metric = Metric::gauge(
    "pushhub_webhook_connections",
    "lane",
    "Endpoints that are being sent to, by lane; slow and failing endpoints have their own.",
);
const ERRORS: Metric = Metric::counter(
    "pushhub_webhook_errors_total",
    "op",
    "Commits and reads of webhooks that failed, and looks at what other nodes do.",
);

const SHARES: Metric = Metric::gauge(
    "pushhub_webhook_shares",
    "",
    "Shares of services whose webhooks this node sends, of 256 over all nodes; 0 where there is one node.",
);
const LEASES_LOST: Metric = Metric::counter(
    "pushhub_webhook_leases_lost_total",
    "",
    "Leases to send webhooks that ended because the database could not be reached in time.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[
    EVENTS,
    ATTEMPTS,
    ATTEMPT_SECONDS,
    PENDING,
    DEAD,
    DROPPED,
    DISABLED,
    RUNNING,
    ERRORS,
    SHARES,
    LEASES_LOST,
];

pub(super) struct WebhookMetrics {
    events: Counter,
    attempts: Vec<Counter>,
    pub(super) attempt_seconds: Histogram,
    pub(super) pending: Gauge,
    pub(super) dead_attempts: Counter,
    pub(super) dead_age: Counter,
    dropped_full: Counter,
    pub(super) dropped_large: Counter,
    pub(super) disabled_failures: Counter,
    pub(super) disabled_gone: Counter,
    pub(super) quick: Gauge,
    pub(super) slow: Gauge,
    write_errors: Counter,
    pub(super) read_errors: Counter,
    pub(super) look_errors: Counter,
    pub(super) shares: Gauge,
    pub(super) leases_lost: Counter,
}

impl WebhookMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            events: EVENTS.to_counter(recorder, &[]),
            attempts: Outcome::WORDS
                .iter()
                .map(|outcome| ATTEMPTS.to_counter(recorder, &[("outcome", outcome)]))
                .collect(),
            attempt_seconds: ATTEMPT_SECONDS.to_histogram(recorder, &[]),
            pending: PENDING.to_gauge(recorder, &[]),
            dead_attempts: DEAD.to_counter(recorder, &[("reason", "attempts")]),
            dead_age: DEAD.to_counter(recorder, &[("reason", "age")]),
            dropped_full: DROPPED.to_counter(recorder, &[("reason", "full")]),
            dropped_large: DROPPED.to_counter(recorder, &[("reason", "too_large")]),
            disabled_failures: DISABLED.to_counter(recorder, &[("by", "failures")]),
            disabled_gone: DISABLED.to_counter(recorder, &[("by", "gone")]),
            quick: RUNNING.to_gauge(recorder, &[("lane", "quick")]),
            slow: RUNNING.to_gauge(recorder, &[("lane", "slow")]),
            write_errors: ERRORS.to_counter(recorder, &[("op", "commit")]),
            read_errors: ERRORS.to_counter(recorder, &[("op", "read")]),
            look_errors: ERRORS.to_counter(recorder, &[("op", "look")]),
            shares: SHARES.to_gauge(recorder, &[]),
            leases_lost: LEASES_LOST.to_counter(recorder, &[]),
        }
    }

    /// What the writer counts.
    pub(super) fn of_writer(&self) -> writer::Counters {
        writer::Counters {
            errors: self.write_errors.clone(),
            events: self.events.clone(),
            dropped: self.dropped_full.clone(),
        }
    }

    pub(super) fn attempted(&self, outcome: Outcome) {
        self.attempts[outcome as usize].increment(1);
    }
}
