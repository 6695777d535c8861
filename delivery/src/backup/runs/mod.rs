//! Backups of everybody, made by a schedule and kept for a while: inboxes and control data.
//!
//! ```text
//! {DATABASE_BACKUP_PATH}/runs/{run}/     or s3://{bucket}/{prefix}/{run}/
//!     inboxes/00000001.db.gz[.age]       a backup of one inbox, as a user downloads it
//!     control.db.gz[.age] …              see `parts`
//!     index.db.gz                        which file is whose, of this run and those it is put on
//!     run.json                           last: a run without it was broken off, and is removed by the next
//! ```
//! A run is full, or incremental on top of the one before: an inbox in which nothing changed costs a look. One node
//! at a time makes one ([`home`]); who makes it is [`maker`], who reads it back [`reader`].

mod bucket;
mod error;
mod folder;
mod home;
mod index;
mod keep;
mod maker;
mod metrics;
mod parts;
mod reader;
mod record;
mod schedule;
mod shelf;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::Recorder;
use parking_lot::Mutex;
use protocol::Time;
use tokio_util::task::AbortOnDropHandle;

use self::{bucket::Bucket, folder::Folder, home::Turn, metrics::RunMetrics, shelf::Shelf};
pub use self::{
    bucket::BucketConfig,
    error::RunError,
    home::Home,
    index::IndexEntry,
    keep::Keep,
    metrics::ALL as METRICS,
    reader::{OpenedRun, RunsReader},
    record::{Part, RunRecord},
    schedule::{EVERY_MAX, EVERY_MIN, NoSchedule, Schedule},
};
use super::{Area, Key};
use crate::{
    clock::{after, now},
    store::Storage,
};

/// Where runs are, below `DATABASE_BACKUP_PATH`, where they are in no bucket.
const FOLDER: &str = "runs";

/// Where a run puts its index and parts together, below `DATABASE_BACKUP_PATH`.
const BESIDE: &str = ".run";

/// Longest sleep: a clock that was set is noticed by then.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause before a run that failed is tried again: from this, doubled each time, up to [`AGAIN_MAX`].
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// See [`AGAIN_AFTER`].
const AGAIN_MAX: Duration = Duration::from_secs(600);

/// What can be set.
#[derive(Clone, Debug)]
pub struct RunsConfig {
    /// The folder of backups (`DATABASE_BACKUP_PATH`).
    pub path: PathBuf,
    /// Where runs are kept instead (`BACKUP_BUCKET`).
    pub bucket: Option<BucketConfig>,
    /// When they are made (`BACKUP_SCHEDULE`); none for by nobody but who asks for one.
    pub schedule: Option<Schedule>,
    /// A run is full when the latest full one is that old (`BACKUP_FULL_EVERY`).
    pub full_every: Duration,
    /// Which are kept.
    pub keep: Keep,
}

impl RunsConfig {
    fn shelf(&self) -> Result<Shelf, RunError> {
        Ok(match &self.bucket {
            Some(bucket) => Shelf::Bucket(Arc::new(Bucket::open(bucket.clone())?)),
            None => Shelf::Folder(Arc::new(Folder { path: self.path.join(FOLDER) })),
        })
    }
}

/// A run that this node makes now.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "BackupRunUnderWay")]
pub struct UnderWay {
    /// Its id.
    pub id: String,
    /// `full` or `incremental`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(full|incremental)$"))]
    pub kind: String,
    /// When it began.
    pub started_at: Time,
    /// Inboxes that it has looked at.
    pub looked_at: u64,
}

/// How runs do on this node.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The one that is made here now.
    pub under_way: Option<UnderWay>,
    /// When the next is due, by the schedule.
    pub next_at: Option<Time>,
    /// Why the latest could not be made that was tried here since the latest that could.
    pub failure: Option<(Time, String)>,
}

/// Makes backups of everybody.
pub struct Runs {
    config: RunsConfig,
    shelf: Shelf,
    area: Arc<Area>,
    key: Option<Key>,
    home: Home,
    here: Arc<tokio::sync::Mutex<()>>,
    /// `run.json` of those that were read: they never change.
    known: Mutex<BTreeMap<String, RunRecord>>,
    state: Mutex<RunState>,
    /// The one that was asked for.
    asked: Mutex<Option<AbortOnDropHandle<()>>>,
    metrics: RunMetrics,
    started: Time,
}

impl Runs {
    /// Nothing is looked at before the first is due.
    ///
    /// # Errors
    /// [`RunError::Place`] for a bucket that cannot be named so.
    pub fn new(
        config: RunsConfig,
        home: Home,
        area: Arc<Area>,
        key: Option<Key>,
        recorder: &dyn Recorder,
    ) -> Result<Arc<Self>, RunError> {
        Ok(Arc::new(Self {
            shelf: config.shelf()?,
            config,
            area,
            key,
            home,
            here: Arc::default(),
            known: Mutex::default(),
            state: Mutex::default(),
            asked: Mutex::default(),
            metrics: RunMetrics::new(recorder),
            started: now(),
        }))
    }

    /// Makes them when they are due, for ever; nothing without a schedule. Spawn it once and drop it to stop: what is
    /// under way then is begun anew after the next start.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Storage>) {
        let Some(schedule) = self.config.schedule.clone() else { return };
        let mut failed = 0_u32;
        loop {
            // After a failure by the pause, else by what there is.
            let due = match failed {
                0 => match self.list().await {
                    Ok(kept) => {
                        schedule.due(kept.last().map(|latest| latest.started_at), self.started)
                    }
                    Err(error) => {
                        self.has_failed(&error);
                        failed = 1;
                        continue;
                    }
                },
                failed => Some(after(now(), pause(failed))),
            };
            self.state.lock().next_at = due;
            self.sleep_until(due).await;
            match self.make_due(&schedule, &store).await {
                Ok(()) => failed = 0,
                // Another node makes it: it is looked again when that one may be done.
                Err(RunError::UnderWay) => tokio::time::sleep(AGAIN_AFTER).await,
                Err(_) => failed = failed.saturating_add(1),
            }
        }
    }

    async fn sleep_until(&self, due: Option<Time>) {
        loop {
            let left = due.map_or(i64::MAX, |due| due.millis().saturating_sub(now().millis()));
            let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else { return };
            tokio::time::sleep(Duration::from_millis(left).min(LOOK_EVERY)).await;
        }
    }

    /// Makes the one that is due, unless another node has made it by now.
    async fn make_due(
        &self,
        schedule: &Schedule,
        store: &Arc<dyn Storage>,
    ) -> Result<(), RunError> {
        let turn = self.home.turn(&self.here).await;
        let turn = turn.and_then(|turn| turn.ok_or(RunError::UnderWay));
        let begun = match turn {
            Ok(turn) => self.begin(false).await.map(|begun| (turn, begun)),
            Err(error) => Err(error),
        };
        let (turn, (kept, record)) = match begun {
            Ok(begun) => begun,
            Err(error @ RunError::UnderWay) => return Err(error),
            Err(error) => {
                self.has_failed(&error);
                return Err(error);
            }
        };
        let latest = kept.last().map(|latest| latest.started_at);
        let due = schedule.due(latest, self.started);
        if due.is_none_or(|due| due > now()) {
            return Ok(());
        }
        self.make_and_tell(&**store, &turn, kept, record).await
    }

    /// Begins one now, because somebody asks for it, and answers what it will be. `full`: from the beginning of every
    /// inbox, also where an incremental one would do.
    ///
    /// # Errors
    /// [`RunError::UnderWay`], [`RunError::Place`].
    pub async fn ask(
        self: &Arc<Self>,
        store: Arc<dyn Storage>,
        full: bool,
    ) -> Result<UnderWay, RunError> {
        let begun = async {
            let turn = self.home.turn(&self.here).await?.ok_or(RunError::UnderWay)?;
            Ok::<_, RunError>((turn, self.begin(full).await?))
        };
        let (turn, (kept, record)) = match begun.await {
            Err(error @ RunError::UnderWay) => return Err(error),
            Err(error) => {
                self.has_failed(&error);
                return Err(error);
            }
            Ok(begun) => begun,
        };
        let begun = under_way(&record);
        self.state.lock().under_way = Some(begun.clone());
        let runs = Arc::clone(self);
        let making = tokio::spawn(async move {
            // What comes of it was told, counted and logged.
            let _ = runs.make_and_tell(&*store, &turn, kept, record).await;
        });
        *self.asked.lock() = Some(AbortOnDropHandle::new(making));
        Ok(begun)
    }

    /// Ends what was asked for: the store goes down.
    pub fn stop(&self) {
        *self.asked.lock() = None;
    }

    /// What there is, and what the next one is.
    async fn begin(&self, full: bool) -> Result<(Vec<RunRecord>, RunRecord), RunError> {
        let kept = self.list().await?;
        let at = now();
        let encrypted = self.key.is_some();
        let base = kept.iter().rfind(|run| run.is_full());
        let is_fresh = base.is_some_and(|base| after(base.started_at, self.config.full_every) > at);
        // From the day on which there is a key, everything is encrypted.
        let previous = kept.last().filter(|last| !full && is_fresh && last.encrypted == encrypted);
        let record = RunRecord::begin(at, previous, encrypted);
        Ok((kept, record))
    }

    async fn make_and_tell(
        &self,
        store: &dyn Storage,
        turn: &Turn,
        kept: Vec<RunRecord>,
        record: RunRecord,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        self.state.lock().under_way = Some(under_way(&record));
        self.metrics.running.set(1.0);
        let told = Told(self);
        tracing::info!(run = record.id, kind = record.kind, "a backup of everybody begins");
        let made = self.make(store, turn, kept, record).await;
        drop(told);
        match made {
            Ok(record) => {
                self.metrics.took(began.elapsed());
                self.metrics.done.increment(1);
                self.state.lock().failure = None;
                let RunRecord { id: run, kind, inboxes, written, failed, bytes, removed, .. } =
                    record;
                let (seconds, removed) = (began.elapsed().as_secs_f64(), removed.len());
                tracing::info!(
                    run,
                    kind,
                    inboxes,
                    written,
                    failed,
                    bytes,
                    removed,
                    seconds,
                    "a backup of everybody is whole"
                );
                Ok(())
            }
            Err(error) => {
                self.has_failed(&error);
                Err(error)
            }
        }
    }

    fn has_failed(&self, error: &RunError) {
        self.metrics.failed.increment(1);
        let sentence = error.to_string();
        self.state.lock().failure = Some((now(), sentence));
        let error = error as &dyn std::error::Error;
        tracing::error!(target: "error", error, "a backup of everybody could not be made; it is tried again");
    }

    /// All that are kept and whole, in the order of time.
    ///
    /// # Errors
    /// [`RunError::Place`].
    pub async fn list(&self) -> Result<Vec<RunRecord>, RunError> {
        let found = self.shelf.runs().await?;
        let mut kept = Vec::with_capacity(found.len());
        for id in &found {
            let known = self.known.lock().get(id).cloned();
            let record = match known {
                Some(record) => Some(record),
                None => self.shelf.record(id).await?.and_then(|bytes| RunRecord::read(id, &bytes)),
            };
            kept.extend(record);
        }
        *self.known.lock() = kept.iter().map(|run| (run.id.clone(), run.clone())).collect();
        self.metrics.show(&kept);
        Ok(kept)
    }

    /// How they do on this node.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state.lock().clone()
    }

    /// Where they are kept, in words.
    #[must_use]
    pub fn place(&self) -> String {
        self.shelf.describe()
    }
}

fn under_way(record: &RunRecord) -> UnderWay {
    let RunRecord { id, kind, started_at, .. } = record.clone();
    UnderWay { id, kind, started_at, looked_at: 0 }
}

fn pause(failed: u32) -> Duration {
    AGAIN_AFTER.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(AGAIN_MAX)
}

/// Tells that none is under way any more, however that came.
struct Told<'a>(&'a Runs);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way = None;
        self.0.metrics.running.set(0.0);
    }
}
