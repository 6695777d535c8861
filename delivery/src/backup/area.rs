//! The folder where backups are made: how many at a time, how large, and for whom.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, Recorder};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use super::{BackupError, Draft, Line, Outer, Wanted, seal::LAST_BYTES};
use crate::{
    InboxKey,
    content::{ContentKeys, RewriteError},
    metrics::Metric,
    store::{Store, single::own_dir},
};

/// Most backups that are made at a time on a node. Each takes up to `BACKUP_SIZE_MAX` of the disk, reads an inbox from
/// end to end, and holds some megabytes of memory.
pub const RUNNING_MAX: usize = 4;

/// Where backups are made, below `DATABASE_BACKUP_PATH`.
const FOLDER: &str = ".making";

/// How old a file that nobody holds must be to be one that was left.
const LEFT_AFTER: Duration = Duration::from_secs(60);

const RUNNING: Metric =
    Metric::gauge("pushhub_backups_running", "", "Backups that are made or sent now.");
const BACKUPS: Metric = Metric::counter(
    "pushhub_backups_total",
    "result",
    "Backups: whole, broken off by an error or a client, refused because too many ran, or without room.",
);
const SECONDS: Metric = Metric::histogram(
    "pushhub_backup_duration_seconds",
    "",
    "From a backup's begin to its inbox being copied; sending it comes after.",
);
const BYTES: Metric = Metric::counter(
    "pushhub_backup_bytes_total",
    "",
    "Bytes of backups that were made, before compression.",
);

/// Every metric of this area.
pub const METRICS: &[Metric] = &[RUNNING, BACKUPS, SECONDS, BYTES];

/// What can be set.
#[derive(Clone, Debug)]
pub struct AreaConfig {
    /// The folder of backups (`DATABASE_BACKUP_PATH`).
    pub path: PathBuf,
    /// Largest backup, in bytes before compression (`BACKUP_SIZE_MAX`).
    pub bytes_max: u64,
    /// What content is encrypted with that is readable in a backup (`DATA_ENCRYPTION_KEYS`).
    pub content: Arc<ContentKeys>,
}

/// The folder where backups are made.
pub struct Area {
    path: PathBuf,
    bytes_max: AtomicU64,
    content: Arc<ContentKeys>,
    /// What files of this process are told from those of others by, that share the folder.
    name: String,
    number: AtomicU64,
    of: Mutex<FxHashSet<InboxKey>>,
    running: Gauge,
    whole: Counter,
    broken: Counter,
    refused: Counter,
    no_room: Counter,
    seconds: Histogram,
    bytes: Counter,
}

impl Area {
    /// The folder is made when it is first needed.
    #[must_use]
    pub fn new(config: AreaConfig, recorder: &dyn Recorder) -> Arc<Self> {
        for metric in METRICS {
            metric.describe(recorder);
        }
        let result = |result| BACKUPS.to_counter(recorder, &[("result", result)]);
        Arc::new(Self {
            path: config.path,
            bytes_max: AtomicU64::new(config.bytes_max),
            content: config.content,
            name: uuid::Uuid::now_v7().simple().to_string(),
            number: AtomicU64::new(0),
            of: Mutex::default(),
            running: RUNNING.to_gauge(recorder, &[]),
            whole: result("whole"),
            broken: result("broken"),
            refused: result("refused"),
            no_room: result("no_room"),
            seconds: SECONDS.to_histogram(recorder, &[]),
            bytes: BYTES.to_counter(recorder, &[]),
        })
    }

    /// The largest backup is of another size from here on (`BACKUP_SIZE_MAX`); one that is being made goes on
    /// as it began.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// A place for a backup of a user, who has one at a time.
    ///
    /// # Errors
    /// [`BackupError::Running`].
    pub fn begin(self: &Arc<Self>, inbox: &InboxKey) -> Result<Place, BackupError> {
        let mut of = self.of.lock();
        if of.len() >= RUNNING_MAX || !of.insert(inbox.clone()) {
            self.refused.increment(1);
            return Err(BackupError::Running);
        }
        self.running.increment(1.0);
        let (area, inbox) = (Arc::clone(self), inbox.clone());
        Ok(Place { area, inbox, whole: false, left: Arc::default() })
    }

    fn draft(&self, left: Arc<AtomicBool>) -> Result<Draft, BackupError> {
        let folder = self.path.join(FOLDER);
        own_dir(&folder)?;
        sweep(&folder)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{number}.db", self.name));
        Draft::create(&path, self.bytes_max.load(Ordering::Relaxed), left)
            .inspect_err(|_| remove(&path))
    }
}

/// Removes what killed processes left half-made, of which nobody holds the lock any more.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_left = || -> io::Result<bool> {
            let file = File::open(&path)?;
            // One that was just made is not locked yet.
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            Ok(age > LEFT_AFTER && file.try_lock().is_ok())
        };
        // One that went meanwhile was another's.
        if is_left().unwrap_or(false) {
            remove(&path);
        }
    }
    Ok(())
}

/// Takes a file's name away. Where that fails it takes room, and nothing else.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// A backup that is made or sent.
pub struct Place {
    area: Arc<Area>,
    inbox: InboxKey,
    whole: bool,
    left: Arc<AtomicBool>,
}

/// A backup that was made: a file without a name, gone with its last handle.
pub struct Made {
    file: File,
    bytes: u64,
    line: Line,
}

impl Made {
    /// What it is.
    #[must_use]
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// How many bytes leave where nothing is around it.
    #[must_use]
    pub const fn plain_bytes(&self) -> u64 {
        self.bytes + LAST_BYTES as u64
    }

    /// Sends all of it, with what is to be around it. Waits for the disk and for whoever takes it.
    ///
    /// # Errors
    /// What reading or writing says.
    pub fn write(mut self, outer: &Outer, to: impl io::Write) -> io::Result<()> {
        outer.write(&mut self.file, to)
    }
}

impl Place {
    /// Has a store make it. May be dropped at any time: it is given up then.
    ///
    /// # Errors
    /// [`BackupError`] but for [`BackupError::Running`].
    pub async fn make(&self, store: &dyn Store, wanted: Wanted) -> Result<Made, BackupError> {
        self.make_by(|draft| store.back_up(&self.inbox, wanted, draft)).await
    }

    /// The same by whoever fills it.
    pub(crate) async fn make_by<F>(
        &self,
        fill: impl FnOnce(Draft) -> F,
    ) -> Result<Made, BackupError>
    where
        F: Future<Output = Result<Draft, BackupError>>,
    {
        let made = self.try_make(fill).await;
        if matches!(made, Err(BackupError::TooLarge(_) | BackupError::Full)) {
            self.area.no_room.increment(1);
        }
        made
    }

    /// Whose it is.
    pub(crate) const fn inbox(&self) -> &InboxKey {
        &self.inbox
    }

    async fn try_make<F>(&self, fill: impl FnOnce(Draft) -> F) -> Result<Made, BackupError>
    where
        F: Future<Output = Result<Draft, BackupError>>,
    {
        let began = Instant::now();
        let (area, left) = (Arc::clone(&self.area), Arc::clone(&self.left));
        let draft = aside(move || area.draft(left)).await?;
        let path = draft.path().to_owned();
        let unlink = Unlink(path.clone());
        let draft = fill(draft).await?;
        let (content, tenant) = (Arc::clone(&self.area.content), self.inbox.tenant.clone());
        let made = aside(move || -> Result<Made, BackupError> {
            content.open_backup(draft.db(), &tenant).map_err(|error| match error {
                RewriteError::Content(error) => BackupError::Content(error),
                RewriteError::Sqlite(error) => draft.failed(error),
            })?;
            let (path, line) = draft.close()?.ok_or_else(|| io::Error::other("not a backup"))?;
            let file = File::open(path)?;
            Ok(Made { bytes: file.metadata()?.len(), file, line })
        });
        let made = made.await?;
        drop(unlink);
        self.area.seconds.record(began.elapsed());
        self.area.bytes.increment(made.bytes);
        Ok(made)
    }

    /// All of it went where it should.
    pub fn leave_whole(mut self) {
        self.whole = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        let Area { of, running, whole, broken, .. } = &*self.area;
        of.lock().remove(&self.inbox);
        running.decrement(1.0);
        if self.whole { whole.increment(1) } else { broken.increment(1) }
    }
}

/// Takes a file's name away, whatever becomes of who made it.
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Does something on a thread that may wait.
pub(crate) async fn aside<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error).into()),
    }
}
