//! What a backup looks like inside: format 1.
//!
//! One file with the inbox as of one moment, free of what only a store knows (places in a journal, ids of rows), so
//! that it is the same from every store and goes into every store. `.schema` explains itself.
//!
//! What can be derived is not there twice: when a message was read, whether it was edited and when it went follow
//! from the log of changes, which is whole for every message that is there.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::{DeviceId, Seq, Time};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, params};

use super::{BackupError, Kind};
use crate::InboxKey;

/// `user_version` of the file.
pub(crate) const FORMAT: i64 = 1;

/// `application_id` of the file: "phb1", so that `file` and we know it.
pub(crate) const APPLICATION_ID: i64 = 0x7068_6231;

/// Bytes of a page: SQLite's own default.
const PAGE_BYTES: u64 = 4_096;

/// Pages kept in memory while a backup is written, in KiB: it is written once, in order.
const CACHE_KIB: i32 = 2_048;

/// Room in bytes below which a disk counts as full: what SQLite writes at a time.
const ROOM_MIN: u64 = 1 << 20;

/// Steps of SQLite's machine between two looks whether somebody still waits: some microseconds.
const STEPS: i32 = 10_000;

const SCHEMA: &str = "
CREATE TABLE backup (              -- one line about this file
    one INTEGER PRIMARY KEY CHECK (one = 1),
    type TEXT NOT NULL,            -- full, messages or incremental
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    made_at INTEGER NOT NULL,      -- unix ms
    since INTEGER NOT NULL,        -- it has what changed after this seq; 0 for everything
    head INTEGER NOT NULL,         -- and up to this one, which was the inbox's latest
    min_seq INTEGER NOT NULL,      -- changes up to this one were not kept any more
    delivered INTEGER NOT NULL,    -- seq of the latest change that went to some device
    acked INTEGER NOT NULL,        -- seq of the latest change that some device confirmed
    messages INTEGER NOT NULL,     -- how many rows there are in message,
    changes INTEGER NOT NULL,      -- in changes,
    receipts INTEGER NOT NULL,     -- in receipt
    devices INTEGER NOT NULL       -- and in device
);
CREATE TABLE message (             -- what the view messages shows
    seq INTEGER PRIMARY KEY,       -- where the message was created in the inbox
    version INTEGER NOT NULL,      -- seq of its latest change
    status INTEGER NOT NULL,       -- 0 unread, 1 read, 2 archived, 3 recalled, 4 expired, 5 collapsed
    priority INTEGER NOT NULL,     -- 1 to 10
    stored_at INTEGER NOT NULL,    -- unix ms; when it was sent to the inbox
    created_at INTEGER NOT NULL,   -- unix ms, as in the body
    expire_at INTEGER,             -- unix ms; after it the message is not shown
    channel_id TEXT,
    message_type TEXT NOT NULL,
    sender TEXT NOT NULL,
    collapse_key TEXT,             -- a newer one of the same sender and key takes its place
    id TEXT NOT NULL,
    body TEXT NOT NULL             -- JSON, as sent to clients
);
CREATE TABLE changes (             -- every change but the arrival of messages
    seq INTEGER PRIMARY KEY,       -- where the change stands in the inbox
    message_seq INTEGER NOT NULL,  -- message.seq; 0 for a message that is not kept any more
    message_id TEXT NOT NULL,
    kind INTEGER NOT NULL,         -- 0 marked by its reader, 1 a button pressed, 2 edited, 3 recalled
    status INTEGER NOT NULL,       -- what the message became; as in message
    device_id TEXT,                -- who did it
    at INTEGER NOT NULL,           -- unix ms
    action_index INTEGER,          -- which button was pressed, from 0
    action TEXT                    -- and its callback word
);
CREATE INDEX changes_of_message ON changes (message_seq, seq);
CREATE TABLE receipt (             -- which changes went to which device, and which it confirmed
    from_seq INTEGER NOT NULL,     -- the first of them
    to_seq INTEGER NOT NULL,       -- the last
    kind INTEGER NOT NULL,         -- 0 went to the device, 1 confirmed by it
    device_id TEXT NOT NULL,
    at INTEGER NOT NULL,           -- unix ms
    PRIMARY KEY (from_seq, kind, device_id)
) WITHOUT ROWID;
CREATE TABLE device (              -- where each device resumes
    device_id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,          -- the latest change it confirmed
    acked_at INTEGER NOT NULL      -- unix ms
) WITHOUT ROWID;
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
CREATE VIEW read_status AS         -- messages whose state ever changed
    SELECT m.seq AS message_seq, m.id AS message_id,
        CASE m.status WHEN 0 THEN 'unread' WHEN 1 THEN 'read' WHEN 2 THEN 'archived'
                      WHEN 3 THEN 'recalled' WHEN 4 THEN 'expired' ELSE 'collapsed' END AS status,
        m.status IN (1, 2) AS is_read,
        CASE WHEN m.status IN (1, 2) THEN (
            SELECT c.at FROM changes AS c
            WHERE c.message_seq = m.seq AND c.kind < 2 AND c.status IN (1, 2) AND c.seq > ifnull((
                SELECT max(u.seq) FROM changes AS u
                WHERE u.message_seq = m.seq AND u.kind = 0 AND u.status = 0), 0)
            ORDER BY c.seq LIMIT 1) END AS read_at,
        c.device_id, c.at AS updated_at, c.seq AS version
    FROM message AS m JOIN changes AS c ON c.seq = (
        SELECT max(l.seq) FROM changes AS l WHERE l.message_seq = m.seq AND l.kind <> 2);
";

/// What there is once of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is in it.
    pub kind: Kind,
    /// Of which inbox.
    pub inbox: InboxKey,
    /// When it was made.
    pub made_at: Time,
    /// It has what changed after this.
    pub since: Seq,
    /// Up to this.
    pub head: Seq,
    /// Changes up to this one are not kept.
    pub min_seq: Seq,
    /// The latest change that went to any device.
    pub delivered: Seq,
    /// The latest change that any device confirmed.
    pub acked: Seq,
}

impl Line {
    /// Of a backup that has nothing yet: of an inbox that was never seen.
    pub(crate) fn new(wanted: super::Wanted, inbox: InboxKey) -> Self {
        let none = Seq::ZERO;
        Self {
            kind: wanted.kind(),
            inbox,
            made_at: crate::clock::now(),
            since: none,
            head: none,
            min_seq: none,
            delivered: none,
            acked: none,
        }
    }
}

impl Line {
    /// Refuses a position whose later changes are not all kept, or that no change has.
    pub(crate) const fn check_since(&self, since: Seq) -> Result<(), BackupError> {
        let Self { min_seq, head, .. } = *self;
        if since.0 < min_seq.0 || since.0 > head.0 {
            return Err(BackupError::Since { min_seq, head });
        }
        Ok(())
    }
}

/// Looks for the first change from a moment on, by halves: a page of each is read.
pub(crate) struct SinceSearch {
    /// Changes up to this one came before.
    before: u64,
    /// The first that is known not to have.
    from: u64,
}

impl SinceSearch {
    pub(crate) const fn new(line: &Line) -> Self {
        Self { before: line.min_seq.0, from: line.head.0 + 1 }
    }

    /// The change to look at.
    pub(crate) const fn next(&self) -> Option<Seq> {
        if self.from - self.before < 2 {
            return None;
        }
        Some(Seq(self.before + (self.from - self.before) / 2))
    }

    /// Whether it came at that moment or later.
    pub(crate) const fn tell(&mut self, later: bool) {
        let middle = self.before + (self.from - self.before) / 2;
        if later {
            self.from = middle;
        } else {
            self.before = middle;
        }
    }

    /// The change before the first.
    pub(crate) const fn found(&self) -> Seq {
        Seq(self.before)
    }
}

/// What each device confirmed, and when.
pub(crate) type Cursors = Vec<(DeviceId, Seq, Time)>;

/// A backup that is being made: a store fills it and says what it is, all in one transaction.
pub struct Draft {
    db: Connection,
    path: PathBuf,
    bytes_max: u64,
    made: Option<Line>,
    /// Locked for as long as it is made, so that what a killed process left is told from it.
    _locked: std::fs::File,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("path", &self.path).field("made", &self.made).finish()
    }
}

impl Draft {
    /// Makes an empty one. It gives up, between two of its steps, once `left` says that nobody waits for it.
    pub(crate) fn create(
        path: &Path,
        bytes_max: u64,
        left: Arc<AtomicBool>,
    ) -> Result<Self, BackupError> {
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let locked = options.open(path)?;
        locked.try_lock().map_err(std::io::Error::from)?;
        // Never creates: a store's file that is not there must not come to be by being attached.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<Connection> {
            let mut db = Connection::open_with_flags(path, flags)?;
            // Nor is a store's file checkpointed by us.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // Whoever finds half of it throws it away: no journal, no sync.
            db.execute_batch(&format!(
                "PRAGMA main.page_size = {PAGE_BYTES};
                 PRAGMA main.journal_mode = OFF;
                 PRAGMA main.synchronous = OFF;
                 PRAGMA main.locking_mode = EXCLUSIVE;
                 PRAGMA main.cache_size = -{CACHE_KIB};
                 PRAGMA temp_store = MEMORY;
                 PRAGMA main.mmap_size = 0;
                 PRAGMA busy_timeout = 5000;
                 PRAGMA main.max_page_count = {};
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FORMAT};
                 BEGIN;{SCHEMA}COMMIT;",
                bytes_max.div_ceil(PAGE_BYTES).max(1)
            ))?;
            db.progress_handler(STEPS, Some(move || left.load(Ordering::Relaxed)))?;
            Ok(db)
        };
        let path = path.to_owned();
        match open() {
            Ok(db) => Ok(Self { db, path, bytes_max, made: None, _locked: locked }),
            Err(error) => Err(failed(error, &path, bytes_max)),
        }
    }

    /// Its connection, for who fills it.
    pub(crate) fn db(&self) -> &Connection {
        &self.db
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What an error of its connection means.
    pub(crate) fn failed(&self, error: rusqlite::Error) -> BackupError {
        failed(error, &self.path, self.bytes_max)
    }

    /// Writes what devices confirmed.
    pub(crate) fn cursors(&self, cursors: &Cursors) -> rusqlite::Result<()> {
        let mut insert = self.db.prepare("INSERT INTO device VALUES (?1, ?2, ?3)")?;
        for (device, seq, at) in cursors {
            insert.execute(params![device.as_str(), seq.0.cast_signed(), at.millis()])?;
        }
        Ok(())
    }

    /// Says what it is, once everything else is in it.
    pub(crate) fn finish(&mut self, line: Line) -> rusqlite::Result<()> {
        let Line { kind, inbox, made_at, since, head, min_seq, delivered, acked } = &line;
        self.db.execute(
            "INSERT INTO backup SELECT 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                (SELECT count(*) FROM message), (SELECT count(*) FROM changes),
                (SELECT count(*) FROM receipt), (SELECT count(*) FROM device)",
            params![
                kind.word(),
                inbox.tenant.as_str(),
                inbox.user.as_str(),
                made_at.millis(),
                since.0.cast_signed(),
                head.0.cast_signed(),
                min_seq.0.cast_signed(),
                delivered.0.cast_signed(),
                acked.0.cast_signed(),
            ],
        )?;
        self.made = Some(line);
        Ok(())
    }

    /// Closes it. None where no store said what it is.
    pub(crate) fn close(self) -> Result<Option<(PathBuf, Line)>, BackupError> {
        let Self { db, path, bytes_max, made, _locked } = self;
        db.close().map_err(|(_, error)| failed(error, &path, bytes_max))?;
        Ok(made.map(|line| (path, line)))
    }
}

fn failed(error: rusqlite::Error, path: &Path, bytes_max: u64) -> BackupError {
    match error.sqlite_error_code() {
        // SQLite says the same of a file that may grow no more and of a disk that has no more.
        Some(ErrorCode::DiskFull) => match rustix::fs::statvfs(path) {
            Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_MIN => BackupError::Full,
            _ => BackupError::TooLarge(bytes_max),
        },
        Some(ErrorCode::OperationInterrupted) => BackupError::Left,
        _ => BackupError::Sqlite(error),
    }
}
