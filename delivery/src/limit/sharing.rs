//! One budget on several nodes.
//!
//! Each node decides at once, by its own buckets, as a single one does. Every [`TELL_EVERY`] it tells the
//! others what callers took of which bucket, and these take it out of theirs, into debt if need be. So all
//! buckets of a caller are copies of one, at most a moment behind: who asks one node only has his whole
//! rate there, and who asks all of them has it once. Until the others hear of it each node can let through
//! what its own bucket gives. With `N` nodes, over any time `T`, that is at most
//!
//! > burst + rate × T + (N − 1) × (burst + rate × (`TELL_EVERY` + the way))
//!
//! and what is beyond the first two is a debt: it is waited for before anything more is let through, so in the
//! long run the rate holds exactly. Dividing the rate by `N` would take from who uses one connection, that
//! is, one node; asking a common counter for each request is a round trip, and an end to all requests when it
//! is away.
//!
//! Nothing here compares clocks: what is told are durations, charged when they arrive. Late arrival makes a
//! caller wait longer by no more than it was late.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::mapref::entry::Entry;
use governor::clock::Clock;
use parking_lot::Mutex;
use protocol::envelope::{SPENT_MAX, Spent};

use super::{
    Limiter, Scope,
    key::Key,
    state::{DEBT_NANOS_MAX, State},
};

/// How often other nodes are told what callers used here.
pub const TELL_EVERY: Duration = Duration::from_millis(200);

/// From which use on others are told, in nanoseconds of a caller's rate: a twentieth of what comes back
/// until the next telling. Less stays noted, for nothing may get lost: a caller who kept below it would
/// else have the rate of each node. Of small rates it is every request; of 2,000/s each twentieth.
pub(super) const NOTEWORTHY: u64 = 10_000_000;

/// How late a telling may be, in nanoseconds, that is still told as a whole: some times [`TELL_EVERY`], for
/// a busy machine. After a longer while without the bus only what is still missing is told.
pub(super) const CATCH_UP: u64 = 1_000_000_000;

/// Most callers of each scope that wait to be told of, four times what one telling takes: 64 KiB. Use by
/// more is not told (`pushhub_rate_limit_unshared_total{reason="noted"}`), and then each node limits those
/// by itself.
const NOTED_MAX: usize = 4 * SPENT_MAX;

/// The callers of one scope whose use others are to be told.
#[derive(Default)]
pub(super) struct Noted {
    keys: Mutex<Vec<Key>>,
    refused: AtomicUsize,
}

impl Noted {
    /// Whether there was room.
    pub(super) fn add(&self, key: Key) -> bool {
        let mut keys = self.keys.lock();
        let room = keys.len() < NOTED_MAX;
        if room {
            keys.push(key);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    pub(super) fn take(&self) -> Vec<Key> {
        std::mem::take(&mut self.keys.lock())
    }

    /// For the next telling; goes beyond the limit by no more than one list.
    pub(super) fn put_back(&self, key: Key) {
        self.keys.lock().push(key);
    }

    /// How often there was no room.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl<C: Clock + Clone> Limiter<C> {
    /// What callers used here since it was asked last, for the other nodes: at most [`SPENT_MAX`] callers,
    /// those that used most; the others' turn comes later. Nothing on a node that has no others. Only to be
    /// asked when they can be told.
    #[must_use]
    pub fn spent(&self) -> Vec<Spent> {
        let Some(noted) = &self.noted else { return Vec::new() };
        let mut all = Vec::new();
        for scope in Scope::ALL {
            let keys = noted[scope as usize].take();
            all.extend(keys.into_iter().filter_map(|key| {
                self.known(scope, key, State::untold).map(|cost| (cost, scope, key))
            }));
        }
        if all.len() > SPENT_MAX {
            all.select_nth_unstable_by_key(SPENT_MAX, |(cost, ..)| Reverse(*cost));
            for (_, scope, key) in all.drain(SPENT_MAX..) {
                noted[scope as usize].put_back(key);
            }
        }
        let tell = |(_, scope, key): (u64, Scope, Key)| {
            // It may be noted twice.
            let nanos = self.known(scope, key, State::tell).filter(|nanos| *nanos > 0)?;
            self.metrics.told(scope);
            Some(Spent { scope: scope.number().into(), key: key.0, nanos })
        };
        all.into_iter().filter_map(tell).collect()
    }

    /// Takes what callers used on another node out of their buckets here.
    pub fn charge(&self, spent: &[Spent]) {
        for Spent { scope, key, nanos } in spent {
            // Of a newer node; or of one that has a limit where there is none here.
            let Some(scope) = Scope::numbered(*scope) else { continue };
            let kept = match (scope, self.buckets(scope)) {
                (Scope::Service, _) => self.charge_service(Key(*key), *nanos),
                (_, Some(buckets)) => {
                    let kept = buckets.charge(Key(*key), *nanos);
                    if kept {
                        self.metrics.charged(scope, buckets.rate().units_of(*nanos));
                    }
                    kept
                }
                (_, None) => true,
            };
            if !kept {
                self.metrics.no_newcomers.increment(1);
            }
        }
    }

    fn charge_service(&self, key: Key, nanos: u64) -> bool {
        match self.services.entry(key) {
            Entry::Occupied(bucket) => {
                let bucket = bucket.get();
                bucket.charge(nanos);
                self.metrics.charged(Scope::Service, bucket.rate().units_of(nanos));
                true
            }
            Entry::Vacant(_) => self.new_services.charge(key, self.now(), nanos, DEBT_NANOS_MAX),
        }
    }

    fn known<T>(&self, scope: Scope, key: Key, work: impl FnOnce(&State, u64) -> T) -> Option<T> {
        match scope {
            Scope::Service => self.services.get(&key).map(|bucket| bucket.known(work)),
            scope => self.buckets(scope)?.known(key, work),
        }
    }
}
