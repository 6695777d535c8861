//! The file `control.db`.

use std::{borrow::Cow, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{
    CachedStatement, ToSql, TransactionBehavior,
    types::{ToSqlOutput, ValueRef},
};

use super::{Row, Statements, Value};
use crate::control::{ControlError, FILE_NAME};

/// How long a write waits for another process (the CLI) that is writing, before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The schema's version, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 4;

/// What makes each version of the previous one, from nothing on.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [
    include_str!("../schema.sql"),
    include_str!("../schema_2.sql"),
    include_str!("../schema_3.sql"),
    include_str!("../schema_4.sql"),
];

/// A connection to the file.
pub(in crate::control) struct Connection(rusqlite::Connection);

impl Connection {
    pub(in crate::control) fn open(dir: &Path) -> Result<Self, ControlError> {
        let path = dir.join(FILE_NAME);
        // Made here and not by SQLite, so that it is never readable by others, not even for a
        // moment. The -wal and -shm files take the mode over.
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let mut connection = rusqlite::Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A key or a "disable" that was acknowledged must survive a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let missing = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..));
        let Some(missing) = missing else {
            return Err(ControlError::UnknownVersion { found: version, known: SCHEMA_VERSION });
        };
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        if missing.is_empty() {
            drop(transaction);
        } else {
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        Ok(Self(connection))
    }

    /// A second connection that only reads. In WAL mode it never waits for a writer, in whichever
    /// process.
    pub(in crate::control) fn open_reader(dir: &Path) -> Result<Self, ControlError> {
        let connection = rusqlite::Connection::open(dir.join(FILE_NAME))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Self(connection))
    }

    pub(super) fn change<T, E: From<ControlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = |error: rusqlite::Error| E::from(ControlError::from(error));
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&mut Inside(&transaction))?;
        transaction.commit().map_err(failed)?;
        Ok(done)
    }

    pub(super) fn look<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let transaction = self.0.transaction()?;
        work(&mut Inside(&transaction))
    }
}

/// Inside a transaction.
struct Inside<'a>(&'a rusqlite::Connection);

impl Inside<'_> {
    fn ready(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<CachedStatement<'_>, ControlError> {
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
    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, ControlError> {
        let mut statement = self.ready(sql, values)?;
        let columns = statement.column_count();
        let mut found = statement.raw_query();
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let columns = (0..columns).map(|index| row.get_ref(index)?.try_into());
            rows.push(columns.collect::<Result<Row, ControlError>>()?);
        }
        Ok(rows)
    }

    fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, ControlError> {
        Ok(self.ready(sql, values)?.raw_execute()? as u64)
    }

    fn execute_each(
        &mut self,
        sql: &'static str,
        all: &[Vec<Value<'_>>],
    ) -> Result<(), ControlError> {
        all.iter().try_for_each(|values| self.execute(sql, values).map(drop))
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
    type Error = ControlError;
    fn try_from(found: ValueRef<'_>) -> Result<Self, ControlError> {
        Ok(match found {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(Cow::Owned(text.to_owned())),
                Err(error) => return Err(ControlError::Damaged(error.into())),
            },
            ValueRef::Blob(bytes) => Self::Bytes(Cow::Owned(bytes.to_vec())),
            ValueRef::Real(_) => {
                return Err(ControlError::Damaged("a column has a fraction".into()));
            }
        })
    }
}
