//! What all our SQLite files have in common.

use std::path::Path;

use rusqlite::{Connection, config::DbConfig};

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
