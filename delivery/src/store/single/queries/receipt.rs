//! What became of one message in this inbox.

use protocol::{MessageId, Seq, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{
        schema::Templates,
        shared::id_of,
        user_files::{FileError, UserFiles, first_row_of},
    },
    pressed, read_at, seq_at,
};
use crate::{
    InboxKey,
    store::{DeviceReceipt, Receipt},
};

impl UserFiles {
    /// What became of a message; none where it is not here, or not any more.
    pub(in super::super) fn receipt_of(
        &mut self,
        templates: &Templates,
        key: &InboxKey,
        id: &MessageId,
    ) -> Result<Option<Receipt>, FileError> {
        let sqlite = self.sqlite_messages();
        let found = self
            .messages
            .prepare_cached("SELECT seq, stored_at, status FROM message WHERE id = ?1")
            .and_then(|mut select| {
                select
                    .query_row([id.as_str()], |row| {
                        Ok((seq_at(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
                    })
                    .optional()
            })
            .map_err(&sqlite)?;
        let Some((seq, stored_at, status)) = found else { return Ok(None) };
        let devices = devices(&self.messages, seq).map_err(&sqlite)?;
        let actions = pressed(&self.messages, seq).map_err(&sqlite)?;
        let read_at = if status == 0 { None } else { self.read_at(templates, seq)? };
        Ok(Some(Receipt {
            user_id: key.user.clone(),
            stored_at: Some(Time::from_millis(stored_at)),
            delivered_at: devices.iter().filter_map(|device| device.delivered_at).min(),
            acked_at: devices.iter().filter_map(|device| device.acked_at).min(),
            read_at,
            devices,
            actions,
        }))
    }

    fn read_at(&mut self, templates: &Templates, seq: Seq) -> Result<Option<Time>, FileError> {
        let sqlite = self.sqlite_status();
        match self.status(templates)? {
            Some(status) => read_at(status, seq).map_err(sqlite),
            None => Ok(None),
        }
    }
}

/// The devices that got or confirmed a change, in the order of their ids.
fn devices(db: &Connection, seq: Seq) -> rusqlite::Result<Vec<DeviceReceipt>> {
    let mut select = db.prepare_cached(
        "SELECT device_id, kind, at FROM receipt
         WHERE from_seq BETWEEN ?1 AND ?2 AND to_seq >= ?2 ORDER BY device_id",
    )?;
    let first = first_row_of(seq).0.cast_signed();
    let mut rows = select.query(params![first, seq.0.cast_signed()])?;
    let mut devices: Vec<DeviceReceipt> = Vec::new();
    while let Some(row) = rows.next()? {
        let device_id = id_of(row, 0)?;
        if devices.last().is_none_or(|last| last.device_id != device_id) {
            devices.push(DeviceReceipt { device_id, delivered_at: None, acked_at: None });
        }
        let last = devices.last_mut().expect("pushed above");
        let at = Some(Time::from_millis(row.get(2)?));
        match row.get::<_, i64>(1)? {
            0 => last.delivered_at = at,
            _ => last.acked_at = at,
        }
    }
    Ok(devices)
}
