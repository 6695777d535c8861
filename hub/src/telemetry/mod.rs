//! Logs on stderr and metrics on the admin port.
//!
//! # Streams
//! A log line's target is its stream (seed 003 §9.3): `access` (a request and its answer), `business` (what users and services did), `security` (who was let in
//! or not), `error` (what went wrong); everything else is about the process and named by its module.
//! `LOG_LEVEL=info,access=warn` picks by stream. Tokens, keys and bodies are in none of them; whether users are named
//! says `LOG_PERSONAL_DATA`, see [`masked`].

mod log_writer;
mod masked;

use std::{backtrace::Backtrace, io, panic, sync::Arc, time::Duration};

use delivery::metrics::{Metric, SharedRecorder};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, Registry, reload, util::TryInitError};

use self::{
    log_writer::LogWriter,
    masked::{Mask, MaskedLines},
};
use crate::{
    config::{Config, LogFormat},
    process_metrics,
};

/// Upper bounds of histograms named `_seconds`, in seconds: from a push within this process to a
/// client that just came back in time.
const SECONDS_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of how long a connection lived, or a message waited for its reader, in seconds.
const LONG_BUCKETS: &[f64] = &[1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0];

/// The metrics that [`LONG_BUCKETS`] are for.
const LONG_METRICS: [&str; 2] =
    ["pushhub_connection_lifespan_seconds", "pushhub_messages_read_delay_seconds"];

/// Upper bounds of histograms that count things (messages of a batch, of a replay).
const COUNT_BUCKETS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 10_000.0];

/// Pause between folds of raw histogram samples. Without them samples pile up until the next
/// scrape, and for ever where nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const BUILD_INFO: Metric = Metric::gauge(
    "pushhub_build_info",
    "version,commit",
    "Always 1; the labels say which build runs.",
);

/// The metrics of this area.
pub const METRICS: &[Metric] = &[BUILD_INFO, log_writer::DROPPED];

/// Libraries that write what they carry, tokens and messages, at debug or trace: no `LOG_LEVEL` gets
/// more than info out of them.
const WRITES_CONTENT: [&str; 3] = ["tungstenite", "tokio_tungstenite", "tokio_postgres"];

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of this build, from `PUSHHUB_COMMIT` at compile time.
pub const COMMIT: &str = match option_env!("PUSHHUB_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("the log filter does not parse")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else has set up logs in this process.
    #[error("logs are set up already")]
    Twice(#[from] TryInitError),
    /// The log has ended.
    #[error("the log has ended")]
    Gone(#[from] reload::Error),
    /// The thread that writes lines cannot be started.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Keeps the log going; dropping it waits for the last lines to be written.
#[must_use = "the last lines are lost without it"]
pub struct Logs {
    writer: LogWriter,
    filter: LogFilter,
}

/// Which lines are written, while the process runs. Its clones are one.
#[derive(Clone)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Other lines are written from here on (`LOG_LEVEL`).
    ///
    /// # Errors
    /// [`LogError::Filter`], [`LogError::Gone`].
    pub fn set(&self, text: &str) -> Result<(), LogError> {
        Ok(self.0.reload(filter(text)?)?)
    }
}

/// What a text means, and what none can mean.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::builder().parse(text)?;
    for quiet in WRITES_CONTENT {
        filter = filter.add_directive(format!("{quiet}=info").parse()?);
    }
    Ok(filter)
}

impl Logs {
    /// Counts lines that had to be dropped.
    pub fn count_into(&self, metrics: &Metrics) {
        self.writer.count_into(&*metrics.recorder);
    }

    /// Says which lines are written.
    #[must_use]
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.writer.flush();
    }
}

/// Sends log lines to stderr and makes panics one of them. For `main` only: it is process-wide.
///
/// # Errors
/// [`LogError`] for a bad filter, or on the second call.
pub fn init_logs(config: &Config) -> Result<Logs, LogError> {
    use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

    let Config { log: config, store, auth, .. } = config;
    let (filter, handle) = reload::Layer::new(filter(&config.filter)?);
    let writer = LogWriter::spawn(io::stderr()).map_err(LogError::Thread)?;
    let lines = fmt::layer().with_writer(writer.clone());
    let registry = tracing_subscriber::registry().with(filter);
    let json = config.format == LogFormat::Json;
    match config.format {
        LogFormat::Text | LogFormat::Json if config.masked => {
            let mask = Mask::new(auth.jwt_secret.as_ref(), &store.path);
            registry.with(lines.event_format(MaskedLines { mask, json })).try_init()?;
        }
        // Escape sequences only where somebody looks at them.
        LogFormat::Text => registry.with(lines.with_ansi(is_terminal())).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    log_panics();
    Ok(Logs { writer, filter: LogFilter(handle) })
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// A panic's own text may quote what it stumbled over, a message's body or a key: of the payload
/// only a constant text is logged, which is what `expect("invariant")` gives, and where it was.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let text = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("panic");
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = Backtrace::capture();
        tracing::error!(target: "error", place, thread, %backtrace, "panic: {text}");
    }));
}

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics {
    recorder: SharedRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// A recorder of its own: two apps in one process do not share series.
    ///
    /// # Errors
    /// Never with the buckets above; the builder checks them.
    pub fn new() -> Result<Self, BuildError> {
        use metrics_exporter_prometheus::Matcher;
        let mut builder = PrometheusBuilder::new()
            .set_buckets(COUNT_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)?;
        for metric in LONG_METRICS {
            let metric = Matcher::Full(metric.to_owned());
            builder = builder.set_buckets_for_metric(metric, LONG_BUCKETS)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let recorder: SharedRecorder = Arc::new(recorder);
        BUILD_INFO.describe(&*recorder);
        BUILD_INFO.to_gauge(&*recorder, &[("version", VERSION), ("commit", COMMIT)]).set(1.0);
        Ok(Self { recorder, handle })
    }

    /// Where metrics go.
    #[must_use]
    pub fn recorder(&self) -> SharedRecorder {
        Arc::clone(&self.recorder)
    }

    /// All of them in Prometheus's text format, with those of the process.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        process_metrics::render(&mut text);
        text
    }

    /// Folds histogram samples until `shutdown`. Run it as a task.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.handle.run_upkeep(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST_SECONDS: Metric = Metric::histogram("pushhub_test_seconds", "", "A test.");

    #[test]
    fn two_processes_in_one_do_not_share_series() {
        let (one, two) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        TEST_SECONDS.describe(&*one.recorder());
        TEST_SECONDS.to_histogram(&*one.recorder(), &[]).record(0.003);
        let text = one.render();
        assert!(text.contains("pushhub_test_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("pushhub_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        let long = Metric::histogram(LONG_METRICS[0], "", "A test.");
        long.to_histogram(&*one.recorder(), &[]).record(100.0);
        let text = one.render();
        assert!(text.contains("lifespan_seconds_bucket{le=\"600\"} 1"), "{text}");
        assert!(text.contains("pushhub_build_info{"), "{text}");
        assert!(text.contains("process_open_fds "), "{text}");
        assert!(!two.render().contains("pushhub_test_seconds"));
    }
}
