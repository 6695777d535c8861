//! `pushhub serve`: from the settings to the last connection.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    out,
    start_lines::{Credentials, start_lines},
};
use crate::{
    config::{Config, Loaded},
    foundation::Foundation,
    http::{self, HttpLimits, HttpMetrics, Listener},
    telemetry::{self, Metrics},
};

pub(super) fn run(loaded: Loaded) -> anyhow::Result<()> {
    telemetry::init_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_descriptor_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(serve(loaded.config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Signals first: one that comes during the start must not kill half a start.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Metrics::new()?;
    let foundation = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Foundation::open(&config)).await??
    };
    foundation.identity.register_metrics(&*metrics.recorder());
    let user = bind("USER_SERVER_PORT", config.process.user_address).await?;
    let admin = bind("ADMIN_SERVER_PORT", config.process.admin_address).await?;
    let (user_address, admin_address) = (user.local_addr()?, admin.local_addr()?);

    let draining = Arc::new(AtomicBool::new(false));
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let limits = HttpLimits::from(&config.http);
    for (listener, router, which) in
        [(user, Router::new(), Listener::User), (admin, admin_router(&metrics), Listener::Admin)]
    {
        let counts = Arc::new(HttpMetrics::new(&*metrics.recorder(), which));
        let accept =
            http::serve(listener, router, limits, counts, shutdown.clone(), tracker.clone());
        tracker.spawn(accept);
    }

    let credentials = Credentials::make(&foundation.control, &foundation.identity)?;
    let first = foundation.secrets.first_start || credentials.are_first();
    let shown = (first || io::stdout().is_terminal()).then_some(&credentials);
    let program = std::env::args().next().unwrap_or_else(|| "pushhub".to_owned());
    let storage = config.store.path.display().to_string();
    let lines = start_lines(&program, user_address, admin_address, &storage, shown);
    // A server whose stdout is gone still serves.
    if let Err(error) = out::line(lines.trim_end()) {
        tracing::warn!(%error, "the start lines could not be printed");
    }
    tracing::info!(%user_address, %admin_address, version = telemetry::VERSION, "started");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(timeout = ?config.process.drain_timeout, "draining");
    draining.store(true, Ordering::Release);
    shutdown.cancel();
    tracker.close();
    tokio::select! {
        drained = timeout(config.process.drain_timeout, tracker.wait()) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(left = tracker.len(), "the drain deadline ran out"),
        },
        // Whoever asks twice does not want to wait.
        _ = terminate.recv() => tracing::warn!("told again to end, not waiting"),
        _ = interrupt.recv() => tracing::warn!("told again to end, not waiting"),
    }
    Ok(())
}

fn admin_router(metrics: &Metrics) -> Router {
    let metrics = metrics.clone();
    Router::new().route("/metrics", get(move || async move { metrics.render() }))
}

async fn bind(variable: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({variable}, BIND_ADDRESS)"))
}

/// Lets the process have as many descriptors as it may: shells start programs with 1,024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, ?maximum, "the limit of descriptors cannot be raised");
    }
}
