//! What is read from an inbox's files. Every function expects the tail to be in them already, and
//! what has expired to be `expired`, see `Files::query`: a message is what its status says.

mod changes;
mod decide;
mod list;
mod page;
mod receipt;

use std::collections::HashMap;

use protocol::{ChannelId, DeviceId, MessageId, MessageState, PressedAction, Seq, Time};
use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    schema::{Templates, status_from},
    shared::{body_of, id_of},
    user_files::{FileError, UserFiles},
};
use crate::store::{Head, InboxMessage, Pressed, UnreadCounts};

pub(super) use self::{
    decide::{Decision, PressDecision, Refusal},
    list::{Listed, conditions, order},
    page::{Page, Said},
};

/// What [`message`] reads.
pub(super) const COLUMNS: &str = "seq, version, status, id, expire_at, body";

fn seq_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    row.get::<_, i64>(at).map(|seq| Seq(seq.cast_unsigned()))
}

pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<InboxMessage> {
    let status = status_from(row.get(2)?);
    let state = MessageState {
        seq: seq_at(row, 0)?,
        version: seq_at(row, 1)?,
        is_read: status.is_read(),
        status,
        read_at: None,
    };
    Ok(InboxMessage { state, body: body_of(row, 3)?, pressed: Vec::new() })
}

impl UserFiles {
    /// Where the inbox stands.
    pub(super) fn head(&self) -> Result<Head, FileError> {
        let counted = self.counted()?;
        Ok(Head { seq: counted.head, unread: counted.unread })
    }

    /// How many messages there are.
    pub(super) fn count(&self) -> Result<u64, FileError> {
        self.messages
            .prepare_cached("SELECT count(*) FROM message")
            .and_then(|mut select| select.query_row([], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
            .map_err(self.sqlite_messages())
    }

    /// Unread messages by channel.
    pub(super) fn unread(&self) -> Result<UnreadCounts, FileError> {
        let read = |db: &Connection| -> rusqlite::Result<UnreadCounts> {
            let mut counts = UnreadCounts::default();
            let mut select = db.prepare_cached(
                "SELECT channel_id, count FROM tally WHERE status = 0 AND count > 0
                 ORDER BY channel_id",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.cast_unsigned();
                counts.total += count;
                match row.get_ref(0)?.as_str()? {
                    "" => counts.direct = count,
                    _ => counts.channels.push((id_of::<ChannelId>(row, 0)?, count)),
                }
            }
            Ok(counts)
        };
        read(&self.messages).map_err(self.sqlite_messages())
    }

    /// One message that may be shown.
    pub(super) fn get(
        &mut self,
        templates: &Templates,
        id: &MessageId,
    ) -> Result<Option<InboxMessage>, FileError> {
        let found = self
            .messages
            .prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE id = ?1 AND status < 3"))
            .and_then(|mut select| select.query_row([id.as_str()], message).optional())
            .map_err(self.sqlite_messages())?;
        let Some(found) = found else { return Ok(None) };
        let mut one = [found];
        self.fill(templates, &mut one)?;
        let [found] = one;
        Ok(Some(found))
    }

    /// Fills in when messages were read, and which of their buttons were pressed.
    pub(super) fn fill(
        &mut self,
        templates: &Templates,
        messages: &mut [InboxMessage],
    ) -> Result<(), FileError> {
        self.fill_pressed(messages).map_err(self.sqlite_messages())?;
        self.fill_read_at(templates, messages)
    }

    fn fill_read_at(
        &mut self,
        templates: &Templates,
        messages: &mut [InboxMessage],
    ) -> Result<(), FileError> {
        if messages.iter().all(|message| !message.state.is_read) {
            return Ok(());
        }
        let (sqlite, draft) = (self.sqlite_status(), self.is_draft());
        let status = match self.status(templates) {
            // Nobody is refused a message because nobody can say when it was read.
            Err(error) if draft && !error.is_damage() => return Ok(()),
            status => status?,
        };
        let Some(status) = status else { return Ok(()) };
        for message in messages.iter_mut().filter(|message| message.state.is_read) {
            message.state.read_at = read_at(status, message.state.seq).map_err(&sqlite)?;
        }
        Ok(())
    }

    fn fill_pressed(&self, messages: &mut [InboxMessage]) -> rusqlite::Result<()> {
        let any: bool = self
            .messages
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM changes WHERE action_index IS NOT NULL)")?
            .query_row([], |row| row.get(0))?;
        if any {
            for message in messages {
                message.pressed = pressed(&self.messages, message.state.seq)?;
            }
        }
        Ok(())
    }
}

/// Buttons of a message that were pressed.
fn pressed(db: &Connection, message: Seq) -> rusqlite::Result<Vec<Pressed>> {
    db.prepare_cached(
        "SELECT action_index, action, at, device_id FROM changes
         WHERE message_seq = ?1 AND action_index IS NOT NULL ORDER BY action_index",
    )?
    .query_map([message.0.cast_signed()], |row| {
        Ok(Pressed {
            action: PressedAction { index: row.get(0)?, action: row.get(1)? },
            at: Time::from_millis(row.get(2)?),
            device_id: device_at(row, 3)?,
        })
    })?
    .collect()
}

/// When messages between two places, both included, were read, by place.
pub(super) fn read_times(
    status: &Connection,
    first: i64,
    last: i64,
) -> rusqlite::Result<HashMap<i64, i64>> {
    status
        .prepare_cached(
            "SELECT message_seq, read_at FROM read_status
             WHERE message_seq BETWEEN ?1 AND ?2 AND read_at IS NOT NULL",
        )?
        .query_map([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn read_at(status: &Connection, seq: Seq) -> rusqlite::Result<Option<Time>> {
    status
        .prepare_cached("SELECT read_at FROM read_status WHERE message_seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get::<_, Option<i64>>(0))
        .optional()
        .map(|at| at.flatten().map(Time::from_millis))
}

/// A position that a client named, for SQL: it may be beyond any that exists, and must not turn
/// negative.
fn at_most_i64(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn device_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<DeviceId>> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(_) => id_of(row, at).map(Some),
        None => Ok(None),
    }
}
