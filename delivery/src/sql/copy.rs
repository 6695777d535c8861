//! An area's rows of a file, brought to the PostgreSQL of nodes, and out of either into a file: the tables are the
//! same.

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
    #[error("the database has control data already: rows of {0}; restore it into an empty one")]
    Used(&'static str),
}

/// A table, and how it is read page by page and written.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) page: &'static str,
    /// Said to PostgreSQL, and to files where they have no other.
    pub(crate) insert: &'static str,
    /// Said to files, where PostgreSQL numbers rows by itself and has to be told not to.
    pub(crate) insert_in_file: Option<&'static str>,
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

/// Where an area's rows are.
pub(crate) enum Home<'a> {
    /// In the files of this folder.
    Folder(&'a Path),
    /// In a database that nodes share.
    Database(Box<tokio_postgres::Config>, MakeRustlsConnect),
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
        let (mut from, mut to) = self.both(dir, config, tls)?;
        let written: Result<(), Written> = to.change(|to| self.write(&mut from, to));
        written.map_err(|error| self.told(error))?;
        self.compare(&mut from, &mut to)
    }

    /// A folder's file and a database.
    fn both(
        &self,
        dir: &Path,
        config: tokio_postgres::Config,
        tls: MakeRustlsConnect,
    ) -> Result<(Database, Database), CopyError> {
        let path = dir.join(self.file);
        // Brings an older file to where this build needs it.
        drop(sqlite::Connection::open(&path, self.area).map_err(|error| self.of_folder(error))?);
        let from = self.open(Home::Folder(dir)).map_err(|error| self.of_folder(error))?;
        let to = self.open(Home::Database(Box::new(config), tls));
        Ok((from, to.map_err(|error| self.of_database(error))?))
    }

    fn told(&self, error: Written) -> CopyError {
        match error {
            Written::From(error) => self.of_folder(error),
            Written::To(error) => self.of_database(error),
            Written::Used(table) => CopyError::Used(table),
        }
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
        from.look(|from| self.fill(from, to, |table| table.insert))?;
        for sql in self.then {
            to.say(sql)?;
        }
        to.execute("INSERT INTO moved_parts (part) VALUES ($1)", &values![self.part])?;
        Ok(())
    }

    /// All rows, and what there is one of.
    fn fill(
        &self,
        from: &mut dyn Statements,
        to: &mut dyn Statements,
        insert: fn(&Table) -> &'static str,
    ) -> Result<(), Written> {
        for table in self.tables.iter().copied().flatten() {
            let mut after = table.begin();
            loop {
                let page = table.page(from, &after).map_err(Written::From)?;
                let Some(last) = page.last() else { break };
                after = table.key(last);
                to.execute_each(insert(table), &page)?;
            }
        }
        for (read, set) in self.single {
            let found = from.rows(read, &[]).map_err(Written::From)?;
            if let Some(row) = found.into_iter().next() {
                to.execute(set, &row.values())?;
            }
        }
        Ok(())
    }

    /// Copies the rows, all as of one moment, into a new file of the area.
    pub(crate) fn out(&self, home: Home, to: &Path) -> Result<(), CopyError> {
        let mut from = self.open(home).map_err(|error| self.of_folder(error))?;
        let to = sqlite::Connection::open(to, self.area).map_err(|error| self.of_folder(error))?;
        let mut to = Database::Sqlite(to);
        let in_file = |table: &Table| table.insert_in_file.unwrap_or(table.insert);
        let written: Result<(), Written> =
            from.look(|from| to.change(|to| self.fill(from, to, in_file)));
        written.map_err(|error| self.told(error))
    }

    fn open(&self, home: Home) -> Result<Database, SqlError> {
        Ok(match home {
            Home::Folder(dir) => {
                Database::Sqlite(sqlite::Connection::open_reader(&dir.join(self.file))?)
            }
            Home::Database(config, tls) => {
                let server = postgres::Server::new(self.area.words.name, *config, tls)?;
                Database::Postgres(postgres::Connection::new(&Arc::new(server), self.area))
            }
        })
    }

    /// Brings the rows of such a file to a database that has none of them.
    pub(crate) fn fill_empty(
        &self,
        dir: &Path,
        config: tokio_postgres::Config,
        tls: MakeRustlsConnect,
    ) -> Result<(), CopyError> {
        let (mut from, mut to) = self.both(dir, config, tls)?;
        let written: Result<(), Written> = to.change(|to| {
            for table in self.tables.iter().copied().flatten() {
                if !table.page(to, &table.begin())?.is_empty() {
                    return Err(Written::Used(table.name));
                }
            }
            from.look(|from| self.fill(from, to, |table| table.insert))?;
            Ok(self.then.iter().try_for_each(|sql| to.say(sql))?)
        });
        written.map_err(|error| self.told(error))
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
    /// Rows of a table are there that should have none.
    Used(&'static str),
}

impl From<SqlError> for Written {
    fn from(error: SqlError) -> Self {
        Self::To(error)
    }
}
