//! Brings the database's tables to where this build needs them.
//!
//! See [`crate::migration`]. Each is run in a transaction of its own.

use super::pool::Db;
use super::{errors::Failure, locks, pool};
use crate::migration::{Migrated, Migration, Ran, Unfit, missing};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sql: include_str!("../../../migrations/postgres/0001_init.sql"),
    },
    Migration {
        version: 2,
        name: "forgetting",
        sql: include_str!("../../../migrations/postgres/0002_forgetting.sql"),
    },
];

/// The oldest build that may use what the latest migration here leaves, by the migrations it knows. Is
/// written beside each migration; raised when one takes something away.
const COMPATIBLE_FROM: i64 = 1;

/// The database cannot be brought to where this build needs it.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer build made it into something this one does not know.
    #[error("the database is of version {found}; this build knows up to {known}")]
    Newer {
        /// Of the database.
        found: i64,
        /// Of this build.
        known: i64,
    },
    /// A migration that was run is not the one of this build.
    #[error("migration {0} was run with another content than this build has")]
    Changed(i64),
    /// The database or the way to it.
    #[error("the database cannot be migrated")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Unfit> for MigrateError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Newer { found, known } => Self::Newer { found, known },
            Unfit::Changed(version) => Self::Changed(version),
        }
    }
}

impl From<Failure> for MigrateError {
    fn from(failure: Failure) -> Self {
        Self::Database(Box::new(failure))
    }
}

/// Runs what has not been run.
pub(super) async fn run(db: &Db) -> Result<Migrated, MigrateError> {
    let mut client = db.client().await?;
    let (from, current) = look(&client).await?;
    if current {
        return Ok(Migrated { from, to: from });
    }
    for migration in MIGRATIONS {
        let transaction = pool::begin(&mut client).await?;
        // Waits for as long as another node's migration takes.
        let endless = "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0";
        pool::batch(&transaction, endless).await?;
        pool::execute(&transaction, "SELECT pg_advisory_xact_lock($1)", &[&locks::MIGRATIONS])
            .await?;
        pool::batch(
            &transaction,
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version bigint PRIMARY KEY,
                 name text NOT NULL,
                 checksum text NOT NULL,
                 compatible_from bigint NOT NULL, -- builds that know this many may use it
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .await?;
        if version(&transaction).await?.is_some_and(|version| version >= migration.version) {
            continue;
        }
        pool::batch(&transaction, migration.sql).await?;
        pool::execute(
            &transaction,
            "INSERT INTO schema_migrations (version, name, checksum, compatible_from)
             VALUES ($1, $2, $3, $4)",
            &[&migration.version, &migration.name, &migration.checksum(), &COMPATIBLE_FROM],
        )
        .await?;
        pool::commit(transaction).await?;
        tracing::info!(version = migration.version, name = migration.name, "database migrated");
    }
    let to = version(&client).await?.unwrap_or_default();
    Ok(Migrated { from, to })
}

/// The database's version, and whether nothing is to be done; an error where nothing can be.
pub(super) async fn look(client: &pool::Client) -> Result<(i64, bool), MigrateError> {
    let sql = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    let there = pool::row(client, sql, &[]).await?.is_some_and(|row| row.get(0));
    if !there {
        return Ok((0, false));
    }
    let sql = "SELECT version, checksum, compatible_from FROM schema_migrations";
    let ran = |row: &tokio_postgres::Row| Ran {
        version: row.get(0),
        checksum: row.get(1),
        compatible_from: row.get(2),
    };
    let ran: Vec<_> = pool::rows(client, sql, &[]).await?.iter().map(ran).collect();
    let latest = ran.iter().map(|ran| ran.version).max().unwrap_or_default();
    Ok((latest, missing(MIGRATIONS, &ran)?.is_empty()))
}

async fn version(client: &impl pool::Ask) -> Result<Option<i64>, MigrateError> {
    let latest = pool::row(client, "SELECT max(version) FROM schema_migrations", &[]).await?;
    Ok(latest.and_then(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one() {
        assert!(MIGRATIONS.iter().map(|migration| migration.version).eq(1..=2));
    }
}
