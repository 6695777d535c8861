//! `pushhub restore`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use delivery::{
    backup::{Opened, RestoreError, chain},
    clock::SharedClock,
    control::Control,
    store::{
        postgres::{self, PostgresStore},
        single::{self, SingleConfig, hub_dir},
    },
    webhook::Webhooks,
};
use metrics::NoopRecorder;
use protocol::UserId;
use serde_json::{Value, json};

use super::{
    Output, audit, out,
    progress::Bar,
    runs::{self, Wanted},
};
use crate::{
    config::{Config, store_open_files},
    descriptors,
    foundation::open_control,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Backups of one or many users, compressed or encrypted as they are: for each user the latest full one, with
    /// the later incremental ones on top. Leave out those that were made after the moment that is wanted.
    #[arg(required_unless_present = "run", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A backup of everybody, with all that it is put on, and the control data: its id, `latest`, or an RFC 3339 time
    /// for the last one that was begun by then.
    #[arg(long, conflicts_with = "files")]
    run: Option<String>,
    /// Of a run nothing but inboxes: no services, templates, logins, channels.
    #[arg(long, requires = "run")]
    inboxes_only: bool,
    /// Only this user's.
    #[arg(long)]
    user: Option<UserId>,
    /// Puts backups in the place of inboxes that are there.
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let descriptors = descriptors::raise_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(restore(arguments, output, config, descriptors))
}

async fn restore(
    arguments: &Arguments,
    output: Output,
    config: &Config,
    descriptors: usize,
) -> anyhow::Result<()> {
    if let Some(name) = &arguments.run {
        let Arguments { user, replace, inboxes_only, .. } = arguments;
        let wanted = Wanted { user: user.as_ref(), replace: *replace, inboxes_only: *inboxes_only };
        return runs::restore(name, &wanted, output, config, descriptors).await;
    }
    let place = &config.backup.area.path;
    single::own_dir(place).with_context(|| format!("cannot use {}", place.display()))?;
    let backups = tokio::task::block_in_place(|| open(arguments, config, place))?;
    let what: Vec<_> = backups
        .iter()
        .map(|one| {
            let line = one.line();
            json!({
                "tenant_id": line.inbox.tenant, "user_id": line.inbox.user, "head": line.head,
                "messages": one.counts()[0], "made_at": line.made_at,
            })
        })
        .collect();
    let bar = Arc::new(Bar::new("bringing inboxes back", Some(backups.len() as u64)));
    let told = Arc::clone(&bar);
    bring_back(config, descriptors, backups, arguments.replace, move || told.advance()).await?;
    bar.end();
    tokio::task::block_in_place(|| {
        let target = match &what[..] {
            [one] => format!("users/{}", one["user_id"].as_str().unwrap_or_default()),
            _ => "users".to_owned(),
        };
        leave(config, &target, json!({ "inboxes": what.len() }))
    })?;
    for one in what {
        out::line(&match output {
            Output::Json => one.to_string(),
            Output::Text => format!(
                "{}: {} messages, as of change {} ({})",
                one["user_id"].as_str().unwrap_or_default(),
                one["messages"],
                one["head"],
                one["made_at"].as_str().unwrap_or_default(),
            ),
        })?;
    }
    Ok(())
}

/// Brings inboxes back to where they are kept. `done` is told of each.
pub(super) async fn bring_back(
    config: &Config,
    descriptors: usize,
    backups: Vec<Opened>,
    replace: bool,
    done: impl Fn() + Send + 'static,
) -> anyhow::Result<()> {
    if let Some(database) = &config.cluster.database {
        PostgresStore::migrate(database).await?;
        return Ok(postgres::restore(database, &backups, replace, done).await?);
    }
    into_folder(config, descriptors, backups, replace, done).await
}

/// Leaves in the audit log what was brought back.
pub(super) fn leave(config: &Config, target: &str, what: Value) -> anyhow::Result<()> {
    let control = open_control(config, SharedClock::default())?;
    audit::record(&control, "restore", target.to_owned(), Value::Null, what)
}

/// Unpacks, checks and puts together what there is, before anything is touched.
fn open(arguments: &Arguments, config: &Config, place: &Path) -> anyhow::Result<Vec<Opened>> {
    let bar = Bar::new("reading backups", Some(arguments.files.len() as u64));
    let mut opened = Vec::with_capacity(arguments.files.len());
    for path in &arguments.files {
        let one = Opened::open(path, config.backup.key.as_ref(), place)
            .map_err(|source| RestoreError::Read { path: path.clone(), source })?;
        bar.advance();
        if arguments.user.as_ref().is_none_or(|user| *user == one.line().inbox.user) {
            opened.push((path.clone(), one));
        }
    }
    bar.end();
    if let Some(user) = arguments.user.as_ref().filter(|_| opened.is_empty()) {
        return Err(RestoreError::NoUser(user.to_string()).into());
    }
    let chained = chain(opened)?;
    for one in &chained {
        one.seal_content(&config.store.content).context("the content cannot be encrypted")?;
    }
    Ok(chained)
}

async fn into_folder(
    config: &Config,
    descriptors: usize,
    backups: Vec<Opened>,
    replace: bool,
    done: impl Fn() + Send + 'static,
) -> anyhow::Result<()> {
    let root = config.store.path.clone();
    single::own_dir(&root).with_context(|| format!("cannot use {}", root.display()))?;
    if hub_dir(&root).join("shared.db").is_file() {
        // Before anything of it is opened.
        single::check_at_rest(&root)?;
    }
    let (hub, settings) = (hub_dir(&root), config.webhook.clone());
    // What the journal still brings is told to the webhooks, as it would have been by a node.
    let open = move || -> anyhow::Result<Webhooks> {
        single::own_dir(&hub)?;
        let control = Arc::new(Control::open(&hub)?);
        Ok(Webhooks::open(&hub, settings, control, &NoopRecorder)?)
    };
    let webhooks = tokio::task::spawn_blocking(open).await?.context("webhooks cannot be opened")?;
    let folder = SingleConfig {
        root,
        open_inboxes: store_open_files(config, descriptors),
        witness: Some(Arc::new(webhooks.clone())),
        sent_kept: config.store.sent_kept(),
        ..SingleConfig::default()
    };
    let restored = single::restore(folder, backups, replace, done).await;
    tokio::task::spawn_blocking(move || webhooks.close()).await?;
    Ok(restored?)
}
