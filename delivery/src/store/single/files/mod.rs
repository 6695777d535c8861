//! What a worker does with its inboxes' files: load, write the tail, ask, keep the most used ones
//! open.

mod end;
mod flush;
mod load;
mod prune;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use protocol::Seq;

use self::flush::Batch;
pub(super) use self::{end::remove_all, load::CATCH_UP_MAX};
use super::{
    inbox::{Inbox, Loaded, TailEntry},
    inboxes::Inboxes,
    lag::Lag,
    layout,
    ledger::Ledger,
    metrics::StoreMetrics,
    receipts::Note,
    schema::Templates,
    search::Searches,
    shared::Shared,
    user_files::{Counted, FileError, UserFiles, Writing},
};
use crate::{
    InboxKey,
    clock::{self, WallClock},
    store::{ChangePage, StoreError},
};

/// How often a file that cannot be used is worth a line in the log, over all inboxes: a full disk
/// fails for all of them, with every question and every second again. The metric counts each.
const WARNING_EVERY: Duration = Duration::from_secs(10);

/// What the workers share.
pub(super) struct FilesContext {
    pub(super) root: PathBuf,
    pub(super) templates: Templates,
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) searches: Arc<Searches>,
    pub(super) inboxes: Arc<Inboxes>,
    /// The latest record that was handed to the inboxes.
    pub(super) sequenced: Arc<AtomicU64>,
    pub(super) lag: Arc<Lag>,
    pub(super) metrics: Arc<StoreMetrics>,
    /// Inboxes whose files one worker keeps open.
    pub(super) open_max: usize,
    /// When the log last said that a file cannot be used.
    pub(super) warned: Mutex<Option<Instant>>,
    /// By which messages expire.
    pub(super) clock: WallClock,
}

/// One worker's open files.
pub(super) struct Files {
    context: Arc<FilesContext>,
    open: HashMap<InboxKey, OpenFiles>,
    tick: u64,
}

struct OpenFiles {
    files: UserFiles,
    used: u64,
}

impl Files {
    pub(super) fn new(context: Arc<FilesContext>) -> Self {
        Self { context, open: HashMap::new(), tick: 0 }
    }

    /// Writes changes of an inbox, which stands at `loaded` with them, and what went to its devices
    /// into its files. Answers what is counted there.
    fn put(
        &mut self,
        inbox: &Inbox,
        loaded: &Loaded,
        entries: &[TailEntry],
        notes: &[Note],
    ) -> Result<Counted, FileError> {
        if loaded.file_head == Seq::ZERO {
            // Everybody who has a file is known. Before it is there: what a crash leaves undone the
            // journal still has then, see `trim`.
            let at = entries.first().map_or_else(clock::now, |entry| entry.at);
            let state = inbox.state.lock();
            state.tell_known(&self.context.shared, &inbox.key, loaded.since, at);
        }
        let context = Arc::clone(&self.context);
        let writing = Writing {
            key: &inbox.key,
            entries,
            since: loaded.since,
            notes,
            witness: Some(&|happenings| context.ledger.happened(happenings)),
        };
        self.open(inbox, true)?.expect("open creates what is missing").apply(&writing)
    }

    /// The changes after a position, from memory where it has all that is asked for.
    pub(super) fn changes(
        &mut self,
        inbox: &Arc<Inbox>,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<ChangePage, StoreError> {
        loop {
            self.load(inbox)?;
            if let Some(page) = inbox.page_in_memory(since, limit, bytes_max) {
                return Ok(page);
            }
            let found = self.query(inbox, |open, templates| {
                let min_seq = open.counted()?.min_seq;
                let changes = if since < min_seq {
                    Vec::new()
                } else {
                    open.changes(templates, &inbox.key, since, limit, bytes_max)?
                };
                Ok((changes, min_seq))
            })?;
            let (changes, min_seq) = found.unwrap_or_default();
            let state = inbox.state.lock();
            if state.ending == 0 {
                let head = state.loaded().map(|loaded| loaded.head).unwrap_or_default();
                return Ok(ChangePage { changes, head, min_seq });
            }
        }
    }

    /// Asks an inbox's files, with everything in them; `None` where the inbox is empty. When they
    /// cannot be written the question, asked again, goes to a draft of what they would be: the
    /// journal has promised the tail, and a disk that is full or fails does not take reads away.
    pub(super) fn query<T>(
        &mut self,
        inbox: &Arc<Inbox>,
        ask: impl Fn(&mut UserFiles, &Templates) -> Result<T, FileError>,
    ) -> Result<Option<T>, StoreError> {
        loop {
            self.load(inbox)?;
            let answer = match self.query_files(inbox, &ask) {
                Err(StoreError::NotWritable(_)) => self.query_draft(inbox, &ask).map(Some),
                answered => answered,
            };
            // Else its user was forgotten meanwhile, and what was asked is about to go.
            if inbox.state.lock().ending == 0 {
                return answer;
            }
        }
    }

    fn query_files<T>(
        &mut self,
        inbox: &Arc<Inbox>,
        ask: impl Fn(&mut UserFiles, &Templates) -> Result<T, FileError>,
    ) -> Result<Option<T>, StoreError> {
        self.write(inbox)?;
        let context = Arc::clone(&self.context);
        self.open(inbox, false)
            .and_then(|files| files.map(|files| ask(files, &context.templates)).transpose())
            .map_err(|error| self.failed(inbox, error))
    }

    fn query_draft<T>(
        &mut self,
        inbox: &Inbox,
        ask: impl Fn(&mut UserFiles, &Templates) -> Result<T, FileError>,
    ) -> Result<T, StoreError> {
        let templates = &self.context.templates;
        let Batch { entries, notes, loaded } = Batch::copy(inbox);
        let (key, entries, notes) = (&inbox.key, &*entries, &*notes);
        UserFiles::draft(&layout::inbox_dir(&self.context.root, key), templates)
            .and_then(|mut draft| {
                let since = loaded.since;
                draft.apply(&Writing { key, entries, since, notes, witness: None })?;
                draft.settle(self.context.clock.now())?;
                ask(&mut draft, templates)
            })
            .map_err(|error| self.failed(inbox, error))
    }

    fn open(&mut self, inbox: &Inbox, create: bool) -> Result<Option<&mut UserFiles>, FileError> {
        self.tick += 1;
        if !self.open.contains_key(&inbox.key) {
            let dir = layout::inbox_dir(&self.context.root, &inbox.key);
            let Some(files) = UserFiles::open(&dir, &inbox.key, &self.context.templates, create)?
            else {
                return Ok(None);
            };
            self.make_room();
            self.open.insert(inbox.key.clone(), OpenFiles { files, used: self.tick });
            self.context.metrics.open_files.increment(1);
        }
        let open = self.open.get_mut(&inbox.key).expect("inserted above");
        open.used = self.tick;
        Ok(Some(&mut open.files))
    }

    fn close(&mut self, inbox: &Inbox) {
        if self.open.remove(&inbox.key).is_some() {
            self.context.metrics.open_files.decrement(1);
        }
    }

    /// Closes the files that were not used for longest, some at a time: finding them reads the
    /// whole table, and opening a file costs far more than that.
    fn make_room(&mut self) {
        if self.open.len() < self.context.open_max {
            return;
        }
        let mut ages: Vec<u64> = self.open.values().map(|open| open.used).collect();
        let rank = ages.len() / 16;
        let (_, &mut oldest, _) = ages.select_nth_unstable(rank);
        let before = self.open.len();
        self.open.retain(|_, open| open.used > oldest);
        let closed = u32::try_from(before - self.open.len()).unwrap_or(u32::MAX);
        self.context.metrics.open_files.decrement(f64::from(closed));
    }

    /// Turns an error about an inbox into what its callers get, and drops its handle: after a
    /// failed write or sync the handle's word cannot be trusted any more.
    fn failed(&mut self, inbox: &Inbox, error: FileError) -> StoreError {
        self.close(inbox);
        self.context.metrics.file_errors.increment(1);
        let damage = error.is_damage();
        let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
        if damage {
            tracing::error!(error = %error, "an inbox's file is damaged; this inbox is closed until it is repaired");
            inbox.state.lock().damaged = Some(Arc::clone(&error));
            StoreError::Damaged(error)
        } else {
            let mut warned = self.context.warned.lock();
            if warned.is_none_or(|at| at.elapsed() >= WARNING_EVERY) {
                *warned = Some(Instant::now());
                tracing::warn!(error = %error, "an inbox's file cannot be used now, and perhaps more");
            }
            StoreError::NotWritable(error)
        }
    }
}
