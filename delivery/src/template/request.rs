//! A template as it is asked for, and whether it can be one.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ActionInfo, FieldProblem, ServiceId, Time};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    Category, Template, TemplateVariable, Variant,
    link::pattern_problem,
    locale::{self, LOCALE_PROBLEM, LOCALES_MAX},
    pieces::{NAME_BYTES_MAX, Piece, cut, is_name},
    render::{CONTENT_BYTES_MAX, TITLE_BYTES_MAX, VARIABLES_MAX, value_problem},
};
use crate::{
    control::TEXT_BYTES_MAX,
    object,
    problems::Problems,
    send::{
        DEFAULT_TYPE,
        limits::{ACTIONS_MAX, SHORT_TEXT_BYTES_MAX, URL_BYTES_MAX},
    },
};

/// Largest template, in bytes of JSON, with all its languages: all templates are kept in memory.
pub const TEMPLATE_BYTES_MAX: usize = 64 << 10;

/// Most placeholders of a template, over all its texts and languages: each is a piece of its own in
/// memory, larger than the five bytes it may be written with.
pub const PLACEHOLDERS_MAX: usize = 1_000;

/// Longest description and default of a variable, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 10;

/// One language of a template to be saved.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VariantRequest {
    /// Title with variables; needed where the template has one.
    pub title: Option<String>,
    /// Content with variables; needed where the template has one.
    pub content: Option<String>,
    /// Buttons; the template's own ones where nothing is said.
    #[serde(deserialize_with = "object::maybe_list")]
    pub actions: Option<Vec<ActionInfo>>,
}

/// A template to be saved (seed 003 §4.4). What an answer carries can be sent back: the fields that
/// are decided here are known, and not looked at.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateRequest {
    /// Its id; made up where none is given.
    #[serde(default)]
    pub id: Option<String>,
    /// What people call it, 1 to [`TEXT_BYTES_MAX`] bytes.
    pub name: String,
    /// What it is for.
    pub category: Category,
    /// Title with variables.
    #[serde(default)]
    pub title: Option<String>,
    /// Content with variables.
    #[serde(default)]
    pub content: Option<String>,
    /// The declared ones.
    #[serde(default, deserialize_with = "object::maybe_list")]
    pub variables: Option<Vec<TemplateVariable>>,
    /// The type of messages made from it; `text` unless said.
    #[serde(default)]
    pub message_type: Option<String>,
    /// Their priority, 1 to 10.
    #[serde(default)]
    pub priority: Option<i64>,
    /// Their buttons.
    #[serde(default, deserialize_with = "object::maybe_list")]
    pub actions: Option<Vec<ActionInfo>>,
    /// The same in other languages.
    #[serde(default, deserialize_with = "object::maybe_map")]
    pub locales: Option<BTreeMap<String, VariantRequest>>,
    /// The version that is to be replaced; for changes only.
    #[serde(default)]
    pub expected_version: Option<u64>,
    /// Decided here.
    #[serde(default)]
    pub version: IgnoredAny,
    /// Decided here.
    #[serde(default)]
    pub builtin: IgnoredAny,
    /// Decided here.
    #[serde(default)]
    pub created_by: IgnoredAny,
    /// Decided here.
    #[serde(default)]
    pub created_at: IgnoredAny,
    /// Decided here.
    #[serde(default)]
    pub updated_at: IgnoredAny,
}

impl TemplateRequest {
    /// Checks a new template. Version, author and times are yet to be filled in.
    pub(super) fn check_new(
        mut self,
        made_up: impl FnOnce() -> String,
    ) -> Result<Template, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        if self.expected_version.is_some() {
            problems.say("expected_version", "is for changes; a new template has none yet");
        }
        let id = self.id.take().filter(|id| !id.is_empty()).unwrap_or_else(made_up);
        // Held to the same rules as every other id, and part of a path.
        problems.id("id", ServiceId::new(&id));
        if matches!(id.as_str(), "." | "..") {
            problems.say("id", "must not be . or .., which paths lose");
        }
        self.check(id, problems)
    }

    /// Checks a change of the template `id`. Version, author and times are yet to be filled in.
    pub(super) fn check_update(mut self, id: &str) -> Result<Template, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        if self.id.take().is_some_and(|given| !given.is_empty() && given != id) {
            problems.say("id", "must be that of the path, or be left out; ids do not change");
        }
        self.check(id.to_owned(), problems)
    }

    fn check(self, id: String, mut problems: Problems) -> Result<Template, Vec<FieldProblem>> {
        if self.name.trim().is_empty() || self.name.len() > TEXT_BYTES_MAX {
            problems.say("name", format!("must have 1 to {TEXT_BYTES_MAX} bytes"));
        }
        if self.name.chars().any(char::is_control) {
            problems.say("name", "must not contain control characters");
        }
        let message_type =
            self.message_type.filter(|word| !word.is_empty()).unwrap_or(DEFAULT_TYPE.to_owned());
        problems.message_type(&message_type);
        let priority = self.priority.map(|said| match u8::try_from(said) {
            Ok(priority @ 1..=10) => priority,
            _ => {
                problems.say("priority", "must be 1 to 10");
                1
            }
        });
        let variables = self.variables.unwrap_or_default();
        check_variables(&variables, &mut problems);

        let mut texts = Texts { problems, names: BTreeSet::new(), placeholders: 0 };
        let (title, content) = (self.title.unwrap_or_default(), self.content.unwrap_or_default());
        if title.is_empty() && content.is_empty() {
            texts.problems.say("content", "title or content is needed");
        }
        let actions = self.actions.unwrap_or_default();
        texts.check("", &title, &content, Some(&actions));
        let given = self.locales.unwrap_or_default();
        let mut locales = BTreeMap::new();
        texts.problems.at_most("locales", given.len(), LOCALES_MAX);
        let mut seen = BTreeSet::new();
        for (name, variant) in given.into_iter().take(LOCALES_MAX) {
            let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
            let path = format!("locales.{shown}");
            match locale::normal(&name) {
                None => texts.problems.say(&path, LOCALE_PROBLEM),
                Some(normal) => {
                    if !seen.insert(normal) {
                        texts.problems.say(&path, "is there twice, written differently");
                    }
                }
            }
            let VariantRequest { title: own_title, content: own_content, actions } = variant;
            let variant = Variant {
                title: own_title.unwrap_or_default(),
                content: own_content.unwrap_or_default(),
                actions,
            };
            // A message that is half in one language and half in another helps nobody.
            for (field, of_template, own) in
                [("title", &title, &variant.title), ("content", &content, &variant.content)]
            {
                if own.is_empty() && !of_template.is_empty() {
                    texts
                        .problems
                        .say(format!("{path}.{field}"), "is missing; the template has one");
                }
            }
            let prefix = format!("{path}.");
            texts.check(&prefix, &variant.title, &variant.content, variant.actions.as_deref());
            locales.insert(name, variant);
        }

        let Texts { mut problems, mut names, placeholders } = texts;
        if placeholders > PLACEHOLDERS_MAX {
            let problem = format!(
                "the template must have at most {PLACEHOLDERS_MAX} placeholders, has {placeholders}"
            );
            problems.say("content", problem);
        }
        names.extend(variables.iter().map(|variable| variable.name.clone()));
        if names.len() > VARIABLES_MAX {
            let problem = format!(
                "must be at most {VARIABLES_MAX}, declared or not, as a send can have no more; \
                 there are {}",
                names.len()
            );
            problems.say("variables", problem);
        }
        let template = Template {
            id,
            name: self.name,
            category: self.category,
            title,
            content,
            variables,
            message_type,
            priority,
            actions,
            locales,
            version: 0,
            builtin: false,
            created_by: String::new(),
            created_at: Time::default(),
            updated_at: Time::default(),
        };
        let bytes = serde_json::to_vec(&template).expect("a template has string keys").len();
        if bytes > TEMPLATE_BYTES_MAX {
            let problem = format!(
                "the whole template must have at most {TEMPLATE_BYTES_MAX} bytes as JSON, has {bytes}"
            );
            problems.say("body", problem);
        }
        if problems.0.is_empty() { Ok(template) } else { Err(problems.0) }
    }
}

fn check_variables(variables: &[TemplateVariable], problems: &mut Problems) {
    problems.at_most("variables", variables.len(), VARIABLES_MAX);
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().take(VARIABLES_MAX).enumerate() {
        let path = |field: &str| format!("variables[{index}].{field}");
        if !is_name(&variable.name) {
            let problem = format!(
                "must have 1 to {NAME_BYTES_MAX} letters, digits and _ - . and begin with a letter \
                 or _"
            );
            problems.say(path("name"), problem);
        } else if !seen.insert(variable.name.as_str()) {
            problems.say(path("name"), "is declared twice");
        }
        problems.bytes(path("description"), &variable.description, DESCRIPTION_BYTES_MAX);
        problems.bytes(path("default"), &variable.default, DESCRIPTION_BYTES_MAX);
        let default = Value::String(variable.default.clone());
        if let Some(problem) = value_problem(variable.kind, &default) {
            problems.say(path("default"), problem);
        }
    }
}

/// The texts of a template while they are checked, with what was seen in them.
struct Texts {
    problems: Problems,
    names: BTreeSet<String>,
    placeholders: usize,
}

impl Texts {
    fn check(&mut self, prefix: &str, title: &str, content: &str, actions: Option<&[ActionInfo]>) {
        self.text(format!("{prefix}title"), title, TITLE_BYTES_MAX);
        self.text(format!("{prefix}content"), content, CONTENT_BYTES_MAX);
        let actions = actions.unwrap_or_default();
        self.problems.at_most(format!("{prefix}actions"), actions.len(), ACTIONS_MAX);
        for (index, action) in actions.iter().take(ACTIONS_MAX).enumerate() {
            self.action(&format!("{prefix}actions[{index}]"), action);
        }
    }

    fn text(&mut self, path: String, text: &str, max: usize) -> Vec<Piece> {
        if text.len() > max {
            self.problems.bytes(path, text, max);
            return Vec::new();
        }
        let pieces = cut(text);
        for piece in &pieces {
            match piece {
                Piece::Variable(name) => {
                    self.placeholders += 1;
                    self.names.insert(name.clone());
                }
                // `{{姓名}}`, `{{#if a}}`, `{{name`: whoever writes that does not mean it to be read.
                Piece::Text(text) if text.contains("{{") => self.problems.say(
                    &path,
                    "has {{ that begins no variable; one is written {{name}}, in ASCII letters, \
                     digits and _ - . , and there are no blocks, filters or calls",
                ),
                Piece::Text(_) => {}
            }
        }
        pieces
    }

    fn action(&mut self, path: &str, action: &ActionInfo) {
        let at = |field: &str| format!("{path}.{field}");
        self.problems.one_of(at("type"), &action.kind, &["button", "link", "confirm"]);
        if action.text.is_empty() {
            self.problems.say(at("text"), "must not be empty");
        }
        self.text(at("text"), &action.text, SHORT_TEXT_BYTES_MAX);
        self.problems.bytes(at("action"), &action.action, SHORT_TEXT_BYTES_MAX);
        if !action.style.is_empty() {
            let styles = ["primary", "secondary", "danger"];
            self.problems.one_of(at("style"), &action.style, &styles);
        }
        if action.url.is_empty() {
            if action.kind == "link" {
                self.problems.say(at("url"), "is needed by an action of type link");
            }
            return;
        }
        let pieces = self.text(at("url"), &action.url, URL_BYTES_MAX);
        if let Some(problem) = pattern_problem(&pieces) {
            self.problems.say(at("url"), problem);
        }
    }
}
