//! Backups of everybody: `pushhub backups`, and what `restore --run` and `verify --run` do.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use delivery::{
    InboxKey, Store as _,
    backup::{Home, IndexEntry, Opened, OpenedRun, RestoreError, RunRecord, RunsReader},
    control::Control,
    store::{
        postgres::{PostgresConfig, PostgresStore, connecting},
        single::{SingleConfig, SingleStore},
    },
    webhook::Webhooks,
};
use metrics::NoopRecorder;
use protocol::UserId;
use serde_json::{Value, json};

use super::{
    Output,
    backup::Nobody,
    out,
    progress::Bar,
    restore::{bring_back, leave},
};
use crate::config::{Config, store_open_files};

/// Inboxes that are brought back at a time: each is a file that is unpacked, and an open connection.
const BATCH: usize = 64;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Shows whose inboxes are in one: its id, `latest`, or an RFC 3339 time for the last one that was begun by then.
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let reader = reader(config)?;
        match &arguments.run {
            Some(name) => show(&reader.run(name).await?, output),
            None => list(&reader, output).await,
        }
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

fn reader(config: &Config) -> anyhow::Result<RunsReader> {
    Ok(RunsReader::open(&config.runs(), config.backup.key.clone())?)
}

async fn list(reader: &RunsReader, output: Output) -> anyhow::Result<()> {
    let all = reader.list().await?;
    if all.is_empty() && output == Output::Text {
        out::note(&format!("there are no backups of everybody in {}", reader.place()));
    }
    for run in all {
        out::line(&match output {
            Output::Json => serde_json::to_string(&run)?,
            Output::Text => {
                let RunRecord { id, kind, inboxes, written, failed, bytes, removed, .. } = &run;
                let failed = if *failed > 0 { format!(", {failed} FAILED") } else { String::new() };
                let removed = match removed.len() {
                    0 => String::new(),
                    count => format!(", {count} older removed"),
                };
                format!(
                    "{id}  {kind:11}  {inboxes} inboxes, {written} written{failed}, {bytes} bytes{removed}"
                )
            }
        })?;
    }
    Ok(())
}

fn show(run: &OpenedRun<'_>, output: Output) -> anyhow::Result<()> {
    let mut after: Option<InboxKey> = None;
    loop {
        let page = run.page(after.as_ref())?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.inbox.clone());
        for IndexEntry { inbox, head, problem, files, bytes } in &page {
            out::line(&match output {
                Output::Json => json!({
                    "run": run.record().id, "tenant_id": inbox.tenant, "user_id": inbox.user,
                    "head": head, "files": files, "bytes": bytes, "problem": problem,
                })
                .to_string(),
                Output::Text => {
                    let problem = problem.as_ref().map(|why| format!(", NOT ANEW: {why}"));
                    format!(
                        "{}/{}: up to change {}, {files} files, {bytes} bytes{}",
                        inbox.tenant,
                        inbox.user,
                        head.0,
                        problem.unwrap_or_default()
                    )
                }
            })?;
        }
    }
}

/// Looks all of a run through; answers how many files are wrong.
pub(super) fn verify(name: &str, output: Output, config: &Config) -> anyhow::Result<u64> {
    runtime()?.block_on(async {
        let reader = reader(config)?;
        let run = reader.run(name).await?;
        let bar = Bar::new("looking through backups", Some(run.record().inboxes));
        let (mut whole, mut wrong) = (0_u64, 0);
        let mut tell = |what: String| {
            wrong += 1;
            out::line(&match output {
                Output::Json => json!({"run": run.record().id, "fault": what}).to_string(),
                Output::Text => what,
            })
        };
        if let Err(error) = run.check_parts().await {
            tell(error.to_string())?;
        }
        each(&run, None, |entry, opened| {
            bar.advance();
            match opened {
                Ok(_) => whole += 1,
                Err(error) => tell(format!("{}: {error}", entry.inbox.user))?,
            }
            Ok(())
        })
        .await?;
        bar.end();
        let id = &run.record().id;
        out::line(&match output {
            Output::Json => json!({"run": id, "inboxes": whole, "faults": wrong}).to_string(),
            Output::Text => format!("{id}: {whole} inboxes whole, {wrong} files wrong"),
        })?;
        Ok(wrong)
    })
}

/// Opens each inbox of a run, one after the other.
async fn each(
    run: &OpenedRun<'_>,
    user: Option<&UserId>,
    mut done: impl FnMut(IndexEntry, Result<Opened, delivery::backup::RunError>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let (mut after, mut met): (Option<InboxKey>, u64) = (None, 0);
    loop {
        let page = run.page(after.as_ref())?;
        let Some(last) = page.last() else { return Ok(met) };
        after = Some(last.inbox.clone());
        for entry in page {
            if user.is_none_or(|user| *user == entry.inbox.user) {
                let opened = run.inbox(&entry).await;
                met += 1;
                done(entry, opened)?;
            }
        }
    }
}

/// What of a run is brought back.
pub(super) struct Wanted<'a> {
    pub(super) user: Option<&'a UserId>,
    pub(super) replace: bool,
    pub(super) inboxes_only: bool,
}

/// Brings a run back: all of it is read to its end first.
pub(super) async fn restore(
    name: &str,
    wanted: &Wanted<'_>,
    output: Output,
    config: &Config,
    descriptors: usize,
) -> anyhow::Result<()> {
    let Wanted { user, replace, inboxes_only } = *wanted;
    let reader = reader(config)?;
    let run = reader.run(name).await?;
    let control = user.is_none() && !inboxes_only;
    let bar = Bar::new("reading backups", Some(run.record().inboxes));
    if control {
        run.check_parts().await?;
    }
    let met = each(&run, user, |_, opened| {
        bar.advance();
        opened?;
        Ok(())
    })
    .await?;
    bar.end();
    if let Some(user) = user.filter(|_| met == 0) {
        return Err(RestoreError::NoUser(user.to_string()).into());
    }
    if let Some(database) = &config.cluster.database {
        PostgresStore::migrate(database).await?;
        migrate_control(database).await?;
    }
    if control {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(run.bring_control(&config.home(), replace))
        })?;
    }
    let bar = Arc::new(Bar::new("bringing inboxes back", Some(met)));
    let mut messages = 0;
    let mut after: Option<InboxKey> = None;
    loop {
        let page = run.page(after.as_ref())?;
        let Some(last) = page.last() else { break };
        after = Some(last.inbox.clone());
        let ours = page.iter().filter(|entry| user.is_none_or(|user| *user == entry.inbox.user));
        for some in ours.collect::<Vec<_>>().chunks(BATCH) {
            let mut opened = Vec::with_capacity(some.len());
            for entry in some {
                let one = run.inbox(entry).await?;
                messages += one.counts()[0];
                opened.push(one);
            }
            let told = Arc::clone(&bar);
            bring_back(config, descriptors, opened, replace, move || told.advance()).await?;
        }
    }
    bar.end();
    let people = if control { Some(bring_people(&run, config, descriptors).await?) } else { None };
    let (users, channels) = people.unwrap_or_default();
    let what = json!({
        "run": run.record().id, "inboxes": met, "messages": messages, "control_data": control,
        "users": users, "channels": channels,
    });
    tokio::task::block_in_place(|| leave(config, "backups", what.clone()))?;
    out::line(&match output {
        Output::Json => what.to_string(),
        Output::Text => told(&run, &what),
    })?;
    Ok(())
}

fn told(run: &OpenedRun<'_>, what: &Value) -> String {
    let rest = if what["control_data"] == true {
        format!("; control data, {} users and {} channels", what["users"], what["channels"])
    } else {
        String::new()
    };
    let RunRecord { id, started_at, .. } = run.record();
    format!(
        "{id}: {} inboxes with {} messages, as of {started_at}{rest}",
        what["inboxes"], what["messages"]
    )
}

async fn migrate_control(database: &PostgresConfig) -> anyhow::Result<()> {
    let (driver, tls) = connecting(database)?;
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        Control::migrate_postgres(driver.clone(), tls.clone())?;
        Webhooks::migrate_postgres(driver, tls)?;
        Ok(())
    })
    .await?
}

async fn bring_people(
    run: &OpenedRun<'_>,
    config: &Config,
    descriptors: usize,
) -> anyhow::Result<(u64, u64)> {
    match config.home() {
        Home::Database(database) => {
            let store = PostgresStore::open(*database, Arc::new(Nobody), &NoopRecorder).await?;
            let brought = run.bring_people(&*store).await;
            store.close().await;
            Ok(brought?)
        }
        Home::Folder(root) => {
            let folder = SingleConfig {
                root,
                open_inboxes: store_open_files(config, descriptors),
                sent_kept: config.store.sent_kept(),
                ..SingleConfig::default()
            };
            let open = move || SingleStore::open(&folder, Arc::new(Nobody), &NoopRecorder);
            let Ok(store) = tokio::task::spawn_blocking(open).await? else {
                bail!("the folder cannot be opened for users and channels");
            };
            let brought = run.bring_people(&*store).await;
            store.close().await;
            Ok(brought?)
        }
    }
}
