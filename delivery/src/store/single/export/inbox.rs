//! One inbox.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageId, Seq, Time};
use rusqlite::{Connection, params};

use super::{
    super::{
        queries::read_times,
        shared::{body_of, id_of},
    },
    Export, all,
};
use crate::{InboxKey, StoreError, store::portable::Cells};

/// Messages that are read at a time.
const MESSAGES_MAX: usize = 512;

/// Bytes of bodies that are read at a time, about: one body at least.
const BYTES_MAX: usize = 4 << 20;

/// Changes and receipts that are read at a time.
const ROWS_MAX: i64 = 4_096;

/// What there is once of an inbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct InboxLine {
    pub(crate) head: i64,
    pub(crate) min_seq: i64,
    /// The latest changes that any device got and confirmed.
    pub(crate) delivered: i64,
    pub(crate) acked: i64,
    /// How much there is: messages, changes that are no arrivals, receipts.
    pub(crate) counts: [u64; 3],
    /// What each device has confirmed, and when.
    pub(crate) cursors: Vec<(DeviceId, Seq, Time)>,
}

/// A message in an inbox.
#[derive(Clone, Debug)]
pub(crate) struct MovedMessage {
    pub(crate) id: MessageId,
    pub(crate) body: Arc<Body>,
    /// It was edited since it came.
    pub(crate) edited: bool,
    pub(crate) seq: i64,
    pub(crate) version: i64,
    pub(crate) status: i64,
    pub(crate) priority: i64,
    pub(crate) stored_at: i64,
    pub(crate) created_at: i64,
    pub(crate) expire_at: Option<i64>,
    pub(crate) read_at: Option<i64>,
    /// When it was recalled, or another one took its place.
    pub(crate) gone_at: Option<i64>,
    /// It was read and made unread again.
    pub(crate) reread: bool,
    pub(crate) channel: Option<String>,
    pub(crate) message_type: String,
    pub(crate) sender: String,
    pub(crate) collapse_key: Option<String>,
}

impl Export {
    /// What there is once of an inbox.
    pub(crate) async fn inbox(&self, key: &InboxKey) -> Result<InboxLine, StoreError> {
        let inbox = self.store.inbox(key);
        let found = self
            .store
            .ask(&inbox, |open, _| line(&open.messages).map_err(open.sqlite_messages()))
            .await?;
        let state = inbox.state.lock();
        let cursors = state.cursors.iter().flat_map(|cursors| &cursors.devices);
        let cursors =
            cursors.map(|(device, cursor)| (device.clone(), cursor.seq, cursor.acked_at)).collect();
        Ok(InboxLine { cursors, ..found.unwrap_or_default() })
    }

    /// Messages after one of them.
    pub(crate) async fn messages(
        &self,
        key: &InboxKey,
        after: i64,
    ) -> Result<Vec<MovedMessage>, StoreError> {
        let inbox = self.store.inbox(key);
        let found = self.store.ask(&inbox, move |open, templates| {
            let mut page = page(&open.messages, after).map_err(open.sqlite_messages())?;
            let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(page) };
            let (first, last) = (first.seq, last.seq);
            let sqlite = open.sqlite_status();
            if let Some(status) = open.status(templates)? {
                let times = read_times(status, first, last).map_err(sqlite)?;
                for message in page.iter_mut().filter(|message| message.status > 0) {
                    message.read_at = times.get(&message.seq).copied();
                }
            }
            Ok(page)
        });
        Ok(found.await?.unwrap_or_default())
    }

    /// Changes that are no arrivals, after one of them: seq, message seq, time, kind, status, button, message id, device,
    /// callback word.
    pub(crate) async fn changes(
        &self,
        key: &InboxKey,
        after: i64,
    ) -> Result<Vec<Cells>, StoreError> {
        let inbox = self.store.inbox(key);
        let found = self.store.ask(&inbox, move |open, _| {
            all(
                &open.messages,
                "SELECT seq, message_seq, at, kind, status, action_index, message_id, device_id, action
                 FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                params![after, ROWS_MAX],
            )
            .map_err(open.sqlite_messages())
        });
        Ok(found.await?.unwrap_or_default())
    }

    /// Receipts after one of them: first seq, kind, device, last seq, time.
    pub(crate) async fn receipts(
        &self,
        key: &InboxKey,
        after: (i64, i64, String),
    ) -> Result<Vec<Cells>, StoreError> {
        let inbox = self.store.inbox(key);
        let found = self.store.ask(&inbox, move |open, _| {
            all(
                &open.messages,
                "SELECT from_seq, kind, device_id, to_seq, at FROM receipt
                 WHERE (from_seq, kind, device_id) > (?1, ?2, ?3)
                 ORDER BY from_seq, kind, device_id LIMIT ?4",
                params![after.0, after.1, after.2, ROWS_MAX],
            )
            .map_err(open.sqlite_messages())
        });
        Ok(found.await?.unwrap_or_default())
    }
}

fn line(db: &Connection) -> rusqlite::Result<InboxLine> {
    let sql = "SELECT head, min_seq, delivered, acked, (SELECT count(*) FROM message),
        (SELECT count(*) FROM changes), (SELECT count(*) FROM receipt) FROM inbox";
    db.query_row(sql, [], |row| {
        let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        Ok(InboxLine {
            counts: [count(4)?, count(5)?, count(6)?],
            head: row.get(0)?,
            min_seq: row.get(1)?,
            delivered: row.get(2)?,
            acked: row.get(3)?,
            cursors: Vec::new(),
        })
    })
}

fn page(db: &Connection, after: i64) -> rusqlite::Result<Vec<MovedMessage>> {
    // When it went is when the change came that says so, which may be the message that took its place.
    let mut select = db.prepare_cached(
        "SELECT id, expire_at, body, body_version > seq, seq, version, status, priority, stored_at,
             created_at, expire_at,
             CASE WHEN status >= 3 THEN coalesce(
                 (SELECT c.at FROM changes AS c WHERE c.seq = m.version),
                 (SELECT n.stored_at FROM message AS n WHERE n.seq = m.version), 0) END,
             EXISTS (SELECT 1 FROM changes AS c
                 WHERE c.message_seq = m.seq AND c.kind = 0 AND c.status = 0),
             channel_id, message_type, sender, collapse_key
         FROM message AS m WHERE seq > ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([after])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = body_of(row, 0)?;
        bytes += body.weight();
        found.push(MovedMessage {
            id: id_of(row, 0)?,
            body,
            edited: row.get(3)?,
            seq: row.get(4)?,
            version: row.get(5)?,
            status: row.get(6)?,
            priority: row.get(7)?,
            stored_at: row.get(8)?,
            created_at: row.get(9)?,
            expire_at: row.get(10)?,
            read_at: None,
            gone_at: row.get(11)?,
            reread: row.get(12)?,
            channel: row.get(13)?,
            message_type: row.get(14)?,
            sender: row.get(15)?,
            collapse_key: row.get(16)?,
        });
        if found.len() >= MESSAGES_MAX || bytes >= BYTES_MAX {
            break;
        }
    }
    Ok(found)
}
