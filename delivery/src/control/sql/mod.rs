//! The database that control data lives in: `control.db`, or PostgreSQL where several nodes share it.
//!
//! Both are asked in the same words: SQL that both understand, with `$1`, `$2` … for values, and tables
//! of the same names. So what may be written, and how much of it, is decided once, above. What differs
//! is here: how a transaction begins, and what a statement is run by.

pub(super) mod postgres;
mod row;
pub(super) mod sqlite;
mod value;

pub(super) use self::{
    row::Row,
    value::{Value, values},
};
use super::ControlError;

/// What can be asked inside a transaction.
pub(super) trait Statements {
    /// All rows of a question.
    fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, ControlError>;

    /// Changes something; how many rows of it there were.
    fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, ControlError>;

    /// The same change for each of many. Over a network they do not wait for each other.
    fn execute_each(
        &mut self,
        sql: &'static str,
        all: &[Vec<Value<'_>>],
    ) -> Result<(), ControlError>;

    /// The first row of a question.
    fn row(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, ControlError> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// The only number of a question that always has one.
    fn number(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<i64, ControlError> {
        self.row(sql, values)?.unwrap_or_default().int()
    }
}

/// One connection.
pub(super) enum Database {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Database {
    /// Changes something. Nobody else does meanwhile, in no process and on no node, so what `work` has
    /// counted stays true until it is written. After an error nothing of it is.
    pub(super) fn change<T, E: From<ControlError>>(
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
    pub(super) fn note<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        match self {
            Self::Sqlite(connection) => connection.change(work),
            Self::Postgres(connection) => connection.transaction(postgres::Begin::Beside, work),
        }
    }

    /// Reads several things as of one moment.
    pub(super) fn look<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Statements) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        match self {
            Self::Sqlite(connection) => connection.look(work),
            Self::Postgres(connection) => connection.transaction(postgres::Begin::Reading, work),
        }
    }

    /// Reads one thing.
    pub(super) fn glance(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, ControlError> {
        match self {
            Self::Sqlite(connection) => connection.look(|database| database.rows(sql, values)),
            Self::Postgres(connection) => connection.glance(sql, values),
        }
    }
}
