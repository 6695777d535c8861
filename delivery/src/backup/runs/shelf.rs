//! Where runs are kept: a folder, or a bucket. Each run has a folder of its own there; its `run.json` comes last.

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest, Sha256};

use super::{RunError, bucket::Bucket, folder::Folder};
use crate::backup::seal::hex;

/// What says that a run is whole.
pub(super) const RECORD: &str = "run.json";

/// Largest `run.json`, in bytes: a run removes as many as were kept.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// Where runs are kept.
#[derive(Clone)]
pub(super) enum Shelf {
    Folder(Arc<Folder>),
    Bucket(Arc<Bucket>),
}

/// A file as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Tells whoever writes that nobody waits for it any more, when it is dropped.
#[derive(Default)]
pub(super) struct Left(pub(super) Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts and hashes what goes through it, and ends when nobody waits any more.
pub(super) struct Counted<W> {
    pub(super) inner: W,
    hash: Sha256,
    bytes: u64,
    left: Arc<AtomicBool>,
}

impl<W> Counted<W> {
    pub(super) fn new(inner: W, left: Arc<AtomicBool>) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0, left }
    }

    /// What went through, and where to.
    pub(super) fn end(self) -> (W, Written) {
        (self.inner, Written { bytes: self.bytes, sha256: hex(&self.hash.finalize()) })
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a file, on a thread that may wait.
pub(super) type Writer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

impl Shelf {
    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Folder(folder) => folder.path.display().to_string(),
            Self::Bucket(bucket) => bucket.describe(),
        }
    }

    /// Puts a file there: whole or not at all. Waits for nothing but the disk or the network.
    pub(super) async fn put(
        &self,
        run: &str,
        name: &str,
        write: Writer,
    ) -> Result<Written, RunError> {
        match self {
            Self::Folder(folder) => folder.put(run, name, write).await,
            Self::Bucket(bucket) => bucket.put(run, name, write).await,
        }
        .map_err(|error| self.failed(error))
    }

    /// Says of a run that it is whole.
    pub(super) async fn seal(&self, run: &str, record: Vec<u8>) -> Result<(), RunError> {
        let write: Writer = Box::new(move |to| to.write_all(&record));
        self.put(run, RECORD, write).await?;
        match self {
            Self::Folder(folder) => folder.settle(run).await.map_err(|error| self.failed(error)),
            Self::Bucket(_) => Ok(()),
        }
    }

    /// All runs there are, whole or not, in the order of time.
    pub(super) async fn runs(&self) -> Result<Vec<String>, RunError> {
        let found = match self {
            Self::Folder(folder) => folder.runs().await,
            Self::Bucket(bucket) => bucket.runs().await,
        };
        let mut runs = found.map_err(|error| self.failed(error))?;
        runs.sort_unstable();
        Ok(runs)
    }

    /// A run's `run.json`; none where it is not whole.
    pub(super) async fn record(&self, run: &str) -> Result<Option<Vec<u8>>, RunError> {
        let read = match self {
            Self::Folder(folder) => folder.read(run, RECORD, RECORD_BYTES_MAX).await,
            Self::Bucket(bucket) => bucket.read(run, RECORD, RECORD_BYTES_MAX).await,
        };
        read.map_err(|error| self.failed(error))
    }

    /// Copies a file of a run to a file here.
    pub(super) async fn fetch(
        &self,
        run: &str,
        name: &str,
        to: &Path,
    ) -> Result<Written, RunError> {
        let fetched = match self {
            Self::Folder(folder) => folder.fetch(run, name, to).await,
            Self::Bucket(bucket) => bucket.fetch(run, name, to).await,
        };
        fetched.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                RunError::Damaged(format!("{run}/{name}"), "it is not there".to_owned())
            }
            _ => self.failed(error),
        })
    }

    /// Removes a run: first what says that it is whole.
    pub(super) async fn remove(&self, run: &str) -> Result<(), RunError> {
        match self {
            Self::Folder(folder) => folder.remove(run).await,
            Self::Bucket(bucket) => bucket.remove(run).await,
        }
        .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> RunError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                RunError::Full(self.describe())
            }
            _ => RunError::Place { place: self.describe(), source: error.into() },
        }
    }
}
