//! Entries in the database.

use protocol::{TenantId, Time};

use super::{
    chain::{FIRST, Hash, hash},
    entry::{Actor, Entry, NewEntry},
};
use crate::{
    control::ControlError,
    sql::{
        Database, Row, SqlError, Statements,
        copy::{First, Table},
        values,
    },
};

/// For a folder that moves.
pub(crate) static TABLES: [Table; 1] = [Table {
    name: "audit_entry",
    page: "SELECT seq, id, at, tenant_id, actor_kind, actor_id, actor_name, address, request_id, action, \
           target, status, detail, hash FROM audit_entry WHERE seq > $1 ORDER BY seq LIMIT 500",
    insert: "INSERT INTO audit_entry (seq, id, at, tenant_id, actor_kind, actor_id, actor_name, address, \
             request_id, action, target, status, detail, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    insert_in_file: None,
    first: &[First::Number],
    key: &[0],
}];

/// Which entries are meant; what is none is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant, and of no other.
    pub tenant: Option<TenantId>,
    /// By whoever is called so, or has this id.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To this, and what is below it.
    pub target: Option<String>,
    /// Done at this moment or later.
    pub since: Option<Time>,
    /// Done before this moment.
    pub until: Option<Time>,
}

/// The latest entry's place and hash.
fn head(database: &mut dyn Statements) -> Result<(u64, Hash), SqlError> {
    let sql = "SELECT seq, hash FROM audit_entry ORDER BY seq DESC LIMIT 1";
    match database.row(sql, &[])? {
        Some(mut row) => Ok((row.count()?, Hash(row.hash()?))),
        None => Ok((0, FIRST)),
    }
}

/// Appends entries, but for those that are there already: an answer of the database may be lost.
pub(super) fn append(
    database: &mut dyn Statements,
    entries: &[NewEntry],
) -> Result<Vec<Entry>, ControlError> {
    let (mut seq, mut previous) = head(database)?;
    let mut written = Vec::with_capacity(entries.len());
    for entry in entries {
        let there = "SELECT count(*) FROM audit_entry WHERE id = $1";
        if database.number(there, &values![&entry.id])? > 0 {
            continue;
        }
        seq += 1;
        previous = hash(previous, &entry.row(seq));
        database.execute(
            TABLES[0].insert,
            &values![
                seq,
                &entry.id,
                entry.at,
                entry.tenant.as_ref().map(TenantId::as_str),
                entry.actor.kind.as_str(),
                &entry.actor.id,
                &entry.actor.name,
                &entry.address,
                &entry.request_id,
                &entry.action,
                &entry.target,
                i64::from(entry.status),
                entry.detail.as_deref(),
                &previous.0,
            ],
        )?;
        written.push(entry.entry(seq, previous));
    }
    Ok(written)
}

/// Reads an entry as it was written, and the hash that stands beside it.
pub(super) fn read(mut row: Row) -> Result<(u64, NewEntry, Hash), SqlError> {
    let seq = row.count()?;
    let id = row.text()?;
    let at = row.time()?;
    let tenant = row.maybe_word()?;
    let actor = Actor { kind: row.word()?, id: row.text()?, name: row.text()? };
    let entry = NewEntry {
        id,
        at,
        tenant,
        actor,
        address: row.text()?,
        request_id: row.text()?,
        action: row.text()?,
        target: row.text()?,
        status: u16::try_from(row.int()?).unwrap_or(u16::MAX),
        detail: row.maybe_text()?,
    };
    Ok((seq, entry, Hash(row.hash()?)))
}

pub(super) fn list(
    database: &mut Database,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Entry>, ControlError> {
    let sql = "SELECT seq, id, at, tenant_id, actor_kind, actor_id, actor_name, address, request_id, \
               action, target, status, detail, hash FROM audit_entry \
               WHERE seq < $1 AND ($2 = '' OR tenant_id = $2) \
               AND ($3 = '' OR actor_id = $3 OR actor_name = $3) AND ($4 = '' OR action = $4) \
               AND ($5 = '' OR target = $5 OR substr(target, 1, length($5) + 1) = $5 || '/') \
               AND at >= $6 AND at < $7 ORDER BY seq DESC LIMIT $8";
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = database.glance(
        sql,
        &values![
            before.unwrap_or(u64::MAX),
            filter.tenant.as_ref().map_or("", TenantId::as_str),
            text(&filter.actor),
            text(&filter.action),
            text(&filter.target),
            filter.since.map_or(i64::MIN, Time::millis),
            filter.until.map_or(i64::MAX, Time::millis),
            limit,
        ],
    )?;
    let entries = rows.into_iter().map(|row| {
        let (seq, entry, hash) = read(row)?;
        Ok(entry.entry(seq, hash))
    });
    entries.collect()
}
