//! Which file of which run has what of whom: `index.db` of a run, whole for itself.
//!
//! A run takes over the index of the one before and adds what it wrote, so that whoever brings back a moment reads
//! one index. It lies on a disk while a run goes on: a list of all inboxes is not held in memory.

use std::path::{Path, PathBuf};

use protocol::{Seq, TenantId, Time, UserId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::RunError;
use crate::InboxKey;

/// `application_id` of the file: "phr1".
const APPLICATION_ID: i64 = 0x7068_7231;

/// `user_version` of the file.
const FORMAT: i64 = 1;

/// Rows that are read at a time.
const PAGE: i64 = 256;

const SCHEMA: &str = "
CREATE TABLE inbox (               -- whose inboxes can be brought back
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    head INTEGER NOT NULL,         -- up to this change
    mark TEXT NOT NULL,            -- what that change was, so that another past is told from this one
    user_since INTEGER,            -- unix ms; since when the user was known
    seen TEXT NOT NULL,            -- the latest run that met it
    problem TEXT,                  -- why the latest run could not read it
    PRIMARY KEY (tenant, user)
) WITHOUT ROWID;
CREATE TABLE file (                -- their backups: a full one, and incremental ones on top, by since
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    since INTEGER NOT NULL,
    head INTEGER NOT NULL,
    run TEXT NOT NULL,             -- in which run's folder
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (tenant, user, since)
) WITHOUT ROWID;
";

/// The index of a run, being made or read.
pub(super) struct Index {
    db: Connection,
    path: PathBuf,
}

/// What earlier runs have of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Had {
    pub(super) head: Seq,
    pub(super) mark: String,
    pub(super) user_since: Option<Time>,
}

/// A backup of one inbox in some run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFile {
    pub(crate) since: Seq,
    pub(crate) head: Seq,
    pub(crate) run: String,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// One inbox in an index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// Whose.
    pub inbox: InboxKey,
    /// Up to which change.
    pub head: Seq,
    /// Why the run itself could not read it; what is there is of an earlier one then.
    pub problem: Option<String>,
    /// How many files it is brought back from, and their bytes.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Index {
    /// An empty one.
    pub(super) fn create(path: &Path) -> Result<Self, RunError> {
        let db = Connection::open(path)?;
        // Whoever finds half of it throws it away.
        db.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};
             BEGIN;{SCHEMA}COMMIT; BEGIN"
        ))?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// One that is there, to be gone on with or read.
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        if (pragma("application_id")?, pragma("user_version")?) != (APPLICATION_ID, FORMAT) {
            let other = "it is no index of this version".to_owned();
            return Err(RunError::Damaged("index.db".to_owned(), other));
        }
        db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// What is known of an inbox.
    pub(super) fn had(&self, key: &InboxKey) -> Result<Option<Had>, RunError> {
        let sql = "SELECT head, mark, user_since FROM inbox WHERE tenant = ?1 AND user = ?2";
        let mut select = self.db.prepare_cached(sql)?;
        let had = select.query_row(params![key.tenant.as_str(), key.user.as_str()], |row| {
            Ok(Had {
                head: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
                mark: row.get(1)?,
                user_since: row.get::<_, Option<i64>>(2)?.map(Time::from_millis),
            })
        });
        Ok(had.optional()?)
    }

    /// The run has met an inbox in which nothing changed, or that it cannot read.
    pub(super) fn seen(
        &self,
        key: &InboxKey,
        run: &str,
        problem: Option<&str>,
    ) -> Result<(), RunError> {
        let sql = "UPDATE inbox SET seen = ?3, problem = ?4 WHERE tenant = ?1 AND user = ?2";
        let values = params![key.tenant.as_str(), key.user.as_str(), run, problem];
        self.db.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The run has a file of an inbox. One from the beginning takes the place of all before.
    pub(super) fn wrote(&self, key: &InboxKey, now: &Had, file: &RunFile) -> Result<(), RunError> {
        let (tenant, user) = (key.tenant.as_str(), key.user.as_str());
        if file.since == Seq::ZERO {
            let sql = "DELETE FROM file WHERE tenant = ?1 AND user = ?2";
            self.db.prepare_cached(sql)?.execute([tenant, user])?;
        }
        let sql = "INSERT INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.db.prepare_cached(sql)?.execute(params![
            tenant,
            user,
            file.since.0.cast_signed(),
            file.head.0.cast_signed(),
            file.run,
            file.name,
            file.bytes.cast_signed(),
            file.sha256,
        ])?;
        let sql = "INSERT OR REPLACE INTO inbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)";
        self.db.prepare_cached(sql)?.execute(params![
            tenant,
            user,
            now.head.0.cast_signed(),
            now.mark,
            now.user_since.map(Time::millis),
            file.run,
        ])?;
        Ok(())
    }

    /// Ends it: who was not met is there no more, if all were met who are. Answers how many inboxes there are, and where it lies.
    pub(super) fn finish(self, run: &str, all_met: bool) -> Result<(u64, PathBuf), RunError> {
        if all_met {
            self.db.execute("DELETE FROM inbox WHERE seen <> ?1", [run])?;
        }
        self.db.execute_batch(
            "DELETE FROM file WHERE NOT EXISTS (SELECT 1 FROM inbox AS i
                 WHERE i.tenant = file.tenant AND i.user = file.user);
             COMMIT; VACUUM",
        )?;
        let count: i64 = self.db.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0))?;
        self.db.close().map_err(|(_, error)| error)?;
        Ok((count.unsigned_abs(), self.path))
    }

    /// Inboxes in the order of their tenants and users, after one of them; a page of them.
    pub(super) fn page(&self, after: Option<&InboxKey>) -> Result<Vec<IndexEntry>, RunError> {
        let (tenant, user) = after.map_or(("", ""), |key| (key.tenant.as_str(), key.user.as_str()));
        let sql = "SELECT tenant, user, head, problem,
                (SELECT count(*) FROM file AS f WHERE f.tenant = i.tenant AND f.user = i.user),
                (SELECT ifnull(sum(bytes), 0) FROM file AS f
                    WHERE f.tenant = i.tenant AND f.user = i.user)
            FROM inbox AS i WHERE (tenant, user) > (?1, ?2) ORDER BY tenant, user LIMIT ?3";
        let mut select = self.db.prepare_cached(sql)?;
        let rows = select.query_map(params![tenant, user, PAGE], |row| {
            Ok(IndexEntry {
                inbox: InboxKey::new(id::<TenantId>(row, 0)?, id::<UserId>(row, 1)?),
                head: Seq(row.get::<_, i64>(2)?.cast_unsigned()),
                problem: row.get(3)?,
                files: row.get::<_, i64>(4)?.unsigned_abs(),
                bytes: row.get::<_, i64>(5)?.unsigned_abs(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The files of an inbox, the full one first.
    pub(super) fn files(&self, key: &InboxKey) -> Result<Vec<RunFile>, RunError> {
        let sql = "SELECT since, head, run, name, bytes, sha256 FROM file
            WHERE tenant = ?1 AND user = ?2 ORDER BY since";
        let mut select = self.db.prepare_cached(sql)?;
        let rows = select.query_map([key.tenant.as_str(), key.user.as_str()], |row| {
            Ok(RunFile {
                since: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
                head: Seq(row.get::<_, i64>(1)?.cast_unsigned()),
                run: row.get(2)?,
                name: row.get(3)?,
                bytes: row.get::<_, i64>(4)?.unsigned_abs(),
                sha256: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn id<T: std::str::FromStr>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get_ref(at)?.as_str()?.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str) -> InboxKey {
        InboxKey::new(TenantId::default(), UserId::new(user).unwrap())
    }

    fn file(run: &str, since: u64, head: u64) -> RunFile {
        let (name, sha256) = (format!("inboxes/{run}-{head}"), "0".repeat(64));
        RunFile { since: Seq(since), head: Seq(head), run: run.to_owned(), name, bytes: 10, sha256 }
    }

    fn had(head: u64) -> Had {
        Had { head: Seq(head), mark: format!("m{head}"), user_since: None }
    }

    #[test]
    fn a_run_goes_on_with_the_index_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.db");
        let index = Index::create(&path).unwrap();
        for (user, head) in [("ann", 5), ("ben", 7), ("cem", 1)] {
            index.wrote(&key(user), &had(head), &file("r1", 0, head)).unwrap();
        }
        assert_eq!(index.finish("r1", true).unwrap().0, 3);
        let index = Index::open(&path).unwrap();
        assert_eq!(index.had(&key("ann")).unwrap(), Some(had(5)));
        assert_eq!(index.had(&key("dan")).unwrap(), None);
        index.wrote(&key("ann"), &had(9), &file("r2", 5, 9)).unwrap();
        index.seen(&key("ben"), "r2", Some("damaged")).unwrap();
        // Cem is gone: nobody met them.
        assert_eq!(index.finish("r2", true).unwrap().0, 2);
        let index = Index::open(&path).unwrap();
        assert_eq!(index.files(&key("ann")).unwrap(), vec![file("r1", 0, 5), file("r2", 5, 9)]);
        assert!(index.files(&key("cem")).unwrap().is_empty());
        let page = index.page(None).unwrap();
        assert_eq!(page.len(), 2);
        assert_eq!((page[0].files, page[0].bytes, page[0].head), (2, 20, Seq(9)));
        assert_eq!(page[1].problem.as_deref(), Some("damaged"));
        assert!(index.page(Some(&key("ben"))).unwrap().is_empty());
        // Another past: from the beginning again.
        index.wrote(&key("ann"), &had(3), &file("r3", 0, 3)).unwrap();
        assert_eq!(index.files(&key("ann")).unwrap(), vec![file("r3", 0, 3)]);
    }
}
