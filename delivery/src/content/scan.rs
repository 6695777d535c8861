//! Searches without an index: the inbox is read, opened and looked at, a page at a time.
//!
//! As many at a time as there are [`TURNS`]; [`WAITING_MAX`] wait for a turn, above it `Busy`. After [`WITHIN`] an
//! answer is `Busy`, too: that inbox is too large to be searched without an index. Memory holds one page of the
//! inbox and one of the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::Seq;
use tokio::sync::Semaphore;

use super::{ContentError, ContentKeys, metrics::ContentMetrics};
use crate::{
    InboxKey, StoreError,
    search::{Highlight, Terms, Texts},
    store::{
        InboxMessage, ListPage, ListPosition, ListQuery, MetadataIs, Sort, Storage,
        metadata::has_all,
    },
};

/// Searches at a time: each keeps a thread busy, and sends need theirs.
const TURNS: usize = 2;

/// Searches that may wait for a turn: at some 100 ms each, three seconds of waiting.
const WAITING_MAX: usize = 64;

/// How long one search may take. Clients give up after thirty seconds; until then about a million short messages
/// are read.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// Messages that are read at a time: some hundred KiB.
const PAGE: usize = 256;

const TOO_MANY: StoreError = StoreError::Busy("too many searches are waiting");
const TOO_LARGE: StoreError =
    StoreError::Busy("the inbox is too large to be searched while its content is encrypted");

/// Who searches now.
pub(super) struct Scans {
    turns: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Scans {
    fn default() -> Self {
        Self { turns: Semaphore::new(TURNS), waiting: AtomicUsize::new(0) }
    }
}

/// One that waits, also if it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is asked of the content.
struct Asked {
    terms: Option<Terms>,
    metadata: Vec<MetadataIs>,
}

/// A message that has it, with how it is shown.
type Match = (InboxMessage, Option<Highlight>);

impl Asked {
    fn look(&self, message: InboxMessage) -> Option<Match> {
        let json = message.body.json();
        let json = std::str::from_utf8(&json).unwrap_or_default();
        if !self.metadata.is_empty() && !has_all(json, &self.metadata) {
            return None;
        }
        let Some(terms) = &self.terms else { return Some((message, None)) };
        // A body that is none is no reason to refuse a search: whoever lists it reports it.
        let texts = Texts::of_body(json).unwrap_or_default();
        terms.are_in(&texts).then(|| {
            let highlight = Highlight::new(terms, &texts);
            (message, Some(highlight))
        })
    }
}

/// Which matches are on the page.
struct Page {
    at: ListPosition,
    size: usize,
    sort: Sort,
    total: u64,
    more: bool,
    found: Vec<Match>,
}

impl Page {
    fn offer(&mut self, found: Match) {
        let seq = found.0.state.seq;
        let before = match (self.at, self.sort) {
            (ListPosition::Offset(skip), _) => self.total < skip,
            (ListPosition::After(after), Sort::Oldest) => seq <= after,
            (ListPosition::After(after), Sort::Newest | Sort::Priority) => seq >= after,
        };
        self.total += 1;
        if before {
            return;
        }
        if self.found.len() < self.size {
            self.found.push(found);
        } else {
            self.more = true;
        }
    }
}

impl Scans {
    /// Answers a list that asks for content.
    pub(super) async fn find(
        &self,
        store: &dyn Storage,
        keys: &Arc<ContentKeys>,
        metrics: &ContentMetrics,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> Result<ListPage, StoreError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX + TURNS {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            metrics.busy.increment(1);
            return Err(TOO_MANY);
        }
        let _waiting = Waiting(&self.waiting);
        let _turn = self.turns.acquire().await.map_err(|_| StoreError::Closing)?;
        let began = Instant::now();
        let found = tokio::time::timeout(WITHIN, scan(store, keys, metrics, inbox, query)).await;
        metrics.scans.record(began.elapsed());
        found.unwrap_or_else(|_| {
            metrics.busy.increment(1);
            Err(TOO_LARGE)
        })
    }
}

async fn scan(
    store: &dyn Storage,
    keys: &Arc<ContentKeys>,
    metrics: &ContentMetrics,
    inbox: &InboxKey,
    query: ListQuery,
) -> Result<ListPage, StoreError> {
    let ListQuery { text, metadata, at, size, sort, .. } = query.clone();
    let asked = Arc::new(Asked { terms: text, metadata });
    let mut page = Page { at, size, sort, total: 0, more: false, found: Vec::new() };
    let (mut unread, mut next) = (None, ListPosition::Offset(0));
    loop {
        let part =
            ListQuery { text: None, metadata: Vec::new(), at: next, size: PAGE, ..query.clone() };
        let listed = store.list(inbox, part).await?;
        unread.get_or_insert(listed.unread);
        let read = listed.messages.len() as u64;
        next = after(sort, next, read, listed.messages.last().map(|last| last.state.seq));
        let more = listed.more;
        let (keys, asked, tenant) = (Arc::clone(keys), Arc::clone(&asked), inbox.tenant.clone());
        let look = move || -> Result<Vec<Match>, ContentError> {
            let mut found = Vec::new();
            for mut message in listed.messages {
                message.body = keys.open(&tenant, &message.body)?;
                found.extend(asked.look(message));
            }
            Ok(found)
        };
        // Opening and folding a page takes milliseconds, which no other task may wait for.
        let looked = tokio::task::spawn_blocking(look).await.map_err(|_| StoreError::Closing)?;
        let found = looked.map_err(|error| {
            metrics.note(&error);
            StoreError::Damaged(Arc::new(error))
        })?;
        found.into_iter().for_each(|found| page.offer(found));
        if !more {
            break;
        }
    }
    let Page { total, more, found, .. } = page;
    let (messages, highlights): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let highlights = highlights.into_iter().flatten().collect();
    Ok(ListPage { messages, highlights, total, unread: unread.unwrap_or_default(), more })
}

/// Where to read on: behind the last message, which what comes meanwhile does not move, or, where the list is not in
/// the order of arrival, so many further.
fn after(sort: Sort, at: ListPosition, read: u64, last: Option<Seq>) -> ListPosition {
    match (sort, last, at) {
        (Sort::Newest | Sort::Oldest, Some(last), _) => ListPosition::After(last),
        (_, _, ListPosition::Offset(skipped)) => ListPosition::Offset(skipped + read),
        (_, _, at @ ListPosition::After(_)) => at,
    }
}
