//! Control data of a folder, brought to the PostgreSQL of nodes: the tables are the same.

use std::{path::Path, sync::Arc};

use super::{
    ControlError,
    sql::{Database, Statements, Value, postgres, sqlite, values},
};

/// The name of this part of a move, see `store::postgres::import`.
const PART: &str = "control";

/// How much of it there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlCounts {
    /// Services.
    pub services: u64,
    /// Their keys.
    pub keys: u64,
    /// Tenants with quotas.
    pub quotas: u64,
    /// Templates.
    pub templates: u64,
    /// Their versions.
    pub versions: u64,
}

/// Control data was not brought over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("the folder's control.db")]
    From(#[source] ControlError),
    #[error("control data in the database")]
    To(#[source] ControlError),
    #[error("rows of {0} are not the same in the folder and in the database")]
    Differs(&'static str),
}

/// A table, and how it is read page by page and written.
struct Table {
    name: &'static str,
    page: &'static str,
    insert: &'static str,
    /// What stands before the first row's key.
    first: &'static [First],
    /// Where the key's columns stand.
    key: &'static [usize],
}

/// What is less than any value of a column.
#[derive(Clone, Copy)]
enum First {
    Text,
    Number,
}

const TABLES: [Table; 6] = [
    Table {
        name: "control_service",
        page: "SELECT id, name, type, level, permissions, scope, rate_limit, owner, status, tenant_id, \
               created_at FROM control_service WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_service (id, name, type, level, permissions, scope, rate_limit, \
                 owner, status, tenant_id, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_api_key",
        page: "SELECT id, service_id, secret_hash, created_at, expires_at, last_used_at \
               FROM control_api_key WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_api_key (id, service_id, secret_hash, created_at, expires_at, \
                 last_used_at) VALUES ($1, $2, $3, $4, $5, $6)",
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_tenant",
        page: "SELECT id, quotas, updated_at FROM control_tenant WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_tenant (id, quotas, updated_at) VALUES ($1, $2, $3)",
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_template",
        page: "SELECT tenant_id, id, version, creator_kind, creator, bytes, deleted_at, changed \
               FROM control_template WHERE (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT 500",
        insert: "INSERT INTO control_template (tenant_id, id, version, creator_kind, creator, bytes, \
                 deleted_at, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
    Table {
        name: "control_template_version",
        // A document may have a mebibyte.
        page: "SELECT tenant_id, id, version, document, saved_by FROM control_template_version \
               WHERE (tenant_id, id, version) > ($1, $2, $3) ORDER BY tenant_id, id, version LIMIT 50",
        insert: "INSERT INTO control_template_version (tenant_id, id, version, document, saved_by) \
                 VALUES ($1, $2, $3, $4, $5)",
        first: &[First::Text, First::Text, First::Number],
        key: &[0, 1, 2],
    },
    Table {
        name: "control_tenant_usage",
        page: "SELECT day, tenant_id, node, messages, recipients FROM control_tenant_usage \
               WHERE (day, tenant_id, node) > ($1, $2, $3) ORDER BY day, tenant_id, node LIMIT 500",
        insert: "INSERT INTO control_tenant_usage (day, tenant_id, node, messages, recipients) \
                 VALUES ($1, $2, $3, $4, $5)",
        first: &[First::Number, First::Text, First::Text],
        key: &[0, 1, 2],
    },
];

type Values = Vec<Value<'static>>;

impl Table {
    fn begin(&self) -> Values {
        let first = |first: &First| match first {
            First::Text => Value::from(String::new()),
            First::Number => Value::Int(i64::MIN),
        };
        self.first.iter().map(first).collect()
    }

    fn page(&self, from: &mut dyn Statements, after: &Values) -> Result<Vec<Values>, ControlError> {
        Ok(from.rows(self.page, after)?.into_iter().map(|row| row.values()).collect())
    }

    fn key(&self, row: &Values) -> Values {
        self.key.iter().map(|at| row[*at].clone()).collect()
    }
}

/// Brings control data of a folder to a database, unless it is there, and compares both.
pub(crate) fn copy<T>(
    dir: &Path,
    config: tokio_postgres::Config,
    tls: T,
) -> Result<ControlCounts, CopyError>
where
    T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as tokio_postgres::tls::TlsConnect<tokio_postgres::Socket>>::Future: Send,
{
    // Brings an older file to where this build needs it.
    drop(sqlite::Connection::open(dir).map_err(CopyError::From)?);
    let from = sqlite::Connection::open_reader(dir).map_err(CopyError::From)?;
    let server = postgres::Server::new(config, tls).map_err(|e| CopyError::To(e.into()))?;
    let to = postgres::Connection::new(&Arc::new(server));
    let (mut from, mut to) = (Database::Sqlite(from), Database::Postgres(to));
    to.change(|to| write(&mut from, to))?;
    compare(&mut from, &mut to)
}

impl From<ControlError> for CopyError {
    fn from(error: ControlError) -> Self {
        Self::To(error)
    }
}

fn write(from: &mut Database, to: &mut dyn Statements) -> Result<(), CopyError> {
    let there = "SELECT count(*) FROM moved_parts WHERE part = $1";
    if to.number(there, &values![PART])? > 0 {
        return Ok(());
    }
    for table in &TABLES {
        let mut after = table.begin();
        loop {
            let page = from.look(|from| table.page(from, &after)).map_err(CopyError::From)?;
            let Some(last) = page.last() else { break };
            after = table.key(last);
            to.execute_each(table.insert, &page)?;
        }
    }
    // Templates name the revision of their last change.
    let sql = "SELECT n, forgotten FROM control_template_revision";
    let found = from.look(|from| from.rows(sql, &[])).map_err(CopyError::From)?;
    if let Some(row) = found.into_iter().next() {
        let sql = "UPDATE control_template_revision SET n = $1, forgotten = $2";
        to.execute(sql, &row.values())?;
    }
    to.execute("INSERT INTO moved_parts (part) VALUES ($1)", &values![PART])?;
    Ok(())
}

fn compare(from: &mut Database, to: &mut Database) -> Result<ControlCounts, CopyError> {
    let mut counts = [0; TABLES.len()];
    for (table, count) in TABLES.iter().zip(&mut counts) {
        let mut after = table.begin();
        loop {
            let ours = from.look(|from| table.page(from, &after)).map_err(CopyError::From)?;
            let theirs = to.look(|to| table.page(to, &after)).map_err(CopyError::To)?;
            if ours != theirs {
                return Err(CopyError::Differs(table.name));
            }
            let Some(last) = ours.last() else { break };
            after = table.key(last);
            *count += ours.len() as u64;
        }
    }
    let [services, keys, quotas, templates, versions, _] = counts;
    Ok(ControlCounts { services, keys, quotas, templates, versions })
}
