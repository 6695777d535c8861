//! The files of one inbox: `messages.db` and `read_status.db`.
//!
//! `messages.db` is the inbox: its messages, the log of their changes, what is counted, what went to
//! which device, and how far the journal has been applied, all in one transaction ([`mod@write`]).
//! `read_status.db` is the read state in detail (who, when, on which device), made from that log: two
//! SQLite files cannot be committed together, so one of them follows the other and catches up when
//! it is opened ([`follow`]).

mod follow;
mod prune;
mod receipts;
mod rewrite;
mod settle;
mod tally;
#[cfg(test)]
mod tests;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::Seq;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    inbox::Loaded,
    record::Lsn,
    schema::{Template, Templates, VERSION},
    sql::{self, Sync},
};
use crate::InboxKey;

pub(super) use self::{receipts::first_row_of, write::Writing};

/// Statements that are kept prepared for each open inbox: those of writing and of the usual
/// questions. Some 3 KiB each.
const STATEMENTS_MAX: usize = 32;

/// A file of an inbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is of version {found}; this build reads {VERSION}")]
    Version { path: PathBuf, found: i64 },
    #[error("{path} belongs to another inbox")]
    Owner { path: PathBuf },
    #[error("what happened cannot be kept for the senders")]
    Witness(#[source] Arc<dyn std::error::Error + Send + std::marker::Sync>),
}

impl FileError {
    /// Whether only this inbox is affected and trying again is useless.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => sql::is_damage(source),
            Self::Io { .. } | Self::Witness(_) => false,
            Self::Version { .. } | Self::Owner { .. } => true,
        }
    }
}

/// Why something was not written.
enum WriteError {
    Sqlite(rusqlite::Error),
    Witness(Arc<dyn std::error::Error + Send + std::marker::Sync>),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What the file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Its head.
    pub(super) head: Seq,
    /// The position up to which changes were pruned.
    pub(super) min_seq: Seq,
    /// Unread messages. Those that have expired count until [`UserFiles::settle`].
    pub(super) unread: u64,
    /// Whether some message that is shown expires.
    pub(super) expiring: bool,
}

/// The open files of one inbox.
pub(super) struct UserFiles {
    dir: PathBuf,
    pub(super) messages: Connection,
    status: Option<Connection>,
    /// Up to which record the journal is applied; none until it was read.
    applied: Option<Lsn>,
    /// Nothing of this is kept; see [`UserFiles::draft`].
    draft: bool,
}

impl UserFiles {
    fn sqlite(dir: &Path, name: &str) -> impl Fn(rusqlite::Error) -> FileError + use<> {
        let path = dir.join(name);
        move |source| FileError::Sqlite { path: path.clone(), source }
    }

    pub(super) fn sqlite_messages(&self) -> impl Fn(rusqlite::Error) -> FileError + use<> {
        Self::sqlite(&self.dir, "messages.db")
    }

    pub(super) fn sqlite_status(&self) -> impl Fn(rusqlite::Error) -> FileError + use<> {
        Self::sqlite(&self.dir, "read_status.db")
    }

    /// Opens the files; `None` where there are none. `create` makes them.
    pub(super) fn open(
        dir: &Path,
        key: &InboxKey,
        templates: &Templates,
        create: bool,
    ) -> Result<Option<Self>, FileError> {
        let path = dir.join("messages.db");
        let io = |source| FileError::Io { path: path.clone(), source };
        let fresh = !templates.messages.is_in(dir).map_err(io)?;
        if fresh && !create {
            return Ok(None);
        }
        if fresh {
            templates.messages.place(dir).map_err(io)?;
        }
        let sqlite = Self::sqlite(dir, "messages.db");
        // A fresh WAL has no older frames that could be mistaken for new ones, so its header need
        // not be synced: the first transaction runs without, later ones with (NORMAL).
        let sync = if fresh { Sync::Off } else { Sync::Normal };
        let messages = sql::open(&path, sync).map_err(&sqlite)?;
        messages.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // What is taken back or pruned must not linger in free space: neither where it stood, nor
        // where it stood before a mark made its row longer.
        messages
            .pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))
            .map_err(&sqlite)?;
        if fresh {
            begin_inbox(&messages, key).map_err(&sqlite)?;
            messages.execute_batch("PRAGMA synchronous = NORMAL").map_err(&sqlite)?;
        } else {
            check_version(dir, &messages)?;
        }
        let dir = dir.to_owned();
        Ok(Some(Self { dir, messages, status: None, applied: None, draft: false }))
    }

    /// The files for questions while they cannot be written: changes can be applied and asked for,
    /// and are gone when this is dropped. They take memory instead of disk meanwhile, as much again
    /// as the tail, which [`super::LAG_BYTES_MAX`] limits. The caller must not hold the files open
    /// otherwise.
    pub(super) fn draft(dir: &Path, templates: &Templates) -> Result<Self, FileError> {
        let messages = draft(dir, &templates.messages)?;
        check_version(dir, &messages)?;
        Ok(Self { dir: dir.to_owned(), messages, status: None, applied: None, draft: true })
    }

    /// Whether what is read of `read_status.db` may be left out.
    pub(super) fn is_draft(&self) -> bool {
        self.draft
    }

    /// What the file says of the inbox, and how far the journal is applied.
    pub(super) fn load(&self, key: &InboxKey) -> Result<(Loaded, Lsn), FileError> {
        let sqlite = self.sqlite_messages();
        let row = self
            .messages
            .prepare_cached(
                "SELECT head, min_seq, unread, expiring, since_lsn, applied_lsn, tenant, user
                 FROM inbox",
            )
            .and_then(|mut select| {
                select
                    .query_row([], |row| {
                        let counted = counted(row)?;
                        let loaded = Loaded {
                            head: counted.head,
                            file_head: counted.head,
                            min_seq: counted.min_seq,
                            unread: counted.unread,
                            expiring: counted.expiring,
                            known: counted.head > Seq::ZERO,
                            since: row.get::<_, i64>(4)?.cast_unsigned(),
                            ..Loaded::default()
                        };
                        let owner = row.get_ref(6)?.as_str()? == key.tenant.as_str()
                            && row.get_ref(7)?.as_str()? == key.user.as_str();
                        Ok((loaded, row.get::<_, i64>(5)?.cast_unsigned(), owner))
                    })
                    .optional()
            })
            .map_err(&sqlite)?;
        match row {
            Some((loaded, lsn, true)) => Ok((loaded, lsn)),
            Some((_, _, false)) => Err(FileError::Owner { path: self.dir.join("messages.db") }),
            // The power went between the file and its first row: as if it were fresh.
            None => {
                begin_inbox(&self.messages, key).map_err(sqlite)?;
                Ok((Loaded::default(), 0))
            }
        }
    }

    /// What the file counts.
    pub(super) fn counted(&self) -> Result<Counted, FileError> {
        self.messages
            .prepare_cached("SELECT head, min_seq, unread, expiring FROM inbox")
            .and_then(|mut select| select.query_row([], counted))
            .map_err(self.sqlite_messages())
    }

    /// Changes `messages.db` in a transaction: all of it or nothing.
    fn change<T>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, WriteError>,
    ) -> Result<T, FileError> {
        let run = || {
            let transaction = begin(&self.messages, TransactionBehavior::Immediate, self.draft)?;
            let changed = change(&self.messages)?;
            transaction.map_or(Ok(()), Transaction::commit)?;
            Ok(changed)
        };
        run().map_err(|error| match error {
            WriteError::Sqlite(source) => self.sqlite_messages()(source),
            WriteError::Witness(source) => FileError::Witness(source),
        })
    }
}

/// Reads `head, min_seq, unread, expiring`.
fn counted(row: &rusqlite::Row<'_>) -> rusqlite::Result<Counted> {
    Ok(Counted {
        head: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
        min_seq: Seq(row.get::<_, i64>(1)?.cast_unsigned()),
        unread: row.get::<_, i64>(2)?.cast_unsigned(),
        expiring: row.get(3)?,
    })
}

fn begin_inbox(messages: &Connection, key: &InboxKey) -> rusqlite::Result<()> {
    messages
        .execute(
            "INSERT INTO inbox VALUES (1, ?1, ?2, 0, 0, 0, 0, 0, 0, 0, 0)",
            params![key.tenant.as_str(), key.user.as_str()],
        )
        .map(drop)
}

fn check_version(dir: &Path, messages: &Connection) -> Result<(), FileError> {
    let path = dir.join("messages.db");
    match messages.query_row("PRAGMA user_version", [], |row| row.get(0)) {
        Ok(VERSION) => Ok(()),
        Ok(found) => Err(FileError::Version { path, found }),
        Err(source) => Err(FileError::Sqlite { path, source }),
    }
}

/// One of the files for changes that are not kept; in memory where the folder has none.
fn draft(dir: &Path, template: &Template) -> Result<Connection, FileError> {
    let path = dir.join(template.name);
    let there =
        template.is_in(dir).map_err(|source| FileError::Io { path: path.clone(), source })?;
    if there { sql::open_draft(&path) } else { template.draft() }
        .map_err(|source| FileError::Sqlite { path, source })
}

/// Begins a transaction; a draft is in one already, which nobody commits.
fn begin(
    db: &Connection,
    behavior: TransactionBehavior,
    draft: bool,
) -> rusqlite::Result<Option<Transaction<'_>>> {
    if draft { Ok(None) } else { Transaction::new_unchecked(db, behavior).map(Some) }
}
