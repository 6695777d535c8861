//! Why a database cannot be used.

/// What is behind an error.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a database cannot be used, whichever it is.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// A row holds something else than this program writes.
    #[error("a row is damaged")]
    Damaged(#[source] Cause),
    /// It was made by a newer version of this program.
    #[error("the database has version {found}, this program knows {known}")]
    UnknownVersion {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A migration that was run is not the one of this program.
    #[error("migration {0} was run with another content than this program has")]
    MigrationChanged(i64),
    /// SQLite cannot.
    #[error("the file cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refuses.
    #[error("the database does not take what was asked of it")]
    Postgres(#[source] tokio_postgres::Error),
    /// Others hold what is needed for too long.
    #[error("too many are waiting for the database")]
    Busy,
    /// The database cannot be reached, or does not answer.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Cause),
    /// The connection ended before the database said whether the change was made.
    #[error("it is not known whether the change was made; look before trying again")]
    Unknown(#[source] Cause),
    /// The file system cannot.
    #[error("the file cannot be opened")]
    Io(#[from] std::io::Error),
}
