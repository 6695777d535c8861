//! What is counted about logins elsewhere.

use metrics::{Counter, Histogram, Recorder};

use super::{ADMIN, BUILT_IN, ProviderError};
use crate::metrics::Metric;

const LOGINS: Metric = Metric::counter(
    "pushhub_logins_total",
    "provider,result",
    "Logins by provider (`custom`: all that are not built in; `admin`: that of admins): begun; done; linked to a user; refused because of \
     their state (used, too old, another browser's) or their one-time code; busy; failed here; or what went \
     wrong at the provider.",
);

const EXCHANGE: Metric = Metric::histogram(
    "pushhub_login_provider_seconds",
    "provider",
    "How long a provider took to say whom a login is of, all calls together.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[LOGINS, EXCHANGE];

/// What a provider counts as that is not built in.
const CUSTOM: &str = "custom";

/// What became of a login, beside [`ProviderError::LABELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Begun,
    Done,
    Linked,
    State,
    Code,
    Busy,
    Failed,
}

const CAME: [(Came, &str); 7] = [
    (Came::Begun, "begun"),
    (Came::Done, "done"),
    (Came::Linked, "linked"),
    (Came::State, "state"),
    (Came::Code, "code"),
    (Came::Busy, "busy"),
    (Came::Failed, "failed"),
];

struct OfProvider {
    came: [Counter; CAME.len()],
    went_wrong: [Counter; ProviderError::LABELS.len()],
    took: Histogram,
}

/// Counts by provider.
pub(super) struct LoginMetrics(Vec<(&'static str, OfProvider)>);

impl LoginMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let of = |provider: &'static str| {
            let counter =
                |result| LOGINS.to_counter(recorder, &[("provider", provider), ("result", result)]);
            let counters = OfProvider {
                came: CAME.map(|(_, label)| counter(label)),
                went_wrong: ProviderError::LABELS.map(counter),
                took: EXCHANGE.to_histogram(recorder, &[("provider", provider)]),
            };
            (provider, counters)
        };
        Self(BUILT_IN.into_iter().chain([ADMIN, CUSTOM]).map(of).collect())
    }

    fn of(&self, provider: &str) -> &OfProvider {
        let known = self.0.iter().find(|(name, _)| *name == provider);
        let (_, counters) = known.or(self.0.last()).expect("custom is always there");
        counters
    }

    pub(super) fn count(&self, provider: &str, came: Came) {
        let index = CAME.iter().position(|(known, _)| *known == came);
        self.of(provider).came[index.expect("CAME has all")].increment(1);
    }

    pub(super) fn went_wrong(&self, provider: &str, error: &ProviderError) {
        let index = ProviderError::LABELS.iter().position(|label| *label == error.label());
        self.of(provider).went_wrong[index.expect("LABELS has all")].increment(1);
    }

    pub(super) fn took(&self, provider: &str, seconds: f64) {
        self.of(provider).took.record(seconds);
    }
}
