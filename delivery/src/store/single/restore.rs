//! Brings inboxes back into a folder that no node serves.
//!
//! What the folder's journal still has is written out first. Each inbox is made beside, whole, and changes places with
//! what was there in one step of the file system: whatever ends in between, the one or the other is there.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use protocol::Seq;
use rusqlite::{Connection, params};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    Export, Held, SingleConfig, SingleStore, cursors,
    cursors::Cursor,
    hub_dir, layout, private,
    record::Lsn,
    schema::Templates,
    sql::{self, Sync},
};
use crate::{
    Fanout, InboxKey, Store as _, StoreError,
    backup::{Opened, RestoreError},
    clock,
    store::Stored,
};

/// Where inboxes are made, and where what they replaced is taken apart, in the node's own folder.
const MAKING: &str = "restoring";

/// Where damaged inboxes are put that are replaced, in the node's own folder.
const QUARANTINE: &str = "quarantine";

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

fn folder(error: impl Into<Box<dyn std::error::Error + Send + std::marker::Sync>>) -> RestoreError {
    RestoreError::Folder(error.into())
}

/// Brings inboxes back. All are looked at before any is changed. `done` is told of each.
///
/// # Errors
/// [`RestoreError::Used`] where an inbox is there and is not to be replaced, [`RestoreError::Folder`].
pub async fn restore(
    config: SingleConfig,
    backups: Vec<Opened>,
    replace: bool,
    done: impl Fn() + Send + 'static,
) -> Result<(), RestoreError> {
    let root = config.root.clone();
    let damaged = make_known(&config, &backups, replace).await?;
    for key in damaged {
        quarantine(&root, &key).map_err(folder)?;
    }
    let held = Held::hold(&root).map_err(folder)?;
    let recorder = Arc::new(metrics::NoopRecorder);
    let export =
        Export::open(held, config, clock::now(), recorder, |_| {}).await.map_err(folder)?;
    let place = export.place().await;
    export.close().await;
    let place = place.map_err(folder)?;
    let held = Held::hold(&root).map_err(folder)?;
    let work = move || -> Result<(), RestoreError> {
        let templates = Templates::new().map_err(folder)?;
        for backup in &backups {
            put(&root, backup, place, &templates)?;
            done();
        }
        drop(held);
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(folder)?
}

/// Puts files of control data into a folder that no node serves: all of them, or none where one is there and is not to
/// be replaced.
pub(crate) fn place_files(
    root: &Path,
    from: &Path,
    names: &[&str],
    replace: bool,
) -> Result<(), RestoreError> {
    let hub = hub_dir(root);
    private::own_dir(root).and_then(|()| private::own_dir(&hub)).map_err(folder)?;
    let _held = if hub.join("shared.db").is_file() {
        Some(Held::hold(root).map_err(folder)?)
    } else {
        None
    };
    if !replace && let Some(name) = names.iter().find(|name| hub.join(name).exists()) {
        return Err(folder(format!(
            "{} is there; --replace puts the backup in its place",
            hub.join(name).display()
        )));
    }
    for name in names {
        put_file(&from.join(name), &hub.join(name)).map_err(folder)?;
    }
    File::open(&hub).and_then(|hub| hub.sync_all()).map_err(folder)
}

/// Puts a SQLite file in the place of another.
fn put_file(from: &Path, to: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(end);
        std::path::PathBuf::from(name)
    };
    let new = with(".new");
    fs::copy(from, &new)?;
    File::open(&new)?.sync_all()?;
    // A log of what was there before is not one of what comes.
    for log in [with("-wal"), with("-shm")] {
        match fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(new, to)
}

/// Has the folder's store know all of them, so that each receives what is sent to everyone later. Answers those whose
/// files are damaged.
async fn make_known(
    config: &SingleConfig,
    backups: &[Opened],
    replace: bool,
) -> Result<Vec<InboxKey>, RestoreError> {
    let settings = config.clone();
    let open = move || SingleStore::open(&settings, Arc::new(Nobody), &metrics::NoopRecorder);
    let store = tokio::task::spawn_blocking(open).await.map_err(folder)?.map_err(folder)?;
    let known = async {
        let mut damaged = Vec::new();
        for backup in backups {
            let key = &backup.line().inbox;
            match store.head(key).await {
                Ok(head) if head.seq > Seq::ZERO && !replace => {
                    return Err(RestoreError::Used(key.user.to_string()));
                }
                Ok(_) => {}
                Err(StoreError::Damaged(_)) if replace => damaged.push(key.clone()),
                Err(error) => return Err(folder(error)),
            }
        }
        for backup in backups.iter().filter(|one| !damaged.contains(&one.line().inbox)) {
            store.watch(&backup.line().inbox).await.map_err(folder)?;
        }
        Ok(damaged)
    };
    let known = known.await;
    store.close().await;
    known
}

/// Takes a damaged inbox out of the way, and keeps it.
fn quarantine(root: &Path, key: &InboxKey) -> io::Result<()> {
    let away = hub_dir(root).join(QUARANTINE);
    private::create_dir(&away)?;
    fs::rename(layout::inbox_dir(root, key), away.join(uuid::Uuid::now_v7().to_string()))
}

/// Makes an inbox and puts it in its place.
fn put(
    root: &Path,
    backup: &Opened,
    place: Lsn,
    templates: &Templates,
) -> Result<(), RestoreError> {
    let key = &backup.line().inbox;
    let making = hub_dir(root).join(MAKING);
    // What an earlier try left.
    remove(&making).map_err(folder)?;
    private::create_dir(&making).map_err(folder)?;
    templates.messages.place(&making).map_err(folder)?;
    fill(&making.join(templates.messages.name), backup, place).map_err(folder)?;
    let cursors: Vec<_> = backup
        .cursors()
        .map_err(folder)?
        .into_iter()
        .map(|(device, seq, acked_at)| (device, Cursor { seq, acked_at }))
        .collect();
    if !cursors.is_empty() {
        cursors::write(&making, &cursors).map_err(folder)?;
    }
    exchange(&making, &layout::inbox_dir(root, key)).map_err(folder)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Puts a folder in the place of another, which is removed.
fn exchange(made: &Path, place: &Path) -> io::Result<()> {
    for name in ["messages.db", "."] {
        File::open(made.join(name))?.sync_all()?;
    }
    let parent = place.parent().unwrap_or(place);
    private::create_dir(parent)?;
    if place.exists() {
        renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE)?;
    } else {
        fs::rename(made, place)?;
    }
    File::open(parent)?.sync_all()?;
    remove(made)
}

/// Fills a fresh `messages.db`. What it says of the journal is where that stands: nothing before is for it any more.
fn fill(path: &Path, backup: &Opened, place: Lsn) -> rusqlite::Result<()> {
    let db: Connection = sql::open(path, Sync::Off)?;
    db.execute("ATTACH ?1 AS b", [backup.path().to_string_lossy()])?;
    db.execute_batch("BEGIN")?;
    db.execute(
        "INSERT INTO main.inbox SELECT 1, tenant, user, head, min_seq,
             (SELECT count(*) FROM b.message WHERE status = 0),
             EXISTS (SELECT 1 FROM b.message WHERE expire_at IS NOT NULL AND status < 3),
             delivered, acked, 0, ?1 FROM b.backup",
        params![place.cast_signed()],
    )?;
    db.execute_batch(
        "INSERT INTO main.message SELECT m.seq, m.version,
             ifnull((SELECT max(c.seq) FROM b.changes AS c
                 WHERE c.message_seq = m.seq AND c.kind = 2), m.seq),
             m.status, m.priority, m.stored_at, m.created_at, m.expire_at, m.channel_id,
             m.message_type, m.sender, m.collapse_key, m.id, m.body FROM b.message AS m ORDER BY m.seq;
         INSERT INTO main.tally SELECT status, ifnull(channel_id, ''), count(*)
             FROM b.message GROUP BY 1, 2;
         INSERT INTO main.changes SELECT seq, message_seq, message_id, kind, status, device_id, at,
             action_index, action FROM b.changes ORDER BY seq;
         INSERT INTO main.receipt SELECT from_seq, to_seq, kind, device_id, at FROM b.receipt;
         COMMIT; DETACH b",
    )?;
    // All of it in the one file that is synced.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.close().map_err(|(_, error)| error)
}
