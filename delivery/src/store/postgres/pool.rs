//! Connections, and what is asked through them.
//!
//! **Nobody waits for ever.** The server ends statements after `statement_timeout`, and TCP ends a connection
//! whose host is gone. Neither ends one to a server that stands still, or to a proxy whose other side is cut
//! off: what is sent there goes on being acknowledged. So every question has an end here, too. A
//! connection that did not answer is given up, because an answer that comes late would be taken for the next
//! question's, and with it all that are idle: whoever would be given one of them next would wait as long.

use std::{
    future::pending,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{
    GenericClient, Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
    Timeouts,
};
use tokio_postgres::{CopyInSink, IsolationLevel, Row, types::ToSql};
use tokio_util::sync::CancellationToken;

use super::{
    config::{Address, PostgresConfig, UrlError},
    errors::Failure,
    tls::{self, TlsError},
};

/// How much longer than a statement may take in the database its answer is waited for: what the network and
/// a busy machine add.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

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

/// Connections to one database. They are made when they are needed, and again when they ended; the
/// next operation that needs one tries at once, so that a database that is back is used at once.
#[derive(Clone)]
pub(super) struct Db {
    pool: Pool,
    /// How long an answer is waited for; none for as long as it takes.
    patience: Option<Duration>,
    /// From when on no answer is waited for any more.
    given_up: CancellationToken,
}

impl Db {
    /// For a node: an answer is waited for a little longer than a statement may take.
    pub(super) fn new(address: Address, config: &PostgresConfig) -> Result<Self, PoolError> {
        Self::with(address, config, Some(config.statement_timeout + ANSWER_GRACE))
    }

    /// For who lets statements take as long as they do: migrations, moves. Somebody sits before these, and
    /// ends them.
    pub(super) fn patient(address: Address, config: &PostgresConfig) -> Result<Self, PoolError> {
        Self::with(address, config, None)
    }

    fn with(
        address: Address,
        config: &PostgresConfig,
        patience: Option<Duration>,
    ) -> Result<Self, PoolError> {
        let tls = tls::connector(&address.trust)?;
        let create = Some(config.connect_timeout_in_all(&address.driver));
        // Whether a connection is still there shows when it is used: a look before each use would
        // cost a round trip, and `Failure::is_worth_another_try` takes another one.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(address.driver, tls, manager))
            .max_size(config.connections)
            // The one that was used last has its statements planned: for 16 partitions that takes longer
            // than running them.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(config.acquire_timeout), create, recycle: None })
            .build()?;
        Ok(Self { pool, patience, given_up: CancellationToken::new() })
    }

    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let object = tokio::select! {
            biased;
            object = self.pool.get() => object?,
            () = self.given_up.cancelled() => return Err(Failure::Silent),
        };
        let (db, silent) = (self.clone(), AtomicBool::new(false));
        Ok(Client { object: Some(object), asking: Asking { patience: db.patience, db, silent } })
    }

    /// From now on no answer is waited for: whoever does, or asks anything, is told that the database is
    /// silent. Nothing is lost that was answered to anybody.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Gives up all connections that nobody uses.
    pub(super) fn forget(&self) {
        self.pool.retain(|_, _| false);
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Connections, and those that wait for one.
    pub(super) fn status(&self) -> deadpool_postgres::Status {
        self.pool.status()
    }
}

/// Waits for answers of one connection.
pub(super) struct Asking {
    db: Db,
    patience: Option<Duration>,
    /// One did not come.
    silent: AtomicBool,
}

impl Asking {
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let silence = async {
            match self.patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = question => return Ok(answer?),
            () = silence => {}
            () = self.db.given_up.cancelled() => {}
        }
        self.silent.store(true, Ordering::Relaxed);
        Err(Failure::Silent)
    }
}

/// A connection, for as long as it is needed.
pub(crate) struct Client {
    /// None only while it is dropped.
    object: Option<Object>,
    asking: Asking,
}

impl Client {
    /// Answers to this client are waited for no longer than this.
    pub(super) fn hurry(&mut self, most: Duration) {
        self.asking.patience = Some(self.asking.patience.map_or(most, |least| least.min(most)));
    }

    fn parts(&mut self) -> (&mut Object, &Asking) {
        (self.object.as_mut().expect(THERE), &self.asking)
    }
}

const THERE: &str = "a client has its connection until it is dropped";

impl Drop for Client {
    fn drop(&mut self) {
        if !*self.asking.silent.get_mut() {
            return;
        }
        drop(self.object.take().map(Object::take));
        // Not after a look in a hurry: a disk that stands still for some seconds is no reason to plan all
        // statements anew.
        if self.asking.patience == self.asking.db.patience {
            self.asking.db.forget();
        }
    }
}

/// A transaction; rolled back when it is dropped and was not committed.
pub(super) struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    asking: &'a Asking,
}

impl Transaction<'_> {
    /// Begins to copy rows into a table.
    pub(super) async fn copy_in(&self, sql: &str) -> Result<CopyInSink<bytes::Bytes>, Failure> {
        self.asking.answer(self.inner.copy_in(sql)).await
    }
}

/// What questions are put to: a connection, or a transaction on it.
pub(super) trait Ask: Sync {
    /// As the driver knows it.
    type Way: GenericClient;

    /// The way to the database.
    fn way(&self) -> &Self::Way;

    /// Who waits for its answers.
    fn asking(&self) -> &Asking;
}

impl Ask for Client {
    type Way = Object;

    fn way(&self) -> &Object {
        self.object.as_ref().expect(THERE)
    }

    fn asking(&self) -> &Asking {
        &self.asking
    }
}

impl<'a> Ask for Transaction<'a> {
    type Way = deadpool_postgres::Transaction<'a>;

    fn way(&self) -> &Self::Way {
        &self.inner
    }

    fn asking(&self) -> &Asking {
        self.asking
    }
}

/// Begins a transaction that writes.
pub(super) async fn begin(client: &mut Client) -> Result<Transaction<'_>, Failure> {
    let (object, asking) = client.parts();
    Ok(Transaction { inner: asking.answer(object.transaction()).await?, asking })
}

/// Begins a transaction that reads, all of it as of one moment.
pub(super) async fn look(client: &mut Client) -> Result<Transaction<'_>, Failure> {
    let (object, asking) = client.parts();
    let transaction =
        object.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(Transaction { inner: asking.answer(transaction.start()).await?, asking })
}

/// Commits. If the connection or the server ends meanwhile, or says nothing, nobody knows what was decided.
pub(super) async fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    let Transaction { inner, asking } = transaction;
    asking.answer(inner.commit()).await.map_err(|failure| match &failure {
        // 57: an operator intervenes.
        Failure::Db(error) if error.code().is_some_and(|code| !code.code().starts_with("57")) => {
            failure
        }
        _ => Failure::Unknown(Box::new(failure)),
    })
}

/// Rows of a statement, which is prepared once for each connection.
pub(super) async fn rows(
    client: &impl Ask,
    sql: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, Failure> {
    let (way, asking) = (client.way(), client.asking());
    let statement = asking.answer(way.prepare_cached(sql)).await?;
    asking.answer(way.query(&statement, values)).await
}

/// The first row, if there is one.
pub(super) async fn row(
    client: &impl Ask,
    sql: &str,
    values: Values<'_>,
) -> Result<Option<Row>, Failure> {
    let (way, asking) = (client.way(), client.asking());
    let statement = asking.answer(way.prepare_cached(sql)).await?;
    asking.answer(way.query_opt(&statement, values)).await
}

/// How many rows a statement changed.
pub(super) async fn execute(
    client: &impl Ask,
    sql: &str,
    values: Values<'_>,
) -> Result<u64, Failure> {
    let (way, asking) = (client.way(), client.asking());
    let statement = asking.answer(way.prepare_cached(sql)).await?;
    asking.answer(way.execute(&statement, values)).await
}

/// Rows of a statement that is not worth keeping.
pub(super) async fn rows_once(
    client: &impl Ask,
    sql: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, Failure> {
    client.asking().answer(client.way().query(sql, values)).await
}

/// Runs statements without values and answers.
pub(super) async fn batch(client: &impl Ask, sql: &str) -> Result<(), Failure> {
    client.asking().answer(client.way().batch_execute(sql)).await
}
