//! Why a template cannot be read or changed.

use protocol::FieldProblem;

use super::{Template, permission::NotYours};
use crate::control::ControlError;

/// Why a template cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// No such template, or no such version.
    #[error("there is no such template")]
    NotFound,
    /// It is part of the program.
    #[error(
        "built-in templates cannot be changed, deleted or replaced; make one of another id instead"
    )]
    BuiltIn,
    /// Its fields are not valid.
    #[error("the template is not valid")]
    Invalid(Vec<FieldProblem>),
    /// The caller may not write it.
    #[error(transparent)]
    Refused(#[from] NotYours),
    /// A new one has the id of one that is there.
    #[error("a template of this id exists already")]
    IdTaken(Box<Template>),
    /// A deleted one of this id is another's.
    #[error("this id belonged to a template of another author; take another one")]
    IdWasAnothers,
    /// It is not the version the caller has seen.
    #[error("the template has version {}, not the expected one", .0.version)]
    VersionConflict(Box<Template>),
    /// The file cannot be used, or there is no room.
    #[error(transparent)]
    Control(#[from] ControlError),
}
