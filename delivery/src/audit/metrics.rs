//! How the audit log does.

use metrics::{Counter, Gauge, Recorder};

use crate::metrics::Metric;

const WRITTEN: Metric = Metric::counter(
    "pushhub_audit_entries_total",
    "",
    "Entries of the audit log that this node has written.",
);

const WAITING: Metric = Metric::gauge(
    "pushhub_audit_waiting",
    "",
    "Entries of the audit log that the database has not taken yet. At 1000 changes by admins are refused.",
);

/// All of them.
pub const ALL: &[Metric] = &[WRITTEN, WAITING];

pub(super) struct AuditMetrics {
    pub(super) written: Counter,
    pub(super) waiting: Gauge,
}

impl AuditMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            written: WRITTEN.to_counter(recorder, &[]),
            waiting: WAITING.to_gauge(recorder, &[]),
        }
    }
}
