//! The files of one inbox: `messages.db` and `read_status.db`.
//!
//! `messages.db` is the inbox: its messages, the log of state changes, and how far the journal has
//! been applied, all in one transaction. `read_status.db` is the read state in detail (who, when,
//! on which device), made from that log: two SQLite files cannot be committed together, so one of
//! them follows the other and catches up when it is opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use protocol::{Seq, Time};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    inbox::{Loaded, TailEntry, What},
    record::{Lsn, MarkRecord},
    schema::{Template, Templates, VERSION, status_code, status_from},
    sql::{self, Sync},
};
use crate::InboxKey;

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
}

impl FileError {
    /// Whether only this inbox is affected and trying again is useless.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => sql::is_damage(source),
            Self::Io { .. } => false,
            Self::Version { .. } | Self::Owner { .. } => true,
        }
    }
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
        if fresh {
            messages
                .execute(
                    "INSERT INTO inbox VALUES (1, ?1, ?2, 0, 0, 0, 0)",
                    params![key.tenant.as_str(), key.user.as_str()],
                )
                .map_err(&sqlite)?;
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
        let sqlite = Self::sqlite(&self.dir, "messages.db");
        let row = self
            .messages
            .prepare_cached("SELECT head, unread, expiring, applied_lsn, tenant, user FROM inbox")
            .and_then(|mut select| {
                select
                    .query_row([], |row| {
                        let head = Seq(row.get::<_, i64>(0)?.cast_unsigned());
                        let loaded = Loaded {
                            head,
                            file_head: head,
                            min_seq: Seq::ZERO,
                            uncounted: false,
                            since: 0,
                            unread: row.get::<_, i64>(1)?.cast_unsigned(),
                            expiring: row.get(2)?,
                            known: head > Seq::ZERO,
                            last_lsn: 0,
                        };
                        let owner = row.get_ref(4)?.as_str()? == key.tenant.as_str()
                            && row.get_ref(5)?.as_str()? == key.user.as_str();
                        Ok((loaded, row.get::<_, i64>(3)?.cast_unsigned(), owner))
                    })
                    .optional()
            })
            .map_err(sqlite)?;
        match row {
            Some((loaded, lsn, true)) => Ok((loaded, lsn)),
            Some((_, _, false)) => Err(FileError::Owner { path: self.dir.join("messages.db") }),
            // The power went between the file and its first row: as if it were fresh.
            None => {
                self.messages
                    .execute(
                        "INSERT INTO inbox VALUES (1, ?1, ?2, 0, 0, 0, 0)",
                        params![key.tenant.as_str(), key.user.as_str()],
                    )
                    .map_err(Self::sqlite(&self.dir, "messages.db"))?;
                Ok((Loaded::default(), 0))
            }
        }
    }

    /// Writes changes in order: all of them and the position reached, or nothing. What the file has
    /// already is passed over: after an error it is unknown whether the transaction was written,
    /// and the file, opened anew, says. Answers how many messages are unread now.
    pub(super) fn apply(
        &mut self,
        key: &InboxKey,
        entries: &[TailEntry],
    ) -> Result<u64, FileError> {
        let applied = match self.applied {
            Some(applied) => applied,
            None => self.load(key)?.1,
        };
        let entries = &entries[entries.partition_point(|entry| entry.lsn <= applied)..];
        let Some(last) = entries.last() else { return Ok(self.load(key)?.0.unread) };
        let write = || -> rusqlite::Result<u64> {
            let transaction = begin(&self.messages, TransactionBehavior::Immediate, self.draft)?;
            let unread = write(&self.messages, entries, last)?;
            transaction.map_or(Ok(()), Transaction::commit)?;
            Ok(unread)
        };
        self.applied = None;
        let unread = write().map_err(self.sqlite_messages())?;
        self.applied = Some(last.lsn);
        Ok(unread)
    }

    /// `read_status.db`, caught up with the log in `messages.db`; none where nothing ever changed.
    pub(super) fn status(
        &mut self,
        templates: &Templates,
    ) -> Result<Option<&Connection>, FileError> {
        let sqlite = self.sqlite_status();
        let io = |source| FileError::Io { path: self.dir.join("read_status.db"), source };
        if self.status.is_none() {
            let template = &templates.status;
            if !template.is_in(&self.dir).map_err(io)? {
                let changed: bool = self
                    .messages
                    .query_row("SELECT EXISTS (SELECT 1 FROM changes)", [], |row| row.get(0))
                    .map_err(self.sqlite_messages())?;
                if !changed {
                    return Ok(None);
                }
                if !self.draft {
                    template.place(&self.dir).map_err(io)?;
                }
            }
            self.status = Some(if self.draft {
                draft(&self.dir, template)?
            } else {
                sql::open(&self.dir.join(template.name), Sync::Normal).map_err(&sqlite)?
            });
        }
        let status = self.status.as_ref().expect("opened above");
        catch_up(&self.messages, status, self.draft).map_err(sqlite)?;
        Ok(self.status.as_ref())
    }
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

/// Writes changes, the latest of which is `last`, and how far the inbox is with them.
fn write(db: &Connection, entries: &[TailEntry], last: &TailEntry) -> rusqlite::Result<u64> {
    let (mut unread, mut expiring) = (0_i64, false);
    for entry in entries {
        match &entry.what {
            What::Message(body) => {
                unread += 1;
                expiring |= body.expire_at().is_some();
                db.prepare_cached(
                    "INSERT INTO message (seq, version, status, expire_at, id, body_version, body)
                     VALUES (?1, ?1, 0, ?2, ?3, ?1, ?4)",
                )?
                .execute(params![
                    entry.seq.0.cast_signed(),
                    body.expire_at().map(Time::millis),
                    body.id().as_str(),
                    std::str::from_utf8(&body.json()).expect("a body is JSON"),
                ])?;
            }
            What::Press(_) | What::Rewrite(_) => {}
            What::Mark(mark) => {
                unread += mark.unread_delta;
                write_mark(db, entry.seq, mark)?;
            }
        }
    }
    let head = last.seq.0 + last.seqs() - 1;
    db.prepare_cached(
        "UPDATE inbox SET head = ?1, unread = max(0, unread + ?2),
         expiring = expiring OR ?3, applied_lsn = ?4 RETURNING unread",
    )?
    .query_row(params![head.cast_signed(), unread, expiring, last.lsn.cast_signed()], |row| {
        row.get::<_, i64>(0)
    })
    .map(i64::cast_unsigned)
}

fn write_mark(db: &Connection, first: Seq, mark: &MarkRecord) -> rusqlite::Result<()> {
    let mut update =
        db.prepare_cached("UPDATE message SET status = ?1, version = ?2 WHERE seq = ?3")?;
    let mut insert = db.prepare_cached(
        "INSERT INTO changes (seq, message_seq, message_id, status, device_id, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let status = status_code(mark.mark.status());
    for (seq, (message_seq, id)) in (first.0..).zip(&mark.targets) {
        update.execute(params![status, seq.cast_signed(), message_seq.cast_signed()])?;
        insert.execute(params![
            seq.cast_signed(),
            message_seq.cast_signed(),
            id.as_str(),
            status,
            mark.device.as_ref().map(protocol::DeviceId::as_str),
            mark.at.millis(),
        ])?;
    }
    Ok(())
}

fn catch_up(messages: &Connection, status: &Connection, draft: bool) -> rusqlite::Result<()> {
    let applied: i64 =
        status.prepare_cached("SELECT seq FROM applied")?.query_row([], |row| row.get(0))?;
    let mut select = messages.prepare_cached(
        "SELECT seq, message_seq, message_id, status, device_id, at FROM changes
         WHERE seq > ?1 ORDER BY seq",
    )?;
    let mut rows = select.query(params![applied])?;
    let Some(mut row) = rows.next()? else { return Ok(()) };
    let transaction = begin(status, TransactionBehavior::Deferred, draft)?;
    {
        let mut upsert = status.prepare_cached(
            "INSERT INTO read_status
             (message_seq, message_id, status, is_read, read_at, device_id, updated_at, version)
             VALUES (?1, ?2, ?3, ?4, CASE WHEN ?4 THEN ?5 END, ?6, ?5, ?7)
             ON CONFLICT (message_seq) DO UPDATE SET
               status = excluded.status, is_read = excluded.is_read,
               read_at = CASE WHEN excluded.is_read THEN coalesce(read_at, excluded.read_at) END,
               device_id = excluded.device_id, updated_at = excluded.updated_at,
               version = excluded.version",
        )?;
        let latest = loop {
            let seq: i64 = row.get(0)?;
            let became = status_from(row.get(3)?);
            upsert.execute(params![
                row.get::<_, i64>(1)?,
                row.get_ref(2)?.as_str()?,
                became.as_str(),
                became.is_read(),
                row.get::<_, i64>(5)?,
                row.get::<_, Option<String>>(4)?,
                seq,
            ])?;
            match rows.next()? {
                Some(next) => row = next,
                None => break seq,
            }
        };
        status.prepare_cached("UPDATE applied SET seq = ?1")?.execute(params![latest])?;
    }
    transaction.map_or(Ok(()), Transaction::commit)
}
