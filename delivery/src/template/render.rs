//! From template and values to text.

use std::{borrow::Cow, collections::BTreeSet};

use protocol::{ActionInfo, FieldProblem, Time};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Compiled, CutAction, TemplateVariable, VariableType,
    link::{encoded, link_problem},
    pieces::Piece,
};

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

/// How much of a variable's name is repeated in a refusal, in characters.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// What a template makes of values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rendered {
    /// Title.
    pub title: String,
    /// Content.
    pub content: String,
    /// Buttons.
    pub actions: Vec<ActionInfo>,
    /// The variant that was used; none for the template's own text.
    pub locale: Option<String>,
}

impl Compiled {
    /// Puts values into the text for a locale: the variant of that name, else of its language, else
    /// the template's own text. `with_actions` is false where the send brings its own buttons: then
    /// the template's need nothing.
    ///
    /// # Errors
    /// Every missing or wrong value (`variables.<name>`), and every part that comes out too long or
    /// empty where it must not.
    pub fn render(
        &self,
        values: &Map<String, Value>,
        locale: Option<&str>,
        with_actions: bool,
    ) -> Result<Rendered, Vec<FieldProblem>> {
        let (locale, text, actions) = self.choose(locale);
        let actions = if with_actions { actions } else { &[] };
        self.check_values(values, actions)?;

        let mut out = Output { template: self, values, problems: Vec::new() };
        let title = out.part("title", &text.title, TITLE_BYTES_MAX, false);
        let content = out.part("content", &text.content, CONTENT_BYTES_MAX, false);
        if out.problems.is_empty() && title.is_empty() && content.is_empty() {
            out.say("content", "is empty with these values, and so is the title");
        }
        let actions =
            actions.iter().enumerate().map(|(index, cut)| out.action(index, cut)).collect();
        if out.problems.is_empty() {
            Ok(Rendered { title, content, actions, locale: locale.map(str::to_owned) })
        } else {
            Err(out.problems)
        }
    }

    fn check_values(
        &self,
        values: &Map<String, Value>,
        actions: &[CutAction],
    ) -> Result<(), Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: String, problem: String| problems.push(FieldProblem { path, problem });
        if values.len() > VARIABLES_MAX {
            let problem =
                format!("must have at most {VARIABLES_MAX} entries, has {}", values.len());
            say("variables".to_owned(), problem);
            return Err(problems);
        }
        for (name, value) in values {
            let kind = self.declared(name).map_or(VariableType::Text, |v| v.kind);
            if let Some(problem) = value_problem(kind, value) {
                let shown: String = name.chars().take(NAME_CHARS_SHOWN_MAX).collect();
                say(format!("variables.{shown}"), problem);
            }
        }
        for name in self.required(actions) {
            if values.get(name).is_none_or(is_blank) && self.default_of(name).is_none() {
                say(format!("variables.{name}"), "is required by the template".to_owned());
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn declared(&self, name: &str) -> Option<&TemplateVariable> {
        self.source.variables.iter().find(|v| v.name == name)
    }

    /// Declared as required; or not declared and part of a link, which would lead nowhere without it.
    fn required<'a>(&'a self, actions: &'a [CutAction]) -> BTreeSet<&'a str> {
        let declared = self.source.variables.iter().filter(|v| v.required).map(|v| v.name.as_str());
        let linked = actions.iter().flat_map(|action| &action.url).filter_map(Piece::name);
        declared.chain(linked.filter(|name| self.declared(name).is_none())).collect()
    }

    fn default_of(&self, name: &str) -> Option<&str> {
        self.declared(name).map(|v| v.default.as_str()).filter(|default| !default.is_empty())
    }
}

/// A text that is being made, with what is wrong with it.
struct Output<'a> {
    template: &'a Compiled,
    values: &'a Map<String, Value>,
    problems: Vec<FieldProblem>,
}

impl<'a> Output<'a> {
    fn say(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(FieldProblem { path: path.into(), problem: problem.into() });
    }

    fn value(&self, name: &str) -> Cow<'a, str> {
        match self.values.get(name) {
            Some(value) if !is_blank(value) => text_of(value),
            _ => Cow::Borrowed(self.template.default_of(name).unwrap_or_default()),
        }
    }

    /// The joined text; given up as soon as it is longer than `max`: a short template must not
    /// become a long text, not even for a moment.
    fn part(&mut self, path: &str, pieces: &[Piece], max: usize, link: bool) -> String {
        let mut out = String::new();
        for (index, piece) in pieces.iter().enumerate() {
            let text = match piece {
                Piece::Text(text) => Cow::Borrowed(text.as_str()),
                Piece::Variable(name) => self.value(name),
            };
            let is_inside = link && index > 0 && piece.name().is_some();
            if out.len() + text.len() > max {
                self.say(path, format!("has more than {max} bytes with these values"));
                return String::new();
            }
            if !is_inside {
                out.push_str(&text);
            } else if matches!(&*text, "." | "..") {
                // Browsers take these for folders, encoded or not.
                let path = format!("variables.{}", piece.name().unwrap_or_default());
                self.say(path, "must not be . or .. where it is part of a link");
                return String::new();
            } else {
                let text = encoded(&text);
                if out.len() + text.len() > max {
                    self.say(path, format!("has more than {max} bytes with these values"));
                    return String::new();
                }
                out.push_str(&text);
            }
        }
        out
    }

    fn action(&mut self, index: usize, cut: &CutAction) -> ActionInfo {
        let before = self.problems.len();
        let text_path = format!("actions[{index}].text");
        let url_path = match cut.url.as_slice() {
            [Piece::Variable(name)] => format!("variables.{name}"),
            _ => format!("actions[{index}].url"),
        };
        let text = self.part(&text_path, &cut.text, ACTION_TEXT_BYTES_MAX, false);
        let url = self.part(&url_path, &cut.url, ACTION_URL_BYTES_MAX, true);
        if self.problems.len() == before {
            if text.is_empty() {
                self.say(text_path, "is empty with these values");
            }
            if !url.is_empty() {
                if let Some(problem) = link_problem(&url) {
                    self.say(url_path, problem);
                }
            } else if cut.source.kind == "link" {
                self.say(url_path, "is empty with these values; the link would lead nowhere");
            }
        }
        ActionInfo { text, url, ..cut.source.clone() }
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

pub(super) fn value_problem(kind: VariableType, value: &Value) -> Option<String> {
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
