//! Everything of a folder, page by page, for who moves it into another store.
//!
//! The store is open and at rest: nothing is accepted, every inbox has taken over what was for it, everything
//! is in its file, and its clock stands still, so that nothing expires or becomes due while it is read.

mod inbox;
mod ledger;
mod shared;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::Time;
use rusqlite::{Connection, Row, types::ValueRef};

pub(crate) use self::{
    inbox::{InboxLine, MovedMessage},
    ledger::Wanted,
    shared::MovedRecord,
};
use super::{
    Held, Inbox, OpenError, SingleConfig, SingleStore, hub_dir, ledger as books,
    record::Lsn,
    sql::{self, Sync},
    walk::{Walk, WalkError},
};
use crate::{
    Fanout, InboxKey, Store, StoreError,
    clock::WallClock,
    store::{
        Retention, Stored,
        portable::{Cell, Cells},
    },
};

/// Rows that are read at a time of what is kept once.
pub(crate) const PAGE: usize = 1_000;

/// Inboxes that are looked for at a time.
const WALK_PAGE: usize = 256;

/// How long what was due when the node stopped may take to be sent.
const DUE_PATIENCE: Duration = Duration::from_secs(120);

/// A folder cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an inbox cannot be found")]
    Walk(#[from] WalkFailure),
    #[error("{path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("scheduled messages that are due cannot be sent")]
    Due,
}

/// See [`WalkError`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct WalkFailure(WalkError);

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

/// A folder at rest.
pub(crate) struct Export {
    pub(crate) store: Arc<SingleStore>,
    /// The moment at which its clock stands.
    pub(crate) at: Time,
    shared: Arc<File>,
    ledger: Arc<File>,
}

/// A connection of its own to a file that all share.
struct File {
    path: PathBuf,
    db: Mutex<Connection>,
}

impl File {
    fn open(path: PathBuf) -> Result<Arc<Self>, ExportError> {
        match sql::open(&path, Sync::Normal) {
            Ok(db) => Ok(Arc::new(Self { path, db: Mutex::new(db) })),
            Err(source) => Err(ExportError::Sqlite { path, source }),
        }
    }

    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ExportError> {
        let file = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || ask(&file.db.lock()));
        let answered = asked.await.unwrap_or(Err(rusqlite::Error::InvalidQuery));
        answered.map_err(|source| ExportError::Sqlite { path: self.path.clone(), source })
    }
}

impl Export {
    /// Opens a folder and brings it to rest, as of a moment. `found` is told of each inbox.
    pub(crate) async fn open(
        held: Held,
        config: SingleConfig,
        at: Time,
        recorder: Arc<dyn metrics::Recorder + Send + std::marker::Sync>,
        found: impl Fn(u64),
    ) -> Result<Self, ExportError> {
        let hub = hub_dir(&config.root);
        let config = SingleConfig {
            clock: WallClock::new(move || at),
            // What is too old by now is moved as it is, and forgotten there.
            retention: Retention::default(),
            tenants: None,
            sent_kept: Duration::MAX,
            ..config
        };
        // A long journal is replayed before; not on a thread of the runtime.
        let opening = tokio::task::spawn_blocking(move || {
            SingleStore::open_held(held, &config, Arc::new(Nobody), &*recorder)
        });
        let store =
            opening.await.unwrap_or(Err(OpenError::Files("its opening panicked".into())))?;
        store.bring_to_rest(found).await?;
        Ok(Self {
            store,
            at,
            shared: File::open(hub.join("shared.db"))?,
            ledger: File::open(hub.join("ledger.db"))?,
        })
    }

    /// Ends the store. Nothing was changed since it came to rest.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }

    /// Where the journal stands: nothing in the folder names a later place.
    pub(crate) async fn place(&self) -> Result<Lsn, ExportError> {
        let shared = self.shared.ask(|db| {
            db.query_row(
                // What comes next has the floor itself: an inbox that had it already would pass it over.
                "SELECT max(lsn, ifnull((SELECT next_lsn - 1 FROM floor), 0)) FROM applied",
                [],
                |row| row.get::<_, i64>(0),
            )
        });
        let ledger = self.ledger.ask(books::applied_lsn);
        Ok(shared.await?.cast_unsigned().max(ledger.await?))
    }
}

impl SingleStore {
    async fn bring_to_rest(&self, found: impl Fn(u64)) -> Result<(), ExportError> {
        self.forgets.settled().await?;
        let began = Instant::now();
        // The store sends by itself what is due; from then on its clock does not move.
        while self.ledger.is_due().await? {
            if began.elapsed() > DUE_PATIENCE {
                return Err(ExportError::Due);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Those that only the journal knew stand in no file yet.
        for page in self.inboxes.all().chunks(WALK_PAGE) {
            self.write_all(page).await?;
        }
        self.flush_shared().await?;
        let mut walk = Walk::new(&self.root);
        loop {
            let shared = Arc::clone(&self.shared);
            let step = tokio::task::spawn_blocking(move || {
                let page: Result<Vec<InboxKey>, WalkError> =
                    std::iter::from_fn(|| walk.next(&shared)).take(WALK_PAGE).collect();
                (walk, page)
            });
            let Ok((next, page)) = step.await else { return Err(StoreError::Closing.into()) };
            walk = next;
            let page = page.map_err(WalkFailure)?;
            if page.is_empty() {
                break;
            }
            let page: Vec<_> = page.iter().map(|key| self.inbox(key)).collect();
            self.write_all(&page).await?;
            found(page.len() as u64);
        }
        // Inboxes tell both of what they found.
        self.ledger.settle().await?;
        self.flush_shared().await
    }

    /// Puts everything of inboxes into their files.
    async fn write_all(&self, inboxes: &[Arc<Inbox>]) -> Result<(), StoreError> {
        let all = inboxes.iter().map(|inbox| async move {
            let asked = Arc::clone(inbox);
            self.workers[inbox.worker].ask(move |files| files.write(&asked)).await
        });
        futures_util::future::try_join_all(all).await.map(drop)
    }

    async fn flush_shared(&self) -> Result<(), ExportError> {
        let shared = Arc::clone(&self.shared);
        let path = hub_dir(&self.root).join("shared.db");
        let flushed = tokio::task::spawn_blocking(move || shared.flush()).await;
        flushed
            .unwrap_or(Err(rusqlite::Error::InvalidQuery))
            .map_err(|source| ExportError::Sqlite { path, source })
    }
}

/// Reads all columns of a row.
pub(crate) fn cells(row: &Row<'_>) -> rusqlite::Result<Cells> {
    (0..row.as_ref().column_count())
        .map(|at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Int(number),
                ValueRef::Text(_) => Cell::Text(row.get(at)?),
                ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
                ValueRef::Real(_) => {
                    return Err(rusqlite::Error::InvalidColumnType(
                        at,
                        "a column".to_owned(),
                        rusqlite::types::Type::Real,
                    ));
                }
            })
        })
        .collect()
}

fn all(db: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<Cells>> {
    db.prepare_cached(sql)?.query_map(values, cells)?.collect()
}
