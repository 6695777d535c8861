//! Whether other nodes may be on the same database.
//!
//! Nodes that cannot tell each other what they stored (no `REDIS_URL`) must not share a database: messages
//! would reach devices of the other one late. So each node holds a lock of the database for as long as
//! it runs: one that is alone holds it for itself, those that have company share it. PostgreSQL lets
//! go of it when the node's connection ends, however that comes.
//!
//! Those that share it can be counted, by any of them: nodes that use one database and do not hear each other
//! are found out by it ([`Place::nodes`]).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{config::PostgresConfig, locks, pool::PoolError, probe::connecting};

/// How long a start waits for a node before it that is just going: the server notices within moments that
/// a connection has ended.
const WAIT: Duration = Duration::from_secs(3);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Pause before the lock is taken again after its connection has ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Longest wait for the database to say how many nodes there are.
const COUNT_WITHIN: Duration = Duration::from_secs(5);

/// A node whose machine is gone keeps its place for some eleven seconds, not for the two hours after which
/// systems look by themselves.
pub(super) const VANISHED_SOON: &str = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; \
                             SET tcp_keepalives_count = 3";

/// With whom a node works on its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// With nobody: it has no way to tell others.
    Alone,
    /// With any number of nodes that have company too.
    Others,
}

/// Why a node may not work on a database.
#[derive(Debug, thiserror::Error)]
pub enum CompanyError {
    /// The address or the certificates that are named are wrong.
    #[error(transparent)]
    Address(#[from] PoolError),
    /// The database or the way to it.
    #[error("the database does not say whether other nodes use it")]
    Database(#[from] tokio_postgres::Error),
    /// It says nothing.
    #[error("the database does not answer whether other nodes use it")]
    Silent,
    /// This node has no bus, and there is another one.
    #[error(
        "another node uses this database: nodes that share one need REDIS_URL, by which they tell each other what they stored"
    )]
    NotAlone,
    /// This node has a bus, and there is one without.
    #[error("a node without REDIS_URL uses this database: give it one, or end it")]
    OtherIsAlone,
}

/// Holds a node's place on its database; lets go of it when dropped.
pub struct Place {
    /// Of the connection that holds it, or did last.
    client: Arc<Mutex<Arc<Client>>>,
    #[expect(dead_code, reason = "held")]
    keeping: AbortOnDropHandle<()>,
}

impl Place {
    /// How many nodes have a place on the database, this one included; none where the database does not say
    /// so within five seconds.
    pub async fn nodes(&self) -> Option<usize> {
        let client = Arc::clone(&self.client.lock());
        // A key of one number is kept as its two halves.
        let sql = "SELECT count(*) FROM pg_locks
                   WHERE locktype = 'advisory' AND granted AND objsubid = 1
                     AND (classid::bigint << 32) + objid::bigint = $1
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let counted = timeout(COUNT_WITHIN, client.query_one(sql, &[&locks::COMPANY])).await;
        usize::try_from(counted.ok()?.ok()?.get::<_, i64>(0)).ok()
    }
}

impl Company {
    /// Takes a place, and keeps it.
    ///
    /// # Errors
    /// [`CompanyError`], also where the node before this one has not gone after some seconds.
    pub async fn join(self, config: &PostgresConfig) -> Result<Place, CompanyError> {
        let held = self.take_soon(config, WAIT).await?;
        let client = Arc::new(Mutex::new(Arc::clone(&held.client)));
        let keep = self.keep(config.clone(), held, Arc::clone(&client));
        Ok(Place { client, keeping: AbortOnDropHandle::new(tokio::spawn(keep)) })
    }

    /// [`Company::take`], from a database that may stand still.
    async fn take_soon(
        self,
        config: &PostgresConfig,
        wait: Duration,
    ) -> Result<Held, CompanyError> {
        let (driver, _) = connecting(config)?;
        let most = config.connect_timeout_in_all(&driver) + config.connect_timeout + wait;
        tokio::time::timeout(most, self.take(config, wait))
            .await
            .unwrap_or(Err(CompanyError::Silent))
    }

    async fn take(self, config: &PostgresConfig, wait: Duration) -> Result<Held, CompanyError> {
        let (driver, tls) = connecting(config)?;
        let (client, connection) = driver.connect(tls).await?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _end = end;
            // That it ended is all there is to know.
            let _ = connection.await;
        }));
        client.batch_execute(VANISHED_SOON).await?;
        let sql = match self {
            Self::Alone => "SELECT pg_try_advisory_lock($1)",
            Self::Others => "SELECT pg_try_advisory_lock_shared($1)",
        };
        let deadline = Instant::now() + wait;
        while !client.query_one(sql, &[&locks::COMPANY]).await?.get::<_, bool>(0) {
            if Instant::now() >= deadline {
                return Err(match self {
                    Self::Alone => CompanyError::NotAlone,
                    Self::Others => CompanyError::OtherIsAlone,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Held { client: Arc::new(client), _connection: task, ended })
    }

    /// Takes it again whenever the connection has ended, which happens where the database is restarted.
    async fn keep(self, config: PostgresConfig, mut held: Held, shown: Arc<Mutex<Arc<Client>>>) {
        loop {
            held.ended.cancelled().await;
            held = loop {
                tokio::time::sleep(AGAIN_AFTER).await;
                match self.take_soon(&config, Duration::ZERO).await {
                    Ok(held) => break held,
                    // Somebody was started meanwhile: too late to refuse, but not to say.
                    Err(error @ (CompanyError::NotAlone | CompanyError::OtherIsAlone)) => {
                        tracing::error!(target: "error", "{error}");
                    }
                    // Readiness says that the database is away.
                    Err(
                        CompanyError::Database(_) | CompanyError::Silent | CompanyError::Address(_),
                    ) => {}
                }
            };
            *shown.lock() = Arc::clone(&held.client);
        }
    }
}

/// A place that is held.
struct Held {
    client: Arc<Client>,
    _connection: AbortOnDropHandle<()>,
    ended: CancellationToken,
}
