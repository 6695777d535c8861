//! `pushhub man`: the manual's pages, from what `--help` says and from the table of settings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use super::{Cli, EXIT_USAGE, NAME, Output, out};
use crate::{
    config::{
        EXIT_CONFIG,
        table::{ALL, Topic},
    },
    telemetry::VERSION,
};

/// The page of settings, in section 5: files and their formats.
const SETTINGS: &str = "pushhub.toml";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder that the pages are written to; made if it is missing. Pages of the same names are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let folder = &arguments.out;
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    fs::create_dir_all(folder).with_context(|| cannot(folder))?;
    let mut names = Vec::new();
    for (name, page) in pages()? {
        let path = folder.join(&name);
        fs::write(&path, page).with_context(|| cannot(&path))?;
        names.push(path.display().to_string());
    }
    match output {
        Output::Text => out::line(&names.join("\n"))?,
        Output::Json => out::line(&serde_json::to_string(&names)?)?,
    }
    Ok(())
}

/// All pages: file names, and what is in them.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    // The long help ends with all settings, which have a page of their own here.
    let root = Cli::command()
        .disable_help_subcommand(true)
        .after_long_help(format!(
            "Without a command: serve.\n\nExit codes: 0 done, 1 failed, {EXIT_USAGE} wrong command line, {EXIT_CONFIG} wrong settings.\n\nSettings: {SETTINGS}(5)."
        ));
    let mut pages = Vec::new();
    add(root, NAME, &mut pages)?;
    pages.push((format!("{SETTINGS}.5"), settings()?));
    Ok(pages.into_iter().map(|(name, page)| (name, in_ascii(&page))).collect())
}

/// What is not ASCII, by its number: groff reads bytes unless it is told otherwise.
fn in_ascii(page: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for character in String::from_utf8_lossy(page).chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            out += &format!("\\[u{:04X}]", u32::from(character));
        }
    }
    out.into_bytes()
}

/// The page of a command, and of those below it.
fn add(
    command: clap::Command,
    name: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> anyhow::Result<()> {
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    // clap takes names of commands for good, and this process makes the pages once.
    let shown: &'static str = String::leak(name.to_owned());
    let spaced: &'static str = String::leak(name.replace('-', " "));
    let command = command.name(shown).bin_name(spaced).display_name(shown).version(VERSION);
    let mut page = Vec::new();
    Man::new(command).manual("pushhub").source(format!("pushhub {VERSION}")).render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for command in below {
        let name = format!("{name}-{}", command.get_name());
        add(command, &name, pages)?;
    }
    Ok(())
}

fn settings() -> anyhow::Result<Vec<u8>> {
    let mut page = Roff::new();
    page.control("TH", [SETTINGS, "5", "", &format!("pushhub {VERSION}"), "pushhub"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{SETTINGS} - settings of pushhub"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("Settings are variables of the environment, or keys of a TOML file: the one of "),
        bold("--config"),
        roman(", else of "),
        bold("PUSHHUB_CONFIG"),
        roman(format!(", else ./{SETTINGS} where there is one. The environment wins over the file. An empty variable counts as not given. A secret NAME may stand in a file that ")),
        bold("NAME_FILE"),
        roman(" names."),
    ]);
    page.control("SH", ["SETTINGS"]);
    for topic in Topic::ALL {
        page.control("SS", [topic.title()]);
        for setting in ALL.iter().filter(|setting| setting.topic == topic) {
            page.control("TP", []);
            page.text([bold(setting.name)]);
            let mut words = marked(setting.meaning);
            if !setting.default.is_empty() {
                words.extend([roman(" Default: "), italic(setting.default), roman(".")]);
            }
            words.push(roman(" Allowed: "));
            words.extend(marked(&setting.kind.allowed()));
            words.push(roman("."));
            page.text(words);
        }
    }
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    page.text([roman("USER_SERVER_PORT = 8080\nRETENTION_MAX_AGE = \"720h\"")]);
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("pushhub"), roman("(1), "), bold("pushhub-check-config"), roman("(1)")]);
    let mut bytes = Vec::new();
    page.to_writer(&mut bytes)?;
    Ok(bytes)
}

/// Text of which parts stand in backticks, as the README's table has it.
fn marked(text: &str) -> Vec<Inline> {
    let part = |(n, part): (usize, &str)| if n % 2 == 0 { roman(part) } else { bold(part) };
    text.split('`').enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_setting_has_its_place() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| &**name).collect();
        for name in ["pushhub.1", "pushhub-serve.1", "pushhub-token-mint.1", "pushhub.toml.5"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let (_, settings) = pages.last().unwrap();
        let settings = String::from_utf8_lossy(settings);
        for setting in ALL {
            assert!(settings.contains(setting.name), "{}", setting.name);
        }
        let (_, mint) = pages.iter().find(|(name, _)| name == "pushhub-token-mint.1").unwrap();
        let mint = String::from_utf8_lossy(mint);
        assert!(mint.contains("pushhub token mint") && mint.contains("Example"), "{mint}");
    }
}
