//! What an operator should know of a database before nodes are put on it. Changes nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    columns::Columns as _,
    config::{Address, PostgresConfig},
    errors::Failure,
    locks,
    migrate::{self, MigrateError},
    pool::{Db, PoolError, row},
    standby::identity,
};
use crate::migration::Tables;

/// Longest wait for one answer: all of them are small.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Connections of a node beside [`PostgresConfig::connections`]: two for control data, four for webhooks, one
/// for its place.
pub const CONNECTIONS_BESIDE: usize = 7;

/// A database, as it was found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// `server_version`.
    pub version: String,
    /// Whether commits are synced to the disk (`fsync`).
    pub fsync: bool,
    /// Whether a torn page can be made whole after a crash (`full_page_writes`).
    pub full_page_writes: bool,
    /// `synchronous_standby_names`; empty where commits wait for nobody.
    pub synchronous_standbys: String,
    /// Connections for those who are not superusers.
    pub connections_max: i64,
    /// Connections that are open, whoever's.
    pub connections_used: i64,
    /// Nodes that have a place on it now.
    pub nodes: i64,
    /// Whether the user may make tables.
    pub may_create: bool,
    /// Tables that are there and that the user may not read and write.
    pub denied: i64,
    /// How far its clock is ahead of this machine's, in microseconds; negative where it is behind.
    pub clock_ahead_micros: i64,
    /// How long the answer took from which that comes: half of it may be wrong.
    pub round_trip: Duration,
}

/// A standby, as it was found.
#[derive(Clone, Copy, Debug)]
pub struct StandbyExamined {
    /// Whether it is a standby of this database, and not another one of the same form.
    pub is_ours: bool,
    /// Whether it follows; a database that does not is no standby.
    pub follows: bool,
    /// Bytes of the log that it has not applied yet; none where it does not say.
    pub behind_bytes: Option<i64>,
}

/// It cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The address or the certificates that are named are wrong.
    #[error(transparent)]
    Address(#[from] PoolError),
    /// The database or the way to it.
    #[error("the database cannot be asked")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Failure> for ExamineError {
    fn from(failure: Failure) -> Self {
        Self::Database(Box::new(failure))
    }
}

/// One connection to a database that has passed [`super::probe()`].
fn one(config: &PostgresConfig, url: &secrecy::SecretString) -> Result<Db, PoolError> {
    let config = PostgresConfig { connections: 1, ..config.clone() };
    Db::new(Address::parse(url, &config)?, &config)
}

/// Looks at the database.
///
/// # Errors
/// [`ExamineError`].
pub async fn examine(config: &PostgresConfig) -> Result<Examined, ExamineError> {
    let mut client = one(config, &config.url)?.client().await?;
    client.hurry(ANSWER_WITHIN);
    // A key of one number is kept as its two halves.
    let sql = "SELECT current_setting('server_version'), current_setting('fsync') = 'on',
            current_setting('full_page_writes') = 'on', current_setting('synchronous_standby_names'),
            current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint
                - coalesce(current_setting('reserved_connections', true), '0')::bigint,
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
            (SELECT count(*) FROM pg_locks
             WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND (classid::bigint << 32) + objid::bigint = $1
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
            coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
            (SELECT count(*) FROM pg_class
             WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace(current_schema())
               AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                   AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')))";
    let said = row(&client, sql, &[&locks::COMPANY]).await?.ok_or_else(nothing)?;
    // Once without looking at it, for the plan.
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    row(&client, clock, &[]).await?;
    let before = SystemTime::now();
    let time = row(&client, clock, &[]).await?.ok_or_else(nothing)?;
    let round_trip = before.elapsed().unwrap_or_default();
    let own = (before + round_trip / 2).duration_since(UNIX_EPOCH).unwrap_or_default();
    let own = i64::try_from(own.as_micros()).unwrap_or(i64::MAX);
    Ok(Examined {
        version: said.column(0)?,
        fsync: said.column(1)?,
        full_page_writes: said.column(2)?,
        synchronous_standbys: said.column(3)?,
        connections_max: said.column(4)?,
        connections_used: said.column(5)?,
        nodes: said.column(6)?,
        may_create: said.column(7)?,
        denied: said.column(8)?,
        clock_ahead_micros: time.column::<i64>(0)?.saturating_sub(own),
        round_trip,
    })
}

/// Looks at the standby of `DATABASE_REPLICA_URL`; none where none is named.
///
/// # Errors
/// [`ExamineError`].
pub async fn examine_standby(
    config: &PostgresConfig,
) -> Result<Option<StandbyExamined>, ExamineError> {
    let Some(url) = &config.replica_url else { return Ok(None) };
    let mut standby = one(config, url)?.client().await?;
    let mut primary = one(config, &config.url)?.client().await?;
    standby.hurry(ANSWER_WITHIN);
    primary.hurry(ANSWER_WITHIN);
    let is_ours = identity(&standby).await? == identity(&primary).await?;
    let sql = "SELECT pg_current_wal_lsn()::text";
    let written: String = row(&primary, sql, &[]).await?.ok_or_else(nothing)?.column(0)?;
    let sql = "SELECT pg_is_in_recovery(),
            pg_wal_lsn_diff($1::text::pg_lsn, pg_last_wal_replay_lsn())::bigint";
    let said = row(&standby, sql, &[&written]).await?.ok_or_else(nothing)?;
    Ok(Some(StandbyExamined { is_ours, follows: said.column(0)?, behind_bytes: said.column(1)? }))
}

/// How the store's tables stand.
///
/// # Errors
/// [`MigrateError`], also for tables that this build may not use.
pub async fn examine_tables(config: &PostgresConfig) -> Result<Tables, MigrateError> {
    let db = one(config, &config.url).map_err(|error| MigrateError::Database(Box::new(error)))?;
    let mut client = db.client().await?;
    client.hurry(ANSWER_WITHIN);
    let (version, is_current) = migrate::look(&client).await?;
    Ok(Tables { version, is_current })
}

fn nothing() -> Failure {
    Failure::unreadable(std::io::Error::other("it answered no row"))
}
