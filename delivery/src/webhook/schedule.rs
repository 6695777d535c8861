//! Whose turn it is: a slot is an endpoint that is being sent to, over one connection.
//!
//! Slots are in two lanes. An endpoint whose latest attempt failed or took longer than [`SLOW`] is in
//! the slow lane, and a slot whose attempt takes longer moves there while it waits: however many
//! endpoints do not answer, the quick lane is for those that do. Within a lane it is the turn of
//! whoever has been due for longest. An endpoint begins with one slot and gets one more for each
//! success; while it fails it has one and pauses, so that it is probed and not hammered.
//!
//! Only what is being sent is in memory, in pages. Pure: no clock, no file, no network.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use protocol::{ServiceId, Time};
use rustc_hash::{FxHashMap, FxHashSet};

use super::deliveries::Due;
use crate::clock::after;

/// Slots that are given away in each lane. A slot is a connection with its TLS state, about 50 KiB,
/// and a descriptor.
pub const LANE_SLOTS: usize = 128;

/// Most slots of the slow lane with those that moved there from the quick one. When they are all
/// taken, slots of the quick lane stay in it however long they take.
pub const SLOW_SLOTS_MAX: usize = 2 * LANE_SLOTS;

/// Slots of one endpoint. At 50 ms an attempt it gets 320 events a second through them.
pub const ENDPOINT_SLOTS: usize = 16;

/// Slots of one service, all its endpoints together.
pub const SERVICE_SLOTS: usize = 32;

/// An endpoint that takes longer than this for one attempt is slow.
pub const SLOW: Duration = Duration::from_secs(2);

/// Longest pause of an endpoint that fails; it begins with one second and doubles.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Which slots an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Quick,
    Slow,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Quick, Self::Slow];
}

/// A slot that was given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) key: i64,
    pub(super) lane: Lane,
}

#[derive(Default)]
struct Entry {
    service: Option<ServiceId>,
    /// When it is worth a slot; none while nothing is known to wait.
    due: Option<Time>,
    paused_until: Time,
    /// Failures since the latest success.
    failures: u32,
    /// Successes since the latest failure.
    successes: usize,
    slow: bool,
    slots: usize,
    /// A page of what is due, for all its slots.
    page: VecDeque<Due>,
    /// What is in `page`, on its way, or being written down: not to be read again.
    claimed: FxHashSet<i64>,
    /// A page is being read.
    reading: bool,
    /// Something was expected meanwhile: it may be younger than the page.
    missed: bool,
    /// Where it stands in `waiting`.
    standing: Option<(Lane, Time)>,
}

impl Entry {
    fn lane(&self) -> Lane {
        if self.failures > 0 || self.slow { Lane::Slow } else { Lane::Quick }
    }

    fn slots_max(&self) -> usize {
        self.successes.saturating_add(1).min(ENDPOINT_SLOTS)
    }
}

/// What an attempt taught about its endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lesson {
    pub(super) success: bool,
    pub(super) took: Duration,
    pub(super) retry_after: Option<Duration>,
    /// When the event is due again.
    pub(super) retry_at: Option<Time>,
}

/// What there is for a slot.
pub(super) enum Next {
    /// This.
    Event(Due),
    /// A page is to be read first, without these.
    Read(FxHashSet<i64>),
    /// Nothing now: the slot is to be given back.
    Nothing,
}

/// See the module.
#[derive(Default)]
pub(super) struct Schedule {
    entries: FxHashMap<i64, Entry>,
    waiting: [BTreeSet<(Time, i64)>; 2],
    taken: [usize; 2],
    services: FxHashMap<ServiceId, usize>,
}

impl Schedule {
    /// Something waits for an endpoint, due then.
    pub(super) fn expect(&mut self, key: i64, service: &ServiceId, due: Time) {
        let entry = self.entries.entry(key).or_default();
        if entry.service.is_none() {
            entry.service = Some(service.clone());
        }
        entry.missed |= entry.reading;
        entry.due = Some(entry.due.map_or(due, |known| known.min(due)));
        self.stand(key);
    }

    /// The endpoint begins anew: its failures are forgotten.
    pub(super) fn pardon(&mut self, key: i64) {
        if let Some(entry) = self.entries.get_mut(&key) {
            (entry.failures, entry.successes) = (0, 0);
            (entry.slow, entry.paused_until) = (false, Time::default());
            self.stand(key);
        }
    }

    /// No page could be read, or must be: it takes no turn before then.
    pub(super) fn hold(&mut self, key: i64, until: Time) {
        if let Some(entry) = self.entries.get_mut(&key) {
            (entry.reading, entry.missed) = (false, false);
            entry.paused_until = entry.paused_until.max(until);
            entry.due.get_or_insert(until);
            self.stand(key);
        }
    }

    /// It takes no turn until something is expected again, and then begins anew.
    pub(super) fn forget(&mut self, key: i64) {
        self.pardon(key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = None;
            entry.page.clear();
            self.stand(key);
            self.tidy(key);
        }
    }

    /// Gives slots away, and says when there is next something to give one for.
    pub(super) fn turns(&mut self, now: Time) -> (Vec<Turn>, Option<Time>) {
        let mut turns = Vec::new();
        let mut next: Option<Time> = None;
        for lane in Lane::ALL {
            let index = lane as usize;
            let mut from = (Time::from_millis(i64::MIN), i64::MIN);
            while let Some(&(at, key)) = self.waiting[index].range(from..).next() {
                if at > now {
                    next = Some(next.map_or(at, |known| known.min(at)));
                    break;
                }
                if self.taken[index] >= LANE_SLOTS {
                    break;
                }
                if self.take(key, lane) {
                    turns.push(Turn { key, lane });
                }
                // Its service has no slot left, or it stands elsewhere now.
                from = (at, key + 1);
            }
        }
        (turns, next)
    }

    fn take(&mut self, key: i64, lane: Lane) -> bool {
        let entry = self.entries.get_mut(&key).expect("who stands is known");
        let service = entry.service.clone().expect("who stands was expected");
        let slots = self.services.entry(service).or_default();
        if *slots >= SERVICE_SLOTS {
            return false;
        }
        *slots += 1;
        entry.slots += 1;
        entry.due = None;
        self.taken[lane as usize] += 1;
        self.stand(key);
        true
    }

    /// What the slot is to do next.
    pub(super) fn next(&mut self, turn: Turn, now: Time) -> Next {
        let Some(entry) = self.entries.get_mut(&turn.key) else { return Next::Nothing };
        // What it learned may have moved it to the other lane, or made one slot enough.
        let may_stay = entry.lane() == turn.lane
            && entry.slots <= entry.slots_max()
            && entry.paused_until <= now;
        if !may_stay {
            entry.due.get_or_insert(now);
            return Next::Nothing;
        }
        if let Some(due) = entry.page.pop_front() {
            if !entry.page.is_empty() {
                entry.due = Some(now);
                self.stand(turn.key);
            }
            return Next::Event(due);
        }
        if entry.reading {
            return Next::Nothing;
        }
        entry.reading = true;
        Next::Read(entry.claimed.clone())
    }

    /// A page was read; `next` is when something is due that is not yet. Answers the first of the
    /// page, for whoever read it.
    pub(super) fn read(
        &mut self,
        key: i64,
        page: Vec<Due>,
        next: Option<Time>,
        now: Time,
    ) -> Option<Due> {
        let entry = self.entries.get_mut(&key)?;
        entry.reading = false;
        for due in page {
            if entry.claimed.insert(due.id) {
                entry.page.push_back(due);
            }
        }
        let first = entry.page.pop_front();
        let more = !entry.page.is_empty() || std::mem::take(&mut entry.missed);
        let at = if more { Some(now) } else { next };
        entry.due = entry.due.into_iter().chain(at).min();
        self.stand(key);
        first
    }

    /// What an attempt came to is written down.
    pub(super) fn settled(&mut self, key: i64, id: i64, lesson: Lesson, now: Time) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.claimed.remove(&id);
        entry.slow = lesson.took > SLOW;
        if lesson.success {
            entry.failures = 0;
            entry.successes = entry.successes.saturating_add(1);
        } else {
            entry.successes = 0;
            entry.failures = entry.failures.saturating_add(1);
            let pause = pause(entry.failures).max(lesson.retry_after.unwrap_or_default());
            entry.paused_until = entry.paused_until.max(after(now, pause));
        }
        entry.due = entry.due.into_iter().chain(lesson.retry_at).min();
        self.stand(key);
    }

    /// The slot's attempt takes longer than [`SLOW`]. It is in the slow lane from now on, if that
    /// has room.
    pub(super) fn slow_down(&mut self, turn: &mut Turn) {
        if let Some(entry) = self.entries.get_mut(&turn.key) {
            entry.slow = true;
            self.stand(turn.key);
        }
        if turn.lane == Lane::Quick && self.taken[Lane::Slow as usize] < SLOW_SLOTS_MAX {
            self.taken[Lane::Quick as usize] -= 1;
            self.taken[Lane::Slow as usize] += 1;
            turn.lane = Lane::Slow;
        }
    }

    /// A slot is given back.
    pub(super) fn give_back(&mut self, turn: Turn, now: Time) {
        self.taken[turn.lane as usize] -= 1;
        let Some(entry) = self.entries.get_mut(&turn.key) else { return };
        entry.slots -= 1;
        if let Some(service) = &entry.service
            && let Some(slots) = self.services.get_mut(service)
        {
            *slots -= 1;
            if *slots == 0 {
                self.services.remove(service);
            }
        }
        if entry.slots == 0 {
            // Pages of endpoints that pause would fill memory; the file has them. What a slot that
            // broke off had claimed is free again.
            if !entry.claimed.is_empty() {
                entry.due.get_or_insert(now);
            }
            entry.page.clear();
            entry.claimed.clear();
            (entry.reading, entry.missed) = (false, false);
        }
        self.stand(turn.key);
        self.tidy(turn.key);
    }

    /// Services of which something is under way.
    pub(super) fn busy(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.keys()
    }

    /// Slots that are taken, quick and slow.
    pub(super) fn taken(&self) -> [usize; 2] {
        self.taken
    }

    /// Puts an entry where it belongs in `waiting`.
    fn stand(&mut self, key: i64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let wanted = entry
            .due
            .filter(|_| entry.slots < entry.slots_max())
            .map(|due| (entry.lane(), due.max(entry.paused_until)));
        if entry.standing == wanted {
            return;
        }
        if let Some((lane, at)) = entry.standing {
            self.waiting[lane as usize].remove(&(at, key));
        }
        if let Some((lane, at)) = wanted {
            self.waiting[lane as usize].insert((at, key));
        }
        entry.standing = wanted;
    }

    /// An entry that says nothing is no entry.
    fn tidy(&mut self, key: i64) {
        let says_nothing = |entry: &Entry| {
            entry.slots == 0 && entry.due.is_none() && entry.failures == 0 && !entry.slow
        };
        if self.entries.get(&key).is_some_and(says_nothing) {
            self.entries.remove(&key);
        }
    }
}

/// After one failure none, because it may be that event's; then 1, 2, 4 … seconds.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_secs(1 << doublings.min(6)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests;
