//! What an inbox need not keep goes, from the oldest on.

use protocol::{Seq, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Counted, FileError, UserFiles, WriteError,
    tally::Tally,
    write::{Row, row},
};
use crate::store::Retention;

/// Messages that go in one transaction, at most: bounds how long a question waits behind one, and how
/// far the `-wal` grows.
const PRUNE_MAX: u64 = 256;

/// What a transaction of pruning did.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Pruned {
    /// Messages that went.
    pub(in super::super) messages: u64,
    /// What the file counts afterwards.
    pub(in super::super) counted: Counted,
}

impl UserFiles {
    /// How many messages are too many or too old, as far as one transaction goes.
    pub(in super::super) fn overdue(
        &self,
        retention: Retention,
        now: Time,
    ) -> Result<u64, FileError> {
        overdue(&self.messages, retention, now).map_err(self.sqlite_messages())
    }

    /// Drops the oldest messages, and every change up to the oldest that stays.
    pub(in super::super) fn prune(&self, messages: u64) -> Result<Pruned, FileError> {
        self.change(|db| prune(db, messages))
    }
}

fn overdue(db: &Connection, retention: Retention, now: Time) -> rusqlite::Result<u64> {
    let mut overdue = 0;
    if let Some(max) = retention.max_messages {
        let total: i64 = db
            .prepare_cached("SELECT ifnull(sum(count), 0) FROM tally")?
            .query_row([], |row| row.get(0))?;
        overdue = total.cast_unsigned().saturating_sub(max).min(PRUNE_MAX);
    }
    if let Some(age) = retention.max_age {
        let age = crate::clock::millis(age);
        let oldest = now.millis().saturating_sub(age);
        let mut select =
            db.prepare_cached("SELECT stored_at FROM message ORDER BY seq LIMIT ?1")?;
        let mut rows = select.query([PRUNE_MAX.cast_signed()])?;
        let mut too_old = 0;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(0)? >= oldest {
                break;
            }
            too_old += 1;
        }
        overdue = overdue.max(too_old);
    }
    Ok(overdue)
}

fn prune(db: &Connection, messages: u64) -> Result<Pruned, WriteError> {
    let mut tally = Tally::default();
    let mut select = db.prepare_cached(
        "SELECT seq, status, ifnull(channel_id, '') FROM message ORDER BY seq LIMIT ?1",
    )?;
    let oldest: Vec<Row> =
        select.query_map([messages.cast_signed()], row)?.collect::<Result<_, _>>()?;
    let Some(last) = oldest.last().map(|message| message.seq.0.cast_signed()) else {
        return Ok(Pruned { messages: 0, counted: counted(db, &tally, None)? });
    };
    for message in &oldest {
        tally.add(&message.channel, message.status, -1);
    }
    let next: Option<i64> = db
        .prepare_cached("SELECT seq FROM message WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([last], |row| row.get(0))
        .optional()?;
    // What stands between the last that goes and the first that stays are changes of those that go.
    let head: i64 = db.prepare_cached("SELECT head FROM inbox")?.query_row([], |row| row.get(0))?;
    let min_seq = next.map_or(head, |next| next - 1);
    db.prepare_cached("DELETE FROM message WHERE seq <= ?1")?.execute([last])?;
    db.prepare_cached("DELETE FROM changes WHERE seq <= ?1")?.execute([min_seq])?;
    db.prepare_cached("DELETE FROM receipt WHERE from_seq <= ?1 AND to_seq <= ?1")?
        .execute([min_seq])?;
    tally.write(db)?;
    db.prepare_cached("DELETE FROM tally WHERE count = 0")?.execute([])?;
    let counted = counted(db, &tally, Some(min_seq))?;
    Ok(Pruned { messages: oldest.len() as u64, counted })
}

fn counted(db: &Connection, tally: &Tally, min_seq: Option<i64>) -> rusqlite::Result<Counted> {
    db.prepare_cached(
        "UPDATE inbox SET unread = max(0, unread + ?1), min_seq = ifnull(?2, min_seq),
         expiring = EXISTS (SELECT 1 FROM message WHERE expire_at IS NOT NULL AND status < 3)
         RETURNING head, min_seq, unread, expiring",
    )?
    .query_row(params![tally.unread(), min_seq], super::counted)
}

/// Where a file stands that was pruned since: messages up to this one are not kept.
pub(super) fn min_seq(db: &Connection) -> rusqlite::Result<Seq> {
    db.prepare_cached("SELECT min_seq FROM inbox")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(|seq| Seq(seq.cast_unsigned()))
}
