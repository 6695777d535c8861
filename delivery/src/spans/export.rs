//! Finished spans on their way to the collector: OTLP over HTTP, protobuf.
//!
//! Whoever ends a span puts it into a queue and goes on; a task tells the collector, one call at a time. A collector
//! that is away, slow or refuses costs the spans of that time and nothing else: nothing is tried twice, because what
//! waits meanwhile would be dropped instead.

use std::time::Duration;

use metrics::{Counter, Recorder};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use parking_lot::Mutex;
use prost::Message;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::SpansConfig;
use crate::{
    metrics::Metric,
    outbound::{Call, Outbound, Purpose},
};

/// Most finished spans that wait, about a KiB each; what comes beyond is dropped and counted. OpenTelemetry's own
/// default (`OTEL_BSP_MAX_QUEUE_SIZE`): seconds of a busy node with a sampler that suits it.
pub const QUEUE_MAX: usize = 2_048;

/// Most spans of one call, OpenTelemetry's default (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`): some 200 KiB.
const BATCH_MAX: usize = 512;

/// Longest wait of a span for company. OpenTelemetry's default is five seconds; whoever looks for what they have just
/// done is glad of less, and a call a second is nothing.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Longest wait for the last spans when the node ends.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(1);

const SPANS: Metric = Metric::counter(
    "pushhub_spans_total",
    "result",
    "Spans that were recorded: exported, dropped because too many waited, or lost with a call to the \
     collector that failed.",
);
const EXPORTS: Metric = Metric::counter(
    "pushhub_spans_exports_total",
    "result",
    "Calls to the collector: ok, refused with another status than 2xx, or failed without an answer.",
);

/// The metrics of this area.
pub const ALL: &[Metric] = &[SPANS, EXPORTS];

/// Counted from the start, so that the series are there where tracing is off.
pub(super) struct Counters {
    exported: Counter,
    dropped: Counter,
    lost: Counter,
    ok: Counter,
    refused: Counter,
    failed: Counter,
}

impl Counters {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let spans = |result| SPANS.to_counter(recorder, &[("result", result)]);
        let exports = |result| EXPORTS.to_counter(recorder, &[("result", result)]);
        let counters = Self {
            exported: spans("exported"),
            dropped: spans("dropped"),
            lost: spans("lost"),
            ok: exports("ok"),
            refused: exports("refused"),
            failed: exports("failed"),
        };
        let Self { exported, dropped, lost, ok, refused, failed } = &counters;
        for counter in [exported, dropped, lost, ok, refused, failed] {
            counter.increment(0);
        }
        counters
    }
}

/// The way in.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Dropped,
}

struct Dropped(Counter);

impl std::fmt::Debug for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dropped")
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.0.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that tells the collector.
pub(super) struct Export {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Export {
    pub(super) fn start(
        config: SpansConfig,
        resource: &Resource,
        outbound: Outbound,
        counters: Counters,
    ) -> (Queue, Self) {
        let (spans, finished) = mpsc::channel(QUEUE_MAX);
        let queue = Queue { spans, dropped: Dropped(counters.dropped.clone()) };
        let stop = CancellationToken::new();
        let collector = Collector { config, resource: resource.into(), outbound, counters };
        let task = tokio::spawn(collector.run(finished, stop.clone()));
        (queue, Self { stop, task: Mutex::new(Some(task)) })
    }

    pub(super) async fn finish(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && timeout(LAST_SPANS_TIMEOUT, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Collector {
    config: SpansConfig,
    resource: ResourceAttributesWithSchema,
    outbound: Outbound,
    counters: Counters,
}

impl Collector {
    async fn run(self, mut finished: mpsc::Receiver<SpanData>, stop: CancellationToken) {
        let mut well = true;
        loop {
            let mut batch = Vec::new();
            let until = loop {
                tokio::select! {
                    count = finished.recv_many(&mut batch, BATCH_MAX) => match count {
                        0 => return,
                        _ => break Instant::now() + BATCH_WAIT,
                    },
                    // What is there is told, and nothing more is taken.
                    () = stop.cancelled(), if !finished.is_closed() => finished.close(),
                }
            };
            while batch.len() < BATCH_MAX && !finished.is_closed() {
                let room = BATCH_MAX - batch.len();
                tokio::select! {
                    more = timeout_at(until, finished.recv_many(&mut batch, room)) => match more {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => break,
                    },
                    () = stop.cancelled() => finished.close(),
                }
            }
            well = self.tell(batch, well).await;
        }
    }

    /// Answers whether it was taken.
    async fn tell(&self, batch: Vec<SpanData>, well: bool) -> bool {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let url = &self.config.url;
        let call = Call::post(Purpose::Traces, url, "application/x-protobuf", body);
        let call = self
            .config
            .headers
            .iter()
            .fold(call, |call, (name, value)| call.header(name.clone(), value));
        let problem = match self.outbound.call(call).await {
            Ok(answer) if answer.status.is_success() => {
                self.counters.ok.increment(1);
                self.counters.exported.increment(count);
                if !well {
                    tracing::info!("spans are exported again");
                }
                return true;
            }
            Ok(answer) => {
                self.counters.refused.increment(1);
                format!("it answers {}", answer.status)
            }
            Err(error) => {
                self.counters.failed.increment(1);
                error.to_string()
            }
        };
        self.counters.lost.increment(count);
        // Said when it begins; how long it goes on is counted.
        if well {
            tracing::warn!(url = url.without_query(), problem, "spans cannot be exported");
        }
        false
    }
}
