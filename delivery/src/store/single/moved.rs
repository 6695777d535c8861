//! A folder whose data goes, or went, into a database says so, and is not served meanwhile: two places that
//! go on from one state could never be one again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::{OpenError, hub_dir, private};

/// The file, in the node's own folder, that says where the data went. Without it the folder is served again.
pub const MARK: &str = "moved.json";

/// The file with the folder's id, made when its data is first moved.
const ID: &str = "folder.id";

/// What a folder says of where its data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The database, in words without a password.
    pub(crate) database: String,
    /// Since when.
    pub(crate) at: Time,
    /// All of it is there; else the move goes on.
    pub(crate) done: bool,
}

/// A folder that this process holds: no node serves it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) root: PathBuf,
    pub(super) lock: File,
}

/// Whether a folder may be served.
///
/// # Errors
/// [`OpenError::Moved`] where its data is in a database; [`OpenError::Io`] where the folder does not tell.
pub fn check_not_moved(root: &Path) -> Result<(), OpenError> {
    let Some(mark) = Mark::read(root)? else { return Ok(()) };
    Err(OpenError::Moved {
        root: root.to_owned(),
        database: mark.database,
        how: if mark.done { "was moved" } else { "is being moved" },
        mark: hub_dir(root).join(MARK),
    })
}

/// Whether a node has served a folder, and none does now.
///
/// # Errors
/// [`OpenError::NotOurs`], [`OpenError::InUse`], [`OpenError::Io`].
pub fn check_at_rest(root: &Path) -> Result<(), OpenError> {
    Held::hold(root).map(drop)
}

fn check_is_folder(root: &Path) -> Result<(), OpenError> {
    let is_one = hub_dir(root).join("shared.db").is_file();
    if is_one { Ok(()) } else { Err(OpenError::NotOurs(root.to_owned())) }
}

impl Held {
    /// Holds a folder that is there.
    ///
    /// # Errors
    /// [`OpenError::NotOurs`] for a folder that no node has served, [`OpenError::InUse`], [`OpenError::Io`].
    pub(crate) fn hold(root: &Path) -> Result<Self, OpenError> {
        check_is_folder(root)?;
        Ok(Self { root: root.to_owned(), lock: super::lock(&hub_dir(root))? })
    }

    /// The folder's id, made if it has none.
    pub(crate) fn id(&self) -> Result<String, OpenError> {
        let path = hub_dir(&self.root).join(ID);
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim_end().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(OpenError::Io { path, source }),
        }
        let id = uuid::Uuid::now_v7().simple().to_string();
        place(&self.root, ID, id.as_bytes())?;
        Ok(id)
    }
}

impl Mark {
    /// What a folder says.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>, OpenError> {
        let path = hub_dir(root).join(MARK);
        let found = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        found.map_err(|source| OpenError::Io { path, source })
    }

    /// Has a folder, which the caller holds, say so. Durable when it returns.
    pub(crate) fn write(&self, root: &Path) -> Result<(), OpenError> {
        let mut line = serde_json::to_vec(self).expect("texts, a time and a truth value");
        line.push(b'\n');
        place(root, MARK, &line)
    }
}

fn place(root: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let hub = hub_dir(root);
    let path = hub.join(name);
    private::place(&hub, name, bytes)
        .and_then(|()| {
            File::open(&path)?.sync_all()?;
            File::open(&hub)?.sync_all()
        })
        .map_err(|source| OpenError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_says_where_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("storage");
        assert!(matches!(Held::hold(&root), Err(OpenError::NotOurs(_))));
        assert!(!root.exists(), "a folder that is not there is not made");
        private::place(&hub_dir(&root), "shared.db", b"").unwrap();
        let held = Held::hold(&root).unwrap();
        assert!(matches!(Held::hold(&root), Err(OpenError::InUse(_))));
        assert_eq!(held.id().unwrap(), held.id().unwrap());
        assert_eq!(Mark::read(&root).unwrap(), None);
        check_not_moved(&root).unwrap();
        let at = Time::from_millis(7);
        for done in [false, true] {
            let mark = Mark { database: "db:5432/hub".to_owned(), at, done };
            mark.write(&root).unwrap();
            assert_eq!(Mark::read(&root).unwrap(), Some(mark));
            let refused = check_not_moved(&root).unwrap_err().to_string();
            assert!(refused.contains("db:5432/hub") && refused.contains(MARK), "{refused}");
        }
        fs::write(hub_dir(&root).join(MARK), "?").unwrap();
        assert!(matches!(check_not_moved(&root), Err(OpenError::Io { .. })));
    }
}
