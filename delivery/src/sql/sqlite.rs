//! A file.

use std::{borrow::Cow, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{
    CachedStatement, OpenFlags, ToSql, TransactionBehavior,
    types::{ToSqlOutput, ValueRef},
};

use super::{Area, Insert, Row, SqlError, Statements, Value};

/// How long a statement waits for another process that has the file open (the CLI, a `sqlite3` shell),
/// before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept prepared for each connection; no area has more.
const STATEMENTS_MAX: usize = 96;

/// A connection to the file.
pub(crate) struct Connection(rusqlite::Connection);

impl Connection {
    /// Opens the file for changes, or makes it (mode 0600), and brings it up to date.
    pub(crate) fn open(path: &Path, area: &Area) -> Result<Self, SqlError> {
        // Made here and not by SQLite, so that it is never readable by others, not even for a
        // moment: there are secrets in it. The -wal and -shm files take the mode over.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let mut connection = settings(rusqlite::Connection::open(path)?)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = area.file.len() as i64;
        let missing = usize::try_from(found).ok().and_then(|version| area.file.get(version..));
        let Some(missing) = missing else {
            return Err(SqlError::UnknownVersion { found, known });
        };
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        if missing.is_empty() {
            drop(transaction);
        } else {
            transaction.pragma_update(None, "user_version", known)?;
            transaction.commit()?;
            if found > 0 {
                // What an older build deleted may stand in free pages, see `settings`.
                connection.execute_batch("VACUUM")?;
            }
        }
        Ok(Self(connection))
    }

    /// Leaves nothing in the write-ahead log of what was deleted before. Waits for those who read, as for
    /// any lock.
    pub(super) fn scrub(&self) -> Result<(), SqlError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.0.query_row(checkpoint, [], |row| row.get(0))?;
        if busy { Err(SqlError::Busy) } else { Ok(()) }
    }

    /// Opens it again after a failed commit. What the failed sync left in the write-ahead log may look
    /// written and not be, so it is copied into the database, whose sync is a new one, before anything
    /// is built on it.
    pub(crate) fn reopen(path: &Path) -> Result<Self, SqlError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = settings(rusqlite::Connection::open_with_flags(path, flags)?)?;
        let busy: bool =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None).into());
        }
        Ok(Self(connection))
    }

    /// A second connection that only reads. In WAL mode it never waits for a writer, in whichever
    /// process.
    pub(crate) fn open_reader(path: &Path) -> Result<Self, SqlError> {
        let connection = rusqlite::Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self(connection))
    }

    pub(super) fn change<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = |error: rusqlite::Error| E::from(SqlError::from(error));
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&mut Inside(&transaction))?;
        transaction.commit().map_err(failed)?;
        Ok(done)
    }

    pub(super) fn look<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.0.transaction().map_err(|error| E::from(SqlError::from(error)))?;
        work(&mut Inside(&transaction))
    }
}

fn settings(connection: rusqlite::Connection) -> rusqlite::Result<rusqlite::Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A key, a "disable" or an event that was acknowledged must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Deleted means gone, also in pages that are free and in the rest of those that are not: whoever is deleted
    // has the right to that. Only here, not for messages on their way: these files are small.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Inside a transaction.
struct Inside<'a>(&'a rusqlite::Connection);

impl Inside<'_> {
    fn ready(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<CachedStatement<'_>, SqlError> {
        let mut statement = self.0.prepare_cached(sql)?;
        // To SQLite `$2` is a name like any other, and counts from where it first stands.
        for index in 1..=statement.parameter_count() {
            let place = statement.parameter_name(index).and_then(|name| name[1..].parse().ok());
            let value = place.and_then(|place: usize| values.get(place - 1));
            statement.raw_bind_parameter(index, value.unwrap_or(&Value::Null))?;
        }
        Ok(statement)
    }
}

impl Statements for Inside<'_> {
    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, SqlError> {
        let mut statement = self.ready(sql, values)?;
        let columns = statement.column_count();
        let mut found = statement.raw_query();
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let columns = (0..columns).map(|index| row.get_ref(index)?.try_into());
            rows.push(columns.collect::<Result<Row, SqlError>>()?);
        }
        Ok(rows)
    }

    fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        Ok(self.ready(sql, values)?.raw_execute()? as u64)
    }

    fn rows_each(
        &mut self,
        sql: &'static str,
        all: &[Vec<Value<'_>>],
    ) -> Result<Vec<Vec<Row>>, SqlError> {
        all.iter().map(|values| self.rows(sql, values)).collect()
    }

    fn execute_each(&mut self, sql: &'static str, all: &[Vec<Value<'_>>]) -> Result<(), SqlError> {
        all.iter().try_for_each(|values| self.execute(sql, values).map(drop))
    }

    fn insert(&mut self, insert: &Insert, all: &[Vec<Value<'_>>]) -> Result<Vec<Row>, SqlError> {
        let mut returned = Vec::new();
        for values in all {
            returned.append(&mut self.rows(insert.one, values)?);
        }
        Ok(returned)
    }

    fn say(&mut self, sql: &'static str) -> Result<(), SqlError> {
        Ok(self.0.execute_batch(sql)?)
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl TryFrom<ValueRef<'_>> for Value<'static> {
    type Error = SqlError;
    fn try_from(found: ValueRef<'_>) -> Result<Self, SqlError> {
        Ok(match found {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(Cow::Owned(text.to_owned())),
                Err(error) => return Err(SqlError::Damaged(error.into())),
            },
            ValueRef::Blob(bytes) => Self::Bytes(Cow::Owned(bytes.to_vec())),
            ValueRef::Real(_) => {
                return Err(SqlError::Damaged("a column has a fraction".into()));
            }
        })
    }
}
