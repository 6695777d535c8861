//! [`Ledger`] for [`PostgresStore`].

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId, UserId};

use super::{PostgresStore, ledger, stats};
use crate::{
    StoreError,
    store::{
        BoxFuture, Ledger, ReceiptPage, SenderKey, SentMessage, SentPage, SentState, StatsQuery,
        StatsRow, StoredAnswer, WaitingPage, WaitingPosition,
    },
};

impl Ledger for PostgresStore {
    fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<StoredAnswer>, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        let (sender, key) = (sender.clone(), key.to_owned());
        Box::pin(self.run(async move { core.answer(&tenant, &sender, &key).await }))
    }

    fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<SentMessage>, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(
            self.run(async move { Ok(core.sent(&tenant, &id).await?.map(|sent| sent.message)) }),
        )
    }

    fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<SentPage, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        let (sender, after) = (sender.clone(), after.cloned());
        Box::pin(
            self.run(async move { core.sent_by(&tenant, &sender, after.as_ref(), limit).await }),
        )
    }

    fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> BoxFuture<'_, Result<WaitingPage, StoreError>> {
        let (core, tenant) = (Arc::clone(&self.core), tenant.clone());
        Box::pin(self.run(async move { core.waiting(&tenant, after, limit).await }))
    }

    fn sent_body(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<Arc<Body>>, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { Ok(core.sent(&tenant, &id).await?.and_then(ledger::says)) }))
    }

    fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move {
            core.retry(|| core.edit(&tenant, &id, over.as_deref(), &body)).await
        }))
    }

    fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<SentState, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { core.retry(|| core.recall(&tenant, &id)).await }))
    }

    fn cancel(&self, tenant: &TenantId, id: &MessageId) -> BoxFuture<'_, Result<(), StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { core.retry(|| core.cancel(&tenant, &id)).await }))
    }

    fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ReceiptPage, StoreError>> {
        let (core, tenant, id) = (Arc::clone(&self.core), tenant.clone(), id.clone());
        Box::pin(self.run(async move { core.receipts(&tenant, &id, after.as_ref(), limit).await }))
    }

    fn stats(&self, query: StatsQuery) -> BoxFuture<'_, Result<Vec<StatsRow>, StoreError>> {
        let core = Arc::clone(&self.core);
        Box::pin(self.run(async move { stats::ask(&core, &query).await }))
    }
}
