//! Health and metrics on the admin port.
//!
//! `/health/live` says that the process turns, nothing else: a restart does not mend a full disk.
//! `/health/ready` says whether to send it work: the store has just proved a write, and the node is
//! not draining. Neither asks who is asking, so neither tells details; those are in the log.
//!
//! A bus that is away is said (`degraded`), but no reason to send work elsewhere: this node stores what it
//! is given and delivers to who is connected to it, and where the bus is away from all nodes an answer of
//! 503 from each of them would end the service.
//!
//! While a node waits for its database at the start it is live and not ready.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

mod docs;

use ::metrics::Gauge;
use axum::{Json, extract, response::IntoResponse};
use delivery::{Store, api::doc::Endpoint, metrics::Metric, store::Health};
use http::{Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    bus::{Bus, State},
    config::Role,
    live::Live,
    telemetry::Metrics,
};

/// Longest wait for the store's proof. Probes give up after a second or a few; a store that needs
/// longer for one small write is not ready for more.
const STORE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Prometheus's text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const READY: Metric = Metric::gauge(
    "pushhub_ready",
    "",
    "1 while `/health/ready` says yes: the store has proved a write within the last seconds, and the node is not draining.",
);

/// The parameter of `/metrics` that picks some, as other exporters have it. May be given several times.
const NAMES: &str = "name[]";

/// The metrics of this area.
pub const METRICS: &[Metric] = &[READY];

/// How often readiness is judged without being asked, for [`READY`].
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// What health is judged by. Cheap to clone.
#[derive(Clone)]
pub struct HealthState(Arc<Inner>);

struct Inner {
    role: Role,
    /// None while the node is starting.
    opened: OnceLock<Opened>,
    draining: Arc<AtomicBool>,
    metrics: Metrics,
    was_ready: AtomicBool,
    ready: Gauge,
}

struct Opened {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    live: Arc<Live>,
}

impl HealthState {
    /// Judges a node that is starting; `/metrics` shows these metrics.
    #[must_use]
    pub fn new(role: Role, draining: Arc<AtomicBool>, metrics: Metrics) -> Self {
        let recorder = metrics.recorder();
        READY.describe(&*recorder);
        let ready = READY.to_gauge(&*recorder, &[]);
        ready.set(0.0);
        Self(Arc::new(Inner {
            role,
            opened: OnceLock::new(),
            draining,
            metrics,
            was_ready: AtomicBool::new(true),
            ready,
        }))
    }

    /// From now on judges by these. Only the first call counts.
    pub fn opened(&self, store: Arc<dyn Store>, bus: Arc<dyn Bus>, live: Arc<Live>) {
        // A second set could only be the same: there is one start.
        let _ = self.0.opened.set(Opened { store, bus, live });
    }

    /// Whether to send it work, and how it stands in a few words.
    pub async fn summary(&self) -> (bool, String) {
        let Report { status, checks, .. } = self.0.check().await;
        let words = match status {
            "ready" => "ready".to_owned(),
            "degraded" if checks.sockets == Some("full") => {
                "degraded: WS_MAX_CONNECTIONS is reached".to_owned()
            }
            "degraded" => format!("degraded: the way to other nodes is {}", checks.bus),
            _ if checks.draining => "draining".to_owned(),
            _ if checks.store != "ok" => "not ready: the store cannot write".to_owned(),
            _ => "not ready: WS_MAX_CONNECTIONS is reached".to_owned(),
        };
        (status != "not_ready", words)
    }

    /// Judges now and then, for ever, so that the metric is right where nobody probes.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.0.check().await;
        }
    }
}

impl Inner {
    async fn check(&self) -> Report {
        let (store, bus, unheard, sockets) = match self.opened.get() {
            None => (Err("it is not open yet".to_owned()), State::Connecting, false, None),
            Some(Opened { store, bus, live }) => {
                let store = match timeout(STORE_CHECK_TIMEOUT, store.health()).await {
                    Ok(Health::Writable) => Ok(()),
                    Ok(Health::NotWritable(why)) => Err(why),
                    Err(_) => Err(format!("no answer within {STORE_CHECK_TIMEOUT:?}")),
                };
                let sockets = self.role.holds_sockets().then(|| live.has_room());
                // Where the bus is away, that says it all.
                let state = bus.state();
                (store, state, state == State::Up && bus.unheard() > 0, sockets)
            }
        };
        let draining = self.draining.load(Ordering::Acquire);
        let full = sockets == Some(false);
        let ready = store.is_ok() && !draining && !(full && self.role == Role::Hub);
        self.ready.set(if ready { 1.0 } else { 0.0 });
        // A probe comes every few seconds: only a change is news. A node that waits for its database says
        // so elsewhere, once.
        if self.opened.get().is_some() && self.was_ready.swap(ready, Ordering::AcqRel) != ready {
            match &store {
                _ if ready => tracing::info!("ready again"),
                Ok(()) if draining => tracing::info!("not ready: draining"),
                Ok(()) => tracing::warn!("not ready: WS_MAX_CONNECTIONS is reached"),
                Err(why) => {
                    tracing::error!(target: "error", why, "not ready: the store cannot write");
                }
            }
        }
        Report {
            status: match (ready, bus.is_well() && !unheard && !full) {
                (true, true) => "ready",
                (true, false) => "degraded",
                (false, _) => "not_ready",
            },
            role: self.role.label(),
            checks: Checks {
                store: if store.is_ok() { "ok" } else { "failing" },
                bus: if unheard { "unheard" } else { bus.label() },
                sockets: sockets.map(|room| if room { "ok" } else { "full" }),
                draining,
            },
        }
    }
}

/// Whether the process turns.
#[derive(Serialize, JsonSchema)]
struct Alive {
    /// `live`.
    status: &'static str,
}

/// Whether to send it work.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
struct Report {
    /// `ready`, `degraded` (ready, while the way to other nodes is not well) or `not_ready`.
    status: &'static str,
    /// Which parts this process runs: `all`, `hub`, `delivery` or `admin`.
    role: &'static str,
    /// Why.
    checks: Checks,
}

/// What readiness is made of.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReadinessChecks")]
struct Checks {
    /// Whether the store has just proved a write: `ok` or `failing`.
    store: &'static str,
    /// The way to other nodes: `alone` where there are none, `up`, `connecting`, `doubtful`, `down`, or
    /// `unheard` where it is up, and yet nodes that use the same database are not heard.
    bus: &'static str,
    /// Whether there is room for another socket: `ok` or `full`; null where the role holds none. A node
    /// of the role `hub` that is full is not ready, for it has nothing else to do.
    sockets: Option<&'static str>,
    /// Whether the node sends its connections away.
    draining: bool,
}

/// `/health/live`, `/health/ready`, `/health` (the same as ready) and `/metrics`.
#[must_use]
pub fn endpoints() -> Vec<Endpoint<HealthState>> {
    let get = Method::GET;
    vec![
        Endpoint::new(get.clone(), "/health/live", "health_live", live, docs::live()),
        Endpoint::new(get.clone(), "/health/ready", "health_ready", ready, docs::ready()),
        Endpoint::new(get.clone(), "/health", "health", ready, docs::ready()),
        Endpoint::new(get, "/metrics", "metrics", metrics, docs::metrics()),
    ]
}

async fn live() -> impl IntoResponse {
    Json(Alive { status: "live" })
}

async fn ready(extract::State(state): extract::State<HealthState>) -> impl IntoResponse {
    let report = state.0.check().await;
    let status =
        if report.status == "not_ready" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report))
}

async fn metrics(
    extract::State(state): extract::State<HealthState>,
    extract::RawQuery(query): extract::RawQuery,
) -> impl IntoResponse {
    let asked = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let names: Vec<_> =
        asked.filter(|(name, _)| name == NAMES).map(|(_, value)| value.into_owned()).collect();
    let all = state.0.metrics.render();
    let text = if names.is_empty() { all } else { only(&all, &names) };
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text)
}

/// The metrics of these names out of a text of all: whoever looks every two seconds does not want a megabyte.
fn only(all: &str, names: &[String]) -> String {
    const PARTS: [&str; 4] = ["", "_bucket", "_sum", "_count"];
    let is_named = |line: &&str| {
        let sample = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let sample = sample.unwrap_or(line).split(['{', ' ']).next().unwrap_or_default();
        names.iter().any(|name| {
            sample.strip_prefix(name.as_str()).is_some_and(|rest| PARTS.contains(&rest))
        })
    };
    all.lines()
        .filter(|line| !line.is_empty())
        .filter(is_named)
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_brings_all_parts_of_its_metric_and_no_other() {
        let all = "# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 2\n\
                   a_seconds_sum 1.5\na_seconds_count 2\n\n# TYPE a_seconds_more counter\na_seconds_more 1\nb{x=\"a_seconds\"} 3\nb 4\n";
        let ask = |name: &str| only(all, &[name.to_owned()]).lines().count();
        assert_eq!((ask("a_seconds"), ask("b"), ask("a"), ask("")), (5, 2, 0, 0));
    }
}
