//! Marks and presses, decided on what is in the inbox.

use std::collections::HashSet;

use protocol::{MessageId, Status};
use rusqlite::{Row, ToSql};

use super::{
    super::{
        schema::{Templates, status_code},
        shared::id_of,
        user_files::{FileError, UserFiles},
    },
    at_most_i64,
};
use crate::store::{InboxMessage, Mark, MarkTarget};

/// Why a mark or a press cannot be decided.
pub(in super::super) enum Refusal {
    NotFound,
    Conflict(Box<InboxMessage>),
}

/// What a mark will change.
#[derive(Default)]
pub(in super::super) struct Decision {
    pub(in super::super) targets: Vec<(u64, MessageId)>,
    /// Which of the targets are unread now.
    pub(in super::super) unread: Vec<bool>,
}

/// What a press will do.
pub(in super::super) enum PressDecision {
    /// The button is pressed.
    Press {
        /// Its callback word.
        action: String,
        /// The message.
        message: InboxMessage,
    },
    /// It was pressed before.
    Pressed(InboxMessage),
}

impl Decision {
    /// Takes `seq, id, status`.
    fn take(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.targets.push((row.get::<_, i64>(0)?.cast_unsigned(), id_of(row, 1)?));
        self.unread.push(row.get::<_, i64>(2)? == status_code(Status::Unread));
        Ok(())
    }
}

impl UserFiles {
    /// Decides which messages a mark changes.
    pub(in super::super) fn decide(
        &mut self,
        templates: &Templates,
        mark: Mark,
        target: &MarkTarget,
    ) -> Result<Result<Decision, Refusal>, FileError> {
        let mut decision = Decision::default();
        let sqlite = self.sqlite_messages();
        match target {
            MarkTarget::One { id, expected } => {
                let Some(current) = self.get(templates, id)? else {
                    return Ok(Err(Refusal::NotFound));
                };
                if expected.is_some_and(|expected| expected != current.state.version) {
                    return Ok(Err(Refusal::Conflict(Box::new(current))));
                }
                self.decide_by_id(mark, id, &mut decision).map_err(sqlite)?;
            }
            MarkTarget::Many(ids) => {
                let mut seen = HashSet::new();
                for id in ids.iter().filter(|id| seen.insert(*id)) {
                    self.decide_by_id(mark, id, &mut decision).map_err(&sqlite)?;
                }
            }
            MarkTarget::UpTo(seq) => self
                .decide_all(mark, "message_facts", "seq <= ?1", &at_most_i64(*seq), &mut decision)
                .map_err(sqlite)?,
            MarkTarget::Channel(channel) => self
                .decide_all(mark, "message_channel", "channel_id = ?1", channel, &mut decision)
                .map_err(sqlite)?,
        }
        Ok(Ok(decision))
    }

    fn decide_by_id(
        &self,
        mark: Mark,
        id: &MessageId,
        decision: &mut Decision,
    ) -> rusqlite::Result<()> {
        let from = from(mark);
        let mut select = self.messages.prepare_cached(&format!(
            "SELECT seq, id, status FROM message WHERE id = ?1 AND {from}"
        ))?;
        let mut rows = select.query([id.as_str()])?;
        while let Some(row) = rows.next()? {
            decision.take(row)?;
        }
        Ok(())
    }

    fn decide_all(
        &self,
        mark: Mark,
        index: &str,
        condition: &str,
        value: &dyn ToSql,
        decision: &mut Decision,
    ) -> rusqlite::Result<()> {
        let from = from(mark);
        // What a mark changes is mostly the latest. As soon as all there is was found, the rest of a
        // long inbox need not be looked at.
        let most: i64 = self
            .messages
            .prepare_cached(&format!("SELECT ifnull(sum(count), 0) FROM tally WHERE {from}"))?
            .query_row([], |row| row.get(0))?;
        let mut select = self.messages.prepare_cached(&format!(
            "SELECT message.seq, message.id, message.status FROM
             (SELECT seq FROM message INDEXED BY {index}
              WHERE status < 4 AND {from} AND {condition} ORDER BY seq DESC LIMIT ?2) AS marked
             JOIN message ON message.seq = marked.seq ORDER BY message.seq"
        ))?;
        let mut rows = select.query([value, &most])?;
        while let Some(row) = rows.next()? {
            decision.take(row)?;
        }
        Ok(())
    }

    /// Decides what pressing a button does.
    pub(in super::super) fn decide_press(
        &mut self,
        templates: &Templates,
        id: &MessageId,
        index: u8,
    ) -> Result<Result<PressDecision, Refusal>, FileError> {
        let Some(message) = self.get(templates, id)? else { return Ok(Err(Refusal::NotFound)) };
        if message.pressed.iter().any(|pressed| pressed.action.index == index) {
            return Ok(Ok(PressDecision::Pressed(message)));
        }
        // A body that cannot be parsed has no buttons.
        let actions = message.body.fields().map(|fields| fields.actions).unwrap_or_default();
        Ok(match actions.into_iter().nth(usize::from(index)) {
            Some(button) => Ok(PressDecision::Press { action: button.action, message }),
            None => Err(Refusal::NotFound),
        })
    }
}

/// Which messages a mark changes, in SQL: what is recalled, expired or collapsed is not there for the
/// user, so it cannot be marked either.
const fn from(mark: Mark) -> &'static str {
    match mark {
        Mark::Read => "status = 0",
        Mark::Unread => "status = 1",
        Mark::Archive => "status < 2",
    }
}
