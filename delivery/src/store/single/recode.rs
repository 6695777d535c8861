//! Counts by which keys the content of a folder's messages is encrypted, and writes it anew with another one.
//!
//! The folder is at rest, and its journal has nothing that is not in its files; so where anything is written anew
//! the journal goes as a whole, with the room that it kept, and files are written anew without the pages that
//! they do not use: nothing of what they said before is left. What ends in between is gone on with by another run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{MessageId, TenantId};
use rusqlite::{Connection, params};

use super::{
    Export, Held, OpenError, SingleConfig, hub_dir, journal,
    ledger::schema::IdKey,
    record::{MessageRecord, Record},
    segment,
    sql::{self, Sync},
    trim::sync_file_system,
    verify::inbox_folders,
};
use crate::{
    clock,
    content::{Census, RewriteError, Rewriting, body_of, rewrite_messages, text_of},
    store::single::{export::ExportError, shared::id_of},
};

/// Rows of what is kept once that are read at a time.
const PAGE: i64 = 256;

/// The content of a folder cannot be rewritten. Nothing is lost: what was written anew stays, the rest is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecodeError {
    /// A node serves it, or it is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be brought to rest.
    #[error("the folder cannot be brought to rest")]
    Rest(#[source] Box<dyn std::error::Error + Send + std::marker::Sync>),
    /// A file, or a key.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + std::marker::Sync>,
    },
}

/// Looks through a folder that no node serves. `done` is told of each inbox.
///
/// # Errors
/// [`RecodeError`].
pub async fn recode_folder(
    config: SingleConfig,
    rewriting: Rewriting,
    done: impl Fn() + Send + 'static,
) -> Result<Census, RecodeError> {
    let root = config.root.clone();
    let rest = |error: ExportError| RecodeError::Rest(Box::new(error));
    let held = Held::hold(&root)?;
    let recorder = Arc::new(metrics::NoopRecorder);
    let export = Export::open(held, config, clock::now(), recorder, |_| {}).await.map_err(rest)?;
    let place = export.place().await;
    export.close().await;
    let place = place.map_err(rest)?;
    let held = Held::hold(&root)?;
    let work = move || {
        let census = look(&root, &rewriting, done)?;
        if rewriting.rewrite {
            leave_journal(&root, place + 1)?;
        }
        drop(held);
        Ok(census)
    };
    let failed = |error: tokio::task::JoinError| RecodeError::Rest(Box::new(error));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn at<E>(path: &Path) -> impl Fn(E) -> RecodeError
where
    E: Into<Box<dyn std::error::Error + Send + std::marker::Sync>>,
{
    let path = path.to_owned();
    move |error| RecodeError::File { path: path.clone(), source: error.into() }
}

fn look(root: &Path, rewriting: &Rewriting, done: impl Fn()) -> Result<Census, RecodeError> {
    let mut census = Census::default();
    let hub = hub_dir(root);
    let folders = inbox_folders(root).map_err(at(root))?;
    for folder in folders {
        let path = folder.join("messages.db");
        let of_inbox = |db: &Connection| inbox(db, rewriting, &mut census);
        in_file(&path, of_inbox).map_err(at(&path))?;
        if !rewriting.keys.is_empty() {
            remove_index(&folder.join(".sync")).map_err(at(&folder))?;
        }
        done();
    }
    let path = hub.join("shared.db");
    in_file(&path, |db| shared(db, rewriting, &mut census)).map_err(at(&path))?;
    let path = hub.join("ledger.db");
    in_file(&path, |db| ledger(db, rewriting, &mut census)).map_err(at(&path))?;
    Ok(census)
}

/// What words an inbox has, without which searches read the inbox, or make it anew.
fn remove_index(folder: &Path) -> io::Result<()> {
    for name in ["search.db", "search.db-wal", "search.db-shm"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Looks at a file, in one transaction; where it was changed, it is written anew as a whole.
fn in_file(
    path: &Path,
    look: impl FnOnce(&Connection) -> Result<u64, RewriteError>,
) -> Result<(), RewriteError> {
    let db = sql::open(path, Sync::Full)?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    let changed = look(&db)?;
    db.execute_batch("COMMIT")?;
    if changed > 0 {
        db.execute_batch("VACUUM")?;
        sql::empty_wal(&db)?;
    }
    Ok(db.close().map_err(|(_, error)| error)?)
}

fn inbox(db: &Connection, rewriting: &Rewriting, census: &mut Census) -> Result<u64, RewriteError> {
    let tenant: TenantId = db.query_row("SELECT tenant FROM inbox", [], |row| id_of(row, 0))?;
    let census = std::cell::RefCell::new(census);
    rewrite_messages(db, "true", |body| {
        let now = rewriting.renewed(&tenant, body)?;
        census.borrow_mut().add(&now);
        Ok(now)
    })
}

/// Messages to groups and everyone, and what they were edited to.
fn shared(
    db: &Connection,
    rewriting: &Rewriting,
    census: &mut Census,
) -> Result<u64, RewriteError> {
    let (mut after, mut changed) = (0, 0);
    let mut update = db.prepare("UPDATE broadcasts SET body = ?2 WHERE lsn = ?1")?;
    let mut select = db.prepare(
        "SELECT lsn, tenant, id, body FROM broadcasts WHERE lsn > ?1 AND body IS NOT NULL
         ORDER BY lsn LIMIT ?2",
    )?;
    loop {
        let page: Vec<(i64, TenantId, String, Vec<u8>)> = select
            .query_map(params![after, PAGE], |row| {
                let json = row.get_ref(3)?.as_bytes()?.to_vec();
                Ok((row.get(0)?, id_of(row, 1)?, row.get(2)?, json))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let Some((last, ..)) = page.last() else { return Ok(changed) };
        after = *last;
        for (lsn, tenant, id, json) in page {
            let body = body_of(&id, &json)?;
            let now = rewriting.renewed(&tenant, &body)?;
            census.add(&now);
            if !Arc::ptr_eq(&now, &body) {
                update.execute(params![lsn, text_of(&now)])?;
                changed += 1;
            }
        }
    }
}

/// What was edited after it was sent, and what waits.
fn ledger(
    db: &Connection,
    rewriting: &Rewriting,
    census: &mut Census,
) -> Result<u64, RewriteError> {
    let mut changed = 0;
    // There are few: most messages are never edited.
    let edited: Vec<(IdKey, TenantId)> = db
        .prepare("SELECT id, tenant FROM sent WHERE body IS NOT NULL")?
        .query_map([], |row| Ok((IdKey::read(row, 0)?, id_of(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (key, tenant) in edited {
        let which = params![key, tenant.as_str()];
        let sql = "SELECT body FROM sent WHERE id = ?1 AND tenant = ?2";
        let json: Vec<u8> =
            db.query_row(sql, which, |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec()))?;
        let id: MessageId = key.id();
        let body = body_of(id.as_str(), &json)?;
        let now = rewriting.renewed(&tenant, &body)?;
        census.add(&now);
        if !Arc::ptr_eq(&now, &body) {
            let sql = "UPDATE sent SET body = ?3 WHERE id = ?1 AND tenant = ?2";
            db.execute(sql, params![key, tenant.as_str(), text_of(&now)])?;
            changed += 1;
        }
    }
    let (mut after, mut select) =
        (0, db.prepare("SELECT lsn, record FROM waiting WHERE lsn > ?1 ORDER BY lsn LIMIT ?2")?);
    loop {
        let page: Vec<(i64, Vec<u8>)> = select
            .query_map(params![after, PAGE], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let Some((last, _)) = page.last() else { return Ok(changed) };
        after = *last;
        for (lsn, bytes) in page {
            // One that cannot be read is not sent either; the ledger says so when it is due.
            let Ok(record) = Record::decode(lsn.cast_unsigned(), &bytes) else { continue };
            let (Record::Message(message) | Record::Scheduled(message)) = &record else { continue };
            let now = rewriting.renewed(&message.tenant, &message.body)?;
            census.add(&now);
            if Arc::ptr_eq(&now, &message.body) {
                continue;
            }
            let message = Arc::new(MessageRecord { body: now, ..MessageRecord::clone(message) });
            let record = match record {
                Record::Message(_) => Record::Message(message),
                _ => Record::Scheduled(message),
            };
            db.execute(
                "UPDATE waiting SET record = ?2 WHERE lsn = ?1",
                params![lsn, record.encode()],
            )?;
            changed += 1;
        }
    }
}

/// Deletes the journal: all of it is in files that are on the disk.
fn leave_journal(root: &Path, next: u64) -> Result<(), RecodeError> {
    let hub = hub_dir(root);
    let path = hub.join("shared.db");
    let floor = || -> rusqlite::Result<()> {
        let db = sql::open(&path, Sync::Full)?;
        journal::set_floor(&db, next)?;
        sql::empty_wal(&db)
    };
    floor().map_err(at(&path))?;
    let clear = || -> io::Result<()> {
        sync_file_system(&fs::File::open(root)?)?;
        segment::remove_all(&hub)
    };
    clear().map_err(at(&hub))
}
