//! Makes inboxes loaded: reads what their files and `shared.db` have for them.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::{
    super::{
        cursors::{self, Cursors},
        inbox::{Inbox, LAZY_MAX, Loaded, Phase, SharedEntry},
        layout,
        membership::Memberships,
        record::Lsn,
        shared::{Standing, Wanted},
        user_files::{Counted, FileError, UserFiles},
    },
    Files,
};
use crate::{clock, store::StoreError};

/// What was sent to groups and to everyone that a load takes into memory, at most: an inbox that was
/// away for months in busy channels takes the rest over into its file first, part by part.
pub(in super::super) const CATCH_UP_MAX: usize = 1_024;

/// What a load finds.
struct Found {
    base: Loaded,
    /// Everything up to here is in `base`, or not for this inbox.
    applied: Lsn,
    shared: Vec<SharedEntry>,
    cursors: Cursors,
}

impl Files {
    /// Makes the inbox loaded.
    pub(in super::super) fn load(&mut self, inbox: &Arc<Inbox>) -> Result<Loaded, StoreError> {
        loop {
            self.end(inbox)?;
            {
                let mut state = inbox.state.lock();
                if state.ending > 0 {
                    continue;
                }
                if let Some(loaded) = state.loaded() {
                    return Ok(*loaded);
                }
                // From here on it is told who comes to and leaves its groups.
                state.phase = Phase::Loading(Vec::new());
            }
            if let Some(loaded) = self.try_load(inbox)? {
                return Ok(loaded);
            }
        }
    }

    /// Makes the inbox loaded; none where its user was forgotten meanwhile.
    fn try_load(&mut self, inbox: &Arc<Inbox>) -> Result<Option<Loaded>, StoreError> {
        let context = Arc::clone(&self.context);
        let mut standing = Standing::default();
        let found = self.look(inbox, &mut standing);
        let mut state = inbox.state.lock();
        let found = if state.ending > 0 { Ok(None) } else { found.map(Some) };
        match found {
            Ok(Some(Found { base, applied, shared, cursors })) => {
                let dropped = state.finish_load(base, applied, standing.memberships, shared);
                context.lag.remove(&dropped);
                context.lag.show();
                state.cursors = (!cursors.devices.is_empty()).then(|| Box::new(cursors));
                let loaded = *state.loaded().expect("finish_load makes it loaded");
                let much = state.lazy > LAZY_MAX;
                drop(state);
                if much && let Err(error) = self.flush_loaded(inbox, true) {
                    // It is in `shared.db` as before.
                    self.failed(inbox, error);
                }
                Ok(Some(loaded))
            }
            given_up => {
                let turns = state.unload();
                let stays = standing.memberships.iter().map(|stay| &stay.group);
                context.inboxes.groups.remove(inbox, stays.chain(turns.iter().map(|t| &t.group)));
                drop(state);
                match given_up {
                    Ok(_) => Ok(None),
                    Err(error) => Err(self.failed(inbox, error)),
                }
            }
        }
    }

    /// Reads what there is of an inbox. `standing` is set first, whatever becomes of the rest.
    fn look(&mut self, inbox: &Arc<Inbox>, standing: &mut Standing) -> Result<Found, FileError> {
        let context = Arc::clone(&self.context);
        let shared = |source| shared_error(&context.root, source);
        *standing = context.shared.standing(&inbox.key).map_err(shared)?;
        // Before what was sent to the groups is read: what is sent from now on comes by the index.
        // The record that is being handed out right now may have passed it by.
        let known_from = context.sequenced.load(Ordering::Acquire) + 1;
        for stay in standing.memberships.iter_mut() {
            stay.group = context.inboxes.groups.add(&stay.group, inbox, known_from);
        }
        let (mut base, mut applied) = self.read(inbox, standing.since)?;
        let mut limit = CATCH_UP_MAX;
        let entries = loop {
            let wanted = context
                .shared
                .entries_after(&inbox.key.tenant, &standing.memberships, applied, limit)
                .map_err(shared)?;
            match wanted {
                Wanted { entries, more: false } => break entries,
                Wanted { entries, more: true } => {
                    match self.take_part(inbox, base, applied, &standing.memberships, entries) {
                        Ok(reached) => (base, applied) = reached,
                        Err(error) if error.is_damage() => return Err(error),
                        // Then it takes memory.
                        Err(error) => {
                            self.failed(inbox, error);
                            limit = usize::MAX;
                        }
                    }
                }
            }
        };
        let dir = layout::inbox_dir(&context.root, &inbox.key);
        let cursors = cursors::read(&dir)
            .map_err(|source| FileError::Io { path: dir.join(".sync/devices.json"), source })?;
        Ok(Found { base, applied, shared: entries, cursors })
    }

    /// What the file says of an inbox, and up to which record. `since` is the record since which it
    /// exists, as far as `shared.db` knows.
    fn read(&mut self, inbox: &Arc<Inbox>, since: Option<Lsn>) -> Result<(Loaded, Lsn), FileError> {
        let context = Arc::clone(&self.context);
        let dir = layout::inbox_dir(&context.root, &inbox.key);
        let opened = self.open(inbox, false);
        let found = match opened.and_then(|files| files.map(|f| f.load(&inbox.key)).transpose()) {
            // What the file has can be read all the same.
            Err(error) if !error.is_damage() => {
                self.failed(inbox, error);
                Some(UserFiles::draft(&dir, &context.templates)?.load(&inbox.key)?)
            }
            found => found?,
        };
        let first = inbox.state.lock().first_own();
        // It was seen, but messages of its own may have come before: between the look that found it
        // unknown and the record that it was seen. Its log begins with the first of either.
        let begin = [since, first].into_iter().flatten().min();
        match found {
            Some((mut base, applied)) => {
                if base.known && since.is_none_or(|since| Some(since) > begin) {
                    // A crash came between the file and the note that it exists, and the journal
                    // still has what it began with; or it was put there by hand.
                    let state = inbox.state.lock();
                    let since = begin.unwrap_or(0);
                    state.tell_known(&context.shared, &inbox.key, since, clock::now());
                }
                base.since = begin.unwrap_or(if base.known { 0 } else { Lsn::MAX });
                base.known |= begin.is_some();
                Ok((base, applied))
            }
            None => match (since, begin) {
                (Some(_), Some(begin)) => {
                    let loaded = Loaded { known: true, since: begin, ..Loaded::default() };
                    Ok((loaded, begin.saturating_sub(1)))
                }
                // Never seen: nothing of the past is for it, unless its first messages wait.
                _ => {
                    let now = context.sequenced.load(Ordering::Acquire);
                    Ok((
                        Loaded::default(),
                        begin.map_or(now, |first| now.min(first.saturating_sub(1))),
                    ))
                }
            },
        }
    }

    /// Takes the first part of what was sent to an inbox over into its file. Answers what the file
    /// says then, and up to which record.
    fn take_part(
        &mut self,
        inbox: &Arc<Inbox>,
        mut base: Loaded,
        applied: Lsn,
        memberships: &Memberships,
        part: Vec<SharedEntry>,
    ) -> Result<(Loaded, Lsn), FileError> {
        let Some(up_to) = part.last().map(|entry| entry.lsn) else { return Ok((base, applied)) };
        let entries = {
            let state = inbox.state.lock();
            state.load_part(&mut base, applied, memberships, part, up_to)
        };
        if entries.is_empty() {
            return Ok((base, up_to));
        }
        let counted = self.put(inbox, &base, &entries, &[])?;
        let gone = inbox.state.lock().written(up_to, counted);
        self.context.lag.remove(&gone);
        let Counted { min_seq, unread, expiring, .. } = counted;
        let (file_head, vanished, uncounted) = (base.head, false, false);
        Ok((Loaded { file_head, min_seq, unread, expiring, vanished, uncounted, ..base }, up_to))
    }
}

fn shared_error(root: &Path, source: rusqlite::Error) -> FileError {
    FileError::Sqlite { path: layout::hub_dir(root).join("shared.db"), source }
}
