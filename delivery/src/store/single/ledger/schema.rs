//! What `ledger.db` looks like, and how ids and senders stand in it.

use std::path::Path;

use protocol::{MessageId, ServiceId, TenantId, UserId};
use rusqlite::{
    Connection, Row, ToSql,
    types::{FromSqlError, FromSqlResult, ToSqlOutput, Type, ValueRef},
};

use super::super::{
    forget::ScrubError,
    sql::{self, Sync},
};
use crate::store::{SenderKey, SentState};

/// `user_version` of the file.
const VERSION: i64 = 1;

/// Pages kept in memory by each connection, in KiB: the right edge of the sent index, and what a
/// million keys of answers have above their leaves.
const CACHE_KIB: i32 = 4_096;

/// Frames in the `-wal` before SQLite copies them into the file, in pages of 4 KiB: 16 MiB. A
/// checkpoint syncs twice, and a second of sends at full speed writes 4 MiB.
const WAL_PAGES: i32 = 4_096;

/// SQLite keeps the comments: `.schema` explains itself.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS ledger ( -- one line: how far the node's journal has been applied here
    one INTEGER PRIMARY KEY CHECK (one = 1),
    applied_lsn INTEGER NOT NULL
);
INSERT OR IGNORE INTO ledger VALUES (1, 0);
CREATE TABLE IF NOT EXISTS sent (   -- messages that were accepted, for their senders
    id NOT NULL,                    -- the 16 bytes of a msg-<UUID v7>; another id as a text
    tenant TEXT NOT NULL,
    lsn INTEGER NOT NULL,           -- where it stands in the journal: edits and recalls name it;
                                    -- of one that waits, or did: the record that scheduled it first
    state INTEGER NOT NULL,         -- 0 scheduled, 1 sent, 2 cancelled, 3 recalled
    accepted_at INTEGER NOT NULL,   -- unix ms
    scheduled_at INTEGER,           -- unix ms, where it was scheduled
    sent_at INTEGER,                -- unix ms, where it was sent
    sender TEXT NOT NULL,           -- service:<id>, user:<id> or admin
    audience BLOB NOT NULL,         -- MessagePack: users and groups, or everyone
    body TEXT,                      -- JSON, where it was edited after it was sent
    PRIMARY KEY (id, tenant)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS sent_messages AS -- the above with readable ids and times
    SELECT CASE typeof(id) WHEN 'blob' THEN 'msg-' || lower(hex(id)) ELSE id END AS id, tenant,
        CASE state WHEN 0 THEN 'scheduled' WHEN 1 THEN 'sent'
                   WHEN 2 THEN 'cancelled' ELSE 'recalled' END AS state,
        datetime(accepted_at / 1000, 'unixepoch') AS accepted_at,
        datetime(scheduled_at / 1000, 'unixepoch') AS scheduled_at,
        datetime(sent_at / 1000, 'unixepoch') AS sent_at, sender, body
    FROM sent;
CREATE TABLE IF NOT EXISTS waiting ( -- messages that wait for their time
    lsn INTEGER PRIMARY KEY,         -- of the record that scheduled it first
    id NOT NULL,                     -- as in sent
    tenant TEXT NOT NULL,
    due_at INTEGER NOT NULL,         -- unix ms
    priority INTEGER NOT NULL,       -- at one time the highest goes first
    record BLOB NOT NULL             -- as in the journal
);
CREATE UNIQUE INDEX IF NOT EXISTS waiting_id ON waiting (id, tenant);
CREATE INDEX IF NOT EXISTS waiting_due ON waiting (due_at, priority DESC, lsn);
CREATE TABLE IF NOT EXISTS answers ( -- answers to requests with an Idempotency-Key
    lsn INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    sender TEXT NOT NULL,            -- as in sent
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,       -- a hash of the request
    data TEXT NOT NULL,              -- JSON
    at INTEGER NOT NULL              -- unix ms
);
CREATE UNIQUE INDEX IF NOT EXISTS answers_key ON answers (key, sender, tenant);
CREATE TABLE IF NOT EXISTS stats (   -- messages by the hour in which they were sent
    hour INTEGER NOT NULL,           -- hours since 1970, UTC
    tenant TEXT NOT NULL,
    service TEXT NOT NULL,           -- of these four: empty for none
    template TEXT NOT NULL,
    message_type TEXT NOT NULL,
    channel TEXT NOT NULL,
    sent INTEGER NOT NULL,           -- messages
    delivered INTEGER NOT NULL,      -- recipients
    read INTEGER NOT NULL,           -- recipients
    read_ms INTEGER NOT NULL,        -- from sent to read, over those recipients
    PRIMARY KEY (hour, tenant, service, template, message_type, channel)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reread (  -- messages that were made unread again: their reading was counted
    hash INTEGER PRIMARY KEY         -- of tenant, user and place
);
PRAGMA user_version = 1;";

/// `ledger.db` cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum LedgerOpenError {
    #[error("ledger.db cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    #[error("ledger.db cannot be opened")]
    Scrubbed(#[from] ScrubError),
    #[error("ledger.db is of version {found}; this build reads {VERSION}")]
    Version { found: i64 },
}

/// Opens the file, made if it is missing.
pub(super) fn create(path: &Path) -> Result<Connection, LedgerOpenError> {
    let connection = open(path)?;
    match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        0 => connection.execute_batch(SCHEMA)?,
        VERSION => {}
        found => return Err(LedgerOpenError::Version { found }),
    }
    Ok(connection)
}

/// Opens the file that is there.
///
/// Everything in it is also in the journal until it is synced, so `synchronous=NORMAL` is enough. What is deleted
/// is overwritten: it may have been of somebody who is forgotten later.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = sql::open(path, Sync::Normal)?;
    connection.execute_batch(&format!(
        "PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {WAL_PAGES};
         PRAGMA secure_delete = ON;"
    ))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A message's id as a key: ids that sends make are kept in less than half of their text, in the
/// order of time, so that new ones go to the end of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum IdKey {
    Uuid([u8; 16]),
    Text(MessageId),
}

impl IdKey {
    pub(super) fn new(id: &MessageId) -> Self {
        uuid_of(id.as_str()).map_or_else(|| Self::Text(id.clone()), Self::Uuid)
    }

    /// Before this key stands what was made before this moment (RFC 9562 §5.7), and texts.
    pub(super) fn first_of(millis: i64) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.max(0).to_be_bytes()[2..]);
        Self::Uuid(bytes)
    }

    /// Reads a column.
    pub(in super::super) fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let value = row.get_ref(at)?;
        let key = || -> FromSqlResult<Self> {
            match value {
                ValueRef::Blob(bytes) => bytes.try_into().map(Self::Uuid).map_err(|_| {
                    FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() }
                }),
                text => {
                    let text = text.as_str()?;
                    MessageId::new(text).map(Self::Text).map_err(FromSqlError::other)
                }
            }
        };
        key().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(at, value.data_type(), Box::new(error))
        })
    }

    /// The id.
    pub(in super::super) fn id(&self) -> MessageId {
        match self {
            Self::Uuid(bytes) => {
                let text = format!("msg-{}", uuid::Uuid::from_bytes(*bytes).simple());
                MessageId::new(text).expect("36 plain characters")
            }
            Self::Text(id) => id.clone(),
        }
    }
}

impl ToSql for IdKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Uuid(bytes) => ValueRef::Blob(bytes),
            Self::Text(id) => ValueRef::Text(id.as_str().as_bytes()),
        }))
    }
}

/// The bytes of `msg-` and a UUID v7 in lower case hex digits, which is what comes back.
fn uuid_of(id: &str) -> Option<[u8; 16]> {
    let digits: &[u8; 32] = id.strip_prefix("msg-")?.as_bytes().try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    // Another version has no time in it, and would stand anywhere in the index.
    (bytes[6] >> 4 == 7).then_some(bytes)
}

/// A sender as a column.
pub(super) fn sender_text(sender: &SenderKey) -> String {
    match sender {
        SenderKey::Service(id) => format!("service:{id}"),
        SenderKey::User(id) => format!("user:{id}"),
        SenderKey::Admin => "admin".to_owned(),
    }
}

/// Reads a sender.
pub(super) fn sender_of(row: &Row<'_>, at: usize) -> rusqlite::Result<SenderKey> {
    let text = row.get_ref(at)?.as_str()?;
    let key = match text.split_once(':') {
        Some(("service", id)) => ServiceId::new(id).map(SenderKey::Service),
        Some((_, id)) => UserId::new(id).map(SenderKey::User),
        None => Ok(SenderKey::Admin),
    };
    key.map_err(|error| invalid(at, Type::Text, error))
}

/// Reads a tenant.
pub(super) fn tenant_of(row: &Row<'_>, at: usize) -> rusqlite::Result<TenantId> {
    TenantId::new(row.get_ref(at)?.as_str()?).map_err(|error| invalid(at, Type::Text, error))
}

/// A column that holds something else than we write.
pub(super) fn invalid(
    at: usize,
    of: Type,
    error: impl std::error::Error + Send + std::marker::Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, of, Box::new(error))
}

/// A state as a column.
pub(super) const fn state_code(state: SentState) -> i64 {
    match state {
        SentState::Scheduled => 0,
        SentState::Sent => 1,
        SentState::Cancelled => 2,
        SentState::Recalled => 3,
    }
}

/// See [`state_code`].
pub(super) const fn state_from(code: i64) -> SentState {
    match code {
        0 => SentState::Scheduled,
        1 => SentState::Sent,
        2 => SentState::Cancelled,
        _ => SentState::Recalled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        let v7 = "msg-019abc0012347def8123456789abcdef";
        for (text, short) in [
            (v7, true),
            ("msg-019ABC0012347def8123456789abcdef", false),
            ("msg-019abc0012344def8123456789abcdef", false),
            ("msg-019abc0012347def8123456789abcde", false),
            ("msg-019abc0012347def8123456789abcdeff", false),
            ("m1", false),
            ("订单", false),
        ] {
            let id = MessageId::new(text).unwrap();
            let key = IdKey::new(&id);
            assert_eq!(matches!(key, IdKey::Uuid(_)), short, "{text}");
            assert_eq!(key.id(), id);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_time_behind_texts() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (id NOT NULL PRIMARY KEY) WITHOUT ROWID").unwrap();
        let id = |millis: u64| {
            let time = uuid::Timestamp::from_unix_time(
                millis / 1_000,
                u32::try_from(millis % 1_000).unwrap() * 1_000_000,
                0,
                0,
            );
            MessageId::new(format!("msg-{}", uuid::Uuid::new_v7(time).simple())).unwrap()
        };
        let (first, second) = (id(1_760_000_000_000), id(1_760_000_000_001));
        for id in [&second, &MessageId::new("~").unwrap(), &first] {
            db.execute("INSERT INTO t VALUES (?1)", [IdKey::new(id)]).unwrap();
        }
        let before = |millis| -> Vec<String> {
            let mut select = db.prepare("SELECT id FROM t WHERE id < ?1 ORDER BY id").unwrap();
            let rows = select.query_map([IdKey::first_of(millis)], |row| IdKey::read(row, 0));
            rows.unwrap().map(|key| key.unwrap().id().to_string()).collect()
        };
        assert_eq!(before(1_760_000_000_001), ["~", first.as_str()]);
        assert_eq!(before(1_760_000_000_002), ["~", first.as_str(), second.as_str()]);
        assert_eq!(before(0), ["~"]);
    }
}
