//! `shared.db`: what is kept once for all inboxes of a node.
//!
//! Messages to everyone stand here once; an inbox takes them over when it is next touched. Users
//! who were seen but have no file yet stand here with the record since which they exist, so that
//! they do not receive what was sent to everyone before.
//!
//! Everything here is also in the journal until it is synced, and inserts are idempotent, so
//! `synchronous=NORMAL` is enough.

use std::{collections::VecDeque, path::Path, sync::Arc};

use parking_lot::Mutex;
use protocol::{Body, MessageId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    journal,
    record::Lsn,
    sql::{self, Sync},
};
use crate::InboxKey;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS broadcasts ( -- messages to everyone in a tenant
    lsn INTEGER PRIMARY KEY,            -- where it stands in the journal
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    expire_at INTEGER,                  -- unix ms
    body TEXT NOT NULL                  -- JSON
);
CREATE INDEX IF NOT EXISTS broadcasts_tenant ON broadcasts (tenant, lsn);
CREATE TABLE IF NOT EXISTS users (      -- seen, perhaps without a file yet
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    since_lsn INTEGER NOT NULL,
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floor (      -- journal positions are never used twice
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_lsn INTEGER NOT NULL
);
PRAGMA user_version = 1;";

/// Something that belongs here; waits in memory while the disk refuses, for the journal has it.
enum Item {
    Broadcast { lsn: Lsn, tenant: TenantId, body: Arc<Body> },
    User { lsn: Lsn, key: InboxKey },
}

/// Messages to everyone that are kept in memory: ten thousand inboxes that take over the same
/// hundred messages need not read and copy a million rows.
const RECENT_MAX: usize = 1_024;

/// Memory of their bodies, at most, in bytes.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// The latest messages to everyone, in order.
struct Recent {
    messages: VecDeque<(Lsn, TenantId, Arc<Body>)>,
    bytes: usize,
    /// Every one from this record on is here.
    complete_from: Lsn,
}

impl Recent {
    fn push(&mut self, lsn: Lsn, tenant: TenantId, body: Arc<Body>) {
        self.bytes += body.weight();
        self.messages.push_back((lsn, tenant, body));
        while self.messages.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((gone, _, body)) = self.messages.pop_front() else { break };
            self.bytes -= body.weight();
            self.complete_from = gone + 1;
        }
    }

    /// Those of a tenant after a record, if all of them are here.
    fn after(&self, tenant: &TenantId, after: Lsn) -> Option<Vec<(Lsn, Arc<Body>)>> {
        if after + 1 < self.complete_from {
            return None;
        }
        let start = self.messages.partition_point(|(lsn, _, _)| *lsn <= after);
        Some(
            self.messages
                .range(start..)
                .filter(|(_, of, _)| of == tenant)
                .map(|(lsn, _, body)| (*lsn, Arc::clone(body)))
                .collect(),
        )
    }
}

/// Written by the committer, read by the workers.
pub(super) struct Shared {
    recent: Mutex<Recent>,
    writer: Mutex<Connection>,
    /// What is not in the file yet. Locked before the reader, so that nothing is missed between.
    waiting: Mutex<Vec<Item>>,
    reader: Mutex<Connection>,
}

impl Shared {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let writer = sql::open(path, Sync::Normal)?;
        writer.execute_batch(SCHEMA)?;
        let reader = sql::open(path, Sync::Normal)?;
        let latest: Option<i64> =
            reader.query_row("SELECT max(lsn) FROM broadcasts", [], |row| row.get(0))?;
        let recent = Recent {
            messages: VecDeque::new(),
            bytes: 0,
            complete_from: latest.map_or(0, |lsn| lsn.cast_unsigned() + 1),
        };
        Ok(Self {
            recent: Mutex::new(recent),
            writer: Mutex::new(writer),
            waiting: Mutex::default(),
            reader: Mutex::new(reader),
        })
    }

    pub(super) fn floor(&self) -> rusqlite::Result<Lsn> {
        journal::floor(&self.reader.lock())
    }

    pub(super) fn set_floor(&self, next: Lsn) -> rusqlite::Result<()> {
        journal::set_floor(&self.writer.lock(), next)
    }

    /// Keeps a message to everyone. Visible at once; see [`Shared::flush`] for the disk.
    pub(super) fn add_broadcast(&self, lsn: Lsn, tenant: TenantId, body: Arc<Body>) {
        let mut recent = self.recent.lock();
        // A replayed journal brings again what is in the file already.
        if lsn >= recent.complete_from {
            recent.push(lsn, tenant.clone(), Arc::clone(&body));
        }
        drop(recent);
        self.waiting.lock().push(Item::Broadcast { lsn, tenant, body });
    }

    /// Keeps a user. Visible at once; see [`Shared::flush`] for the disk.
    pub(super) fn add_user(&self, lsn: Lsn, key: InboxKey) {
        self.waiting.lock().push(Item::User { lsn, key });
    }

    /// Writes what waits. After an error it still waits, and the journal must not be trimmed.
    pub(super) fn flush(&self) -> rusqlite::Result<()> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        for item in &*waiting {
            match item {
                Item::Broadcast { lsn, tenant, body } => {
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO broadcasts (lsn, tenant, id, expire_at, body)
                             VALUES (?1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(params![
                            lsn.cast_signed(),
                            tenant.as_str(),
                            body.id().as_str(),
                            body.expire_at().map(Time::millis),
                            std::str::from_utf8(&body.json()).expect("a body is JSON"),
                        ])?;
                }
                Item::User { lsn, key } => {
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO users (tenant, user, since_lsn)
                             VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![
                            key.tenant.as_str(),
                            key.user.as_str(),
                            lsn.cast_signed()
                        ])?;
                }
            }
        }
        transaction.commit()?;
        waiting.clear();
        Ok(())
    }

    /// The record since which a user is known.
    pub(super) fn known_since(&self, key: &InboxKey) -> rusqlite::Result<Option<Lsn>> {
        let waiting = self.waiting.lock();
        for item in &*waiting {
            match item {
                Item::User { lsn, key: seen } if seen == key => return Ok(Some(*lsn)),
                Item::User { .. } | Item::Broadcast { .. } => {}
            }
        }
        self.reader
            .lock()
            .prepare_cached("SELECT since_lsn FROM users WHERE tenant = ?1 AND user = ?2")?
            .query_row(params![key.tenant.as_str(), key.user.as_str()], |row| row.get::<_, i64>(0))
            .optional()
            .map(|lsn| lsn.map(i64::cast_unsigned))
    }

    /// What everyone in a tenant received after a record.
    pub(super) fn broadcasts_after(
        &self,
        tenant: &TenantId,
        after: Lsn,
    ) -> rusqlite::Result<Vec<(Lsn, Arc<Body>)>> {
        if let Some(recent) = self.recent.lock().after(tenant, after) {
            return Ok(recent);
        }
        let waiting = self.waiting.lock();
        let reader = self.reader.lock();
        let mut select = reader.prepare_cached(
            "SELECT lsn, id, expire_at, body FROM broadcasts
             WHERE tenant = ?1 AND lsn > ?2 ORDER BY lsn",
        )?;
        let rows = select.query_map(params![tenant.as_str(), after.cast_signed()], |row| {
            let lsn = row.get::<_, i64>(0)?.cast_unsigned();
            Ok((lsn, body_of(row, 1)?))
        })?;
        let mut found: Vec<(Lsn, Arc<Body>)> = rows.collect::<Result<_, _>>()?;
        found.extend(waiting.iter().filter_map(|item| match item {
            Item::Broadcast { lsn, tenant: of, body } if of == tenant && *lsn > after => {
                Some((*lsn, Arc::clone(body)))
            }
            Item::Broadcast { .. } | Item::User { .. } => None,
        }));
        Ok(found)
    }
}

/// Reads `id, expire_at, body` from three columns.
pub(super) fn body_of(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Arc<Body>> {
    let id = MessageId::new(row.get_ref(at)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let expire_at = row.get::<_, Option<i64>>(at + 1)?.map(Time::from_millis);
    Ok(Arc::new(Body::from_stored(id, expire_at, row.get_ref(at + 2)?.as_bytes()?)))
}
