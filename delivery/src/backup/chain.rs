//! Backups of one inbox, put on top of each other: the inbox as it was when the latest of them was made.

use std::{collections::BTreeMap, path::PathBuf};

use protocol::{DeviceId, Seq, Time};

use super::{Kind, Opened, ReadError, file::Cursors, read::look};
use crate::InboxKey;

/// Backups cannot be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// One of them cannot be used.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// There is nothing that the incremental ones could be put on.
    #[error("of user {0} there are incremental backups, and no full one to put them on")]
    NoFull(String),
    /// Changes are missing between two of them.
    #[error(
        "of user {user} the backups end at change {head}, and the next one begins after {since}: one is missing"
    )]
    Gap {
        /// Whose.
        user: String,
        /// What there is.
        head: Seq,
        /// What comes next.
        since: Seq,
    },
    /// There is none of whom was named.
    #[error("there is no backup of user {0} among these files")]
    NoUser(String),
    /// There is something already.
    #[error("user {0} has an inbox there; --replace puts the backup in its place")]
    Used(String),
    /// The folder, for a reason that one sentence says.
    #[error(transparent)]
    Folder(Box<dyn std::error::Error + Send + Sync>),
    /// The database, for a reason that one sentence says.
    #[error(transparent)]
    Database(Box<dyn std::error::Error + Send + Sync>),
}

/// For each inbox the latest of its full backups with the later incremental ones on top.
///
/// # Errors
/// [`RestoreError::NoFull`], [`RestoreError::Gap`], and [`RestoreError::Read`] where what comes out is not whole.
pub fn chain(opened: Vec<(PathBuf, Opened)>) -> Result<Vec<Opened>, RestoreError> {
    let mut inboxes: BTreeMap<InboxKey, Vec<(PathBuf, Opened)>> = BTreeMap::new();
    for (path, one) in opened {
        inboxes.entry(one.line().inbox.clone()).or_default().push((path, one));
    }
    inboxes.into_values().map(one_inbox).collect()
}

fn one_inbox(mut all: Vec<(PathBuf, Opened)>) -> Result<Opened, RestoreError> {
    // What says most last: full before messages only, then the latest.
    let rank = |one: &Opened| (one.line().kind == Kind::Full, one.line().head, one.line().made_at);
    let base = all
        .iter()
        .enumerate()
        .filter(|(_, (_, one))| one.line().kind != Kind::Incremental)
        .max_by_key(|(_, (_, one))| rank(one))
        .map(|(at, _)| at);
    let user = |one: &Opened| one.line().inbox.user.to_string();
    let Some(base) = base else {
        return Err(RestoreError::NoFull(
            all.first().map(|(_, one)| user(one)).unwrap_or_default(),
        ));
    };
    let (path, mut base) = all.swap_remove(base);
    let mut later: Vec<_> =
        all.into_iter().filter(|(_, one)| one.line().kind == Kind::Incremental).collect();
    later.sort_by_key(|(_, one)| (one.line().head, one.line().made_at));
    let read = |source| RestoreError::Read { path: path.clone(), source };
    if base.line().kind == Kind::Messages {
        if !later.is_empty() {
            return Err(RestoreError::NoFull(user(&base)));
        }
        base.number_anew().map_err(read)?;
        return Ok(base);
    }
    for (path, next) in later {
        if next.line().head <= base.line().head {
            continue;
        }
        if next.line().since > base.line().head {
            let (user, head, since) = (user(&base), base.line().head, next.line().since);
            return Err(RestoreError::Gap { user, head, since });
        }
        base.put_on(&next).map_err(|source| RestoreError::Read { path, source })?;
    }
    base.check_dense().map_err(read)?;
    Ok(base)
}

fn damaged(error: rusqlite::Error) -> ReadError {
    ReadError::Damaged(error.to_string())
}

impl Opened {
    /// Puts a later one on top.
    fn put_on(&mut self, next: &Self) -> Result<(), ReadError> {
        self.attach(next, "next").map_err(damaged)?;
        self.db()
            .execute_batch(
                "BEGIN;
                 INSERT OR REPLACE INTO main.message SELECT * FROM next.message;
                 INSERT OR REPLACE INTO main.changes SELECT * FROM next.changes;
                 INSERT OR REPLACE INTO main.receipt SELECT * FROM next.receipt;
                 DELETE FROM main.device;
                 INSERT INTO main.device SELECT * FROM next.device;
                 DELETE FROM main.message WHERE seq <= (SELECT min_seq FROM next.backup);
                 DELETE FROM main.changes WHERE seq <= (SELECT min_seq FROM next.backup);
                 DELETE FROM main.receipt WHERE to_seq <= (SELECT min_seq FROM next.backup);
                 UPDATE main.backup SET (made_at, head, min_seq, delivered, acked) =
                     (SELECT made_at, head, min_seq, delivered, acked FROM next.backup);
                 COMMIT; DETACH next",
            )
            .map_err(damaged)?;
        self.count_anew()
    }

    /// Gives messages that stand alone places without holes, as if they had just come.
    fn number_anew(&mut self) -> Result<(), ReadError> {
        self.db()
            .execute_batch(
                "BEGIN;
                 CREATE TEMP TABLE place (seq INTEGER PRIMARY KEY, n INTEGER NOT NULL);
                 INSERT INTO place SELECT seq, row_number() OVER (ORDER BY seq) FROM main.message;
                 UPDATE main.message SET seq =
                     -(SELECT n FROM place WHERE place.seq = main.message.seq);
                 UPDATE main.message SET seq = -seq, version = -seq;
                 UPDATE main.backup SET min_seq = 0, delivered = 0, acked = 0,
                     head = (SELECT count(*) FROM main.message);
                 DROP TABLE place; COMMIT",
            )
            .map_err(damaged)?;
        self.count_anew()
    }

    fn count_anew(&mut self) -> Result<(), ReadError> {
        self.db()
            .execute_batch(
                "UPDATE main.backup SET messages = (SELECT count(*) FROM message),
                     changes = (SELECT count(*) FROM changes),
                     receipts = (SELECT count(*) FROM receipt),
                     devices = (SELECT count(*) FROM device)",
            )
            .map_err(damaged)?;
        let (line, counts) = look(self.db()).map_err(damaged)?;
        self.is_now(line.ok_or(ReadError::Foreign)?, counts);
        Ok(())
    }

    /// Every change has one row, and there is no other.
    fn check_dense(&self) -> Result<(), ReadError> {
        let sql = "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM changes),
            (SELECT max(ifnull((SELECT max(seq) FROM message), 0), ifnull((SELECT max(seq) FROM changes), 0))),
            (SELECT count(*) FROM message JOIN changes USING (seq))";
        let found = self.db().query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let (rows, last, twice) = found.map_err(damaged)?;
        let (head, min_seq) =
            (self.line().head.0.cast_signed(), self.line().min_seq.0.cast_signed());
        if rows != head - min_seq || twice != 0 || (rows > 0 && last != head) {
            return Err(ReadError::Damaged("its changes have holes".to_owned()));
        }
        Ok(())
    }

    /// What each device confirmed, and when.
    pub(crate) fn cursors(&self) -> Result<Cursors, ReadError> {
        let read = || -> rusqlite::Result<Vec<(String, i64, i64)>> {
            let mut select = self.db().prepare("SELECT device_id, seq, acked_at FROM device")?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        };
        let found = read().map_err(damaged)?.into_iter().map(|(device, seq, at)| {
            let device =
                DeviceId::new(device).map_err(|error| ReadError::Damaged(error.to_string()))?;
            Ok((device, Seq(seq.cast_unsigned()), Time::from_millis(at)))
        });
        found.collect()
    }
}
