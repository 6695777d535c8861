//! Why services and keys cannot be used or changed.

use std::net::IpAddr;

use protocol::FieldProblem;

use super::{KEYS_PER_SERVICE_MAX, SERVICES_MAX, ServiceStatus, TENANTS_MAX, TemplateLimit};
use crate::sql::SqlError;

/// What is behind an error.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the control data cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such service or key.
    #[error("no such service or key")]
    NotFound,
    /// Fields of a service or key are not valid.
    #[error("the service or key is not valid")]
    Invalid(Vec<FieldProblem>),
    /// Another service has this id.
    #[error("a service of this id exists already")]
    IdTaken,
    /// [`SERVICES_MAX`] is reached.
    #[error("there are {SERVICES_MAX} services already, which is the most")]
    TooManyServices,
    /// [`KEYS_PER_SERVICE_MAX`] is reached.
    #[error("the service has {KEYS_PER_SERVICE_MAX} keys already, which is the most; delete one")]
    TooManyKeys,
    /// [`TENANTS_MAX`] is reached.
    #[error("there are {TENANTS_MAX} tenants with quotas already, which is the most")]
    TooManyTenants,
    /// Somebody else has changed the live settings.
    #[error("the settings are of version {0} by now; look at them, and try again")]
    SettingsChanged(u64),
    /// There is no such version of the live settings, or not any more.
    #[error("there is no such version of the settings")]
    NoSettingsVersion,
    /// The status cannot become this one.
    #[error("a service that is {from} cannot become {to}: {why}")]
    Transition {
        /// What it is.
        from: ServiceStatus,
        /// What it should become.
        to: ServiceStatus,
        /// What to do instead.
        why: &'static str,
    },
    /// A key's end lies in the past.
    #[error("expires_at must be in the future")]
    ExpiryInPast,
    /// A key that has ended cannot be replaced.
    #[error("the key has expired; make a new one")]
    KeyExpired,
    /// A key is replaced once: whoever asks again has missed the first answer, and the key in it.
    #[error("the key was replaced by {0} already; rotate that one, or revoke it")]
    KeyReplaced(String),
    /// There is no room for a template.
    #[error(transparent)]
    Template(TemplateLimit),
    /// A template's document cannot be understood.
    #[error("a document of the control data is damaged")]
    Document(#[source] serde_json::Error),
    /// A row holds something else than this program writes.
    #[error("a row of the control data is damaged")]
    Damaged(#[source] Cause),
    /// It was made by a newer version of this program.
    #[error("the control data has version {found}, this program knows {known}")]
    UnknownVersion {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A migration that was run is not the one of this program.
    #[error("migration {0} of the control data was run with another content than this program has")]
    MigrationChanged(i64),
    /// SQLite cannot.
    #[error("control.db cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refuses.
    #[error("the database does not take what was asked of the control data")]
    Postgres(#[source] tokio_postgres::Error),
    /// Others hold what is needed for too long.
    #[error("too many are waiting for the control data")]
    Busy,
    /// The database cannot be reached, or does not answer.
    #[error("the database of the control data cannot be reached")]
    Unavailable(#[source] Cause),
    /// The connection ended before the database said whether the change was made.
    #[error("it is not known whether the change was made; look before trying again")]
    Unknown(#[source] Cause),
    /// The file system cannot.
    #[error("control.db cannot be opened")]
    Io(#[from] std::io::Error),
}

impl From<SqlError> for ControlError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Damaged(cause) => Self::Damaged(cause),
            SqlError::UnknownVersion { found, known } => Self::UnknownVersion { found, known },
            SqlError::MigrationChanged(version) => Self::MigrationChanged(version),
            SqlError::Sqlite(error) => Self::Sqlite(error),
            SqlError::Postgres(error) => Self::Postgres(error),
            SqlError::Busy => Self::Busy,
            SqlError::Unavailable(cause) => Self::Unavailable(cause),
            SqlError::Unknown(cause) => Self::Unknown(cause),
            SqlError::Io(error) => Self::Io(error),
        }
    }
}

/// Why a key opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Unknown, revoked, expired or of a wrong secret; the caller is not told which.
    #[error("the service key is not valid")]
    Bad,
    /// The key is right, and may not be used from this address.
    #[error("the service key may not be used from {0}")]
    Address(IpAddr),
    /// The key is right, the service may not be heard now.
    #[error("the service is {0}")]
    Inactive(ServiceStatus),
    /// It cannot be said, because the database cannot be read.
    #[error("service keys cannot be checked now")]
    Unavailable(#[source] Box<ControlError>),
}
