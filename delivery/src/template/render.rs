//! From template and values to text.

use std::{borrow::Cow, collections::BTreeSet};

use protocol::{ActionInfo, FieldProblem, Time};
use serde_json::{Map, Value};

use super::{Compiled, TemplateVariable, VariableType};

/// Longest title of a message, in bytes; also of a rendered one. A lock screen shows 200.
pub const TITLE_BYTES_MAX: usize = 1 << 10;

/// Longest content of a message, in bytes; also of a rendered one. One body of 1 MiB must leave room
/// for the rest, and a page of 200 such messages must fit in memory.
pub const CONTENT_BYTES_MAX: usize = 256 << 10;

/// Most values of one send.
pub const VARIABLES_MAX: usize = 100;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// Longest text and url of a rendered action, in bytes.
const ACTION_TEXT_BYTES_MAX: usize = 256;
const ACTION_URL_BYTES_MAX: usize = 2 << 10;

/// Longest name between braces, in bytes; longer ones are plain text.
const NAME_BYTES_MAX: usize = 64;

/// A part of a cut template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Variable(String),
}

/// Cuts `a {{b}} c` into text, variable, text. Braces without a name between them are text.
pub(super) fn cut(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        let (before, inside) = (&rest[..open], &rest[open + 2..]);
        text.push_str(before);
        match split_name(inside) {
            Some((name, after)) if is_name(name.trim()) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Variable(name.trim().to_owned()));
                rest = after;
            }
            // One brace is text; the next one may begin a real placeholder, as in `{{{name}}`.
            _ => {
                text.push('{');
                rest = &rest[open + 1..];
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// Looks for the closing braces as far as a name can reach, not to the end: a text of nothing but
/// opening braces must not be read once per brace.
fn split_name(inside: &str) -> Option<(&str, &str)> {
    const SPACES: usize = 8;
    let near = &inside.as_bytes()[..inside.len().min(NAME_BYTES_MAX + SPACES)];
    let close = near.windows(2).position(|pair| pair == b"}}")?;
    Some((&inside[..close], &inside[close + 2..]))
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// What a template makes of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Title.
    pub title: String,
    /// Content.
    pub content: String,
    /// Buttons.
    pub actions: Vec<ActionInfo>,
}

impl Compiled {
    /// Puts values in. `with_actions` is false where the send brings its own buttons: then the
    /// template's need nothing.
    ///
    /// # Errors
    /// Every missing or wrong value (`variables.<name>`), and every part that comes out too long.
    pub fn render(
        &self,
        values: &Map<String, Value>,
        with_actions: bool,
    ) -> Result<Rendered, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: String, problem: String| problems.push(FieldProblem { path, problem });
        if values.len() > VARIABLES_MAX {
            say("variables".to_owned(), format!("must have at most {VARIABLES_MAX} entries"));
            return Err(problems);
        }
        for (name, value) in values {
            let declared = self.source.variables.iter().find(|v| v.name == *name);
            let kind = declared.map_or(VariableType::Text, |v| v.kind);
            if let Some(problem) = value_problem(kind, value) {
                say(format!("variables.{name}"), problem);
            }
        }
        for name in self.required(with_actions) {
            if values.get(name).is_none_or(is_blank) && self.default_of(name).is_none() {
                say(format!("variables.{name}"), "is required by the template".to_owned());
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut problems = Vec::new();
        let mut part = |path: &str, pieces: &[Piece], max: usize| {
            self.join(pieces, values, max).unwrap_or_else(|| {
                let problem = format!("has more than {max} bytes with these values");
                problems.push(FieldProblem { path: path.to_owned(), problem });
                String::new()
            })
        };
        let title = part("title", &self.title, TITLE_BYTES_MAX);
        let content = part("content", &self.content, CONTENT_BYTES_MAX);
        let mut actions = Vec::new();
        if with_actions {
            for (index, (source, (text, url))) in
                self.source.actions.iter().zip(&self.actions).enumerate()
            {
                let text = part(&format!("actions[{index}].text"), text, ACTION_TEXT_BYTES_MAX);
                let path = format!("actions[{index}].url");
                let url = part(&path, url, ACTION_URL_BYTES_MAX);
                actions.push(ActionInfo { text, url, ..source.clone() });
            }
        }
        for (index, action) in actions.iter().enumerate() {
            if let Some(problem) =
                (!action.url.is_empty()).then(|| link_problem(&action.url)).flatten()
            {
                let path = match self.actions[index].1.as_slice() {
                    [Piece::Variable(name)] => format!("variables.{name}"),
                    _ => format!("actions[{index}].url"),
                };
                problems.push(FieldProblem { path, problem: problem.to_owned() });
            }
        }
        if problems.is_empty() { Ok(Rendered { title, content, actions }) } else { Err(problems) }
    }

    /// Declared as required, or part of a link, which would lead nowhere without it.
    fn required(&self, with_actions: bool) -> BTreeSet<&str> {
        let declared = self.source.variables.iter().filter(|v| v.required).map(|v| v.name.as_str());
        let linked =
            self.actions.iter().filter(|_| with_actions).flat_map(|(_, url)| url).filter_map(
                |piece| match piece {
                    Piece::Variable(name) => Some(name.as_str()),
                    Piece::Text(_) => None,
                },
            );
        declared.chain(linked).collect()
    }

    fn default_of(&self, name: &str) -> Option<&str> {
        let declared = |v: &&TemplateVariable| v.name == name && !v.default.is_empty();
        self.source.variables.iter().find(declared).map(|v| v.default.as_str())
    }

    /// The joined text, or none as soon as it is longer than `max`: a short template must not become
    /// a long text, not even for a moment.
    fn join(&self, pieces: &[Piece], values: &Map<String, Value>, max: usize) -> Option<String> {
        let mut out = String::new();
        for piece in pieces {
            let text = match piece {
                Piece::Text(text) => Cow::Borrowed(text.as_str()),
                Piece::Variable(name) => match values.get(name) {
                    Some(value) if !is_blank(value) => text_of(value),
                    _ => Cow::Borrowed(self.default_of(name).unwrap_or_default()),
                },
            };
            if out.len() + text.len() > max {
                return None;
            }
            out.push_str(&text);
        }
        Some(out)
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn value_problem(kind: VariableType, value: &Value) -> Option<String> {
    if matches!(value, Value::Array(_) | Value::Object(_)) {
        return Some("must be a text, a number or a truth value".to_owned());
    }
    if is_blank(value) {
        return None;
    }
    let text = text_of(value);
    if text.len() > VALUE_BYTES_MAX {
        return Some(format!("must have at most {VALUE_BYTES_MAX} bytes"));
    }
    match kind {
        VariableType::Text => None,
        VariableType::Number => {
            let number = match value {
                Value::Number(_) => true,
                Value::String(text) => {
                    text.parse::<f64>().is_ok_and(f64::is_finite)
                        && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
                }
                _ => false,
            };
            (!number).then(|| "must be a number".to_owned())
        }
        VariableType::Date => (!(value.is_string() && is_date(&text))).then(|| {
            "must be a date: 2025-01-15T14:30:00Z, 2025-01-15 14:30:00 or 2025-01-15".to_owned()
        }),
        VariableType::Url => {
            let problem =
                if value.is_string() { link_problem(&text) } else { Some("must be a URL") };
            problem.map(str::to_owned)
        }
    }
}

fn is_date(text: &str) -> bool {
    if Time::parse(text).is_ok() {
        return true;
    }
    // jiff reads more than is promised (`20250115`, zones in brackets): only these two shapes.
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    match shape.as_str() {
        "0000-00-00 00:00:00" => text.parse::<jiff::civil::DateTime>().is_ok(),
        "0000-00-00" => text.parse::<jiff::civil::Date>().is_ok(),
        _ => false,
    }
}

/// What is wrong with a link, if anything: it is an absolute URL, or a path beginning with one `/`.
/// Schemes that run code or read local files in a client are refused.
#[must_use]
pub fn link_problem(url: &str) -> Option<&'static str> {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some("must be a URL without spaces and control characters");
    }
    if url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\") {
        return None;
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return Some("must be an absolute URL such as https://example.com/a, or a path such as /a");
    };
    let plain = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !plain || rest.is_empty() {
        return Some("must be an absolute URL such as https://example.com/a, or a path such as /a");
    }
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "javascript" | "data" | "vbscript" | "file" | "blob" => {
            Some("must not use the scheme javascript, data, vbscript, file or blob")
        }
        "http" | "https" => {
            let host = rest.strip_prefix("//").unwrap_or_default();
            let host = host.split(['/', '?', '#']).next().unwrap_or_default();
            host.is_empty().then_some("must name a host, as in https://example.com/a")
        }
        _ => None,
    }
}
