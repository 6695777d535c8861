//! Why a run, or a file of one, cannot be made or had.

use std::io;

use crate::{
    StoreError,
    backup::{BackupError, ReadError},
};

/// A run, or where runs are kept, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// One is under way: on this node, or on another one of the database.
    #[error("a backup of everybody is under way, here or on another node")]
    UnderWay,
    /// There is none of that id or time.
    #[error("there is no run {0}; `pushhub backups` lists those that are kept")]
    NoRun(String),
    /// A file of it is not what was written.
    #[error("{0} is not what was written: {1}")]
    Damaged(String, String),
    /// A backup in it cannot be read.
    #[error("{name}: {source}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Where runs are kept is full.
    #[error("there is no room for the backup in {0}")]
    Full(String),
    /// Where runs are kept cannot be reached or used.
    #[error("{place} cannot be used: {source}")]
    Place {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This node has lost its turn: its connection to the database ended, and another node may have begun.
    #[error("the connection to the database ended by which no other node makes a backup meanwhile")]
    TurnLost,
    /// The store cannot be read now.
    #[error("messages cannot be read now: {0}")]
    Store(#[from] StoreError),
    /// A backup of one inbox, for a reason that is not that inbox's own.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Services, templates, users and the rest.
    #[error("control data cannot be copied: {0}")]
    Control(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file beside, in `DATABASE_BACKUP_PATH`.
    #[error("a file below DATABASE_BACKUP_PATH: {0}")]
    Beside(#[source] rusqlite::Error),
    /// The same.
    #[error("a file below DATABASE_BACKUP_PATH: {0}")]
    Io(#[source] std::io::Error),
}

/// What is full beside.
const BESIDE: &str = "DATABASE_BACKUP_PATH";

impl From<rusqlite::Error> for RunError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(BESIDE.to_owned()),
            _ => Self::Beside(error),
        }
    }
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(BESIDE.to_owned())
            }
            _ => Self::Io(error),
        }
    }
}
