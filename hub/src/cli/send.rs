//! `pushhub send`.

use anyhow::{Context, bail};
use clap::Args;
use http::Uri;
use protocol::{Envelope, UserId};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Output, client_runtime, http_client, out};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A recipient; may be given several times.
    #[arg(long, required = true)]
    user: Vec<UserId>,
    /// The title.
    #[arg(long, default_value = "Hello")]
    title: String,
    /// The text.
    #[arg(long, default_value = "")]
    content: String,
    /// The message's type.
    #[arg(long = "type", default_value = "text")]
    message_type: String,
    /// The service's key.
    #[arg(long, env = "PUSHHUB_KEY", hide_env_values = true)]
    key: SecretString,
    /// Where the server is; this machine without one.
    #[arg(long)]
    url: Option<Uri>,
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => format!("http://{}", super::start_lines::reachable(config.process.user_address))
            .parse()
            .context("the configured address makes no URL")?,
    };
    let body = json!({
        "title": arguments.title,
        "content": arguments.content,
        "message_type": arguments.message_type,
        "recipients": arguments.user,
        "recipient_type": "user",
    });
    let request =
        http_client::post(&url, "/api/v3/messages/send", &arguments.key, body.to_string().into());
    let (status, body) = client_runtime()?.block_on(request)?;
    let envelope: Envelope<Value> = serde_json::from_slice(&body)
        .with_context(|| format!("{url} answered {status}, but not in our envelope"))?;
    let Some(data) = envelope.data.filter(|_| status == 200) else {
        let fields: Vec<String> = envelope
            .error
            .map(|error| error.fields)
            .unwrap_or_default()
            .iter()
            .map(|field| format!("; {} {}", field.path, field.problem))
            .collect();
        bail!("{status}: {}{}", envelope.message, fields.concat());
    };
    match output {
        Output::Text => {
            let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
            out::line(&format!("{} {}", text("message_id"), text("status")))?;
        }
        Output::Json => out::line(&data.to_string())?,
    }
    Ok(())
}
