//! A connection to PostgreSQL for those who may wait.
//!
//! `tokio-postgres` with a small runtime of its own, on whose thread what comes from the network is read.
//! Whoever asks sleeps on their own thread. A runtime's `block_on`, which the `postgres` crate is built
//! upon, would panic on a thread of another runtime, and so would dropping it there.

mod connect;
mod error;
mod migrate;
mod wait;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures_util::future::try_join_all;
use tokio_postgres::{
    Client, Statement,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

pub(crate) use connect::Server;
pub use connect::Tls;
pub(crate) use migrate::{Words as MigrateWords, look, run as migrate};

use super::{Area, Insert, Row, Statements, Value};
use crate::sql::SqlError;

/// How long making a connection may take, names and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nobody tries to connect after that failed, or nothing was answered. Whoever comes meanwhile is refused at once, so
/// that those who wait in line for a database that is down do not each wait the whole time.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How long a statement may take, in the database. The longest reads all templates.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a change waits for other nodes' changes, before it is refused: each takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the transaction of a node that has vanished keeps its locks.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the database may say nothing at all, before the connection is given up: it ends statements
/// by itself after [`STATEMENT_TIMEOUT`], so this is a host or a network that is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// Changes that are under way to the database at a time: their values are in memory.
const PIPELINE_MAX: usize = 256;

/// What is said to the database in an area's name.
pub(crate) struct Words {
    /// For logs and names of threads.
    pub(crate) name: &'static str,
    /// Begins a transaction and waits until nobody else changes the area. The lock first, in a
    /// statement of its own: each statement sees what was committed before it began.
    pub(crate) alone: &'static str,
    pub(crate) migrate: migrate::Words,
}

/// An area's [`Words`], by its name and a number that nothing else locks. The lock ends with its
/// transaction.
macro_rules! words {
    ($name:literal, $lock:literal) => {
        $crate::sql::postgres::Words {
            name: $name,
            alone: concat!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(",
                $lock,
                ")"
            ),
            migrate: $crate::sql::postgres::migrate_words!($name, $lock),
        }
    };
}
pub(crate) use migrate::words as migrate_words;
pub(crate) use words;

/// Which transaction is begun.
#[derive(Clone, Copy)]
pub(in crate::sql) enum Begin {
    /// One at a time over all nodes, from before its first look.
    Alone,
    /// Beside all others.
    Beside,
    /// Reads as of one moment.
    Reading,
}

impl Begin {
    const fn sql(self, area: &Area) -> &'static str {
        match self {
            Self::Alone => area.words.alone,
            Self::Beside => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::Reading => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

struct Open {
    client: Client,
    /// As many as this program has statements.
    prepared: HashMap<&'static str, Statement>,
}

/// A connection, made when it is needed and again when it ended.
pub(crate) struct Connection {
    /// Before the server, on whose thread it ends.
    open: Option<Open>,
    server: Arc<Server>,
    area: &'static Area,
    /// When it could last not be reached, or did not answer.
    failed: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(server: &Arc<Server>, area: &'static Area) -> Self {
        Self { server: Arc::clone(server), area, open: None, failed: None }
    }

    /// Runs `work` in a transaction, which is committed if it went well.
    pub(super) fn transaction<T, E: From<SqlError>>(
        &mut self,
        begin: Begin,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = begin.sql(self.area);
        self.again_if_cut(|connection| connection.batch(sql, ANSWER_TIMEOUT))?;
        let mut transaction = Transaction { connection: self, ended: false };
        let done = work(&mut transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Asks one thing, without a transaction.
    pub(super) fn glance(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, SqlError> {
        self.again_if_cut(|connection| connection.rows(sql, values))
    }

    /// That a connection ended while nobody used it shows when it is used: then once more with another.
    fn again_if_cut<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let was_open = self.open.is_some();
        self.connect()?;
        let mut done = work(self);
        if done.is_err() && was_open && self.open.is_none() {
            self.connect()?;
            done = work(self);
        }
        if done.is_err() {
            // What was begun is not worth keeping.
            self.open = None;
        }
        done
    }

    fn connect(&mut self) -> Result<(), SqlError> {
        if self.open.as_ref().is_some_and(|open| !open.client.is_closed()) {
            return Ok(());
        }
        self.open = None;
        if self.failed.is_some_and(|at| at.elapsed() < RECONNECT_PAUSE) {
            return Err(SqlError::Unavailable("it failed a moment ago".into()));
        }
        let connected = self.server.connect().and_then(|client| {
            self.open = Some(Open { client, prepared: HashMap::new() });
            self.batch(&connect::settings(), ANSWER_TIMEOUT)
        });
        self.failed = connected.is_err().then(Instant::now);
        if connected.is_err() {
            self.open = None;
        }
        connected
    }

    /// Runs statements without values and answers.
    fn batch(&mut self, sql: &str, most: Duration) -> Result<(), SqlError> {
        self.ask(most, async |open| open.client.batch_execute(sql).await)
    }

    /// Asks something and sleeps until the answer is there. A connection that ended, or that says
    /// nothing, is given up: an answer that comes late would be taken for the next one's.
    fn ask<T>(
        &mut self,
        most: Duration,
        question: impl AsyncFnOnce(&mut Open) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, SqlError> {
        let Some(open) = &mut self.open else {
            return Err(SqlError::Unavailable("the connection has ended".into()));
        };
        let answer = wait::wait(question(open), most);
        let ended = open.client.is_closed();
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                if ended || error::ends_connection(&error) {
                    self.open = None;
                }
                Err(error.into())
            }
            None => {
                (self.open, self.failed) = (None, Some(Instant::now()));
                Err(SqlError::Unavailable("the database does not answer".into()))
            }
        }
    }

    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, SqlError> {
        let found = self.ask(ANSWER_TIMEOUT, async |open| {
            let statement = open.prepare(sql).await?;
            open.client.query(&statement, &parameters(values)).await
        })?;
        read(&found)
    }
}

impl Open {
    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// Undone when dropped, unless it was committed.
struct Transaction<'a> {
    connection: &'a mut Connection,
    ended: bool,
}

impl Transaction<'_> {
    fn commit(mut self) -> Result<(), SqlError> {
        self.ended = true;
        let committed = self.connection.batch("COMMIT", ANSWER_TIMEOUT);
        match committed {
            Err(SqlError::Unavailable(error)) => Err(SqlError::Unknown(error)),
            committed => committed,
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended && self.connection.batch("ROLLBACK", ANSWER_TIMEOUT).is_err() {
            self.connection.open = None;
        }
    }
}

impl Statements for Transaction<'_> {
    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, SqlError> {
        self.connection.rows(sql, values)
    }

    fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.connection.ask(ANSWER_TIMEOUT, async |open| {
            let statement = open.prepare(sql).await?;
            open.client.execute(&statement, &parameters(values)).await
        })
    }

    fn rows_each(
        &mut self,
        sql: &'static str,
        all: &[Vec<Value<'_>>],
    ) -> Result<Vec<Vec<Row>>, SqlError> {
        let mut found = Vec::with_capacity(all.len());
        for some in all.chunks(PIPELINE_MAX) {
            let answers = self.connection.ask(ANSWER_TIMEOUT, async |open| {
                let statement = open.prepare(sql).await?;
                let some: Vec<_> = some.iter().map(|values| parameters(values)).collect();
                try_join_all(some.iter().map(|values| open.client.query(&statement, values))).await
            })?;
            for rows in answers {
                found.push(read(&rows)?);
            }
        }
        Ok(found)
    }

    fn execute_each(&mut self, sql: &'static str, all: &[Vec<Value<'_>>]) -> Result<(), SqlError> {
        for some in all.chunks(PIPELINE_MAX) {
            self.connection.ask(ANSWER_TIMEOUT, async |open| {
                let statement = open.prepare(sql).await?;
                let some: Vec<_> = some.iter().map(|values| parameters(values)).collect();
                let each = some.iter().map(|values| open.client.execute(&statement, values));
                try_join_all(each).await
            })?;
        }
        Ok(())
    }

    fn insert(&mut self, insert: &Insert, all: &[Vec<Value<'_>>]) -> Result<Vec<Row>, SqlError> {
        let Some(first) = all.first() else { return Ok(Vec::new()) };
        let columns: Vec<Vec<&Value<'_>>> =
            (0..first.len()).map(|at| all.iter().map(|values| &values[at]).collect()).collect();
        let found = self.connection.ask(ANSWER_TIMEOUT, async |open| {
            let statement = open.prepare(insert.many).await?;
            let columns: Vec<_> =
                columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
            open.client.query(&statement, &columns).await
        })?;
        read(&found)
    }

    fn say(&mut self, sql: &'static str) -> Result<(), SqlError> {
        self.connection.batch(sql, ANSWER_TIMEOUT)
    }
}

fn read(found: &[tokio_postgres::Row]) -> Result<Vec<Row>, SqlError> {
    let rows = found
        .iter()
        .map(|row| (0..row.len()).map(|at| row.try_get::<_, Value<'static>>(at)).collect());
    rows.collect::<Result<_, tokio_postgres::Error>>()
        .map_err(|error| SqlError::Damaged(error.into()))
}

fn parameters<'a>(values: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

type ToSqlError = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, ToSqlError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) => number.to_sql_checked(kind, out),
            Self::Text(text) => (&**text).to_sql_checked(kind, out),
            Self::Bytes(bytes) => (&**bytes).to_sql_checked(kind, out),
        }
    }

    /// Looked at value by value.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'static> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, ToSqlError> {
        Ok(match *kind {
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec().into()),
            _ => Self::Text(String::from_sql(kind, raw)?.into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, ToSqlError> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::BYTEA, Type::TEXT].contains(kind)
    }
}
