//! The journal: where everything accepted becomes durable first.
//!
//! It is a row of segments, `journal-{number}.db`, each a SQLite file used as an append log:
//! `synchronous=FULL`, never checkpointed, so that a commit is one sequential write to the `-wal` and
//! one sync. When the newest has grown to [`segment::SEGMENT_BYTES`] the next takes over; one whose
//! records are all in their users' files (and synced) is deleted, but for its `-wal`, which becomes the
//! room of a later one.
//!
//! After a failed sync nobody knows what is on the disk, and asking the same handle again can be
//! answered by the page cache. So the segment is given up: the handle is dropped, and the next
//! segment's first commit says with which lsn it begins, the one after the last acknowledged, which
//! makes whatever the failed commit left behind void.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    record::{Lsn, Record, RecordError},
    segment::{self, OldSegment, VERSION},
    sql::{self, Sync},
};

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

/// What a journal folder holds: every valid record in order, and the segments they are in.
pub(super) struct Recovered {
    pub(super) records: Vec<(Lsn, Record)>,
    pub(super) segments: Vec<OldSegment>,
    /// The lsn that comes next.
    pub(super) next: Lsn,
    /// The number of the next segment.
    pub(super) number: u64,
}

/// A segment as it was found.
struct Found {
    path: PathBuf,
    first: Lsn,
    records: Vec<(Lsn, Record)>,
}

/// Reads all segments; those that were never written to are removed.
pub(super) fn recover(dir: &Path) -> Result<Recovered, JournalError> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(entry?.file_name().to_str().and_then(segment::number_of));
    }
    numbers.sort_unstable();
    let mut found = Vec::new();
    for &number in &numbers {
        let path = segment::path(dir, number);
        match read(&path)? {
            Some(segment) => found.push(segment),
            None => segment::remove(&path)?,
        }
    }
    let mut recovered = Recovered {
        records: Vec::new(),
        segments: Vec::new(),
        next: 1,
        number: numbers.last().map_or(1, |last| last + 1),
    };
    let firsts: Vec<Lsn> = found.iter().map(|segment| segment.first).collect();
    for (index, Found { path, first, mut records }) in found.into_iter().enumerate() {
        // What a later segment begins with was given up by this one.
        let end = firsts[index + 1..].iter().copied().min().unwrap_or(Lsn::MAX);
        records.retain(|(lsn, _)| *lsn < end);
        recovered.next = recovered.next.max(first);
        let Some((last, _)) = records.last() else {
            segment::remove(&path)?;
            continue;
        };
        recovered.next = recovered.next.max(last + 1);
        recovered.segments.push(OldSegment { path, last: *last });
        recovered.records.append(&mut records);
    }
    Ok(recovered)
}

/// Reads one segment; `None` if nothing was ever committed to it.
fn read(path: &Path) -> Result<Option<Found>, JournalError> {
    let sqlite = |source| JournalError::Sqlite { path: path.to_owned(), source };
    let size = fs::metadata(path)?.len();
    if size == 0 {
        // Cut off while it was made.
        return Ok(None);
    }
    let connection = sql::open(path, Sync::Full).map_err(sqlite)?;
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if version != VERSION {
        return Err(JournalError::Version { path: path.to_owned(), found: version });
    }
    let first: Option<i64> = connection
        .query_row("SELECT first_lsn FROM segment", [], |row| row.get(0))
        .optional()
        .map_err(sqlite)?;
    let Some(first) = first else { return Ok(None) };
    let mut select =
        connection.prepare("SELECT lsn, record FROM journal ORDER BY lsn").map_err(sqlite)?;
    let mut rows = select.query([]).map_err(sqlite)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        let lsn = row.get::<_, i64>(0).map_err(sqlite)?.cast_unsigned();
        let record = row.get_ref(1).map_err(sqlite)?.as_blob().map_err(|error| {
            JournalError::Sqlite { path: path.to_owned(), source: error.into() }
        })?;
        records.push((lsn, Record::decode(lsn, record)?));
    }
    Ok(Some(Found { path: path.to_owned(), first: first.cast_unsigned(), records }))
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
