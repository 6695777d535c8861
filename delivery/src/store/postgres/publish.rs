//! Who watches here, and telling them in order.
//!
//! Two transactions that write to one inbox are committed one after the other, but nobody says that
//! their callers go on in that order. So each takes a turn at its inboxes while it holds their locks,
//! which is in the order of the commits, and its changes are published when all turns before it at
//! the same inbox are over.
//!
//! Publishing is done by threads of its own: it may write to ten thousand sockets, and the runtime that
//! answers the database's questions must not wait for that.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use protocol::TenantId;
use rustc_hash::FxHashMap;

use super::work::Work;
use crate::{Fanout, InboxKey, store::Stored};

/// Locks over which inboxes are spread, so that publishing to one does not keep others waiting.
const SHARDS: usize = 64;

/// Threads that publish; those of one inbox go through one.
const THREADS: usize = 2;

/// Changes that may wait for them; what comes beyond is dropped and counted, and whoever misses it reads
/// the store. Some 200 bytes each.
const WAITING_MAX: usize = 262_144;

/// Turns at inboxes, by inbox.
type Turns = FxHashMap<i64, VecDeque<Pending>>;

struct Pending {
    ticket: u64,
    /// What is published; none while the turn is not over.
    changes: Option<Vec<Stored>>,
}

/// A thread that publishes, and the way to it.
struct Thread {
    way: mpsc::Sender<Vec<Stored>>,
    handle: JoinHandle<()>,
}

/// Tells of what was committed.
pub(super) struct Publisher {
    fanout: Arc<dyn Fanout>,
    shards: Box<[Mutex<Turns>]>,
    tickets: AtomicU64,
    pub(super) watches: Watches,
    /// None after the end.
    threads: Mutex<Vec<Thread>>,
    waiting: Arc<AtomicUsize>,
    dropped: metrics::Counter,
}

impl Publisher {
    pub(super) fn start(
        fanout: Arc<dyn Fanout>,
        dropped: metrics::Counter,
    ) -> io::Result<Arc<Self>> {
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let (way, changes) = mpsc::channel::<Vec<Stored>>();
            let (fanout, waiting) = (Arc::clone(&fanout), Arc::clone(&waiting));
            let publish = move || {
                for changes in changes {
                    fanout.publish(&changes);
                    waiting.fetch_sub(changes.len(), Ordering::Release);
                }
            };
            let handle = thread::Builder::new().name("publisher".to_owned()).spawn(publish)?;
            threads.push(Thread { way, handle });
        }
        Ok(Arc::new(Self {
            fanout,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            tickets: AtomicU64::new(0),
            watches: Watches::default(),
            threads: Mutex::new(threads),
            waiting,
            dropped,
        }))
    }

    /// Publishes what waits, and ends. Waits for it.
    pub(super) fn end(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for Thread { way, handle } in threads {
            drop(way);
            if handle.join().is_err() {
                tracing::error!("a publisher panicked");
            }
        }
    }

    /// Changes that wait to be published.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn hand_over(&self, inbox: i64, changes: Vec<Stored>) {
        let count = changes.len();
        if self.waiting.fetch_add(count, Ordering::Relaxed) + count > WAITING_MAX {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.dropped.increment(count as u64);
            return;
        }
        let threads = self.threads.lock();
        let at = usize::try_from(inbox.rem_euclid(THREADS as i64)).unwrap_or(0);
        let taken = threads.get(at).is_some_and(|thread| thread.way.send(changes).is_ok());
        if !taken {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// Takes the next turn at inboxes whose locks are held.
    pub(super) fn enter(self: &Arc<Self>, work: &Work) -> Turn {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut inboxes = Vec::new();
        for slot in work.slots.iter().filter(|slot| slot.inbox.head > slot.before) {
            let id = slot.inbox.id;
            let pending = Pending { ticket, changes: None };
            self.shard(id).lock().entry(id).or_default().push_back(pending);
            inboxes.push(id);
        }
        Turn { publisher: Arc::clone(self), ticket, inboxes }
    }

    /// Says that a tenant's records for groups reach to a position.
    pub(super) fn advanced(&self, tenant: &TenantId, pos: i64) {
        self.fanout.advanced(tenant, pos.cast_unsigned());
    }

    fn shard(&self, inbox: i64) -> &Mutex<Turns> {
        let at = usize::try_from(inbox.rem_euclid(SHARDS as i64)).unwrap_or(0);
        &self.shards[at]
    }

    fn finish(&self, ticket: u64, inbox: i64, changes: Vec<Stored>) {
        // Held while it is handed over, or two would do so in the wrong order after all.
        let mut turns = self.shard(inbox).lock();
        let Some(queue) = turns.get_mut(&inbox) else { return };
        if let Some(mine) = queue.iter_mut().find(|pending| pending.ticket == ticket) {
            mine.changes = Some(changes);
        }
        while let Some(changes) = queue.front_mut().and_then(|first| first.changes.take()) {
            queue.pop_front();
            if !changes.is_empty() {
                self.hand_over(inbox, changes);
            }
        }
        if queue.is_empty() {
            turns.remove(&inbox);
        }
    }
}

/// A transaction's turn at its inboxes. Dropped without [`Turn::publish`] it publishes nothing.
pub(super) struct Turn {
    publisher: Arc<Publisher>,
    ticket: u64,
    inboxes: Vec<i64>,
}

impl Turn {
    /// Publishes what was committed.
    pub(super) fn publish(mut self, work: &Work) {
        let all = self.publisher.fanout.wants_unwatched();
        let mut inboxes = std::mem::take(&mut self.inboxes).into_iter();
        for slot in work.slots.iter().filter(|slot| slot.inbox.head > slot.before) {
            let Some(id) = inboxes.next() else { break };
            debug_assert_eq!(id, slot.inbox.id, "the slots are those of the turn");
            let told = all || self.publisher.watches.has(&slot.inbox.key, id);
            let changes = if told { slot.changes() } else { Vec::new() };
            self.publisher.finish(self.ticket, id, changes);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for id in self.inboxes.drain(..) {
            self.publisher.finish(self.ticket, id, Vec::new());
        }
    }
}

/// Inboxes that are watched on this node.
#[derive(Default)]
pub(super) struct Watches(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    /// By name, with how many watch. Whoever is forgotten and comes back has another id, and is watched on.
    ids: HashMap<InboxKey, (i64, usize)>,
    tenants: HashMap<TenantId, HashSet<i64>>,
    /// Those that are not watched any more, and were when something was sent to a group that they have
    /// not been brought to yet.
    owed: FxHashMap<i64, TenantId>,
}

impl Watched {
    fn bind(&mut self, key: &InboxKey, id: i64) {
        let Some((known, _)) = self.ids.get_mut(key) else { return };
        let before = std::mem::replace(known, id);
        let of_tenant = self.tenants.entry(key.tenant.clone()).or_default();
        of_tenant.remove(&before);
        of_tenant.insert(id);
    }
}

impl Watches {
    /// One more watches.
    pub(super) fn add(&self, key: &InboxKey, id: i64) {
        let mut watched = self.0.lock();
        watched.ids.entry(key.clone()).or_insert((id, 0)).1 += 1;
        watched.tenants.entry(key.tenant.clone()).or_default().insert(id);
    }

    /// An inbox that is watched, if it is, has this id.
    pub(super) fn bind(&self, key: &InboxKey, id: i64) {
        let mut watched = self.0.lock();
        if watched.ids.get(key).is_some_and(|(known, _)| *known != id) {
            watched.bind(key, id);
        }
    }

    /// One less watches. If something for groups is `owed` to the last one it is published all the same.
    pub(super) fn remove(&self, key: &InboxKey, owed: bool) {
        let mut watched = self.0.lock();
        let Some((id, count)) = watched.ids.get_mut(key) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let id = *id;
        watched.ids.remove(key);
        if let Some(tenant) = watched.tenants.get_mut(&key.tenant) {
            tenant.remove(&id);
            if tenant.is_empty() {
                watched.tenants.remove(&key.tenant);
            }
        }
        if owed {
            watched.owed.insert(id, key.tenant.clone());
        }
    }

    /// These were brought to what was sent.
    pub(super) fn settled(&self, ids: &[i64]) {
        let mut watched = self.0.lock();
        if !watched.owed.is_empty() {
            for id in ids {
                watched.owed.remove(id);
            }
        }
    }

    /// Whether what was committed for an inbox is published. One that was made anew since it is watched is
    /// watched by this id from now on.
    pub(super) fn has(&self, key: &InboxKey, id: i64) -> bool {
        let mut watched = self.0.lock();
        match watched.ids.get(key).map(|(known, _)| *known) {
            Some(known) => {
                // A later one: what was committed before it was made may be published after.
                if known < id {
                    watched.bind(key, id);
                }
                true
            }
            None => watched.owed.contains_key(&id),
        }
    }

    pub(super) fn is_watched(&self, key: &InboxKey) -> bool {
        self.0.lock().ids.contains_key(key)
    }

    /// Those of a tenant.
    pub(super) fn of(&self, tenant: &TenantId) -> Vec<i64> {
        let watched = self.0.lock();
        let owed = watched.owed.iter().filter(|(_, of)| *of == tenant).map(|(id, _)| id);
        watched.tenants.get(tenant).into_iter().flatten().chain(owed).copied().collect()
    }
}
