//! Why something about webhooks cannot be done.

use std::sync::Arc;

use protocol::FieldProblem;

use super::endpoint::ENDPOINTS_PER_SERVICE_MAX;

/// Why something about webhooks cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// No such endpoint or delivery, or not this service's.
    #[error("no such webhook or delivery")]
    NotFound,
    /// Fields of an endpoint are not valid.
    #[error("the webhook is not valid")]
    Invalid(Vec<FieldProblem>),
    /// [`ENDPOINTS_PER_SERVICE_MAX`] is reached.
    #[error("the service has {ENDPOINTS_PER_SERVICE_MAX} webhooks already, which is the most")]
    TooMany,
    /// Nothing is sent to a disabled endpoint.
    #[error("the webhook is disabled; enable it first")]
    Disabled,
    /// What an admin disabled only an admin enables.
    #[error("the webhook was disabled by an admin, and only an admin can enable it")]
    DisabledByAdmin,
    /// As many tests as may be are running.
    #[error("too many tests are running; try again")]
    TooManyTests,
    /// Nothing was kept. Whoever has something to keep tries again: recording twice is once.
    #[error("webhooks.db cannot be written")]
    NotWritable(#[source] Arc<rusqlite::Error>),
    /// [`super::Webhooks::close`] was called.
    #[error("webhooks are closed")]
    Closed,
    /// The file was made by a newer version of this program.
    #[error("webhooks.db has version {found}, this program knows {known}")]
    UnknownVersion {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// SQLite cannot.
    #[error("webhooks.db cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system cannot.
    #[error("webhooks.db cannot be opened")]
    Io(#[from] std::io::Error),
    /// The system's certificates or its TLS cannot be used.
    #[error("TLS cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}
