//! Runs in a folder: `{DATABASE_BACKUP_PATH}/runs/{run}/…`.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    record::is_id,
    shelf::{Counted, Left, RECORD, Writer, Written},
};
use crate::{
    backup::{PIECE, area::aside, jobs::private},
    store::single::own_dir,
};

/// What the name of a run's folder begins with that is on its way out.
const GONE: &str = ".gone-";

/// A folder of runs.
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) async fn put(&self, run: &str, name: &str, write: Writer) -> io::Result<Written> {
        let (root, path) = (self.path.clone(), self.path.join(run).join(name));
        let waiting = Left::default();
        let left = std::sync::Arc::clone(&waiting.0);
        aside(move || {
            let folder = path.parent().unwrap_or(&path).to_owned();
            if !folder.is_dir() {
                own_dir(&root)?;
                own_dir(&folder)?;
            }
            let mut new = path.clone().into_os_string();
            new.push(".new");
            let new = PathBuf::from(new);
            let written = (|| {
                let file = BufWriter::with_capacity(PIECE, private(&new)?);
                let mut to = Counted::new(file, left);
                write(&mut to)?;
                to.flush()?;
                let (file, written) = to.end();
                file.get_ref().sync_all()?;
                fs::rename(&new, &path)?;
                Ok(written)
            })();
            if written.is_err() {
                // A full disk needs what the first half took.
                let _ = fs::remove_file(&new);
            }
            written
        })
        .await
    }

    /// Has the disk know the names of a run's files.
    pub(super) async fn settle(&self, run: &str) -> io::Result<()> {
        let (root, run) = (self.path.clone(), self.path.join(run));
        aside(move || {
            for entry in fs::read_dir(&run)? {
                let path = entry?.path();
                if path.is_dir() {
                    File::open(path)?.sync_all()?;
                }
            }
            File::open(run)?.sync_all()?;
            File::open(root)?.sync_all()
        })
        .await
    }

    pub(super) async fn runs(&self) -> io::Result<Vec<String>> {
        let root = self.path.clone();
        aside(move || {
            let entries = match fs::read_dir(&root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut runs = Vec::new();
            for entry in entries {
                let name = entry?.file_name();
                runs.extend(name.into_string().ok().filter(|name| is_id(name)));
            }
            Ok(runs)
        })
        .await
    }

    pub(super) async fn read(
        &self,
        run: &str,
        name: &str,
        most: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let path = self.path.join(run).join(name);
        aside(move || {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        })
        .await
    }

    pub(super) async fn fetch(&self, run: &str, name: &str, to: &Path) -> io::Result<Written> {
        let (from, to) = (self.path.join(run).join(name), to.to_owned());
        let waiting = Left::default();
        let left = std::sync::Arc::clone(&waiting.0);
        aside(move || {
            let mut from = BufReader::with_capacity(PIECE, File::open(from)?);
            let mut to = Counted::new(private(&to)?, left);
            io::copy(&mut from, &mut to)?;
            Ok(to.end().1)
        })
        .await
    }

    pub(super) async fn remove(&self, run: &str) -> io::Result<()> {
        let (root, run) = (self.path.clone(), run.to_owned());
        aside(move || {
            let (folder, gone) = (root.join(&run), root.join(format!("{GONE}{run}")));
            match fs::remove_file(folder.join(RECORD)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match fs::rename(&folder, &gone) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            // With it, what a killed process had begun to remove.
            for entry in fs::read_dir(&root)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(GONE) {
                    fs::remove_dir_all(&path)?;
                }
            }
            Ok(())
        })
        .await
    }
}
