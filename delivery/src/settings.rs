//! Settings of the process, as far as an admin sees and changes them. What they are and may be knows
//! whoever reads them at the start: the one question that `delivery` has for it.

use protocol::FieldProblem;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{control::LiveTexts, words::words};

words! {
    /// Whose word a setting is.
    Source {
        /// Nobody gave one.
        Default = "default",
        /// The file of settings, or the file of a secret.
        File = "file",
        /// The environment.
        Environment = "environment",
        /// An admin, while the hub ran.
        Live = "live",
    }
}

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, as it stands in a file of settings; null for none, `***` for a secret.
    pub value: Option<String>,
    /// Whose word it is.
    pub source: Source,
    /// What it would be without a live value; null where there is no live one, or nothing was given.
    pub without_live: Option<String>,
    /// What it is where nobody says anything.
    pub default: Option<&'static str>,
    /// Whether it can be changed while the hub runs.
    pub live: bool,
    /// What it may be.
    pub allowed: String,
    /// What it does.
    pub meaning: &'static str,
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllSettings {
    /// In the order of the reference.
    pub settings: Vec<Setting>,
    /// What is legal but likely not meant, and live values that cannot be used; a sentence each.
    pub warnings: Vec<String>,
}

/// Settings that change while the process runs.
pub trait Settings: Send + Sync + 'static {
    /// Those in force here, and by which version of the live ones.
    fn in_force(&self) -> (u64, AllSettings);

    /// What they would be with these live values and no others: judged by the parser that judges a start.
    ///
    /// # Errors
    /// Everything that is wrong, by the names of settings.
    fn with(&self, live: &LiveTexts) -> Result<AllSettings, Vec<FieldProblem>>;

    /// A version was saved here: it is in force here when this returns, and other nodes are told. Waits for
    /// the database.
    fn saved(&self);
}
