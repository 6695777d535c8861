//! The settings for people and machines: what `check-config` prints.

use std::fmt::Write as _;

use super::{
    Effective,
    table::{self, Setting, Topic},
};

/// How settings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// In columns, with where each value came from.
    #[default]
    Text,
    /// A JSON array of objects.
    Json,
    /// A file of variables, without secrets.
    Env,
    /// A `pushhub.toml`, without secrets.
    Toml,
    /// The reference table of all settings in Markdown, whatever is set.
    Md,
}

/// The settings in force. Secrets are `***`; in the forms that can be read back they are left out.
#[must_use]
pub fn show(effective: &[Effective], format: Format) -> String {
    let mut out = String::new();
    match format {
        Format::Text => {
            let width = table::ALL.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
            for Effective { setting, text, origin } in effective {
                let text = if text.is_empty() { "-" } else { text };
                let origin = origin.describe();
                line(&mut out, format_args!("{:width$}  {text}  ({origin})", setting.name));
            }
        }
        Format::Json => {
            let rows: Vec<serde_json::Value> = effective
                .iter()
                .map(|Effective { setting, text, origin }| {
                    serde_json::json!({
                        "name": setting.name,
                        "value": if text.is_empty() { None } else { Some(text) },
                        "origin": origin.describe(),
                        "live": setting.live,
                        "default": if setting.default.is_empty() { None } else { Some(setting.default) },
                        "allowed": setting.kind.allowed(),
                        "meaning": setting.meaning,
                    })
                })
                .collect();
            line(&mut out, format_args!("{}", serde_json::Value::Array(rows)));
        }
        Format::Env | Format::Toml => {
            for Effective { setting, text, .. } in effective {
                line(&mut out, format_args!("# {}", setting.meaning));
                let name = setting.name;
                if text.is_empty() || setting.is_secret() {
                    line(&mut out, format_args!("# {name}="));
                } else if format == Format::Toml {
                    line(&mut out, format_args!("{name} = {}", toml::Value::from(text.as_str())));
                } else {
                    line(&mut out, format_args!("{name}={text}"));
                }
            }
        }
        Format::Md => out = markdown_table(),
    }
    out
}

/// The reference of all settings, as it stands in the README.
#[must_use]
pub fn markdown_table() -> String {
    let mut out =
        String::from("| Variable | Default | Live | Allowed | Meaning |\n|---|---|---|---|---|\n");
    for topic in Topic::ALL {
        line(&mut out, format_args!("| **{}** | | | | |", topic.title()));
        for Setting { name, default, kind, meaning, live, .. } in
            table::ALL.iter().filter(|setting| setting.topic == topic)
        {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let (allowed, live) = (kind.allowed(), if *live { "yes" } else { "" });
            line(
                &mut out,
                format_args!("| `{name}` | {default} | {live} | {allowed} | {meaning} |"),
            );
        }
    }
    out
}

/// The same for a terminal: the end of `pushhub --help`.
#[must_use]
pub(crate) fn help_table() -> String {
    let mut out = String::from("Settings (environment, or pushhub.toml):\n");
    for setting in table::ALL {
        let default = if setting.default.is_empty() { "-" } else { setting.default };
        line(&mut out, format_args!("  {} [{default}]", setting.name));
        line(&mut out, format_args!("      {}", setting.meaning));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every text");
}
