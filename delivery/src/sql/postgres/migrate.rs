//! Brings an area's tables to where this build needs them; see [`crate::migration`].

use std::time::Duration;

use super::{super::values, Connection, Statements as _, Transaction};
use crate::{
    migration::{self, Migrated, Migration, Ran, Tables, Unfit},
    sql::SqlError,
};

/// How long a migration may take: it may have to write all rows anew.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// What is said in an area's name.
pub(crate) struct Words {
    /// The database waits as long as [`MIGRATION_TIMEOUT`], for others' migrations too, and for changes
    /// that are under way.
    pub(crate) begin: &'static str,
    pub(crate) table: &'static str,
    pub(crate) is_there: &'static str,
    pub(crate) ran: &'static str,
    pub(crate) note: &'static str,
}

/// The [`Words`] of an area, by its name and the number it locks.
macro_rules! words {
    ($name:literal, $lock:literal) => {
        $crate::sql::postgres::MigrateWords {
            begin: concat!(
                "BEGIN; SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10min'; \
                 SELECT pg_advisory_xact_lock(",
                $lock,
                ")"
            ),
            // compatible_from: builds that know this many may use it.
            table: concat!(
                "CREATE TABLE IF NOT EXISTS ",
                $name,
                "_migrations (version bigint PRIMARY KEY, name text NOT NULL, \
                 checksum text NOT NULL, compatible_from bigint NOT NULL, \
                 applied_at timestamptz NOT NULL DEFAULT now())"
            ),
            is_there: concat!("SELECT CAST(to_regclass('", $name, "_migrations') AS text)"),
            ran: concat!(
                "SELECT version, checksum, compatible_from FROM ",
                $name,
                "_migrations ORDER BY version"
            ),
            note: concat!(
                "INSERT INTO ",
                $name,
                "_migrations (version, name, checksum, compatible_from) VALUES ($1, $2, $3, $4)"
            ),
        }
    };
}
pub(crate) use words;

/// Runs what has not been run.
///
/// # Errors
/// [`SqlError::UnknownVersion`] for a database that this build is too old for,
/// [`SqlError::MigrationChanged`], or when the database cannot be used.
pub(crate) fn run(connection: &mut Connection) -> Result<Migrated, SqlError> {
    let area = connection.area;
    let words = &area.words.migrate;
    let from = version(connection)?;
    if from > 0 && missing(connection)?.is_empty() {
        return Ok(Migrated { from, to: from });
    }
    connection.again_if_cut(|connection| connection.batch(words.begin, MIGRATION_TIMEOUT))?;
    let mut transaction = Transaction { connection, ended: false };
    transaction.connection.batch(words.table, MIGRATION_TIMEOUT)?;
    for migration in missing(transaction.connection)? {
        transaction.connection.batch(migration.sql, MIGRATION_TIMEOUT)?;
        let Migration { version, name, .. } = *migration;
        let row = values![version, name, migration.checksum(), area.compatible_from];
        transaction.execute(words.note, &row)?;
        tracing::info!(area = area.words.name, version, name, "tables were migrated");
    }
    transaction.commit()?;
    Ok(Migrated { from, to: version(connection)? })
}

/// How the tables stand.
///
/// # Errors
/// As [`run`].
pub(crate) fn look(connection: &mut Connection) -> Result<Tables, SqlError> {
    let version = version(connection)?;
    let is_current = version > 0 && missing(connection)?.is_empty();
    Ok(Tables { version, is_current })
}

/// The latest that was run; 0 where none was.
fn version(connection: &mut Connection) -> Result<i64, SqlError> {
    let words = &connection.area.words.migrate;
    let there = connection.glance(words.is_there, &[])?.pop().unwrap_or_default().maybe_text()?;
    if there.is_none() {
        return Ok(0);
    }
    // In the order of their numbers.
    let ran = connection.glance(words.ran, &[])?;
    ran.into_iter().next_back().map_or(Ok(0), |mut row| row.int())
}

/// Those that were not run.
fn missing(connection: &mut Connection) -> Result<&'static [Migration], SqlError> {
    let rows = connection.rows(connection.area.words.migrate.ran, &[])?;
    let ran = rows.into_iter().map(|mut row| {
        let (version, checksum, compatible_from) = (row.int()?, row.text()?, row.int()?);
        Ok(Ran { version, checksum, compatible_from })
    });
    let ran = ran.collect::<Result<Vec<_>, SqlError>>()?;
    migration::missing(connection.area.migrations, &ran).map_err(|unfit| match unfit {
        Unfit::Newer { found, known } => SqlError::UnknownVersion { found, known },
        Unfit::Changed(version) => SqlError::MigrationChanged(version),
    })
}
