//! Counts of the accept loop.

use delivery::metrics::Metric;
use metrics::{Counter, Gauge, Recorder};

use super::refusal::Refusal;

const CONNECTIONS: Metric = Metric::gauge(
    "pushhub_http_connections",
    "listener",
    "Open HTTP connections, sockets not counted.",
);
const ACCEPTED: Metric = Metric::counter(
    "pushhub_http_connections_accepted_total",
    "listener",
    "Accepted TCP connections.",
);
const ACCEPT_ERRORS: Metric = Metric::counter(
    "pushhub_http_accept_errors_total",
    "listener",
    "Accepts that failed, mostly for want of descriptors.",
);
const TIMEOUTS: Metric = Metric::counter(
    "pushhub_http_header_timeouts_total",
    "listener",
    "Connections closed because a request's head did not arrive in time.",
);
const IDLE: Metric = Metric::counter(
    "pushhub_http_idle_timeouts_total",
    "listener",
    "Connections closed because they had rested for HTTP_IDLE_TIMEOUT.",
);
const REFUSED: Metric = Metric::counter(
    "pushhub_http_refused_total",
    "listener,reason",
    "Requests and connections refused before a handler saw them.",
);

/// The metrics of this area.
pub const ALL: &[Metric] = &[CONNECTIONS, ACCEPTED, ACCEPT_ERRORS, TIMEOUTS, IDLE, REFUSED];

/// Which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// REST and sockets.
    User,
    /// Health, metrics, administration.
    Admin,
}

impl Listener {
    /// A metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Handles of one port.
pub struct HttpMetrics {
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
    pub(super) timeouts: Counter,
    pub(super) idle: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl HttpMetrics {
    /// Registers every series, so that each is there before its first event.
    #[must_use]
    pub fn new(recorder: &dyn Recorder, listener: Listener) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let port = [("listener", listener.label())];
        Self {
            connections: CONNECTIONS.to_gauge(recorder, &port),
            accepted: ACCEPTED.to_counter(recorder, &port),
            accept_errors: ACCEPT_ERRORS.to_counter(recorder, &port),
            timeouts: TIMEOUTS.to_counter(recorder, &port),
            idle: IDLE.to_counter(recorder, &port),
            refused: Refusal::ALL.map(|refusal| {
                REFUSED.to_counter(recorder, &[port[0], ("reason", refusal.label())])
            }),
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        let index = Refusal::ALL.iter().position(|other| *other == refusal);
        self.refused[index.expect("Refusal::ALL has every refusal")].increment(1);
    }
}
