//! Reads runs back: for the command line.

use std::{
    io,
    path::{Path, PathBuf},
};

use protocol::Time;

use super::{
    RunError, RunsConfig,
    home::Home,
    index::{Index, IndexEntry},
    maker::INDEX,
    parts::{CONTROL, DIRECTORY, WEBHOOKS, bring_people},
    record::RunRecord,
    shelf::Shelf,
};
use crate::{
    backup::{Key, Opened, ReadError, RestoreError, chain, read::unpack_file, unpacked::Unpacked},
    control,
    store::{Directory, single},
    webhook,
};

/// Reads what is kept.
pub struct RunsReader {
    shelf: Shelf,
    key: Option<Key>,
    /// Where files are unpacked.
    folder: PathBuf,
}

/// A run whose index is read.
pub struct OpenedRun<'a> {
    reader: &'a RunsReader,
    record: RunRecord,
    index: Index,
    _unpacked: Unpacked,
}

impl RunsReader {
    /// Of where runs are kept. `key` opens them.
    ///
    /// # Errors
    /// [`RunError::Place`], and [`RunError::Io`] where the folder beside cannot be used.
    pub fn open(config: &RunsConfig, key: Option<Key>) -> Result<Self, RunError> {
        single::own_dir(&config.path)?;
        Ok(Self { shelf: config.shelf()?, key, folder: config.path.clone() })
    }

    /// Where that is, in words.
    #[must_use]
    pub fn place(&self) -> String {
        self.shelf.describe()
    }

    /// All that are whole, in the order of time.
    ///
    /// # Errors
    /// [`RunError::Place`].
    pub async fn list(&self) -> Result<Vec<RunRecord>, RunError> {
        let mut kept = Vec::new();
        for id in self.shelf.runs().await? {
            let record = self.shelf.record(&id).await?;
            kept.extend(record.and_then(|bytes| RunRecord::read(&id, &bytes)));
        }
        Ok(kept)
    }

    /// The run of an id, `latest`, or the last one that was begun at a time or before.
    ///
    /// # Errors
    /// [`RunError::NoRun`], and as [`RunsReader::list`] and for an index that cannot be read.
    pub async fn run(&self, name: &str) -> Result<OpenedRun<'_>, RunError> {
        let mut all = self.list().await?;
        let found = match (name, Time::parse(name)) {
            ("latest", _) => all.pop(),
            (_, Ok(time)) => all.into_iter().rfind(|run| run.started_at <= time),
            (id, Err(_)) => all.into_iter().find(|run| run.id == id),
        };
        let record = found.ok_or_else(|| RunError::NoRun(name.to_owned()))?;
        let unpacked = self.part(&record, INDEX, None).await?;
        let index = Index::open(unpacked.path())?;
        Ok(OpenedRun { reader: self, record, index, _unpacked: unpacked })
    }

    /// A file of a run beside inboxes, unpacked.
    async fn part(
        &self,
        record: &RunRecord,
        name: &str,
        key: Option<&Key>,
    ) -> Result<Unpacked, RunError> {
        let missing = || RunError::Damaged(record.id.clone(), format!("it has no {name}"));
        let part = record.part(name).ok_or_else(missing)?;
        let packed = self.fetch(&record.id, &part.name, part.bytes, &part.sha256).await?;
        let (unpacked, to) = Unpacked::create(&self.folder)?;
        let named = format!("{}/{}", record.id, part.name);
        unpack_file(packed.path(), key, to)
            .map_err(|source| RunError::Read { name: named, source })?;
        Ok(unpacked)
    }

    /// A file as it lies there, which must be the one that was written.
    async fn fetch(
        &self,
        run: &str,
        name: &str,
        bytes: u64,
        sha256: &str,
    ) -> Result<Unpacked, RunError> {
        let (packed, _) = Unpacked::create(&self.folder)?;
        let fetched = self.shelf.fetch(run, name, packed.path()).await?;
        if (fetched.bytes, &*fetched.sha256) != (bytes, sha256) {
            let other = "its SHA-256 is another".to_owned();
            return Err(RunError::Damaged(format!("{run}/{name}"), other));
        }
        Ok(packed)
    }
}

impl OpenedRun<'_> {
    /// What is said of it.
    #[must_use]
    pub const fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Whose inboxes can be brought back, in the order of tenants and users, after one of them: a page, empty at the
    /// end.
    ///
    /// # Errors
    /// [`RunError::Beside`].
    pub fn page(&self, after: Option<&crate::InboxKey>) -> Result<Vec<IndexEntry>, RunError> {
        self.index.page(after)
    }

    /// An inbox as of the run: its full backup with the incremental ones on top, looked through.
    ///
    /// # Errors
    /// [`RunError`] for a file that is not there or not whole.
    pub async fn inbox(&self, entry: &IndexEntry) -> Result<Opened, RunError> {
        let mut opened = Vec::new();
        for file in self.index.files(&entry.inbox)? {
            let name = format!("{}/{}", file.run, file.name);
            let packed = self.reader.fetch(&file.run, &file.name, file.bytes, &file.sha256).await?;
            let one = Opened::open(packed.path(), self.reader.key.as_ref(), &self.reader.folder);
            let one = one.map_err(|source| RunError::Read { name: name.clone(), source })?;
            let is_it = one.line().inbox == entry.inbox
                && (one.line().since, one.line().head) == (file.since, file.head);
            if !is_it {
                return Err(RunError::Damaged(name, "it is another backup".to_owned()));
            }
            opened.push((PathBuf::from(name), one));
        }
        let id = &self.record.id;
        let damaged = |why: String| RunError::Damaged(id.clone(), why);
        let mut chained = chain(opened).map_err(|error| match error {
            RestoreError::Read { path, source } => {
                RunError::Read { name: path.display().to_string(), source }
            }
            error => damaged(error.to_string()),
        })?;
        let one = chained.pop().filter(|one| one.line().head == entry.head);
        one.ok_or_else(|| damaged("its index names files that are not there".to_owned()))
    }

    /// Looks the files beside inboxes through.
    ///
    /// # Errors
    /// [`RunError`] for one that is not there or not whole.
    pub async fn check_parts(&self) -> Result<(), RunError> {
        for name in [CONTROL, WEBHOOKS, DIRECTORY] {
            let unpacked = self.reader.part(&self.record, name, self.reader.key.as_ref()).await?;
            check_sqlite(unpacked.path()).map_err(|source| RunError::Read {
                name: format!("{}/{name}", self.record.id),
                source,
            })?;
        }
        Ok(())
    }

    /// Brings services, templates, tenants, logins, admins, webhooks and the audit log back: into a folder that no
    /// node serves, or into a database that has none of them. `replace`: files take the place of those that are
    /// there.
    ///
    /// # Errors
    /// [`RunError::Control`] where there is some already.
    pub async fn bring_control(&self, home: &Home, replace: bool) -> Result<(), RunError> {
        let key = self.reader.key.as_ref();
        let control = self.reader.part(&self.record, CONTROL, key).await?;
        let webhooks = self.reader.part(&self.record, WEBHOOKS, key).await?;
        // Under the names by which they are known.
        let beside = tempdir(&self.reader.folder)?;
        for (unpacked, name) in [(&control, CONTROL), (&webhooks, WEBHOOKS)] {
            check_sqlite(unpacked.path())
                .map_err(|source| RunError::Read { name: name.to_owned(), source })?;
            std::fs::copy(unpacked.path(), beside.0.join(name))?;
        }
        match home {
            Home::Folder(root) => {
                single::place_files(root, &beside.0, &[CONTROL, WEBHOOKS], replace)
                    .map_err(|error| RunError::Control(error.into()))
            }
            Home::Database(_) => {
                home.with_database(|driver, tls| control::copy_in(&beside.0, driver, tls))?;
                home.with_database(|driver, tls| webhook::copy_in(&beside.0, driver, tls))
            }
        }
    }

    /// Brings users with their roles, and channels with their members, back into a store. Answers how many.
    ///
    /// # Errors
    /// [`RunError::Store`], [`RunError::Damaged`].
    pub async fn bring_people(&self, store: &dyn Directory) -> Result<(u64, u64), RunError> {
        let key = self.reader.key.as_ref();
        let unpacked = self.reader.part(&self.record, DIRECTORY, key).await?;
        bring_people(unpacked.path(), store).await
    }
}

/// A SQLite file must be whole.
fn check_sqlite(path: &Path) -> Result<(), ReadError> {
    let damaged = |error: rusqlite::Error| ReadError::Damaged(error.to_string());
    // Not read-only: whoever may not write leaves the files of a log beside.
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let db = rusqlite::Connection::open_with_flags(path, flags).map_err(damaged)?;
    let found: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(damaged)?;
    if found == "ok" { Ok(()) } else { Err(ReadError::Damaged(found)) }
}

/// A folder of its own; gone with it.
struct Temporary(PathBuf);

fn tempdir(folder: &Path) -> io::Result<Temporary> {
    let path = folder.join(format!(".restoring-control-{}", uuid::Uuid::now_v7().simple()));
    single::own_dir(&path)?;
    Ok(Temporary(path))
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
