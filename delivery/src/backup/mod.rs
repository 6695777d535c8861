//! Backups of inboxes: one SQLite file each, the same from every store.
//!
//! ```text
//! Area::begin ─▶ Store::back_up (a file, as of one moment) ─▶ Sealed: last line, gzip, age ─▶ who asked
//! ```
//! A store copies an inbox into a [`Draft`] while sends go on; the draft lies in a folder that is bounded
//! ([`Area`]), and what leaves it is read from there, so that a slow client holds a file and no snapshot. What a
//! backup looks like inside says [`mod@file`]; what is around it, [`seal`].

pub(crate) mod age;
mod area;
mod chain;
mod file;
mod jobs;
mod read;
mod runs;
mod seal;
mod unpacked;

use protocol::{Seq, Time};

pub use self::{
    age::KeyError,
    area::{Area, AreaConfig, METRICS, Made, Place, RUNNING_MAX},
    chain::{RestoreError, chain},
    file::{Draft, Line},
    jobs::{
        DOWNLOADS_MAX, JOBS_MAX, JobError, Jobs, JobsConfig, LinkKey, METRICS as JOB_METRICS,
        OF_USER_MAX, Record, State,
    },
    read::{Opened, ReadError},
    runs::{
        BucketConfig, EVERY_MAX, EVERY_MIN, Home, IndexEntry, Keep, METRICS as RUN_METRICS,
        NoSchedule, OpenedRun, Part, RunError, RunRecord, RunState, Runs, RunsConfig, RunsReader,
        Schedule, UnderWay,
    },
    seal::{Key, Outer},
    unpacked::remove_left,
};
pub(crate) use self::{
    area::aside,
    file::{Cursors, SinceSearch},
    jobs::{Download, NewJob, copy},
    seal::PIECE,
};
use crate::store::StoreError;

/// What a node makes backups with.
#[derive(Clone)]
pub struct Backups {
    /// Where they are made.
    pub area: std::sync::Arc<Area>,
    /// Whom those are encrypted for that are to be and name nobody (`BACKUP_ENCRYPTION_KEY`).
    pub key: Option<Key>,
    /// Those that are made in the background and kept for a while.
    pub jobs: std::sync::Arc<Jobs>,
    /// Those of everybody, made by a schedule.
    pub runs: std::sync::Arc<Runs>,
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything that is kept of the inbox.
    Full,
    /// What the messages say that may be shown, and nothing of what was done with them.
    Messages,
    /// What changed after a position, to be put on top of what was there.
    Incremental,
}

impl Kind {
    /// All, with their words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("full", Self::Full), ("messages", Self::Messages), ("incremental", Self::Incremental)];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Messages => "messages",
            Self::Incremental => "incremental",
        }
    }
}

/// Since when an incremental backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this change: exact.
    Seq(Seq),
    /// From the first change at or after this moment. Times of changes follow their order unless a clock was set back.
    Time(Time),
}

impl std::str::FromStr for Since {
    type Err = protocol::time::TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(seq) => Ok(Self::Seq(Seq(seq))),
            // The `+` of an offset that was not escaped in a query arrives as a space.
            Err(_) => {
                Time::parse(text).or_else(|_| Time::parse(&text.replace(' ', "+"))).map(Self::Time)
            }
        }
    }
}

/// What a backup is asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// See [`Kind::Full`].
    Full,
    /// See [`Kind::Messages`].
    Messages,
    /// See [`Kind::Incremental`].
    Incremental(Since),
}

impl Wanted {
    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Full => Kind::Full,
            Self::Messages => Kind::Messages,
            Self::Incremental(_) => Kind::Incremental,
        }
    }
}

/// A backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The position is older than what is kept of the inbox's changes, or ahead of it.
    #[error("changes after that position are not kept; take a full backup")]
    Since {
        /// The oldest position.
        min_seq: Seq,
        /// The latest.
        head: Seq,
    },
    /// One of this user's is being made, or as many as may.
    #[error("a backup of this user is being made, or as many as may; come back in a moment")]
    Running,
    /// It is larger than one may be.
    #[error("the backup is larger than {0} bytes (BACKUP_SIZE_MAX)")]
    TooLarge(u64),
    /// The files of jobs take as much as they may.
    #[error(
        "the files of backup jobs may take {0} bytes together (BACKUP_JOBS_SIZE_MAX); delete one"
    )]
    Kept(u64),
    /// Its content is encrypted, and cannot be opened.
    #[error(transparent)]
    Content(#[from] crate::content::ContentError),
    /// The disk of `DATABASE_BACKUP_PATH` is full.
    #[error("there is no room for the backup; the disk of DATABASE_BACKUP_PATH is full")]
    Full,
    /// Who asked is gone.
    #[error("nobody waits for the backup any more")]
    Left,
    /// Its folder or file cannot be used.
    #[error("DATABASE_BACKUP_PATH cannot be used")]
    Io(#[from] std::io::Error),
    /// Its file, or the one it is made from.
    #[error("a file of the backup")]
    Sqlite(#[source] rusqlite::Error),
}
