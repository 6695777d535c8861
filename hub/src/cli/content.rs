//! `pushhub content`.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use delivery::{
    content::{Census, PLAIN, Rewriting},
    store::{
        postgres::recode_database,
        single::{SingleConfig, hub_dir, recode_folder},
    },
};
use serde_json::json;

use super::{Output, out, progress::Bar};
use crate::{
    config::{Config, store_open_files},
    descriptors,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Writes the content of every message anew with the first key, or readable where that is `plain`.
    #[arg(long)]
    rewrite: bool,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let descriptors = descriptors::raise_limit();
    let keys = Arc::clone(&config.store.content);
    if arguments.rewrite && keys.is_empty() {
        bail!("--rewrite needs DATA_ENCRYPTION_KEYS; `plain` as the first makes content readable");
    }
    let rewriting = Rewriting { keys, rewrite: arguments.rewrite };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let census = runtime.block_on(census(config, descriptors, rewriting))?;
    tell(&census, output, config)
}

async fn census(
    config: &Config,
    descriptors: usize,
    rewriting: Rewriting,
) -> anyhow::Result<Census> {
    if let Some(database) = &config.cluster.database {
        let bar = Bar::new("looking through messages", None);
        let done = |read| (0..read).for_each(|_| bar.advance());
        let census = recode_database(database, rewriting, done).await?;
        bar.end();
        return Ok(census);
    }
    let root = config.store.path.clone();
    if !hub_dir(&root).join("shared.db").is_file() {
        bail!("{} is no storage folder of pushhub", root.display());
    }
    let folder = SingleConfig {
        root,
        open_inboxes: store_open_files(config, descriptors),
        sent_kept: config.store.sent_kept(),
        ..SingleConfig::default()
    };
    let bar = Arc::new(Bar::new("looking through inboxes", None));
    let told = Arc::clone(&bar);
    let census = recode_folder(folder, rewriting, move || told.advance()).await?;
    bar.end();
    Ok(census)
}

fn tell(census: &Census, output: Output, config: &Config) -> anyhow::Result<()> {
    let keys = &config.store.content;
    for (id, bodies) in &census.0 {
        let known = id == PLAIN || keys.ids().any(|known| known == id);
        out::line(&match output {
            Output::Json => json!({"key": id, "bodies": bodies, "known": known}).to_string(),
            Output::Text if id == PLAIN => format!("not encrypted: {bodies}"),
            Output::Text if known => format!("key {id}: {bodies}"),
            Output::Text => format!("key {id}: {bodies}; DATA_ENCRYPTION_KEYS does not have it"),
        })?;
    }
    let idle = keys.ids().filter(|id| *id != keys.writing_id() && !census.0.contains_key(*id));
    for id in idle {
        out::line(&match output {
            Output::Json => json!({"key": id, "bodies": 0, "known": true}).to_string(),
            Output::Text => format!("key {id}: 0; it is not needed any more"),
        })?;
    }
    Ok(())
}
