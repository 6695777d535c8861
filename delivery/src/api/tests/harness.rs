//! An API to call, and what it counted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;
use protocol::{
    DeviceId, FieldProblem, TenantId, UserId,
    envelope::{Then, Which},
};
use serde_json::Value;
use tower::ServiceExt;

use super::store::TestStore;
use crate::{
    InboxKey,
    account::{AccountConfig, Accounts, RefreshKey},
    api::{ApiConfig, ApiParts, ApiState, admin_routes, user_routes},
    backup::{Area, AreaConfig, Backups, Home, Jobs, JobsConfig, LinkKey, Runs, RunsConfig},
    connections::{Connections, Found, NodeReport, TooManyAsk},
    control::{Control, LiveTexts, NewService},
    identity::{Identity, IdentityConfig, MintRequest},
    limit::{LimitConfig, Limiter},
    outbound::Outbound,
    provider::ProvidersConfig,
    settings::{AllSettings, Settings},
    store::{BoxFuture, Keeping, Retention},
    tail::Tail,
    webhook::{WebhookConfig, Webhooks},
};

pub(super) const ADMIN_TOKEN: &str = "the-admin-token";

/// Counters and histograms (how often they were used) by name and labels.
#[derive(Default)]
pub(super) struct Counts(Mutex<HashMap<String, Arc<AtomicU64>>>);

struct Uses(Arc<AtomicU64>);

impl HistogramFn for Uses {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().entry(name).or_default())
    }

    /// A series that must be registered.
    pub(super) fn of(&self, series: &str) -> u64 {
        let known = self.0.lock();
        let cell = known.get(series).unwrap_or_else(|| panic!("no series {series}"));
        cell.load(Ordering::Relaxed)
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Uses(self.cell(key))))
    }
}

pub(super) struct Api {
    users: Router,
    admins: Router,
    pub(super) store: Arc<TestStore>,
    pub(super) identity: Arc<Identity>,
    pub(super) control: Arc<Control>,
    pub(super) counts: Counts,
    pub(super) draining: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
    pub(super) body: Value,
}

impl Answer {
    /// The data of a success.
    #[track_caller]
    pub(super) fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.body["code"], 200);
        assert_eq!(self.body["message"], "success");
        assert!(self.headers.contains_key("x-request-id"));
        &self.body["data"]
    }

    /// Checks the envelope of a failure and gives its error.
    #[track_caller]
    pub(super) fn error(&self, status: u16, kind: &str) -> &Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["code"], status);
        assert!(!self.body["message"].as_str().unwrap().is_empty());
        let error = &self.body["error"];
        assert_eq!(error["type"], kind);
        assert_eq!(error["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert!(error["fields"].is_array());
        assert!(self.body.as_object().unwrap().contains_key("data"));
        error
    }

    /// The paths of a 422.
    #[track_caller]
    pub(super) fn fields(&self) -> Vec<&str> {
        let fields = self.error(422, "invalid")["fields"].as_array().unwrap();
        fields.iter().map(|field| field["path"].as_str().unwrap()).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Api {
    pub(super) fn new() -> Self {
        Self::with_body_timeout(Duration::from_secs(10))
    }

    pub(super) fn with_body_timeout(body_timeout: Duration) -> Self {
        Self::with(body_timeout, LimitConfig::default())
    }

    pub(super) fn with_limits(limits: LimitConfig) -> Self {
        Self::with(Duration::from_secs(10), limits)
    }

    fn with(body_timeout: Duration, limits: LimitConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        let config = IdentityConfig {
            jwt_secret: "a secret of at least thirty-two bytes, for tests".into(),
            issuer: "message-service".to_owned(),
            audience: vec!["client-app".to_owned()],
            admin_token: ADMIN_TOKEN.into(),
            access_ttl: Duration::from_secs(60),
        };
        let identity = Arc::new(Identity::new(config, Arc::clone(&control)));
        let accounts = AccountConfig {
            refresh_ttl: Duration::from_secs(600),
            refresh_key: RefreshKey([7; 32]),
        };
        let accounts =
            Accounts::open(Arc::clone(&control), Arc::clone(&identity), accounts).unwrap();
        let store = TestStore::open();
        let draining = Arc::new(AtomicBool::new(false));
        let counts = Counts::default();
        let webhooks =
            Webhooks::open(dir.path(), WebhookConfig::default(), Arc::clone(&control), &counts);
        let path = dir.path().join("backups");
        let area = Area::new(
            AreaConfig { path: path.clone(), bytes_max: 1 << 30, content: Arc::default() },
            &counts,
        );
        let runs = RunsConfig {
            path: path.clone(),
            bucket: None,
            schedule: None,
            full_every: Duration::from_secs(60),
            keep: crate::backup::Keep::default(),
        };
        let home = Home::Folder(dir.path().to_owned());
        let runs = Runs::new(runs, home, Arc::clone(&area), None, &counts).unwrap();
        let jobs = JobsConfig {
            path,
            kept: Duration::from_secs(60),
            bytes_max: 1 << 30,
            link_key: LinkKey([7; 32]),
        };
        let jobs = Jobs::new(jobs, Arc::clone(&area), None, &counts);
        let backups = Backups { area, key: None, jobs, runs };
        let parts = ApiParts {
            store: Arc::clone(&store) as Arc<dyn crate::store::Storage>,
            identity: Arc::clone(&identity),
            control: Arc::clone(&control),
            accounts,
            providers: ProvidersConfig::default(),
            outbound: Outbound::new(&counts).unwrap(),
            webhooks: webhooks.unwrap(),
            limiter: Arc::new(Limiter::new(limits, &counts)),
            backups,
            config: ApiConfig { body_timeout },
            draining: Arc::clone(&draining),
            connections: Arc::new(Nobody),
            spans: crate::spans::Spans::default(),
            tail: Tail::new(&counts),
            settings: Arc::new(NoSettings),
            keeping: Arc::new(Keeping::new(Retention::default(), Duration::MAX, None)),
        };
        let state = ApiState::new(parts, &counts);
        Self {
            users: user_routes(state.clone(), &[]),
            admins: admin_routes(state, &[]),
            store,
            identity,
            control,
            counts,
            draining,
            _dir: dir,
        }
    }

    pub(super) fn user(&self, name: &str, roles: &[&str]) -> String {
        self.user_with(name, |request| {
            request.roles = roles.iter().map(|&role| role.to_owned()).collect();
        })
    }

    pub(super) fn user_of(&self, tenant: &str, name: &str, roles: &[&str]) -> String {
        self.user_with(name, |request| {
            request.tenant = Some(TenantId::new(tenant).unwrap());
            request.roles = roles.iter().map(|&role| role.to_owned()).collect();
        })
    }

    pub(super) fn user_with(&self, name: &str, change: impl FnOnce(&mut MintRequest)) -> String {
        let mut request = MintRequest {
            device: Some(DeviceId::new("token-device").unwrap()),
            ..MintRequest::new(UserId::new(name).unwrap())
        };
        change(&mut request);
        format!("Bearer {}", self.identity.mint(&request))
    }

    pub(super) fn service(&self, new: NewService) -> String {
        let (_, key) = self.control.create_service(new).unwrap();
        format!("Service {}", key.expose())
    }

    pub(super) fn inbox(user: &str) -> InboxKey {
        InboxKey::new(protocol::TenantId::default(), UserId::new(user).unwrap())
    }

    /// An answer that may not be an envelope.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let router = if request.uri().path().contains("/admin/") {
            self.admins.clone()
        } else {
            self.users.clone()
        };
        router.oneshot(request).await.unwrap()
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.answer(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let body = match parts.headers.get("content-type").map(|media| media.as_bytes()) {
            Some(b"application/json") => serde_json::from_slice(&bytes).unwrap(),
            Some(b"application/msgpack") => rmp_serde::from_slice(&bytes).unwrap(),
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&bytes)),
        };
        Answer { status: parts.status, headers: parts.headers, bytes, body }
    }

    pub(super) async fn get(&self, caller: &str, path: &str) -> Answer {
        self.call(request("GET", caller, path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn delete(&self, caller: &str, path: &str) -> Answer {
        self.call(request("DELETE", caller, path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn put(&self, caller: &str, path: &str, body: Value) -> Answer {
        let request = request("PUT", caller, path).header("content-type", "application/json");
        self.call(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(super) async fn post(&self, caller: &str, path: &str, body: Value) -> Answer {
        let request = request("POST", caller, path).header("content-type", "application/json");
        self.call(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

/// A request of a caller on this machine; an empty caller is nobody.
pub(super) fn request(method: &str, caller: &str, path: &str) -> http::request::Builder {
    let path = if path.starts_with("/api") { path.to_owned() } else { format!("/api/v3{path}") };
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711)));
    let request = Request::builder().method(method).uri(path).extension(peer);
    if caller.is_empty() { request } else { request.header("authorization", caller) }
}

/// There are none, and none can change.
struct NoSettings;

impl Settings for NoSettings {
    fn in_force(&self) -> (u64, AllSettings) {
        Default::default()
    }

    fn with(&self, live: &LiveTexts) -> Result<AllSettings, Vec<FieldProblem>> {
        let problem = |name: &String| FieldProblem {
            path: format!("set.{name}"),
            problem: "is no setting".to_owned(),
        };
        if live.is_empty() {
            Ok(AllSettings::default())
        } else {
            Err(live.keys().map(problem).collect())
        }
    }

    fn saved(&self) {}
}

/// Nobody is connected, and there is no node.
struct Nobody;

impl Connections for Nobody {
    fn ask(&self, _: Which, _: Then) -> BoxFuture<'_, Result<Found, TooManyAsk>> {
        Box::pin(std::future::ready(Ok(Found::default())))
    }

    fn nodes(&self) -> Vec<NodeReport> {
        Vec::new()
    }
}
