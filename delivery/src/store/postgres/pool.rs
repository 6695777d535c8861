//! Connections, and what is asked through them.

use deadpool_postgres::{
    GenericClient, Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
    Timeouts, Transaction,
};
use tokio_postgres::{IsolationLevel, Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    config::{Address, PostgresConfig, UrlError},
    errors::Failure,
    tls::{self, TlsError},
};

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A database cannot be used as it was named.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Its address.
    #[error("the database's address {0}")]
    Url(#[from] UrlError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pool.
    #[error("connections to the database")]
    Build(#[from] deadpool_postgres::BuildError),
}

/// What other parts of this node connect with: the driver's settings and the way to TLS.
///
/// # Errors
/// When the address or a file of certificates cannot be used.
pub fn connecting(
    config: &PostgresConfig,
) -> Result<(tokio_postgres::Config, MakeRustlsConnect), PoolError> {
    let address = Address::parse(&config.url, config)?;
    let tls = tls::connector(&address.trust)?;
    Ok((address.driver, tls))
}

/// Connections to one database. They are made when they are needed, and again when they ended; the
/// next operation that needs one tries at once, so that a database that is back is used at once.
#[derive(Clone)]
pub(super) struct Db(Pool);

impl Db {
    pub(super) fn new(address: Address, config: &PostgresConfig) -> Result<Self, PoolError> {
        let tls = tls::connector(&address.trust)?;
        // Whether a connection is still there shows when it is used: a look before each use would
        // cost a round trip, and `Failure::is_worth_another_try` takes another one.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(address.driver, tls, manager))
            .max_size(config.connections)
            // The one that was used last has its statements planned: for 16 partitions that takes longer
            // than running them.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(config.acquire_timeout),
                create: Some(config.connect_timeout),
                recycle: None,
            })
            .build()?;
        Ok(Self(pool))
    }

    pub(super) async fn client(&self) -> Result<Object, Failure> {
        Ok(self.0.get().await?)
    }

    pub(super) fn close(&self) {
        self.0.close();
    }

    /// Connections, and those that wait for one.
    pub(super) fn status(&self) -> deadpool_postgres::Status {
        self.0.status()
    }
}

/// Begins a transaction that writes.
pub(super) async fn begin(client: &mut Object) -> Result<Transaction<'_>, Failure> {
    Ok(client.transaction().await?)
}

/// Begins a transaction that reads, all of it as of one moment.
pub(super) async fn look(client: &mut Object) -> Result<Transaction<'_>, Failure> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(transaction.start().await?)
}

/// Commits. If the connection ends meanwhile, or the server does, nobody knows what was decided.
pub(super) async fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    transaction.commit().await.map_err(|error| match error.code() {
        // 57: an operator intervenes.
        Some(code) if !code.code().starts_with("57") => Failure::Db(error),
        Some(_) | None => Failure::Unknown(error),
    })
}

/// Rows of a statement, which is prepared once for each connection.
pub(super) async fn rows(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, values).await?)
}

/// The first row, if there is one.
pub(super) async fn row(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<Option<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_opt(&statement, values).await?)
}

/// How many rows a statement changed.
pub(super) async fn execute(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<u64, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, values).await?)
}
