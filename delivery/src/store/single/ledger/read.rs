//! What is read from `ledger.db`.

use std::sync::Arc;

use protocol::{Body, MessageFields, MessageId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::{
    super::record::{Lsn, MessageRecord, Record},
    schema::{IdKey, invalid, sender_of, sender_text, state_from, tenant_of},
};
use crate::store::{SenderKey, SentMessage, StoredAnswer};

/// A message that was accepted, with what its sender is not shown.
#[derive(Clone)]
pub(in super::super) struct SentRow {
    /// Its record.
    pub(in super::super) lsn: Lsn,
    pub(in super::super) message: SentMessage,
    /// What it says, where it was edited after it was sent.
    pub(in super::super) edited: Option<Arc<Body>>,
}

pub(in super::super) fn sent(
    db: &Connection,
    tenant: &TenantId,
    id: &MessageId,
) -> rusqlite::Result<Option<SentRow>> {
    db.prepare_cached(
        "SELECT lsn, state, accepted_at, scheduled_at, sent_at, sender, audience, body
         FROM sent WHERE id = ?1 AND tenant = ?2",
    )?
    .query_row(params![IdKey::new(id), tenant.as_str()], |row| {
        let edited = match row.get_ref(7)?.as_str_or_null()? {
            Some(json) => {
                let fields: MessageFields =
                    serde_json::from_str(json).map_err(|error| invalid(7, Type::Text, error))?;
                Some(Arc::new(Body::new(&fields)))
            }
            None => None,
        };
        Ok(SentRow {
            lsn: row.get::<_, i64>(0)?.cast_unsigned(),
            message: SentMessage {
                id: id.clone(),
                sender: sender_of(row, 5)?,
                audience: rmp_serde::from_slice(row.get_ref(6)?.as_blob()?)
                    .map_err(|error| invalid(6, Type::Blob, error))?,
                state: state_from(row.get(1)?),
                accepted_at: Time::from_millis(row.get(2)?),
                scheduled_at: row.get::<_, Option<i64>>(3)?.map(Time::from_millis),
                sent_at: row.get::<_, Option<i64>>(4)?.map(Time::from_millis),
            },
            edited,
        })
    })
    .optional()
}

/// A message that waits for its time.
pub(in super::super) fn waiting(
    db: &Connection,
    tenant: &TenantId,
    id: &MessageId,
) -> rusqlite::Result<Option<Arc<MessageRecord>>> {
    let found = db
        .prepare_cached("SELECT lsn, record FROM waiting WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![IdKey::new(id), tenant.as_str()], |row| waiting_record(row, 0))
        .optional()?;
    found.transpose()
}

/// Reads `lsn, record`. A record that cannot be read is an error of its own.
fn waiting_record(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<rusqlite::Result<Arc<MessageRecord>>> {
    let lsn = row.get::<_, i64>(at)?.cast_unsigned();
    Ok(match Record::decode(lsn, row.get_ref(at + 1)?.as_blob()?) {
        Ok(Record::Scheduled(record)) => Ok(record),
        Ok(_) => Err(rusqlite::Error::InvalidColumnType(at + 1, "record".to_owned(), Type::Blob)),
        Err(error) => Err(invalid(at + 1, Type::Blob, error)),
    })
}

/// A message whose time has come.
pub(super) enum Due {
    Message(Arc<MessageRecord>),
    /// Its record cannot be read.
    Damaged {
        tenant: TenantId,
        id: MessageId,
        error: rusqlite::Error,
    },
}

/// Some of those whose time has come, in order.
pub(super) struct DuePage {
    pub(super) due: Vec<Due>,
    /// When the next one is due that is not among them.
    pub(super) next: Option<Time>,
}

/// At most so many messages, and about so many bytes of them, that are due.
pub(super) fn due(
    db: &Connection,
    now: Time,
    limit: usize,
    bytes_max: usize,
) -> rusqlite::Result<DuePage> {
    let mut page = DuePage { due: Vec::new(), next: None };
    let mut select = db.prepare_cached(
        "SELECT due_at, lsn, record, tenant, id FROM waiting ORDER BY due_at, priority DESC, lsn",
    )?;
    let mut rows = select.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let due_at = Time::from_millis(row.get(0)?);
        if due_at > now || page.due.len() >= limit || bytes >= bytes_max {
            page.next = Some(due_at);
            break;
        }
        bytes += row.get_ref(2)?.as_blob()?.len();
        page.due.push(match waiting_record(row, 1)? {
            Ok(record) => Due::Message(record),
            Err(error) => {
                Due::Damaged { tenant: tenant_of(row, 3)?, id: IdKey::read(row, 4)?.id(), error }
            }
        });
    }
    Ok(page)
}

/// The answer to a key that was stored after a moment.
pub(super) fn answer(
    db: &Connection,
    tenant: &TenantId,
    sender: &SenderKey,
    key: &str,
    after: Time,
) -> rusqlite::Result<Option<StoredAnswer>> {
    db.prepare_cached(
        "SELECT fingerprint, data, at FROM answers
         WHERE key = ?1 AND sender = ?2 AND tenant = ?3 AND at > ?4",
    )?
    .query_row(params![key, sender_text(sender), tenant.as_str(), after.millis()], |row| {
        Ok(StoredAnswer {
            tenant: tenant.clone(),
            sender: sender.clone(),
            key: key.to_owned(),
            fingerprint: row.get(0)?,
            data: row.get(1)?,
            at: Time::from_millis(row.get(2)?),
        })
    })
    .optional()
}
