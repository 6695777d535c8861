//! How runs do.

use std::time::Duration;

use metrics::{Counter, Gauge, Recorder};

use super::record::RunRecord;
use crate::metrics::Metric;

const RUNS: Metric = Metric::counter(
    "pushhub_backup_runs_total",
    "result",
    "Backups of everybody that this node made (done) or could not make (failed).",
);
const RUNNING: Metric = Metric::gauge(
    "pushhub_backup_run_running",
    "",
    "Whether this node makes a backup of everybody now.",
);
const SUCCESS: Metric = Metric::gauge(
    "pushhub_backup_run_success_timestamp_seconds",
    "",
    "When the latest backup of everybody that is kept was whole, by whichever node; 0 where none is known.",
);
const SECONDS: Metric = Metric::gauge(
    "pushhub_backup_run_seconds",
    "",
    "How long the latest one took that this node made.",
);
const BYTES: Metric =
    Metric::gauge("pushhub_backup_run_bytes", "", "How large the latest one is that is kept.");
const KEPT: Metric = Metric::gauge("pushhub_backup_runs_kept", "", "How many are kept.");
const INBOXES: Metric = Metric::counter(
    "pushhub_backup_run_inboxes_total",
    "result",
    "Inboxes that were looked at for them: written, unchanged since the one before, or failed because their files are damaged.",
);

/// Every metric of runs.
pub const ALL: &[Metric] = &[RUNS, RUNNING, SUCCESS, SECONDS, BYTES, KEPT, INBOXES];

pub(super) struct RunMetrics {
    pub(super) done: Counter,
    pub(super) failed: Counter,
    pub(super) running: Gauge,
    pub(super) written: Counter,
    pub(super) unchanged: Counter,
    pub(super) damaged: Counter,
    success: Gauge,
    seconds: Gauge,
    bytes: Gauge,
    kept: Gauge,
}

impl RunMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let runs = |result| RUNS.to_counter(recorder, &[("result", result)]);
        let inboxes = |result| INBOXES.to_counter(recorder, &[("result", result)]);
        Self {
            done: runs("done"),
            failed: runs("failed"),
            running: RUNNING.to_gauge(recorder, &[]),
            written: inboxes("written"),
            unchanged: inboxes("unchanged"),
            damaged: inboxes("failed"),
            success: SUCCESS.to_gauge(recorder, &[]),
            seconds: SECONDS.to_gauge(recorder, &[]),
            bytes: BYTES.to_gauge(recorder, &[]),
            kept: KEPT.to_gauge(recorder, &[]),
        }
    }

    /// All that are kept, in the order of time.
    pub(super) fn show(&self, kept: &[RunRecord]) {
        self.kept.set(kept.len() as f64);
        if let Some(latest) = kept.last() {
            self.success.set(latest.finished_at.millis() as f64 / 1_000.0);
            self.bytes.set(latest.bytes as f64);
        }
    }

    pub(super) fn took(&self, time: Duration) {
        self.seconds.set(time.as_secs_f64());
    }
}
