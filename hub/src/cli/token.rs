//! `pushhub token`.

use std::time::Duration;

use clap::Subcommand;
use delivery::{
    clock::SharedClock,
    identity::{DEPARTMENT_PREFIX, MintRequest, department_role},
};
use protocol::{DeviceId, TenantId, UserId};
use serde_json::json;

use super::{Output, duration_argument, out};
use crate::{config::Config, foundation::Foundation};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a token of a user, signed with this server's key.
    #[command(
        after_help = "Example:\n  TOKEN=$(pushhub token mint --user user123 --device phone --ttl 24h)"
    )]
    Mint {
        /// The user.
        #[arg(long)]
        user: UserId,
        /// The device; its cursor is then kept by the server.
        #[arg(long)]
        device: Option<DeviceId>,
        /// A role, such as system_admin; may be given several times.
        #[arg(long)]
        role: Vec<String>,
        /// The department.
        #[arg(long)]
        department: Option<String>,
        /// The tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// How long it is valid; JWT_EXPIRE_TIME without one.
        #[arg(long, value_parser = duration_argument)]
        ttl: Option<Duration>,
    },
}

pub(super) fn run(command: &Command, output: Output, config: &Config) -> anyhow::Result<()> {
    let Command::Mint { user, device, role, department, tenant, ttl } = command;
    if let Some(name) = department {
        anyhow::ensure!(
            department_role(name).is_some(),
            "--department must have 1 to {} bytes without control characters",
            protocol::limits::ID_BYTES_MAX - DEPARTMENT_PREFIX.len()
        );
    }
    let request = MintRequest {
        device: device.clone(),
        roles: role.clone(),
        department: department.clone(),
        tenant: tenant.clone(),
        ttl: *ttl,
        ..MintRequest::new(user.clone())
    };
    let token = mint(config, &request)?;
    match output {
        Output::Text => out::line(&token)?,
        Output::Json => {
            let seconds = ttl.unwrap_or(config.auth.access_ttl).as_secs();
            let line = json!({ "token": token, "user_id": user, "expires_in": seconds });
            out::line(&line.to_string())?;
        }
    }
    Ok(())
}

/// A token signed with this server's key.
pub(super) fn mint(config: &Config, request: &MintRequest) -> anyhow::Result<String> {
    let foundation = Foundation::open(config, SharedClock::default(), &metrics::NoopRecorder)?;
    Ok(foundation.identity.mint(request))
}
