//! `shared.db`: what is kept once for all inboxes of a node.
//!
//! Messages to groups and to everyone stand here once; an inbox takes them over when it is next
//! touched. Users
//! who were seen but have no file yet stand here with the record since which they exist, so that
//! they do not receive what was sent to everyone before.
//!
//! Everything here is also in the journal until it is synced, and inserts are idempotent, so
//! `synchronous=NORMAL` is enough.

use std::{collections::VecDeque, path::Path, sync::Arc};

use parking_lot::Mutex;
use protocol::{Body, IdError, MessageId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    inbox::{SharedEntry, What},
    journal,
    membership::{Membership, Memberships},
    record::{Lsn, RewriteRecord},
    sql::{self, Sync},
};
use crate::{
    InboxKey,
    store::{Audience, Group},
};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS broadcasts ( -- messages to groups and to everyone, their edits and recalls
    lsn INTEGER PRIMARY KEY,            -- where it stands in the journal
    tenant TEXT NOT NULL,
    audience TEXT NOT NULL,             -- JSON: everyone, or users and groups
    everyone INTEGER NOT NULL,          -- 1 if it is for everyone in the tenant
    target INTEGER,                     -- of an edit or recall: the message's lsn
    id TEXT NOT NULL,                   -- the message's id
    at INTEGER NOT NULL,                -- unix ms; when the store was asked
    expire_at INTEGER,                  -- unix ms
    body TEXT                           -- JSON; none in a recall
);
CREATE INDEX IF NOT EXISTS broadcasts_everyone ON broadcasts (tenant, lsn) WHERE everyone;
CREATE TABLE IF NOT EXISTS broadcast_groups ( -- the groups of a broadcast
    tenant TEXT NOT NULL,
    grp TEXT NOT NULL,                  -- JSON: a channel or a role
    lsn INTEGER NOT NULL,
    PRIMARY KEY (tenant, grp, lsn)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (    -- who is and was in which group
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    grp TEXT NOT NULL,                  -- JSON: a channel or a role
    since_lsn INTEGER NOT NULL,         -- the record by which it began
    until_lsn INTEGER,                  -- the record by which it ended
    joined_at INTEGER NOT NULL,         -- unix ms
    PRIMARY KEY (tenant, user, grp, since_lsn)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_now ON members (tenant, grp, user) WHERE until_lsn IS NULL;
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
PRAGMA user_version = 2;";

/// Something that belongs here; waits in memory while the disk refuses, for the journal has it.
enum Item {
    Entry { tenant: TenantId, entry: Arc<SharedEntry> },
    User { lsn: Lsn, key: InboxKey },
}

/// What was sent to groups and to everyone, as far as it is kept in memory: ten thousand inboxes
/// that take over the same hundred messages need not read and copy a million rows.
const RECENT_MAX: usize = 1_024;

/// Memory of their bodies, at most, in bytes.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// The latest of them, in order.
struct Recent {
    entries: VecDeque<(TenantId, Arc<SharedEntry>)>,
    bytes: usize,
    /// Every one from this record on is here.
    complete_from: Lsn,
}

impl Recent {
    fn push(&mut self, tenant: TenantId, entry: Arc<SharedEntry>) {
        self.bytes += weight(&entry);
        self.entries.push_back((tenant, entry));
        while self.entries.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, gone)) = self.entries.pop_front() else { break };
            self.bytes -= weight(&gone);
            self.complete_from = gone.lsn + 1;
        }
    }

    /// Those of a tenant after a record that may concern an inbox, if all of them are here.
    fn after(
        &self,
        tenant: &TenantId,
        memberships: &Memberships,
        after: Lsn,
    ) -> Option<Vec<SharedEntry>> {
        if after + 1 < self.complete_from {
            return None;
        }
        let start = self.entries.partition_point(|(_, entry)| entry.lsn <= after);
        Some(
            self.entries
                .range(start..)
                .filter(|(of, entry)| of == tenant && concerns(entry, memberships))
                .map(|(_, entry)| SharedEntry::clone(entry))
                .collect(),
        )
    }
}

fn weight(entry: &SharedEntry) -> usize {
    match &entry.what {
        What::Message(body) => body.weight(),
        What::Rewrite(rewrite) => rewrite.body.as_ref().map_or(0, |body| body.weight()) + 128,
        What::Mark(_) | What::Press(_) => 0,
    }
}

/// Whether it is for everyone, or for a group that the inbox is or was in. When is not looked at
/// here, see [`super::inbox::State::receives`].
fn concerns(entry: &SharedEntry, memberships: &Memberships) -> bool {
    match &*entry.to {
        Audience::Everyone => true,
        Audience::Some { groups, .. } => {
            memberships.iter().any(|stay| groups.contains(&stay.group))
        }
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
            entries: VecDeque::new(),
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

    /// Keeps what was sent to groups or everyone. Visible at once; see [`Shared::flush`] for the
    /// disk.
    pub(super) fn add_entry(&self, tenant: &TenantId, entry: SharedEntry) {
        let entry = Arc::new(entry);
        let mut recent = self.recent.lock();
        // A replayed journal brings again what is in the file already.
        if entry.lsn >= recent.complete_from {
            recent.push(tenant.clone(), Arc::clone(&entry));
        }
        drop(recent);
        self.waiting.lock().push(Item::Entry { tenant: tenant.clone(), entry });
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
                Item::Entry { tenant, entry } => write_entry(&transaction, tenant, entry)?,
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
                Item::User { .. } | Item::Entry { .. } => {}
            }
        }
        self.reader
            .lock()
            .prepare_cached("SELECT since_lsn FROM users WHERE tenant = ?1 AND user = ?2")?
            .query_row(params![key.tenant.as_str(), key.user.as_str()], |row| row.get::<_, i64>(0))
            .optional()
            .map(|lsn| lsn.map(i64::cast_unsigned))
    }

    /// Users who were seen, after one of them; those that wait for the disk come with a later walk.
    pub(super) fn users_after(
        &self,
        after: Option<&InboxKey>,
        limit: u32,
    ) -> rusqlite::Result<Vec<InboxKey>> {
        let (tenant, user) = after.map_or(("", ""), |key| (key.tenant.as_str(), key.user.as_str()));
        self.reader
            .lock()
            .prepare_cached(
                "SELECT tenant, user FROM users WHERE (tenant, user) > (?1, ?2)
                 ORDER BY tenant, user LIMIT ?3",
            )?
            .query_map(params![tenant, user, limit], |row| {
                Ok(InboxKey::new(id_at(row, 0)?, id_at(row, 1)?))
            })?
            .collect()
    }

    /// The latest of what was sent to groups or everyone, and is older than a moment together with
    /// all before it.
    pub(super) fn older_than(&self, moment: Time) -> rusqlite::Result<Option<Lsn>> {
        let reader = self.reader.lock();
        let first = reader
            .query_row(
                "SELECT lsn FROM broadcasts WHERE at >= ?1 ORDER BY lsn LIMIT 1",
                [moment.millis()],
                |row| row.get::<_, i64>(0),
            )
            .optional()?
            .unwrap_or(i64::MAX);
        reader
            .query_row("SELECT max(lsn) FROM broadcasts WHERE lsn < ?1", [first], |row| row.get(0))
            .map(|lsn: Option<i64>| lsn.map(i64::cast_unsigned))
    }

    /// Forgets some of what was sent to groups or everyone, up to a record that every inbox has taken
    /// over. Answers how much that was.
    pub(super) fn forget(&self, up_to: Lsn, limit: u32) -> rusqlite::Result<u64> {
        let writer = self.writer.lock();
        let transaction = writer.unchecked_transaction()?;
        let gone: Vec<(i64, String)> = transaction
            .prepare_cached(
                "DELETE FROM broadcasts WHERE lsn IN
                 (SELECT lsn FROM broadcasts WHERE lsn <= ?1 ORDER BY lsn LIMIT ?2)
                 RETURNING lsn, audience",
            )?
            .query_map(params![up_to.cast_signed(), limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut delete = transaction
            .prepare_cached("DELETE FROM broadcast_groups WHERE grp = ?1 AND lsn = ?2")?;
        for (lsn, audience) in &gone {
            if let Ok(Audience::Some { groups, .. }) = serde_json::from_str(audience) {
                for group in &*groups {
                    delete.execute(params![to_json(group), lsn])?;
                }
            }
        }
        drop(delete);
        transaction.commit()?;
        Ok(gone.len() as u64)
    }

    /// The groups a user is and was in.
    pub(super) fn memberships(&self, key: &InboxKey) -> rusqlite::Result<Memberships> {
        let reader = self.reader.lock();
        let mut select = reader.prepare_cached(
            "SELECT grp, since_lsn, until_lsn FROM members WHERE tenant = ?1 AND user = ?2",
        )?;
        let rows = select.query_map(params![key.tenant.as_str(), key.user.as_str()], |row| {
            Ok(Membership {
                group: Arc::new(from_json::<Group>(row, 0)?),
                since: row.get::<_, i64>(1)?.cast_unsigned(),
                until: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into())
    }

    /// What was sent after a record to everyone in a tenant, and to the groups of an inbox.
    pub(super) fn entries_after(
        &self,
        tenant: &TenantId,
        memberships: &Memberships,
        after: Lsn,
    ) -> rusqlite::Result<Vec<SharedEntry>> {
        if let Some(recent) = self.recent.lock().after(tenant, memberships, after) {
            return Ok(recent);
        }
        let waiting = self.waiting.lock();
        let reader = self.reader.lock();
        let read = |row: &rusqlite::Row<'_>| read_entry(tenant, row);
        let mut found = Vec::new();
        let mut select = reader.prepare_cached(
            "SELECT lsn, id, expire_at, body, audience, target, at FROM broadcasts
             WHERE tenant = ?1 AND everyone AND lsn > ?2",
        )?;
        for row in select.query_map(params![tenant.as_str(), after.cast_signed()], read)? {
            found.push(row?);
        }
        let mut select = reader.prepare_cached(
            "SELECT b.lsn, b.id, b.expire_at, b.body, b.audience, b.target, b.at
             FROM broadcast_groups g JOIN broadcasts b ON b.lsn = g.lsn
             WHERE g.tenant = ?1 AND g.grp = ?2 AND g.lsn > ?3",
        )?;
        let groups: std::collections::HashSet<&Group> =
            memberships.iter().map(|stay| &*stay.group).collect();
        for group in groups {
            let values = params![tenant.as_str(), to_json(group), after.cast_signed()];
            for row in select.query_map(values, read)? {
                found.push(row?);
            }
        }
        found.extend(waiting.iter().filter_map(|item| {
            match item {
                Item::Entry { tenant: of, entry } => {
                    (of == tenant && entry.lsn > after && concerns(entry, memberships))
                        .then(|| SharedEntry::clone(entry))
                }
                Item::User { .. } => None,
            }
        }));
        found.sort_by_key(|entry| entry.lsn);
        // In several of the inbox's groups.
        found.dedup_by_key(|entry| entry.lsn);
        Ok(found)
    }
}

fn write_entry(db: &Connection, tenant: &TenantId, entry: &SharedEntry) -> rusqlite::Result<()> {
    let (id, target, body) = match &entry.what {
        What::Message(body) => (body.id(), None, Some(body)),
        What::Rewrite(rewrite) => (&rewrite.id, Some(rewrite.target), rewrite.body.as_ref()),
        What::Mark(_) | What::Press(_) => return Ok(()),
    };
    let json = body.map(|body| body.json());
    db.prepare_cached(
        "INSERT OR IGNORE INTO broadcasts
         (lsn, tenant, audience, everyone, target, id, at, expire_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        entry.lsn.cast_signed(),
        tenant.as_str(),
        to_json(&*entry.to),
        *entry.to == Audience::Everyone,
        target.map(u64::cast_signed),
        id.as_str(),
        entry.at.millis(),
        body.and_then(|body| body.expire_at()).map(Time::millis),
        json.as_deref().map(|json| std::str::from_utf8(json).expect("a body is JSON")),
    ])?;
    if let Audience::Some { groups, .. } = &*entry.to {
        let mut insert = db.prepare_cached(
            "INSERT OR IGNORE INTO broadcast_groups (tenant, grp, lsn) VALUES (?1, ?2, ?3)",
        )?;
        for group in &**groups {
            insert.execute(params![tenant.as_str(), to_json(group), entry.lsn.cast_signed()])?;
        }
    }
    Ok(())
}

/// Reads `lsn, id, expire_at, body, audience, target, at`.
fn read_entry(tenant: &TenantId, row: &rusqlite::Row<'_>) -> rusqlite::Result<SharedEntry> {
    let to: Arc<Audience> = Arc::new(from_json(row, 4)?);
    let at = Time::from_millis(row.get(6)?);
    let body = match row.get_ref(3)?.as_str_or_null()? {
        Some(_) => Some(body_of(row, 1)?),
        None => None,
    };
    let what = match (row.get::<_, Option<i64>>(5)?, body) {
        (None, Some(body)) => What::Message(body),
        (target, body) => What::Rewrite(Arc::new(RewriteRecord {
            tenant: tenant.clone(),
            id: id_at(row, 1)?,
            target: target.unwrap_or_default().cast_unsigned(),
            audience: Arc::clone(&to),
            at,
            body,
        })),
    };
    Ok(SharedEntry { lsn: row.get::<_, i64>(0)?.cast_unsigned(), at, to, what })
}

/// As it stands in a column.
fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("ids and lists of them have no failing Serialize")
}

fn from_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(at)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Reads an id.
pub(super) fn id_at<T: std::str::FromStr<Err = IdError>>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    row.get_ref(at)?.as_str()?.parse().map_err(|error: IdError| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Reads `id, expire_at, body` from three columns.
pub(super) fn body_of(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Arc<Body>> {
    let id: MessageId = id_at(row, at)?;
    let expire_at = row.get::<_, Option<i64>>(at + 1)?.map(Time::from_millis);
    Ok(Arc::new(Body::from_stored(id, expire_at, row.get_ref(at + 2)?.as_bytes()?)))
}
