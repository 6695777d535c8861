//! What is read from `ledger.db`.

use std::sync::Arc;

use protocol::{Body, MessageFields, MessageId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::{
    super::record::{Lsn, MessageRecord, Record},
    schema::{IdKey, invalid, sender_of, sender_text, state_from, tenant_of},
};
use crate::store::{
    SenderKey, SentMessage, SentPage, SentState, StoredAnswer, WaitingMessage, WaitingPage,
    WaitingPosition, limits::SENT_LOOK_MAX,
};

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
                Some(Arc::new(Body::from_stored(id.clone(), fields.expire_at, json.as_bytes())))
            }
            None => None,
        };
        Ok(SentRow {
            lsn: row.get::<_, i64>(0)?.cast_unsigned(),
            message: message_of(row, 1, id.clone())?,
            edited,
        })
    })
    .optional()
}

/// Reads `state, accepted_at, scheduled_at, sent_at, sender, audience`.
fn message_of(row: &Row<'_>, at: usize, id: MessageId) -> rusqlite::Result<SentMessage> {
    let time = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Time::from_millis));
    Ok(SentMessage {
        id,
        sender: sender_of(row, at + 4)?,
        audience: rmp_serde::from_slice(row.get_ref(at + 5)?.as_blob()?)
            .map_err(|error| invalid(at + 5, Type::Blob, error))?,
        state: state_from(row.get(at)?),
        accepted_at: Time::from_millis(row.get(at + 1)?),
        scheduled_at: time(at + 2)?,
        sent_at: time(at + 3)?,
    })
}

/// What a sender has sent, after an id: in the order of the keys.
pub(super) fn sent_by(
    db: &Connection,
    (tenant, sender): (&TenantId, &SenderKey),
    after: Option<&MessageId>,
    limit: usize,
) -> rusqlite::Result<SentPage> {
    let mut select = db.prepare_cached(
        "SELECT id, tenant, state, accepted_at, scheduled_at, sent_at, sender, audience
         FROM sent WHERE id > ?1 ORDER BY id",
    )?;
    let mut rows = match after {
        Some(id) => select.query([IdKey::new(id)])?,
        // Before every text, and before every blob.
        None => select.query([""])?,
    };
    let sender = sender_text(sender);
    let (mut page, mut looked) = (SentPage::default(), 0);
    let mut last: Option<IdKey> = None;
    while let Some(row) = rows.next()? {
        let key = IdKey::read(row, 0)?;
        let full = looked >= SENT_LOOK_MAX || page.messages.len() >= limit;
        // Of tenants with the same id the next page would see none.
        if full && last.as_ref() != Some(&key) {
            page.next = last.map(|last| last.id());
            break;
        }
        looked += 1;
        if row.get_ref(1)?.as_str()? == tenant.as_str() && row.get_ref(6)?.as_str()? == sender {
            page.messages.push(message_of(row, 2, key.id())?);
        }
        last = Some(key);
    }
    Ok(page)
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

/// What waits in a tenant, soonest first. A record that cannot be read is left out: it is cancelled when its
/// time comes.
pub(super) fn waiting_page(
    db: &Connection,
    tenant: &TenantId,
    after: Option<&WaitingPosition>,
    limit: usize,
) -> rusqlite::Result<WaitingPage> {
    let mut select = db.prepare_cached(
        "SELECT lsn, record, due_at, id, tenant FROM waiting WHERE due_at > ?1 OR (due_at = ?1 AND id > ?2)
         ORDER BY due_at, id",
    )?;
    let mut rows = match after {
        Some((at, id)) => select.query(params![at.millis(), IdKey::new(id)])?,
        None => select.query(params![i64::MIN, ""])?,
    };
    let (mut page, mut looked) = (WaitingPage::default(), 0);
    let mut last: Option<(Time, IdKey)> = None;
    while let Some(row) = rows.next()? {
        let place = (Time::from_millis(row.get(2)?), IdKey::read(row, 3)?);
        let full = looked >= SENT_LOOK_MAX || page.messages.len() >= limit;
        // Of tenants with the same id at the same time the next page would see none.
        if full && last.as_ref() != Some(&place) {
            page.next = last.map(|(at, id)| (at, id.id()));
            break;
        }
        looked += 1;
        last = Some(place);
        if row.get_ref(4)?.as_str()? != tenant.as_str() {
            continue;
        }
        if let Ok(record) = waiting_record(row, 0)? {
            page.messages.push(WaitingMessage {
                message: SentMessage {
                    id: record.body.id().clone(),
                    sender: record.sender.clone(),
                    audience: (*record.audience).clone(),
                    state: SentState::Scheduled,
                    accepted_at: record.at,
                    scheduled_at: record.scheduled_at,
                    sent_at: None,
                },
                body: Arc::clone(&record.body),
            });
        }
    }
    Ok(page)
}

/// Reads `lsn, record`. A record that cannot be read is an error of its own.
pub(super) fn waiting_record(
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
    /// With the record that scheduled it first.
    Message(Lsn, Arc<MessageRecord>),
    /// Its record cannot be read.
    Damaged { tenant: TenantId, id: MessageId, error: rusqlite::Error },
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
            Ok(record) => Due::Message(row.get::<_, i64>(1)?.cast_unsigned(), record),
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
