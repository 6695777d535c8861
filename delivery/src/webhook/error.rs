//! Why something about webhooks cannot be done.

use std::sync::Arc;

use protocol::FieldProblem;

use super::endpoint::ENDPOINTS_PER_SERVICE_MAX;
use crate::sql::SqlError;

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
    #[error("webhooks cannot be written")]
    NotWritable(#[source] Arc<SqlError>),
    /// The database went away before it said whether the change was made. Recording it again is
    /// recording it once; whoever made another change looks first.
    #[error("it is not known whether the change was made; look before trying again")]
    Unknown(#[source] Arc<SqlError>),
    /// [`super::Webhooks::close`] was called.
    #[error("webhooks are closed")]
    Closed,
    /// The database or file cannot be used.
    #[error("the database of webhooks cannot be used")]
    Database(#[from] SqlError),
    /// The system has no thread for it.
    #[error("webhooks cannot be started")]
    Io(#[from] std::io::Error),
    /// The system's certificates or its TLS cannot be used.
    #[error("TLS cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl WebhookError {
    /// Of a commit that failed, for each who waits for it.
    pub(super) fn not_committed(error: &Arc<SqlError>) -> Self {
        let error = Arc::clone(error);
        match *error {
            SqlError::Unknown(_) => Self::Unknown(error),
            _ => Self::NotWritable(error),
        }
    }
}
