//! `pushhub serve`: from the settings to the last connection.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use delivery::{
    Store,
    api::{self, ApiConfig, ApiState},
    fanout::Nobody,
    store::single::{SingleConfig, SingleStore},
};
use metrics::Recorder;
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
    config::{Config, Loaded, store_open_files},
    descriptors,
    foundation::Foundation,
    health::{self, HealthState},
    http::{self, HttpLimits, HttpMetrics, Listener},
    telemetry::{self, Logs, Metrics},
};

pub(super) fn run(loaded: Loaded) -> anyhow::Result<()> {
    let logs = telemetry::init_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let descriptors = descriptors::raise_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(serve(loaded.config, &logs, descriptors))
}

async fn serve(config: Config, logs: &Logs, descriptors: usize) -> anyhow::Result<()> {
    // Signals first: one that comes during the start must not kill half a start.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Metrics::new()?;
    logs.count_into(&metrics);
    let (foundation, credentials) = {
        let config = config.clone();
        let open = move || -> anyhow::Result<_> {
            let foundation = Foundation::open(&config)?;
            let credentials = Credentials::make(&foundation.control, &foundation.identity)?;
            Ok((foundation, credentials))
        };
        tokio::task::spawn_blocking(open).await??
    };
    let store = {
        let (config, recorder) = (config.clone(), metrics.recorder());
        tokio::task::spawn_blocking(move || open_store(&config, descriptors, &*recorder)).await??
    };
    let user = bind("USER_SERVER_PORT", config.process.user_address).await?;
    let admin = bind("ADMIN_SERVER_PORT", config.process.admin_address).await?;
    let (user_address, admin_address) = (user.local_addr()?, admin.local_addr()?);

    let draining = Arc::new(AtomicBool::new(false));
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    tokio::spawn(metrics.clone().upkeep(shutdown.clone()));
    let limits = HttpLimits::from(&config.http);
    let state = ApiState::new(
        Arc::clone(&store),
        Arc::clone(&foundation.identity),
        Arc::clone(&foundation.control),
        ApiConfig { body_timeout: config.http.body_timeout },
        &*metrics.recorder(),
        Arc::clone(&draining),
    );
    let health = HealthState::new(Arc::clone(&store), Arc::clone(&draining), metrics.clone());
    for (listener, router, which) in [
        (user, api::user_routes(state.clone()), Listener::User),
        (admin, api::admin_routes(state).merge(health::routes(health)), Listener::Admin),
    ] {
        let counts = Arc::new(HttpMetrics::new(&*metrics.recorder(), which));
        let accept =
            http::serve(listener, router, limits, counts, shutdown.clone(), tracker.clone());
        tracker.spawn(accept);
    }

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
    store.close().await;
    Ok(())
}

fn open_store(
    config: &Config,
    descriptors: usize,
    recorder: &dyn Recorder,
) -> anyhow::Result<Arc<dyn Store>> {
    let settings = SingleConfig {
        root: config.store.path.clone(),
        flush_interval: config.store.flush_interval,
        open_inboxes: store_open_files(config, descriptors),
        ..SingleConfig::default()
    };
    Ok(SingleStore::open(&settings, Arc::new(Nobody), recorder)?)
}

async fn bind(variable: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({variable}, BIND_ADDRESS)"))
}
