//! One segment of the journal: made ahead of time, written, retired, recycled.
//!
//! A sync of a file that grows waits for the file system's own journal, and with it for whatever
//! other files have waiting (ext4, `data=ordered`): with many users' files being filled, a commit of
//! ours was seen to take 130 ms. A sync of a file that is only overwritten waits for its own blocks.
//! So the `-wal` of a segment is not grown but overwritten where that can be had: it is made from a
//! spare one, and the next segment is made before the present one is full, by a thread that nobody
//! waits for.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, params};
use rustix::fs::FallocateFlags;

use super::{
    journal::JournalError,
    record::Lsn,
    schema,
    sql::{self, Sync},
};

/// How large a segment grows, in bytes of its `-wal`. Bounds what a restart after a crash reads
/// (64 MiB: about 10,000 messages sent one by one, or 80,000 in batches, well under a second) and
/// what a full disk needs to free.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;

/// How full the present segment is when the next one is made, in bytes: a hub that accepts a message
/// a minute need not hold a spare segment.
pub(super) const PREPARE_BYTES: u64 = SEGMENT_BYTES / 4;

/// Spare `-wal` files that are kept.
const SPARES_MAX: usize = 2;

/// Size of a spare, in bytes: a segment and what an estimate may be wrong by.
const SPARE_BYTES: u64 = SEGMENT_BYTES + (16 << 20);

/// Zeros of a spare that are written and synced at a time, in bytes. A commit that comes meanwhile
/// waits behind what the disk has in hand: with all 80 MiB in one sync the longest of a run waited
/// 20 ms, with 4 MiB 10, with 1 MiB 4, with 256 KiB no less.
const SPARE_STEP_BYTES: usize = 1 << 20;

/// How long the disk is left alone after a step, some nine times as long as one takes. All 80 rests
/// are 0.8 s, half of what a segment lasts at the most sends, and no more on a slow disk: closing waits
/// for a spare that is being made.
const SPARE_REST: Duration = Duration::from_millis(10);

/// Free space of the disk below which no spare is made, in bytes; segments grow then.
const SPARE_FREE_BYTES_MIN: u64 = 16 * SEGMENT_BYTES;

/// Room that must be there before a journal that failed is used again, in bytes.
const ROOM_BYTES: u64 = 1 << 20;

/// `user_version` of a segment.
pub(super) const VERSION: i64 = 2;

/// Page of a segment, in bytes. A commit writes whole pages, and most commits under light load hold
/// one message: with 4,096 each would write some 16 KiB, at 5,000 sends a second 36 MB/s, and push
/// p99 was 6 ms instead of 4; with 1,024 a message fills a page, and the most sends fell by a fifth.
const PAGE_BYTES: u64 = 2_048;

/// A page with its frame header, in bytes.
const FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// Bytes of a commit that one page takes, roughly: for an estimate of the `-wal`.
const RECORD_BYTES_PER_PAGE: u64 = PAGE_BYTES - 64;

/// Pages that every commit writes besides its records: the page before, the one above, the first.
const PAGES_PER_COMMIT: u64 = 3;

const SCHEMA: &str = "
PRAGMA page_size = 2048;
CREATE TABLE journal ( -- what was accepted, in order; see ARCHITECTURE.md
    lsn INTEGER PRIMARY KEY,
    record BLOB NOT NULL -- MessagePack
);
CREATE TABLE segment ( -- written by the first commit: older segments end before it
    one INTEGER PRIMARY KEY CHECK (one = 1),
    first_lsn INTEGER NOT NULL
);
PRAGMA user_version = 2;";

/// A segment that can be written to.
pub(super) struct Segment {
    connection: Connection,
    path: PathBuf,
    first: Option<Lsn>,
    /// How much of the `-wal` is used, estimated from what was committed.
    used: u64,
}

/// A segment that is only kept until its records are in their files.
#[derive(Debug, Clone)]
pub(super) struct OldSegment {
    pub(super) path: PathBuf,
    /// Its last valid record.
    pub(super) last: Lsn,
}

impl OldSegment {
    pub(super) fn number(&self) -> Option<u64> {
        number_of(self.path.file_name()?.to_str()?)
    }
}

impl Segment {
    /// Makes a segment, with a spare `-wal` if there is one.
    pub(super) fn create(dir: &Path, number: u64, sync: Sync) -> Result<Self, JournalError> {
        let path = path(dir, number);
        remove(&path)?;
        let sqlite = |source| JournalError::Sqlite { path: path.clone(), source };
        let mut file = File::create(&path)?;
        file.write_all(&schema::fresh(SCHEMA).map_err(sqlite)?)?;
        file.sync_all()?;
        if let Some(spare) = spares(dir)?.into_iter().next() {
            // Without a valid header SQLite takes the file as empty, and overwrites it.
            let wal = File::options().write(true).open(&spare)?;
            wal.write_all_at(&[0; 32], 0)?;
            wal.sync_data()?;
            fs::rename(&spare, with_suffix(&path, "-wal"))?;
        }
        let open = || -> rusqlite::Result<Connection> {
            let connection = sql::open(&path, sync)?;
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0;")?;
            Ok(connection)
        };
        let connection = open().map_err(sqlite)?;
        // The names must survive too, or a power cut takes the whole segment.
        File::open(dir)?.sync_all()?;
        Ok(Self { connection, path, first: None, used: 0 })
    }

    /// Makes sure that a spare `-wal` is there for the next segment, where the disk has plenty.
    pub(super) fn prepare_spare(dir: &Path) -> io::Result<()> {
        let disk = rustix::fs::statvfs(dir)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < SPARE_FREE_BYTES_MIN || !spares(dir)?.is_empty() {
            return Ok(());
        }
        let making = dir.join("spare.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&making)?;
            // Written, not only allocated: the first write to a block that was only allocated
            // changes metadata, which is what a spare shall avoid.
            // So that a step has less to change besides its blocks; a file system that cannot makes
            // the steps dearer, nothing else.
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SPARE_BYTES).ok();
            let zeros = vec![0; SPARE_STEP_BYTES];
            for _ in 0..SPARE_BYTES / zeros.len() as u64 {
                file.write_all(&zeros)?;
                file.sync_data()?;
                thread::sleep(SPARE_REST);
            }
            fs::rename(&making, dir.join("spare-0.wal"))
        };
        write().inspect_err(|_| {
            // Half a spare on a disk that is full now is the last thing that is needed.
            fs::remove_file(&making).ok();
        })
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
        Ok(Self { used: self.used + 2 * ROOM_BYTES, ..self })
    }

    /// Writes the records with lsns from `first` on in one commit. When it returns `Ok` they are
    /// durable; after an error the segment must be dropped.
    pub(super) fn commit<'a>(
        &mut self,
        first: Lsn,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut bytes = 0;
        {
            if self.first.is_none() {
                transaction
                    .execute("INSERT INTO segment VALUES (1, ?1)", params![first.cast_signed()])?;
            }
            let mut insert =
                transaction.prepare_cached("INSERT INTO journal (lsn, record) VALUES (?1, ?2)")?;
            for (lsn, record) in (first..).zip(records) {
                bytes += record.len() as u64 + 16;
                insert.execute(params![lsn.cast_signed(), record])?;
            }
        }
        transaction.commit()?;
        self.first.get_or_insert(first);
        self.used += (bytes / RECORD_BYTES_PER_PAGE + PAGES_PER_COMMIT) * FRAME_BYTES;
        Ok(())
    }

    /// How much of it is used, in bytes.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Closes it. `None` if it has no valid record; it is removed at the next start.
    pub(super) fn retire(self, last: Lsn) -> Option<OldSegment> {
        self.first
            .is_some_and(|first| last >= first)
            .then_some(OldSegment { path: self.path, last })
    }

    /// Deletes a segment that was never used.
    pub(super) fn discard(self) -> io::Result<()> {
        let Self { connection, path, .. } = self;
        drop(connection);
        remove(&path)
    }

    pub(super) fn number(&self) -> u64 {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.and_then(number_of).expect("a segment's file is named by its number")
    }
}

/// Deletes the spares, which hold what was in the segments that they come from.
pub(super) fn remove_spares(dir: &Path) -> io::Result<()> {
    spares(dir)?.iter().try_for_each(fs::remove_file)
}

/// Deletes every segment of a folder with what belongs to it, and the spares: all of it is in its files.
pub(super) fn remove_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        // Of some only the `-wal` may be left.
        let name = name.to_str().and_then(|name| name.get(..NAME_BYTES));
        if let Some(number) = name.and_then(number_of) {
            remove(&self::path(dir, number))?;
        }
    }
    remove_spares(dir)?;
    File::open(dir)?.sync_all()
}

/// Deletes a retired segment, keeping its `-wal` as a spare if it is worth it.
pub(super) fn recycle(path: &Path) -> io::Result<()> {
    let wal = with_suffix(path, "-wal");
    let worth = fs::metadata(&wal).is_ok_and(|metadata| metadata.len() >= SEGMENT_BYTES / 2);
    if let (true, Some(dir)) = (worth, path.parent()) {
        let spares = spares(dir)?;
        let free = (0..SPARES_MAX).map(|n| dir.join(format!("spare-{n}.wal")));
        if let Some(name) = free.into_iter().find(|name| !spares.contains(name)) {
            // The `-wal` goes first: a segment without it is one that was never written to.
            fs::rename(wal, name)?;
        }
    }
    remove(path)
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

/// Bytes of a segment's file name.
pub(super) const NAME_BYTES: usize = "journal-0000000000.db".len();

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number:010}.db"))
}

/// The number of a segment's file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(".db")?.parse().ok()
}

fn spares(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = (0..SPARES_MAX).map(|n| dir.join(format!("spare-{n}.wal")));
    Ok(names.filter(|name| name.exists()).collect())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
