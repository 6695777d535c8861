//! `pushhub migrate`: the tables of a database, and what a single node has kept.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use delivery::{
    Migrated,
    control::Control,
    move_in::{Outcome, Progress, Step, move_in},
    store::{
        postgres::{PostgresConfig, PostgresStore, connecting},
        single::{SingleConfig, check_at_rest, hub_dir},
    },
    webhook::Webhooks,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use metrics::NoopRecorder;
use serde_json::json;

use super::{Output, out};
use crate::{
    config::{Config, store_open_files},
    descriptors,
};

/// How often a line says how far a step is, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often the bar is drawn while nothing happens.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The storage folder of a single node, which must be stopped: what is in it is moved into the database
    /// and compared. What was ended goes on when it is run again.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let database = config.cluster.database.as_ref().context("DATABASE_URL is not set")?;
    let descriptors = descriptors::raise_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(migrate(arguments, output, config, descriptors, database))
}

async fn migrate(
    arguments: &Arguments,
    output: Output,
    config: &Config,
    descriptors: usize,
    database: &PostgresConfig,
) -> anyhow::Result<()> {
    if let Some(from) = &arguments.from {
        // Before the database is touched, and before anything in the folder is.
        check_at_rest(from)?;
    }
    let store = PostgresStore::migrate(database).await?;
    let (mut driver, tls) = connecting(database)?;
    driver.application_name("pushhub-migrate");
    let (control, webhooks) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let control = Control::migrate_postgres(driver.clone(), tls.clone())?;
        Ok((control, Webhooks::migrate_postgres(driver, tls)?))
    })
    .await??;
    if output == Output::Text {
        let all = [("store", store), ("control data", control), ("webhooks", webhooks)];
        for (what, Migrated { from, to }) in all {
            let how = if from == to { "is current" } else { "was brought to" };
            out::line(&match from {
                _ if from == to => format!("{what}: version {to} {how}"),
                0 => format!("{what}: made, version {to}"),
                from => format!("{what}: version {from} {how} {to}"),
            })?;
        }
    }
    let moved = match &arguments.from {
        Some(from) => Some(move_folder(from, config, descriptors, database).await?),
        None => None,
    };
    match output {
        Output::Text => moved.as_ref().map_or(Ok(()), |outcome| show(outcome, arguments)),
        Output::Json => {
            let version = |migrated: Migrated| json!({"from": migrated.from, "to": migrated.to});
            let mut line = json!({
                "store": version(store), "control": version(control), "webhooks": version(webhooks),
            });
            if let Some(outcome) = &moved {
                line["moved"] = in_json(outcome);
            }
            Ok(out::line(&line.to_string())?)
        }
    }
}

async fn move_folder(
    from: &Path,
    config: &Config,
    descriptors: usize,
    database: &PostgresConfig,
) -> anyhow::Result<Outcome> {
    // What the journal still brings is told to the webhooks, as it would have been here.
    let (hub, settings) = (hub_dir(from), config.webhook.clone());
    let open = move || -> anyhow::Result<Webhooks> {
        let control = Arc::new(Control::open(&hub)?);
        Ok(Webhooks::open(&hub, settings, control, &NoopRecorder)?)
    };
    let webhooks = tokio::task::spawn_blocking(open).await?.context("webhooks cannot be opened")?;
    let folder = SingleConfig {
        root: from.to_path_buf(),
        open_inboxes: store_open_files(config, descriptors),
        witness: Some(Arc::new(webhooks.clone())),
        ..SingleConfig::default()
    };
    let progress = Shown::new();
    let moved = move_in(database, folder, Arc::new(NoopRecorder), &progress).await;
    progress.end();
    tokio::task::spawn_blocking(move || webhooks.close()).await?;
    Ok(moved?)
}

fn show(outcome: &Outcome, arguments: &Arguments) -> anyhow::Result<()> {
    match outcome {
        Outcome::Moved { database, counts, .. } => {
            for (name, count) in counts.all() {
                out::line(&format!("{name:10} {count:>12}"))?;
            }
            let from = arguments.from.as_deref().unwrap_or(Path::new(""));
            out::line(&format!(
                "All of {} is in {database}, and was compared. Nodes go on there.",
                from.display()
            ))?;
        }
        Outcome::Before { database, at } => {
            out::line(&format!("All of it is in {database} since {at}; nothing was changed."))?;
        }
    }
    Ok(())
}

fn in_json(outcome: &Outcome) -> serde_json::Value {
    match outcome {
        Outcome::Moved { database, counts, resumed } => {
            json!({"database": database, "counts": counts, "resumed": resumed, "before": null})
        }
        Outcome::Before { database, at } => {
            json!({"database": database, "counts": null, "resumed": false, "before": at})
        }
    }
}

/// How far it is, on stderr: a bar on a terminal, else lines.
struct Shown {
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
}

struct Lines {
    step: Step,
    total: Option<u64>,
    done: u64,
    told: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        });
        let lines = Lines { step: Step::Rest, total: None, done: 0, told: Instant::now() };
        Self { bar, lines: Mutex::new(lines) }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Shown {
    fn begin(&self, step: Step, total: Option<u64>) {
        let Some(bar) = &self.bar else {
            if let Ok(mut lines) = self.lines.lock() {
                *lines = Lines { step, total, done: 0, told: Instant::now() };
            }
            return out::note(step.words());
        };
        let template = match total {
            Some(_) => "{msg} {wide_bar} {human_pos} of {human_len} ({eta})",
            None => "{msg} {spinner} {human_pos}",
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.reset();
        bar.set_message(step.words());
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
    }

    fn advance(&self, by: u64) {
        if let Some(bar) = &self.bar {
            return bar.inc(by);
        }
        let Ok(mut lines) = self.lines.lock() else { return };
        lines.done += by;
        if lines.told.elapsed() >= LINE_EVERY {
            lines.told = Instant::now();
            let of = lines.total.map(|total| format!(" of {total}")).unwrap_or_default();
            out::note(&format!("{}: {}{of}", lines.step.words(), lines.done));
        }
    }
}
