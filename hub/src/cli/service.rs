//! `pushhub service`.

use std::time::Duration;

use clap::Subcommand;
use delivery::{
    clock::SharedClock,
    control::{
        ApiKeyOnce, Control, ControlError, KEY_OVERLAP_MAX, Level, NewKey, NewService, Rotation,
        Service, ServiceStatus,
    },
};
use protocol::{ServiceId, TenantId};
use serde_json::{Value, json};

use super::{Output, audit, duration_argument, out};
use crate::{config::Config, foundation::open_control};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Registers a backend and shows its key, once.
    #[command(
        after_help = "Example:\n  pushhub service create --name netdrive --level business --permission on_behalf_of"
    )]
    Create {
        /// What people call it.
        #[arg(long)]
        name: String,
        /// Its id; made up without one.
        #[arg(long)]
        id: Option<ServiceId>,
        /// What it may send: system, business or third_party (which waits for approval).
        #[arg(long, default_value = "business")]
        level: Level,
        /// An extra right, such as on_behalf_of; may be given several times.
        #[arg(long)]
        permission: Vec<String>,
        /// An address or network from which its keys may be used, such as 10.0.0.0/8; may be given several
        /// times. Everywhere without one.
        #[arg(long)]
        allow_network: Vec<String>,
        /// Who answers for it.
        #[arg(long, default_value = "")]
        owner: String,
        /// The tenant whose users it reaches.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Lists all backends.
    #[command(after_help = "Example:\n  pushhub service list --output json")]
    List,
    /// Stops a backend: its keys open nothing any more, within a second.
    #[command(after_help = "Example:\n  pushhub service disable quickstart")]
    Disable {
        /// The backend's id.
        id: ServiceId,
    },
    /// Makes another key. The older ones stay valid until they are revoked or the overlap is over, so
    /// that a backend can change over without a gap.
    #[command(
        after_help = "Examples:\n  pushhub service rotate quickstart\n  pushhub service rotate quickstart --overlap 24h\n  pushhub service rotate quickstart --revoke-old"
    )]
    Rotate {
        /// The backend's id.
        id: ServiceId,
        /// Ends all older keys after this time, at most 30 days; 0s for keys that leaked.
        #[arg(long, value_parser = duration_argument)]
        overlap: Option<Duration>,
        /// Revokes all older keys at once.
        #[arg(long, conflicts_with = "overlap")]
        revoke_old: bool,
    },
}

pub(super) fn run(command: Command, output: Output, config: &Config) -> anyhow::Result<()> {
    let control = open_control(config, SharedClock::default())?;
    match command {
        Command::Create { name, id, level, permission, allow_network, owner, tenant } => {
            let new = NewService {
                id: id.map(|id| id.to_string()),
                level: Some(level),
                permissions: permission,
                allowed_networks: allow_network,
                owner,
                tenant_id: tenant.map(|tenant| tenant.to_string()),
                ..NewService::named(name)
            };
            let (service, key) = control.create_service(new).map_err(in_words)?;
            let target = format!("services/{}", service.id);
            audit::record(&control, "services_create", target, Value::Null, json!(service))?;
            show_with_key(&service, &key, output)
        }
        Command::List => list(&control, output),
        Command::Disable { id } => {
            let before = json!(*control.get(&id)?);
            let service = control.set_status(&id, ServiceStatus::Disabled)?;
            let target = format!("services/{id}");
            audit::record(&control, "services_disable", target, before, json!(*service))?;
            match output {
                Output::Text => out::line(&format!("{id} is {}", service.status))?,
                Output::Json => out::line(&serde_json::to_string(&*service)?)?,
            }
            Ok(())
        }
        Command::Rotate { id, overlap: Some(overlap), .. } => {
            anyhow::ensure!(
                overlap <= KEY_OVERLAP_MAX,
                "--overlap must be at most {} days",
                KEY_OVERLAP_MAX.as_secs() / 86_400
            );
            let rotation = Rotation { overlap, expires_at: None };
            let key = control.rotate_keys(&id, None, rotation)?;
            let target = format!("services/{id}/keys");
            audit::record(&control, "services_rotate_key", target, Value::Null, json!(key.key))?;
            show_with_key(&*control.get(&id)?, &key, output)
        }
        Command::Rotate { id, overlap: None, revoke_old } => {
            let old = control.list_keys(&id)?;
            let key = control.create_key(&id, NewKey::default())?;
            let target = format!("services/{id}/keys");
            audit::record(&control, "services_create_key", target, Value::Null, json!(key.key))?;
            if revoke_old {
                for old in &old {
                    control.revoke_key(&id, &old.id)?;
                    let target = format!("services/{id}/keys/{}", old.id);
                    audit::record(
                        &control,
                        "services_revoke_key",
                        target,
                        json!(old),
                        Value::Null,
                    )?;
                }
            }
            show_with_key(&*control.get(&id)?, &key, output)?;
            if !revoke_old && !old.is_empty() {
                out::note(&format!(
                    "{} older key(s) stay valid; `pushhub service rotate {id} --overlap 24h` ends them a day later",
                    old.len()
                ));
            }
            Ok(())
        }
    }
}

fn list(control: &Control, output: Output) -> anyhow::Result<()> {
    let services = control.list()?;
    if output == Output::Json {
        let services: Vec<&Service> = services.iter().map(AsRef::as_ref).collect();
        out::line(&serde_json::to_string(&services)?)?;
        return Ok(());
    }
    if services.is_empty() {
        out::note("no services yet: pushhub service create --name NAME");
    }
    let width = services.iter().map(|service| service.id.as_str().len()).max().unwrap_or(0);
    for service in &services {
        let Service { id, name, level, status, permissions, .. } = &**service;
        let id = id.as_str();
        let (level, status) = (level.as_str(), status.as_str());
        let permissions = permissions.join(",");
        out::line(
            format!("{id:width$}  {level:11}  {status:9}  {name}  {permissions}").trim_end(),
        )?;
    }
    Ok(())
}

fn show_with_key(service: &Service, key: &ApiKeyOnce, output: Output) -> anyhow::Result<()> {
    match output {
        // Two lines that a shell can take over.
        Output::Text => {
            out::line(&format!("SERVICE={}", service.id))?;
            out::line(&format!("KEY={}", key.expose()))?;
            out::note("The key is shown this once; what is kept is a hash of it.");
            if service.status != ServiceStatus::Active {
                out::note(&format!("The service is {}: it may not send yet.", service.status));
            }
        }
        Output::Json => {
            let mut line = serde_json::to_value(service)?;
            line["api_key"] = json!(key.expose());
            out::line(&line.to_string())?;
        }
    }
    Ok(())
}

/// The fields at fault belong into the one line that is printed.
fn in_words(error: ControlError) -> anyhow::Error {
    if let ControlError::Invalid(problems) = &error {
        let problems: Vec<String> =
            problems.iter().map(|p| format!("{} {}", p.path, p.problem)).collect();
        return anyhow::anyhow!("{error}: {}", problems.join("; "));
    }
    error.into()
}
