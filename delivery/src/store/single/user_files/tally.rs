//! How many messages of which status each channel has.

use protocol::Status;
use rusqlite::{Connection, params};

use super::super::schema::status_code;

/// By how much the rows of `tally` change in a transaction.
#[derive(Default)]
pub(super) struct Tally {
    /// A batch has few channels, so a list is faster than a map.
    changes: Vec<(Status, String, i64)>,
    unread: i64,
}

impl Tally {
    /// A message comes, or goes: `by` is 1 or -1. A message in no channel has an empty one.
    pub(super) fn add(&mut self, channel: &str, status: Status, by: i64) {
        if status == Status::Unread {
            self.unread += by;
        }
        let known = self.changes.iter_mut().find(|(of, at, _)| *of == status && *at == channel);
        match known {
            Some((_, _, count)) => *count += by,
            None => self.changes.push((status, channel.to_owned(), by)),
        }
    }

    /// A message becomes something else.
    pub(super) fn becomes(&mut self, channel: &str, from: Status, to: Status) {
        self.add(channel, from, -1);
        self.add(channel, to, 1);
    }

    /// By how much the unread count changes.
    pub(super) fn unread(&self) -> i64 {
        self.unread
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut upsert = db.prepare_cached(
            "INSERT INTO tally (status, channel_id, count) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?;
        for (status, channel, by) in &self.changes {
            if *by != 0 {
                upsert.execute(params![status_code(*status), channel, by])?;
            }
        }
        Ok(())
    }
}
