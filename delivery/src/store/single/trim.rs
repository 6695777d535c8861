//! Lets the journal go where the users' files have it.
//!
//! A segment may be deleted when every record in it has been applied to its files, `ledger.db` among
//! them, and those files are on the disk. User files are not synced one by one: one `syncfs` of the storage folder's file
//! system covers them all, and it reports write errors that happened since the last one.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    committer::Committer, forget::Forgets, inboxes::Inboxes, ledger::Ledger, metrics::StoreMetrics,
    record::Lsn, segment, shared::Shared,
};

pub(super) struct Trimmer {
    pub(super) root: File,
    pub(super) inboxes: Arc<Inboxes>,
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) committer: Arc<Committer>,
    pub(super) metrics: Arc<StoreMetrics>,
    /// A sync has failed once. Linux reports that once and may have dropped the pages: the next
    /// sync would answer "fine". So this process does not trim again, and the journal keeps what a
    /// restart of the machine needs.
    pub(super) sync_failed: AtomicBool,
    /// While somebody is forgotten nothing of a segment is used again.
    pub(super) forgets: Arc<Forgets>,
    /// Held while it is looked for what can go.
    pub(super) turn: Mutex<()>,
}

/// Trimming failed; the journal stays as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrimError {
    #[error("shared.db cannot be written")]
    Shared(#[from] rusqlite::Error),
    #[error("the storage folder cannot be synced")]
    Sync(#[source] io::Error),
    #[error("a journal segment cannot be deleted")]
    Remove(#[source] io::Error),
}

impl Trimmer {
    pub(super) fn open_root(root: &Path) -> io::Result<File> {
        File::open(root)
    }

    /// Deletes the segments that are not needed any more.
    pub(super) fn trim(&self) -> Result<(), TrimError> {
        let _turn = self.turn.lock();
        self.trim_now()
    }

    /// Deletes all segments before one of them, with what failed commits have left. Whether none is needed any
    /// more.
    pub(super) fn clear(&self, hub: &Path, before: u64) -> Result<bool, TrimError> {
        let _turn = self.turn.lock();
        self.trim_now()?;
        if self.older(before).is_some() {
            return Ok(false);
        }
        let left = || -> io::Result<()> {
            for entry in fs::read_dir(hub)? {
                let name = entry?.file_name();
                // Of some only the `-wal` may be left.
                let name = name.to_str().and_then(|name| name.get(..segment::NAME_BYTES));
                if let Some(number) = name.and_then(segment::number_of)
                    && number < before
                {
                    segment::remove(&segment::path(hub, number))?;
                }
            }
            File::open(hub)?.sync_all()
        };
        left().map_err(TrimError::Remove)?;
        Ok(true)
    }

    /// The last record of the segments before one of them.
    pub(super) fn older(&self, before: u64) -> Option<Lsn> {
        let old = self.committer.old_segments();
        old.iter()
            .filter(|old| old.number().is_none_or(|number| number < before))
            .map(|old| old.last)
            .max()
    }

    fn trim_now(&self) -> Result<(), TrimError> {
        let segments = self.committer.old_segments();
        #[expect(clippy::cast_precision_loss, reason = "a handful of segments")]
        self.metrics.segments.set(segments.len() as f64 + 1.0);
        if segments.is_empty() || self.sync_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // What is for groups and everyone stands in `shared.db`; only the rest needs the journal.
        let needed = self
            .inboxes
            .all()
            .iter()
            .filter_map(|inbox| {
                let state = inbox.state.lock();
                state.needed()
            })
            .chain(self.ledger.needed())
            .min()
            .unwrap_or(u64::MAX);
        // After that look: what left a tail before it has left its note that the inbox exists.
        self.shared.flush()?;
        let free: Vec<_> = segments.into_iter().filter(|segment| segment.last < needed).collect();
        let Some(last) = free.iter().map(|segment| segment.last).max() else { return Ok(()) };
        self.shared.set_floor(last + 1)?;
        sync_file_system(&self.root).map_err(|error| {
            self.sync_failed.store(true, Ordering::Release);
            TrimError::Sync(error)
        })?;
        for segment in &free {
            let gone = if self.forgets.any() { segment::remove } else { segment::recycle };
            gone(&segment.path).map_err(TrimError::Remove)?;
            self.committer.forget_segment(segment);
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
pub(super) fn sync_file_system(root: &File) -> io::Result<()> {
    // Since Linux 5.8 it reports write errors (man 2 syncfs).
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file_system(root: &File) -> io::Result<()> {
    rustix::fs::sync();
    root.sync_all()
}
