//! Takes users who are forgotten out of `ledger.db`, in steps so small that nobody waits long for one.
//!
//! Senders and recipients have no index, which every send would pay for: all rows are walked over, once for
//! all users who are being forgotten at the time. What came after a user was forgotten stays.

use std::{sync::Arc, time::Instant};

use protocol::{Seq, TenantId};
use rusqlite::{Connection, params, types::Type, types::Value};

use super::{
    Ledger,
    file::LedgerFile,
    read,
    schema::{IdKey, invalid, sender_of, state_code, tenant_of},
};
use crate::{
    InboxKey,
    store::{
        Audience, SentState, StoreError,
        single::{
            forget::{Left, Targets, rest},
            record::{MessageRecord, Record},
        },
    },
};

/// Rows of a table looked at in one step: some 2 ms.
const STEP_ROWS: usize = 1_000;

/// Bytes of audiences and records looked at in one step, about: 30,000 recipients.
const STEP_BYTES: usize = 512 << 10;

/// Where a walk goes on.
enum Place {
    /// Messages that wait, after a record.
    Waiting(i64),
    /// Messages that were accepted, after a key.
    Sent(Option<(IdKey, String)>),
    /// Answers, after a record.
    Answers(i64),
    End,
}

impl Ledger {
    /// Forgets users: what they have sent, answers to them, and their names where others received too.
    pub(in super::super) async fn forget(
        &self,
        users: &Arc<Targets>,
        stopped: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        let mut place = Place::Waiting(i64::MIN);
        while !matches!(place, Place::End) {
            if stopped() {
                return Err(StoreError::Closing);
            }
            // What waits is not edited, cancelled or sent between being looked at and being changed.
            let deciding = match place {
                Place::Waiting(_) => Some(self.schedule.lock().await),
                _ => None,
            };
            let began = Instant::now();
            let (of, from) = (Arc::clone(users), place);
            let receive =
                self.put(move |file: &mut LedgerFile| file.change(|db| step(db, &of, from)))?;
            place = receive.await.unwrap_or(Err(StoreError::Closing))?;
            drop(deciding);
            rest(began).await;
        }
        // Whoever has looked at a row before may still be storing a change of its message.
        for lock in &self.changing {
            drop(lock.lock().await);
        }
        Ok(())
    }

    /// Forgets the statistics of a tenant. There are as many rows as hours and combinations, so few that one step does.
    pub(in super::super) async fn forget_stats(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        let receive = self.put(move |file: &mut LedgerFile| {
            file.change(|db| {
                db.execute("DELETE FROM stats WHERE tenant = ?1", [tenant.as_str()])?;
                Ok(((), 0))
            })
        })?;
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// Overwrites what a piece of the file does not use, from a place on; answers where the next one begins.
    pub(in super::super) async fn overwrite(&self, from: u64) -> Result<Option<u64>, StoreError> {
        let receive = self.put(move |file| file.overwrite(from))?;
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// Forgets which messages of an inbox were made unread again.
    pub(in super::super) fn forget_places(&self, key: &InboxKey, head: Seq) {
        if self.stats.forget(key, head) && self.queue.lock().begin() {
            self.wake.notify_one();
        }
    }
}

/// One step. Answers where the next one begins, and by how many more messages wait now.
fn step(db: &Connection, users: &Targets, from: Place) -> rusqlite::Result<(Place, i64)> {
    match from {
        Place::Waiting(after) => waiting(db, users, after),
        Place::Sent(after) => Ok((sent(db, users, after)?, 0)),
        Place::Answers(after) => Ok((answers(db, users, after)?, 0)),
        Place::End => Ok((Place::End, 0)),
    }
}

fn waiting(db: &Connection, users: &Targets, after: i64) -> rusqlite::Result<(Place, i64)> {
    let mut select = db.prepare_cached(
        "SELECT lsn, record, tenant, id FROM waiting WHERE lsn > ?1 ORDER BY lsn",
    )?;
    let mut rows = select.query([after])?;
    let (mut changes, mut looked, mut bytes, mut last) = (Vec::new(), 0, 0, after);
    let mut more = false;
    while let Some(row) = rows.next()? {
        if looked >= STEP_ROWS || bytes >= STEP_BYTES {
            more = true;
            break;
        }
        last = row.get(0)?;
        looked += 1;
        bytes += row.get_ref(1)?.as_blob()?.len();
        // One that cannot be read is cancelled when its time comes.
        let Ok(record) = read::waiting_record(row, 0)? else { continue };
        let left =
            users.left(&record.tenant, &record.sender, &record.audience, last.cast_unsigned());
        if !matches!(left, Left::All) {
            changes.push((last, IdKey::read(row, 3)?, record, left));
        }
    }
    drop(rows);
    let mut gone = 0;
    for (lsn, id, record, left) in changes {
        let tenant = record.tenant.as_str();
        if let Left::Some(audience) = left {
            set_audience(db, (&id, tenant), &audience)?;
            let record = MessageRecord { audience: Arc::new(audience), ..(*record).clone() };
            let bytes = Record::Scheduled(Arc::new(record)).encode();
            db.prepare_cached("UPDATE waiting SET record = ?2 WHERE lsn = ?1")?
                .execute(params![lsn, bytes])?;
        } else {
            db.prepare_cached("DELETE FROM waiting WHERE lsn = ?1")?.execute([lsn])?;
            delete(db, (&id, tenant))?;
            gone += 1;
        }
    }
    Ok((if more { Place::Waiting(last) } else { Place::Sent(None) }, -gone))
}

fn sent(
    db: &Connection,
    users: &Targets,
    after: Option<(IdKey, String)>,
) -> rusqlite::Result<Place> {
    // Numbers stand before texts and bytes.
    let (id, tenant): (Box<dyn rusqlite::ToSql>, _) = match after {
        Some((id, tenant)) => (Box::new(id), tenant),
        None => (Box::new(Value::Integer(0)), String::new()),
    };
    let mut select = db.prepare_cached(
        "SELECT id, tenant, lsn, state, sender, audience FROM sent
         WHERE (id, tenant) > (?1, ?2) ORDER BY id, tenant",
    )?;
    let mut rows = select.query(params![id, tenant])?;
    let (mut changes, mut looked, mut bytes, mut last) = (Vec::new(), 0, 0, None);
    let mut more = false;
    while let Some(row) = rows.next()? {
        if looked >= STEP_ROWS || bytes >= STEP_BYTES {
            more = true;
            break;
        }
        looked += 1;
        let key: (IdKey, String) = (IdKey::read(row, 0)?, row.get(1)?);
        let tenant = tenant_of(row, 1)?;
        let blob = row.get_ref(5)?.as_blob()?;
        bytes += blob.len();
        // Those that wait were looked at before; and there is nobody in most tenants.
        let waits = row.get::<_, i64>(3)? == state_code(SentState::Scheduled);
        if !waits && users.any_of(&tenant) {
            let audience: Audience =
                rmp_serde::from_slice(blob).map_err(|error| invalid(5, Type::Blob, error))?;
            let lsn = row.get::<_, i64>(2)?.cast_unsigned();
            let left = users.left(&tenant, &sender_of(row, 4)?, &audience, lsn);
            if !matches!(left, Left::All) {
                changes.push((key.clone(), left));
            }
        }
        last = Some(key);
    }
    drop(rows);
    for ((id, tenant), left) in &changes {
        match left {
            Left::Some(audience) => set_audience(db, (id, tenant), audience)?,
            Left::All | Left::Nothing => delete(db, (id, tenant))?,
        }
    }
    Ok(if more { Place::Sent(last) } else { Place::Answers(i64::MIN) })
}

fn answers(db: &Connection, users: &Targets, after: i64) -> rusqlite::Result<Place> {
    let mut select = db.prepare_cached(
        "SELECT lsn, tenant, sender FROM answers WHERE lsn > ?1 ORDER BY lsn LIMIT ?2",
    )?;
    let rows = STEP_ROWS.cast_signed() as i64;
    let looked: Vec<(i64, bool)> = select
        .query_map(params![after, rows], |row| {
            let lsn: i64 = row.get(0)?;
            let (tenant, sender) = (tenant_of(row, 1)?, sender_of(row, 2)?);
            Ok((lsn, users.has_sent(&tenant, &sender, lsn.cast_unsigned())))
        })?
        .collect::<Result<_, _>>()?;
    for (lsn, _) in looked.iter().filter(|(_, gone)| *gone) {
        db.prepare_cached("DELETE FROM answers WHERE lsn = ?1")?.execute([lsn])?;
    }
    Ok(match looked.last() {
        Some((last, _)) if looked.len() >= STEP_ROWS => Place::Answers(*last),
        _ => Place::End,
    })
}

fn set_audience(
    db: &Connection,
    (id, tenant): (&IdKey, &str),
    audience: &Audience,
) -> rusqlite::Result<()> {
    let bytes = rmp_serde::to_vec(audience).expect("ids have no failing Serialize");
    db.prepare_cached("UPDATE sent SET audience = ?3 WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id, tenant, bytes])
        .map(drop)
}

fn delete(db: &Connection, (id, tenant): (&IdKey, &str)) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM sent WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id, tenant])
        .map(drop)
}
