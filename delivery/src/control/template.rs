//! What a template is in `control.db`, and how many there may be.

use protocol::{TenantId, Time};

use crate::words::UnknownWord;

/// Most templates of one tenant that are not deleted.
pub const TEMPLATES_PER_TENANT_MAX: usize = 1_000;

/// Largest sum of one tenant's templates, in bytes of their weights, latest versions only. Keeps one
/// tenant from using up what there is for all.
pub const TEMPLATE_BYTES_PER_TENANT_MAX: usize = 8 << 20;

/// Largest sum of all templates, in bytes of their weights, latest versions only: they are kept in
/// memory, cut into pieces, at some two times that.
pub const TEMPLATE_BYTES_ALL_MAX: usize = 64 << 20;

/// Most versions of a template that are kept; the oldest go first.
pub const VERSIONS_MAX: usize = 50;

/// Most deleted templates of one tenant whose history is kept; the oldest go first.
pub const DELETED_PER_TENANT_MAX: usize = 1_000;

/// What kind of caller made a template. A user and a service may have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorKind {
    /// A backend.
    Service,
    /// A person.
    User,
    /// The bearer of the admin token, or nobody: a built-in one.
    Admin,
}

impl AuthorKind {
    const WORDS: &'static [&'static str] = &["service", "user", "admin"];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for AuthorKind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "service" => Ok(Self::Service),
            "user" => Ok(Self::User),
            "admin" => Ok(Self::Admin),
            _ => Err(UnknownWord(Self::WORDS)),
        }
    }
}

/// Whose a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// What kind of caller.
    pub kind: AuthorKind,
    /// Its id.
    pub id: String,
}

/// A template as it stands.
#[derive(Clone, Debug)]
pub struct TemplateRow {
    /// Whose wall it lives behind.
    pub tenant: TenantId,
    /// Its id, unique in the tenant.
    pub id: String,
    /// The latest version.
    pub version: u64,
    /// Who made it.
    pub author: Author,
    /// When it was deleted, where it was.
    pub deleted_at: Option<Time>,
    /// The latest version's text.
    pub document: String,
}

/// One version of a template.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// Counts from 1.
    pub version: u64,
    /// Its text.
    pub document: String,
    /// The id of whoever saved it.
    pub saved_by: String,
}

/// What is to become of a template.
#[derive(Debug)]
pub enum TemplateChange {
    /// A new version.
    Save {
        /// One more than the latest.
        version: u64,
        /// Whose it is from now on.
        author: Author,
        /// Its text.
        document: String,
        /// What it counts for in the limits, in bytes.
        weight: usize,
        /// Who saves it.
        saved_by: String,
    },
    /// It goes; its versions stay.
    Delete {
        /// When.
        at: Time,
    },
}

/// Which limit of templates is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateLimit {
    /// [`TEMPLATES_PER_TENANT_MAX`].
    #[error(
        "there are {TEMPLATES_PER_TENANT_MAX} templates already, which is the most; delete one"
    )]
    Count,
    /// [`TEMPLATE_BYTES_PER_TENANT_MAX`].
    #[error(
        "all templates together would have more than {TEMPLATE_BYTES_PER_TENANT_MAX} bytes; delete \
         or shorten some"
    )]
    TenantBytes,
    /// [`super::Quotas::templates`] of the tenant.
    #[error("the quota templates of this tenant is {0}; delete a template")]
    Quota(u64),
    /// [`TEMPLATE_BYTES_ALL_MAX`].
    #[error("the templates of all tenants would have more than {TEMPLATE_BYTES_ALL_MAX} bytes")]
    Bytes,
}

/// Templates that have changed.
#[derive(Clone, Debug)]
pub struct TemplateChanges {
    /// Raised by every change.
    pub revision: i64,
    /// Whether `rows` are all there are, instead of those that differ.
    pub everything: bool,
    /// In the order of their changes.
    pub rows: Vec<TemplateRow>,
}

/// A page of a template's versions.
#[derive(Clone, Debug)]
pub struct Versions {
    /// How many are kept.
    pub total: u64,
    /// When the template was deleted, where it was.
    pub deleted_at: Option<Time>,
    /// Newest first.
    pub rows: Vec<VersionRow>,
}
