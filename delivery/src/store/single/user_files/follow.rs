//! `read_status.db`, made from the log of changes in `messages.db`.

use protocol::Status;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    super::{
        schema::{Templates, kind, status_from},
        sql::{self, Sync},
    },
    FileError, UserFiles, begin, draft, prune,
};

impl UserFiles {
    /// `read_status.db`, caught up with the log in `messages.db`; none where nothing ever changed.
    pub(in super::super) fn status(
        &mut self,
        templates: &Templates,
    ) -> Result<Option<&Connection>, FileError> {
        let sqlite = self.sqlite_status();
        let io = |source| FileError::Io { path: self.dir.join("read_status.db"), source };
        if self.status.is_none() {
            let template = &templates.status;
            if !template.is_in(&self.dir).map_err(io)? {
                let changed: bool = self
                    .messages
                    .query_row("SELECT EXISTS (SELECT 1 FROM changes)", [], |row| row.get(0))
                    .map_err(self.sqlite_messages())?;
                if !changed {
                    return Ok(None);
                }
                if !self.draft {
                    template.place(&self.dir).map_err(io)?;
                }
            }
            self.status = Some(if self.draft {
                draft(&self.dir, template)?
            } else {
                sql::open(&self.dir.join(template.name), Sync::Normal).map_err(&sqlite)?
            });
        }
        let status = self.status.as_ref().expect("opened above");
        catch_up(&self.messages, status, self.draft).map_err(sqlite)?;
        Ok(self.status.as_ref())
    }
}

fn catch_up(messages: &Connection, status: &Connection, draft: bool) -> rusqlite::Result<()> {
    let (applied, forgotten): (i64, i64) = status
        .prepare_cached("SELECT seq, min_seq FROM applied")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let min_seq = prune::min_seq(messages)?.0.cast_signed();
    let mut select = messages.prepare_cached(
        "SELECT seq, message_seq, message_id, kind, status, device_id, at FROM changes
         WHERE seq > ?1 ORDER BY seq",
    )?;
    let mut rows = select.query(params![applied])?;
    let mut next = rows.next()?;
    if next.is_none() && min_seq <= forgotten {
        return Ok(());
    }
    let transaction = begin(status, TransactionBehavior::Deferred, draft)?;
    let mut latest = applied;
    while let Some(row) = next {
        latest = row.get(0)?;
        take_over(status, row)?;
        next = rows.next()?;
    }
    if min_seq > forgotten {
        status
            .prepare_cached("DELETE FROM read_status WHERE message_seq <= ?1")?
            .execute([min_seq])?;
    }
    status
        .prepare_cached("UPDATE applied SET seq = ?1, min_seq = ?2")?
        .execute(params![latest, min_seq])?;
    transaction.map_or(Ok(()), Transaction::commit)
}

/// Takes over a row of `seq, message_seq, message_id, kind, status, device_id, at`.
fn take_over(status: &Connection, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
    let (seq, message_seq, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(6)?);
    let (id, device) = (row.get_ref(2)?.as_str()?, row.get::<_, Option<String>>(5)?);
    let became = status_from(row.get(4)?);
    match row.get(3)? {
        kind::MARK | kind::PRESS => status
            .prepare_cached(
                "INSERT INTO read_status
                 (message_seq, message_id, status, is_read, read_at, device_id, updated_at, version)
                 VALUES (?1, ?2, ?3, ?4, CASE WHEN ?4 THEN ?5 END, ?6, ?5, ?7)
                 ON CONFLICT (message_seq) DO UPDATE SET
                   status = excluded.status, is_read = excluded.is_read,
                   read_at = CASE WHEN excluded.is_read
                                  THEN coalesce(read_at, excluded.read_at) END,
                   device_id = excluded.device_id, updated_at = excluded.updated_at,
                   version = excluded.version
                 WHERE status <> 'recalled'",
            )?
            .execute(params![message_seq, id, became.as_str(), became.is_read(), at, device, seq]),
        kind::RECALL if became == Status::Recalled => status
            .prepare_cached(
                "INSERT INTO read_status
                 (message_seq, message_id, status, is_read, read_at, device_id, updated_at, version)
                 VALUES (?1, ?2, 'recalled', 0, NULL, NULL, ?3, ?4)
                 ON CONFLICT (message_seq) DO UPDATE SET
                   status = excluded.status, device_id = NULL,
                   updated_at = excluded.updated_at, version = excluded.version",
            )?
            .execute(params![message_seq, id, at, seq]),
        _ => Ok(0),
    }
    .map(drop)
}
