//! Copies an inbox into a backup while the worker goes on.
//!
//! The worker only begins it: with the tail in the file, a second connection begins to read, and from then on sees
//! that moment. The copying itself is SQLite's own, from one file into another, on a thread beside. Meanwhile the
//! `-wal` of this inbox grows by what is written to it; that ends with the copy, which waits for no client.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use protocol::{Seq, Time};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc;

use super::{OpenError, SingleConfig, SingleStore, cursors, layout, walk::Walk};
use crate::{
    InboxKey, StoreError,
    backup::{BackupError, Cursors, Draft, Line, Made, Place, Since, SinceSearch, Wanted, aside},
};

const COLUMNS: &str =
    "m.seq, m.version, m.status, m.priority, m.stored_at, m.created_at, m.expire_at,
    m.channel_id, m.message_type, m.sender, m.collapse_key, m.id, m.body";

impl SingleStore {
    pub(super) async fn copy_out(
        &self,
        key: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> Result<Draft, BackupError> {
        let inbox = self.inbox(key);
        let file = layout::inbox_dir(&self.root, key).join("messages.db");
        let shared = Arc::new(Mutex::new(Some(draft)));
        let (begun, held) = (Arc::clone(&shared), inbox.clone());
        let begun = self.ask(&inbox, move |open, _| {
            if open.is_draft() {
                return Ok(None);
            }
            let begun = begun.lock().as_ref().map_or(Ok(()), |draft| begin(draft.db(), &file));
            let state = held.state.lock();
            let cursors = state.cursors.iter().flat_map(|cursors| &cursors.devices);
            let cursors: Cursors =
                cursors.map(|(id, at)| (id.clone(), at.seq, at.acked_at)).collect();
            Ok(Some(begun.map(|()| cursors)))
        });
        let begun = begun.await?;
        let mut draft = shared.lock().take().expect("whoever begins it puts it back");
        let key = key.clone();
        match begun {
            // Nothing of this inbox was ever stored.
            None => {
                aside(move || {
                    empty(&mut draft, key, wanted)?;
                    Ok(draft)
                })
                .await
            }
            Some(None) => {
                let full = "its file cannot be brought up to date";
                Err(StoreError::NotWritable(Arc::from(Box::from(full))).into())
            }
            Some(Some(begun)) => {
                let cursors = begun.map_err(|error| draft.failed(error))?;
                aside(move || {
                    copy(&mut draft, key, wanted, &cursors)?;
                    Ok(draft)
                })
                .await
            }
        }
    }
}

impl SingleStore {
    /// Tells of every inbox.
    pub(super) async fn walk_all(&self, to: mpsc::Sender<InboxKey>) -> Result<(), StoreError> {
        let (root, shared) = (Arc::clone(&self.root), Arc::clone(&self.shared));
        let walked = tokio::task::spawn_blocking(move || {
            let (mut walk, mut failed) = (Walk::new(&root), None);
            while let Some(found) = walk.next(&shared) {
                match found {
                    Ok(key) => {
                        if to.blocking_send(key).is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            failed.map_or(Ok(()), |error| Err(StoreError::Damaged(Arc::new(error))))
        });
        walked.await.unwrap_or(Err(StoreError::Closing))
    }
}

/// From here on the draft's connection sees the inbox as it is now.
fn begin(db: &Connection, file: &Path) -> rusqlite::Result<()> {
    db.execute("ATTACH ?1 AS src", [file.to_string_lossy()])?;
    db.execute_batch("PRAGMA src.cache_size = -2048; BEGIN; SELECT head FROM src.inbox")
}

/// After which change an incremental backup is; 0 for the others.
fn since(
    wanted: Wanted,
    line: &Line,
    mut at: impl FnMut(Seq) -> Result<Option<Time>, BackupError>,
) -> Result<Seq, BackupError> {
    let Wanted::Incremental(since) = wanted else { return Ok(Seq::ZERO) };
    let since = match since {
        Since::Seq(seq) => seq,
        Since::Time(time) => {
            let mut search = SinceSearch::new(line);
            while let Some(seq) = search.next() {
                search.tell(at(seq)?.is_some_and(|at| at >= time));
            }
            search.found()
        }
    };
    line.check_since(since)?;
    Ok(since)
}

fn copy(
    draft: &mut Draft,
    key: InboxKey,
    wanted: Wanted,
    cursors: &Cursors,
) -> Result<(), BackupError> {
    let mut line = Line::new(wanted, key);
    let failed = |error| draft.failed(error);
    let db = draft.db();
    db.query_row("SELECT head, min_seq, delivered, acked FROM src.inbox", [], |row| {
        let seq = |at| row.get::<_, i64>(at).map(|seq| Seq(seq.cast_unsigned()));
        (line.head, line.min_seq, line.delivered, line.acked) =
            (seq(0)?, seq(1)?, seq(2)?, seq(3)?);
        Ok(())
    })
    .map_err(failed)?;
    line.since = since(wanted, &line, |seq| changed_at(db, seq).map_err(failed))?;
    rows(draft, wanted, line.since, cursors).map_err(failed)?;
    draft.finish(line).map_err(|error| draft.failed(error))?;
    draft.db().execute_batch("COMMIT; DETACH src").map_err(|error| draft.failed(error))
}

/// When a change came.
fn changed_at(db: &Connection, seq: Seq) -> rusqlite::Result<Option<Time>> {
    db.prepare_cached(
        "SELECT at FROM src.changes WHERE seq = ?1
         UNION ALL SELECT stored_at FROM src.message WHERE seq = ?1",
    )?
    .query_row([seq.0.cast_signed()], |row| row.get(0))
    .optional()
    .map(|at| at.map(Time::from_millis))
}

fn rows(draft: &Draft, wanted: Wanted, since: Seq, cursors: &Cursors) -> rusqlite::Result<()> {
    let db = draft.db();
    let since = since.0.cast_signed();
    let insert = |from: &str, values: &[&dyn rusqlite::ToSql]| {
        let sql = format!("INSERT OR IGNORE INTO main.message SELECT {COLUMNS} FROM {from}");
        db.execute(&sql, values)
    };
    match wanted {
        Wanted::Messages => {
            db.execute(
                "INSERT INTO main.message SELECT seq, seq, 0, priority, stored_at, created_at,
                     expire_at, channel_id, message_type, sender, collapse_key, id, body
                 FROM src.message WHERE status < 3",
                [],
            )?;
            // Whose devices have what is not in it.
            return Ok(());
        }
        Wanted::Full => {
            insert("src.message AS m", &[])?;
        }
        Wanted::Incremental(_) => {
            // Three ways in which a message changes, each found by an index or the key.
            insert("src.message AS m WHERE m.seq > ?1", &[&since])?;
            insert(
                "src.changes AS c JOIN src.message AS m ON m.seq = c.message_seq
                 WHERE c.seq > ?1",
                &[&since],
            )?;
            insert(
                "src.message AS m INDEXED BY message_away
                 WHERE m.status > 1 AND m.status = 5 AND m.version > ?1",
                &[&since],
            )?;
        }
    }
    db.execute(
        "INSERT INTO main.changes SELECT seq, message_seq, message_id, kind, status, device_id, at,
             action_index, action FROM src.changes WHERE seq > ?1",
        [since],
    )?;
    // A device may confirm today what was sent long ago: by the time as well.
    let from = match changed_at(db, Seq(since.cast_unsigned()))? {
        Some(at) if since > 0 => at.millis(),
        _ => i64::MIN,
    };
    db.execute(
        "INSERT INTO main.receipt SELECT from_seq, to_seq, kind, device_id, at FROM src.receipt
         WHERE to_seq > ?1 OR at >= ?2",
        params![since, from],
    )?;
    draft.cursors(cursors)
}

/// Backs an inbox up out of a folder, whether or not a node serves it. Of one that is served it is what is in its
/// files, which follow what was accepted by a second or so.
///
/// # Errors
/// As [`Place::make`].
pub async fn back_up_folder(
    config: &SingleConfig,
    place: &Place,
    wanted: Wanted,
) -> Result<Made, BackupError> {
    let settings = config.clone();
    let open = move || SingleStore::open(&settings, Arc::new(Nobody), &metrics::NoopRecorder);
    let opened = tokio::task::spawn_blocking(open).await.map_err(std::io::Error::other)?;
    match opened {
        Ok(store) => {
            let made = place.make(&*store, wanted).await;
            crate::Store::close(&*store).await;
            made
        }
        Err(OpenError::InUse(_)) => {
            let (root, key) = (config.root.clone(), place.inbox().clone());
            place.make_by(|draft| aside(move || of_files(&root, key, wanted, draft))).await
        }
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

struct Nobody;

impl crate::Fanout for Nobody {
    fn publish(&self, _: &[crate::store::Stored]) {}
}

fn of_files(
    root: &Path,
    key: InboxKey,
    wanted: Wanted,
    mut draft: Draft,
) -> Result<Draft, BackupError> {
    let dir = layout::inbox_dir(root, &key);
    let file = dir.join("messages.db");
    if !file.is_file() {
        empty(&mut draft, key, wanted)?;
        return Ok(draft);
    }
    begin(draft.db(), &file).map_err(|error| draft.failed(error))?;
    let cursors = cursors::read(&dir)?.devices;
    let cursors = cursors.into_iter().map(|(id, at)| (id, at.seq, at.acked_at)).collect();
    copy(&mut draft, key, wanted, &cursors)?;
    Ok(draft)
}

/// Of an inbox in which nothing was ever stored.
fn empty(draft: &mut Draft, key: InboxKey, wanted: Wanted) -> Result<(), BackupError> {
    let line = Line::new(wanted, key);
    since(wanted, &line, |_| Ok(None))?;
    draft.finish(line).map_err(|error| draft.failed(error))
}
