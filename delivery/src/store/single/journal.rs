//! The journal: where everything accepted becomes durable first.
//!
//! It is a row of SQLite files, `journal-{first lsn}.db`, used as append logs: `synchronous=FULL`,
//! never checkpointed, so that a commit is one sequential write to the `-wal` and one sync. When
//! the newest has grown to [`SEGMENT_BYTES`] a fresh one takes over; one whose records are all in
//! their users' files (and synced) is deleted whole. A log format of our own was not needed: see
//! the measurements in `loadtest/RESULTS.md`.
//!
//! After a failed sync nobody knows what is on the disk, and asking the same handle again can be
//! answered by the page cache. So the segment is given up: the handle is dropped and the next
//! segment begins with the lsn after the last acknowledged one, which makes whatever the failed
//! commit left behind void.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    record::{Lsn, Record, RecordError},
    sql::{self, Sync},
};

/// How large a segment grows, in bytes of its `-wal`. Bounds what a restart after a crash reads
/// (64 MiB: about 150,000 messages, well under a second) and what a full disk needs to free.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;

/// Room that must be there before a journal that failed is used again, in bytes.
const ROOM_BYTES: u64 = 1 << 20;

const SCHEMA: &str = "
CREATE TABLE journal ( -- what was accepted, in order; see ARCHITECTURE.md
    lsn INTEGER PRIMARY KEY,
    record BLOB NOT NULL -- MessagePack
);
PRAGMA user_version = 1;";

const VERSION: i64 = 1;

/// A journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{path} is of version {found}; this build reads {VERSION}")]
    Version { path: PathBuf, found: i64 },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The segment that is written to.
pub(super) struct Segment {
    first: Lsn,
    connection: Connection,
    path: PathBuf,
    wal: PathBuf,
}

/// A segment that is only kept until its records are in their files.
#[derive(Debug, Clone)]
pub(super) struct OldSegment {
    pub(super) path: PathBuf,
    /// Its last valid record.
    pub(super) last: Lsn,
}

impl Segment {
    /// Creates the segment that begins with `first`. A left-over of that name has no valid record
    /// (its first lsn was never acknowledged) and is removed.
    pub(super) fn create(dir: &Path, first: Lsn, sync: Sync) -> Result<Self, JournalError> {
        let path = segment_path(dir, first);
        remove(&path)?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = sql::open(&path, sync)?;
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0;")?;
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
            Ok(connection)
        };
        let connection =
            open().map_err(|source| JournalError::Sqlite { path: path.clone(), source })?;
        // The file's name must survive too, or a power cut takes the whole segment.
        fs::File::open(dir)?.sync_all()?;
        let wal = with_suffix(&path, "-wal");
        Ok(Self { first, connection, path, wal })
    }

    /// Proves that a full disk has room again: without it a segment that just fits would make the
    /// node ready for one message at a time.
    pub(super) fn prove_room(self) -> Result<Self, JournalError> {
        let prove = || -> rusqlite::Result<()> {
            self.connection.execute_batch(&format!(
                "CREATE TABLE room (bytes); INSERT INTO room VALUES (zeroblob({ROOM_BYTES}));
                 DROP TABLE room;"
            ))
        };
        prove().map_err(|source| JournalError::Sqlite { path: self.path.clone(), source })?;
        Ok(self)
    }

    /// Writes the records with lsns from `first` on in one commit. When it returns `Ok` they are
    /// durable; after an error the segment must be dropped.
    pub(super) fn commit<'a>(
        &mut self,
        first: Lsn,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO journal (lsn, record) VALUES (?1, ?2)")?;
            for (lsn, record) in (first..).zip(records) {
                insert.execute(params![lsn.cast_signed(), record])?;
            }
        }
        transaction.commit()
    }

    /// How much it has grown, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }

    /// Closes it. `None` if it has no valid record.
    pub(super) fn retire(self, last: Lsn) -> Option<OldSegment> {
        (last >= self.first).then_some(OldSegment { path: self.path, last })
    }
}

/// What a journal folder holds: every valid record in order, and the segments they are in.
pub(super) struct Recovered {
    pub(super) records: Vec<(Lsn, Record)>,
    pub(super) segments: Vec<OldSegment>,
    /// The lsn that comes next.
    pub(super) next: Lsn,
}

/// Reads all segments.
pub(super) fn recover(dir: &Path) -> Result<Recovered, JournalError> {
    let mut firsts: Vec<Lsn> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(first) = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal-"))
            .and_then(|name| name.strip_suffix(".db"))
            .and_then(|digits| digits.parse().ok())
        {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    let mut recovered = Recovered { records: Vec::new(), segments: Vec::new(), next: 1 };
    for (index, &first) in firsts.iter().enumerate() {
        let path = segment_path(dir, first);
        // What a later segment begins with was given up by this one.
        let end = firsts.get(index + 1).copied().unwrap_or(Lsn::MAX);
        let mut last = first.saturating_sub(1);
        let read = |last: &mut Lsn, records: &mut Vec<(Lsn, Record)>| -> Result<(), JournalError> {
            let sqlite = |source| JournalError::Sqlite { path: path.clone(), source };
            let connection = sql::open(&path, Sync::Full).map_err(sqlite)?;
            let version: i64 = connection
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .map_err(sqlite)?;
            if version == 0 {
                // Cut off while it was created: nothing in it was ever acknowledged.
                return Ok(());
            }
            if version != VERSION {
                return Err(JournalError::Version { path: path.clone(), found: version });
            }
            let mut select = connection
                .prepare("SELECT lsn, record FROM journal ORDER BY lsn")
                .map_err(sqlite)?;
            let mut rows = select.query([]).map_err(sqlite)?;
            while let Some(row) = rows.next().map_err(sqlite)? {
                let lsn = row.get::<_, i64>(0).map_err(sqlite)?.cast_unsigned();
                if lsn >= end {
                    break;
                }
                let record = row.get_ref(1).map_err(sqlite)?.as_blob().map_err(|error| {
                    JournalError::Sqlite { path: path.clone(), source: error.into() }
                })?;
                records.push((lsn, Record::decode(lsn, record)?));
                *last = lsn;
            }
            Ok(())
        };
        read(&mut last, &mut recovered.records)?;
        recovered.next = recovered.next.max(first).max(last + 1);
        if last >= first {
            recovered.segments.push(OldSegment { path, last });
        } else {
            remove(&path)?;
        }
    }
    Ok(recovered)
}

/// Deletes a segment with what belongs to it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn segment_path(dir: &Path, first: Lsn) -> PathBuf {
    dir.join(format!("journal-{first:020}.db"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Records the position up to which lsns were given out, for a start without any segment: an lsn
/// that was used once must not come again, user files compare with it.
pub(super) fn floor(shared: &Connection) -> rusqlite::Result<Lsn> {
    Ok(shared
        .query_row("SELECT next_lsn FROM floor", [], |row| row.get::<_, i64>(0))
        .optional()?
        .map_or(1, i64::cast_unsigned))
}

/// See [`floor`].
pub(super) fn set_floor(shared: &Connection, next: Lsn) -> rusqlite::Result<()> {
    shared.execute(
        "INSERT INTO floor (one, next_lsn) VALUES (1, ?1)
         ON CONFLICT (one) DO UPDATE SET next_lsn = max(next_lsn, excluded.next_lsn)",
        params![next.cast_signed()],
    )?;
    Ok(())
}
