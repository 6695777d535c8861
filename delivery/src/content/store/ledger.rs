//! What was sent, opened.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId, UserId};

use super::ContentStore;
use crate::{
    StoreError,
    store::{
        BoxFuture, Ledger, ReceiptPage, SenderKey, SentMessage, SentPage, SentState, StatsQuery,
        StatsRow, StoredAnswer, WaitingPage, WaitingPosition,
    },
};

impl Ledger for ContentStore {
    fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<StoredAnswer>, StoreError>> {
        self.store.answer(tenant, sender, key)
    }

    fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<SentMessage>, StoreError>> {
        self.store.sent(tenant, id)
    }

    fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<SentPage, StoreError>> {
        self.store.sent_by(tenant, sender, after, limit)
    }

    fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> BoxFuture<'_, Result<WaitingPage, StoreError>> {
        let (reading, tenant) = (self.store.waiting(tenant, after, limit), tenant.clone());
        Box::pin(async move {
            let mut page = reading.await?;
            for waiting in &mut page.messages {
                self.open(&tenant, &mut waiting.body)?;
            }
            Ok(page)
        })
    }

    fn sent_body(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<Arc<Body>>, StoreError>> {
        let (reading, tenant) = (self.store.sent_body(tenant, id), tenant.clone());
        Box::pin(async move {
            let mut body = reading.await?;
            if let Some(body) = &mut body {
                self.open(&tenant, body)?;
            }
            Ok(body)
        })
    }

    fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.edit_sealed(tenant.clone(), id.clone(), over, body))
    }

    fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<SentState, StoreError>> {
        self.store.recall(tenant, id)
    }

    fn cancel(&self, tenant: &TenantId, id: &MessageId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.cancel(tenant, id)
    }

    fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ReceiptPage, StoreError>> {
        self.store.receipts(tenant, id, after, limit)
    }

    fn stats(&self, query: StatsQuery) -> BoxFuture<'_, Result<Vec<StatsRow>, StoreError>> {
        self.store.stats(query)
    }
}
