//! Brings the tables of control data to where this build needs them.
//!
//! Migrations are numbered files, with numbers of their own beside those of the message store. Each is
//! run once, under a lock, so that nodes may start at the same time. A migration may only add to
//! what an older build uses, and what it takes away nobody has used for a version: then nodes of two
//! versions work side by side while one replaces the other.

use std::{fmt::Write as _, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{super::values, Connection, Statements as _, Transaction, alone};
use crate::control::ControlError;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

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
pub(in crate::control) fn run(connection: &mut Connection) -> Result<(), ControlError> {
    let there = "SELECT CAST(to_regclass('control_migrations') AS text)";
    let there = connection.glance(there, &[])?.pop().unwrap_or_default().maybe_text()?;
    if there.is_some() && missing(connection)?.is_empty() {
        return Ok(());
    }
    connection.again_if_cut(|connection| connection.batch(BEGIN, MIGRATION_TIMEOUT))?;
    let mut transaction = Transaction { connection, ended: false };
    transaction.connection.batch(TABLE, MIGRATION_TIMEOUT)?;
    for migration in missing(transaction.connection)? {
        transaction.connection.batch(migration.sql, MIGRATION_TIMEOUT)?;
        let row = values![migration.version, migration.name, checksum(migration), COMPATIBLE_FROM];
        transaction.execute(
            "INSERT INTO control_migrations (version, name, checksum, compatible_from) \
             VALUES ($1, $2, $3, $4)",
            &row,
        )?;
        tracing::info!(version = migration.version, name = migration.name, "control data migrated");
    }
    transaction.commit()
}

/// Those that were not run.
fn missing(connection: &mut Connection) -> Result<Vec<&'static Migration>, ControlError> {
    let sql = "SELECT version, checksum, compatible_from FROM control_migrations ORDER BY version";
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    let mut missing: Vec<&Migration> = MIGRATIONS.iter().collect();
    for mut row in connection.rows(sql, &[])? {
        let (found, sum, compatible_from) = (row.int()?, row.text()?, row.int()?);
        match MIGRATIONS.iter().find(|migration| migration.version == found) {
            Some(migration) if checksum(migration) != sum => {
                return Err(ControlError::MigrationChanged(found));
            }
            None if compatible_from > known => {
                return Err(ControlError::UnknownVersion { found, known });
            }
            Some(_) | None => missing.retain(|migration| migration.version > found),
        }
    }
    Ok(missing)
}

fn checksum(migration: &Migration) -> String {
    Sha256::digest(migration.sql).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
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
