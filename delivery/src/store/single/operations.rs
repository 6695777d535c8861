//! [`Store`] for [`SingleStore`].

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::{DeviceId, MessageId, Seq};

use super::{
    LAG_BYTES_MAX, SingleStore,
    inbox::{Inbox, Loaded},
    record::Record,
};
use crate::{
    InboxKey, Store, StoreError, clock,
    store::{
        Audience, BoxFuture, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery, Mark,
        MarkTarget, Marked, Outgoing, Stored, Watch, WatchGuard,
    },
};

/// How old the last successful commit may be to count as proof that the journal can be written.
const PROOF_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a proof may take before the journal counts as stuck.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

struct Guard(Arc<Inbox>);

impl WatchGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.state.lock().watchers -= 1;
    }
}

impl SingleStore {
    async fn load(&self, inbox: &Arc<Inbox>) -> Result<Loaded, StoreError> {
        if let Some(loaded) = inbox.state.lock().loaded() {
            return Ok(*loaded);
        }
        let asked = Arc::clone(inbox);
        self.workers[inbox.worker].ask(move |files| files.load(&asked)).await
    }

    pub(super) async fn head_of(&self, inbox: &Arc<Inbox>) -> Result<Head, StoreError> {
        let loaded = self.load(inbox).await?;
        if !loaded.expiring {
            return Ok(Head { seq: loaded.head, unread: loaded.unread });
        }
        let asked = Arc::clone(inbox);
        self.workers[inbox.worker]
            .ask(move |files| {
                let now = clock::now();
                let expired = files.query(&asked, |open, _| open.expired_unread(now))?;
                Ok(head_without(&asked, expired.unwrap_or(0)))
            })
            .await
    }

    /// Changes from memory, where it has all that is asked for.
    fn page_in_memory(
        inbox: &Inbox,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Option<ChangePage> {
        let now = clock::now();
        let state = inbox.state.lock();
        let loaded = state.loaded()?;
        let head = loaded.head;
        let mut changes: Vec<Stored> = Vec::new();
        if since < head {
            if since < loaded.file_head {
                return None;
            }
            let mut bytes = 0;
            for entry in &state.tail {
                if entry.seq.0 + entry.seqs() <= since.0 + 1 {
                    continue;
                }
                inbox.changes_of(entry, now, &mut changes);
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
        Some(ChangePage { changes, head, min_seq: Seq::ZERO })
    }

    pub(super) async fn get_from(
        &self,
        inbox: &Arc<Inbox>,
        id: &MessageId,
    ) -> Result<InboxMessage, StoreError> {
        let (asked, id) = (Arc::clone(inbox), id.clone());
        self.workers[inbox.worker]
            .ask(move |files| {
                let now = clock::now();
                let found = files.query(&asked, |open, templates| open.get(templates, &id, now))?;
                found.flatten().ok_or(StoreError::NotFound)
            })
            .await
    }
}

fn head_without(inbox: &Inbox, expired: u64) -> Head {
    let state = inbox.state.lock();
    let loaded = state.loaded().copied().unwrap_or_default();
    Head { seq: loaded.head, unread: loaded.unread.saturating_sub(expired) }
}

impl Store for SingleStore {
    fn append(&self, items: Vec<Outgoing>) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.lag.bytes() > LAG_BYTES_MAX {
            self.metrics.busy_lag.increment(1);
            return Box::pin(std::future::ready(Err(StoreError::Busy(
                "too much waits for the users' files",
            ))));
        }
        let records = items
            .into_iter()
            .filter_map(|Outgoing { tenant, audience, body }| match audience {
                Audience::Everyone => Some(Record::Everyone { tenant, body }),
                Audience::Users(users) => {
                    let users = once_each(users);
                    (!users.is_empty()).then_some(Record::Message { tenant, users, body })
                }
            })
            .collect();
        Box::pin(self.committer.submit(records))
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move { self.run_mark(&key, device, mark, target).await })
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move {
            let inbox = self.inbox(&key);
            // Counted first: what arrives while the head is read is published too.
            inbox.state.lock().watchers += 1;
            let guard = Guard(Arc::clone(&inbox));
            if !self.load(&inbox).await?.known {
                let seen = Record::Seen { tenant: key.tenant, user: key.user };
                self.committer.submit(vec![seen]).await?;
            }
            let head = self.head_of(&inbox).await?;
            Ok(Watch { head, guard: Box::new(guard) })
        })
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        let inbox = self.inbox(inbox);
        Box::pin(async move { self.head_of(&inbox).await })
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        let heads = inboxes
            .iter()
            .map(|key| {
                let inbox = self.inboxes.find(key)?;
                let state = inbox.state.lock();
                state.loaded().map(|loaded| loaded.head)
            })
            .collect();
        Box::pin(std::future::ready(heads))
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let inbox = self.inbox(inbox);
        if let Some(page) = Self::page_in_memory(&inbox, since, limit, bytes_max) {
            return Box::pin(std::future::ready(Ok(page)));
        }
        Box::pin(async move {
            let asked = Arc::clone(&inbox);
            self.workers[inbox.worker]
                .ask(move |files| {
                    files.load(&asked)?;
                    if let Some(page) = Self::page_in_memory(&asked, since, limit, bytes_max) {
                        return Ok(page);
                    }
                    let now = clock::now();
                    let changes = files.query(&asked, |open, templates| {
                        open.changes(templates, &asked.key, since, limit, bytes_max, now)
                    })?;
                    let head = head_without(&asked, 0).seq;
                    let changes = changes.unwrap_or_default();
                    Ok(ChangePage { changes, head, min_seq: Seq::ZERO })
                })
                .await
        })
    }

    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let inbox = self.inbox(inbox);
        if let Some(terms) = query.text.clone() {
            return Box::pin(self.search(inbox, terms, query));
        }
        Box::pin(async move {
            let asked = Arc::clone(&inbox);
            self.workers[inbox.worker]
                .ask(move |files| {
                    let now = clock::now();
                    let found = files.query(&asked, |open, templates| {
                        Ok((open.list(templates, &query, now)?, open.expired_unread(now)?))
                    })?;
                    let ((messages, total, more), expired) = found.unwrap_or_default();
                    let unread = head_without(&asked, expired).unread;
                    Ok(ListPage { messages, highlights: vec![], total, unread, more })
                })
                .await
        })
    }

    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        let (inbox, id) = (self.inbox(inbox), id.clone());
        Box::pin(async move { self.get_from(&inbox, &id).await })
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        let inbox = self.inbox(inbox);
        let advanced = advance(&inbox, device, seq);
        if advanced == Advanced::NotLoaded {
            let (asked, device) = (Arc::clone(&inbox), device.clone());
            self.workers[inbox.worker].tell(move |files| {
                if files.load(&asked).is_ok() && advance(&asked, &device, seq) == Advanced::Yes {
                    // The inbox is at hand, so the file is written now.
                    let _ = files.flush(&asked, false);
                }
            });
        } else if advanced == Advanced::Yes {
            let queue = {
                let mut state = inbox.state.lock();
                !std::mem::replace(&mut state.queued, true)
            };
            if queue {
                let now = std::time::Instant::now();
                self.workers[inbox.worker].mark_dirty(now, &mut vec![inbox]);
            }
        }
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        let (inbox, device) = (self.inbox(inbox), device.clone());
        Box::pin(async move {
            self.load(&inbox).await?;
            let state = inbox.state.lock();
            Ok(state.cursors.as_ref().and_then(|cursors| cursors.get(&device)))
        })
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        Box::pin(async move {
            if self.closing.load(Ordering::Acquire) {
                return Health::NotWritable("the store is closing".to_owned());
            }
            if let Some(cause) = self.committer.broken() {
                return Health::NotWritable(format!("the journal cannot be written: {cause}"));
            }
            if self.committer.since_commit() < PROOF_AGE_MAX {
                return Health::Writable;
            }
            let proof = self.committer.submit(vec![Record::Probe]);
            match tokio::time::timeout(PROOF_TIMEOUT, proof).await {
                Ok(Ok(())) => Health::Writable,
                Ok(Err(error)) => Health::NotWritable(error.to_string()),
                Err(_) => Health::NotWritable(format!(
                    "the journal did not commit within {} s",
                    PROOF_TIMEOUT.as_secs()
                )),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closing.store(true, Ordering::Release);
            if let Some(shutdown) = self.take_shutdown() {
                // Joining threads must not block the runtime that still answers the last requests.
                let _ = tokio::task::spawn_blocking(move || shutdown.run()).await;
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Advanced {
    Yes,
    No,
    NotLoaded,
}

fn advance(inbox: &Inbox, device: &DeviceId, seq: Seq) -> Advanced {
    let mut state = inbox.state.lock();
    let Some(head) = state.loaded().map(|loaded| loaded.head) else { return Advanced::NotLoaded };
    if seq == Seq::ZERO {
        return Advanced::No;
    }
    let cursors = state.cursors.get_or_insert_default();
    if cursors.advance(device, seq.min(head), clock::now()) { Advanced::Yes } else { Advanced::No }
}

/// Each user once: twice in one record would be two messages with one id in one inbox.
fn once_each(mut users: Vec<protocol::UserId>) -> Vec<protocol::UserId> {
    if users.len() > 1 {
        let mut seen = HashSet::with_capacity(users.len());
        users.retain(|user| seen.insert(user.clone()));
    }
    users
}
