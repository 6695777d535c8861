//! All of what is kept, page by page, for who moves it elsewhere.

use protocol::{MessageId, TenantId, Time};
use rusqlite::{Connection, Row, ToSql, params, params_from_iter, types::Value};

use super::{
    Ledger, read,
    schema::{IdKey, tenant_of},
    write,
};
use crate::store::{
    StoreError,
    portable::{Cell, Cells},
    single::{export::cells, record::Lsn, shared::most},
};

/// A message's tenant and id.
pub(in super::super) type Named = (TenantId, MessageId);

impl Ledger {
    /// Whether a message waits whose time has come.
    pub(in super::super) async fn is_due(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        // One that is being sent right now waits until it is.
        let _deciding = self.schedule.lock().await;
        let due = self.query(move |db| read::due(db, now, 1, usize::MAX)).await?;
        Ok(!due.due.is_empty())
    }

    /// Writes everything that waits for the file.
    pub(in super::super) async fn settle(&self) -> Result<(), StoreError> {
        self.query(|_| Ok(())).await
    }
}

/// Up to which record the journal is applied.
pub(in super::super) fn applied_lsn(db: &Connection) -> rusqlite::Result<Lsn> {
    write::applied(db)
}

/// Messages after one of them, in the file's order.
pub(in super::super) fn sent_after(
    db: &Connection,
    after: Option<&Named>,
    limit: usize,
) -> rusqlite::Result<Vec<Named>> {
    // Numbers stand before texts and bytes.
    let (id, tenant): (Box<dyn ToSql>, &str) = match after {
        Some((tenant, id)) => (Box::new(IdKey::new(id)), tenant.as_str()),
        None => (Box::new(Value::Integer(0)), ""),
    };
    db.prepare_cached(
        "SELECT id, tenant FROM sent WHERE (id, tenant) > (?1, ?2) ORDER BY id, tenant LIMIT ?3",
    )?
    .query_map(params![id, tenant, most(limit)], |row| {
        Ok((tenant_of(row, 1)?, IdKey::read(row, 0)?.id()))
    })?
    .collect()
}

/// Messages that wait for their time, after a record, in the order in which they were accepted.
pub(in super::super) fn waiting_after(
    db: &Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, TenantId, MessageId)>> {
    let row = |row: &Row<'_>| Ok((row.get(0)?, tenant_of(row, 1)?, IdKey::read(row, 2)?.id()));
    db.prepare_cached("SELECT lsn, tenant, id FROM waiting WHERE lsn > ?1 ORDER BY lsn LIMIT ?2")?
        .query_map(params![after, most(limit)], row)?
        .collect()
}

/// Statistics from an hour on, after a row.
pub(in super::super) fn stats_after(
    db: &Connection,
    after: Option<Cells>,
    from: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Cells>> {
    let after = after.unwrap_or_else(|| {
        let first = std::iter::once(Cell::Int(from - 1));
        first.chain(std::iter::repeat_n(Cell::Text(String::new()), 5)).collect()
    });
    let values = after.into_iter().take(6).map(|cell| match cell {
        Cell::Null => Value::Null,
        Cell::Int(number) => Value::Integer(number),
        Cell::Text(text) => Value::Text(text),
        Cell::Bytes(bytes) => Value::Blob(bytes),
    });
    let most = Value::Integer(most(limit));
    db.prepare_cached(
        "SELECT hour, tenant, service, template, message_type, channel, sent, delivered, read, read_ms
         FROM stats WHERE (hour, tenant, service, template, message_type, channel)
             > (?1, ?2, ?3, ?4, ?5, ?6)
         ORDER BY hour, tenant, service, template, message_type, channel LIMIT ?7",
    )?
    .query_map(params_from_iter(values.chain([most])), cells)?
    .collect()
}

/// When the first and the last hour of statistics begin and end, from an hour on.
pub(in super::super) fn stats_span(
    db: &Connection,
    from: i64,
) -> rusqlite::Result<Option<(Time, Time)>> {
    db.query_row("SELECT min(hour), max(hour) FROM stats WHERE hour >= ?1", [from], |row| {
        let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        let begin = super::stats::hour_begin;
        Ok(first.zip(last).map(|(first, last)| (begin(first), begin(last + 1))))
    })
}
