//! What the files of an inbox look like, and how a fresh one comes to be.

use std::{fs, io, path::Path};

use protocol::Status;
use rusqlite::Connection;

use super::private;

/// What `messages.db` looks like. SQLite keeps the comments: `.schema` explains itself.
///
/// What lists filter by stands in columns of `message` and, all of it, in the index `message_facts`:
/// whatever the filter, counting and paging read a few pages of the index and no body. Measured with
/// 100,000 messages: a filter's total 4 ms instead of 110, page 2,500 1 ms, for 10 % more of an
/// insert. An index for each filter would cost five times that; two that some lists are quicker with
/// are made where somebody asks for those lists, see `queries::list`. Metadata alone is looked for in the
/// bodies, see `queries::page`.
const MESSAGES_SCHEMA: &str = "
CREATE TABLE inbox ( -- one line about this inbox
    one INTEGER PRIMARY KEY CHECK (one = 1),
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    head INTEGER NOT NULL,         -- seq of the latest change: 1, 2, 3 ... without holes
    min_seq INTEGER NOT NULL,      -- changes up to this one are not kept any more
    unread INTEGER NOT NULL,       -- messages with status 0
    expiring INTEGER NOT NULL,     -- 1 if some message of status 0, 1 or 2 has an expire_at
    delivered INTEGER NOT NULL,    -- seq of the latest change that went to some device
    acked INTEGER NOT NULL,        -- seq of the latest change that some device confirmed
    since_lsn INTEGER NOT NULL,    -- where in the node's journal it began
    applied_lsn INTEGER NOT NULL   -- how far the node's journal has been applied here
);
CREATE TABLE message (             -- what the view messages shows
    seq INTEGER PRIMARY KEY,       -- where the message was created in this inbox
    version INTEGER NOT NULL,      -- seq of its latest change
    body_version INTEGER NOT NULL, -- seq of the change that last wrote its body
    status INTEGER NOT NULL,       -- 0 unread, 1 read, 2 archived, 3 recalled, 4 expired, 5 collapsed
    priority INTEGER NOT NULL,     -- 1 to 10
    stored_at INTEGER NOT NULL,    -- unix ms; when it was sent to this inbox
    created_at INTEGER NOT NULL,   -- unix ms, as in the body
    expire_at INTEGER,             -- unix ms; after it the message is not shown
    channel_id TEXT,
    message_type TEXT NOT NULL,
    sender TEXT NOT NULL,
    collapse_key TEXT,             -- a newer one of the same sender and key takes its place
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL             -- JSON, as sent to clients
);
CREATE INDEX message_facts ON message
    (seq, status, priority, created_at, message_type, sender, channel_id) WHERE status < 4;
CREATE INDEX message_away ON message (seq, status) WHERE status > 1;
CREATE INDEX message_channel ON message (channel_id, seq, status)
    WHERE channel_id IS NOT NULL AND status < 4;
CREATE INDEX message_expiring ON message (expire_at) WHERE expire_at IS NOT NULL AND status < 3;
CREATE INDEX message_collapsing ON message (collapse_key, sender)
    WHERE collapse_key IS NOT NULL AND status = 0;
CREATE INDEX message_edited ON message (body_version) WHERE body_version > seq;
CREATE VIEW messages AS            -- the inbox, for people
    SELECT seq, id, channel_id,
        body ->> '$.title' AS title,
        body ->> '$.content' AS content,
        message_type, priority, sender,
        strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS created_at,
        CASE status WHEN 0 THEN 'unread' WHEN 1 THEN 'read' WHEN 2 THEN 'archived'
                    WHEN 3 THEN 'recalled' WHEN 4 THEN 'expired' ELSE 'collapsed' END AS status,
        version, expire_at, body
    FROM message;
CREATE TABLE tally (               -- how many messages of a status a channel has
    status INTEGER NOT NULL,       -- message.status
    channel_id TEXT NOT NULL,      -- empty for messages in no channel
    count INTEGER NOT NULL,
    PRIMARY KEY (status, channel_id)
) WITHOUT ROWID;
CREATE TABLE changes (             -- every change but the arrival of messages
    seq INTEGER PRIMARY KEY,       -- where the change stands in this inbox
    message_seq INTEGER NOT NULL,  -- message.seq; 0 for a message that is not kept any more
    message_id TEXT NOT NULL,
    kind INTEGER NOT NULL,         -- 0 marked by its reader, 1 a button pressed, 2 edited, 3 recalled
    status INTEGER NOT NULL,       -- what the message became; as in message
    device_id TEXT,                -- who did it
    at INTEGER NOT NULL,           -- unix ms
    action_index INTEGER,          -- which button was pressed, from 0
    action TEXT                    -- and its callback word
);
CREATE INDEX changes_pressed ON changes (message_seq, action_index) WHERE action_index IS NOT NULL;
CREATE TABLE receipt (             -- which changes went to which device, and which it confirmed
    from_seq INTEGER NOT NULL,     -- the first of them
    to_seq INTEGER NOT NULL,       -- the last; a longer row of changes is cut at multiples of 256
    kind INTEGER NOT NULL,         -- 0 went to the device, 1 confirmed by it
    device_id TEXT NOT NULL,
    at INTEGER NOT NULL,           -- unix ms
    PRIMARY KEY (from_seq, kind, device_id)
) WITHOUT ROWID;
PRAGMA user_version = 2;";

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
    seq INTEGER NOT NULL,
    min_seq INTEGER NOT NULL      -- messages up to this one are not kept any more
);
INSERT INTO applied VALUES (1, 0, 0);
PRAGMA user_version = 2;";

/// `user_version` of the files.
pub(super) const VERSION: i64 = 2;

/// Kinds of changes as they stand in the file.
pub(super) mod kind {
    pub(in super::super) const MARK: i64 = 0;
    pub(in super::super) const PRESS: i64 = 1;
    pub(in super::super) const EDIT: i64 = 2;
    pub(in super::super) const RECALL: i64 = 3;
}

/// Status as it stands in the files.
pub(super) const fn status_code(status: Status) -> i64 {
    match status {
        Status::Unread => 0,
        Status::Read => 1,
        Status::Archived => 2,
        Status::Recalled => 3,
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
        4 => Status::Expired,
        _ => Status::Collapsed,
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
    /// see `trim`. A whole file of another version is there, whatever its length.
    pub(super) fn is_in(&self, dir: &Path) -> io::Result<bool> {
        let path = dir.join(self.name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() >= self.bytes.len() as u64 => Ok(true),
            Ok(metadata) => self.is_of_another_version(&path, metadata.len()),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Whether a file is a database, as long as its header says, of another version than ours.
    fn is_of_another_version(&self, path: &Path, length: u64) -> io::Result<bool> {
        // https://sqlite.org/fileformat.html: the magic, the page size at 16, the pages at 28, the
        // user version at 60.
        let mut header = [0; 64];
        if length < header.len() as u64 {
            return Ok(false);
        }
        io::Read::read_exact(&mut fs::File::open(path)?, &mut header)?;
        let pages = u32::from_be_bytes([0, 1, 2, 3].map(|n| header[28 + n]));
        let page = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        Ok(header.starts_with(b"SQLite format 3\0")
            && length >= u64::from(pages) * page
            && header[60..] != self.bytes[60..64])
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
