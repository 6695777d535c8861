//! What is counted of it.

use metrics::{Counter, Histogram, Recorder};

use super::ContentError;
use crate::metrics::Metric;

const ERRORS: Metric = Metric::counter(
    "pushhub_content_errors_total",
    "reason",
    "Messages whose encrypted content could not be opened, by why: a missing key, another key or changed content (refused).",
);
const SCANS: Metric = Metric::histogram(
    "pushhub_content_scan_seconds",
    "",
    "Searches that read and open an inbox, which they do where content is encrypted.",
);
const BUSY: Metric = Metric::counter(
    "pushhub_content_scans_refused_total",
    "",
    "Searches of encrypted content that were refused: too many at once, or the inbox was too large for the time.",
);

/// Every metric of this area.
pub const METRICS: &[Metric] = &[ERRORS, SCANS, BUSY];

/// Handles.
pub(super) struct ContentMetrics {
    missing: Counter,
    refused: Counter,
    pub(super) scans: Histogram,
    pub(super) busy: Counter,
}

impl ContentMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in METRICS {
            metric.describe(recorder);
        }
        let reason = |reason| ERRORS.to_counter(recorder, &[("reason", reason)]);
        Self {
            missing: reason("missing"),
            refused: reason("refused"),
            scans: SCANS.to_histogram(recorder, &[]),
            busy: BUSY.to_counter(recorder, &[]),
        }
    }

    /// Counts an error and says it, with the key's name.
    pub(super) fn note(&self, error: &ContentError) {
        match error {
            ContentError::Missing { .. } => self.missing.increment(1),
            ContentError::Refused { .. }
            | ContentError::NoMessage { .. }
            | ContentError::Random => self.refused.increment(1),
        }
        tracing::error!(error = error as &dyn std::error::Error, "content cannot be read");
    }
}
