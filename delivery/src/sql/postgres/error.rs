//! What a failure of the database means to whoever asked.

use tokio_postgres::{Error, error::SqlState};

use crate::sql::SqlError;

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        let Some(code) = error.code() else { return Self::Unavailable(error.into()) };
        match code.code() {
            // A statement or a lock took too long, or two transactions met.
            "57014" | "55P03" | "40P01" | "40001" => Self::Busy,
            // It has no room or connection left, goes down or comes up, or is a standby now.
            class if ["08", "53", "57"].iter().any(|known| class.starts_with(known)) => {
                Self::Unavailable(error.into())
            }
            _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::Unavailable(error.into()),
            _ => Self::Postgres(error),
        }
    }
}

/// Whether another connection may do better: this one has ended, or leads to a server that was a
/// primary once.
pub(super) fn ends_connection(error: &Error) -> bool {
    error.is_closed()
        || error.code().is_some_and(|code| {
            *code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code().starts_with("57P")
        })
}
