//! `pushhub completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, NAME, out};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), NAME, &mut script);
    Ok(out::line(String::from_utf8(script)?.trim_end())?)
}
