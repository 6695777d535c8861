//! Latency distributions of a phase.

use hdrhistogram::Histogram;

/// Nanoseconds, 1 µs to 1 h, three digits.
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3);
        Self(bounds.expect("the bounds are valid"))
    }

    /// Adds one, in nanoseconds.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// A quantile in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }

    /// The largest in milliseconds.
    pub(crate) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e6
    }

    /// The mean in milliseconds.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.0.mean() / 1e6
    }
}

/// All distributions of a phase; a new phase begins with a new one.
pub(crate) struct Timings {
    /// Sends before this one belong to an earlier phase.
    pub(crate) measure_from: u64,
    /// Push, from the moment the schedule wanted the send.
    pub(crate) push: Latency,
    /// Push, from the moment the request was written.
    pub(crate) push_sent: Latency,
    /// Push, from the moment the answer was read; only those that came after it.
    pub(crate) push_answer: Latency,
    /// Pushes that came before the answer.
    pub(crate) before_answer: u64,
    /// Answer, from the moment the request was written.
    pub(crate) post: Latency,
    /// Answer, from the moment the schedule wanted the send.
    pub(crate) post_scheduled: Latency,
    /// The last of a send's sockets has it, from the moment the request was written.
    pub(crate) complete: Latency,
    /// From `connect` (or the scheduled moment) to the 101.
    pub(crate) handshake: Latency,
    /// From the same to `welcome`, or to `sync_complete` where a backlog was asked for.
    pub(crate) ready: Latency,
}

impl Timings {
    pub(crate) fn new(measure_from: u64) -> Self {
        Self {
            measure_from,
            push: Latency::new(),
            push_sent: Latency::new(),
            push_answer: Latency::new(),
            before_answer: 0,
            post: Latency::new(),
            post_scheduled: Latency::new(),
            complete: Latency::new(),
            handshake: Latency::new(),
            ready: Latency::new(),
        }
    }
}
