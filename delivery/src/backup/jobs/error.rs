//! Why a job, or its file, cannot be had.

use super::{JOBS_MAX, OF_USER_MAX};
use crate::backup::BackupError;

/// A job, or its file, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is none of that id, or it is another's.
    #[error("there is no such backup job here; a job is kept by the node that made it")]
    NotFound,
    /// The user has as many as may be.
    #[error("a user has at most {OF_USER_MAX} backup jobs; delete one")]
    TooMany,
    /// The node has.
    #[error("this node has at most {JOBS_MAX} backup jobs; come back later")]
    NodeFull,
    /// It is not made yet.
    #[error("the backup is not ready; GET the job with wait=30s")]
    NotReady,
    /// It failed, or has expired.
    #[error("the job has no file: it {0}")]
    NoFile(&'static str),
    /// A link that was not made here.
    #[error("the link is not one of ours")]
    Forged,
    /// A link whose time is over.
    #[error("the link has expired")]
    LinkExpired,
    /// No byte of what was asked for is there; the file has so many.
    #[error("the range begins behind the end of the file")]
    Range(u64),
    /// As many files are sent as may be.
    #[error("as many backups are sent as may be; come back in a moment")]
    Downloads,
    /// Its backup, or its folder.
    #[error(transparent)]
    Backup(#[from] BackupError),
}
