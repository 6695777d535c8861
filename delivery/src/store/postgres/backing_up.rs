//! Copies an inbox into a backup: page by page, all of them of one moment.

use protocol::{DeviceId, Seq, Time};
use rusqlite::params;
use tokio::sync::mpsc;
use tokio_postgres::Row;

use super::{
    columns::{Columns as _, most, position, seq},
    core::Core,
    errors::Failure,
    pool::{self, Transaction, row, rows},
};
use crate::{
    InboxKey, StoreError,
    backup::{BackupError, Cursors, Draft, Line, Since, SinceSearch, Wanted, aside},
};

/// Rows of a page: fewer where bodies are large, so that a page stays at about [`PAGE_BYTES`]. The largest body,
/// 256 KiB, in each of the first 16 is 4 MiB.
const PAGE: (usize, usize) = (16, 1_024);

/// How large a page of messages should be, in bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Changes and receipts of a page.
const ROWS: usize = 4_096;

/// Inboxes of a page.
const WALKED: usize = 256;

const MESSAGES: &str = "SELECT m.seq, m.version, m.status, m.priority, m.stored_at, m.created_at,
        m.expire_at, m.channel, m.message_type, m.sender, m.collapse_key, b.message_id, b.body
    FROM messages m JOIN bodies b ON b.id = m.body
    WHERE m.inbox = $1 AND m.seq > $2";

/// Which messages changed after a position.
const CHANGED: &str = "(m.seq > $4 OR m.status = 5 AND m.version > $4
    OR m.seq IN (SELECT c.message_seq FROM changes c WHERE c.inbox = $1 AND c.seq > $4))";

impl Core {
    pub(super) async fn back_up(
        &self,
        key: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> Result<Draft, BackupError> {
        // What devices have done is on its way; what waits for the inbox is taken over.
        super::notes::flush(self).await.map_err(refused)?;
        self.head(key).await.map_err(refused)?;
        let mut client = self.db.client().await.map_err(refused)?;
        let look = pool::look(&mut client).await.map_err(refused)?;
        let mut line = Line::new(wanted, key.clone());
        let id = match self.see(&look, key, false).await.map_err(refused)? {
            Some(inbox) => {
                (line.head, line.min_seq) = (seq(inbox.head), seq(inbox.min_seq));
                Some(inbox.id)
            }
            None => None,
        };
        if let Wanted::Incremental(since) = wanted {
            line.since = match since {
                Since::Seq(seq) => seq,
                Since::Time(time) => find(&look, id.unwrap_or_default(), &line, time).await?,
            };
            line.check_since(line.since)?;
        }
        let mut copy = Copy { look, id: id.unwrap_or_default(), since: line.since, draft: None };
        copy.draft = Some(draft);
        copy.put(|draft| draft.db().execute_batch("BEGIN")).await?;
        if id.is_some() {
            copy.messages(wanted).await?;
            if wanted != Wanted::Messages {
                copy.changes().await?;
                copy.receipts().await?;
                (line.delivered, line.acked) = copy.devices().await?;
            }
        }
        copy.put(move |draft| draft.finish(line)).await?;
        copy.put(|draft| draft.db().execute_batch("COMMIT")).await?;
        copy.draft.ok_or_else(|| StoreError::Closing.into())
    }
}

impl Core {
    /// Tells of every inbox.
    pub(super) async fn walk_all(&self, to: mpsc::Sender<InboxKey>) -> Result<(), Failure> {
        let sql = "SELECT id, tenant, usr FROM inboxes WHERE id > $1 ORDER BY id LIMIT $2";
        let mut after = 0i64;
        loop {
            let page = rows(&self.db.client().await?, sql, &[&after, &most(WALKED)]).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.column(0)?;
            for row in &page {
                if to.send(InboxKey::new(row.id(1)?, row.id(2)?)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn refused(failure: Failure) -> BackupError {
    StoreError::from(failure).into()
}

/// The change before the first from a moment on.
async fn find(
    look: &Transaction<'_>,
    inbox: i64,
    line: &Line,
    time: Time,
) -> Result<Seq, BackupError> {
    let mut search = SinceSearch::new(line);
    while let Some(seq) = search.next() {
        let at = changed_at(look, inbox, seq).await?;
        search.tell(at.is_some_and(|at| at >= time));
    }
    Ok(search.found())
}

/// When a change came.
async fn changed_at(
    look: &Transaction<'_>,
    inbox: i64,
    seq: Seq,
) -> Result<Option<Time>, BackupError> {
    let sql = "SELECT at FROM changes WHERE inbox = $1 AND seq = $2
        UNION ALL SELECT stored_at FROM messages WHERE inbox = $1 AND seq = $2";
    let found = row(look, sql, &[&inbox, &position(seq)]).await.map_err(refused)?;
    found.map(|row| row.time(0)).transpose().map_err(refused)
}

/// A copy that is under way.
struct Copy<'a> {
    look: Transaction<'a>,
    id: i64,
    since: Seq,
    /// None only while it is written to.
    draft: Option<Draft>,
}

impl Copy<'_> {
    /// Writes something, on a thread that may wait.
    async fn put(
        &mut self,
        write: impl FnOnce(&mut Draft) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), BackupError> {
        let Some(mut draft) = self.draft.take() else { return Err(StoreError::Closing.into()) };
        let written = aside(move || match write(&mut draft) {
            Ok(()) => Ok(draft),
            Err(error) => Err(draft.failed(error)),
        });
        self.draft = Some(written.await?);
        Ok(())
    }

    async fn messages(&mut self, wanted: Wanted) -> Result<(), BackupError> {
        let only = match wanted {
            Wanted::Full => "",
            Wanted::Messages => " AND m.status < 3",
            Wanted::Incremental(_) => &format!(" AND {CHANGED}"),
        };
        let sql = format!("{MESSAGES}{only} ORDER BY m.seq LIMIT $3");
        let (mut after, mut size, since) = (0i64, PAGE.0, position(self.since));
        loop {
            let (id, limit) = (self.id, most(size));
            let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                vec![&id, &after, &limit];
            if matches!(wanted, Wanted::Incremental(_)) {
                values.push(&since);
            }
            let page = rows(&self.look, &sql, &values).await.map_err(refused)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.column(0).map_err(refused)?;
            let bytes: usize = page.iter().map(|row| row.column(12).map_or(0, str::len)).sum();
            size = match bytes {
                large if large > PAGE_BYTES => size / 2,
                small if small < PAGE_BYTES / 4 => size * 2,
                _ => size,
            }
            .clamp(PAGE.0, PAGE.1);
            let plain = wanted == Wanted::Messages;
            let page = page.iter().map(|row| message(row, plain));
            let page: Vec<_> = page.collect::<Result<_, _>>().map_err(refused)?;
            self.put(move |draft| insert(draft, &page)).await?;
        }
    }

    async fn changes(&mut self) -> Result<(), BackupError> {
        let sql =
            "SELECT seq, message_seq, message_id, kind, status, device, at, action_index, action
            FROM changes WHERE inbox = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let mut after = position(self.since);
        loop {
            let values: pool::Values<'_> = &[&self.id, &after, &most(ROWS)];
            let page = rows(&self.look, sql, values).await.map_err(refused)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.column(0).map_err(refused)?;
            self.put(move |draft| {
                let mut insert = draft.db().prepare_cached(
                    "INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?;
                page.iter().try_for_each(|row| {
                    insert
                        .execute(params![
                            row.get::<_, i64>(0),
                            row.get::<_, i64>(1),
                            row.get::<_, &str>(2),
                            row.get::<_, i16>(3),
                            row.get::<_, i16>(4),
                            row.get::<_, Option<&str>>(5),
                            row.get::<_, i64>(6),
                            row.get::<_, Option<i16>>(7),
                            row.get::<_, Option<&str>>(8),
                        ])
                        .map(drop)
                })
            })
            .await?;
        }
    }

    async fn receipts(&mut self) -> Result<(), BackupError> {
        // A device may confirm today what was sent long ago: by the time as well.
        let from = match changed_at(&self.look, self.id, self.since).await? {
            Some(at) if self.since > Seq::ZERO => at.millis(),
            _ => i64::MIN,
        };
        let sql = "SELECT from_seq, to_seq, kind, device, at FROM receipts
            WHERE inbox = $1 AND (to_seq > $2 OR at >= $3) AND (from_seq, kind, device) > ($4, $5, $6)
            ORDER BY from_seq, kind, device LIMIT $7";
        let (mut after, since) = ((0i64, 0i16, String::new()), position(self.since));
        loop {
            let values: pool::Values<'_> =
                &[&self.id, &since, &from, &after.0, &after.1, &after.2, &most(ROWS)];
            let page = rows(&self.look, sql, values).await.map_err(refused)?;
            let Some(last) = page.last() else { return Ok(()) };
            let place = || -> Result<_, Failure> {
                Ok((last.column(0)?, last.column(2)?, last.column(3)?))
            };
            after = place().map_err(refused)?;
            self.put(move |draft| {
                let mut insert =
                    draft.db().prepare_cached("INSERT INTO receipt VALUES (?1, ?2, ?3, ?4, ?5)")?;
                page.iter().try_for_each(|row| {
                    insert
                        .execute(params![
                            row.get::<_, i64>(0),
                            row.get::<_, i64>(1),
                            row.get::<_, i16>(2),
                            row.get::<_, &str>(3),
                            row.get::<_, i64>(4),
                        ])
                        .map(drop)
                })
            })
            .await?;
        }
    }

    /// What each device confirmed; answers what any has got and confirmed.
    async fn devices(&mut self) -> Result<(Seq, Seq), BackupError> {
        let sql = "SELECT device, seq, at FROM cursors WHERE inbox = $1";
        let found = rows(&self.look, sql, &[&self.id]).await.map_err(refused)?;
        let cursor = |row: &Row| -> Result<(DeviceId, Seq, Time), Failure> {
            Ok((row.id(0)?, row.seq(1)?, row.time(2)?))
        };
        let cursors: Cursors =
            found.iter().map(cursor).collect::<Result<_, _>>().map_err(refused)?;
        self.put(move |draft| draft.cursors(&cursors)).await?;
        let sql = "SELECT delivered, acked FROM reached WHERE inbox = $1";
        let reached = row(&self.look, sql, &[&self.id]).await.map_err(refused)?;
        let reached = reached.map(|row| Ok((row.seq(0)?, row.seq(1)?)));
        Ok(reached.transpose().map_err(refused)?.unwrap_or_default())
    }
}

/// A row of a backup's `message`.
struct Message {
    numbers: [i64; 6],
    expire_at: Option<i64>,
    channel: Option<String>,
    message_type: String,
    sender: String,
    collapse_key: Option<String>,
    id: String,
    body: String,
}

/// `plain`: as nobody has done anything with it.
fn message(row: &Row, plain: bool) -> Result<Message, Failure> {
    let (seq, version): (i64, i64) = (row.column(0)?, row.column(1)?);
    let (status, priority) = (row.column::<i16>(2)?, row.column::<i16>(3)?);
    let (version, status) = if plain { (seq, 0) } else { (version, status) };
    Ok(Message {
        numbers: [seq, version, status.into(), priority.into(), row.column(4)?, row.column(5)?],
        expire_at: row.column(6)?,
        channel: row.column(7)?,
        message_type: row.column(8)?,
        sender: row.column(9)?,
        collapse_key: row.column(10)?,
        id: row.column(11)?,
        body: row.column(12)?,
    })
}

fn insert(draft: &Draft, page: &[Message]) -> rusqlite::Result<()> {
    let mut insert = draft.db().prepare_cached(
        "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    page.iter().try_for_each(|message| {
        let [seq, version, status, priority, stored_at, created_at] = message.numbers;
        insert
            .execute(params![
                seq,
                version,
                status,
                priority,
                stored_at,
                created_at,
                message.expire_at,
                message.channel,
                message.message_type,
                message.sender,
                message.collapse_key,
                message.id,
                message.body,
            ])
            .map(drop)
    })
}
