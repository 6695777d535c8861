//! What is counted of messages after they were sent, in whichever store.

use std::time::Duration;

use ::metrics::{Counter, Histogram, Recorder};

use crate::metrics::Metric;

const DELIVERED: Metric = Metric::counter(
    "pushhub_messages_delivered_total",
    "",
    "Messages that reached a first device of a recipient.",
);
const READ: Metric = Metric::counter(
    "pushhub_messages_read_total",
    "",
    "Messages that a recipient read; once for each recipient.",
);
const READ_SECONDS: Metric = Metric::histogram(
    "pushhub_messages_read_delay_seconds",
    "",
    "From a message being sent to a recipient having read it.",
);
/// Every metric of this area.
pub const ALL: &[Metric] = &[DELIVERED, READ, READ_SECONDS];

pub(crate) struct OutcomeMetrics {
    delivered: Counter,
    read: Counter,
    read_seconds: Histogram,
}

impl OutcomeMetrics {
    pub(crate) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            delivered: DELIVERED.to_counter(recorder, &[]),
            read: READ.to_counter(recorder, &[]),
            read_seconds: READ_SECONDS.to_histogram(recorder, &[]),
        }
    }

    /// Some reached a first device.
    pub(crate) fn delivered(&self, count: u64) {
        self.delivered.increment(count);
    }

    /// Some were read, after so long on average.
    pub(crate) fn read(&self, count: u64, after: Duration) {
        self.read.increment(count);
        self.read_seconds
            .record_many(after.as_secs_f64(), usize::try_from(count).unwrap_or(usize::MAX));
    }
}
