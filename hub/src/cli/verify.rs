//! `pushhub verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use delivery::{
    backup::Opened,
    store::single::{self, Fault, verify_folder},
};
use serde_json::json;

use super::{Output, out, progress::Bar, runs};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Backups, or storage folders, also ones that are being served; USER_STORAGE_PATH without one.
    #[arg(value_name = "FILE_OR_FOLDER")]
    paths: Vec<PathBuf>,
    /// A backup of everybody with those it is put on: its id, `latest`, or an RFC 3339 time.
    #[arg(long, conflicts_with = "paths")]
    run: Option<String>,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let own = [config.store.path.clone()];
    let paths = if arguments.paths.is_empty() { &own[..] } else { &arguments.paths };
    let mut wrong = 0;
    if let Some(name) = &arguments.run {
        wrong += runs::verify(name, output, config)?;
    }
    for path in paths.iter().filter(|_| arguments.run.is_none()) {
        wrong += if path.is_dir() { folder(path, output)? } else { file(path, output, config)? };
    }
    match wrong {
        0 => Ok(()),
        1 => bail!("one file is not what it should be"),
        _ => bail!("{wrong} files are not what they should be"),
    }
}

/// Answers how many files are wrong.
fn folder(path: &Path, output: Output) -> anyhow::Result<u64> {
    let bar = Bar::new("looking through inboxes", None);
    let mut faults = Vec::new();
    let found = verify_folder(path, |fault| faults.push(fault), || bar.advance());
    bar.end();
    let verified = found.with_context(|| format!("cannot look through {}", path.display()))?;
    for Fault { path, what } in &faults {
        tell(path, Some(what), output)?;
    }
    let shown = path.display();
    out::line(&match output {
        Output::Json => json!({"folder": path, "verified": verified}).to_string(),
        Output::Text => format!(
            "{shown}: {} inboxes, {} messages, {} files, {} of them wrong",
            verified.inboxes, verified.messages, verified.files, verified.faults
        ),
    })?;
    Ok(verified.faults)
}

fn file(path: &Path, output: Output, config: &Config) -> anyhow::Result<u64> {
    let place = &config.backup.area.path;
    single::own_dir(place).with_context(|| format!("cannot use {}", place.display()))?;
    match Opened::open(path, config.backup.key.as_ref(), place) {
        Ok(opened) => {
            let (line, [messages, changes, receipts, devices]) = (opened.line(), opened.counts());
            out::line(&match output {
                Output::Json => json!({
                    "file": path, "fault": null, "type": line.kind.word(),
                    "tenant_id": line.inbox.tenant, "user_id": line.inbox.user,
                    "made_at": line.made_at, "since": line.since, "head": line.head,
                    "messages": messages, "changes": changes, "receipts": receipts,
                    "devices": devices,
                })
                .to_string(),
                Output::Text => format!(
                    "{}: whole; {} backup of {}, {messages} messages up to change {} ({})",
                    path.display(),
                    line.kind.word(),
                    line.inbox.user,
                    line.head.0,
                    line.made_at,
                ),
            })?;
            Ok(0)
        }
        Err(error) => {
            let what = anyhow::Error::from(error);
            tell(path, Some(&format!("{what:#}")), output)?;
            Ok(1)
        }
    }
}

fn tell(path: &Path, fault: Option<&str>, output: Output) -> std::io::Result<()> {
    match output {
        Output::Json => out::line(&json!({"file": path, "fault": fault}).to_string()),
        Output::Text => out::line(&format!("{}: {}", path.display(), fault.unwrap_or("whole"))),
    }
}
