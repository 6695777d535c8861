//! Files that are unpacked beside, for as long as somebody reads them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::jobs::private;

/// What their names begin with.
const PREFIX: &str = ".restoring-";

/// Such a file; gone with it. What a killed process left is told from it by its lock.
pub(super) struct Unpacked {
    path: PathBuf,
    _locked: File,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // What is left takes room until the next one is made.
        let _ = fs::remove_file(&self.path);
    }
}

impl Unpacked {
    /// Makes one, and removes those that killed processes left.
    pub(super) fn create(folder: &Path) -> io::Result<(Self, File)> {
        // One that has a name and no lock yet must not be taken for one that was left.
        let turn = File::open(folder)?;
        turn.lock()?;
        sweep(folder)?;
        let path = folder.join(format!("{PREFIX}{}.db", uuid::Uuid::now_v7().simple()));
        let to = private(&path)?;
        let unpacked = Self { path, _locked: to.try_clone()? };
        to.lock()?;
        Ok((unpacked, to))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what killed processes have left unpacked in a folder.
///
/// # Errors
/// When the folder cannot be read. One that is not there has nothing.
pub fn remove_left(folder: &Path) -> io::Result<()> {
    let turn = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        turn => turn?,
    };
    turn.lock()?;
    sweep(folder)
}

fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_left = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_one && is_left() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_goes_and_what_is_read_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(format!("{PREFIX}left.db"));
        let other = folder.path().join("other.db");
        for path in [&left, &other] {
            fs::write(path, "x").unwrap();
        }
        let (held, _) = Unpacked::create(folder.path()).unwrap();
        assert!(!left.exists() && other.exists());
        fs::write(&left, "x").unwrap();
        remove_left(folder.path()).unwrap();
        assert!(!left.exists() && other.exists() && held.path().exists());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove_left(&folder.path().join("none")).unwrap();
    }
}
