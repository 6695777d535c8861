//! `shared.db`: what is kept once for all inboxes of a node.
//!
//! Messages to groups and to everyone stand here once; an inbox takes them over when it is next
//! touched. Everybody who is known stands here with the record since which the inbox exists, so that
//! it does not receive what was sent to everyone before; and the directory: channels, members, what
//! tokens and admins said of users.
//!
//! Everything is also in the journal until the file is synced, and the file says how far it has
//! taken the journal over, so `synchronous=NORMAL` is enough and replaying changes nothing. It is
//! written by a thread of its own, some time later: ten thousand users who join a channel are twenty
//! thousand rows, and a checkpoint waits for the disk; neither may stand in the way of a send. Until
//! then readers find it in [`Waiting`].

mod forget;
mod names;
mod prune;
mod read;
mod readers;
mod recent;
mod schema;
mod sent;
#[cfg(test)]
mod tests;
mod waiting;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use protocol::{TenantId, Time};
use rusqlite::Connection;

use self::{
    readers::Readers,
    recent::Recent,
    schema::SharedError,
    waiting::{Item, Waiting},
};
use super::{
    forget::Scrubbed,
    inbox::SharedEntry,
    journal,
    metrics::StoreMetrics,
    record::{DirectoryRecord, ForgetRecord, Lsn},
    sql::{self, Sync},
};
use crate::InboxKey;

pub(super) use self::{
    read::{Standing, USERS, Wanted, facts_of},
    schema::{body_of, from_json, group_text, id_of, most},
};

/// What may wait for the file, in bytes of memory: some 100,000 new members, or as many messages as
/// are sent in a second. Above it what would come here is refused as `Busy`.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// From so much on nothing waits for company.
const HURRY_BYTES: usize = WAITING_BYTES_MAX / 4;

/// What is written in one transaction, in bytes of memory, unless one item is larger: some 10,000
/// rows, a tenth of a second.
const FLUSH_BYTES: usize = 4 << 20;

/// How long a file that cannot be written is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Memory for pages of the file, in KiB, for each connection: names are looked up all over it.
const CACHE_KIB: u32 = 512;

/// See the module.
pub(super) struct Shared {
    path: PathBuf,
    /// The journal up to here was in the file when it was opened.
    found: Lsn,
    recent: Mutex<Recent>,
    /// Never held while the file is used.
    waiting: Mutex<Waiting>,
    wake: Condvar,
    writer: Mutex<Connection>,
    readers: Readers,
    /// The last attempt to write failed, and the log says so.
    failing: AtomicBool,
    metrics: Arc<StoreMetrics>,
    /// Closed after the connections.
    scrubbed: Scrubbed,
}

impl Shared {
    pub(super) fn open(path: &Path, metrics: Arc<StoreMetrics>) -> Result<Self, SharedError> {
        let mut writer = open(path)?;
        schema::prepare(&mut writer)?;
        let found: i64 = writer.query_row("SELECT lsn FROM applied", [], |row| row.get(0))?;
        let found = found.cast_unsigned();
        // Of channels and roles that are gone; nobody is counting now.
        writer.execute("DELETE FROM counts WHERE n = 0", [])?;
        Ok(Self {
            path: path.to_owned(),
            found,
            recent: Mutex::new(Recent::new(found + 1)),
            waiting: Mutex::default(),
            wake: Condvar::new(),
            writer: Mutex::new(writer),
            readers: Readers::open(path)?,
            failing: AtomicBool::new(false),
            metrics,
            scrubbed: Scrubbed::open(path)?,
        })
    }

    /// The first position of the journal that was not used as far as this file knows.
    pub(super) fn floor(&self) -> rusqlite::Result<Lsn> {
        Ok(journal::floor(&self.writer.lock())?.max(self.found + 1))
    }

    pub(super) fn set_floor(&self, next: Lsn) -> rusqlite::Result<()> {
        journal::set_floor(&self.writer.lock(), next)
    }

    /// Keeps what was sent to groups or everyone. This and everything else that is kept is visible
    /// at once.
    pub(super) fn add_entry(&self, tenant: &TenantId, entry: SharedEntry) {
        // A replayed journal brings again what is in the file already.
        if entry.lsn <= self.found {
            return;
        }
        let entry = Arc::new(entry);
        self.recent.lock().push(tenant.clone(), Arc::clone(&entry));
        self.add(Item::Entry { tenant: tenant.clone(), entry });
    }

    /// Keeps a user whose inbox begins to exist.
    pub(super) fn add_seen(&self, lsn: Lsn, key: InboxKey, at: Time) {
        if lsn > self.found {
            self.add(Item::Seen { lsn, key, at });
        }
    }

    /// Keeps a change of the directory.
    pub(super) fn add_directory(&self, lsn: Lsn, record: &Arc<DirectoryRecord>) {
        if lsn > self.found {
            self.add(Item::Directory { lsn, record: Arc::clone(record) });
        }
    }

    /// Forgets a user.
    pub(super) fn add_forgotten(&self, lsn: Lsn, record: &Arc<ForgetRecord>) {
        if lsn > self.found {
            self.add(Item::Forget { lsn, record: Arc::clone(record) });
        }
    }

    /// Keeps a user whose inbox is found to exist since a record.
    pub(super) fn add_known(&self, key: InboxKey, since: Lsn, at: Time) {
        self.add(Item::Known { key, since, at });
    }

    /// Keeps when a token was made that said nothing new. Forgotten by a crash right after, and when
    /// too much waits: a token that is older, but newer than what was said last, is believed then.
    pub(super) fn add_issued(&self, key: InboxKey, at: Time) {
        if !self.is_behind() {
            self.add(Item::Issued { key, at });
        }
    }

    fn add(&self, item: Item) {
        let mut waiting = self.waiting.lock();
        let first = waiting.is_empty();
        waiting.add(item);
        self.show(&waiting);
        let wake = first || waiting.bytes() >= HURRY_BYTES;
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }

    fn show(&self, waiting: &Waiting) {
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        self.metrics.shared_bytes.set(waiting.bytes() as f64);
    }

    /// Whether more waits than may.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.lock().bytes() > WAITING_BYTES_MAX
    }

    /// Writes what waits now. After an error the rest waits on, and the journal must not be trimmed.
    pub(super) fn flush(&self) -> rusqlite::Result<()> {
        let mut writer = self.writer.lock();
        let mut left = self.waiting.lock().len();
        while left > 0 {
            // They stay where readers find them until the file has them.
            let items = self.waiting.lock().first(left, FLUSH_BYTES);
            let transaction = writer.transaction()?;
            write::write(&transaction, &items)?;
            transaction.commit()?;
            left -= items.len();
            let mut waiting = self.waiting.lock();
            waiting.written(items.len());
            self.show(&waiting);
        }
        Ok(())
    }

    /// Writes until closed and, if the disk allows, nothing waits.
    pub(super) fn run(&self, interval: Duration) {
        loop {
            let closing = {
                let mut waiting = self.waiting.lock();
                while waiting.is_empty() && !waiting.closing {
                    self.wake.wait(&mut waiting);
                }
                let until = Instant::now() + interval;
                while !waiting.closing && waiting.bytes() < HURRY_BYTES {
                    if self.wake.wait_until(&mut waiting, until).timed_out() {
                        break;
                    }
                }
                waiting.closing
            };
            let written = self.flush();
            let failed = written.is_err();
            if let Err(error) = written {
                self.metrics.shared_errors.increment(1);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "shared.db cannot be written now; the journal keeps what belongs there");
                }
            } else {
                self.failing.store(false, Ordering::Relaxed);
            }
            if closing {
                return;
            }
            if failed {
                let mut waiting = self.waiting.lock();
                if !waiting.closing {
                    self.wake.wait_for(&mut waiting, RETRY_AFTER);
                }
            }
        }
    }

    /// Makes the file refuse writes, as a full disk does.
    #[cfg(test)]
    pub(super) fn set_writable(&self, writable: bool) {
        let refuse = format!("PRAGMA query_only = {}", !writable);
        self.writer.lock().execute_batch(&refuse).expect("a pragma");
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.wake.notify_one();
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = sql::open(path, Sync::Normal)?;
    // What is not said of anybody any more must not linger in free space: who is forgotten later may
    // have left a channel before.
    connection
        .execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}; PRAGMA secure_delete = ON;"))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
