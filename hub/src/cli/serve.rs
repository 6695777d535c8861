//! `pushhub serve`: from the settings to the last connection.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    out,
    start_lines::{Credentials, start_lines},
};
use crate::{
    app::App,
    config::{Config, Loaded},
    descriptors,
    foundation::Foundation,
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
    let app = App::start(&config, descriptors, &foundation, &metrics).await?;

    let first = foundation.secrets.first_start || credentials.are_first();
    let shown = (first || io::stdout().is_terminal()).then_some(&credentials);
    let program = std::env::args().next().unwrap_or_else(|| "pushhub".to_owned());
    let storage = config.store.path.display().to_string();
    let lines = start_lines(&program, app.user_address, app.admin_address, &storage, shown);
    // A server whose stdout is gone still serves.
    if let Err(error) = out::line(lines.trim_end()) {
        tracing::warn!(%error, "the start lines could not be printed");
    }
    tracing::info!(
        user = %app.user_address,
        admin = %app.admin_address,
        version = telemetry::VERSION,
        "started"
    );

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
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
