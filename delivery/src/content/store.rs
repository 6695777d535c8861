//! A store whose content is encrypted: seals what goes in, opens what comes out.

mod directory;
mod ledger;

use std::sync::Arc;

use metrics::Recorder;
use protocol::{Body, DeviceId, MessageId, Seq, TenantId};
use tokio::sync::mpsc;

use super::{ContentError, ContentKeys, metrics::ContentMetrics, scan::Scans};
use crate::{
    InboxKey, StoreError,
    backup::{BackupError, Draft, Wanted},
    store::{
        Batch, BoxFuture, Change, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery,
        Mark, MarkTarget, Marked, Pressing, Retention, Storage, Store, UnreadCounts, Watch,
    },
};

/// In front of a store: whoever asks it has nothing to do with keys, and the store behind it has neither.
pub struct ContentStore {
    store: Arc<dyn Storage>,
    keys: Arc<ContentKeys>,
    scans: Scans,
    metrics: Arc<ContentMetrics>,
}

impl ContentStore {
    /// In front of this one.
    #[must_use]
    pub fn new(
        store: Arc<dyn Storage>,
        keys: Arc<ContentKeys>,
        recorder: &dyn Recorder,
    ) -> Arc<Self> {
        let metrics = Arc::new(ContentMetrics::new(recorder));
        Arc::new(Self { store, keys, scans: Scans::default(), metrics })
    }

    fn failed(&self, error: ContentError) -> StoreError {
        self.metrics.note(&error);
        match error {
            ContentError::Random => StoreError::NotWritable(Arc::new(error)),
            ContentError::Missing { .. }
            | ContentError::Refused { .. }
            | ContentError::NoMessage { .. } => StoreError::Damaged(Arc::new(error)),
        }
    }

    fn open(&self, tenant: &TenantId, body: &mut Arc<Body>) -> Result<(), StoreError> {
        if body.sealed().is_some() {
            *body = self.keys.open(tenant, body).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn seal(&self, tenant: &TenantId, body: &Arc<Body>) -> Result<Arc<Body>, StoreError> {
        self.keys.seal(tenant, body).map_err(|error| self.failed(error))
    }

    fn open_all(&self, tenant: &TenantId, messages: &mut [InboxMessage]) -> Result<(), StoreError> {
        messages.iter_mut().try_for_each(|message| self.open(tenant, &mut message.body))
    }

    async fn edit_sealed(
        &self,
        tenant: TenantId,
        id: MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> Result<(), StoreError> {
        // What the store has is sealed and cannot be made anew, so that it is compared here, and the store sees
        // that it is still that.
        let over = match over {
            None => None,
            Some(over) => {
                let now = self.store.sent_body(&tenant, &id).await?;
                let now = now.ok_or(StoreError::NotFound)?;
                let mut readable = Arc::clone(&now);
                self.open(&tenant, &mut readable)?;
                if !readable.says_as(&over) {
                    return Err(StoreError::Raced);
                }
                Some(now)
            }
        };
        let sealed = self.seal(&tenant, &body)?;
        self.store.edit(&tenant, &id, over, sealed).await
    }
}

impl Store for ContentStore {
    fn append(&self, mut batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.keys.seal_anything() {
            for item in &mut batch.items {
                match self.seal(&item.tenant, &item.body) {
                    Ok(sealed) => item.body = sealed,
                    Err(error) => return Box::pin(async { Err(error) }),
                }
            }
        }
        self.store.append(batch)
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        let marking = self.store.mark(inbox, device, mark, target);
        let tenant = inbox.tenant.clone();
        Box::pin(async move {
            match marking.await {
                Err(StoreError::VersionConflict(mut message)) => {
                    self.open(&tenant, &mut message.body)?;
                    Err(StoreError::VersionConflict(message))
                }
                done => done,
            }
        })
    }

    fn press(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        id: &MessageId,
        index: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        let (pressing, tenant) = (self.store.press(inbox, device, id, index), inbox.tenant.clone());
        Box::pin(async move {
            let mut pressed = pressing.await?;
            self.open(&tenant, &mut pressed.message.body)?;
            Ok(pressed)
        })
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.store.watch(inbox)
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head(inbox)
    }

    fn forget_tenant(&self, tenant: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.forget_tenant(tenant)
    }

    fn inboxes(&self, to: mpsc::Sender<InboxKey>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.inboxes(to)
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        self.store.heads(inboxes)
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let reading = self.store.changes(inbox, since, limit, bytes_max);
        Box::pin(async move {
            let mut page = reading.await?;
            for stored in &mut page.changes {
                if let Change::Message { body, .. } = &mut stored.change {
                    self.open(&stored.inbox.tenant, body)?;
                }
            }
            Ok(page)
        })
    }

    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let inbox = inbox.clone();
        Box::pin(async move {
            let by_content = query.text.is_some() || !query.metadata.is_empty();
            if by_content && !self.keys.is_empty() {
                return self
                    .scans
                    .find(&*self.store, &self.keys, &self.metrics, &inbox, query)
                    .await;
            }
            let mut page = self.store.list(&inbox, query).await?;
            self.open_all(&inbox.tenant, &mut page.messages)?;
            Ok(page)
        })
    }

    fn unread(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        self.store.unread(inbox)
    }

    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        let (reading, tenant) = (self.store.get(inbox, id), inbox.tenant.clone());
        Box::pin(async move {
            let mut message = reading.await?;
            self.open(&tenant, &mut message.body)?;
            Ok(message)
        })
    }

    fn back_up(
        &self,
        inbox: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>> {
        self.store.back_up(inbox, wanted, draft)
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        self.store.ack(inbox, device, seq);
    }

    fn delivered(&self, inbox: &InboxKey, device: &DeviceId, from: Seq, to: Seq) {
        self.store.delivered(inbox, device, from, to);
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        self.store.cursor(inbox, device)
    }

    fn prune(
        &self,
        inbox: &InboxKey,
        retention: Retention,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.prune(inbox, retention)
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.prune_all()
    }

    fn forget(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.forget(inbox)
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.store.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
