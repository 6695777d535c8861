//! What is told of a template's past.

use protocol::Time;
use schemars::JsonSchema;
use serde::Serialize;

use super::Template;

/// A template was deleted.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Deleted {
    /// Its id.
    pub id: String,
    /// Its last version.
    pub version: u64,
    /// When.
    pub deleted_at: Time,
}

/// A version, as lists show it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SavedVersion {
    /// Counts from 1.
    pub version: u64,
    /// What people called the template.
    pub name: String,
    /// Title with variables.
    pub title: String,
    /// Who saved it.
    pub updated_by: String,
    /// When.
    pub updated_at: Time,
}

/// Some of a template's versions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VersionPage {
    /// Newest first.
    pub versions: Vec<SavedVersion>,
    /// How many are kept.
    pub total: u64,
    /// When the template was deleted, where it was.
    pub deleted_at: Option<Time>,
}

impl SavedVersion {
    pub(super) fn of(template: &Template, updated_by: String) -> Self {
        Self {
            version: template.version,
            name: template.name.clone(),
            title: template.title.clone(),
            updated_by,
            updated_at: template.updated_at,
        }
    }
}
