//! Takes in what was kept in a folder of a single node: part by part, each in a transaction that also says that
//! it is here, so that a move that ended anywhere goes on where it was.
//!
//! Nothing of it is synced before the last transaction, which has to wait for all before it: what a crash of the
//! server takes away is the end of the log of transactions, never something in the middle.

mod bodies;
mod cell;
mod check;
mod claim;
mod inbox;
mod restore;
pub(crate) mod targets;

use std::pin::pin;

use tokio_postgres::{binary_copy::BinaryCopyInWriter, types::ToSql};

pub use self::restore::restore;
pub(crate) use self::{bodies::Ids, claim::Claim, targets::Target};
use super::{
    PostgresStore,
    columns::Columns as _,
    config::{Address, PostgresConfig},
    errors::Failure,
    pool::{self, Client, Db, PoolError, Transaction, execute, row, rows},
};
use crate::{
    Fanout, InboxKey,
    clock::WallClock,
    store::{Retention, portable::Cells, single::MOVED_MARK as MARK},
};

/// How the sessions of a move call themselves: those of nodes have another name.
pub(super) const SESSION: &str = "pushhub-migrate";

/// Connections: for each inbox that is moved two, and for what is kept once.
const CONNECTIONS: usize = 16;

/// A folder's data cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("the database cannot be used")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Open(#[from] super::OpenError),
    #[error("another move into this database is under way")]
    Busy,
    #[error("nodes work on this database ({0} sessions): end them first")]
    InUse(i64),
    #[error("the database has {0} that are not of this folder: name an empty one")]
    Foreign(&'static str),
    #[error(
        "all of this folder was moved into this database before, and the folder was taken back into use \
         since: what came to either can no longer be one; to move it anew, name an empty database"
    )]
    TakenBack,
    #[error(
        "the folder says that a move of it began, of which this database knows nothing; to move it anew, delete \
         {MARK} in its .hub"
    )]
    Elsewhere,
}

impl From<Failure> for ImportError {
    fn from(failure: Failure) -> Self {
        Self::Database(Box::new(failure))
    }
}

impl From<tokio_postgres::Error> for ImportError {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Db(error).into()
    }
}

/// Connects as what it is: nobody who looks for nodes takes it for one.
pub(super) fn connect(config: &PostgresConfig) -> Result<Db, PoolError> {
    let mut address = Address::parse(&config.url, config)?;
    address.driver.application_name(SESSION);
    Db::patient(address, config)
}

/// Whether a folder is being moved into a database.
pub(super) async fn is_under_way(db: &Db) -> Result<bool, Failure> {
    let client = db.client().await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM moves WHERE finished_at IS NULL)";
    row(&client, sql, &[]).await?.map_or(Ok(false), |row| row.column(0))
}

/// A database that takes in a folder.
pub(crate) struct Import {
    db: Db,
    config: PostgresConfig,
}

impl Import {
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self, ImportError> {
        let connections = config.connections.max(CONNECTIONS);
        let config = PostgresConfig {
            connections,
            // Nothing is forgotten while it is compared.
            retention: Retention::default(),
            tenants: None,
            sent_kept: std::time::Duration::MAX,
            replica_url: None,
            witness: None,
            ..config.clone()
        };
        Ok(Self { db: connect(&config)?, config })
    }

    /// Where the database is, without a password.
    pub(crate) fn describe(&self) -> String {
        self.config.describe()
    }

    /// The store, for who compares it with what it was taken from: its clock stands so far back that nothing
    /// expires, falls due or is forgotten.
    pub(crate) fn store(&self) -> Result<std::sync::Arc<PostgresStore>, ImportError> {
        struct Nobody;
        impl Fanout for Nobody {
            fn publish(&self, _: &[crate::store::Stored]) {}
        }
        let clock = Some(WallClock::new(|| protocol::Time::from_millis(0)));
        let config = PostgresConfig { clock, ..self.config.clone() };
        let recorder = metrics::NoopRecorder;
        Ok(PostgresStore::start(
            connect(&self.config)?,
            config,
            std::sync::Arc::new(Nobody),
            &recorder,
        )?)
    }

    pub(crate) async fn client(&self) -> Result<Client, ImportError> {
        Ok(self.db.client().await?)
    }

    /// Begins a part; none where it is here already.
    pub(crate) async fn part<'a>(
        &self,
        client: &'a mut Client,
        name: &'static str,
    ) -> Result<Option<Part<'a>>, ImportError> {
        let transaction = begin(client).await?;
        let sql = "SELECT 1 FROM moved_parts WHERE part = $1";
        if row(&transaction, sql, &[&name]).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(Part { transaction, name }))
    }

    /// Inboxes after one of them, in the order of their ids: those that are not here yet, or all.
    pub(crate) async fn inboxes(
        &self,
        after: i64,
        missing: bool,
        limit: usize,
    ) -> Result<Vec<(i64, InboxKey)>, ImportError> {
        let client = self.db.client().await?;
        let sql = "SELECT i.id, i.tenant, i.usr FROM inboxes i WHERE i.id > $1
            AND NOT ($2 AND EXISTS (SELECT 1 FROM moved_inboxes m WHERE m.inbox = i.id))
            ORDER BY i.id LIMIT $3";
        let found = rows(&client, sql, &[&after, &missing, &super::columns::most(limit)]).await?;
        let inbox = |row: &tokio_postgres::Row| -> Result<_, Failure> {
            Ok((row.column(0)?, InboxKey::new(row.id(1)?, row.id(2)?)))
        };
        Ok(found.iter().map(inbox).collect::<Result<_, _>>()?)
    }

    /// Has the planner look at what came: until it has, it takes all tables for empty.
    pub(crate) async fn analyze(&self) -> Result<(), ImportError> {
        let client = self.db.client().await?;
        Ok(pool::batch(&client, "SET statement_timeout = 0; ANALYZE").await?)
    }
}

/// Begins a transaction that may take as long as what it takes in.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, ImportError> {
    let transaction = pool::begin(client).await?;
    pool::batch(
        &transaction,
        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '5min';
         SET LOCAL synchronous_commit = off",
    )
    .await?;
    Ok(transaction)
}

/// A part of a move: all of it or nothing.
pub(crate) struct Part<'a> {
    transaction: Transaction<'a>,
    name: &'static str,
}

impl Part<'_> {
    /// Makes what rows go into before they can go into their table.
    pub(crate) async fn stage(&self, target: &Target) -> Result<(), ImportError> {
        Ok(pool::batch(&self.transaction, target.before).await?)
    }

    /// Takes in rows.
    pub(crate) async fn rows(&self, target: &Target, rows: &[Cells]) -> Result<(), ImportError> {
        copy(&self.transaction, target, rows).await
    }

    /// Brings what was taken in to its table. `place` is the latest of the folder's records.
    pub(crate) async fn settle(&self, target: &Target, place: i64) -> Result<(), ImportError> {
        for sql in target.after {
            let sql = sql.replace("$place", &place.to_string());
            pool::batch(&self.transaction, &sql).await?;
        }
        Ok(())
    }

    /// The part is here.
    pub(crate) async fn finish(self) -> Result<(), ImportError> {
        let sql = "INSERT INTO moved_parts (part) VALUES ($1)";
        execute(&self.transaction, sql, &[&self.name]).await?;
        Ok(pool::commit(self.transaction).await?)
    }
}

async fn copy(
    transaction: &Transaction<'_>,
    target: &Target,
    rows: &[Cells],
) -> Result<(), ImportError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sink = transaction.copy_in(target.copy).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, target.types));
    let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
    for row in rows {
        values.clear();
        values.extend(row.iter().map(|cell| cell as &(dyn ToSql + Sync)));
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}
