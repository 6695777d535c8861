//! Brings the tables of control data to where this build needs them.
//!
//! See [`crate::migration`]; their numbers are of their own, beside those of the message store.

use std::time::Duration;

use super::{super::values, Connection, Statements as _, Transaction, alone};
use crate::{
    control::ControlError,
    migration::{self, Migrated, Migration, Ran, Unfit},
};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("../../../../migrations/postgres/control_0001_init.sql"),
}];

/// The oldest build that may use what the latest migration here leaves, by the migrations it knows. Is
/// written beside each migration; raised when one takes something away.
const COMPATIBLE_FROM: i64 = 1;

/// How long a migration may take: it may have to write all rows anew.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The database waits as long, for others' migrations too, and for changes that are under way.
const BEGIN: &str = concat!(
    "BEGIN; SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10min'; ",
    alone!(),
);

const TABLE: &str = "\
    CREATE TABLE IF NOT EXISTS control_migrations (
        version bigint PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        compatible_from bigint NOT NULL, -- builds that know this many may use it
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// Runs what has not been run.
///
/// # Errors
/// [`ControlError::UnknownVersion`] for a database that this build is too old for,
/// [`ControlError::MigrationChanged`], or when the database cannot be used.
pub(in crate::control) fn run(connection: &mut Connection) -> Result<Migrated, ControlError> {
    let from = version(connection)?;
    if from > 0 && missing(connection)?.is_empty() {
        return Ok(Migrated { from, to: from });
    }
    connection.again_if_cut(|connection| connection.batch(BEGIN, MIGRATION_TIMEOUT))?;
    let mut transaction = Transaction { connection, ended: false };
    transaction.connection.batch(TABLE, MIGRATION_TIMEOUT)?;
    for migration in missing(transaction.connection)? {
        transaction.connection.batch(migration.sql, MIGRATION_TIMEOUT)?;
        let row = values![migration.version, migration.name, migration.checksum(), COMPATIBLE_FROM];
        transaction.execute(
            "INSERT INTO control_migrations (version, name, checksum, compatible_from) \
             VALUES ($1, $2, $3, $4)",
            &row,
        )?;
        tracing::info!(version = migration.version, name = migration.name, "control data migrated");
    }
    transaction.commit()?;
    Ok(Migrated { from, to: version(connection)? })
}

/// The latest that was run; 0 where none was.
fn version(connection: &mut Connection) -> Result<i64, ControlError> {
    let there = "SELECT CAST(to_regclass('control_migrations') AS text)";
    let there = connection.glance(there, &[])?.pop().unwrap_or_default().maybe_text()?;
    if there.is_none() {
        return Ok(0);
    }
    let latest = "SELECT max(version) FROM control_migrations";
    Ok(connection.glance(latest, &[])?.pop().unwrap_or_default().maybe_int()?.unwrap_or_default())
}

/// Those that were not run.
fn missing(connection: &mut Connection) -> Result<&'static [Migration], ControlError> {
    let sql = "SELECT version, checksum, compatible_from FROM control_migrations ORDER BY version";
    let rows = connection.rows(sql, &[])?;
    let ran = rows.into_iter().map(|mut row| {
        let (version, checksum, compatible_from) = (row.int()?, row.text()?, row.int()?);
        Ok(Ran { version, checksum, compatible_from })
    });
    let ran = ran.collect::<Result<Vec<_>, ControlError>>()?;
    migration::missing(MIGRATIONS, &ran).map_err(|unfit| match unfit {
        Unfit::Newer { found, known } => ControlError::UnknownVersion { found, known },
        Unfit::Changed(version) => ControlError::MigrationChanged(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one() {
        assert!(MIGRATIONS.iter().map(|migration| migration.version).eq(1..=1));
    }
}
