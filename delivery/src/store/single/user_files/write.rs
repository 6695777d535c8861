//! Changes of the journal, written to `messages.db`.

use std::sync::Arc;

use protocol::{Body, DeviceId, MessageId, PressedAction, Seq, Status, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{
        inbox::{TailEntry, What},
        receipts::Note,
        record::{Lsn, MarkRecord, PressRecord},
        schema::{kind, status_code, status_from},
        shared::body_of,
    },
    Counted, FileError, UserFiles, WriteError,
    tally::Tally,
};
use crate::{
    InboxKey,
    store::{Happened, Happening, Mark, is_live},
};

/// Happenings that are told at once: bounds the bodies that are in memory for them.
const TOLD_MAX: usize = 256;

/// Is told what happened before it is written; an error keeps it from being written.
pub(in super::super) type Witness<'a> = dyn Fn(&[Happening]) -> Result<(), Refused> + 'a;

/// Why a witness does not want it to be written.
type Refused = Arc<dyn std::error::Error + Send + Sync>;

/// What is to be written.
pub(in super::super) struct Writing<'a> {
    pub(in super::super) key: &'a InboxKey,
    /// Changes, in order, with their seqs.
    pub(in super::super) entries: &'a [TailEntry],
    /// The record since which the inbox exists.
    pub(in super::super) since: Lsn,
    /// What went to devices and what they confirmed, of changes that are in the file then.
    pub(in super::super) notes: &'a [Note],
    /// Who is told what happened, see [`crate::store::Witness`]; nobody for what is not kept.
    pub(in super::super) witness: Option<&'a Witness<'a>>,
}

impl UserFiles {
    /// Writes changes in order: all of them and the position reached, or nothing. What the file has
    /// already is passed over: after an error it is unknown whether the transaction was written,
    /// and the file, opened anew, says.
    pub(in super::super) fn apply(&mut self, writing: &Writing<'_>) -> Result<Counted, FileError> {
        let applied = match self.applied {
            Some(applied) => applied,
            None => self.load(writing.key)?.1,
        };
        let done = writing.entries.partition_point(|entry| entry.lsn <= applied);
        let writing = Writing { entries: &writing.entries[done..], ..*writing };
        if writing.entries.is_empty() && writing.notes.is_empty() {
            return self.counted();
        }
        self.applied = None;
        let counted = self.change(|db| Writer::new(db, &writing).write())?;
        self.applied = Some(writing.entries.last().map_or(applied, |last| last.lsn));
        Ok(counted)
    }
}

/// One transaction.
pub(super) struct Writer<'a> {
    pub(super) db: &'a Connection,
    pub(super) writing: &'a Writing<'a>,
    pub(super) tally: Tally,
    /// Some message that is written expires.
    pub(super) expiring: bool,
    happenings: Vec<Happening>,
}

/// A message as far as its status goes.
pub(super) struct Row {
    pub(super) seq: Seq,
    pub(super) status: Status,
    /// Empty for none.
    pub(super) channel: String,
}

impl<'a> Writer<'a> {
    fn new(db: &'a Connection, writing: &'a Writing<'a>) -> Self {
        Self { db, writing, tally: Tally::default(), expiring: false, happenings: Vec::new() }
    }

    fn write(mut self) -> Result<Counted, WriteError> {
        for entry in self.writing.entries {
            match &entry.what {
                What::Message(body) => self.message(entry, body)?,
                What::Mark(mark) => self.mark(entry.seq, mark)?,
                What::Press(press) => self.press(entry.seq, press)?,
                What::Rewrite(rewrite) => self.rewrite(entry.seq, rewrite)?,
            }
        }
        let reached = self.notes()?;
        self.tell()?;
        self.tally.write(self.db)?;
        let last = self.writing.entries.last();
        let counted = self
            .db
            .prepare_cached(
                "UPDATE inbox SET head = ifnull(?1, head), unread = max(0, unread + ?2),
                 expiring = expiring OR ?3, applied_lsn = ifnull(?4, applied_lsn),
                 since_lsn = iif(?1 IS NULL, since_lsn, ?5),
                 delivered = max(delivered, ?6), acked = max(acked, ?7)
                 RETURNING head, min_seq, unread, expiring",
            )?
            .query_row(
                params![
                    last.map(|last| (last.seq.0 + last.seqs() - 1).cast_signed()),
                    self.tally.unread(),
                    self.expiring,
                    last.map(|last| last.lsn.cast_signed()),
                    self.writing.since.cast_signed(),
                    reached.delivered.0.cast_signed(),
                    reached.acked.0.cast_signed(),
                ],
                super::counted,
            )?;
        Ok(counted)
    }

    fn message(&mut self, entry: &TailEntry, body: &Body) -> Result<(), WriteError> {
        let facts = body.facts();
        if let Some(key) = &facts.collapse_key {
            self.collapse(entry, key, &facts.sender)?;
        }
        self.expiring |= body.expire_at().is_some();
        let channel = facts.channel_id.as_ref().map(protocol::ChannelId::as_str);
        self.tally.add(channel.unwrap_or_default(), Status::Unread, 1);
        self.db
            .prepare_cached(
                "INSERT INTO message (seq, version, body_version, status, priority, stored_at,
                 created_at, expire_at, channel_id, message_type, sender, collapse_key, id, body)
                 VALUES (?1, ?1, ?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                entry.seq.0.cast_signed(),
                facts.priority,
                entry.at.millis(),
                facts.created_at.unwrap_or(entry.at).millis(),
                body.expire_at().map(Time::millis),
                channel,
                facts.message_type,
                facts.sender,
                facts.collapse_key,
                body.id().as_str(),
                std::str::from_utf8(&body.json()).expect("a body is JSON"),
            ])?;
        Ok(())
    }

    /// A newer message takes the place of unread ones of the same sender and key.
    fn collapse(&mut self, newer: &TailEntry, key: &str, sender: &str) -> rusqlite::Result<()> {
        // One whose time had passed by then stays expired.
        let mut select = self.db.prepare_cached(
            "SELECT seq, ifnull(channel_id, '') FROM message
             WHERE collapse_key = ?1 AND sender = ?2 AND status = 0
             AND (expire_at IS NULL OR expire_at > ?3)",
        )?;
        let older: Vec<(i64, String)> = select
            .query_map(params![key, sender, newer.at.millis()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (seq, channel) in older {
            self.set_status(Seq(seq.cast_unsigned()), Status::Collapsed, newer.seq)?;
            self.tally.becomes(&channel, Status::Unread, Status::Collapsed);
        }
        Ok(())
    }

    fn mark(&mut self, first: Seq, mark: &MarkRecord) -> Result<(), WriteError> {
        let became = mark.mark.status();
        for (seq, (message_seq, id)) in (first.0..).map(Seq).zip(&mark.targets) {
            let message_seq = Seq(*message_seq);
            if self.becomes(message_seq, became, seq)?.is_some() {
                self.happen(message_seq, seq, mark.at, mark.device.as_ref(), || match mark.mark {
                    Mark::Read => Happened::Read,
                    Mark::Unread => Happened::Unread,
                    Mark::Archive => Happened::Archived,
                })?;
            }
            let change = Change {
                seq,
                message_seq,
                id,
                kind: kind::MARK,
                status: became,
                device: mark.device.as_ref(),
                at: mark.at,
                action: None,
            };
            self.log(&change)?;
        }
        Ok(())
    }

    fn press(&mut self, seq: Seq, press: &PressRecord) -> Result<(), WriteError> {
        let (message_seq, id) = (Seq(press.target.0), &press.target.1);
        let became = if press.archived { Status::Archived } else { Status::Read };
        let device = press.device.as_ref();
        let action = PressedAction { index: press.index, action: press.action.clone() };
        if let Some(before) = self.becomes(message_seq, became, seq)? {
            if before == Status::Unread {
                self.happen(message_seq, seq, press.at, device, || Happened::Read)?;
            }
            let pressed = || Happened::Pressed(action.clone());
            self.happen(message_seq, seq, press.at, device, pressed)?;
        }
        let (kind, at, action) = (kind::PRESS, press.at, Some(&action));
        self.log(&Change { seq, message_seq, id, kind, status: became, device, at, action })?;
        Ok(())
    }

    /// A message becomes something else at a change; answers what it was. Nothing becomes of one
    /// that is not shown any more: the mark was decided before it went.
    fn becomes(&mut self, message: Seq, to: Status, at: Seq) -> rusqlite::Result<Option<Status>> {
        let found = self
            .db
            .prepare_cached(
                "SELECT seq, status, ifnull(channel_id, '') FROM message WHERE seq = ?1",
            )?
            .query_row([message.0.cast_signed()], row)
            .optional()?;
        let Some(Row { status, channel, .. }) = found.filter(|row| is_live(row.status)) else {
            return Ok(None);
        };
        self.set_status(message, to, at)?;
        self.tally.becomes(&channel, status, to);
        Ok(Some(status))
    }

    pub(super) fn set_status(&self, message: Seq, to: Status, at: Seq) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE message SET status = ?1, version = ?2 WHERE seq = ?3")?
            .execute(params![status_code(to), at.0.cast_signed(), message.0.cast_signed()])
            .map(drop)
    }

    pub(super) fn log(&self, change: &Change<'_>) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "INSERT INTO changes
                 (seq, message_seq, message_id, kind, status, device_id, at, action_index, action)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                change.seq.0.cast_signed(),
                change.message_seq.0.cast_signed(),
                change.id.as_str(),
                change.kind,
                status_code(change.status),
                change.device.map(DeviceId::as_str),
                change.at.millis(),
                change.action.map(|action| action.index),
                change.action.map(|action| &*action.action),
            ])
            .map(drop)
    }

    /// Something happened to a message, if anybody is to be told.
    fn happen(
        &mut self,
        message_seq: Seq,
        seq: Seq,
        at: Time,
        device: Option<&DeviceId>,
        what: impl FnOnce() -> Happened,
    ) -> Result<(), WriteError> {
        if self.writing.witness.is_none() {
            return Ok(());
        }
        let body = match self.arrived(message_seq) {
            Some(body) => Arc::clone(body),
            None => self
                .db
                .prepare_cached("SELECT id, expire_at, body FROM message WHERE seq = ?1")?
                .query_row([message_seq.0.cast_signed()], |row| body_of(row, 0))?,
        };
        self.tell_of(Happening {
            inbox: self.writing.key.clone(),
            message_seq,
            seq,
            body,
            what: what(),
            at,
            device: device.cloned(),
        })
    }

    /// The message that arrives at this position in this transaction, as it arrives.
    pub(super) fn arrived(&self, seq: Seq) -> Option<&'a Arc<Body>> {
        let entries = self.writing.entries;
        let entry = entries.get(entries.partition_point(|entry| entry.seq < seq))?;
        match &entry.what {
            What::Message(body) if entry.seq == seq => Some(body),
            What::Message(_) | What::Mark(_) | What::Press(_) | What::Rewrite(_) => None,
        }
    }

    pub(super) fn tell_of(&mut self, happening: Happening) -> Result<(), WriteError> {
        self.happenings.push(happening);
        if self.happenings.len() >= TOLD_MAX { self.tell() } else { Ok(()) }
    }

    fn tell(&mut self) -> Result<(), WriteError> {
        if let (Some(witness), false) = (self.writing.witness, self.happenings.is_empty()) {
            witness(&self.happenings).map_err(WriteError::Witness)?;
        }
        self.happenings.clear();
        Ok(())
    }
}

/// A row of `changes`.
pub(super) struct Change<'a> {
    pub(super) seq: Seq,
    pub(super) message_seq: Seq,
    pub(super) id: &'a MessageId,
    pub(super) kind: i64,
    pub(super) status: Status,
    pub(super) device: Option<&'a DeviceId>,
    pub(super) at: Time,
    pub(super) action: Option<&'a PressedAction>,
}

/// Reads `seq, status, channel`.
pub(super) fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
        status: status_from(row.get(1)?),
        channel: row.get(2)?,
    })
}
