//! Load generator and checker for pushhub; see README.md.
//!
//! Reading order: [`cli`], [`scenario`], [`engine`], then [`sockets`] and [`http_client`], then
//! [`checker`] and [`report`].

mod checker;
mod cli;
mod clock;
mod engine;
#[cfg(test)]
mod fake;
mod http_client;
mod machine;
mod progress;
mod report;
mod scan;
mod scenario;
mod server_stats;
mod sockets;
mod target;
mod timings;
mod token;
mod users;
mod ws_client;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{Cli, Form};

/// Thousands of small buffers that come and go: the system allocator fragments on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the scenario and writes its report; whether all bounds hold.
#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn run() -> Result<bool> {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    // The first Ctrl-C ends the run with a report, the second ends the program.
    signal_hook::flag::register_conditional_shutdown(
        signal_hook::consts::SIGINT,
        130,
        stop.clone(),
    )
    .context("listening for Ctrl-C")?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())
        .context("listening for Ctrl-C")?;
    let command = report::redacted(std::env::args());
    let report = scenario::run(&cli, command, stop)?;

    let machine = machine::Machine::read();
    let commit = machine::commit();
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let json = report.json(&machine, commit.as_deref(), unix_time);
    if let Some(path) = &cli.common.out {
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    match cli.common.report {
        Form::Text => print!("{}", report.text(&machine, commit.as_deref())),
        Form::Json => println!("{json:#}"),
    }
    if cli.common.json_summary {
        println!("{}", report.summary(commit.as_deref()));
    }
    Ok(report.missed().is_empty())
}
