//! Message templates (seed 003 §4.4): `{{name}}` and nothing cleverer.
//!
//! A template is cut into pieces once; rendering joins them. What is put in is never looked at
//! again, so a value that reads `{{other}}` stays what it is.

mod builtin;
mod render;

use std::{collections::HashMap, sync::Arc};

use protocol::{ActionInfo, Time};
use serde::{Deserialize, Serialize};

use render::Piece;
pub use render::{
    CONTENT_BYTES_MAX, Rendered, TITLE_BYTES_MAX, VALUE_BYTES_MAX, VARIABLES_MAX, link_problem,
};

/// What a template is for; `system` ones are for those who may send alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Alerts and announcements.
    System,
    /// Business messages.
    Business,
    /// Everything else.
    Notification,
}

/// What a variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A declared variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateVariable {
    /// Its name between the braces.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: VariableType,
    /// Whether a send without it is refused.
    #[serde(default)]
    pub required: bool,
    /// What stands there without it.
    #[serde(default)]
    pub default: String,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// A template as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Who wrote it.
    pub created_by: String,
    /// When it was written.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A template, cut into pieces.
#[derive(Debug)]
pub struct Compiled {
    /// What it was made from.
    pub source: Template,
    title: Vec<Piece>,
    content: Vec<Piece>,
    /// Text and url of each action.
    actions: Vec<(Vec<Piece>, Vec<Piece>)>,
}

impl Compiled {
    /// Cuts a template.
    #[must_use]
    pub fn new(source: Template) -> Self {
        Self {
            title: render::cut(&source.title),
            content: render::cut(&source.content),
            actions: source
                .actions
                .iter()
                .map(|action| (render::cut(&action.text), render::cut(&action.url)))
                .collect(),
            source,
        }
    }
}

/// The templates a send can name.
#[derive(Debug)]
pub struct Templates {
    by_id: HashMap<String, Arc<Compiled>>,
}

impl Templates {
    /// The three of the seed.
    #[must_use]
    pub fn builtin() -> Self {
        let by_id = builtin::all()
            .into_iter()
            .map(|template| (template.id.clone(), Arc::new(Compiled::new(template))))
            .collect();
        Self { by_id }
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Compiled>> {
        self.by_id.get(id).cloned()
    }

    /// All of them, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Compiled>> {
        let mut all: Vec<_> = self.by_id.values().cloned().collect();
        all.sort_by(|a, b| a.source.id.cmp(&b.source.id));
        all
    }
}

#[cfg(test)]
mod tests;
