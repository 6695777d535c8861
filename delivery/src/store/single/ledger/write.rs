//! What is written to `ledger.db`.

use protocol::{MessageId, TenantId, Time};
use rusqlite::{CachedStatement, Connection, params};

use super::{
    super::record::{Lsn, MessageRecord, Record, RewriteRecord},
    queue::{Item, Queued},
    schema::{IdKey, sender_text, state_code},
};
use crate::store::{SentState, StoredAnswer};

/// Up to which record the journal has been applied.
pub(super) fn applied(db: &Connection) -> rusqlite::Result<Lsn> {
    db.query_row("SELECT applied_lsn FROM ledger", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// How many messages wait for their time.
pub(super) fn count_waiting(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT count(*) FROM waiting", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// Writes items in order and how far the ledger is with them; what it has already is passed over.
/// Answers by how many more messages wait for their time now.
pub(super) fn apply<'a>(
    db: &Connection,
    items: impl Iterator<Item = &'a Queued>,
) -> rusqlite::Result<i64> {
    let before = applied(db)?;
    let mut last = before;
    let mut waiting = 0;
    let mut audience = Vec::new();
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO sent (id, tenant, lsn, state, accepted_at, sent_at, sender, audience)
         VALUES (?1, ?2, ?3, 1, ?4, ?4, ?5, ?6)",
    )?;
    for Queued { lsn, item, .. } in items {
        if *lsn <= before {
            continue;
        }
        last = *lsn;
        match item {
            Item::Sent(record) if record.scheduled_at.is_none() => {
                sent_at_once(&mut insert, *lsn, record, &mut audience)?;
            }
            Item::Sent(record) => waiting -= sent_in_time(db, *lsn, record)?,
            Item::Rewritten(record) => rewritten(db, record)?,
            Item::Scheduled(record) => waiting += scheduled(db, *lsn, record)?,
            Item::Cancelled { tenant, id } => waiting -= cancelled(db, tenant, id)?,
            Item::Answered(answer) => answered(db, *lsn, answer)?,
        }
    }
    if last > before {
        db.prepare_cached("UPDATE ledger SET applied_lsn = ?1")?.execute([last.cast_signed()])?;
    }
    Ok(waiting)
}

fn encode(record: &MessageRecord, into: &mut Vec<u8>) {
    into.clear();
    rmp_serde::encode::write(into, &*record.audience).expect("ids have no failing Serialize");
}

/// The hot one: what a plain send costs here.
fn sent_at_once(
    insert: &mut CachedStatement<'_>,
    lsn: Lsn,
    record: &MessageRecord,
    audience: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    encode(record, audience);
    insert.execute(params![
        IdKey::new(record.body.id()),
        record.tenant.as_str(),
        lsn.cast_signed(),
        record.at.millis(),
        sender_text(&record.sender),
        audience.as_slice(),
    ])?;
    Ok(())
}

/// A message whose time came. How many waiting ones it was.
fn sent_in_time(db: &Connection, lsn: Lsn, record: &MessageRecord) -> rusqlite::Result<i64> {
    insert(db, lsn, record, SentState::Sent, Some(record.at))?;
    no_more_waiting(db, &record.tenant, record.body.id())
}

/// A message that waits from now on, or says something else.
fn scheduled(db: &Connection, lsn: Lsn, record: &MessageRecord) -> rusqlite::Result<i64> {
    insert(db, lsn, record, SentState::Scheduled, None)?;
    let id = IdKey::new(record.body.id());
    let due_at = record.scheduled_at.unwrap_or(record.at).millis();
    let priority = record.body.facts().priority;
    let bytes = Record::Scheduled(std::sync::Arc::new(record.clone())).encode();
    let changed = db
        .prepare_cached(
            "UPDATE waiting SET due_at = ?3, priority = ?4, record = ?5
             WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![id, record.tenant.as_str(), due_at, priority, bytes])?;
    if changed > 0 {
        return Ok(0);
    }
    db.prepare_cached(
        "INSERT INTO waiting (lsn, id, tenant, due_at, priority, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        lsn.cast_signed(),
        id,
        record.tenant.as_str(),
        due_at,
        priority,
        bytes
    ])?;
    Ok(1)
}

/// The row of a message that is, or was, scheduled. Who receives it may have changed: somebody may have been
/// forgotten.
fn insert(
    db: &Connection,
    lsn: Lsn,
    record: &MessageRecord,
    state: SentState,
    sent_at: Option<Time>,
) -> rusqlite::Result<()> {
    let mut audience = Vec::new();
    encode(record, &mut audience);
    db.prepare_cached(
        "INSERT INTO sent
         (id, tenant, lsn, state, accepted_at, scheduled_at, sent_at, sender, audience)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id, tenant) DO UPDATE SET
           lsn = iif(excluded.state = 0, lsn, excluded.lsn), state = excluded.state,
           sent_at = excluded.sent_at, audience = excluded.audience",
    )?
    .execute(params![
        IdKey::new(record.body.id()),
        record.tenant.as_str(),
        lsn.cast_signed(),
        state_code(state),
        record.at.millis(),
        record.scheduled_at.map(Time::millis),
        sent_at.map(Time::millis),
        sender_text(&record.sender),
        audience,
    ])?;
    Ok(())
}

fn cancelled(db: &Connection, tenant: &TenantId, id: &MessageId) -> rusqlite::Result<i64> {
    db.prepare_cached("UPDATE sent SET state = 2 WHERE id = ?1 AND tenant = ?2 AND state = 0")?
        .execute(params![IdKey::new(id), tenant.as_str()])?;
    no_more_waiting(db, tenant, id)
}

fn no_more_waiting(db: &Connection, tenant: &TenantId, id: &MessageId) -> rusqlite::Result<i64> {
    let gone = db
        .prepare_cached("DELETE FROM waiting WHERE id = ?1 AND tenant = ?2")?
        .execute(params![IdKey::new(id), tenant.as_str()])?;
    Ok(gone.cast_signed() as i64)
}

fn rewritten(db: &Connection, record: &RewriteRecord) -> rusqlite::Result<()> {
    let json = record.body.as_ref().map(|body| body.json());
    let state = if json.is_some() { SentState::Sent } else { SentState::Recalled };
    db.prepare_cached(
        "UPDATE sent SET state = ?1, body = ?2
         WHERE id = ?3 AND tenant = ?4 AND lsn = ?5 AND state = 1",
    )?
    .execute(params![
        state_code(state),
        json.as_deref().map(|json| std::str::from_utf8(json).expect("a body is JSON")),
        IdKey::new(&record.id),
        record.tenant.as_str(),
        record.target.cast_signed(),
    ])?;
    Ok(())
}

fn answered(db: &Connection, lsn: Lsn, answer: &StoredAnswer) -> rusqlite::Result<()> {
    // One of the same key is older than an answer is kept, or its request would have got it.
    db.prepare_cached(
        "INSERT OR REPLACE INTO answers (lsn, tenant, sender, key, fingerprint, data, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        lsn.cast_signed(),
        answer.tenant.as_str(),
        sender_text(&answer.sender),
        answer.key,
        answer.fingerprint.as_slice(),
        answer.data,
        answer.at.millis(),
    ])?;
    Ok(())
}
