//! How an inbox becomes loaded.

use std::collections::HashSet;

use super::{
    super::{membership::Memberships, record::Lsn},
    Loaded, Phase, SharedEntry, State, TailEntry, What, take_seqs,
};
use crate::store::Audience;

impl State {
    /// The first part of a load that is too much for memory: what comes up to a record, numbered
    /// after `base`, for the file. It stays in the tail until [`State::written`].
    pub(in super::super) fn load_part(
        &self,
        base: &mut Loaded,
        applied: Lsn,
        memberships: &Memberships,
        shared: Vec<SharedEntry>,
        up_to: Lsn,
    ) -> Vec<TailEntry> {
        // The file is about to go.
        if self.ending > 0 {
            return Vec::new();
        }
        let mut memberships = memberships.clone();
        if let Phase::Loading(turns) = &self.phase {
            turns.iter().for_each(|turn| memberships.turn(turn));
        }
        let own = self.tail.iter().take_while(|entry| entry.lsn <= up_to).cloned().collect();
        number(base, applied, self.seen, &memberships, own, shared).0
    }

    /// Becomes loaded: what the file has already is dropped from the tail, what is in `shared.db`
    /// for it is merged in, and every change gets its seq. `memberships` is what `shared.db` says;
    /// what came since is here. Answers what was dropped.
    pub(in super::super) fn finish_load(
        &mut self,
        mut base: Loaded,
        applied: Lsn,
        mut memberships: Memberships,
        shared: Vec<SharedEntry>,
    ) -> Vec<TailEntry> {
        if let Phase::Loading(turns) = &self.phase {
            turns.iter().for_each(|turn| memberships.turn(turn));
        }
        let own = std::mem::take(&mut self.tail).into();
        let (merged, dropped) = number(&mut base, applied, self.seen, &memberships, own, shared);
        self.memberships = memberships;
        self.lazy = merged.iter().filter(|entry| entry.lazy()).count();
        self.rewrites = merged.iter().filter(|entry| entry.what.rewrites()).count();
        self.tail = merged.into();
        self.phase = Phase::Loaded(base);
        dropped
    }
}

/// Whether something in `shared.db` is for an inbox: a message if it is in one of its groups at that
/// record; an edit or a recall if it received the message. `since` is the record since which the
/// inbox exists.
pub(super) fn receives(
    memberships: &Memberships,
    since: Lsn,
    lsn: Lsn,
    to: &Audience,
    what: &What,
) -> bool {
    let at = match what {
        What::Rewrite(rewrite) => rewrite.target,
        What::Message(_) | What::Mark(_) | What::Press(_) => lsn,
    };
    match to {
        Audience::Everyone => since <= at,
        Audience::Some { groups, .. } => memberships.any_at(groups, at),
    }
}

/// Merges what an inbox has of its own and what `shared.db` has for it, and gives every change that
/// the file does not have its seq. Answers those, and what is not for it or in the file already.
fn number(
    base: &mut Loaded,
    applied: Lsn,
    seen: Option<Lsn>,
    memberships: &Memberships,
    own: Vec<TailEntry>,
    shared: Vec<SharedEntry>,
) -> (Vec<TailEntry>, Vec<TailEntry>) {
    let (mut merged, mut dropped): (Vec<TailEntry>, Vec<TailEntry>) =
        own.into_iter().partition(|entry| entry.lsn > applied);
    let present: HashSet<Lsn> = merged.iter().map(|entry| entry.lsn).collect();
    merged.extend(
        shared
            .into_iter()
            .filter(|entry| entry.lsn > applied && !present.contains(&entry.lsn))
            .map(|entry| entry.entry(None)),
    );
    merged.sort_by_key(|entry| entry.lsn);
    if !base.known {
        // It begins to exist with the first message of its own, or when it was seen; what everyone
        // received before was not for it.
        let first = merged.iter().find(|entry| !entry.lazy()).map(|entry| entry.lsn);
        let begin = [first, seen].into_iter().flatten().min();
        base.known = begin.is_some();
        base.since = begin.unwrap_or(Lsn::MAX);
    }
    let (mut kept, foreign): (Vec<TailEntry>, Vec<TailEntry>) =
        merged.into_iter().partition(|entry| match &entry.to {
            Some(to) => receives(memberships, base.since, entry.lsn, to, &entry.what),
            None => true,
        });
    dropped.extend(foreign);
    base.last_lsn = applied;
    // What a mark was decided on may have vanished since, and be in the file already.
    base.vanished = kept.iter().any(|entry| entry.what.decided());
    for entry in &mut kept {
        take_seqs(base, entry);
    }
    (kept, dropped)
}
