//! What all our SQLite files have in common.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

/// Pages kept in memory for each open user file, in KiB. A batch touches a handful of 4-KiB pages;
/// with 2,000 open files more would be gigabytes.
const CACHE_KIB: i32 = 64;

/// Frames in a `-wal` before SQLite copies them into the database, in pages of 4 KiB: bounds what
/// an inbox takes on disk beyond its data to 1 MiB, at two syncs for each 256 pages.
const WAL_PAGES: i32 = 256;

/// How long a statement waits for another process that has the file open (a `sqlite3` shell).
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// How much a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// Durable when it returns.
    Full,
    /// Never corrupt, perhaps not there after power loss: for files that the journal can refill.
    Normal,
    /// Nothing against power loss.
    Off,
}

/// Opens a file in WAL mode with our settings.
pub(super) fn open(path: &Path, sync: Sync) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // A close would copy the WAL into the database, with two syncs. Files are closed whenever the
    // cache of open files is full; the WAL stays, and the next open reads it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {};
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA wal_autocheckpoint = {WAL_PAGES};
         PRAGMA temp_store = MEMORY;
         PRAGMA mmap_size = 0;",
        match sync {
            Sync::Full => "FULL",
            Sync::Normal => "NORMAL",
            Sync::Off => "OFF",
        }
    ))?;
    Ok(connection)
}

/// Copies all of a file's `-wal` into it and empties the `-wal`, so that nothing is left of what the file
/// said before. Waits for who reads.
pub(super) fn empty_wal(db: &Connection) -> rusqlite::Result<()> {
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if !busy {
        return Ok(());
    }
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Err(rusqlite::Error::SqliteFailure(busy, Some("somebody reads what is to go".to_owned())))
}

/// Opens a file for changes that nobody keeps: in a transaction that ends with the connection, and
/// that needs no room on the disk, nor a disk that can be written.
pub(super) fn open_draft(path: &Path) -> rusqlite::Result<Connection> {
    let open = |locking: &str, timeout: u32| {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch(&format!(
            "PRAGMA busy_timeout = {timeout};
             PRAGMA locking_mode = {locking};
             PRAGMA cache_size = -{CACHE_KIB};
             PRAGMA cache_spill = OFF;
             PRAGMA temp_store = MEMORY;
             PRAGMA mmap_size = 0;
             BEGIN IMMEDIATE;"
        ))?;
        Ok(connection)
    };
    // Who opens a file alone keeps the index of its WAL in memory; the shared one, `-shm`, has to be
    // made anew, which a full disk refuses. Alone it is not while another process has it open (a
    // `sqlite3` shell, for minutes), but then the shared one is there.
    open("EXCLUSIVE", 0).or_else(|_| open("NORMAL", BUSY_TIMEOUT_MS))
}

/// Whether the error says that the file is not what it should be, as opposed to a disk that is full
/// or failing.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn count(db: &Connection) -> i64 {
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_draft_sees_the_wal_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = open(&path, Sync::Normal).unwrap();
        db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let files = || {
            ["x.db", "x.db-wal"].map(|name| fs::read(folder.path().join(name)).unwrap_or_default())
        };
        // Beside another connection first, then alone.
        let mut other = Some(db);
        for _ in 0..2 {
            let before = files();
            let draft = open_draft(&path).unwrap();
            // Far more than the page cache holds.
            draft
                .execute_batch(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 999)
                     INSERT INTO t SELECT zeroblob(4000) FROM n",
                )
                .unwrap();
            assert_eq!(count(&draft), 1_000);
            if let Some(other) = &other {
                assert_eq!(count(other), 1);
            }
            assert!(files() == before, "something was written");
            drop(draft);
            assert!(files() == before, "something was written at the end");
            other = None;
        }
        assert_eq!(count(&open(&path, Sync::Normal).unwrap()), 1);
    }
}
