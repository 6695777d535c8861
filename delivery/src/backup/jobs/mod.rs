//! Backups that are made in the background and kept for a while, so that a download that broke off goes on.
//!
//! ```text
//! create ─▶ queued ─▶ running (one at a time, in order) ─▶ done ─▶ expired ─▶ forgotten
//!                                                     └──▶ failed ─────────────┘
//! ```
//! Jobs are of the node that made them and lie in its folder of backups ([`record`]). In memory is how they stand; on
//! disk is what a restart begins again from. [`maker`] is the only one who makes them.

mod error;
mod link;
mod maker;
mod metrics;
mod record;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::metrics::Recorder;
use parking_lot::Mutex;
use protocol::Time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::{
    metrics::JobMetrics,
    record::{FILE, NEW_FILE, Sealed, Slot},
};
use super::{Area, BackupError, Key, Outer, Wanted, area::aside};
use crate::{InboxKey, clock::now, store::Storage};

pub(super) use self::record::private;
pub use self::{
    error::JobError,
    link::LinkKey,
    metrics::ALL as METRICS,
    record::{Record, State},
};

/// Most jobs of a user that wait, run or are kept. Each may have a file of `BACKUP_SIZE_MAX`.
pub const OF_USER_MAX: usize = 4;

/// Most jobs of a node, over or not. Each is a folder, and some hundred bytes of memory.
pub const JOBS_MAX: usize = 1_024;

/// Most files of jobs that are sent at a time. Each holds a thread that may wait for its client.
pub const DOWNLOADS_MAX: usize = 32;

/// Where jobs are, below `DATABASE_BACKUP_PATH`.
const FOLDER: &str = ".jobs";

/// How often it is looked for what has expired, whose user is gone, and jobs that a killed process left.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause before a job is tried again whose user downloads a backup just then, and the shortest between two looks.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What can be set.
#[derive(Clone)]
pub struct JobsConfig {
    /// The folder of backups (`DATABASE_BACKUP_PATH`).
    pub path: PathBuf,
    /// How long a file is kept (`BACKUP_JOB_KEPT`).
    pub kept: Duration,
    /// Most bytes of all files together (`BACKUP_JOBS_SIZE_MAX`).
    pub bytes_max: u64,
    /// What links are signed with.
    pub link_key: LinkKey,
}

struct Job {
    record: Record,
    folder: PathBuf,
    /// What it is encrypted with.
    key: Option<Key>,
}

#[derive(Default)]
struct Known {
    /// By id, which is the order in which they were asked for.
    jobs: BTreeMap<String, Job>,
    slots: Vec<Slot>,
}

/// The jobs of a node.
pub struct Jobs {
    config: JobsConfig,
    /// Instead of the one that was configured, once somebody sets it.
    bytes_max: AtomicU64,
    area: Arc<Area>,
    configured: Option<Key>,
    known: Mutex<Known>,
    /// Whoever changes something on disk; memory follows before it is given up.
    disk: tokio::sync::Mutex<()>,
    changed: watch::Sender<()>,
    downloads: Arc<Semaphore>,
    metrics: JobMetrics,
}

/// What is to be made.
pub(crate) struct NewJob {
    pub(crate) wanted: Wanted,
    pub(crate) outer: Outer,
    /// Whether the key came with the request.
    pub(crate) own_key: bool,
}

/// A file that is to be sent.
pub(crate) struct Download {
    pub(crate) record: Record,
    pub(crate) file: File,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) place: OwnedSemaphorePermit,
}

impl Jobs {
    /// The jobs of a folder, none of them known yet.
    #[must_use]
    pub fn new(
        config: JobsConfig,
        area: Arc<Area>,
        configured: Option<Key>,
        recorder: &dyn Recorder,
    ) -> Arc<Self> {
        Arc::new(Self {
            bytes_max: AtomicU64::new(config.bytes_max),
            config,
            area,
            configured,
            known: Mutex::default(),
            disk: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            metrics: JobMetrics::new(recorder),
        })
    }

    /// Files take so much together from here on (`BACKUP_JOBS_SIZE_MAX`). What is kept stays until its time has
    /// come, also where it is more.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Takes over what processes that are gone have left: what was under way begins again.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn take_up(&self) -> Result<(), BackupError> {
        let _disk = self.disk.lock().await;
        self.take_up_locked().await
    }

    async fn take_up_locked(&self) -> Result<(), BackupError> {
        let folder = self.config.path.join(FOLDER);
        let held: Vec<PathBuf> =
            self.known.lock().slots.iter().map(|slot| slot.path.clone()).collect();
        let (slots, jobs) = aside(move || -> Result<_, BackupError> {
            let (slots, mut jobs) = record::adopt(&folder, &held)?;
            for (record, folder) in &mut jobs {
                resume(record, folder)?;
            }
            Ok((slots, jobs))
        })
        .await?;
        if slots.is_empty() {
            return Ok(());
        }
        let mut known = self.known.lock();
        known.slots.extend(slots);
        for (record, folder) in jobs {
            let key = self.configured.clone().filter(|_| record.sealed == Sealed::Configured);
            known.jobs.insert(record.id.clone(), Job { record, folder, key });
        }
        drop(known);
        self.has_changed();
        Ok(())
    }

    fn has_changed(&self) {
        let at = now();
        self.metrics.show(self.known.lock().jobs.values().map(|job| job.record.at(at)));
        self.changed.send_replace(());
    }

    /// Bytes of files that are on the disk.
    fn kept_bytes(&self) -> u64 {
        let known = self.known.lock();
        let done = known.jobs.values().filter(|job| job.record.state == State::Done);
        done.filter_map(|job| job.record.bytes).sum()
    }

    /// Asks for a backup. `user_since` is since when its user is known.
    pub(crate) async fn create(
        &self,
        inbox: &InboxKey,
        user_since: Time,
        new: NewJob,
    ) -> Result<Record, JobError> {
        let made = self.try_create(inbox, user_since, new).await;
        if matches!(
            made,
            Err(JobError::TooMany | JobError::NodeFull | JobError::Backup(BackupError::Kept(_)))
        ) {
            self.metrics.refused.increment(1);
        }
        made
    }

    async fn try_create(
        &self,
        inbox: &InboxKey,
        user_since: Time,
        NewJob { wanted, outer, own_key }: NewJob,
    ) -> Result<Record, JobError> {
        let _disk = self.disk.lock().await;
        if self.known.lock().slots.is_empty() {
            self.take_up_locked().await?;
        }
        let own = self.list(inbox);
        let has_ended = |record: &&Record| matches!(record.state, State::Failed | State::Expired);
        let ended: Vec<&Record> = own.iter().filter(has_ended).collect();
        if own.len() - ended.len() >= OF_USER_MAX {
            return Err(JobError::TooMany);
        }
        // Those that are over make room for new ones, the oldest first.
        for record in ended.iter().take((own.len() + 1).saturating_sub(OF_USER_MAX)) {
            self.discard(&record.id).await?;
        }
        if self.known.lock().jobs.len() >= JOBS_MAX {
            return Err(JobError::NodeFull);
        }
        if self.kept_bytes() >= self.bytes_max() {
            return Err(BackupError::Kept(self.bytes_max()).into());
        }
        let sealed = match (&outer.key, own_key) {
            (None, _) => Sealed::Nobody,
            (Some(_), false) => Sealed::Configured,
            (Some(_), true) => Sealed::Given,
        };
        let record = Record::new(inbox, user_since, wanted, outer.compress, sealed);
        let slot = self.known.lock().slots.first().map(|slot| slot.path.clone());
        let slot = slot.ok_or_else(|| BackupError::from(io::Error::other("no folder of jobs")))?;
        let folder = slot.join(&record.id);
        let (to, written) = (folder.clone(), record.clone());
        aside(move || record::create(&to, &written).map_err(full)).await?;
        let job = Job { record: record.clone(), folder, key: outer.key };
        self.known.lock().jobs.insert(record.id.clone(), job);
        self.has_changed();
        Ok(record)
    }

    /// A user's jobs, the oldest first.
    pub(crate) fn list(&self, inbox: &InboxKey) -> Vec<Record> {
        let (known, at) = (self.known.lock(), now());
        let own = known.jobs.values().filter(|job| job.record.is_of(inbox));
        own.map(|job| job.record.at(at)).collect()
    }

    /// Everybody's, the oldest first.
    pub(crate) fn all(&self) -> Vec<Record> {
        let (known, at) = (self.known.lock(), now());
        known.jobs.values().map(|job| job.record.at(at)).collect()
    }

    /// One of them.
    pub(crate) fn get(&self, inbox: &InboxKey, id: &str) -> Result<Record, JobError> {
        self.find(id).filter(|record| record.is_of(inbox)).ok_or(JobError::NotFound)
    }

    /// One of anybody's, by the name of its file.
    pub(crate) fn by_name(&self, name: &str) -> Result<Record, JobError> {
        let id = name.split('.').next().unwrap_or_default();
        self.find(id).filter(|record| record.file_name() == name).ok_or(JobError::NotFound)
    }

    fn find(&self, id: &str) -> Option<Record> {
        self.known.lock().jobs.get(id).map(|job| job.record.at(now()))
    }

    /// Waits until something has changed of any job, no longer than that.
    pub(crate) async fn changed_within(&self, most: Duration, is_over: impl Fn() -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is_over() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // It has changed in time, or it has not: who asks looks again.
        let _ = tokio::time::timeout(most, wait).await;
    }

    /// The query of a link to a job's file, where it has one.
    pub(crate) fn link_query(&self, record: &Record) -> Option<String> {
        let until = record.expires_at.filter(|_| record.state == State::Done)?;
        Some(self.config.link_key.query(&record.file_name(), until))
    }

    /// Checks a link.
    pub(crate) fn check_link(
        &self,
        name: &str,
        expires: i64,
        signature: &str,
    ) -> Result<(), JobError> {
        self.config.link_key.check(name, expires, signature, now())
    }

    /// Opens a job's file.
    pub(crate) async fn open(&self, record: Record) -> Result<Download, JobError> {
        let (bytes, sha256) = match (record.state, record.bytes, &record.sha256) {
            (State::Done, Some(bytes), Some(sha256)) => (bytes, sha256.clone()),
            (State::Queued | State::Running, ..) => return Err(JobError::NotReady),
            (State::Failed, ..) => return Err(JobError::NoFile("failed")),
            (State::Done | State::Expired, ..) => return Err(JobError::NoFile("has expired")),
        };
        let place =
            Arc::clone(&self.downloads).try_acquire_owned().map_err(|_| JobError::Downloads)?;
        let path = self.known.lock().jobs.get(&record.id).map(|job| job.folder.join(FILE));
        let path = path.ok_or(JobError::NotFound)?;
        let file = aside(move || Ok::<_, BackupError>(File::open(path)?)).await?;
        Ok(Download { record, file, bytes, sha256, place })
    }

    /// Deletes a user's job, whatever it does.
    pub(crate) async fn remove(&self, inbox: &InboxKey, id: &str) -> Result<(), JobError> {
        let _disk = self.disk.lock().await;
        self.get(inbox, id)?;
        Ok(self.discard(id).await?)
    }

    /// Deletes all of a user's: nothing is left here when this returns.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub(crate) async fn forget(&self, inbox: &InboxKey) -> Result<(), BackupError> {
        let _disk = self.disk.lock().await;
        for record in self.list(inbox) {
            self.discard(&record.id).await?;
        }
        Ok(())
    }

    /// Whether its user is still the one it was made for.
    pub(crate) async fn is_current(
        record: &Record,
        store: &dyn Storage,
    ) -> Result<bool, crate::StoreError> {
        let user = store.user(&record.inbox()).await?;
        Ok(user.is_some_and(|user| user.created_at == record.user_since))
    }

    /// Deletes a job; `disk` is held.
    async fn discard(&self, id: &str) -> Result<(), BackupError> {
        let folder = self.known.lock().jobs.get(id).map(|job| job.folder.clone());
        if let Some(folder) = folder {
            aside(move || record::discard(&folder)).await?;
            self.known.lock().jobs.remove(id);
            self.has_changed();
        }
        Ok(())
    }
}

/// What was left under way begins again; what cannot be is said.
fn resume(record: &mut Record, folder: &Path) -> io::Result<()> {
    record::remove_file(&folder.join(NEW_FILE))?;
    let whole = || {
        let bytes = fs::metadata(folder.join(FILE)).map(|data| data.len()).ok();
        bytes.is_some() && bytes == record.bytes
    };
    let error = match record.state {
        State::Queued | State::Running if record.sealed == Sealed::Given => {
            "the node was restarted, and the key of the request is kept nowhere; ask again"
        }
        State::Queued | State::Running => {
            record::remove_file(&folder.join(FILE))?;
            record.state = State::Queued;
            return Ok(());
        }
        State::Done if !whole() => "its file is not there any more",
        State::Done | State::Failed | State::Expired => return Ok(()),
    };
    record.state = State::Failed;
    record.error = Some(error.to_owned());
    record.finished_at.get_or_insert_with(now);
    record.expires_at.get_or_insert_with(now);
    record::write(folder, record)
}

/// A disk that is full by its name.
fn full(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::Full,
        _ => BackupError::Io(error),
    }
}

/// Copies a part of a file that is so long.
pub(crate) fn copy(file: File, length: u64, to: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut file.take(length), to)?;
    // Whoever took the end of it away.
    if copied < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
