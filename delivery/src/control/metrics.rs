//! What is counted about control data.

use metrics::{Counter, Recorder};

use crate::metrics::Metric;

const LOOKS: Metric = Metric::counter(
    "pushhub_control_looks_total",
    "result",
    "Looks for changes of services, keys, templates and quotas, one a second: ok, or failed (what was \
     last known stays in force).",
);

const REFUSED: Metric = Metric::counter(
    "pushhub_control_refused_total",
    "",
    "Questions and changes of services, keys, templates and quotas that were refused because too many \
     others waited for the database.",
);

const NOTES_DROPPED: Metric = Metric::counter(
    "pushhub_control_notes_dropped_total",
    "",
    "Notes of when keys were used that were dropped because too many waited to be written.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[LOOKS, REFUSED, NOTES_DROPPED];

pub(super) struct ControlMetrics {
    ok: Counter,
    failed: Counter,
    pub(super) refused: Counter,
    pub(super) notes_dropped: Counter,
}

impl ControlMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let looks = |result| LOOKS.to_counter(recorder, &[("result", result)]);
        Self {
            ok: looks("ok"),
            failed: looks("failed"),
            refused: REFUSED.to_counter(recorder, &[]),
            notes_dropped: NOTES_DROPPED.to_counter(recorder, &[]),
        }
    }

    pub(super) fn looked(&self, well: bool) {
        if well { &self.ok } else { &self.failed }.increment(1);
    }
}
