//! What the files of an inbox look like, and how a fresh one comes to be.

use std::{fs, io, path::Path};

use protocol::Status;
use rusqlite::Connection;

use super::private;

/// What `messages.db` looks like. SQLite keeps the comments: `.schema` explains itself. The columns
/// of the view are not generated columns of the table, because SQLite works those out at every
/// insert, virtual ones too.
const MESSAGES_SCHEMA: &str = "
CREATE TABLE inbox ( -- one line about this inbox
    one INTEGER PRIMARY KEY CHECK (one = 1),
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    head INTEGER NOT NULL,        -- seq of the latest change: 1, 2, 3 ... without holes
    unread INTEGER NOT NULL,      -- messages with status 0
    expiring INTEGER NOT NULL,    -- 1 if some message has an expire_at
    applied_lsn INTEGER NOT NULL  -- how far the node's journal has been applied here
);
CREATE TABLE message (            -- what the view messages shows
    seq INTEGER PRIMARY KEY,      -- where the message was created in this inbox
    version INTEGER NOT NULL,     -- seq of its latest change
    status INTEGER NOT NULL,      -- 0 unread, 1 read, 2 archived, 3 recalled
    expire_at INTEGER,            -- unix ms; after it the message is not shown
    id TEXT NOT NULL UNIQUE,
    body_version INTEGER NOT NULL, -- seq of the change that last wrote the body
    body TEXT NOT NULL            -- JSON, as sent to clients
);
CREATE INDEX message_unread ON message (seq) WHERE status = 0;
CREATE INDEX message_away ON message (seq, status) WHERE status > 1;
CREATE INDEX message_edited ON message (body_version) WHERE body_version > seq;
CREATE INDEX message_expiring ON message (expire_at) WHERE expire_at IS NOT NULL;
CREATE VIEW messages AS           -- the inbox, column by column
    SELECT seq, id,
        body ->> '$.channel_id' AS channel_id,
        body ->> '$.title' AS title,
        body ->> '$.content' AS content,
        body ->> '$.message_type' AS message_type,
        body ->> '$.priority' AS priority,
        body ->> '$.sender' AS sender,
        body ->> '$.created_at' AS created_at,
        CASE status WHEN 0 THEN 'unread' WHEN 1 THEN 'read'
                    WHEN 2 THEN 'archived' ELSE 'recalled' END AS status,
        version, expire_at, body
    FROM message;
CREATE TABLE changes (            -- every change of a message's status
    seq INTEGER PRIMARY KEY,      -- where the change stands in this inbox
    message_seq INTEGER NOT NULL, -- message.seq
    message_id TEXT NOT NULL,
    status INTEGER NOT NULL,      -- what it became
    device_id TEXT,               -- who did it
    at INTEGER NOT NULL           -- unix ms
);
PRAGMA user_version = 1;";

const STATUS_SCHEMA: &str = "
CREATE TABLE read_status (        -- messages whose state ever changed, made from changes in messages.db
    message_seq INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL,
    status TEXT NOT NULL,         -- unread, read, archived, recalled
    is_read INTEGER NOT NULL,
    read_at INTEGER,              -- unix ms
    device_id TEXT,               -- the device of the latest change
    updated_at INTEGER NOT NULL,  -- unix ms
    version INTEGER NOT NULL      -- seq of the latest change
);
CREATE TABLE applied (            -- how far changes has been taken over
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
);
INSERT INTO applied VALUES (1, 0);
PRAGMA user_version = 1;";

/// `user_version` of the files.
pub(super) const VERSION: i64 = 1;

/// Status as it stands in the files.
pub(super) const fn status_code(status: Status) -> i64 {
    match status {
        Status::Unread => 0,
        Status::Read => 1,
        Status::Archived => 2,
        Status::Recalled => 3,
        // Never stored: it follows from expire_at.
        Status::Expired => 4,
        Status::Collapsed => 5,
    }
}

/// See [`status_code`].
pub(super) const fn status_from(code: i64) -> Status {
    match code {
        0 => Status::Unread,
        1 => Status::Read,
        2 => Status::Archived,
        3 => Status::Recalled,
        _ => Status::Expired,
    }
}

/// The two files of an inbox when they are fresh.
pub(super) struct Templates {
    pub(super) messages: Template,
    pub(super) status: Template,
}

impl Templates {
    pub(super) fn new() -> rusqlite::Result<Self> {
        Ok(Self {
            messages: Template::new("messages.db", MESSAGES_SCHEMA)?,
            status: Template::new("read_status.db", STATUS_SCHEMA)?,
        })
    }
}

/// A fresh file.
pub(super) struct Template {
    pub(super) name: &'static str,
    schema: &'static str,
    /// Made once: copying 40 KiB is 30 times faster than creating tables with their syncs.
    bytes: Vec<u8>,
}

impl Template {
    pub(super) fn new(name: &'static str, schema: &'static str) -> rusqlite::Result<Self> {
        Ok(Self { name, schema, bytes: fresh(schema)? })
    }

    /// Whether a folder has this file. Shorter than a fresh one it counts as missing: a power cut
    /// came before its first sync, and until then the journal has everything that belongs in it,
    /// see `trim`.
    pub(super) fn is_in(&self, dir: &Path) -> io::Result<bool> {
        match fs::metadata(dir.join(self.name)) {
            Ok(metadata) => Ok(metadata.len() >= self.bytes.len() as u64),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Puts a fresh file into a folder, whole or not at all as far as the running system goes.
    pub(super) fn place(&self, dir: &Path) -> io::Result<()> {
        for suffix in ["-wal", "-shm"] {
            match fs::remove_file(dir.join(format!("{}{suffix}", self.name))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        private::place(dir, self.name, &self.bytes)
    }

    /// A fresh file for who cannot have one on the disk, open for changes as after `sql::open_draft`.
    pub(super) fn draft(&self) -> rusqlite::Result<Connection> {
        let connection = in_memory(self.schema)?;
        connection.execute_batch("BEGIN")?;
        Ok(connection)
    }
}

/// A database with this schema and nothing in it, as bytes, in WAL mode.
pub(super) fn fresh(schema: &str) -> rusqlite::Result<Vec<u8>> {
    let mut bytes = in_memory(schema)?.serialize("main")?.to_vec();
    // File format 2: WAL (https://sqlite.org/fileformat.html, offsets 18 and 19). Switching the
    // mode later costs two syncs for each file.
    bytes[18] = 2;
    bytes[19] = 2;
    Ok(bytes)
}

fn in_memory(schema: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(schema)?;
    Ok(connection)
}
