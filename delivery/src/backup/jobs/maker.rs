//! Makes what is asked for, one after the other, and deletes what has expired.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::Seq;
use sha2::{Digest, Sha256};

use super::{
    super::{BackupError, Key, Outer, Place, area::aside, seal::hex},
    AGAIN_AFTER, Job, Jobs, LOOK_EVERY, full,
    record::{self, FILE, NEW_FILE, Record, State},
};
use crate::{
    clock::{after, now},
    store::Storage,
};

impl Jobs {
    /// Makes what is asked for and deletes what has expired, for ever. Spawn it once and drop it to stop: what is
    /// under way then begins again after the next start.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Storage>) {
        loop {
            let mut changed = self.changed.subscribe();
            if let Err(error) = self.look(&*store).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "backup jobs cannot be looked through now");
            }
            let busy = self.make_all(&*store).await;
            let wait = if busy { AGAIN_AFTER } else { self.until_next_expiry() };
            let sleep = tokio::time::sleep(wait);
            tokio::select! {
                () = sleep => {}
                // A new one; of what happened above this knows.
                _ = changed.changed(), if !busy => {}
            }
        }
    }

    /// When something expires next, or is forgotten.
    fn until_next_expiry(&self) -> Duration {
        let known = self.known.lock();
        let next = known.jobs.values().filter_map(|Job { record, .. }| {
            let end = record.expires_at?;
            let is_kept = record.state == State::Done;
            Some(if is_kept { end } else { after(end, self.config.kept) })
        });
        let left = next.min().map(|next| next.millis().saturating_sub(now().millis()));
        let left = left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or_default()));
        // Never at once again, where something cannot be deleted.
        left.unwrap_or(LOOK_EVERY).clamp(AGAIN_AFTER, LOOK_EVERY)
    }

    /// What time and others have done.
    async fn look(&self, store: &dyn Storage) -> Result<(), BackupError> {
        self.take_up().await?;
        let all: Vec<Record> =
            self.known.lock().jobs.values().map(|job| job.record.clone()).collect();
        for record in all {
            let at = now();
            let ended = record.expires_at.is_some_and(|end| end <= at);
            // As long again it is told what became of it.
            let told = record.expires_at.is_some_and(|end| after(end, self.config.kept) <= at);
            let disk = self.disk.lock().await;
            if told {
                self.discard(&record.id).await?;
                continue;
            }
            if ended && record.state == State::Done {
                self.expire(&record.id).await?;
            }
            drop(disk);
            if !Self::is_current(&record, store).await? {
                let _disk = self.disk.lock().await;
                self.discard(&record.id).await?;
            }
        }
        Ok(())
    }

    /// Deletes a job's file; `disk` is held.
    async fn expire(&self, id: &str) -> Result<(), BackupError> {
        let job =
            self.known.lock().jobs.get(id).map(|job| (job.record.at(now()), job.folder.clone()));
        let Some((record, folder)) = job else { return Ok(()) };
        let written = record.clone();
        aside(move || {
            record::remove_file(&folder.join(FILE))?;
            record::write(&folder, &written)
        })
        .await?;
        self.put(record);
        Ok(())
    }

    /// How a job stands now, where it is still there.
    fn put(&self, record: Record) {
        if let Some(job) = self.known.lock().jobs.get_mut(&record.id) {
            job.record = record;
        }
        self.has_changed();
    }

    /// Makes what waits, one after the other. Answers whether something has to wait for its user's download.
    async fn make_all(&self, store: &dyn Storage) -> bool {
        loop {
            let waiting: Vec<(Record, PathBuf, Option<Key>)> = {
                let known = self.known.lock();
                let queued = known.jobs.values().filter(|job| job.record.state == State::Queued);
                queued
                    .map(|job| (job.record.clone(), job.folder.clone(), job.key.clone()))
                    .collect()
            };
            let place = waiting.into_iter().find_map(|job| {
                let place = self.area.begin(&job.0.inbox()).ok()?;
                Some((job, place))
            });
            let Some(((mut record, folder, key), place)) = place else {
                let known = self.known.lock();
                return known.jobs.values().any(|job| job.record.state == State::Queued);
            };
            record.state = State::Running;
            self.put(record.clone());
            let left = Left::default();
            let make = self.make(&record, &folder, key, place, store, &left);
            let gone = self
                .changed_within(Duration::MAX, || !self.known.lock().jobs.contains_key(&record.id));
            let made = tokio::select! {
                made = make => made,
                () = gone => Err(BackupError::Left),
            };
            drop(left);
            self.finish(record, folder, made).await;
        }
    }

    async fn make(
        &self,
        record: &Record,
        folder: &Path,
        key: Option<Key>,
        place: Place,
        store: &dyn Storage,
        left: &Left,
    ) -> Result<Written, BackupError> {
        let wanted = record.wanted().ok_or_else(|| io::Error::other("a job of another version"))?;
        let made = place.make(store, wanted).await?;
        let head = made.line().head;
        let outer = Outer { compress: record.compress, key };
        let bytes_max = self.bytes_max();
        let room = bytes_max.saturating_sub(self.kept_bytes());
        let (path, left) = (folder.join(NEW_FILE), Arc::clone(&left.0));
        let written = aside(move || {
            let file = record::private(&path)?;
            let mut sink =
                Sink { file, hash: Sha256::new(), bytes: 0, room, too_much: false, left };
            if let Err(error) = made.write(&outer, &mut sink) {
                return Err(if sink.too_much { BackupError::Kept(bytes_max) } else { full(error) });
            }
            sink.file.sync_all().map_err(full)?;
            Ok(Written { bytes: sink.bytes, sha256: hex(&sink.hash.finalize()), head })
        });
        let written = written.await?;
        place.leave_whole();
        Ok(written)
    }

    /// Writes what became of a job.
    async fn finish(
        &self,
        mut record: Record,
        folder: PathBuf,
        made: Result<Written, BackupError>,
    ) {
        let _disk = self.disk.lock().await;
        // Deleted meanwhile, with all that was of it.
        if !self.known.lock().jobs.contains_key(&record.id) {
            return;
        }
        let at = now();
        record.finished_at = Some(at);
        record.expires_at = Some(after(at, self.config.kept));
        let kept = match made {
            Ok(Written { bytes, sha256, head }) => {
                let mut done = record.clone();
                done.state = State::Done;
                (done.bytes, done.sha256, done.head) = (Some(bytes), Some(sha256), Some(head));
                let (to, written) = (folder.clone(), done.clone());
                let kept = aside(move || {
                    fs::rename(to.join(NEW_FILE), to.join(FILE))?;
                    record::write(&to, &written).map_err(full)
                });
                kept.await.map(|()| done)
            }
            Err(error) => Err(error),
        };
        let record = match kept {
            Ok(done) => {
                self.metrics.done.increment(1);
                done
            }
            Err(error) => {
                self.metrics.failed.increment(1);
                record.state = State::Failed;
                record.error = Some(record::sentence(&error));
                failed(&error, &record.id);
                let written = record.clone();
                let kept = aside(move || -> Result<(), BackupError> {
                    record::remove_file(&folder.join(NEW_FILE))?;
                    record::remove_file(&folder.join(FILE))?;
                    Ok(record::write(&folder, &written)?)
                });
                if let Err(error) = kept.await {
                    // Until the next start it is known; then it begins again.
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        job = record.id,
                        "that a backup job failed is not written"
                    );
                }
                record
            }
        };
        self.put(record);
    }
}

/// Says in the log why a job failed.
fn failed(error: &BackupError, job: &str) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, job, "a backup job failed");
}

/// What was written.
struct Written {
    bytes: u64,
    sha256: String,
    head: Seq,
}

/// Tells who writes that nobody waits for it any more, when it is dropped.
#[derive(Default)]
struct Left(Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where a file goes: counted, hashed, and no more than there is room for.
struct Sink {
    file: File,
    hash: Sha256,
    bytes: u64,
    room: u64,
    too_much: bool,
    left: Arc<AtomicBool>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        self.too_much = self.bytes > self.room;
        if self.too_much { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
