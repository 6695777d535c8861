//! `pushhub check-config`.

use clap::Args;

use super::{Output, out};
use crate::config::{ConfigError, Format, Loaded, markdown_table, show};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How the settings are printed; `md` is the reference of all settings, whatever is set.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

pub(super) fn run(
    arguments: &Arguments,
    output: Output,
    loaded: Result<Loaded, ConfigError>,
) -> anyhow::Result<()> {
    let format = arguments.format.unwrap_or(match output {
        Output::Text => Format::Text,
        Output::Json => Format::Json,
    });
    if format == Format::Md {
        out::line(markdown_table().trim_end())?;
        return Ok(());
    }
    let loaded = loaded?;
    for warning in &loaded.warnings {
        out::note(&format!("warning: {warning}"));
    }
    out::line(show(&loaded.effective, format).trim_end())?;
    Ok(())
}
