//! An inbox in memory: what is known of it, and what is not yet in its files.
//!
//! An inbox is *unloaded* (only a tail of changes without seqs: nobody needs them now), *loading*
//! (its worker reads the file), or *loaded* (head and counters known, every new change gets its seq
//! at once). Which it is never decides what seq a change gets: that is a function of the order of
//! the journal, and the file says up to which record it has been applied.

mod end;
mod load;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use protocol::{Body, MessageState, PressedAction, Seq, Status, Time};

pub(super) use self::end::Ended;
use self::load::receives;
use super::{
    cursors::Cursors,
    membership::{Memberships, Turn},
    receipts::Notes,
    record::{Lsn, MarkRecord, PressRecord, RewriteRecord},
    user_files::Counted,
};
use crate::{
    InboxKey, clock,
    store::{Accepted, Audience, Change, ChangePage, StatusChange, Stored},
};

/// Changes for everyone that an inbox may hold in memory only. They are in `shared.db`, so they
/// need not be written to this inbox's file before it is touched; beyond this they are. At 96 bytes
/// each, 15,000 watched inboxes hold at most 184 MB of them.
pub(super) const LAZY_MAX: usize = 128;

pub(super) struct Inbox {
    pub(super) key: InboxKey,
    /// The worker that owns its files.
    pub(super) worker: usize,
    pub(super) state: Mutex<State>,
    /// Held while a mark is decided and stored, so that the next one is decided on its result.
    /// Made when first needed: most inboxes in memory never see a mark.
    marking: OnceLock<Arc<tokio::sync::Mutex<()>>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Changes that are durable in the journal but not yet in the file, in journal order.
    pub(super) tail: VecDeque<TailEntry>,
    /// How many of them are lazy.
    pub(super) lazy: usize,
    pub(super) watchers: u32,
    /// It stands in its worker's queue.
    pub(super) queued: bool,
    /// The file is damaged; nothing is written to it any more, nothing of the tail is dropped.
    pub(super) damaged: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// Of devices that ever acked; none for the many inboxes without one.
    pub(super) cursors: Option<Box<Cursors>>,
    /// What went to devices and is not in the file yet; none for most inboxes.
    pub(super) notes: Option<Box<Notes>>,
    /// The first record that made it known since it is in memory, for a load that is under way.
    pub(super) seen: Option<Lsn>,
    /// The record by which its user was forgotten, until its worker has removed its files; else zero.
    pub(super) ending: Lsn,
    /// The groups it is and was in; only while it is loaded.
    pub(super) memberships: Memberships,
    /// How many entries of the tail change how earlier ones are shown.
    pub(super) rewrites: usize,
    /// When it was last asked for.
    pub(super) used: Option<Instant>,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Unloaded,
    /// With what came while its memberships were being read; some of it may have been read too.
    Loading(Vec<Turn>),
    Loaded(Loaded),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The head with the tail.
    pub(super) head: Seq,
    /// The head in the file.
    pub(super) file_head: Seq,
    /// The position up to which changes were pruned.
    pub(super) min_seq: Seq,
    /// Messages with status unread, expired ones included, with the tail.
    pub(super) unread: u64,
    /// Some message expires, so that `unread` alone is not the answer.
    pub(super) expiring: bool,
    /// Something in the tail makes unread messages vanish, and only the file knows how many: then
    /// `unread` is not the answer either.
    pub(super) uncounted: bool,
    /// Unread messages have vanished since it was loaded. A mark that was decided before that may
    /// come after it, and count what is no more: from now on only the file says what a mark did.
    pub(super) vanished: bool,
    /// The inbox exists: it has a file, or a record that it was seen.
    pub(super) known: bool,
    /// The record since which it exists.
    pub(super) since: Lsn,
    /// The latest record that is in the file or the tail.
    pub(super) last_lsn: Lsn,
}

#[derive(Clone)]
pub(super) struct TailEntry {
    pub(super) lsn: Lsn,
    /// When the store was asked.
    pub(super) at: Time,
    /// The first seq it takes; zero while the inbox is not loaded.
    pub(super) seq: Seq,
    pub(super) accepted: Option<Accepted>,
    pub(super) what: What,
    /// Who it is for, where it is also in `shared.db`: such an entry is lazy.
    pub(super) to: Option<Arc<Audience>>,
    /// What it costs in memory, in bytes; its share of a body that others hold too.
    pub(super) weight: u32,
}

#[derive(Clone)]
pub(super) enum What {
    Message(Arc<Body>),
    Mark(Arc<MarkRecord>),
    Press(Arc<PressRecord>),
    Rewrite(Arc<RewriteRecord>),
}

impl What {
    /// Whether it changes how earlier messages are shown, beyond their being read.
    fn rewrites(&self) -> bool {
        match self {
            Self::Message(body) => body.facts().collapse_key.is_some(),
            Self::Rewrite(_) => true,
            Self::Mark(_) | Self::Press(_) => false,
        }
    }

    /// Whether it may make unread messages vanish; only the file knows how many.
    fn vanishes(&self) -> bool {
        match self {
            Self::Message(body) => body.facts().collapse_key.is_some(),
            // An edit may make a message expire.
            Self::Rewrite(_) => true,
            Self::Mark(_) | Self::Press(_) => false,
        }
    }

    /// Whether it was decided on what was in the inbox then.
    const fn decided(&self) -> bool {
        matches!(self, Self::Mark(_) | Self::Press(_))
    }

    /// Whether it has a message that expires.
    fn expires(&self) -> bool {
        match self {
            Self::Message(body) => body.expire_at().is_some(),
            Self::Rewrite(rewrite) => {
                rewrite.body.as_ref().is_some_and(|body| body.expire_at().is_some())
            }
            Self::Mark(_) | Self::Press(_) => false,
        }
    }

    /// What it adds to the unread count, as far as can be told here.
    fn unread(&self) -> i64 {
        match self {
            Self::Message(_) => 1,
            Self::Mark(mark) => mark.unread_delta,
            Self::Press(press) => press.unread_delta,
            Self::Rewrite(_) => 0,
        }
    }
}

impl TailEntry {
    /// How many seqs it takes.
    pub(super) fn seqs(&self) -> u64 {
        match &self.what {
            What::Message(_) | What::Press(_) | What::Rewrite(_) => 1,
            What::Mark(mark) => mark.targets.len() as u64,
        }
    }

    /// Whether it gives a message another content.
    pub(super) fn is_edit(&self) -> bool {
        matches!(&self.what, What::Rewrite(rewrite) if rewrite.body.is_some())
    }

    /// Whether `shared.db` has it too.
    pub(super) const fn lazy(&self) -> bool {
        self.to.is_some()
    }
}

/// Something in `shared.db` for an inbox.
#[derive(Clone)]
pub(super) struct SharedEntry {
    pub(super) lsn: Lsn,
    /// When the store was asked.
    pub(super) at: Time,
    pub(super) to: Arc<Audience>,
    pub(super) what: What,
}

impl SharedEntry {
    /// As an entry of a tail.
    pub(super) fn entry(self, accepted: Option<Accepted>) -> TailEntry {
        let Self { lsn, at, to, what } = self;
        TailEntry { lsn, at, seq: Seq::ZERO, accepted, what, to: Some(to), weight: LAZY_WEIGHT }
    }
}

impl Inbox {
    pub(super) fn new(key: InboxKey, worker: usize) -> Self {
        Self { key, worker, state: Mutex::default(), marking: OnceLock::new() }
    }

    /// Changes from memory, where it has all that is asked for.
    pub(super) fn page_in_memory(
        &self,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Option<ChangePage> {
        let now = clock::now();
        let state = self.state.lock();
        let loaded = state.loaded()?;
        let head = loaded.head;
        let mut changes: Vec<Stored> = Vec::new();
        if (loaded.min_seq..head).contains(&since) {
            if since < loaded.file_head || state.rewrites > 0 {
                return None;
            }
            let mut bytes = 0;
            for entry in &state.tail {
                if entry.seq.0 + entry.seqs() <= since.0 + 1 {
                    continue;
                }
                self.changes_of(entry, now, &mut changes);
                bytes += entry.weight as usize;
                if changes.len() >= limit || bytes >= bytes_max {
                    break;
                }
            }
            changes.retain(|change| change.seq > since);
            changes.truncate(limit);
            for change in &mut changes {
                change.accepted = None;
            }
        }
        Some(ChangePage { changes, head, min_seq: loaded.min_seq })
    }

    /// The lock of marks.
    pub(super) fn marking(&self) -> &Arc<tokio::sync::Mutex<()>> {
        self.marking.get_or_init(Arc::default)
    }

    /// The changes of a tail entry, none for an edit: what the message is besides, only the file
    /// knows.
    pub(super) fn changes_of(&self, entry: &TailEntry, now: Time, out: &mut Vec<Stored>) {
        let stored = |seq, change| Stored {
            inbox: self.key.clone(),
            seq,
            change,
            accepted: entry.accepted.clone(),
        };
        match &entry.what {
            What::Message(body) => {
                out.push(stored(entry.seq, message_change(entry.seq, body, now)));
            }
            What::Mark(mark) => {
                for (index, (_, id)) in mark.targets.iter().enumerate() {
                    out.push(stored(
                        Seq(entry.seq.0 + index as u64),
                        Change::Status(StatusChange {
                            device: mark.device.clone(),
                            ..StatusChange::new(id.clone(), mark.mark.status(), mark.at)
                        }),
                    ));
                }
            }
            What::Press(press) => {
                let status = if press.archived { Status::Archived } else { Status::Read };
                let id = press.target.1.clone();
                let action = PressedAction { index: press.index, action: press.action.clone() };
                let change = StatusChange {
                    device: press.device.clone(),
                    action: Some(action),
                    ..StatusChange::new(id, status, press.at)
                };
                out.push(stored(entry.seq, Change::Status(change)));
            }
            What::Rewrite(rewrite) if rewrite.body.is_none() => {
                let change = StatusChange::new(rewrite.id.clone(), Status::Recalled, rewrite.at);
                out.push(stored(entry.seq, Change::Status(change)));
            }
            What::Rewrite(_) => {}
        }
    }
}

/// A new message, or what stands for it once it has expired.
pub(super) fn message_change(seq: Seq, body: &Arc<Body>, now: Time) -> Change {
    match body.expire_at() {
        Some(at) if at <= now => {
            Change::Status(StatusChange::new(body.id().clone(), Status::Expired, at))
        }
        _ => Change::Message { state: MessageState::new(seq), body: Arc::clone(body) },
    }
}

impl State {
    pub(super) fn loaded(&self) -> Option<&Loaded> {
        match &self.phase {
            Phase::Loaded(loaded) => Some(loaded),
            Phase::Unloaded | Phase::Loading(_) => None,
        }
    }

    /// Appends a change that is durable in the journal, unless it is here already. Gives it its
    /// seq if the inbox is loaded.
    pub(super) fn push(&mut self, mut entry: TailEntry) -> Push {
        // One record may reach an inbox twice: by its name and by a group.
        if self.tail.back().is_some_and(|latest| latest.lsn >= entry.lsn) {
            return Push::Known;
        }
        if let Phase::Loaded(loaded) = &mut self.phase {
            // A load that ran while this record was being handed out may have found it in
            // `shared.db` before it came here.
            if entry.lsn <= loaded.last_lsn {
                return Push::Known;
            }
            take_seqs(loaded, &mut entry);
        }
        let seq = entry.seq;
        self.lazy += usize::from(entry.lazy());
        self.rewrites += usize::from(entry.what.rewrites());
        self.tail.push_back(entry);
        if seq == Seq::ZERO { Push::Waiting } else { Push::At(seq) }
    }

    /// Whether something in `shared.db` is for this inbox, which is loaded and known.
    pub(super) fn receives(&self, since: Lsn, lsn: Lsn, to: &Audience, what: &What) -> bool {
        receives(&self.memberships, since, lsn, to, what)
    }

    /// It begins to exist with a record, or an earlier one that is known already.
    pub(super) fn see(&mut self, lsn: Lsn) {
        self.seen.get_or_insert(lsn);
        if let Phase::Loaded(loaded) = &mut self.phase {
            loaded.known = true;
            loaded.since = loaded.since.min(lsn);
            loaded.last_lsn = loaded.last_lsn.max(lsn);
        }
    }

    /// The first record of its own that waits for its file.
    pub(super) fn first_own(&self) -> Option<Lsn> {
        self.tail.iter().find(|entry| !entry.lazy()).map(|entry| entry.lsn)
    }

    /// Whether its first message waits for its file, so that nothing but the tail tells of it.
    pub(super) fn is_new(&self) -> bool {
        self.first_own().is_some()
            && self.loaded().is_none_or(|loaded| loaded.file_head == Seq::ZERO)
    }

    /// Becomes unloaded; what is only in `shared.db` for it is found there again. Answers the turns
    /// of a load that was given up.
    pub(super) fn unload(&mut self) -> Vec<Turn> {
        self.memberships = Memberships::default();
        self.tail.retain(|entry| !entry.lazy());
        self.lazy = 0;
        self.rewrites = self.tail.iter().filter(|entry| entry.what.rewrites()).count();
        match std::mem::take(&mut self.phase) {
            Phase::Loading(turns) => turns,
            Phase::Unloaded | Phase::Loaded(_) => Vec::new(),
        }
    }

    /// The file has everything up to a record: drops it from the tail and answers it.
    pub(super) fn written(&mut self, applied: Lsn, counted: Counted) -> Vec<TailEntry> {
        let mut gone = Vec::new();
        // The file is about to go, and what is in the tail now is for the next one.
        if self.ending > 0 {
            return gone;
        }
        while self.tail.front().is_some_and(|entry| entry.lsn <= applied) {
            let entry = self.tail.pop_front().expect("there is a front");
            self.lazy -= usize::from(entry.lazy());
            self.rewrites -= usize::from(entry.what.rewrites());
            if let Phase::Loaded(loaded) = &mut self.phase {
                loaded.file_head = Seq(entry.seq.0 + entry.seqs() - 1);
            }
            gone.push(entry);
        }
        if self.tail.is_empty() {
            // A burst must not leave its capacity behind in every inbox.
            self.tail.shrink_to(0);
        }
        self.counted(counted);
        gone
    }

    /// The file counts so, without the tail.
    pub(super) fn counted(&mut self, counted: Counted) {
        let Phase::Loaded(loaded) = &mut self.phase else { return };
        if self.ending > 0 {
            return;
        }
        let waiting: i64 = self.tail.iter().map(|entry| entry.what.unread()).sum();
        loaded.unread = counted.unread.saturating_add_signed(waiting);
        loaded.expiring = counted.expiring || self.tail.iter().any(|entry| entry.what.expires());
        loaded.uncounted &=
            self.tail.iter().any(|entry| entry.what.vanishes() || entry.what.decided());
        loaded.min_seq = counted.min_seq;
    }

    /// Unread messages vanish, or have, by other means than what is in the tail.
    pub(super) fn vanish(&mut self) {
        if let (Phase::Loaded(loaded), 0) = (&mut self.phase, self.ending) {
            (loaded.vanished, loaded.uncounted) = (true, true);
        }
    }

    /// Makes notes a reason to write its file. Whether it is to be queued for that; it counts as
    /// queued then.
    pub(super) fn write_notes(&mut self) -> bool {
        let Some(notes) = &mut self.notes else { return false };
        notes.due = true;
        self.needs_work() && !std::mem::replace(&mut self.queued, true)
    }

    /// Whether something must be written to its files sooner or later.
    pub(super) fn needs_work(&self) -> bool {
        self.damaged.is_none()
            && (self.ending > 0
                || self.tail.len() > self.lazy
                || self.lazy > LAZY_MAX
                || self.notes.as_ref().is_some_and(|notes| notes.due)
                || self.cursors.as_ref().is_some_and(|cursors| cursors.dirty))
    }

    /// Whether it can be forgotten: its files and `shared.db` have everything.
    pub(super) fn forgettable(&self) -> bool {
        self.watchers == 0
            && !self.queued
            && self.damaged.is_none()
            && self.ending == 0
            && self.tail.len() == self.lazy
            && self.notes.is_none()
            && !self.cursors.as_ref().is_some_and(|cursors| cursors.dirty)
            && !matches!(self.phase, Phase::Loading(_))
    }
}

/// What became of a pushed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// It has this seq.
    At(Seq),
    /// It gets its seq when the inbox is loaded.
    Waiting,
    /// It was here already.
    Known,
}

/// What a tail entry for everyone costs an inbox, in bytes: the entry; the body is shared.
pub(super) const LAZY_WEIGHT: u32 = 96;

fn take_seqs(loaded: &mut Loaded, entry: &mut TailEntry) {
    entry.seq = loaded.head.next();
    loaded.head.0 += entry.seqs();
    loaded.known = true;
    loaded.since = loaded.since.min(entry.lsn);
    loaded.last_lsn = entry.lsn;
    loaded.unread = loaded.unread.saturating_add_signed(entry.what.unread());
    loaded.vanished |= entry.what.vanishes();
    loaded.uncounted |= entry.what.vanishes() || (loaded.vanished && entry.what.decided());
    loaded.expiring |= entry.what.expires();
}
