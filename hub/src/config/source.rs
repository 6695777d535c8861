//! What was given: the environment over the file over the defaults, and what is wrong with it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use delivery::{control::LiveTexts, identity::TrustedIssuers, limit::Rate, networks::Networks};
use secrecy::SecretString;

use crate::bus::RedisAddress;

use super::{
    ADDRESS_STAND_IN, Environment, Problem,
    table::{self, Setting},
    value::Value,
};

/// Read where no other file is named.
const DEFAULT_FILE: &str = "pushhub.toml";

/// Largest file of settings or of a secret, in bytes: a path to the wrong file must not fill memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a setting's text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// A variable.
    Environment,
    /// The file of settings.
    File(PathBuf),
    /// The file that `NAME_FILE` names.
    SecretFile(PathBuf),
    /// An admin, while the process ran.
    Live,
}

impl Origin {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Environment => "environment".to_owned(),
            Self::Live => "live".to_owned(),
            Self::File(path) | Self::SecretFile(path) => path.display().to_string(),
        }
    }
}

/// A setting as it is in force. The text of a secret is `***`, or empty where none is given.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Which.
    pub setting: &'static Setting,
    /// Its text.
    pub text: String,
    /// Whose word it is.
    pub origin: Origin,
}

/// What was given, by the names of settings; secrets are in it.
#[derive(Clone)]
pub struct Texts(BTreeMap<&'static str, (String, Origin)>);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").finish_non_exhaustive()
    }
}

/// The texts in force and the mistakes found so far.
pub(super) struct Given {
    texts: BTreeMap<&'static str, (String, Origin)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Given {
    pub(super) fn collect(environment: &Environment, file: Option<&Path>) -> Self {
        let mut given = Self { texts: BTreeMap::new(), problems: Vec::new(), warnings: Vec::new() };
        let named = file.map(Path::to_path_buf).or_else(|| {
            environment
                .get(table::CONFIG_FILE_VARIABLE)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
        match named {
            Some(path) => given.read_file(&path, true),
            None => given.read_file(Path::new(DEFAULT_FILE), false),
        }
        given.read_environment(environment);
        given
    }

    /// What was given at the start.
    pub(super) fn texts(&self) -> Texts {
        Texts(self.texts.clone())
    }

    /// What was given at the start, and live values in its place.
    pub(super) fn with_live(Texts(texts): Texts, live: &LiveTexts) -> Self {
        let mut given = Self { texts, problems: Vec::new(), warnings: Vec::new() };
        for (name, text) in live {
            match table::find(name) {
                Some(setting) if setting.live => {
                    given.texts.insert(setting.name, (text.clone(), Origin::Live));
                }
                Some(_) => given.problem(
                    name,
                    "cannot be changed while the hub runs; set it in the environment or the file, and restart",
                ),
                None => {
                    let hint = nearest(name);
                    given.problem(name, format!("is no setting{hint}"));
                }
            }
        }
        given
    }

    fn problem(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { name: name.into(), text: text.into() });
    }

    fn read_file(&mut self, path: &Path, must_exist: bool) {
        let shown = path.display().to_string();
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return,
            Err(error) => return self.problem(shown, format!("cannot be read: {error}")),
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // The parser's sentence quotes the line, which may hold a secret: only its place.
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let line = text.as_bytes()[..at.min(text.len())]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count()
                    + 1;
                return self
                    .problem(shown, format!("is no TOML: {} (line {line})", error.message()));
            }
        };
        let mut secrets = Vec::new();
        for (key, value) in &table {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
                    items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
                }
                toml::Value::Array(_)
                | toml::Value::Boolean(_)
                | toml::Value::Float(_)
                | toml::Value::Datetime(_)
                | toml::Value::Table(_) => {
                    let kind = value.type_str();
                    self.problem(
                        key,
                        format!("is a {kind} in {shown}; allowed: a string, a whole number, or a list of strings"),
                    );
                    continue;
                }
            };
            let origin = Origin::File(path.to_path_buf());
            if let Some(setting) = table::find(key) {
                self.texts.insert(setting.name, (text, origin));
            } else if let Some(setting) = secret_of_file_name(key) {
                secrets.push((setting, text));
            } else {
                let hint = nearest(key);
                self.problem(key, format!("is no setting (in {shown}){hint}"));
            }
        }
        for (setting, path) in secrets {
            self.read_secret(setting, &path, table.contains_key(setting.name));
        }
    }

    fn read_environment(&mut self, environment: &Environment) {
        for (name, text) in environment {
            if text.is_empty() {
                continue;
            }
            if let Some(setting) = table::find(name) {
                self.texts.insert(setting.name, (text.clone(), Origin::Environment));
            } else if let Some(setting) = secret_of_file_name(name) {
                let both = environment.get(setting.name).is_some_and(|text| !text.is_empty());
                self.read_secret(setting, text, both);
            } else if begins_with_one_of(name, table::OWN_PREFIXES)
                && !begins_with_one_of(name, table::KUBERNETES_PREFIXES)
                && !table::OTHER_NAMES.contains(&name.as_str())
            {
                self.warnings.push(format!("{name} is no setting{}", nearest(name)));
            }
        }
    }

    fn read_secret(&mut self, setting: &'static Setting, path: &str, both: bool) {
        let name = format!("{}_FILE", setting.name);
        if both {
            return self
                .problem(name, format!("is set beside {}; allowed: one of them", setting.name));
        }
        match read_small(Path::new(path)) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                self.texts.insert(setting.name, (text, Origin::SecretFile(path.into())));
            }
            Err(error) => {
                self.problem(name, format!("names {path}, which cannot be read: {error}"))
            }
        }
    }

    /// The value of a setting; a mistake is noted and gives [`Value::None`].
    fn value(&mut self, name: &'static str) -> Value {
        let setting = table::find(name).expect("only names of the table are asked for");
        let (text, origin) = self
            .texts
            .entry(setting.name)
            .or_insert_with(|| (setting.default.to_owned(), Origin::Default));
        if let Some(value) = setting.kind.read(text) {
            return value;
        }
        let from = match origin {
            Origin::File(path) => format!(" (in {})", path.display()),
            Origin::SecretFile(path) => format!(" (from {})", path.display()),
            Origin::Environment | Origin::Default | Origin::Live => String::new(),
        };
        let what = if setting.is_secret() {
            format!("given: a text of {} bytes{from}", text.len())
        } else {
            format!("given: {text:?}{from}")
        };
        let problem = format!("{what}; allowed: {}", setting.kind.allowed());
        self.problem(name, problem);
        Value::None
    }

    // A mistake ends the start, so that what stands in for the value is never used.

    pub(super) fn address(&mut self, name: &'static str) -> IpAddr {
        if let Value::Address(address) = self.value(name) { address } else { ADDRESS_STAND_IN }
    }

    pub(super) fn port(&mut self, name: &'static str) -> u16 {
        if let Value::Port(port) = self.value(name) { port } else { 0 }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        if let Value::Text(text) = self.value(name) { Some(text) } else { None }
    }

    pub(super) fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.text(name).map(SecretString::from)
    }

    pub(super) fn redis(&mut self, name: &'static str) -> Option<RedisAddress> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    pub(super) fn path(&mut self, name: &'static str) -> PathBuf {
        if let Value::Path(path) = self.value(name) { path } else { PathBuf::new() }
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Duration {
        self.optional_duration(name).unwrap_or_default()
    }

    /// Nothing where it is off.
    pub(super) fn optional_duration(&mut self, name: &'static str) -> Option<Duration> {
        if let Value::Duration(duration) = self.value(name) { Some(duration) } else { None }
    }

    pub(super) fn number(&mut self, name: &'static str) -> usize {
        self.optional_number(name).unwrap_or_default()
    }

    pub(super) fn optional_number(&mut self, name: &'static str) -> Option<usize> {
        if let Value::Number(number) = self.value(name) { Some(number) } else { None }
    }

    /// Nothing where it is off.
    pub(super) fn rate(&mut self, name: &'static str) -> Option<Rate> {
        if let Value::Rate(rate) = self.value(name) { Some(rate) } else { None }
    }

    pub(super) fn ratio(&mut self, name: &'static str) -> f64 {
        if let Value::Ratio(ratio) = self.value(name) { ratio } else { 0.0 }
    }

    pub(super) fn networks(&mut self, name: &'static str) -> Networks {
        if let Value::Networks(networks) = self.value(name) { networks } else { Default::default() }
    }

    pub(super) fn issuers(&mut self, name: &'static str) -> TrustedIssuers {
        if let Value::Issuers(issuers) = self.value(name) { issuers } else { Default::default() }
    }

    pub(super) fn list(&mut self, name: &'static str) -> Vec<String> {
        if let Value::List(list) = self.value(name) { list } else { Vec::new() }
    }

    pub(super) fn into_effective(mut self) -> Vec<Effective> {
        table::ALL
            .iter()
            .map(|setting| {
                let (text, origin) = self
                    .texts
                    .remove(setting.name)
                    .unwrap_or_else(|| (setting.default.to_owned(), Origin::Default));
                let text =
                    if setting.is_secret() && !text.is_empty() { "***".into() } else { text };
                Effective { setting, text, origin }
            })
            .collect()
    }
}

fn begins_with_one_of(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn secret_of_file_name(name: &str) -> Option<&'static Setting> {
    name.strip_suffix("_FILE").and_then(table::find).filter(|setting| setting.is_secret())
}

pub(super) fn read_small(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it has {length} bytes, at most {FILE_BYTES_MAX} are allowed"
        )));
    }
    fs::read_to_string(path)
}

/// "; did you mean X?" where a known name is at most a third of its letters away.
fn nearest(name: &str) -> String {
    table::ALL
        .iter()
        .map(|setting| (distance(name, setting.name), setting.name))
        .min()
        .filter(|(distance, known)| *distance * 3 <= known.len())
        .map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
}

/// Levenshtein's distance: how many letters must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
