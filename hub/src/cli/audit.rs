//! `pushhub audit`, and what other commands leave in the audit log.

use std::sync::Arc;

use clap::Subcommand;
use delivery::{
    audit::{Audit, Entry, Filter, Hash, NewEntry, Verdict},
    clock::SharedClock,
    control::Control,
};
use serde_json::Value;

use super::{Output, out};
use crate::{config::Config, foundation::open_control};

/// Entries that are read at once.
const PAGE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists what admins have changed, latest first.
    #[command(
        after_help = "Examples:\n  pushhub audit list --limit 20\n  pushhub audit list --target services/shop --output json"
    )]
    List {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// By whoever is called so, or has this id.
        #[arg(long)]
        actor: Option<String>,
        /// What was done, such as services_update.
        #[arg(long)]
        action: Option<String>,
        /// To what, such as services/shop; what is below it is listed too.
        #[arg(long)]
        target: Option<String>,
    },
    /// Looks whether the log is as it was written. Exit code 1 if it is not.
    #[command(
        after_help = "Examples:\n  pushhub audit verify\n  pushhub audit verify --remembered 1207:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    Verify {
        /// The place and hash of an entry that were kept elsewhere, as the security log has them: without
        /// them, a log that was cut off or written anew as a whole looks whole.
        #[arg(long, value_name = "SEQ:HASH", value_parser = remembered)]
        remembered: Option<(u64, Hash)>,
    },
}

fn remembered(text: &str) -> Result<(u64, Hash), String> {
    let parsed =
        text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.parse().ok()?)));
    parsed.ok_or_else(|| "must be a place, a colon and 64 hexadecimal digits".to_owned())
}

pub(super) fn run(command: Command, output: Output, config: &Config) -> anyhow::Result<()> {
    let audit = Audit::new(open_control(config, SharedClock::default())?);
    match command {
        Command::List { limit, actor, action, target } => {
            let filter = Filter { actor, action, target, ..Filter::default() };
            list(&audit, &filter, limit, output)
        }
        Command::Verify { remembered } => {
            let verified = audit.verify(remembered)?;
            let (entries, hash) = (verified.entries, verified.hash);
            match output {
                Output::Json => out::line(&serde_json::to_string(&verified)?)?,
                Output::Text => out::line(&format!("{entries}:{hash}"))?,
            }
            let wrong = verified.first_wrong.unwrap_or_default();
            match verified.verdict {
                Verdict::Whole => Ok(()),
                Verdict::Missing => anyhow::bail!("entry {wrong} is missing"),
                Verdict::Changed => anyhow::bail!("entry {wrong} is not as it was written"),
                Verdict::Forgotten => anyhow::bail!(
                    "entry {wrong} is not the one that was remembered: the log was cut off or written anew"
                ),
            }
        }
    }
}

fn list(audit: &Audit, filter: &Filter, limit: usize, output: Output) -> anyhow::Result<()> {
    let (mut left, mut before) = (limit, None);
    while left > 0 {
        let page = audit.list(filter, before, left.min(PAGE))?;
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        left -= page.len();
        for entry in &page {
            match output {
                Output::Json => out::line(&serde_json::to_string(entry)?)?,
                Output::Text => {
                    let Entry { seq, at, actor, action, target, status, .. } = entry;
                    out::line(&format!(
                        "{seq}  {at}  {}  {action}  {target}  {status}",
                        actor.name
                    ))?;
                }
            }
        }
    }
    Ok(())
}

/// Something that a command did.
pub(super) fn record(
    control: &Arc<Control>,
    action: &'static str,
    target: String,
    before: Value,
    after: Value,
) -> anyhow::Result<()> {
    let entry = NewEntry::by_cli(control.clock().now(), who(), action, target);
    Ok(Audit::new(Arc::clone(control)).record_now(entry.changing(before, after))?)
}

/// Who sits at the command line, as far as the system says.
fn who() -> String {
    let name = ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
