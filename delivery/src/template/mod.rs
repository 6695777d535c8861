//! Message templates (seed 003 §4.4): `{{name}}` and nothing cleverer.
//!
//! A template is cut into pieces once; rendering joins them. What is put in is never looked at
//! again, so a value that reads `{{other}}` stays what it is, and inside a link it is percent-encoded.
//! Nothing can loop, call or include: the work of a render is the length of what comes out, which is
//! limited like that of any message.
//!
//! [`Templates`] has those that are built in and those of each tenant, which live in `control.db`.

mod builtin;
mod error;
mod history;
mod library;
mod link;
pub(crate) mod locale;
mod metrics;
mod permission;
mod pieces;
mod render;
mod request;
mod weight;

use std::collections::{BTreeMap, HashMap};

use protocol::{ActionInfo, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{control::Author, object};
pub(crate) use pieces::NAME_BYTES_MAX;
use pieces::{Piece, cut};

pub use error::TemplateError;
pub use history::{Deleted, SavedVersion, VersionPage};
pub use library::Templates;
pub use link::link_problem;
pub use locale::LOCALES_MAX;
pub use metrics::ALL as METRICS;
pub use permission::{NotYours, Writer};
pub use render::{CONTENT_BYTES_MAX, Rendered, TITLE_BYTES_MAX, VALUE_BYTES_MAX, VARIABLES_MAX};
pub use request::{
    DESCRIPTION_BYTES_MAX, PLACEHOLDERS_MAX, TEMPLATE_BYTES_MAX, TemplateRequest, VariantRequest,
};

/// What a template is for; `system` ones are for those who may send alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Alerts and announcements.
    System,
    /// Business messages.
    Business,
    /// Everything else.
    Notification,
}

impl<'de> Deserialize<'de> for Category {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object::word(deserializer, Self::WORDS)
    }
}

impl Category {
    /// Every category with its word on the wire.
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("system", Self::System),
        ("business", Self::Business),
        ("notification", Self::Notification),
    ];
}

/// What a variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum VariableType {
    /// Any text, number or truth value.
    #[serde(rename = "string")]
    Text,
    /// A number, or a text that is one.
    #[serde(rename = "number")]
    Number,
    /// RFC 3339, or `2025-01-15 14:30:00`, or `2025-01-15`.
    #[serde(rename = "date")]
    Date,
    /// An absolute URL or a path that begins with `/`.
    #[serde(rename = "url")]
    Url,
}

impl<'de> Deserialize<'de> for VariableType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let types = [Self::Text, Self::Number, Self::Date, Self::Url];
        let words: Vec<_> = Self::WORDS.iter().copied().zip(types).collect();
        object::word(deserializer, &words)
    }
}

impl VariableType {
    /// Every type's word on the wire, in the order of the variants.
    pub(crate) const WORDS: &'static [&'static str] = &["string", "number", "date", "url"];
}

/// A declared variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateVariable {
    /// Its name between the braces.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: VariableType,
    /// Whether a send without it is refused.
    #[serde(default, deserialize_with = "object::or_default")]
    pub required: bool,
    /// What stands there without it.
    #[serde(default, deserialize_with = "object::or_default")]
    pub default: String,
    /// For people.
    #[serde(default, deserialize_with = "object::or_default")]
    pub description: String,
}

/// What a template says in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// Title with variables.
    pub title: String,
    /// Content with variables.
    pub content: String,
    /// Buttons; the template's own ones where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<ActionInfo>>,
}

/// A template as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Template {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub category: Category,
    /// Title with variables.
    pub title: String,
    /// Content with variables.
    pub content: String,
    /// The declared ones.
    pub variables: Vec<TemplateVariable>,
    /// The type of messages made from it.
    pub message_type: String,
    /// Their priority where the send names none.
    pub priority: Option<u8>,
    /// Their buttons where the send names none; variables in text and url.
    pub actions: Vec<ActionInfo>,
    /// The same in other languages.
    pub locales: BTreeMap<String, Variant>,
    /// Counts from 1.
    pub version: u64,
    /// Whether it is part of the program; nobody changes those.
    pub builtin: bool,
    /// Who wrote it.
    pub created_by: String,
    /// When it was written.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl Template {
    /// As it reads in a language; also says which variant that is, none for its own text.
    #[must_use]
    pub fn in_locale(mut self, locale: &str) -> (Self, Option<String>) {
        let Some(wanted) = locale::normal(locale) else { return (self, None) };
        let found = locale::lookup(&wanted).find_map(|name| {
            self.locales.keys().find(|key| locale::normal(key).as_deref() == Some(name)).cloned()
        });
        if let Some(variant) = found.as_ref().and_then(|key| self.locales.get(key)).cloned() {
            (self.title, self.content) = (variant.title, variant.content);
            self.actions = variant.actions.unwrap_or(self.actions);
        }
        (self, found)
    }
}

/// A template, cut into pieces.
#[derive(Debug)]
pub struct Compiled {
    /// What it was made from.
    pub source: Template,
    /// Whose it is; nobody's where it is built in.
    pub author: Option<Author>,
    text: CutText,
    actions: Vec<CutAction>,
    /// By their normal names.
    locales: HashMap<String, CutVariant>,
}

#[derive(Debug)]
struct CutText {
    title: Vec<Piece>,
    content: Vec<Piece>,
}

#[derive(Debug)]
struct CutAction {
    /// For everything but text and url.
    source: ActionInfo,
    text: Vec<Piece>,
    url: Vec<Piece>,
}

#[derive(Debug)]
struct CutVariant {
    /// As its author wrote it.
    name: String,
    text: CutText,
    actions: Option<Vec<CutAction>>,
}

fn cut_actions(actions: &[ActionInfo]) -> Vec<CutAction> {
    let cut_one = |source: &ActionInfo| CutAction {
        text: cut(&source.text),
        url: cut(&source.url),
        source: source.clone(),
    };
    actions.iter().map(cut_one).collect()
}

impl Compiled {
    /// Cuts a template.
    #[must_use]
    pub fn new(source: Template, author: Option<Author>) -> Self {
        let text =
            |title: &str, content: &str| CutText { title: cut(title), content: cut(content) };
        let locales = source.locales.iter().filter_map(|(name, variant)| {
            let cut = CutVariant {
                name: name.clone(),
                text: text(&variant.title, &variant.content),
                actions: variant.actions.as_deref().map(cut_actions),
            };
            Some((locale::normal(name)?, cut))
        });
        Self {
            text: text(&source.title, &source.content),
            actions: cut_actions(&source.actions),
            locales: locales.collect(),
            source,
            author,
        }
    }

    /// The variant, by its normal name, that suits somebody who speaks these languages, given by their normal
    /// names; none for the template's own text. The first language alone decides: in which one the own text is
    /// nobody has said, and it may be in the first.
    pub(crate) fn variant_for(&self, spoken: &[Box<str>]) -> Option<&str> {
        let first = spoken.first()?;
        let found = locale::lookup(first).find_map(|name| self.locales.get_key_value(name));
        found.map(|(name, _)| name.as_str())
    }

    /// Whether it reads otherwise in other languages.
    pub(crate) fn has_variants(&self) -> bool {
        !self.locales.is_empty()
    }

    /// The text and the buttons for a language, and the variant's name.
    fn choose(&self, locale: Option<&str>) -> (Option<&str>, &CutText, &[CutAction]) {
        let wanted = locale.filter(|_| !self.locales.is_empty()).and_then(locale::normal);
        let found = wanted
            .as_deref()
            .and_then(|wanted| locale::lookup(wanted).find_map(|name| self.locales.get(name)));
        match found {
            Some(CutVariant { name, text, actions }) => {
                (Some(name), text, actions.as_deref().unwrap_or(&self.actions))
            }
            None => (None, &self.text, &self.actions),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
