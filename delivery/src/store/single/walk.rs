//! A walk over all inboxes there are: those with a folder, and users who were seen and have none yet.

use std::{
    fs::{self, ReadDir},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    layout,
    shared::{Shared, id_of},
};
use crate::InboxKey;

/// Users that are read from `shared.db` at once.
const USERS_PAGE: u32 = 200;

/// Where a walk is. It holds one or two folders open, and no list of what is in them.
pub(super) struct Walk {
    root: PathBuf,
    stage: Stage,
}

enum Stage {
    Begin,
    /// The users of `default`, and the folder of the other tenants.
    Root(ReadDir),
    /// The folders of tenants, and that of one of them.
    Tenants(ReadDir, Option<ReadDir>),
    /// Users without a folder, after one of them.
    Users {
        page: std::vec::IntoIter<InboxKey>,
        last: Option<InboxKey>,
    },
    End,
}

/// Why the walk passed something over.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}: {source}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

impl Walk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), stage: Stage::Begin }
    }

    /// The next inbox. An error is of one inbox or one folder; the walk goes on behind it.
    pub(super) fn next(&mut self, shared: &Shared) -> Option<Result<InboxKey, WalkError>> {
        loop {
            let tenants = layout::tenants_dir(&self.root);
            match &mut self.stage {
                Stage::Begin => match read_dir(&self.root) {
                    Ok(Some(root)) => self.stage = Stage::Root(root),
                    // An error, not the end: what is for everyone would be forgotten unvisited.
                    Ok(None) => {
                        let gone = io_error(&self.root, io::ErrorKind::NotFound.into());
                        return self.stop_with(gone);
                    }
                    Err(error) => return self.stop_with(error),
                },
                Stage::Root(root) => match next_inbox(root) {
                    Some(found) => return Some(found),
                    None => match read_dir(&tenants) {
                        Ok(Some(tenants)) => self.stage = Stage::Tenants(tenants, None),
                        Ok(None) => self.stage = users_from_the_beginning(),
                        Err(error) => return self.stop_with(error),
                    },
                },
                Stage::Tenants(tenants, tenant) => {
                    if let Some(found) = tenant.as_mut().and_then(next_inbox) {
                        return Some(found);
                    }
                    match tenants.next() {
                        None => self.stage = users_from_the_beginning(),
                        Some(folder) => {
                            let opened = folder
                                .map_err(|source| io_error(&self.root, source))
                                .and_then(|folder| read_dir(&folder.path()));
                            match opened {
                                Ok(opened) => *tenant = opened,
                                Err(error) => return Some(Err(error)),
                            }
                        }
                    }
                }
                Stage::Users { page, last } => {
                    if let Some(key) = page.next() {
                        *last = Some(key.clone());
                        // Those with a folder were met before.
                        if layout::inbox_dir(&self.root, &key).join("messages.db").exists() {
                            continue;
                        }
                        return Some(Ok(key));
                    }
                    match shared.users_after(last.as_ref(), USERS_PAGE) {
                        Ok(next) if next.is_empty() => self.stage = Stage::End,
                        Ok(next) => *page = next.into_iter(),
                        Err(source) => {
                            let path = layout::hub_dir(&self.root).join("shared.db");
                            return self.stop_with(WalkError::Sqlite { path, source });
                        }
                    }
                }
                Stage::End => return None,
            }
        }
    }

    fn stop_with(&mut self, error: WalkError) -> Option<Result<InboxKey, WalkError>> {
        self.stage = Stage::End;
        Some(Err(error))
    }
}

fn users_from_the_beginning() -> Stage {
    Stage::Users { page: Vec::new().into_iter(), last: None }
}

fn io_error(path: &Path, source: io::Error) -> WalkError {
    WalkError::Io { path: path.to_owned(), source }
}

/// A folder's entries; none where it is no folder.
fn read_dir(path: &Path) -> Result<Option<ReadDir>, WalkError> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(io_error(path, error)),
        },
    }
}

/// The next inbox among a folder's entries.
fn next_inbox(entries: &mut ReadDir) -> Option<Result<InboxKey, WalkError>> {
    entries.find_map(|entry| match entry {
        Ok(entry) => {
            let dir = entry.path();
            let file = dir.join("messages.db");
            // A tenant may have the file's name.
            file.is_file().then(|| match layout::key_of(&dir) {
                Some(key) => Ok(key),
                None => owner_of(&file),
            })
        }
        Err(source) => Some(Err(io_error(Path::new("a folder of inboxes"), source))),
    })
}

/// Whose a file is, where the folder's name does not say it.
fn owner_of(file: &Path) -> Result<InboxKey, WalkError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || {
        Connection::open_with_flags(file, flags)?.query_row(
            "SELECT tenant, user FROM inbox",
            [],
            |row| Ok(InboxKey::new(id_of(row, 0)?, id_of(row, 1)?)),
        )
    };
    read().map_err(|source| WalkError::Sqlite { path: file.to_owned(), source })
}
