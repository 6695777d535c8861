//! What is counted about requests and sends.

use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Recorder};
use protocol::ErrorType;
use rustc_hash::FxHashMap;

use super::export;
use crate::metrics::Metric;

const REQUEST_DURATION: Metric = Metric::histogram(
    "pushhub_http_request_duration_seconds",
    "method,route,status",
    "From the request's head to the answer, by the route that matched and the class of the status.",
);

const ACCEPTED: Metric = Metric::counter(
    "pushhub_messages_accepted_total",
    "kind,source",
    "Messages that were stored durably, by the call they came in and who sent them.",
);

const REJECTED: Metric = Metric::counter(
    "pushhub_messages_rejected_total",
    "reason",
    "Messages that were refused, by error type; a batch counts each of its messages.",
);

const PANICS: Metric = Metric::counter(
    "pushhub_http_panics_total",
    "",
    "Requests whose handler panicked. Anything but 0 is a bug.",
);

const KEYED: Metric = Metric::counter(
    "pushhub_idempotency_requests_total",
    "result",
    "Requests with an Idempotency-Key: run (first), answered as before (replayed), refused because the key was used for another request (mismatch), because one with it ran (in_progress) or because too many ran (full).",
);

const KEYS_RUNNING: Metric = Metric::gauge(
    "pushhub_idempotency_running",
    "",
    "Requests with an Idempotency-Key that run now.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[
    REQUEST_DURATION,
    ACCEPTED,
    REJECTED,
    PANICS,
    KEYED,
    KEYS_RUNNING,
    export::RUNNING,
    export::EXPORTS,
];

/// What became of a request with an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyResult {
    First,
    Replayed,
    Mismatch,
    InProgress,
    Full,
}

const KEY_RESULTS: [&str; 5] = ["first", "replayed", "mismatch", "in_progress", "full"];

/// Of requests with an `Idempotency-Key`.
pub(crate) struct KeyMetrics {
    results: [Counter; KEY_RESULTS.len()],
    running: Gauge,
}

impl KeyMetrics {
    pub(crate) fn new(recorder: &dyn Recorder) -> Self {
        Self {
            results: KEY_RESULTS.map(|result| KEYED.to_counter(recorder, &[("result", result)])),
            running: KEYS_RUNNING.to_gauge(recorder, &[]),
        }
    }

    pub(crate) fn count(&self, result: KeyResult) {
        self.results[result as usize].increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(crate) fn running(&self, count: usize) {
        self.running.set(count as f64);
    }
}

/// The call a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendKind {
    Send,
    Batch,
    Template,
}

const KINDS: [&str; 3] = ["send", "batch", "template"];
const SOURCES: [&str; 3] = ["user", "service", "admin"];

/// Classes, not codes: every route with every code would be thousands of series. The rejected
/// counter and the access log have the code.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

type Classes = [Histogram; CLASSES.len()];

/// The route label of a request that matched no route, or a route's wrong method.
const UNMATCHED: &str = "unmatched";

pub(crate) struct ApiMetrics {
    routes: FxHashMap<&'static str, Vec<(Method, Classes)>>,
    unmatched: Classes,
    accepted: [[Counter; SOURCES.len()]; KINDS.len()],
    rejected: Vec<(ErrorType, Counter)>,
    pub(crate) panics: Counter,
}

impl ApiMetrics {
    /// Registers every series, so that the first error is seen by `rate()`.
    pub(crate) fn new(recorder: &dyn Recorder, endpoints: &[(Method, &'static str)]) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let classes = |method: &'static str, route: &'static str| {
            CLASSES.map(|class| {
                let labels = [("method", method), ("route", route), ("status", class)];
                REQUEST_DURATION.to_histogram(recorder, &labels)
            })
        };
        let mut routes: FxHashMap<&'static str, Vec<(Method, Classes)>> = FxHashMap::default();
        for (method, route) in endpoints {
            let times = classes(method_label(method), route);
            routes.entry(route).or_default().push((method.clone(), times));
        }
        Self {
            routes,
            unmatched: classes("other", UNMATCHED),
            accepted: KINDS.map(|kind| {
                SOURCES.map(|source| {
                    ACCEPTED.to_counter(recorder, &[("kind", kind), ("source", source)])
                })
            }),
            rejected: ErrorType::ALL
                .iter()
                .map(|&kind| (kind, REJECTED.to_counter(recorder, &[("reason", kind.slug())])))
                .collect(),
            panics: PANICS.to_counter(recorder, &[]),
        }
    }

    /// Records an answered request.
    pub(crate) fn answered(
        &self,
        method: &Method,
        route: Option<&str>,
        status: StatusCode,
        took: Duration,
    ) {
        // HEAD is answered by the handler of GET.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let classes = route
            .and_then(|route| self.routes.get(route))
            .and_then(|methods| methods.iter().find(|(known, _)| known == method))
            .map_or(&self.unmatched, |(_, classes)| classes);
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        classes[class].record(took);
    }

    pub(crate) fn accepted(&self, kind: SendKind, source: &str, count: u64) {
        let source = SOURCES.iter().position(|known| *known == source);
        let source = source.expect("SOURCES has every kind of caller");
        self.accepted[kind as usize][source].increment(count);
    }

    pub(crate) fn rejected(&self, reason: ErrorType) {
        if let Some((_, counter)) = self.rejected.iter().find(|(kind, _)| *kind == reason) {
            counter.increment(1);
        }
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
