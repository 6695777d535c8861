//! What went out and waits for the device's `ack`, to measure how long that takes.

use std::time::Instant;

use metrics::Histogram;
use protocol::Seq;
use smallvec::SmallVec;

/// Most changes of one connection that are measured at a time; 24 bytes each. While so many wait, what goes out
/// besides is not measured: of a burst the first ones are, and of a device that never confirms the first ones for
/// ever. More would say nothing else, a client confirms a page or a burst at once.
pub(super) const UNACKED_MAX: usize = 16;

type Waiting = SmallVec<[(Seq, Instant); UNACKED_MAX]>;

/// See the module's doc. It has no memory of its own while nothing waits, which is nearly always.
#[derive(Default)]
pub(super) struct Unacked(Option<Box<Waiting>>);

impl Unacked {
    /// A change is out, which the store was asked for then.
    pub(super) fn wrote(&mut self, seq: Seq, accepted: Instant) {
        let waiting = self.0.get_or_insert_default();
        if waiting.len() < UNACKED_MAX {
            waiting.push((seq, accepted));
        }
    }

    /// Everything up to here has arrived.
    pub(super) fn acked(&mut self, seq: Seq, now: Instant, into: &Histogram) {
        let Some(waiting) = self.0.as_mut() else { return };
        waiting.retain(|(at, accepted)| {
            let waits = *at > seq;
            if !waits {
                into.record(now.saturating_duration_since(*accepted));
            }
            waits
        });
        if waiting.is_empty() {
            self.0 = None;
        }
    }

    /// The client starts again from another position: what it confirms from now on it may have got twice.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use delivery::metrics::Metric;

    use super::*;

    const TEST: Metric = Metric::histogram("pushhub_test_seconds", "", "A test.");

    #[test]
    fn an_ack_counts_what_it_covers_once_and_nothing_grows() {
        let metrics = crate::telemetry::Metrics::new().unwrap();
        let into = TEST.to_histogram(&*metrics.recorder(), &[]);
        let count = || {
            let text = metrics.render();
            let line =
                text.lines().find_map(|line| line.strip_prefix("pushhub_test_seconds_count "));
            line.map_or(0, |count| count.parse::<u64>().unwrap())
        };
        let began = Instant::now();
        let mut unacked = Unacked::default();
        for seq in 1..=3 {
            unacked.wrote(Seq(seq), began);
        }
        let later = began + Duration::from_millis(20);
        unacked.acked(Seq(2), later, &into);
        assert_eq!(count(), 2);
        unacked.acked(Seq(2), later, &into);
        assert_eq!(count(), 2, "once");
        unacked.acked(Seq(9), later, &into);
        assert_eq!(count(), 3);
        assert!(unacked.0.is_none(), "nothing is kept");
        let max = u64::try_from(UNACKED_MAX).unwrap();
        for seq in 1..=max + 100 {
            unacked.wrote(Seq(seq), began);
        }
        unacked.acked(Seq(max + 100), later, &into);
        assert_eq!(count(), 3 + max, "the first ones of a burst");
        unacked.wrote(Seq(7), later);
        unacked.acked(Seq(7), began, &into);
        assert!(
            metrics.render().contains("pushhub_test_seconds_bucket{le=\"0.0005\"} 1"),
            "never negative"
        );
    }
}
