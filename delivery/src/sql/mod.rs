//! A database that a part of the program keeps its rows in: a file of its own, or tables in a PostgreSQL that
//! several nodes share.
//!
//! Both are asked in the same words: SQL that both understand, with `$1`, `$2` … for values, and tables
//! of the same names. So what may be written, and how much of it, is decided once, above. What differs
//! is here: how a transaction begins, and what a statement is run by.

pub(crate) mod copy;
mod error;
pub(crate) mod postgres;
mod row;
pub(crate) mod sqlite;
mod value;

pub use self::{error::SqlError, postgres::Tls};
pub(crate) use self::{
    row::Row,
    value::{Value, values},
};
use crate::migration::Migration;

/// A part of the program, and what it has in a database.
pub(crate) struct Area {
    /// What makes each version of its file of the one before, from nothing on; `PRAGMA user_version`
    /// says which it is.
    pub(crate) file: &'static [&'static str],
    /// What makes its tables in PostgreSQL. Their numbers are its own, beside those of other parts.
    pub(crate) migrations: &'static [Migration],
    /// The oldest build that may use what the latest of these leaves, by the migrations it knows. Is
    /// written beside each migration; raised when one takes something away.
    pub(crate) compatible_from: i64,
    /// What is said to PostgreSQL, by [`postgres::words!`].
    pub(crate) words: postgres::Words,
}

/// How many rows are added.
pub(crate) struct Insert {
    /// One row, by `$1`, `$2` …
    pub(crate) one: &'static str,
    /// The same, where `$1`, `$2` … are arrays with a value for each row: PostgreSQL takes a thousand rows
    /// so for little more than one costs by itself, and SQLite has no arrays.
    pub(crate) many: &'static str,
}

/// What can be asked inside a transaction.
pub(crate) trait Statements {
    /// All rows of a question.
    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, SqlError>;

    /// The same question for each of many. Over a network they do not wait for each other.
    fn rows_each(
        &mut self,
        sql: &'static str,
        all: &[Vec<Value<'_>>],
    ) -> Result<Vec<Vec<Row>>, SqlError>;

    /// Changes something; how many rows of it there were.
    fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, SqlError>;

    /// The same change for each of many. Over a network they do not wait for each other.
    fn execute_each(&mut self, sql: &'static str, all: &[Vec<Value<'_>>]) -> Result<(), SqlError>;

    /// Adds rows; what they return, in no particular order.
    fn insert(&mut self, insert: &Insert, all: &[Vec<Value<'_>>]) -> Result<Vec<Row>, SqlError>;

    /// Says something that has no values and no answer.
    fn say(&mut self, sql: &'static str) -> Result<(), SqlError>;

    /// The first row of a question.
    fn row(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, SqlError> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// The only number of a question that always has one.
    fn number(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<i64, SqlError> {
        self.row(sql, values)?.unwrap_or_default().int()
    }
}

/// Does something inside a transaction that is undone by itself where it fails, and leaves the rest of the
/// transaction as it is.
pub(crate) fn apart(
    database: &mut dyn Statements,
    work: impl FnOnce(&mut dyn Statements) -> bool,
) -> Result<(), SqlError> {
    database.say("SAVEPOINT apart")?;
    let end = if work(database) {
        "RELEASE SAVEPOINT apart"
    } else {
        "ROLLBACK TO SAVEPOINT apart; RELEASE SAVEPOINT apart"
    };
    // Fails where the database gave the whole transaction up, as SQLite does on a full disk.
    database.say(end)
}

/// One connection.
pub(crate) enum Database {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Database {
    /// Changes something. Nobody else changes this area meanwhile, in no process and on no node, so what
    /// `work` has counted stays true until it is written. After an error nothing of it is.
    pub(crate) fn change<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Sqlite(connection) => connection.change(work),
            Self::Postgres(connection) => connection.transaction(postgres::Begin::Alone, work),
        }
    }

    /// Writes down what was counted or noted. Nothing is decided by what is there, so nodes need not
    /// wait for each other.
    pub(crate) fn note<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Sqlite(connection) => connection.change(work),
            Self::Postgres(connection) => connection.transaction(postgres::Begin::Beside, work),
        }
    }

    /// Reads several things as of one moment.
    pub(crate) fn look<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Sqlite(connection) => connection.look(work),
            Self::Postgres(connection) => connection.transaction(postgres::Begin::Reading, work),
        }
    }

    /// Makes sure that nothing of what was deleted is left in a file's log. In PostgreSQL that is the server's:
    /// its log is of all that it has, and goes with its checkpoints.
    pub(crate) fn scrub(&self) -> Result<(), SqlError> {
        match self {
            Self::Sqlite(connection) => connection.scrub(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Asks one thing, which is a transaction by itself. May be asked twice, if the connection ends.
    pub(crate) fn glance(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, SqlError> {
        match self {
            Self::Sqlite(connection) => connection.look(|database| database.rows(sql, values)),
            Self::Postgres(connection) => connection.glance(sql, values),
        }
    }
}
