//! Spans: what one request caused, where and how long, told to an OpenTelemetry collector.
//!
//! Off unless an endpoint is set (`OTEL_EXPORTER_OTLP_ENDPOINT`); then nothing is made and nothing is asked but one
//! `Option`. On, a trace is recorded where the sampler says so, by default where the caller's `traceparent` does
//! (W3C Trace Context, level 1) and for all without one. From there it goes with the work: by the task as far as
//! handlers go ([`current`]), with [`crate::store::Accepted`] through the store to the socket, and beside a change to
//! other nodes.
//!
//! | span | kind | from, to |
//! |---|---|---|
//! | `POST /api/v3/messages/send` | server | a request and its answer |
//! | `store append` | internal | the store is asked, the message is durable |
//! | `bus publish` | producer | a change is handed to the way to other nodes |
//! | `bus receive` | consumer | another node has heard it, and has written to its sockets |
//! | `socket write` | producer | the kernel takes a frame |
//!
//! **What is in them.** Method, route, status, tenant, request id, counts and durations. Never a body, a title, a token, a key
//! or a user: spans leave the cluster's walls.
//!
//! **Limits.** [`QUEUE_MAX`] finished spans wait, [`DELIVERY_SPANS_MAX`] spans of deliveries are made of one message on
//! a node. Names of messaging conventions are OpenTelemetry's, which are in development.

mod config;
mod export;
mod parent;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context,
    trace::{Span as _, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use protocol::TenantId;

pub use opentelemetry::{KeyValue, trace::SpanKind};

use self::export::{Counters, Export};
pub use self::{
    config::{Headers, NoHeaders, SamplerName, Sampling, SpansConfig},
    export::{ALL as METRICS, QUEUE_MAX},
    parent::{Carried, Parent},
};
use crate::outbound::{Outbound, OutboundError};

/// Most spans of deliveries (to other nodes, to sockets) that one message makes on one node. A message to ten thousand
/// users would else be a trace that no viewer opens; the first ones show the way.
pub const DELIVERY_SPANS_MAX: u32 = 32;

/// Makes spans, or is off. Cheap to clone.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<Recording>>);

struct Recording {
    tracer: SdkTracer,
    /// Ends the way to the collector when it is dropped.
    _provider: SdkTracerProvider,
    export: Export,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spans").field(&self.0.is_some()).finish()
    }
}

impl Spans {
    /// Records from now on, and tells it to the endpoint, on a task of the runtime it is called on; off without a
    /// configuration.
    ///
    /// # Errors
    /// [`OutboundError::Setup`].
    pub fn start(
        config: Option<SpansConfig>,
        recorder: &dyn ::metrics::Recorder,
    ) -> Result<Self, OutboundError> {
        // The series are there in either case.
        let counters = Counters::new(recorder);
        let Some(config) = config else { return Ok(Self(None)) };
        // Of its own: a collector that hangs must not take a place of a login's.
        let outbound = Outbound::new(recorder)?;
        // Nothing of it from the environment behind the settings' back.
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", config.service_name.clone()),
            KeyValue::new("service.version", config.version.clone()),
            KeyValue::new("service.instance.id", config.node.clone()),
            KeyValue::new("telemetry.sdk.name", "opentelemetry"),
            KeyValue::new("telemetry.sdk.language", "rust"),
        ]);
        let resource = resource.build();
        let sampler = config.sampling.sampler();
        let (queue, export) = Export::start(config, &resource, outbound, counters);
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("pushhub");
        Ok(Self(Some(Arc::new(Recording { tracer, _provider: provider, export }))))
    }

    /// A request has come; `name` is its method and route. None where nothing is recorded of it.
    #[must_use]
    pub fn server(
        &self,
        parent: Option<&Parent>,
        name: impl FnOnce() -> String,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Span> {
        let recording = self.0.as_ref()?;
        let around = parent.map_or_else(SpanContext::empty_context, Parent::context);
        let what = SpanBuilder::from_name(name())
            .with_kind(SpanKind::Server)
            .with_attributes(attributes());
        Span::begin(&recording.tracer, &around, what)
    }

    /// The trace of a change that another node has stored.
    #[must_use]
    pub fn carried(&self, carried: &Carried) -> Option<Arc<Traced>> {
        let recording = self.0.as_ref()?;
        Some(Traced::new(recording.tracer.clone(), carried.context()?))
    }

    /// Tells what is left, for a second at most, and ends.
    pub async fn finish(&self) {
        if let Some(recording) = &self.0 {
            recording.export.finish().await;
        }
    }
}

/// A trace that is recorded, at one of its spans.
#[derive(Debug)]
pub struct Traced {
    tracer: SdkTracer,
    context: SpanContext,
    /// Whose data it is about, once that is known.
    tenant: OnceLock<TenantId>,
    /// How many more spans of deliveries it makes here.
    left: AtomicU32,
}

impl Traced {
    fn new(tracer: SdkTracer, context: SpanContext) -> Arc<Self> {
        let left = AtomicU32::new(DELIVERY_SPANS_MAX);
        Arc::new(Self { tracer, context, tenant: OnceLock::new(), left })
    }

    /// As it goes to other nodes.
    #[must_use]
    pub fn carried(&self) -> Carried {
        Carried::of(&self.context)
    }

    /// Something that this span waits for.
    fn child(&self, name: &'static str, attributes: Vec<KeyValue>) -> Option<Span> {
        let what =
            SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_attributes(attributes);
        Span::begin(&self.tracer, &self.context, what)
    }

    /// One step of a delivery, which began then. None for those beyond [`DELIVERY_SPANS_MAX`].
    #[must_use]
    pub fn delivery(
        &self,
        name: &'static str,
        kind: SpanKind,
        began: Instant,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Span> {
        let take = |left: u32| left.checked_sub(1);
        self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let began = SystemTime::now().checked_sub(began.elapsed())?;
        let what = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(began)
            .with_attributes(attributes());
        Span::begin(&self.tracer, &self.context, what)
    }
}

/// A span that is recorded; it ends when it is dropped.
pub struct Span {
    inner: opentelemetry_sdk::trace::Span,
    traced: Arc<Traced>,
}

impl Span {
    fn begin(tracer: &SdkTracer, around: &SpanContext, what: SpanBuilder) -> Option<Self> {
        // A parent that is none would count as one that is not recorded.
        let around = match around.is_valid() {
            true => Context::new().with_remote_span_context(around.clone()),
            false => Context::new(),
        };
        let inner = tracer.build_with_context(what, &around);
        inner.is_recording().then(|| {
            let traced = Traced::new(tracer.clone(), inner.span_context().clone());
            Self { inner, traced }
        })
    }

    /// Its trace, from here on.
    #[must_use]
    pub const fn traced(&self) -> &Arc<Traced> {
        &self.traced
    }

    /// The trace's id, for log lines: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.traced.context.trace_id().to_string()
    }

    /// One more thing to say of it.
    pub fn set(&mut self, attribute: KeyValue) {
        self.inner.set_attribute(attribute);
    }

    /// It did not come to a good end.
    pub fn failed(&mut self) {
        self.inner.set_status(Status::error(""));
    }

    /// The answer of a server span; and whose data it was about, where that was found out.
    pub fn answered(&mut self, status: u16) {
        self.set(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.failed();
        }
        if let Some(tenant) = self.traced.tenant.get() {
            let tenant = KeyValue::new(TENANT, tenant.as_str().to_owned());
            self.set(tenant);
        }
    }
}

/// The attribute that says whose data it is about.
pub const TENANT: &str = "pushhub.tenant";

tokio::task_local! {
    /// Set only around what is recorded.
    static CURRENT: Arc<Traced>;
}

/// The trace that the running task works for; none where nothing is recorded.
#[must_use]
pub fn current() -> Option<Arc<Traced>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs something for a trace.
pub async fn scope<F: Future>(traced: Arc<Traced>, future: F) -> F::Output {
    CURRENT.scope(traced, future).await
}

/// Whose data the running request is about.
pub fn note_tenant(tenant: impl FnOnce() -> TenantId) {
    // Whoever is not traced pays a look at the task.
    let _ = CURRENT.try_with(|traced| drop(traced.tenant.set(tenant())));
}

/// Does something within a span of its own, where the running task is traced.
///
/// # Errors
/// Those of what is done.
pub async fn within<T, E>(
    name: &'static str,
    attributes: impl FnOnce() -> Vec<KeyValue>,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = current().and_then(|traced| traced.child(name, attributes()));
    let Some(mut span) = span else { return future.await };
    let result = CURRENT.scope(Arc::clone(span.traced()), future).await;
    if result.is_err() {
        span.failed();
    }
    result
}

#[cfg(test)]
mod tests;
