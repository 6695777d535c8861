//! `pushhub keys`.

use std::{sync::Arc, time::Duration};

use clap::Subcommand;
use delivery::{
    clock::SharedClock,
    identity::signing::{KEY_LEAD, SigningKey, SigningKeys},
};
use serde_json::{Value, json};

use super::{Output, audit, duration_argument, out};
use crate::{
    config::Config,
    foundation::{open_control, open_signing_keys, overlap},
    storage_secrets::Secrets,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the keys whose tokens are believed.
    #[command(after_help = "Example:\n  pushhub keys list --output json")]
    List,
    /// Makes a new key. It is published at once and signs five minutes later, when whoever keeps the
    /// published keys has it; the older ones go on checking until what they signed has ended.
    #[command(
        after_help = "Examples:\n  pushhub keys rotate\n  pushhub keys rotate --now --overlap 12h"
    )]
    Rotate {
        /// The new key signs at once.
        #[arg(long)]
        now: bool,
        /// How long the older keys check after the new one has begun to sign; as long as tokens live
        /// (JWT_EXPIRE_TIME) without one.
        #[arg(long, value_parser = duration_argument)]
        overlap: Option<Duration>,
    },
    /// Ends a key: tokens that it signed are refused from now on, on every node within two seconds.
    #[command(
        after_help = "Example:\n  pushhub keys retire NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )]
    Retire {
        /// The key's name.
        kid: String,
    },
}

pub(super) fn run(command: Command, output: Output, config: &Config) -> anyhow::Result<()> {
    let secrets = Secrets::open(&config.auth, &config.store)?;
    let control = open_control(config, SharedClock::default())?;
    let keys = open_signing_keys(config, &secrets, Arc::clone(&control))?;
    match command {
        Command::List => list(&keys, output),
        Command::Rotate { now, overlap: asked } => {
            let lead = if now { Duration::ZERO } else { KEY_LEAD };
            let kid = keys.rotate(lead, asked.unwrap_or_else(|| overlap(config)))?;
            audit::record(
                &control,
                "signing_keys_rotate",
                format!("signing-keys/{kid}"),
                Value::Null,
                Value::Null,
            )?;
            told(&kid, &keys, output)
        }
        Command::Retire { kid } => {
            keys.retire(&kid)?;
            audit::record(
                &control,
                "signing_keys_retire",
                format!("signing-keys/{kid}"),
                Value::Null,
                Value::Null,
            )?;
            match output {
                Output::Text => out::line(&format!("{kid} is retired"))?,
                Output::Json => out::line(&json!({ "kid": kid, "status": "retired" }).to_string())?,
            }
            Ok(())
        }
    }
}

fn told(kid: &str, keys: &Arc<SigningKeys>, output: Output) -> anyhow::Result<()> {
    for key in keys.list()?.iter().filter(|key| key.kid == kid) {
        show(key, output)?;
    }
    Ok(())
}

fn list(keys: &Arc<SigningKeys>, output: Output) -> anyhow::Result<()> {
    let keys = keys.list()?;
    if output == Output::Json {
        out::line(&serde_json::to_string(&keys)?)?;
        return Ok(());
    }
    if keys.is_empty() {
        out::note("no keys: tokens are signed with JWT_SECRET (JWT_SIGNING_ALGORITHM=HS256)");
    }
    keys.iter().try_for_each(|key| show(key, output))
}

fn show(key: &SigningKey, output: Output) -> anyhow::Result<()> {
    let SigningKey { kid, algorithm, signs, signs_from, ends_at, .. } = key;
    let line = match output {
        Output::Json => serde_json::to_string(key)?,
        Output::Text => {
            let does = match (signs, ends_at) {
                (true, None) => "signs".to_owned(),
                (true, Some(end)) => format!("signs, checks until {end}"),
                (false, Some(end)) => format!("checks until {end}"),
                (false, None) => format!("signs from {signs_from}"),
            };
            format!("{kid}  {algorithm}  {does}")
        }
    };
    Ok(out::line(&line)?)
}
