//! What `shared.db` looks like.

use std::sync::Arc;

use protocol::{Body, MessageId, Time};
use rusqlite::{Connection, Row, types::Type};

use super::super::{
    forget::ScrubError,
    inbox::{SharedEntry, What},
    record::RewriteRecord,
};
use crate::store::{Audience, Group};

/// `user_version` of the file.
pub(super) const VERSION: i64 = 4;

/// SQLite keeps the comments: `.schema` explains itself.
const SCHEMA: &str = "
CREATE TABLE broadcasts (               -- messages to groups and to everyone, their edits and recalls
    lsn INTEGER PRIMARY KEY,            -- where it stands in the journal
    tenant TEXT NOT NULL,
    grps TEXT,                          -- JSON: the groups it is for; none if it is for everyone
    target INTEGER,                     -- of an edit or recall: the message's lsn
    id TEXT NOT NULL,                   -- the message's id
    at INTEGER NOT NULL,                -- unix ms
    expire_at INTEGER,                  -- unix ms
    body TEXT                           -- JSON; none in a recall
);
CREATE INDEX broadcasts_everyone ON broadcasts (tenant, lsn) WHERE grps IS NULL;
CREATE INDEX broadcasts_target ON broadcasts (target, lsn) WHERE target IS NOT NULL;
CREATE TABLE broadcast_groups (         -- the groups of a broadcast
    tenant TEXT NOT NULL,
    grp TEXT NOT NULL,                  -- 'c:' and a channel's id, or 'r:' and a role
    lsn INTEGER NOT NULL,
    PRIMARY KEY (tenant, grp, lsn)
) WITHOUT ROWID;
CREATE TABLE users (                    -- everybody who is known
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    since_lsn INTEGER NOT NULL,         -- the record since which the inbox exists
    seen_at INTEGER NOT NULL,           -- unix ms
    grouped INTEGER NOT NULL DEFAULT 0, -- 1 if there may be rows in members
    issued_at INTEGER,                  -- when the latest token was made, unix ms
    facts TEXT,                         -- JSON: what tokens and admins said; none where nobody did
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
CREATE TABLE members (                  -- who is and was in which group
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    grp TEXT NOT NULL,                  -- as in broadcast_groups
    since_lsn INTEGER NOT NULL,         -- the record by which it began
    until_lsn INTEGER,                  -- the record by which it ended
    joined_at INTEGER NOT NULL,         -- unix ms
    PRIMARY KEY (tenant, user, grp, since_lsn)
) WITHOUT ROWID;
CREATE INDEX members_now ON members (tenant, grp, user) WHERE until_lsn IS NULL;
CREATE INDEX members_past ON members (tenant, grp, user) WHERE until_lsn IS NOT NULL;
CREATE TABLE channels (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    since_lsn INTEGER NOT NULL,         -- the record that made it
    channel TEXT NOT NULL,              -- JSON
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE TABLE counts (                   -- so that nothing is counted when it is asked for
    tenant TEXT NOT NULL,
    what TEXT NOT NULL,                 -- members of a group, as in broadcast_groups, or 'channels'
    n INTEGER NOT NULL,
    lsn INTEGER NOT NULL,               -- the latest record that changed it
    PRIMARY KEY (tenant, what)
) WITHOUT ROWID;
CREATE TABLE forgetting (               -- users who are being forgotten
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    lsn INTEGER NOT NULL,               -- by which record
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
CREATE TABLE applied (                  -- how far the journal has been taken over
    one INTEGER PRIMARY KEY CHECK (one = 1),
    lsn INTEGER NOT NULL
);
INSERT INTO applied VALUES (1, 0);
CREATE TABLE floor (                    -- journal positions are never used twice
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_lsn INTEGER NOT NULL
);
PRAGMA user_version = 4;";

/// Version 3 knew nobody who was being forgotten.
const FROM_3: &str = "
CREATE TABLE forgetting (               -- users who are being forgotten
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    lsn INTEGER NOT NULL,               -- by which record
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
PRAGMA user_version = 4;";

/// `counts.what` of a tenant's channels.
pub(super) const CHANNELS: &str = "channels";

/// `shared.db` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum SharedError {
    #[error("shared.db")]
    Sqlite(#[from] rusqlite::Error),
    #[error("shared.db cannot be opened")]
    Scrubbed(#[from] ScrubError),
    #[error("shared.db is of version {0}; this build reads {VERSION}")]
    Version(i64),
}

/// Makes the tables of a fresh file; refuses one of another version.
pub(super) fn prepare(db: &mut Connection) -> Result<(), SharedError> {
    match db.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        VERSION => Ok(()),
        from @ (0 | 3) => {
            let transaction = db.transaction()?;
            transaction.execute_batch(if from == 0 { SCHEMA } else { FROM_3 })?;
            Ok(transaction.commit()?)
        }
        found => Err(SharedError::Version(found)),
    }
}

/// A group as it stands in a column.
pub(in super::super) fn group_text(group: &Group) -> String {
    match group {
        Group::Channel(id) => format!("c:{id}"),
        Group::Role(id) => format!("r:{id}"),
    }
}

/// Reads a group from a column.
pub(super) fn group_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<Group>> {
    let text = row.get_ref(at)?.as_str()?;
    let group = match text.split_at_checked(2) {
        Some(("c:", id)) => id.parse().map(Group::Channel),
        Some(("r:", id)) => id.parse().map(Group::Role),
        _ => Err(protocol::IdError::Empty),
    };
    group.map(Arc::new).map_err(|error| unreadable(at, error))
}

/// The columns that [`entry_of`] reads, of `broadcasts AS b`.
pub(super) const ENTRY: &str = "b.lsn, b.id, b.expire_at, b.body, b.grps, b.target, b.at";

/// Reads [`ENTRY`].
pub(super) fn entry_of(tenant: &str, row: &Row<'_>) -> rusqlite::Result<SharedEntry> {
    let to = match row.get_ref(4)?.as_str_or_null()? {
        None => Audience::Everyone,
        Some(_) => Audience::Some { users: Arc::new([]), groups: from_json(row, 4)? },
    };
    let to = Arc::new(to);
    let at = Time::from_millis(row.get(6)?);
    let body = match row.get_ref(3)?.as_str_or_null()? {
        Some(_) => Some(body_of(row, 1)?),
        None => None,
    };
    let what = match (row.get::<_, Option<i64>>(5)?, body) {
        (None, Some(body)) => What::Message(body),
        (target, body) => What::Rewrite(Arc::new(RewriteRecord {
            tenant: tenant.parse().map_err(|error| unreadable(0, error))?,
            id: message_id_of(row, 1)?,
            target: target.unwrap_or_default().cast_unsigned(),
            audience: Arc::clone(&to),
            at,
            body,
        })),
    };
    Ok(SharedEntry { lsn: row.get::<_, i64>(0)?.cast_unsigned(), at, to, what })
}

/// As it stands in a column.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("ids and lists of them have no failing Serialize")
}

/// Reads what [`to_json`] wrote.
pub(in super::super) fn from_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(at)?.as_str()?).map_err(|error| unreadable(at, error))
}

/// As a `LIMIT`.
pub(in super::super) fn most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Reads an id from a column.
pub(in super::super) fn id_of<T: std::str::FromStr<Err = protocol::IdError>>(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    row.get_ref(at)?.as_str()?.parse().map_err(|error| unreadable(at, error))
}

fn message_id_of(row: &Row<'_>, at: usize) -> rusqlite::Result<MessageId> {
    id_of(row, at)
}

/// Reads `id, expire_at, body` from three columns.
pub(in super::super) fn body_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<Body>> {
    let id = message_id_of(row, at)?;
    let expire_at = row.get::<_, Option<i64>>(at + 1)?.map(Time::from_millis);
    Ok(Arc::new(Body::from_stored(id, expire_at, row.get_ref(at + 2)?.as_bytes()?)))
}

fn unreadable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_back_from_its_column() {
        let db = Connection::open_in_memory().unwrap();
        for group in [
            Group::Channel("r:x".parse().unwrap()),
            Group::Role("department:研发".parse().unwrap()),
        ] {
            let read =
                db.query_row("SELECT ?1", [group_text(&group)], |row| group_of(row, 0)).unwrap();
            assert_eq!(*read, group);
        }
        for text in ["", "c", "c:", "x:y", "é:"] {
            assert!(db.query_row("SELECT ?1", [text], |row| group_of(row, 0)).is_err());
        }
    }

    #[test]
    fn a_file_of_the_version_before_becomes_one_of_this() {
        let mut db = Connection::open_in_memory().unwrap();
        prepare(&mut db).unwrap();
        db.execute_batch("DROP TABLE forgetting; PRAGMA user_version = 3").unwrap();
        prepare(&mut db).unwrap();
        assert!(
            !db.prepare("SELECT tenant, user, lsn FROM forgetting").unwrap().exists([]).unwrap()
        );
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        prepare(&mut db).unwrap();
        prepare(&mut db).unwrap();
        db.execute_batch("PRAGMA user_version = 2").unwrap();
        assert!(matches!(prepare(&mut db), Err(SharedError::Version(2))));
    }
}
