//! `pushhub doctor`: what a node needs, looked at from outside it.
//!
//! Where the program has a look of its own (at the settings, the database, Redis, what login providers say of
//! themselves), that one is asked, so that the doctor cannot say something else than a start would. Nothing is
//! changed but for one small file in the storage folder, which is gone afterwards.

mod clock;
mod database;
mod folder;
mod limits;
mod login;
mod ports;
mod redis;
mod report;
mod settings;

use std::{future::Future, time::Duration};

use clap::Args;

use self::report::{Finding, Report, Status, fail, warn};
use super::{Output, out};
use crate::config::{Config, ConfigError, Loaded};

/// Longest wait for all checks of one area. The slowest of them, a database that takes connections and says
/// nothing, is given up after twice its `DATABASE_CONNECT_TIMEOUT`, which is 5 s unless said.
const AREA_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Prints one JSON document; the same as --output json.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    output: Output,
    loaded: Result<Loaded, ConfigError>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = Report::of(runtime.block_on(examine(loaded)));
    // A file system that does not answer must not keep it from ending.
    runtime.shutdown_background();
    let (failed, warned) = (report.count(Status::Fail), report.count(Status::Warn));
    if arguments.json || output == Output::Json {
        out::line(&serde_json::to_string(&report)?)?;
    } else {
        out::line(&report.text())?;
        out::note(&format!(
            "{} checks: {failed} failed, {warned} with a warning",
            report.checks.len()
        ));
    }
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", report.checks.len());
    Ok(())
}

async fn examine(loaded: Result<Loaded, ConfigError>) -> Vec<Finding> {
    let mut all = settings::examine(&loaded);
    let Ok(Loaded { config, .. }) = loaded else {
        all.extend(within("clock", clock::examine()).await);
        all.push(warn(
            "settings",
            "nothing else was looked at, because it goes by the settings",
            "mend them and run it again",
        ));
        return all;
    };
    let config: &Config = &config;
    let (folder, ports) = (blocking("folder", folder::examine, config), ports::examine(config));
    let (folder, clock, ports, redis, database, login) = tokio::join!(
        folder,
        within("clock", clock::examine()),
        within("ports", ports),
        within("redis", redis::examine(&config.cluster)),
        within("database", database::examine(config)),
        within("login", login::examine(config)),
    );
    all.extend(folder);
    all.extend(limits::examine(config));
    for findings in [clock, ports, redis, database, login] {
        all.extend(findings);
    }
    all
}

/// Waits for the checks of an area, and says so where they do not come to an end.
async fn within(check: &'static str, checks: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(AREA_WITHIN, checks).await.unwrap_or_else(|_| {
        let found = format!("no answer within {} s", AREA_WITHIN.as_secs());
        vec![fail(check, found, "see whether what it stands for is reachable at all")]
    })
}

/// The same for what waits for a disk.
async fn blocking(
    check: &'static str,
    examine: impl FnOnce(&Config) -> Vec<Finding> + Send + 'static,
    config: &Config,
) -> Vec<Finding> {
    let config = config.clone();
    let task = tokio::task::spawn_blocking(move || examine(&config));
    within(check, async {
        task.await.unwrap_or_else(|error| {
            vec![fail(check, format!("the check ended: {error}"), "please report this")]
        })
    })
    .await
}
