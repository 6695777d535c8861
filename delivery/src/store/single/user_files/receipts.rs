//! Receipts: which changes went to which device, and which it confirmed.
//!
//! A row of the table is a range of changes, at a time that is right to about a second
//! ([`MERGE_MS`]). Rows are cut at multiples of [`SPAN`], so that what became of one message is found
//! among the few rows that begin in its span, and what is pruned goes from the front of the table.

use std::sync::Arc;

use protocol::{Body, Seq};
use rusqlite::params;

use super::{
    super::{
        receipts::{Kind, MERGE_MS, Note},
        shared::body_of,
    },
    WriteError,
    write::Writer,
};
use crate::store::{Happened, Happening};

/// Changes that one row may cover.
const SPAN: u64 = 256;

/// The latest changes that went to any device, or that any confirmed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) delivered: Seq,
    pub(super) acked: Seq,
}

/// A kind as it stands in the file.
pub(super) const fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::Delivered => 0,
        Kind::Acked => 1,
    }
}

/// Where the span of a change begins. Changes begin at 1, and so does the first span.
const fn span_of(seq: u64) -> u64 {
    seq - seq % SPAN
}

/// A row of changes, first and last.
type Range = (u64, u64);

impl Writer<'_> {
    /// Takes over what went to devices. Answers how far any device is.
    pub(super) fn notes(&mut self) -> Result<Reached, WriteError> {
        if self.writing.notes.is_empty() {
            return Ok(Reached::default());
        }
        let mut reached =
            self.db.prepare_cached("SELECT delivered, acked FROM inbox")?.query_row([], |row| {
                let seq = |at| row.get::<_, i64>(at).map(|seq| Seq(seq.cast_unsigned()));
                Ok(Reached { delivered: seq(0)?, acked: seq(1)? })
            })?;
        for note in self.writing.notes {
            for (from, to) in self.ranges(note)? {
                self.range(note, from, to, reached)?;
                let reached = match note.kind {
                    Kind::Delivered => &mut reached.delivered,
                    Kind::Acked => &mut reached.acked,
                };
                *reached = Seq(to).max(*reached);
            }
        }
        Ok(reached)
    }

    /// What a note stands for.
    fn ranges(&self, note: &Note) -> rusqlite::Result<Vec<Range>> {
        if let Some(from) = note.from {
            return Ok(vec![(from.0.max(1), note.to.0)]);
        }
        // A device that never confirmed anything confirms what went to it, not what was there
        // before it came.
        let mut select = self.db.prepare_cached(
            "SELECT from_seq, min(to_seq, ?2) FROM receipt
             WHERE from_seq <= ?2 AND kind = 0 AND device_id = ?1 ORDER BY from_seq",
        )?;
        select.query_map(params![note.device.as_str(), note.to.0.cast_signed()], range)?.collect()
    }

    /// Takes over a range, span by span.
    fn range(
        &mut self,
        note: &Note,
        mut from: u64,
        to: u64,
        before: Reached,
    ) -> Result<(), WriteError> {
        while from <= to {
            let end = to.min(span_of(from) + SPAN - 1);
            for (first, last) in self.add(note, from, end)? {
                self.reached(note, first, last, before)?;
            }
            from = end + 1;
        }
        Ok(())
    }

    /// Takes over a range within one span. Answers what of it is new: what has gone to a device once
    /// may go to it again.
    fn add(&self, note: &Note, from: u64, to: u64) -> rusqlite::Result<Vec<Range>> {
        let (kind, device) = (kind_code(note.kind), note.device.as_str());
        let mut select = self.db.prepare_cached(
            "SELECT from_seq, to_seq, at FROM receipt
             WHERE from_seq BETWEEN ?1 AND ?2 AND kind = ?3 AND device_id = ?4 ORDER BY from_seq",
        )?;
        let span = span_of(from).cast_signed();
        let mut known = select.query(params![span, to.cast_signed(), kind, device])?;
        let mut fresh = Vec::new();
        let (mut next, mut before) = (from, None);
        while let Some(row) = known.next()? {
            let (first, last) = range(row)?;
            if first > next {
                fresh.push((next, first - 1));
            }
            next = next.max(last + 1);
            if last + 1 == from {
                let at: i64 = row.get(2)?;
                before = (0..=MERGE_MS).contains(&(note.at.millis() - at)).then_some(first);
            }
        }
        if next <= to {
            fresh.push((next, to));
        }
        for &(first, last) in &fresh {
            match before.filter(|_| first == from) {
                Some(row) => self
                    .db
                    .prepare_cached(
                        "UPDATE receipt SET to_seq = ?1
                         WHERE from_seq = ?2 AND kind = ?3 AND device_id = ?4",
                    )?
                    .execute(params![last.cast_signed(), row.cast_signed(), kind, device])?,
                None => self
                    .db
                    .prepare_cached(
                        "INSERT INTO receipt (from_seq, to_seq, kind, device_id, at)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        first.cast_signed(),
                        last.cast_signed(),
                        kind,
                        device,
                        note.at.millis()
                    ])?,
            };
        }
        Ok(fresh)
    }

    /// Tells of the messages of a range that went to a device, or that it confirmed.
    fn reached(
        &mut self,
        note: &Note,
        from: u64,
        to: u64,
        before: Reached,
    ) -> Result<(), WriteError> {
        if self.writing.witness.is_none() {
            return Ok(());
        }
        let mut messages: Vec<(Seq, Arc<Body>)> = Vec::new();
        // What arrived just now is as it was when it went out, whatever it became since.
        let arrived = self.writing.entries.first().map_or(u64::MAX, |entry| entry.seq.0);
        if from < arrived {
            let mut select = self.db.prepare_cached(
                "SELECT seq, id, expire_at, body FROM message
                 WHERE seq BETWEEN ?1 AND ?2 AND status < 3 ORDER BY seq",
            )?;
            let up_to = to.min(arrived - 1);
            let mut rows = select.query(params![from.cast_signed(), up_to.cast_signed()])?;
            while let Some(row) = rows.next()? {
                messages.push((Seq(row.get::<_, i64>(0)?.cast_unsigned()), body_of(row, 1)?));
            }
        }
        messages.extend((from.max(arrived)..=to).map(Seq).filter_map(|seq| {
            let body = self.arrived(seq).filter(|body| !body.expired(note.at))?;
            Some((seq, Arc::clone(body)))
        }));
        for (seq, body) in messages {
            let what = match note.kind {
                Kind::Delivered => Happened::Delivered { first: seq > before.delivered },
                Kind::Acked => Happened::Acked { first: seq > before.acked },
            };
            self.tell_of(happening(self.writing.key, seq, body, what, note))?;
        }
        Ok(())
    }
}

fn happening(
    inbox: &crate::InboxKey,
    seq: Seq,
    body: Arc<Body>,
    what: Happened,
    note: &Note,
) -> Happening {
    let (at, device) = (note.at, Some(note.device.clone()));
    Happening { inbox: inbox.clone(), message_seq: seq, seq, body, what, at, device }
}

fn range(row: &rusqlite::Row<'_>) -> rusqlite::Result<Range> {
    let seq = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok((seq(0)?, seq(1)?))
}

/// Where the rows begin that may cover a change.
pub(in super::super) const fn first_row_of(seq: Seq) -> Seq {
    Seq(span_of(seq.0))
}
