//! Writing: an inbox's tail, what went to its devices, its cursors.

use std::sync::Arc;

use protocol::Seq;

use super::{
    super::{
        cursors,
        inbox::{Inbox, LAZY_MAX, Loaded, TailEntry, What},
        layout,
        receipts::Note,
        user_files::FileError,
    },
    Files,
};
use crate::store::StoreError;

/// Changes written in one transaction, at most: bounds how long a question waits behind one.
const APPLY_MAX: usize = 512;

/// What is written in one transaction.
pub(super) struct Batch {
    pub(super) entries: Vec<TailEntry>,
    pub(super) notes: Vec<Note>,
    /// How the inbox stands with all of its tail.
    pub(super) loaded: Loaded,
}

impl Batch {
    /// What is to be written next. The tail stays until it is; what went to devices is taken, once
    /// the changes it speaks of are in the file or in the batch.
    fn take(inbox: &Inbox, everything: bool) -> Self {
        let mut state = inbox.state.lock();
        let none = Self { entries: Vec::new(), notes: Vec::new(), loaded: Loaded::default() };
        if state.damaged.is_some() || state.ending > 0 {
            return none;
        }
        let due = state.notes.as_ref().is_some_and(|notes| notes.due);
        let wanted = everything || due || state.tail.len() > state.lazy || state.lazy > LAZY_MAX;
        if !wanted {
            return none;
        }
        let count = state.tail.len().min(APPLY_MAX);
        let entries: Vec<TailEntry> = state.tail.iter().take(count).cloned().collect();
        let mut notes = Vec::new();
        if due || !entries.is_empty() {
            let head = match entries.last() {
                Some(last) => Seq(last.seq.0 + last.seqs() - 1),
                None => state.loaded().map(|loaded| loaded.file_head).unwrap_or_default(),
            };
            if let Some(waiting) = &mut state.notes {
                notes = waiting.take(head);
            }
            if state.notes.as_ref().is_some_and(|notes| notes.is_empty()) {
                state.notes = None;
            }
        }
        Self { entries, notes, loaded: state.loaded().copied().unwrap_or_default() }
    }

    /// All that there is.
    pub(super) fn copy(inbox: &Inbox) -> Self {
        let state = inbox.state.lock();
        let entries = state.tail.iter().cloned().collect();
        let notes = state.notes.iter().flat_map(|notes| notes.iter().cloned()).collect();
        Self { entries, notes, loaded: state.loaded().copied().unwrap_or_default() }
    }
}

impl Files {
    /// Writes the inbox's tail and cursors to its files; what is only for everyone stays lazy
    /// unless `everything` is asked for, or it has become much.
    pub(in super::super) fn flush(
        &mut self,
        inbox: &Arc<Inbox>,
        everything: bool,
    ) -> Result<(), StoreError> {
        self.load(inbox)?;
        self.flush_loaded(inbox, everything).map_err(|error| self.failed(inbox, error))
    }

    pub(super) fn flush_loaded(
        &mut self,
        inbox: &Inbox,
        everything: bool,
    ) -> Result<(), FileError> {
        loop {
            let Batch { entries, notes, loaded } = Batch::take(inbox, everything);
            if entries.is_empty() && notes.is_empty() {
                break;
            }
            let context = Arc::clone(&self.context);
            let written = self.put(inbox, &loaded, &entries, &notes);
            let mut state = inbox.state.lock();
            match written {
                Ok(counted) => {
                    let applied = entries.last().map_or(0, |last| last.lsn);
                    let gone = state.written(applied, counted);
                    drop(state);
                    context.lag.remove(&gone);
                    context.lag.show();
                }
                Err(error) => {
                    if !notes.is_empty() && state.ending == 0 {
                        let lost = state.notes.get_or_insert_default().put_back(notes);
                        context.metrics.notes_dropped.increment(lost);
                    }
                    return Err(error);
                }
            }
            if entries.iter().any(|entry| !matches!(entry.what, What::Message(_))) {
                let files = self.open(inbox, true)?.expect("open creates what is missing");
                files.status(&context.templates)?;
            }
        }
        self.flush_cursors(inbox)
    }

    fn flush_cursors(&mut self, inbox: &Inbox) -> Result<(), FileError> {
        let dirty = {
            let mut state = inbox.state.lock();
            if state.ending > 0 {
                return Ok(());
            }
            state.cursors.as_mut().filter(|cursors| cursors.dirty).map(|cursors| {
                cursors.dirty = false;
                cursors.devices.clone()
            })
        };
        let Some(devices) = dirty else { return Ok(()) };
        let dir = layout::inbox_dir(&self.context.root, &inbox.key);
        cursors::write(&dir, &devices).map_err(|source| {
            if let Some(cursors) = &mut inbox.state.lock().cursors {
                cursors.dirty = true;
            }
            FileError::Io { path: dir.join(".sync/devices.json"), source }
        })
    }

    /// Puts everything of an inbox into its files, for who reads them, and lets what has expired
    /// expire.
    pub(in super::super) fn write(&mut self, inbox: &Arc<Inbox>) -> Result<(), StoreError> {
        self.flush(inbox, true)?;
        let expiring = {
            let state = inbox.state.lock();
            if let Some(damage) = state.damaged.clone() {
                return Err(StoreError::Damaged(damage));
            }
            state.loaded().is_some_and(|loaded| loaded.expiring)
        };
        if !expiring {
            return Ok(());
        }
        let now = self.context.clock.now();
        let settled = self
            .open(inbox, false)
            .and_then(|files| files.map_or(Ok(None), |files| files.settle(now)));
        let mut state = inbox.state.lock();
        match settled {
            Ok(None) => Ok(()),
            Ok(Some(counted)) => {
                state.vanish();
                state.counted(counted);
                Ok(())
            }
            Err(error) => {
                // Whether it was written is unknown.
                state.vanish();
                drop(state);
                Err(self.failed(inbox, error))
            }
        }
    }
}
