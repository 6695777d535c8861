//! What the ledger counts, besides what it has in common with the rest of the store.

use metrics::{Counter, Gauge, Histogram, Recorder};

use crate::{metrics::Metric, store::outcome::OutcomeMetrics};

const QUEUE_RECORDS: Metric = Metric::gauge(
    "pushhub_ledger_queue_records",
    "",
    "Sends, answers and changes of them that are durable in the journal but not yet in ledger.db.",
);
const QUEUE_BYTES: Metric =
    Metric::gauge("pushhub_ledger_queue_bytes", "", "Memory held by what is not yet in ledger.db.");
const SCHEDULED: Metric =
    Metric::gauge("pushhub_ledger_scheduled", "", "Messages that wait for their time.");
const FIRED: Metric = Metric::counter(
    "pushhub_ledger_fired_total",
    "result",
    "Scheduled messages whose time came: sent, expired before it, or damaged in ledger.db.",
);
const FIRE_DELAY: Metric = Metric::histogram(
    "pushhub_ledger_fire_delay_seconds",
    "",
    "From the time a message was scheduled for to its being stored.",
);
const FIRE_RETRIES: Metric = Metric::counter(
    "pushhub_ledger_fire_retries_total",
    "",
    "Scheduled messages could not be sent when their time came; they are tried again, in order.",
);
const PRUNED: Metric = Metric::counter(
    "pushhub_ledger_pruned_total",
    "what",
    "Rows of ledger.db that had been kept long enough.",
);
const STATS_LOST: Metric = Metric::counter(
    "pushhub_stats_lost_total",
    "",
    "Deliveries and reads that statistics leave out, because too many different messages were counted at a time.",
);

/// Every metric of this area.
pub const ALL: &[Metric] =
    &[QUEUE_RECORDS, QUEUE_BYTES, SCHEDULED, FIRED, FIRE_DELAY, FIRE_RETRIES, PRUNED, STATS_LOST];

pub(in super::super) struct LedgerMetrics {
    pub(super) queue_records: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) scheduled: Gauge,
    pub(super) fired_sent: Counter,
    pub(super) fired_expired: Counter,
    pub(super) fired_damaged: Counter,
    pub(super) fire_delay: Histogram,
    pub(super) fire_retries: Counter,
    pub(super) pruned_sent: Counter,
    pub(super) pruned_answers: Counter,
    pub(super) pruned_stats: Counter,
    pub(super) outcome: OutcomeMetrics,
    pub(super) stats_lost: Counter,
}

impl LedgerMetrics {
    pub(in super::super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let fired = |result| FIRED.to_counter(recorder, &[("result", result)]);
        let pruned = |what| PRUNED.to_counter(recorder, &[("what", what)]);
        Self {
            queue_records: QUEUE_RECORDS.to_gauge(recorder, &[]),
            queue_bytes: QUEUE_BYTES.to_gauge(recorder, &[]),
            scheduled: SCHEDULED.to_gauge(recorder, &[]),
            fired_sent: fired("sent"),
            fired_expired: fired("expired"),
            fired_damaged: fired("damaged"),
            fire_delay: FIRE_DELAY.to_histogram(recorder, &[]),
            fire_retries: FIRE_RETRIES.to_counter(recorder, &[]),
            pruned_sent: pruned("sent"),
            pruned_answers: pruned("answers"),
            pruned_stats: pruned("stats"),
            outcome: OutcomeMetrics::new(recorder),
            stats_lost: STATS_LOST.to_counter(recorder, &[]),
        }
    }
}
