//! A backup on its way in: whatever is around it is recognised, taken off, and nothing of it is used before all of it
//! is known to be what was written.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use protocol::{Seq, TenantId, Time, UserId};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use super::{
    Kind,
    age::{self, AgeError, Decrypt},
    file::{APPLICATION_ID, FORMAT, Line},
    seal::{Key, LAST, LAST_BYTES, PIECE, hex},
    unpacked::Unpacked,
};
use crate::{InboxKey, content::ContentKeys};

/// What gzip begins with.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// What SQLite begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Layers that are taken off at most: one of each kind, and one that somebody put around for transport.
const LAYERS_MAX: usize = 3;

/// A backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file, or where it is unpacked to.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is encrypted.
    #[error(
        "it is encrypted: set BACKUP_ENCRYPTION_KEY to the age identity or the passphrase that opens it"
    )]
    NoKey,
    /// It is encrypted for somebody else.
    #[error("{0}")]
    OtherKey(String),
    /// It is something else.
    #[error("it is no backup of pushhub")]
    Foreign,
    /// It is of another version.
    #[error("it is of format {0}; this build reads {FORMAT}")]
    Format(i64),
    /// A part of it is missing.
    #[error("it is cut off")]
    Cut,
    /// Something else was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// A backup that was unpacked and found whole.
pub struct Opened {
    db: Connection,
    line: Line,
    /// Rows of `message`, `changes`, `receipt` and `device`.
    counts: [u64; 4],
    /// Gone with it.
    unpacked: Unpacked,
}

impl Opened {
    /// Unpacks a backup into a folder and looks all of it through.
    ///
    /// # Errors
    /// [`ReadError`]; nothing is left in the folder then.
    pub fn open(path: &Path, key: Option<&Key>, folder: &Path) -> Result<Self, ReadError> {
        let (unpacked, to) = Unpacked::create(folder).map_err(at(folder))?;
        unpack_file(path, key, to)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let damaged = |error: rusqlite::Error| ReadError::Damaged(error.to_string());
        let db = Connection::open_with_flags(unpacked.path(), flags).map_err(damaged)?;
        let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
        if pragma("application_id").map_err(damaged)? != APPLICATION_ID {
            return Err(ReadError::Foreign);
        }
        match pragma("user_version").map_err(damaged)? {
            FORMAT => {}
            other => return Err(ReadError::Format(other)),
        }
        let found: String =
            db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(damaged)?;
        if found != "ok" {
            return Err(ReadError::Damaged(found));
        }
        let (line, counts) = look(&db).map_err(damaged)?;
        let line = line.ok_or(ReadError::Foreign)?;
        Ok(Self { db, line, counts, unpacked })
    }

    /// Encrypts the content of its messages, for a store that keeps them so.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where a message cannot be read.
    pub fn seal_content(&self, keys: &ContentKeys) -> Result<(), ReadError> {
        let sealed = keys.seal_backup(&self.db, &self.line.inbox.tenant);
        sealed.map_err(|error| ReadError::Damaged(error.to_string()))
    }

    /// What it is.
    #[must_use]
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// Where it is unpacked.
    pub(crate) fn path(&self) -> &Path {
        self.unpacked.path()
    }

    /// Has its connection read another one, too.
    pub(super) fn attach(&self, other: &Self, name: &str) -> rusqlite::Result<()> {
        self.db.execute(&format!("ATTACH ?1 AS {name}"), [other.path().to_string_lossy()]).map(drop)
    }

    /// It has become something else.
    pub(super) fn is_now(&mut self, line: Line, counts: [u64; 4]) {
        (self.line, self.counts) = (line, counts);
    }

    /// All of it, for reading.
    #[must_use]
    pub const fn db(&self) -> &Connection {
        &self.db
    }

    /// How many messages, changes, receipts and devices are in it.
    #[must_use]
    pub const fn counts(&self) -> [u64; 4] {
        self.counts
    }
}

/// An error of a file.
fn at(path: &Path) -> impl Fn(io::Error) -> ReadError + use<> {
    let path = path.to_owned();
    move |source| ReadError::Io { path: path.clone(), source }
}

/// Takes a file's layers off and writes what is in it, all of which was written once.
pub(super) fn unpack_file(path: &Path, key: Option<&Key>, to: File) -> Result<(), ReadError> {
    let file = File::open(path).map_err(at(path))?;
    unpack(Box::new(BufReader::with_capacity(PIECE, file)), key, to, at(path))
}

/// Takes layers off until SQLite comes, and writes that, once the last line says that it is all.
fn unpack(
    mut from: Box<dyn BufRead>,
    key: Option<&Key>,
    mut to: File,
    failed: impl Fn(io::Error) -> ReadError,
) -> Result<(), ReadError> {
    for _ in 0..=LAYERS_MAX {
        let begin = from.fill_buf().map_err(unreadable)?;
        if begin.starts_with(SQLITE) {
            return check(from, &mut to, failed);
        }
        from = if begin.starts_with(age::MAGIC) {
            let identity = key.and_then(Key::identity).ok_or(ReadError::NoKey)?;
            let opened = Decrypt::new(from, identity).map_err(unreadable)?;
            Box::new(BufReader::with_capacity(PIECE, opened))
        } else if begin.starts_with(GZIP) {
            Box::new(BufReader::with_capacity(PIECE, MultiGzDecoder::new(from)))
        } else {
            return Err(ReadError::Foreign);
        };
    }
    Err(ReadError::Foreign)
}

fn unreadable(error: io::Error) -> ReadError {
    let of_age = error.get_ref().and_then(|inner| inner.downcast_ref::<AgeError>());
    if let Some(AgeError::OtherKey | AgeError::OtherKind(_)) = of_age {
        return ReadError::OtherKey(error.to_string());
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Cut,
        _ => ReadError::Damaged(error.to_string()),
    }
}

/// Writes all but the last line, which must be there and say what was written.
fn check(
    mut from: Box<dyn BufRead>,
    to: &mut File,
    failed: impl Fn(io::Error) -> ReadError,
) -> Result<(), ReadError> {
    let (mut hash, mut held) = (Sha256::new(), Vec::with_capacity(PIECE + LAST_BYTES));
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        held.extend_from_slice(&piece[..count]);
        // What may be the last line is held back.
        let sure = held.len().saturating_sub(LAST_BYTES);
        hash.update(&held[..sure]);
        to.write_all(&held[..sure]).map_err(&failed)?;
        held.drain(..sure);
    }
    if !held.starts_with(LAST.as_bytes()) || !held.ends_with(b"\n") {
        return Err(ReadError::Cut);
    }
    let said = &held[LAST.len()..LAST.len() + 64];
    if said != hex(&hash.finalize()).as_bytes() {
        return Err(ReadError::Damaged("its SHA-256 is another than it says".to_owned()));
    }
    Ok(())
}

/// What a backup says it is; none where it says nothing that it may. With the rows that there are, which must be
/// as many as it says.
pub(super) fn look(db: &Connection) -> rusqlite::Result<(Option<Line>, [u64; 4])> {
    let sql = "SELECT type, tenant, user, made_at, since, head, min_seq, delivered, acked,
            messages, changes, receipts, devices,
            (SELECT count(*) FROM message), (SELECT count(*) FROM changes),
            (SELECT count(*) FROM receipt), (SELECT count(*) FROM device)
        FROM backup";
    db.query_row(sql, [], |row| {
        let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let seq = |at: usize| number(at).map(Seq);
        let said = [number(9)?, number(10)?, number(11)?, number(12)?];
        let counts = [number(13)?, number(14)?, number(15)?, number(16)?];
        let word: String = row.get(0)?;
        let kind = Kind::WORDS.into_iter().find(|(known, _)| *known == word);
        let tenant = TenantId::new(row.get::<_, String>(1)?).ok();
        let user = UserId::new(row.get::<_, String>(2)?).ok();
        let (made_at, since, head) = (Time::from_millis(row.get(3)?), seq(4)?, seq(5)?);
        let (min_seq, delivered, acked) = (seq(6)?, seq(7)?, seq(8)?);
        let line = match (kind, tenant, user) {
            (Some((_, kind)), Some(tenant), Some(user)) if said == counts => Some(Line {
                kind,
                inbox: InboxKey::new(tenant, user),
                made_at,
                since,
                head,
                min_seq,
                delivered,
                acked,
            }),
            _ => None,
        };
        Ok((line, counts))
    })
}
