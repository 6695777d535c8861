//! `.sync/search.db`: which tokens stand in which messages of an inbox.
//!
//! Made from `messages.db` and from nothing else, when somebody searches: a send does not pay for it,
//! and it may be deleted at any time. It finds candidates; what they are now is asked of `messages.db`,
//! in the same transaction. So it needs to follow only what changes a message's text.

use std::{
    fmt::Write as _,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
    config::DbConfig, params,
};

use super::super::{schema::Template, sql};
use crate::search::{Kind, Texts, Tokens};

/// What it looks like. FTS5 is given tokens that are made already, separated by spaces: to its `ascii`
/// tokenizer all that is not ASCII is part of a token.
const SCHEMA: &str = "
CREATE VIRTUAL TABLE text USING fts5( -- rowid is message.seq; the text itself is not kept
    chars, -- each character of scripts without spaces, once
    words, -- pairs of such characters, and words, in order
    content = '', contentless_delete = 1, tokenize = 'ascii'
);
CREATE TABLE state (        -- how far messages.db has been taken over
    one INTEGER PRIMARY KEY CHECK (one = 1),
    created INTEGER NOT NULL, -- seq of the latest message here
    created_id TEXT NOT NULL, -- and its id: another one there means another inbox
    edited INTEGER NOT NULL   -- latest body_version of an edit that is here
);
INSERT INTO state VALUES (1, 0, '', 0);
PRAGMA user_version = 1;";

/// `user_version`. To be raised with the schema and with every change of what the tokens of a text are;
/// an index of another version is made anew.
const VERSION: i64 = 1;

/// Messages taken over in one transaction: what a crash repeats, and how long another search waits for
/// its turn behind one. Measured: 25 ms at most, 10 % slower than four times as many.
pub(super) const CHUNK_MESSAGES: u32 = 256;

/// Bytes of bodies taken over in one transaction; at least one message.
const CHUNK_BYTES: usize = 256 << 10;

/// Pages of the index kept in memory while it is open, in KiB.
const INDEX_CACHE_KIB: i32 = 4 << 10;

/// Pages of the messages kept in memory while they are open for a search, in KiB: the upper levels of
/// 100,000 messages.
const MESSAGES_CACHE_KIB: i32 = 1 << 10;

/// Bytes of the index's `-wal` from which on it is copied into the index, with two syncs: whoever opens
/// the index reads all of it. Measured with 1, 4 and 16 MiB: the same.
pub(super) const WAL_BYTES_MAX: u64 = 1 << 20;

/// How long opening waits for another process that has the index open (a `sqlite3` shell).
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// A token between two texts of a message, so that no row of tokens goes across: of Unicode's private
/// characters, which are no part of a query's tokens.
const GAP: &str = "\u{E000}";

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
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
    #[error("{path} is of version {found}, not {VERSION}")]
    Version { path: PathBuf, found: i64 },
}

impl IndexError {
    /// Whether a fresh index would help, if not `messages.db` itself is at fault.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => sql::is_damage(source),
            Self::Io { .. } => false,
            Self::Version { .. } => true,
        }
    }
}

/// A fresh index.
pub(super) fn template() -> rusqlite::Result<Template> {
    Template::new("search.db", SCHEMA)
}

/// Puts a fresh index in the place of one that cannot be used.
pub(super) fn renew(dir: &Path, template: &Template) -> Result<(), IndexError> {
    let dir = dir.join(".sync");
    template.place(&dir).map_err(|source| IndexError::Io { path: dir.join(template.name), source })
}

/// The index of one inbox and its messages, open for one turn. Opening costs half a millisecond; kept
/// open they would cost five descriptors and 5 MiB for each user who ever searched, and would go on
/// showing files that were replaced.
pub(super) struct Index {
    pub(super) db: Connection,
    path: PathBuf,
}

/// What a turn has taken over.
pub(super) struct Progress {
    /// Messages.
    pub(super) indexed: u64,
    /// The index was begun anew because it did not belong to these messages.
    pub(super) renewed: bool,
    /// Everything is in the index.
    pub(super) complete: bool,
}

impl Index {
    /// Opens both; `None` where the inbox has no messages. The index is made if it is missing.
    pub(super) fn open(dir: &Path, template: &Template) -> Result<Option<Self>, IndexError> {
        let messages = dir.join("messages.db");
        match fs::metadata(&messages) {
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => return Ok(None),
                _ => return Err(IndexError::Io { path: messages, source: error }),
            },
        }
        let sync = dir.join(".sync");
        let path = sync.join(template.name);
        let there = template.is_in(&sync);
        if !there.map_err(|source| IndexError::Io { path: path.clone(), source })? {
            renew(dir, template)?;
        }
        let sqlite = |source| IndexError::Sqlite { path: path.clone(), source };
        // Alone, SQLite keeps the index of the WAL in memory: no `-shm` has to be made, for which a full
        // disk has no room. It is not alone while a `sqlite3` shell has the file open.
        let (db, found) = connect(&path, "EXCLUSIVE", 0)
            .or_else(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy) => connect(&path, "NORMAL", BUSY_TIMEOUT_MS),
                _ => Err(error),
            })
            .map_err(sqlite)?;
        if found != VERSION {
            return Err(IndexError::Version { path, found });
        }
        attach(&db, &messages).map_err(sqlite)?;
        Ok(Some(Self { db, path }))
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> IndexError {
        IndexError::Sqlite { path: self.path.clone(), source }
    }

    /// Begins a turn: until it ends, `messages.db` is as it is now.
    pub(super) fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.db, TransactionBehavior::Deferred)
    }

    /// Copies the WAL into the index once it is large; after a turn. SQLite's own way leaves it to the next
    /// writer of the same connection to begin the WAL anew: opened for each turn, it would only grow,
    /// be read at each opening and copied after each turn.
    pub(super) fn shrink(&self) -> rusqlite::Result<()> {
        let wal = self.path.with_extension("db-wal");
        if fs::metadata(wal).is_ok_and(|wal| wal.len() > WAL_BYTES_MAX) {
            // Who reads it in a shell meanwhile is not waited for.
            self.db.execute_batch(
                "PRAGMA busy_timeout = 0;
                 PRAGMA main.wal_checkpoint(TRUNCATE);",
            )?;
        }
        Ok(())
    }

    /// Takes over as many messages as one transaction may.
    pub(super) fn catch_up(&self) -> rusqlite::Result<Progress> {
        let mut state = State::read(&self.db)?;
        let before = state.clone();
        let renewed = !state.fits(&self.db)?;
        if renewed {
            self.db.execute("INSERT INTO text (text) VALUES ('delete-all')", [])?;
            state = State::default();
        }
        let mut taking = Taking {
            db: &self.db,
            messages: CHUNK_MESSAGES,
            bytes: CHUNK_BYTES,
            chars: Vec::new(),
            columns: Default::default(),
        };
        let complete =
            taking.edited(&mut state)? && taking.created(&mut state)? && drop_pruned(&self.db)?;
        if state != before {
            state.write(&self.db)?;
        }
        let indexed = u64::from(CHUNK_MESSAGES - taking.messages);
        Ok(Progress { indexed, renewed, complete })
    }
}

fn connect(path: &Path, locking: &str, timeout: u32) -> rusqlite::Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(path, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.execute_batch(&format!(
        "PRAGMA busy_timeout = {timeout};
         PRAGMA main.locking_mode = {locking};
         PRAGMA main.synchronous = NORMAL;
         PRAGMA main.cache_size = -{INDEX_CACHE_KIB};
         PRAGMA main.wal_autocheckpoint = 0;
         PRAGMA main.mmap_size = 0;
         PRAGMA temp_store = MEMORY;"
    ))?;
    let version = db.query_row("PRAGMA main.user_version", [], |row| row.get(0))?;
    Ok((db, version))
}

/// Makes `messages.db` readable beside the index, as `inbox`.
fn attach(db: &Connection, messages: &Path) -> rusqlite::Result<()> {
    let mut uri = "file:".to_owned();
    for &byte in messages.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => write!(uri, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
    uri.push_str("?mode=ro");
    db.execute("ATTACH ?1 AS inbox", [uri])?;
    db.execute_batch(&format!(
        "PRAGMA inbox.cache_size = -{MESSAGES_CACHE_KIB};
         PRAGMA inbox.mmap_size = 0;
         PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"
    ))
}

/// How far the index is.
#[derive(Clone, Default, PartialEq, Eq)]
struct State {
    created: i64,
    created_id: String,
    edited: i64,
}

impl State {
    fn read(db: &Connection) -> rusqlite::Result<Self> {
        db.query_row("SELECT created, created_id, edited FROM state", [], |row| {
            Ok(Self { created: row.get(0)?, created_id: row.get(1)?, edited: row.get(2)? })
        })
    }

    fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.execute(
            "UPDATE state SET created = ?1, created_id = ?2, edited = ?3",
            params![self.created, self.created_id, self.edited],
        )?;
        Ok(())
    }

    /// Whether the index is of these messages. They may be others with the same seqs, after a backup was
    /// restored; and where the latest message here is gone, all of them are.
    fn fits(&self, db: &Connection) -> rusqlite::Result<bool> {
        if self.created == 0 {
            return Ok(true);
        }
        let id: Option<String> = db
            .query_row("SELECT id FROM inbox.message WHERE seq = ?1", [self.created], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(id.is_some_and(|id| id == self.created_id))
    }
}

/// What is taken over in one transaction, and what may still be.
struct Taking<'a> {
    db: &'a Connection,
    messages: u32,
    bytes: usize,
    /// Used again for each message.
    chars: Vec<char>,
    columns: [String; 2],
}

impl Taking<'_> {
    /// Messages that were written anew since they were taken over; whether all are in.
    fn edited(&mut self, state: &mut State) -> rusqlite::Result<bool> {
        let mut select = self.db.prepare_cached(
            "SELECT body_version, seq, body FROM inbox.message
             WHERE body_version > seq AND body_version > ?1 ORDER BY body_version",
        )?;
        let mut rows = select.query([state.edited])?;
        while let Some(row) = rows.next()? {
            if self.is_full() {
                return Ok(false);
            }
            let seq: i64 = row.get(1)?;
            // A later one is taken over as it is now, when it is its turn.
            if seq <= state.created {
                self.db.prepare_cached("DELETE FROM text WHERE rowid = ?1")?.execute([seq])?;
                self.insert(seq, row.get_ref(2)?.as_str()?)?;
            }
            state.edited = row.get(0)?;
        }
        Ok(true)
    }

    /// New messages; whether all are in.
    fn created(&mut self, state: &mut State) -> rusqlite::Result<bool> {
        let mut select = self.db.prepare_cached(
            "SELECT seq, id, body FROM inbox.message WHERE seq > ?1 ORDER BY seq",
        )?;
        let mut rows = select.query([state.created])?;
        while let Some(row) = rows.next()? {
            if self.is_full() {
                return Ok(false);
            }
            let seq = row.get(0)?;
            self.insert(seq, row.get_ref(2)?.as_str()?)?;
            state.created = seq;
            row.get_ref(1)?.as_str()?.clone_into(&mut state.created_id);
        }
        Ok(true)
    }

    fn is_full(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    fn insert(&mut self, seq: i64, body: &str) -> rusqlite::Result<()> {
        let [chars, words] = &mut self.columns;
        self.chars.clear();
        chars.clear();
        words.clear();
        // A body that is none is no reason to refuse a search: whoever lists it reports it.
        for text in Texts::of_body(body).unwrap_or_default().all() {
            let mut tokens = Tokens::new(text);
            while let Some(token) = tokens.next_token() {
                words.push_str(token.text);
                words.push(' ');
                if token.kind != Kind::Word {
                    self.chars.extend(token.text.chars().next());
                }
            }
            words.push_str(GAP);
            words.push(' ');
        }
        self.chars.sort_unstable();
        self.chars.dedup();
        for char in &self.chars {
            chars.push(*char);
            chars.push(' ');
        }
        self.db
            .prepare_cached("INSERT INTO text (rowid, chars, words) VALUES (?1, ?2, ?3)")?
            .execute(params![seq, &*chars, &*words])?;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(body.len());
        Ok(())
    }
}

/// Drops what retention has taken from the inbox, as much as one transaction may; whether that is all.
fn drop_pruned(db: &Connection) -> rusqlite::Result<bool> {
    let gone: Vec<i64> = db
        .prepare_cached(
            "SELECT id FROM text_docsize WHERE id < (SELECT min(seq) FROM inbox.message) LIMIT ?1",
        )?
        .query_map([CHUNK_MESSAGES], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut delete = db.prepare_cached("DELETE FROM text WHERE rowid = ?1")?;
    for seq in &gone {
        delete.execute([seq])?;
    }
    Ok(gone.len() < CHUNK_MESSAGES as usize)
}
