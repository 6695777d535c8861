//! [`Store`] for [`PostgresStore`].

use std::{
    collections::{BTreeSet, HashMap},
    future,
    sync::Arc,
    time::Duration,
};

use protocol::{DeviceId, MessageId, Seq, TenantId};
use tokio::sync::mpsc;

use super::{
    PostgresStore, catch_up,
    columns::Columns as _,
    core::Core,
    errors::Failure,
    names,
    pool::{self, rows},
    reads::head_of,
};
use crate::{
    InboxKey, Store, StoreError,
    backup::{BackupError, Draft, Wanted},
    store::{
        Batch, BoxFuture, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery, Mark,
        MarkTarget, Marked, Pressing, Retention, UnreadCounts, Watch, WatchGuard,
    },
};

/// How old the last commit may be to count as proof that the database can be written.
const PROOF_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a proof may take before the database counts as stuck.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

struct Guard {
    core: Arc<Core>,
    key: InboxKey,
}

impl WatchGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        let owed = self.core.caught.is_behind(&self.key.tenant);
        self.core.publisher.watches.remove(&self.key, owed);
    }
}

impl Core {
    /// The id of an inbox, which is there from now on.
    async fn seen(&self, key: &InboxKey) -> Result<i64, Failure> {
        let mut client = self.db.client().await?;
        if let Some(id) = self.id_of(&client, key).await? {
            return Ok(id);
        }
        let transaction = pool::begin(&mut client).await?;
        let now = self.now(&transaction).await?;
        names::make(&transaction, &[(key, None)], now).await?;
        self.commit(transaction).await?;
        self.id_of(&client, key).await?.ok_or(Failure::Gone)
    }

    async fn watch(self: &Arc<Self>, key: &InboxKey) -> Result<Watch, Failure> {
        let id = self.seen(key).await?;
        // Watched first: what is committed while the head is read is published too.
        self.publisher.watches.add(key, id);
        let guard = Guard { core: Arc::clone(self), key: key.clone() };
        let seen = self.reading(|strict| async move {
            let client = self.db.client().await?;
            self.see(&client, key, strict).await
        });
        let Some(inbox) = seen.await?.filter(|inbox| inbox.id == id) else {
            self.names.forget(key);
            return Err(Failure::Gone);
        };
        self.publisher.watches.bind(key, id);
        self.caught.begin(&key.tenant, inbox.tenant_pos);
        Ok(Watch { head: head_of(&inbox), guard: Box::new(guard) })
    }

    /// By name: who was forgotten and is here again has another inbox, and is watched there from now on.
    async fn heads(&self, watched: &[InboxKey]) -> Result<HashMap<InboxKey, Seq>, Failure> {
        let tenants: BTreeSet<&str> = watched.iter().map(|key| key.tenant.as_str()).collect();
        catch_up::bring_now(self, &tenants.into_iter().collect::<Vec<_>>()).await?;
        let tenants: Vec<&str> = watched.iter().map(|key| key.tenant.as_str()).collect();
        let users: Vec<&str> = watched.iter().map(|key| key.user.as_str()).collect();
        let client = self.db.client().await?;
        let sql = "SELECT i.tenant, i.usr, i.id, i.head
            FROM unnest($1::text[], $2::text[]) AS k (tenant, usr)
            JOIN inboxes i ON i.tenant = k.tenant AND i.usr = k.usr";
        let mut heads = HashMap::new();
        for row in rows(&client, sql, &[&tenants, &users]).await? {
            let key = InboxKey::new(row.id(0)?, row.id(1)?);
            self.publisher.watches.bind(&key, row.column(2)?);
            heads.insert(key, row.seq(3)?);
        }
        Ok(heads)
    }

    /// Commits something to the database's log that changes nothing.
    async fn prove(&self) -> Result<(), Failure> {
        let mut client = self.db.client().await?;
        // Nobody waits for it longer, and the next one is asked of another connection.
        client.hurry(PROOF_TIMEOUT);
        let transaction = pool::begin(&mut client).await?;
        pool::row(&transaction, "SELECT pg_logical_emit_message(true, 'pushhub', '')::text", &[])
            .await?;
        self.commit(transaction).await
    }
}

impl Store for PostgresStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        match self.batcher.put(batch) {
            Ok(answer) => Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closing)) }),
            Err(error) => Box::pin(future::ready(Err(error))),
        }
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.mark(&key, device.as_ref(), mark, &target).await }))
    }

    fn press(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        id: &MessageId,
        index: u8,
    ) -> BoxFuture<'_, Result<Pressing, StoreError>> {
        let (core, key, id) = (Arc::clone(&self.core), inbox.clone(), id.clone());
        Box::pin(self.run(async move { core.press(&key, device.as_ref(), &id, index).await }))
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.retry(|| core.watch(&key)).await }))
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.head(&key).await }))
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        let core = Arc::clone(&self.core);
        let watches = &self.core.publisher.watches;
        let watched: Vec<InboxKey> =
            inboxes.iter().filter(|key| watches.is_watched(key)).cloned().collect();
        Box::pin(async move {
            let heads = match self.run(async move { core.heads(&watched).await }).await {
                Ok(heads) => heads,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no heads now");
                    HashMap::new()
                }
            };
            inboxes.iter().map(|key| heads.get(key).copied()).collect()
        })
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.changes(&key, since, limit, bytes_max).await }))
    }

    fn list(
        &self,
        inbox: &InboxKey,
        query: ListQuery,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.list(&key, &query).await }))
    }

    fn unread(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<UnreadCounts, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.unread(&key).await }))
    }

    fn get(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        let (core, key, id) = (Arc::clone(&self.core), inbox.clone(), id.clone());
        Box::pin(self.run(async move { core.get(&key, &id).await }))
    }

    fn back_up(
        &self,
        inbox: &InboxKey,
        wanted: Wanted,
        draft: Draft,
    ) -> BoxFuture<'_, Result<Draft, BackupError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        let copied = async move { Ok(core.back_up(&key, wanted, draft).await) };
        Box::pin(async move { self.run(copied).await? })
    }

    fn inboxes(&self, to: mpsc::Sender<InboxKey>) -> BoxFuture<'_, Result<(), StoreError>> {
        let core = Arc::clone(&self.core);
        Box::pin(self.run(async move { core.walk_all(to).await }))
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        if seq > Seq::ZERO && !self.core.notes.ack(inbox, device, seq) {
            self.core.metrics.notes_dropped.increment(1);
        }
    }

    fn delivered(&self, inbox: &InboxKey, device: &DeviceId, from: Seq, to: Seq) {
        if !self.core.notes.delivered(inbox, device, from, to) {
            self.core.metrics.notes_dropped.increment(1);
        }
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        let (core, key, device) = (Arc::clone(&self.core), inbox.clone(), device.clone());
        Box::pin(self.run(async move { core.cursor(&key, &device).await }))
    }

    fn prune(
        &self,
        inbox: &InboxKey,
        retention: Retention,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.prune(&key, retention).await }))
    }

    fn forget(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<u64, StoreError>> {
        let (core, key) = (Arc::clone(&self.core), inbox.clone());
        Box::pin(self.run(async move { core.forget(&key).await }))
    }

    fn forget_tenant(&self, tenant: &TenantId) -> BoxFuture<'_, Result<(), StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        Box::pin(self.run(async move { core.forget_tenant(&tenant).await }))
    }

    fn prune_all(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let core = Arc::clone(&self.core);
        Box::pin(self.run(async move { core.prune_all().await }))
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let proven = *self.core.committed.lock();
            if proven.is_some_and(|at| at.elapsed() < PROOF_AGE_MAX)
                && self.core.check_open().is_ok()
            {
                return Health::Writable;
            }
            let proof = self.run(async move { core.prove().await });
            match tokio::time::timeout(PROOF_TIMEOUT, proof).await {
                Ok(Ok(())) => Health::Writable,
                Ok(Err(error)) => Health::NotWritable(error.to_string()),
                Err(_) => Health::NotWritable(format!(
                    "the database did not commit within {} s",
                    PROOF_TIMEOUT.as_secs()
                )),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}
