//! How jobs do.

use metrics::{Counter, Gauge, Recorder};

use super::record::{Record, State};
use crate::metrics::Metric;

const JOBS: Metric = Metric::gauge(
    "pushhub_backup_jobs",
    "state",
    "Jobs of this node: queued, running, done, failed, expired.",
);
const KEPT: Metric =
    Metric::gauge("pushhub_backup_jobs_kept_bytes", "", "Bytes of files of jobs that are kept.");
const OVER: Metric = Metric::counter(
    "pushhub_backup_jobs_total",
    "result",
    "Jobs: done, failed, or refused because of a limit.",
);

/// Every metric of jobs.
pub const ALL: &[Metric] = &[JOBS, KEPT, OVER];

const STATES: [State; 5] =
    [State::Queued, State::Running, State::Done, State::Failed, State::Expired];

pub(super) struct JobMetrics {
    by_state: [Gauge; STATES.len()],
    kept: Gauge,
    pub(super) done: Counter,
    pub(super) failed: Counter,
    pub(super) refused: Counter,
}

impl JobMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let over = |result| OVER.to_counter(recorder, &[("result", result)]);
        Self {
            by_state: STATES.map(|state| JOBS.to_gauge(recorder, &[("state", state.word())])),
            kept: KEPT.to_gauge(recorder, &[]),
            done: over("done"),
            failed: over("failed"),
            refused: over("refused"),
        }
    }

    /// How all jobs stand.
    pub(super) fn show(&self, jobs: impl Iterator<Item = Record>) {
        let mut counts = [0_u32; STATES.len()];
        let mut bytes = 0;
        for record in jobs {
            let of = STATES.iter().position(|state| *state == record.state);
            counts[of.expect("all states are there")] += 1;
            bytes += record.bytes.filter(|_| record.state == State::Done).unwrap_or_default();
        }
        for (gauge, count) in self.by_state.iter().zip(counts) {
            gauge.set(f64::from(count));
        }
        self.kept.set(bytes as f64);
    }
}
