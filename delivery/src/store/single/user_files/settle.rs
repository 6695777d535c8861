//! Messages whose time has passed become `expired` in the file, so that every count and list goes by
//! the status alone, and an expired message costs nothing any more.

use protocol::{Status, Time};
use rusqlite::{Connection, params};

use super::{
    super::schema::status_code,
    Counted, FileError, UserFiles, WriteError,
    tally::Tally,
    write::{Row, row},
};

/// Messages that expire in one transaction, at most: bounds how long a question waits for one.
const SETTLE_MAX: u32 = 1_000;

impl UserFiles {
    /// Turns what has expired by now into `expired`. None if nothing has.
    pub(in super::super) fn settle(&self, now: Time) -> Result<Option<Counted>, FileError> {
        let mut counted = None;
        while self.has_expired(now)? {
            counted = Some(self.change(|db| settle_some(db, now))?);
        }
        Ok(counted)
    }

    fn has_expired(&self, now: Time) -> Result<bool, FileError> {
        self.messages
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM message WHERE expire_at <= ?1 AND status < 3)",
            )
            .and_then(|mut select| select.query_row([now.millis()], |row| row.get(0)))
            .map_err(self.sqlite_messages())
    }
}

fn settle_some(db: &Connection, now: Time) -> Result<Counted, WriteError> {
    let mut tally = Tally::default();
    let mut select = db.prepare_cached(
        "SELECT seq, status, ifnull(channel_id, '') FROM message
         WHERE expire_at <= ?1 AND status < 3 LIMIT ?2",
    )?;
    let expired: Vec<Row> =
        select.query_map(params![now.millis(), SETTLE_MAX], row)?.collect::<Result<_, _>>()?;
    let mut update = db.prepare_cached("UPDATE message SET status = ?1 WHERE seq = ?2")?;
    for message in expired {
        update.execute(params![status_code(Status::Expired), message.seq.0.cast_signed()])?;
        tally.becomes(&message.channel, message.status, Status::Expired);
    }
    tally.write(db)?;
    let counted = db
        .prepare_cached(
            "UPDATE inbox SET unread = max(0, unread + ?1), expiring = EXISTS
             (SELECT 1 FROM message WHERE expire_at IS NOT NULL AND status < 3)
             RETURNING head, min_seq, unread, expiring",
        )?
        .query_row([tally.unread()], super::counted)?;
    Ok(counted)
}
