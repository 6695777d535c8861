//! `pushhub serve`: from the settings to the last connection.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    out,
    start_lines::{Credentials, Started},
};
use crate::{
    app::App,
    bus::RedisAddress,
    config::{Config, Loaded, process_environment},
    descriptors,
    service_manager::ServiceManager,
    telemetry::{self, Logs, Metrics},
};

/// How long the process waits at its end for threads that wait for a database. They have been given up; what
/// is healthy has ended before.
const END_MAX: Duration = Duration::from_millis(500);

pub(super) fn run(loaded: Loaded) -> anyhow::Result<()> {
    let logs = telemetry::init_logs(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let descriptors = descriptors::raise_limit();
    let in_cluster = loaded.config.cluster.database.is_some();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let served = runtime.block_on(serve(&loaded, &logs, descriptors));
    if in_cluster {
        runtime.shutdown_timeout(END_MAX);
    }
    served
}

async fn serve(loaded: &Loaded, logs: &Logs, descriptors: usize) -> anyhow::Result<()> {
    let config = &loaded.config;
    // Signals first: one that comes during the start must not kill half a start.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let manager = ServiceManager::from_environment(&process_environment()).unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: the service manager is told nothing");
        None
    });
    if let Some(manager) = &manager {
        manager.status("starting");
        tokio::spawn(manager.clone().keep_alive());
    }
    let metrics = Metrics::new()?;
    logs.count_into(&metrics);
    let app = tokio::select! {
        app = App::start(loaded, descriptors, &metrics, Some(logs.filter())) => app?,
        // It may wait for its database for ever.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let single = config.cluster.database.is_none();
    // What several nodes share is set up by whoever runs them; and a pod's output is kept by many.
    let credentials = if single {
        let (control, identity) =
            (Arc::clone(&app.foundation.control), Arc::clone(&app.foundation.identity));
        let make = move || Credentials::make(&control, &identity);
        let made = tokio::task::spawn_blocking(make).await??;
        let first = app.foundation.secrets.first_start || made.are_first();
        (first || io::stdout().is_terminal()).then_some(made)
    } else {
        None
    };
    let program = std::env::args().next().unwrap_or_else(|| "pushhub".to_owned());
    let started = Started {
        program: &program,
        role: config.process.role,
        user: app.user_address,
        admin: app.admin_address,
        storage: storage(config),
        bus: config.cluster.redis.as_ref().map(RedisAddress::describe),
    };
    // A server whose stdout is gone still serves.
    if let Err(error) = out::line(started.lines(credentials.as_ref()).trim_end()) {
        tracing::warn!(%error, "the start lines could not be printed");
    }
    tracing::info!(
        role = config.process.role.label(),
        user = app.user_address.map(tracing::field::display),
        admin = %app.admin_address,
        version = telemetry::VERSION,
        "started"
    );

    let following = manager.clone().map(|manager| tokio::spawn(manager.follow(app.health.clone())));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(following) = following {
        following.abort();
    }
    if let Some(manager) = &manager {
        manager.stopping(config.process.drain_timeout);
    }
    tracing::info!(timeout = ?config.process.drain_timeout, "draining");
    tokio::select! {
        () = app.drain() => {}
        // Whoever asks twice does not want to wait.
        _ = terminate.recv() => tracing::warn!("told again to end, not waiting"),
        _ = interrupt.recv() => tracing::warn!("told again to end, not waiting"),
    }
    Ok(())
}

/// Where it keeps what it stores, without a password.
fn storage(config: &Config) -> String {
    match &config.cluster.database {
        None => config.store.path.display().to_string(),
        Some(database) => format!("PostgreSQL {}", database.describe()),
    }
}
