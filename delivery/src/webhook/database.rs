//! The file `webhooks.db`.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::WebhookError;

/// The file's name in the node's folder.
pub const FILE_NAME: &str = "webhooks.db";

/// How long a statement waits for another process that has the file open (a `sqlite3` shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept prepared for each connection; there are about thirty.
const STATEMENTS_MAX: usize = 64;

/// The schema's version, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;

/// Opens the file for changes, or makes it (mode 0600).
pub(super) fn open(path: &Path) -> Result<Connection, WebhookError> {
    // Made here and not by SQLite, so that it is never readable by others: there are secrets in it.
    // The -wal and -shm files take the mode over.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut connection = settings(Connection::open(path)?)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        found => return Err(WebhookError::UnknownVersion { found, known: SCHEMA_VERSION }),
    }
    transaction.commit()?;
    Ok(connection)
}

/// Opens it again after a failed commit. What the failed sync left in the write-ahead log may look
/// written and not be, so it is copied into the database, whose sync is a new one, before anything
/// is built on it.
pub(super) fn reopen(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = settings(Connection::open_with_flags(path, flags)?)?;
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(connection)
}

/// Opens it for reading beside the writer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

fn settings(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An event that was taken must survive a power cut: the store forgets that it told us.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}
