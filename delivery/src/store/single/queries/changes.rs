//! The log of an inbox.

use std::{collections::HashMap, sync::Arc};

use protocol::{PressedAction, Seq, Status, Time};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    super::{
        schema::{Templates, kind, status_from},
        shared::id_of,
        user_files::{FileError, UserFiles},
    },
    COLUMNS, device_at, message, seq_at,
};
use crate::{
    InboxKey,
    store::{Change, InboxMessage, StatusChange, Stored, is_live},
};

/// A row of `changes`.
enum Logged {
    /// A state changed.
    Status(StatusChange),
    /// The message at this place was edited; for one that is not kept any more, what stands for it.
    Edit(Seq, StatusChange),
}

/// What is read of both tables, before it is merged.
#[derive(Default)]
struct Read {
    messages: Vec<InboxMessage>,
    logged: Vec<(Seq, Logged)>,
    /// Messages that edits speak of, by place.
    edited: HashMap<Seq, InboxMessage>,
}

impl UserFiles {
    /// The changes after `since` in order: at most `limit`, and bodies of about `bytes_max` bytes.
    pub(in super::super) fn changes(
        &mut self,
        templates: &Templates,
        key: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, FileError> {
        let sqlite = self.sqlite_messages();
        let mut found = read(&self.messages, since, limit, bytes_max).map_err(&sqlite)?;
        self.fill_read_at(templates, &mut found.messages)?;
        let mut edited: Vec<InboxMessage> = found.edited.into_values().collect();
        self.fill_read_at(templates, &mut edited)?;
        let edited: HashMap<Seq, InboxMessage> =
            edited.into_iter().map(|message| (message.state.seq, message)).collect();

        let mut out = Vec::with_capacity(found.messages.len() + found.logged.len());
        let mut messages = found.messages.into_iter().peekable();
        let mut logged = found.logged.into_iter().peekable();
        let mut bytes = 0;
        // Both halves are sorted and together dense, so merging stops where one of them was cut off.
        for next in (since.0 + 1..).map(Seq) {
            if out.len() >= limit || (bytes >= bytes_max && !out.is_empty()) {
                break;
            }
            let change = if let Some(message) = messages.next_if(|m| m.state.seq == next) {
                shown(&self.messages, &message).map_err(&sqlite)?
            } else if let Some((_, logged)) = logged.next_if(|(seq, _)| *seq == next) {
                match logged {
                    Logged::Status(change) => Change::Status(change),
                    Logged::Edit(place, gone) => match edited.get(&place) {
                        Some(message) => shown(&self.messages, message).map_err(&sqlite)?,
                        None => Change::Status(gone),
                    },
                }
            } else {
                break;
            };
            if let Change::Message { body, .. } = &change {
                bytes += body.weight();
            }
            out.push(Stored { inbox: key.clone(), seq: next, change, accepted: None });
        }
        Ok(out)
    }
}

fn read(db: &Connection, since: Seq, limit: usize, bytes_max: usize) -> rusqlite::Result<Read> {
    let mut found = Read::default();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let since = since.0.cast_signed();
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM message WHERE seq > ?1 ORDER BY seq LIMIT ?2"
    ))?;
    let mut rows = select.query(params![since, limit])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let message = message(row)?;
        bytes += message.body.weight();
        found.messages.push(message);
        if bytes >= bytes_max {
            break;
        }
    }
    let mut select = db.prepare_cached(
        "SELECT seq, kind, message_seq, message_id, status, device_id, at, action_index, action
         FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = select.query(params![since, limit])?;
    // Edits may carry as much as messages: behind what a page takes none needs to be read.
    let mut edits = 0;
    while let Some(row) = rows.next()? {
        let logged = logged(row)?;
        if let Logged::Edit(place, _) = logged
            && !found.edited.contains_key(&place)
            && let Some(message) = message_at(db, place)?
        {
            edits += message.body.weight();
            found.edited.insert(place, message);
        }
        found.logged.push((seq_at(row, 0)?, logged));
        if edits >= bytes_max {
            break;
        }
    }
    Ok(found)
}

fn message_at(db: &Connection, place: Seq) -> rusqlite::Result<Option<InboxMessage>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE seq = ?1"))?
        .query_row([place.0.cast_signed()], message)
        .optional()
}

/// Reads `kind, message_seq, message_id, status, device_id, at, action_index, action` from the second
/// column on.
fn logged(row: &Row<'_>) -> rusqlite::Result<Logged> {
    let at = Time::from_millis(row.get(6)?);
    let change = StatusChange {
        device: device_at(row, 5)?,
        ..StatusChange::new(id_of(row, 3)?, status_from(row.get(4)?), at)
    };
    Ok(match row.get(1)? {
        kind::EDIT => {
            Logged::Edit(seq_at(row, 2)?, StatusChange { status: Status::Expired, ..change })
        }
        kind::RECALL => Logged::Status(StatusChange { status: Status::Recalled, ..change }),
        kind::PRESS => {
            let action = PressedAction { index: row.get(7)?, action: row.get(8)? };
            Logged::Status(StatusChange { action: Some(action), ..change })
        }
        _ => Logged::Status(change),
    })
}

/// A message, or what stands in its place once it must not be shown.
fn shown(db: &Connection, message: &InboxMessage) -> rusqlite::Result<Change> {
    let state = message.state;
    if is_live(state.status) {
        return Ok(Change::Message { state, body: Arc::clone(&message.body) });
    }
    let at = match (state.status, message.body.expire_at()) {
        (Status::Expired, Some(at)) => at,
        _ => changed_at(db, state.version)?,
    };
    Ok(Change::Status(StatusChange::new(message.body.id().clone(), state.status, at)))
}

/// When a change came: a recall, or the message that took another's place.
fn changed_at(db: &Connection, seq: Seq) -> rusqlite::Result<Time> {
    db.prepare_cached(
        "SELECT at FROM changes WHERE seq = ?1
         UNION ALL SELECT stored_at FROM message WHERE seq = ?1",
    )?
    .query_row([seq.0.cast_signed()], |row| row.get(0))
    .optional()
    .map(|at| Time::from_millis(at.unwrap_or_default()))
}
