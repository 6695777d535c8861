//! An area's rows of a file, brought to the PostgreSQL of nodes: the tables are the same.

use std::{path::Path, sync::Arc};

use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Area, Database, SqlError, Statements, Value, postgres, sqlite, values};

/// Rows were not brought over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("the folder's {0}")]
    From(&'static str, #[source] SqlError),
    #[error("{0} in the database")]
    To(&'static str, #[source] SqlError),
    #[error("rows of {0} are not the same in the folder and in the database")]
    Differs(&'static str),
}

/// A table, and how it is read page by page and written.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) page: &'static str,
    /// Said to PostgreSQL only.
    pub(crate) insert: &'static str,
    /// What stands before the first row's key.
    pub(crate) first: &'static [First],
    /// Where the key's columns stand.
    pub(crate) key: &'static [usize],
}

/// What is less than any value of a column.
#[derive(Clone, Copy)]
pub(crate) enum First {
    Text,
    Number,
}

type Values = Vec<Value<'static>>;

impl Table {
    fn begin(&self) -> Values {
        let first = |first: &First| match first {
            First::Text => Value::from(String::new()),
            First::Number => Value::Int(i64::MIN),
        };
        self.first.iter().map(first).collect()
    }

    fn page(&self, from: &mut dyn Statements, after: &Values) -> Result<Vec<Values>, SqlError> {
        Ok(from.rows(self.page, after)?.into_iter().map(|row| row.values()).collect())
    }

    fn key(&self, row: &Values) -> Values {
        self.key.iter().map(|at| row[*at].clone()).collect()
    }
}

/// How many rows there are, by table.
#[derive(Default)]
pub(crate) struct Counted(Vec<(&'static str, u64)>);

impl Counted {
    /// Of one table.
    pub(crate) fn of(&self, table: &str) -> u64 {
        let found = self.0.iter().find(|(name, _)| *name == table);
        debug_assert!(found.is_some(), "{table} was not counted");
        found.map_or(0, |(_, count)| *count)
    }
}

/// What of an area is brought over.
pub(crate) struct Copy {
    pub(crate) area: &'static Area,
    /// The file's name.
    pub(crate) file: &'static str,
    /// The name of this part of a move, see `store::postgres::import`.
    pub(crate) part: &'static str,
    pub(crate) tables: &'static [&'static [Table]],
    /// Tables of one row, which is there on both sides: how it is read, and set.
    pub(crate) single: &'static [(&'static str, &'static str)],
    /// What is said to PostgreSQL when the rows are there.
    pub(crate) then: &'static [&'static str],
}

impl Copy {
    /// Brings the rows of a folder's file to a database, unless they are there, and compares both. Answers
    /// how many there are, by table.
    pub(crate) fn run(
        &self,
        dir: &Path,
        config: tokio_postgres::Config,
        tls: MakeRustlsConnect,
    ) -> Result<Counted, CopyError> {
        let path = dir.join(self.file);
        // Brings an older file to where this build needs it.
        drop(sqlite::Connection::open(&path, self.area).map_err(|error| self.of_folder(error))?);
        let from = sqlite::Connection::open_reader(&path).map_err(|error| self.of_folder(error))?;
        let server = postgres::Server::new(self.area.words.name, config, tls);
        let server = server.map_err(|error| self.of_database(error.into()))?;
        let to = postgres::Connection::new(&Arc::new(server), self.area);
        let (mut from, mut to) = (Database::Sqlite(from), Database::Postgres(to));
        let written: Result<(), Written> = to.change(|to| self.write(&mut from, to));
        written.map_err(|error| match error {
            Written::From(error) => self.of_folder(error),
            Written::To(error) => self.of_database(error),
        })?;
        self.compare(&mut from, &mut to)
    }

    fn of_folder(&self, error: SqlError) -> CopyError {
        CopyError::From(self.file, error)
    }

    fn of_database(&self, error: SqlError) -> CopyError {
        CopyError::To(self.part, error)
    }

    fn write(&self, from: &mut Database, to: &mut dyn Statements) -> Result<(), Written> {
        let there = "SELECT count(*) FROM moved_parts WHERE part = $1";
        if to.number(there, &values![self.part])? > 0 {
            return Ok(());
        }
        for table in self.tables.iter().copied().flatten() {
            let mut after = table.begin();
            loop {
                let page = from.look(|from| table.page(from, &after)).map_err(Written::From)?;
                let Some(last) = page.last() else { break };
                after = table.key(last);
                to.execute_each(table.insert, &page)?;
            }
        }
        for (read, set) in self.single {
            let found = from.look(|from| from.rows(read, &[])).map_err(Written::From)?;
            if let Some(row) = found.into_iter().next() {
                to.execute(set, &row.values())?;
            }
        }
        for sql in self.then {
            to.say(sql)?;
        }
        to.execute("INSERT INTO moved_parts (part) VALUES ($1)", &values![self.part])?;
        Ok(())
    }

    fn compare(&self, from: &mut Database, to: &mut Database) -> Result<Counted, CopyError> {
        let mut counts = Counted::default();
        for table in self.tables.iter().copied().flatten() {
            let (mut after, mut count) = (table.begin(), 0);
            loop {
                let ours = from.look(|from| table.page(from, &after));
                let ours = ours.map_err(|error| self.of_folder(error))?;
                let theirs = to.look(|to| table.page(to, &after));
                if ours != theirs.map_err(|error| self.of_database(error))? {
                    return Err(CopyError::Differs(table.name));
                }
                let Some(last) = ours.last() else { break };
                after = table.key(last);
                count += ours.len() as u64;
            }
            counts.0.push((table.name, count));
        }
        Ok(counts)
    }
}

/// Whose fault it is that nothing was written.
enum Written {
    From(SqlError),
    To(SqlError),
}

impl From<SqlError> for Written {
    fn from(error: SqlError) -> Self {
        Self::To(error)
    }
}
