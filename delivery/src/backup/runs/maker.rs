//! Makes a run: inbox after inbox, at half speed.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use protocol::{Seq, Status};
use tokio::sync::mpsc;

use super::{
    BESIDE, RunError, Runs,
    home::Turn,
    index::{Had, Index, RunFile},
    parts::{self, CONTROL, DIRECTORY, People, WEBHOOKS},
    record::{Part, RunRecord},
    shelf::Written,
};
use crate::{
    InboxKey, StoreError,
    backup::{BackupError, Made, Outer, Since, Wanted, area::aside, read::unpack_file},
    clock::now,
    content::ContentError,
    control,
    store::{Change, Storage, single::own_dir},
    webhook,
};

/// Inboxes that were found and wait for their turn.
const WAITING_MAX: usize = 64;

/// A run rests for as long as it works, so that sends have the machine: work that is shorter than this is added up.
const REST_MIN: Duration = Duration::from_millis(5);

/// Longest rest at a time.
const REST_MAX: Duration = Duration::from_secs(1);

/// Pause before an inbox is tried again of which its owner makes a backup just then.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// For how long that is done. Then the run goes on without it, and the next one tries again.
const AGAIN_WITHIN: Duration = Duration::from_secs(120);

/// Name of the index in a run.
pub(super) const INDEX: &str = "index.db.gz";

/// What has become of an inbox.
enum Done {
    Unchanged,
    Written { bytes: u64 },
    Failed,
}

impl Runs {
    /// Makes a run and removes those that are kept no longer. `kept` are those that are whole.
    pub(super) async fn make(
        &self,
        store: &dyn Storage,
        turn: &Turn,
        kept: Vec<RunRecord>,
        mut record: RunRecord,
    ) -> Result<RunRecord, RunError> {
        for left in self.shelf.runs().await? {
            // What a newer build wrote is whole, and not for this one to remove.
            let is_whole =
                kept.iter().any(|run| run.id == left) || self.shelf.record(&left).await?.is_some();
            if !is_whole {
                tracing::info!(run = left, "a backup that was broken off is removed");
                self.shelf.remove(&left).await?;
            }
        }
        let beside = Beside::make(&self.config.path).await?;
        let made = self.fill(store, turn, &beside, &kept, &mut record).await;
        if let Err(error) = made {
            // What it took is needed for the next try; where that cannot be removed the next one tries to.
            if let Err(error) = self.shelf.remove(&record.id).await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "a run that failed stays until the next one");
            }
            return Err(error);
        }
        record.finished_at = now();
        let mut all = kept;
        all.push(record.clone());
        record.removed = self.config.keep.over(&all, record.finished_at);
        turn.check()?;
        let written = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        self.shelf.seal(&record.id, written).await?;
        for run in &record.removed {
            if let Err(error) = self.shelf.remove(run).await {
                // It is still there, so that the next run removes it.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, run, "a run that is kept no longer cannot be removed now");
            }
        }
        self.list().await?;
        Ok(record)
    }

    async fn fill(
        &self,
        store: &dyn Storage,
        turn: &Turn,
        beside: &Beside,
        kept: &[RunRecord],
        record: &mut RunRecord,
    ) -> Result<(), RunError> {
        let path = beside.0.join("index.db");
        let mut index = match self.index_before(kept, record, &path).await? {
            Some(index) => index,
            None => {
                // From the beginning, whatever it was to be.
                (record.previous, record.kind) = (None, "full".to_owned());
                let _ = fs::remove_file(&path);
                Index::create(&path)?
            }
        };
        let mut people = People::create(&beside.0.join(DIRECTORY))?;
        let all_met = self.inboxes(store, turn, record, &mut index, &mut people).await?;
        turn.check()?;
        people.finish(store).await?;
        let home = self.home.clone();
        let (control, webhooks) = (beside.0.join(CONTROL), beside.0.join(WEBHOOKS));
        aside(move || {
            home.with_rows(|rows| control::copy_out(rows, &control))?;
            home.with_rows(|rows| webhook::copy_out(rows, &webhooks))
        })
        .await?;
        let outer = Outer { compress: true, key: self.key.clone() };
        for name in [CONTROL, WEBHOOKS, DIRECTORY] {
            let named = format!("{name}{}", outer.suffix());
            self.part(record, beside.0.join(name), named, outer.clone()).await?;
        }
        let id = record.id.clone();
        let (inboxes, path) = aside(move || index.finish(&id, all_met)).await?;
        record.inboxes = inboxes;
        let plain = Outer { compress: true, key: None };
        self.part(record, path, INDEX.to_owned(), plain).await
    }

    /// The index of the run before, to be gone on with; none where there is none that can be used.
    async fn index_before(
        &self,
        kept: &[RunRecord],
        record: &RunRecord,
        path: &Path,
    ) -> Result<Option<Index>, RunError> {
        let Some(previous) = &record.previous else { return Ok(None) };
        let previous = kept.iter().find(|run| run.id == *previous);
        let Some(part) = previous.and_then(|run| Some((run, run.part(INDEX)?))) else {
            return Ok(None);
        };
        match self.fetch_index(part.0, part.1, path).await {
            Ok(index) => Ok(Some(index)),
            Err(error @ (RunError::Damaged(..) | RunError::Read { .. } | RunError::Beside(_))) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the run before cannot be gone on with; this one is full");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch_index(
        &self,
        run: &RunRecord,
        part: &Part,
        path: &Path,
    ) -> Result<Index, RunError> {
        let packed = path.with_extension("gz");
        let fetched = self.shelf.fetch(&run.id, &part.name, &packed).await?;
        if (fetched.bytes, &fetched.sha256) != (part.bytes, &part.sha256) {
            let other = "its SHA-256 is another".to_owned();
            return Err(RunError::Damaged(format!("{}/{}", run.id, part.name), other));
        }
        let (name, path) = (part.name.clone(), path.to_owned());
        aside(move || {
            let to = File::create(&path)?;
            unpack_file(&packed, None, to).map_err(|source| RunError::Read { name, source })?;
            fs::remove_file(packed)?;
            Index::open(&path)
        })
        .await
    }

    /// Puts a file of `beside` into the run.
    async fn part(
        &self,
        record: &mut RunRecord,
        path: PathBuf,
        name: String,
        outer: Outer,
    ) -> Result<(), RunError> {
        let write = move |to: &mut dyn io::Write| {
            let mut from = File::open(path)?;
            outer.write(&mut from, to)
        };
        let Written { bytes, sha256 } = self.shelf.put(&record.id, &name, Box::new(write)).await?;
        record.bytes += bytes;
        record.parts.push(Part { name, bytes, sha256 });
        Ok(())
    }

    /// Walks over all inboxes. Answers whether all there are were met.
    async fn inboxes(
        &self,
        store: &dyn Storage,
        turn: &Turn,
        record: &mut RunRecord,
        index: &mut Index,
        people: &mut People,
    ) -> Result<bool, RunError> {
        let (to, mut found) = mpsc::channel(WAITING_MAX);
        let walk = store.inboxes(to);
        let mut pace = Pace::default();
        let work = async {
            let met = async {
                while let Some(key) = found.recv().await {
                    turn.check()?;
                    let began = Instant::now();
                    let user = store.user(&key).await?;
                    people.met(&key, user.as_ref())?;
                    let since = parts::since(user.as_ref());
                    match self.inbox(store, record, index, &key, since).await? {
                        Done::Unchanged => self.metrics.unchanged.increment(1),
                        Done::Written { bytes } => {
                            record.bytes += bytes;
                            record.written += 1;
                            self.metrics.written.increment(1);
                        }
                        Done::Failed => {
                            record.failed += 1;
                            self.metrics.damaged.increment(1);
                        }
                    }
                    if let Some(shown) = &mut self.state.lock().under_way {
                        shown.looked_at += 1;
                    }
                    pace.rest(began.elapsed()).await;
                }
                Ok::<(), RunError>(())
            };
            let met = met.await;
            // Else whoever walks would wait for ever for somebody to take what was found.
            found.close();
            met
        };
        let (walked, worked) = tokio::join!(walk, work);
        worked?;
        match walked {
            Ok(()) => Ok(true),
            Err(error @ StoreError::Damaged(_)) => {
                record.failed += 1;
                self.metrics.damaged.increment(1);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "a file of which it is not known whose it is is in no backup"
                );
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at one inbox, and backs it up where it has changed.
    async fn inbox(
        &self,
        store: &dyn Storage,
        record: &RunRecord,
        index: &mut Index,
        key: &InboxKey,
        user_since: Option<protocol::Time>,
    ) -> Result<Done, RunError> {
        let had = index.had(key)?;
        let looked = self.look_at(store, record, key, had.as_ref(), user_since).await;
        let made = match looked {
            Ok(made) => made,
            Err(error) if is_its_own(&error) => {
                let (sentence, user) = (error.to_string(), key.user.as_str());
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, user, "an inbox is in no new backup: it cannot be read");
                index.seen(key, &record.id, Some(&sentence))?;
                return Ok(Done::Failed);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(made) = made else {
            index.seen(key, &record.id, None)?;
            return Ok(Done::Unchanged);
        };
        let (since, head) = (made.line().since, made.line().head);
        let outer = Outer { compress: true, key: self.key.clone() };
        let name = format!("inboxes/{:08}.db{}", record.written + 1, outer.suffix());
        let write = move |to: &mut dyn io::Write| made.write(&outer, to);
        let Written { bytes, sha256 } = self.shelf.put(&record.id, &name, Box::new(write)).await?;
        let Some(mark) = mark(store, key, head).await? else {
            // Pruned away while it was copied: the next run looks at it as at a new one.
            index.seen(key, &record.id, None)?;
            return Ok(Done::Written { bytes });
        };
        let file = RunFile { since, head, run: record.id.clone(), name, bytes, sha256 };
        index.wrote(key, &Had { head, mark, user_since }, &file)?;
        Ok(Done::Written { bytes })
    }

    /// A backup of what has changed since the runs before; none where nothing has.
    async fn look_at(
        &self,
        store: &dyn Storage,
        record: &RunRecord,
        key: &InboxKey,
        had: Option<&Had>,
        user_since: Option<protocol::Time>,
    ) -> Result<Option<Made>, BackupError> {
        let head = store.head(key).await?.seq;
        let mut wanted = Wanted::Full;
        if let Some(had) = had.filter(|_| !record.is_full()) {
            // Else the user was deleted meanwhile, or an older backup was brought back: another past.
            let same = had.user_since == user_since
                && head >= had.head
                && mark(store, key, had.head).await?.as_ref() == Some(&had.mark);
            if same && head == had.head {
                return Ok(None);
            }
            if same {
                wanted = Wanted::Incremental(Since::Seq(had.head));
            }
        }
        if head == Seq::ZERO {
            return Ok(None);
        }
        match self.back_up(store, key, wanted).await {
            // Pruned just now.
            Err(BackupError::Since { .. }) => {
                self.back_up(store, key, Wanted::Full).await.map(Some)
            }
            made => made.map(Some),
        }
    }

    async fn back_up(
        &self,
        store: &dyn Storage,
        key: &InboxKey,
        wanted: Wanted,
    ) -> Result<Made, BackupError> {
        let until = Instant::now() + AGAIN_WITHIN;
        let place = loop {
            match self.area.begin(key) {
                Err(BackupError::Running) if Instant::now() < until => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                place => break place?,
            }
        };
        let made = place.make(store, wanted).await?;
        place.leave_whole();
        Ok(made)
    }
}

/// Whether an error is one of that inbox alone.
fn is_its_own(error: &BackupError) -> bool {
    match error {
        BackupError::Store(StoreError::Damaged(_) | StoreError::NotFound)
        | BackupError::Since { .. }
        | BackupError::Running
        | BackupError::TooLarge(_)
        | BackupError::Content(
            ContentError::Missing { .. }
            | ContentError::Refused { .. }
            | ContentError::NoMessage { .. },
        )
        | BackupError::Sqlite(_) => true,
        BackupError::Store(_)
        | BackupError::Content(ContentError::Random)
        | BackupError::Kept(_)
        | BackupError::Full
        | BackupError::Left
        | BackupError::Io(_) => false,
    }
}

/// What the change at a position was: the same for as long as nobody makes another past of it. None where it is not
/// kept.
async fn mark(store: &dyn Storage, key: &InboxKey, at: Seq) -> Result<Option<String>, StoreError> {
    let before = Seq(at.0.saturating_sub(1));
    let page = store.changes(key, before, 1, 1).await?;
    let first = page.changes.into_iter().find(|change| change.seq == at);
    Ok(first.map(|stored| match stored.change {
        Change::Message { body, .. } => body.id().to_string(),
        // What stands in a message's place tells nothing but its id: when it went may be told in several ways.
        Change::Status(change) if is_gone(change.status) => change.message_id.to_string(),
        Change::Status(change) => format!("{}@{}", change.message_id, change.at.millis()),
    }))
}

/// Whether a message of this status is not shown any more.
const fn is_gone(status: Status) -> bool {
    !crate::store::is_live(status)
}

/// Rests between pieces of work.
#[derive(Default)]
struct Pace {
    owed: Duration,
}

impl Pace {
    async fn rest(&mut self, worked: Duration) {
        self.owed += worked;
        if self.owed >= REST_MIN {
            tokio::time::sleep(self.owed.min(REST_MAX)).await;
            self.owed = Duration::ZERO;
        }
    }
}

/// The folder in which an index and parts are put together; gone with it, and what a killed process left there.
struct Beside(PathBuf);

impl Beside {
    async fn make(path: &Path) -> Result<Self, RunError> {
        let path = path.join(BESIDE);
        let made = aside(move || -> Result<_, BackupError> {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            own_dir(&path)?;
            Ok(Self(path))
        });
        Ok(made.await?)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What is left is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}
