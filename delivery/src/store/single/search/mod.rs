//! Searches of inboxes: threads of their own, which bring an inbox's index up to date and ask it.
//!
//! ```text
//! search ─▶ the inbox's worker: write the tail ─▶ a search thread, in turns: take over some messages,
//!           and once all are in the index, answer ─▶ the worker: when what was found was read
//! ```
//!
//! A worker serves many inboxes and must not be away for the seconds that a first search of a large one
//! takes, so it only writes the tail. A turn is one transaction of [`index::CHUNK_MESSAGES`] messages;
//! after it the inbox goes behind the others that wait, so that a search of a small inbox waits for one
//! turn of a large one, not for all of them. An inbox is always served by the same thread, so its index
//! has one writer.
//!
//! **Limits.** Two threads; [`WAITING_MAX`] searches that wait, above it `Busy`; after
//! [`ANSWER_WITHIN`] a search is answered `Busy` while its index goes on being made, so that asking
//! again gets there. A turn holds one chunk and some MiB of pages, however large the inbox is.
//!
//! **What may go wrong.** A `search.db` that is damaged, of another version or of another inbox is made
//! anew. On a full disk what is in the index is found, and one more chunk, whose transaction is answered
//! before it fails; beyond that, or if the tail cannot be written, the answer is `NotWritable`.

mod find;
mod index;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use self::{
    find::Found,
    index::{Index, IndexError},
};
use super::{SingleStore, inbox::Inbox, layout, metrics::StoreMetrics, schema::Template};
use crate::{
    InboxKey,
    search::Terms,
    store::{ListPage, ListQuery, StoreError},
};

/// Threads that search. One would let a large inbox's turns (25 ms) stand before everybody else's.
pub(super) const THREADS: usize = 2;

/// Searches that may wait for an answer, over all inboxes: at 5 ms each and two threads, two and a half
/// seconds. One more is answered `Busy`.
const WAITING_MAX: usize = 1_024;

/// Searches of one inbox that are answered in one turn, so that others get theirs, and the transaction
/// does not keep the WAL of `messages.db` from being emptied for long.
const ANSWERS_PER_TURN: usize = 16;

/// How long a search waits for its index. Clients give up after thirty seconds; until then half a
/// million messages are taken over.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

type Answer = Result<Found, StoreError>;

/// A search that waits.
struct Asked {
    terms: Terms,
    query: ListQuery,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What waits for one thread.
#[derive(Default)]
struct Queue {
    /// Inboxes that have a turn to come, each once.
    turns: VecDeque<InboxKey>,
    /// Inboxes that have a turn to come or have it now.
    inboxes: HashMap<InboxKey, Search>,
    closing: bool,
}

/// The search of one inbox.
#[derive(Default)]
struct Search {
    /// Nobody, where everyone has gone while the index was being made.
    asked: Vec<Asked>,
    /// Its index was put anew because it was damaged. If the next is too, it is not the index.
    renewed: bool,
    /// It has had a turn that was not enough.
    behind: bool,
}

/// The threads' queues.
pub(super) struct Searches {
    root: PathBuf,
    template: Template,
    queues: [(Mutex<Queue>, Condvar); THREADS],
    /// Held by a thread during a turn.
    turns: [Mutex<()>; THREADS],
    waiting: AtomicUsize,
    metrics: Arc<StoreMetrics>,
}

impl Searches {
    pub(super) fn new(root: PathBuf, metrics: Arc<StoreMetrics>) -> rusqlite::Result<Self> {
        Ok(Self {
            root,
            template: index::template()?,
            queues: Default::default(),
            turns: Default::default(),
            waiting: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Searches an inbox whose files have everything.
    async fn ask(&self, inbox: &Inbox, terms: Terms, query: ListQuery) -> Answer {
        let (answer, receive) = oneshot::channel();
        let (queue, wake) = &self.queues[inbox.worker % THREADS];
        {
            let mut queue = queue.lock();
            if queue.closing {
                return Err(StoreError::Closing);
            }
            if self.waiting.load(Ordering::Relaxed) >= WAITING_MAX {
                self.metrics.busy_searches.increment(1);
                return Err(StoreError::Busy("too many searches are waiting"));
            }
            let asked = Asked { terms, query, since: Instant::now(), answer };
            self.count(1);
            if let Some(search) = queue.inboxes.get_mut(&inbox.key) {
                search.asked.push(asked);
            } else {
                let search = Search { asked: vec![asked], ..Search::default() };
                queue.inboxes.insert(inbox.key.clone(), search);
                queue.turns.push_back(inbox.key.clone());
            }
        }
        wake.notify_one();
        receive.await.unwrap_or(Err(StoreError::Closing))
    }

    /// No search of this inbox has its turn while this is held; waits for the end of one, some 25 ms.
    pub(super) fn at_rest(&self, inbox: &Inbox) -> MutexGuard<'_, ()> {
        self.turns[inbox.worker % THREADS].lock()
    }

    fn count(&self, change: isize) {
        let waiting = match change {
            more @ 0.. => self.waiting.fetch_add(more.cast_unsigned(), Ordering::Relaxed),
            less => self.waiting.fetch_sub(less.unsigned_abs(), Ordering::Relaxed),
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.metrics.searches_waiting.set(waiting.saturating_add_signed(change) as f64);
    }

    /// Ends the threads after their turns; who still waits is told.
    pub(super) fn close(&self) {
        for (queue, wake) in &self.queues {
            queue.lock().closing = true;
            wake.notify_one();
        }
    }

    /// Works until closed.
    pub(super) fn run(&self, thread: usize) {
        let (queue, wake) = &self.queues[thread];
        let mut queue = queue.lock();
        loop {
            if queue.closing {
                queue.turns.clear();
                queue.inboxes.clear();
                return;
            }
            let Some(key) = queue.turns.pop_front() else {
                wake.wait(&mut queue);
                continue;
            };
            // What is asked from now on waits for the next turn.
            let mut search = queue.inboxes.get_mut(&key).map(std::mem::take).unwrap_or_default();
            parking_lot::MutexGuard::unlocked(&mut queue, || {
                let _turn = self.turns[thread].lock();
                self.turn(&key, &mut search);
            });
            let more = queue.inboxes.remove(&key).unwrap_or_default();
            search.asked.extend(more.asked);
            if search.behind || !search.asked.is_empty() {
                queue.inboxes.insert(key.clone(), search);
                queue.turns.push_back(key);
            }
        }
    }

    /// One turn of an inbox. `behind` says afterwards whether it needs another.
    fn turn(&self, key: &InboxKey, search: &mut Search) {
        let gone = search.asked.len();
        search.asked.retain(|asked| !asked.answer.is_closed());
        self.count(-(gone.cast_signed() - search.asked.len().cast_signed()));
        match self.try_turn(key, search) {
            Ok(complete) => {
                search.behind = !complete;
                search.renewed &= !complete;
            }
            Err(error) => self.failed(key, search, error),
        }
        if search.behind {
            let (late, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut search.asked)
                .into_iter()
                .partition(|asked| asked.since.elapsed() >= ANSWER_WITHIN);
            search.asked = asked;
            for asked in late {
                self.metrics.busy_searches.increment(1);
                let busy = StoreError::Busy("the inbox is being made ready for searches");
                self.answer(asked, search.behind, Err(busy));
            }
        }
    }

    fn try_turn(&self, key: &InboxKey, search: &mut Search) -> Result<bool, IndexError> {
        let dir = layout::inbox_dir(&self.root, key);
        let Some(index) = Index::open(&dir, &self.template)? else {
            for asked in search.asked.drain(..) {
                self.answer(asked, search.behind, Ok(Found::default()));
            }
            return Ok(true);
        };
        let error = |source| index.error(source);
        let turn = index.begin().map_err(error)?;
        let progress = index.catch_up().map_err(error)?;
        self.metrics.searches_indexed.increment(progress.indexed);
        if progress.renewed {
            self.metrics.searches_renewed.increment(1);
        }
        if progress.complete {
            for _ in 0..search.asked.len().min(ANSWERS_PER_TURN) {
                let asked = &search.asked[0];
                let found = index.find(&asked.terms, &asked.query).map_err(error)?;
                self.answer(search.asked.remove(0), search.behind, Ok(found));
            }
        }
        match turn.commit().and_then(|()| index.shrink()) {
            // Everybody has an answer that is right; the next search repeats the work.
            Err(source) if progress.complete => {
                self.metrics.search_errors.increment(1);
                let error = error(source);
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the index of searches cannot be written now"
                );
                Ok(true)
            }
            committed => committed.map(|()| progress.complete).map_err(error),
        }
    }

    fn failed(&self, key: &InboxKey, search: &mut Search, error: IndexError) {
        self.metrics.search_errors.increment(1);
        let damage = error.is_damage();
        if damage && !search.renewed {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an index of searches is made anew"
            );
            search.renewed = true;
            match index::renew(&layout::inbox_dir(&self.root, key), &self.template) {
                Ok(()) => {
                    self.metrics.searches_renewed.increment(1);
                    search.behind = true;
                    return;
                }
                Err(error) => return self.refuse(search, error, false),
            }
        }
        self.refuse(search, error, damage);
    }

    fn refuse(&self, search: &mut Search, error: IndexError, damage: bool) {
        let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
        let behind = std::mem::take(&mut search.behind);
        for asked in search.asked.drain(..) {
            let error = Arc::clone(&error);
            let refused =
                if damage { StoreError::Damaged(error) } else { StoreError::NotWritable(error) };
            self.answer(asked, behind, Err(refused));
        }
    }

    fn answer(&self, asked: Asked, behind: bool, answer: Answer) {
        let seconds = if behind { &self.metrics.search_behind } else { &self.metrics.search_ready };
        seconds.record(asked.since.elapsed());
        self.count(-1);
        let _ = asked.answer.send(answer);
    }
}

impl SingleStore {
    /// A list of what has the words of a text.
    pub(super) async fn search(
        &self,
        inbox: Arc<Inbox>,
        terms: Terms,
        query: ListQuery,
    ) -> Result<ListPage, StoreError> {
        let worker = &self.workers[inbox.worker];
        let asked = Arc::clone(&inbox);
        worker.ask(move |files| files.write(&asked)).await?;
        let Found { mut messages, highlights, total, more } =
            self.searches.ask(&inbox, terms, query).await?;
        if messages.iter().any(|message| message.state.is_read) {
            let asked = Arc::clone(&inbox);
            messages = worker
                .ask(move |files| {
                    let filled = files.query(&asked, |open, templates| {
                        let mut messages = messages.clone();
                        open.fill(templates, &mut messages)?;
                        Ok(messages)
                    })?;
                    Ok(filled.unwrap_or(messages))
                })
                .await?;
        }
        let unread = self.head_of(&inbox).await?.unread;
        Ok(ListPage { messages, highlights, total, unread, more })
    }
}

#[cfg(test)]
mod tests;
