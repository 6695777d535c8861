//! [`Store`] for [`SingleStore`].

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::{DeviceId, MessageId, Seq, TenantId, Time};
use tokio::sync::mpsc;

use super::{
    LAG_BYTES_MAX, SingleStore,
    inbox::{Inbox, Loaded},
    queries::Listed,
    record::{MessageRecord, Record},
    schema::Templates,
    user_files::{FileError, UserFiles},
};
use crate::{
    InboxKey, Store, StoreError,
    backup::{BackupError, Draft, Wanted},
    clock,
    store::{
        Audience, Batch, BoxFuture, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery,
        Mark, MarkTarget, Marked, Outgoing, Pressing, Retention, UnreadCounts, Watch, WatchGuard,
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
        if !loaded.expiring && !loaded.uncounted {
            return Ok(Head { seq: loaded.head, unread: loaded.unread });
        }
        self.ask(inbox, |open, _| open.head()).await.map(Option::unwrap_or_default)
    }

    pub(super) async fn get_from(
        &self,
        inbox: &Arc<Inbox>,
        id: &MessageId,
    ) -> Result<InboxMessage, StoreError> {
        let id = id.clone();
        let found = self.ask(inbox, move |open, templates| open.get(templates, &id)).await?;
        found.flatten().ok_or(StoreError::NotFound)
    }

    /// Asks an inbox's files, see [`super::files::Files::query`].
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        inbox: &Arc<Inbox>,
        question: impl Fn(&mut UserFiles, &Templates) -> Result<T, FileError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let asked = Arc::clone(inbox);
        self.workers[inbox.worker].ask(move |files| files.query(&asked, question)).await
    }
}

impl Store for SingleStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.lag.bytes() > LAG_BYTES_MAX {
            self.metrics.busy_lag.increment(1);
            return Box::pin(std::future::ready(Err(StoreError::Busy(
                "too much waits for the users' files",
            ))));
        }
        let to_groups = |outgoing: &Outgoing| match &outgoing.audience {
            Audience::Everyone => true,
            Audience::Some { groups, .. } => !groups.is_empty(),
        };
        if batch.items.iter().any(to_groups) && self.shared.is_behind() {
            self.metrics.busy_shared.increment(1);
            return Box::pin(std::future::ready(Err(StoreError::Busy(
                "too much waits for shared.db",
            ))));
        }
        if self.ledger.full() {
            self.metrics.busy_ledger.increment(1);
            return Box::pin(std::future::ready(Err(StoreError::Busy(
                "too much waits for the ledger",
            ))));
        }
        let now = self.ledger.clock.now();
        let mut records: Vec<Record> =
            batch.items.into_iter().filter_map(|outgoing| record_of(outgoing, now)).collect();
        records.extend(batch.answer.map(|answer| Record::Answer(Arc::new(answer))));
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

    fn press(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        id: &MessageId,
        index: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        let (key, id) = (inbox.clone(), id.clone());
        Box::pin(async move { self.run_press(&key, device, id, index).await })
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let key = inbox.clone();
        Box::pin(async move {
            let inbox = self.inbox(&key);
            // Counted first: what arrives while the head is read is published too.
            inbox.state.lock().watchers += 1;
            let guard = Guard(Arc::clone(&inbox));
            if !self.load(&inbox).await?.known {
                let (tenant, user) = (key.tenant, key.user);
                let seen = Record::Seen { tenant, user, at: clock::now() };
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
        if let Some(page) = inbox.page_in_memory(since, limit, bytes_max) {
            return Box::pin(std::future::ready(Ok(page)));
        }
        Box::pin(async move {
            let asked = Arc::clone(&inbox);
            self.workers[inbox.worker]
                .ask(move |files| files.changes(&asked, since, limit, bytes_max))
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
            let found = self
                .ask(&inbox, move |open, templates| {
                    Ok((open.list(templates, &query)?, open.head()?.unread))
                })
                .await?;
            let (Listed { messages, total, more }, unread) = found.unwrap_or_default();
            Ok(ListPage { messages, highlights: Vec::new(), total, unread, more })
        })
    }

    fn unread(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        let inbox = self.inbox(inbox);
        Box::pin(async move {
            self.ask(&inbox, |open, _| open.unread()).await.map(Option::unwrap_or_default)
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

    fn back_up(
        &self,
        inbox: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>> {
        let key = inbox.clone();
        Box::pin(async move { self.copy_out(&key, wanted, draft).await })
    }

    fn inboxes(&self, to: mpsc::Sender<InboxKey>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.walk_all(to))
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        self.note_ack(inbox, device, seq);
    }

    fn delivered(&self, inbox: &InboxKey, device: &DeviceId, from: Seq, to: Seq) {
        self.note_delivered(inbox, device, from, to);
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

    fn prune(
        &self,
        inbox: &InboxKey,
        retention: Retention,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        let inbox = self.inbox(inbox);
        Box::pin(async move { self.pruner.prune(&inbox, retention).await })
    }

    fn forget(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.run_forget(inbox.clone()))
    }

    fn forget_tenant(&self, tenant: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run_forget_tenant(tenant.clone()))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.pruner.prune_all())
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

/// A message as its record; none for one that is for nobody.
fn record_of(outgoing: Outgoing, now: Time) -> Option<Record> {
    let Outgoing { tenant, sender, audience, body, scheduled_at } = outgoing;
    let audience = match audience {
        Audience::Everyone => Audience::Everyone,
        Audience::Some { users, groups } if users.is_empty() && groups.is_empty() => return None,
        Audience::Some { users, groups } => {
            Audience::Some { users: once_each(users), groups: once_each(groups) }
        }
    };
    let audience = Arc::new(audience);
    let record = Arc::new(MessageRecord { tenant, sender, audience, body, at: now, scheduled_at });
    Some(match scheduled_at {
        Some(at) if at > now => Record::Scheduled(record),
        Some(_) | None => Record::Message(record),
    })
}

/// Each once: a user twice in one record would be two messages with one id in one inbox.
fn once_each<T: Clone + Eq + std::hash::Hash>(list: Arc<[T]>) -> Arc<[T]> {
    let mut seen = HashSet::with_capacity(list.len());
    if list.len() < 2 || list.iter().all(|one| seen.insert(one)) {
        return list;
    }
    seen.clear();
    list.iter().filter(|one| seen.insert(*one)).cloned().collect()
}
