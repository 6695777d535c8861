//! What goes wrong between a node and its database, and what callers are told of it.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// Why an operation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What the caller is told.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database or the way to it.
    #[error("the database")]
    Db(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("a connection to the database")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// An inbox that was looked up is not there any more.
    #[error("an inbox went meanwhile")]
    Gone,
    /// An inbox has something to take over, or something that has expired, before it can be read.
    #[error("an inbox is behind")]
    Behind(i64),
    /// The database said nothing for longer than a statement may take there, or the node ends and does not
    /// wait for it.
    #[error("the database does not answer")]
    Silent,
    /// No answer came to COMMIT, and why.
    #[error("it is not known whether the transaction was committed")]
    Unknown(#[source] Box<Self>),
    /// A row holds something else than this program writes.
    #[error("a row of the database cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    /// A column that holds something else than this program writes.
    pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unreadable(Box::new(error))
    }

    /// Whether nothing was written and the same may go well at once: two transactions met, or the
    /// connection had ended while nobody used it.
    pub(super) fn is_worth_another_try(&self) -> bool {
        let error = match self {
            Self::Gone => return true,
            Self::Db(error) => error,
            _ => return false,
        };
        match error.code() {
            Some(code) => {
                *code == SqlState::T_R_DEADLOCK_DETECTED
                    || *code == SqlState::T_R_SERIALIZATION_FAILURE
                    || is_shutdown(code)
            }
            None => error.is_closed(),
        }
    }

    /// Whether a member of a batch is at fault, and the others are not.
    pub(super) fn is_of_one_member(&self) -> bool {
        match self {
            Self::Db(error) => error.code().is_some_and(|code| {
                // 22: a value that cannot be stored; 23: one that must be there once.
                code.code().starts_with("22") || code.code().starts_with("23")
            }),
            _ => false,
        }
    }

    /// What of it is counted by name.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Store(_) => "refused",
            Self::Gone | Self::Behind(_) => "moved",
            Self::Pool(_) => "connect",
            Self::Silent => "silent",
            Self::Unknown(_) => "unknown",
            Self::Unreadable(_) => "unreadable",
            Self::Db(error) => match error.code() {
                None => "connection",
                Some(code) if *code == SqlState::T_R_DEADLOCK_DETECTED => "deadlock",
                Some(code) if is_timeout(code) => "timeout",
                Some(_) => "statement",
            },
        }
    }
}

fn is_shutdown(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code)
}

fn is_timeout(code: &SqlState) -> bool {
    [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Unreadable(error) => Self::Damaged(Arc::from(error)),
            Failure::Pool(deadpool_postgres::PoolError::Timeout(
                deadpool_postgres::TimeoutType::Wait,
            )) => Self::Busy("all connections to the database are in use"),
            Failure::Pool(deadpool_postgres::PoolError::Closed) => Self::Closing,
            Failure::Gone | Failure::Behind(_) => Self::Busy("the inbox changes all the time"),
            Failure::Db(error) => of_database(error),
            failure @ (Failure::Pool(_) | Failure::Silent | Failure::Unknown(_)) => {
                Self::NotWritable(Arc::new(failure))
            }
        }
    }
}

fn of_database(error: tokio_postgres::Error) -> StoreError {
    let Some(code) = error.code() else { return StoreError::NotWritable(Arc::new(error)) };
    match code.code() {
        "57014" => StoreError::Busy("the database did not answer in time"),
        "55P03" | "40P01" | "40001" => {
            StoreError::Busy("other writers hold what is needed for too long")
        }
        "53300" => StoreError::Busy("the database has no connection left"),
        "23505" => StoreError::Conflict("a message of this id is there already"),
        "XX001" | "XX002" => StoreError::Damaged(Arc::new(error)),
        _ => StoreError::NotWritable(Arc::new(error)),
    }
}
