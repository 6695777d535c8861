//! Overwrites what a SQLite file does not use.
//!
//! `secure_delete` overwrites what is deleted, where it stands. But when rows move to another page, because theirs
//! is full, copies of them stay behind in the part of the page that is free from then on (3.54: `rebuildPage`), and
//! deleting a row later does not find those. `VACUUM` would write the whole file anew, with its readers
//! waiting and twice the room; here the free parts are found by the file format alone
//! (<https://sqlite.org/fileformat.html>, §1.5 and §1.6) and overwritten with zeros, piece by piece.
//!
//! It is safe because the file has all there is (its `-wal` is empty), nobody else may write meanwhile (the lock is
//! held), no reader looks at what a page does not use, and whoever writes later has forgotten the pages that it
//! remembered.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::super::sql;

/// What is looked at in one piece, in bytes: some 5 ms, and what the copying of the `-wal` takes.
const PIECE_BYTES: u64 = 4 << 20;

/// Pages from which on the number of a page might be taken for the kind of another: 128 GiB of a file.
const PAGES_MAX: u64 = 0x0200_0000;

/// A file cannot be overwritten where it is free.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ScrubError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A file whose free parts can be overwritten.
///
/// It stays open as long as its connections: closing it would take away the locks that this process has on
/// the file (POSIX), and with them what tells other processes that somebody uses it.
pub(in super::super) struct Scrubbed {
    path: PathBuf,
    file: File,
}

/// What of a file is looked at.
struct Layout {
    page: u64,
    /// Of a page, what SQLite uses.
    usable: usize,
    pages: u64,
    /// Pages that are free, and what they do not use even so.
    free: HashMap<u64, Range<usize>>,
}

impl Scrubbed {
    pub(in super::super) fn open(path: &Path) -> Result<Self, ScrubError> {
        let open = || File::options().read(true).write(true).open(path);
        let file = open().map_err(|source| ScrubError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Overwrites the free parts of a piece of the file from a place on; answers where the next one begins. `db` is
    /// the only connection of this process that writes.
    pub(in super::super) fn piece(
        &self,
        db: &Connection,
        from: u64,
    ) -> Result<Option<u64>, ScrubError> {
        sql::empty_wal(db)?;
        db.execute_batch("PRAGMA shrink_memory; BEGIN IMMEDIATE")?;
        let done = self.overwrite(from);
        db.execute_batch("ROLLBACK; PRAGMA shrink_memory")?;
        done.map_err(|source| ScrubError::Io { path: self.path.clone(), source })
    }

    fn overwrite(&self, from: u64) -> io::Result<Option<u64>> {
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        // A `sqlite3` shell was quicker.
        if fs::metadata(wal).is_ok_and(|wal| wal.len() > 0) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let layout = self.layout()?;
        let page = usize::try_from(layout.page).expect("at most 65,536");
        let mut bytes = vec![0; page];
        let first = from / layout.page;
        let end = layout.pages.min(first + (PIECE_BYTES / layout.page).max(1));
        for index in first..end {
            let at = index * layout.page;
            self.file.read_exact_at(&mut bytes, at)?;
            let unused = match layout.free.get(&(index + 1)) {
                Some(free) => std::iter::once(free.clone()).collect(),
                None => unused(&bytes[..layout.usable], index == 0),
            };
            for range in unused {
                if bytes[range.clone()].iter().any(|byte| *byte != 0) {
                    let zeros = vec![0; range.len()];
                    self.file.write_all_at(&zeros, at + range.start as u64)?;
                }
            }
        }
        if end < layout.pages {
            return Ok(Some(end * layout.page));
        }
        self.file.sync_data()?;
        Ok(None)
    }

    fn layout(&self) -> io::Result<Layout> {
        let mut header = [0; 100];
        self.file.read_exact_at(&mut header, 0)?;
        let page = match be16(&header, 16) {
            1 => 65_536,
            size => u64::from(size),
        };
        let pages = self.file.metadata()?.len() / page.max(512);
        if !header.starts_with(b"SQLite format 3\0") || pages >= PAGES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut free = HashMap::new();
        let mut trunk = u64::from(be32(&header, 32));
        let mut bytes = vec![0; usize::try_from(page).expect("at most 65,536")];
        // A trunk names the next one, and pages that are free as a whole. More trunks than pages are a circle.
        for _ in 0..pages {
            if trunk == 0 || trunk > pages {
                break;
            }
            self.file.read_exact_at(&mut bytes, (trunk - 1) * page)?;
            let count = usize::try_from(be32(&bytes, 4)).expect("32 bits").min(bytes.len() / 4 - 2);
            free.insert(trunk, 8 + 4 * count..bytes.len());
            let leaf = |at| (u64::from(be32(&bytes, 8 + 4 * at)), 0..bytes.len());
            free.extend((0..count).map(leaf));
            trunk = u64::from(be32(&bytes, 0));
        }
        let usable = bytes.len() - usize::from(header[20]);
        Ok(Layout { page, usable, pages, free })
    }
}

/// The parts of a page that it does not use: none of a page that is not of a tree, or not as it should be.
fn unused(page: &[u8], first: bool) -> Vec<Range<usize>> {
    let header = if first { 100 } else { 0 };
    let pointers = match page[header] {
        2 | 5 => header + 12,
        10 | 13 => header + 8,
        _ => return Vec::new(),
    };
    let cells = usize::from(be16(page, header + 3));
    let content = match be16(page, header + 5) {
        0 => 65_536,
        content => usize::from(content),
    };
    let gap = pointers + 2 * cells;
    if gap > content || content > page.len() {
        return Vec::new();
    }
    let mut ranges: Vec<Range<usize>> = std::iter::once(gap..content).collect();
    let (mut block, mut before) = (usize::from(be16(page, header + 1)), content);
    while block != 0 {
        if block < before || block + 4 > page.len() {
            return Vec::new();
        }
        let (next, size) = (usize::from(be16(page, block)), usize::from(be16(page, block + 2)));
        if size < 4 || block + size > page.len() {
            return Vec::new();
        }
        ranges.push(block + 4..block + size);
        (before, block) = (block + size, next);
    }
    ranges
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::single::sql::{Sync, open};

    fn count(bytes: &[u8], word: &str) -> usize {
        bytes.windows(word.len()).filter(|bytes| *bytes == word.as_bytes()).count()
    }

    fn overwrite(file: &Scrubbed, db: &Connection) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = file.piece(db, at).unwrap();
        }
    }

    /// A file whose rows have moved from page to page; every third says "gone".
    fn filled(path: &Path, secure: &str) -> Connection {
        let db = open(path, Sync::Normal).unwrap();
        db.execute_batch(&format!(
            "PRAGMA secure_delete = {secure};
             CREATE TABLE t (id TEXT PRIMARY KEY, x TEXT) WITHOUT ROWID;
             CREATE INDEX tx ON t (x);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT 9000)
             INSERT INTO t SELECT iif(i % 3, 'stay', 'gone') || '-' || (i * 7919 % 99991),
                 'x' || (i * 31 % 9973) || iif(i % 3, 'stay', 'gone') || hex(zeroblob(i % 40)) FROM n;
             CREATE TABLE big AS SELECT 'gone' || hex(zeroblob(9000)) AS y;
             DELETE FROM t WHERE id LIKE 'gone%';
             DROP TABLE big;"
        ))
        .unwrap();
        db
    }

    #[test]
    fn copies_that_sqlite_leaves_behind_are_overwritten_and_nothing_else() {
        for secure in ["ON", "OFF"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.db");
            let file_is = filled(&path, secure);
            let file = Scrubbed::open(&path).unwrap();
            let rows = |db: &Connection| -> (i64, i64, String) {
                let sql = "SELECT count(*), sum(length(x)), group_concat(id) FROM t";
                db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
            };
            let before = rows(&file_is);
            sql::empty_wal(&file_is).unwrap();
            let left = count(&fs::read(&path).unwrap(), "gone");
            assert!(left > 0, "SQLite leaves nothing any more ({secure}): this is not needed");
            // Somebody reads meanwhile, and what the writer remembers is written again later.
            let reader = open(&path, Sync::Normal).unwrap();
            assert_eq!(rows(&reader), before);
            overwrite(&file, &file_is);
            assert_eq!(count(&fs::read(&path).unwrap(), "gone"), 0, "{secure}");
            assert_eq!((rows(&reader), rows(&file_is)), (before.clone(), before));
            file_is
                .execute_batch(
                    "INSERT INTO t SELECT id || '+', x FROM t WHERE x LIKE 'x1%';
                     UPDATE t SET x = x || 'more' WHERE id LIKE '%7';
                     DELETE FROM t WHERE id LIKE '%3';",
                )
                .unwrap();
            sql::empty_wal(&file_is).unwrap();
            assert_eq!(count(&fs::read(&path).unwrap(), "gone"), 0, "written again");
            let whole: String =
                file_is.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(whole, "ok");
        }
    }

    #[test]
    fn a_page_that_is_not_as_it_should_be_is_left_alone() {
        let mut page = vec![0; 4_096];
        assert!(unused(&page, false).is_empty());
        page[0] = 10;
        page[5..7].copy_from_slice(&4_000_u16.to_be_bytes());
        assert_eq!(unused(&page, false).first(), Some(&(8..4_000)));
        // A free block in front of the cells, and a gap that ends before it begins.
        page[1..3].copy_from_slice(&100_u16.to_be_bytes());
        assert!(unused(&page, false).is_empty());
        page[1..3].copy_from_slice(&4_050_u16.to_be_bytes());
        page[4_052..4_054].copy_from_slice(&20_u16.to_be_bytes());
        assert_eq!(unused(&page, false), [8..4_000, 4_054..4_070]);
        page[4_052..4_054].copy_from_slice(&200_u16.to_be_bytes());
        assert!(unused(&page, false).is_empty());
        page[3..5].copy_from_slice(&4_000_u16.to_be_bytes());
        assert!(unused(&page, false).is_empty());
    }

    /// A backup that somebody makes with a shell, for as long as it takes.
    #[test]
    fn whoever_reads_for_long_is_waited_for_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = filled(&path, "ON");
        db.execute_batch("PRAGMA busy_timeout = 10").unwrap();
        let file = Scrubbed::open(&path).unwrap();
        let reader = open(&path, Sync::Normal).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t;").unwrap();
        db.execute_batch("INSERT INTO t VALUES ('a', 'b')").unwrap();
        assert!(matches!(file.piece(&db, 0), Err(ScrubError::Sqlite(_))));
        reader.execute_batch("COMMIT").unwrap();
        overwrite(&file, &db);
        assert_eq!(count(&fs::read(&path).unwrap(), "gone"), 0);
    }
}
