//! The command line.

mod audit;
mod backup;
mod check_config;
mod completions;
mod content;
mod doctor;
mod http_client;
mod keys;
mod man;
mod migrate;
mod out;
mod progress;
mod restore;
mod runs;
mod send;
mod serve;
mod service;
mod start_lines;
mod tail;
mod token;
mod verify;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError, EXIT_CONFIG, Purpose, help_table, process_environment};

/// What the program is called.
const NAME: &str = "pushhub";

/// Exit code of a command line that cannot be read: `EX_USAGE` of sysexits.h.
pub const EXIT_USAGE: u8 = 64;

/// Exit code of anything else that failed.
pub const EXIT_FAILURE: u8 = 1;

/// A hub that stores messages and pushes them to whoever is connected.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    after_help = "Without a command: serve. Exit codes: 0 done, 1 failed, 64 wrong command line, 78 wrong settings.\nAll settings: pushhub --help",
    after_long_help = after_long_help()
)]
pub struct Cli {
    /// File of settings; without it `PUSHHUB_CONFIG`, else ./pushhub.toml where there is one. The
    /// environment wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines, one document a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    #[command(after_help = "Example:\n  USER_SERVER_PORT=0 ADMIN_SERVER_PORT=0 pushhub serve")]
    Serve,
    /// Checks the settings and prints them.
    #[command(after_help = "Examples:\n  pushhub check-config\n  pushhub check-config --format md")]
    CheckConfig(check_config::Arguments),
    /// Checks all that a node needs, from settings and disk to Redis and PostgreSQL, and says what to mend. Changes
    /// nothing; may be run beside a node.
    #[command(
        after_help = "Examples:\n  pushhub doctor\n  pushhub doctor --json\n  sudo systemd-run --pipe --wait -p User=pushhub -p EnvironmentFile=/etc/pushhub/pushhub.env pushhub doctor\n\nExit codes: 0 where nothing fails (warnings included), 1 where something does."
    )]
    Doctor(doctor::Arguments),
    /// Makes or upgrades the tables of the database that DATABASE_URL names, and moves the folder of a single
    /// node into it.
    #[command(
        after_help = "Examples:\n  DATABASE_URL=postgres://hub@db/hub pushhub migrate\n  DATABASE_URL=postgres://hub@db/hub pushhub migrate --from ./data/user_storage"
    )]
    Migrate(migrate::Arguments),
    /// Makes tokens of users.
    #[command(subcommand)]
    Token(token::Command),
    /// The keys that tokens are signed with, where JWT_SIGNING_ALGORITHM is not HS256.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Registers backends and their keys.
    #[command(subcommand)]
    Service(service::Command),
    /// What admins have changed, and whether anybody has changed that.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Sends a message to users, as a service.
    #[command(
        after_help = "Example:\n  pushhub send --key \"$KEY\" --user user123 --title Hello --content 'It works'"
    )]
    Send(send::Arguments),
    /// Connects as a user and prints every frame as one line; comes back when the server says so.
    #[command(after_help = "Example:\n  pushhub tail --user user123 --since 0")]
    Tail(tail::Arguments),
    /// Prints a script by which a shell completes commands and options.
    #[command(
        after_help = "Examples:\n  source <(pushhub completions bash)\n  pushhub completions fish > ~/.config/fish/completions/pushhub.fish"
    )]
    Completions(completions::Arguments),
    /// Writes the manual: a page for each command, and one of all settings.
    #[command(after_help = "Example:\n  pushhub man --out ./man && man -l ./man/pushhub.1")]
    Man(man::Arguments),
    /// Backs up an inbox: of a folder, also one that is served, or of the database.
    #[command(
        after_help = "Example:\n  pushhub backup --user user123 --compress --out user123.db.gz"
    )]
    Backup(backup::Arguments),
    /// Lists the backups of everybody that BACKUP_SCHEDULE makes, or whose inboxes are in one.
    #[command(after_help = "Examples:\n  pushhub backups\n  pushhub --output json backups latest")]
    Backups(runs::Arguments),
    /// Brings inboxes back from backups, into a folder or a database that no node serves.
    #[command(
        after_help = "Examples:\n  pushhub restore backup_user123.db.gz\n  pushhub restore --replace --user user123 sunday.db monday.db tuesday.db\n  pushhub restore --run latest"
    )]
    Restore(restore::Arguments),
    /// Counts by which of DATA_ENCRYPTION_KEYS the content of messages is encrypted, and writes it anew.
    #[command(
        after_help = "Examples:\n  pushhub content\n  pushhub content --rewrite\n\nA storage folder must not be served meanwhile; nodes may go on working on a database."
    )]
    Content(content::Arguments),
    /// Tells whole backups and storage folders from damaged ones.
    #[command(
        after_help = "Examples:\n  pushhub verify\n  pushhub verify backup_user123.db.gz\n  pushhub verify --run latest"
    )]
    Verify(verify::Arguments),
}

fn after_long_help() -> String {
    format!(
        "Without a command: serve.\n\nExit codes: 0 done, 1 failed, {EXIT_USAGE} wrong command line, {EXIT_CONFIG} wrong settings.\n\nSecrets may stand in a file: JWT_SECRET_FILE, ADMIN_TOKEN_FILE, DATABASE_URL_FILE, REDIS_URL_FILE, BACKUP_ENCRYPTION_KEY_FILE, DATA_ENCRYPTION_KEYS_FILE.\n\n{}",
        help_table()
    )
}

/// Reads the command line of this process and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nobody is left to be told where the terminal is gone.
            let _ = error.print();
            return code.into();
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&error);
            let Some(ConfigError { warnings, .. }) = error.downcast_ref() else {
                return EXIT_FAILURE.into();
            };
            // A name that was mistyped may be why another setting is said to be missing.
            for warning in warnings {
                out::note(&format!("warning: {warning}"));
            }
            EXIT_CONFIG.into()
        }
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<()> {
        let command = self.command.unwrap_or(Command::Serve);
        let purpose = match command {
            Command::Migrate(_) => Purpose::Migrate,
            Command::Service(_)
            | Command::Audit(_)
            | Command::Send(_)
            | Command::Backup(_)
            | Command::Backups(_)
            | Command::Restore(_)
            | Command::Content(_)
            | Command::Verify(_) => Purpose::Manage,
            // Tokens are signed with the secret of the nodes, and keys are sealed with what it makes.
            Command::Serve
            | Command::CheckConfig(_)
            | Command::Token(_)
            | Command::Keys(_)
            | Command::Tail(_)
            | Command::Doctor(_)
            | Command::Completions(_)
            | Command::Man(_) => Purpose::Serve,
        };
        let loaded = Config::load_for(purpose, &process_environment(), self.config.as_deref());
        let output = self.output;
        match command {
            // The reference does not depend on what is set, so that it can be made anywhere.
            Command::CheckConfig(arguments) => check_config::run(&arguments, output, loaded),
            Command::Doctor(arguments) => doctor::run(&arguments, output, loaded),
            Command::Completions(arguments) => completions::run(&arguments),
            Command::Man(arguments) => man::run(&arguments, output),
            Command::Serve => serve::run(loaded?),
            Command::Migrate(arguments) => migrate::run(&arguments, output, &loaded?.config),
            Command::Token(command) => token::run(&command, output, &loaded?.config),
            Command::Keys(command) => keys::run(command, output, &loaded?.config),
            Command::Service(command) => service::run(command, output, &loaded?.config),
            Command::Audit(command) => audit::run(command, output, &loaded?.config),
            Command::Send(arguments) => send::run(&arguments, output, &loaded?.config),
            Command::Tail(arguments) => tail::run(arguments, loaded?),
            Command::Backup(arguments) => backup::run(&arguments, output, &loaded?.config),
            Command::Backups(arguments) => runs::run(&arguments, output, &loaded?.config),
            Command::Restore(arguments) => restore::run(&arguments, output, &loaded?.config),
            Command::Content(arguments) => content::run(&arguments, output, &loaded?.config),
            Command::Verify(arguments) => verify::run(&arguments, output, &loaded?.config),
        }
    }
}

/// A small runtime for commands that only talk to a server.
fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn duration_argument(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .ok_or_else(|| "must be a duration with its unit, such as 30s or 2h".to_owned())
}

#[cfg(test)]
mod tests;
