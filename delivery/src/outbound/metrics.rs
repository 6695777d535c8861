//! What is counted about calls to other programs.

use std::time::Duration;

use metrics::{Counter, Histogram, Recorder};

use super::OutboundError;
use crate::{metrics::Metric, words::words};

const CALLS: Metric = Metric::counter(
    "pushhub_outbound_calls_total",
    "purpose,outcome",
    "Calls to login providers, issuers of tokens and the collector of spans: answered, whatever the status, or why not.",
);
const SECONDS: Metric = Metric::histogram(
    "pushhub_outbound_call_seconds",
    "purpose",
    "Time of such a call, the wait for its turn included.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[CALLS, SECONDS];

words! {
    /// What a call is for.
    Purpose {
        /// The keys by which an issuer's tokens are checked.
        Keys = "keys",
        /// What an issuer says of itself.
        Discovery = "discovery",
        /// A login.
        Login = "login",
        /// Spans, to a collector.
        Traces = "traces",
    }
}

/// What can come of a call; [`OutboundError::label`] but for the ones that are made before or after it.
const OUTCOMES: [&str; 7] =
    ["answered", "busy", "timeout", "not_connected", "not_allowed", "broken", "too_long"];

struct OfPurpose {
    outcomes: [Counter; OUTCOMES.len()],
    seconds: Histogram,
}

pub(super) struct OutboundMetrics(Vec<OfPurpose>);

impl OutboundMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let of = |purpose: &Purpose| {
            let purpose = ("purpose", purpose.as_str());
            OfPurpose {
                outcomes: OUTCOMES
                    .map(|label| CALLS.to_counter(recorder, &[purpose, ("outcome", label)])),
                seconds: SECONDS.to_histogram(recorder, &[purpose]),
            }
        };
        Self(Purpose::ALL.iter().map(of).collect())
    }

    pub(super) fn called<T>(
        &self,
        purpose: Purpose,
        took: Duration,
        result: &Result<T, OutboundError>,
    ) {
        let label = result.as_ref().map_or_else(OutboundError::label, |_| OUTCOMES[0]);
        let of = &self.0[purpose as usize];
        of.seconds.record(took.as_secs_f64());
        if let Some(index) = OUTCOMES.iter().position(|outcome| *outcome == label) {
            of.outcomes[index].increment(1);
        }
    }
}
