//! Health and metrics on the admin port.
//!
//! `/health/live` says that the process turns, nothing else: a restart does not mend a full disk.
//! `/health/ready` says whether to send it work: the store has just proved a write, and the node is
//! not draining. Neither asks who is asking, so neither tells details; those are in the log.
//!
//! A bus that is away is said (`degraded`), but no reason to send work elsewhere: this node stores what it
//! is given and delivers to who is connected to it, and where the bus is away from all nodes an answer of
//! 503 from each of them would end the service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

mod docs;

use axum::{Json, extract::State, response::IntoResponse};
use delivery::{Store, api::doc::Endpoint, store::Health};
use http::{Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use crate::{bus::Bus, telemetry::Metrics};

/// Longest wait for the store's proof. Probes give up after a second or a few; a store that needs
/// longer for one small write is not ready for more.
const STORE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Prometheus's text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What health is judged by.
#[derive(Clone)]
pub struct HealthState {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    draining: Arc<AtomicBool>,
    metrics: Metrics,
    was_ready: Arc<AtomicBool>,
}

impl HealthState {
    /// Judges by this store, bus and flag; `/metrics` shows these metrics.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        draining: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Self {
        Self { store, bus, draining, metrics, was_ready: Arc::new(AtomicBool::new(true)) }
    }

    async fn check(&self) -> Report {
        let store = match timeout(STORE_CHECK_TIMEOUT, self.store.health()).await {
            Ok(Health::Writable) => Ok(()),
            Ok(Health::NotWritable(why)) => Err(why),
            Err(_) => Err(format!("no answer within {STORE_CHECK_TIMEOUT:?}")),
        };
        let draining = self.draining.load(Ordering::Acquire);
        let ready = store.is_ok() && !draining;
        // A probe comes every few seconds: only a change is news.
        if self.was_ready.swap(ready, Ordering::AcqRel) != ready {
            match &store {
                _ if ready => tracing::info!("ready again"),
                Ok(()) => tracing::info!("not ready: draining"),
                Err(why) => {
                    tracing::error!(target: "error", why, "not ready: the store cannot write")
                }
            }
        }
        let bus = self.bus.state();
        Report {
            status: match (ready, bus.is_well()) {
                (true, true) => "ready",
                (true, false) => "degraded",
                (false, _) => "not_ready",
            },
            checks: Checks {
                store: if store.is_ok() { "ok" } else { "failing" },
                bus: bus.label(),
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
    /// Why.
    checks: Checks,
}

/// What readiness is made of.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReadinessChecks")]
struct Checks {
    /// Whether the store has just proved a write: `ok` or `failing`.
    store: &'static str,
    /// The way to other nodes: `alone` where there are none, `up`, `connecting`, `doubtful`, `down`.
    bus: &'static str,
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

const NEVER_CACHED: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

async fn live() -> impl IntoResponse {
    ([NEVER_CACHED], Json(Alive { status: "live" }))
}

async fn ready(State(state): State<HealthState>) -> impl IntoResponse {
    let report = state.check().await;
    let status =
        if report.status == "not_ready" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [NEVER_CACHED], Json(report))
}

async fn metrics(State(state): State<HealthState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE), NEVER_CACHED], state.metrics.render())
}
