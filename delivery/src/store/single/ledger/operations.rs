//! [`crate::store::Ledger`] for [`SingleStore`].

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId, UserId};
use rusqlite::{OptionalExtension, params};

use super::{
    file::store_error,
    read::{self, SentRow},
};
use crate::{
    InboxKey,
    store::{
        Audience, BoxFuture, Ledger, ReceiptPage, SenderKey, SentMessage, SentPage, SentState,
        StatsQuery, StatsRow, StoreError, StoredAnswer, WaitingPage, WaitingPosition,
        single::{SingleStore, shared},
    },
};

/// Recipients whose inboxes are asked what a message says before nobody is taken to have it: each
/// is a file that may have to be opened.
const INBOXES_ASKED_MAX: usize = 8;

impl Ledger for SingleStore {
    fn answer(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<StoredAnswer>, StoreError>> {
        Box::pin(self.ledger.answer(tenant.clone(), sender.clone(), key.to_owned()))
    }

    fn sent(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<SentMessage>, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { Ok(self.ledger.row(&tenant, &id).await?.map(|row| row.message)) })
    }

    fn sent_by(
        &self,
        tenant: &TenantId,
        sender: &SenderKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<SentPage, StoreError>> {
        let (tenant, sender, after) = (tenant.clone(), sender.clone(), after.cloned());
        Box::pin(
            self.ledger
                .query(move |db| read::sent_by(db, (&tenant, &sender), after.as_ref(), limit)),
        )
    }

    fn waiting(
        &self,
        tenant: &TenantId,
        after: Option<WaitingPosition>,
        limit: usize,
    ) -> BoxFuture<'_, Result<WaitingPage, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(
            self.ledger.query(move |db| read::waiting_page(db, &tenant, after.as_ref(), limit)),
        )
    }

    fn sent_body(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<Option<Arc<Body>>, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.body_of(&tenant, &id).await })
    }

    fn edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<Arc<Body>>,
        body: Arc<Body>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_edit(&tenant, &id, over.as_deref(), body).await })
    }

    fn recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> BoxFuture<'_, Result<SentState, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_recall(&tenant, &id).await })
    }

    fn cancel(&self, tenant: &TenantId, id: &MessageId) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_cancel(&tenant, &id).await })
    }

    fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ReceiptPage, StoreError>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        Box::pin(async move { self.run_receipts(&tenant, &id, after, limit).await })
    }

    fn stats(&self, query: StatsQuery) -> BoxFuture<'_, Result<Vec<StatsRow>, StoreError>> {
        Box::pin(self.ledger.run_stats(query))
    }
}

impl SingleStore {
    /// What a message says now.
    pub(super) async fn body_of(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<Option<Arc<Body>>, StoreError> {
        let (of, asked) = (tenant.clone(), id.clone());
        let found = self
            .ledger
            .query(move |db| {
                // In one look: in between it could be sent.
                let row = read::sent(db, &of, &asked)?;
                Ok((row, read::waiting(db, &of, &asked)?))
            })
            .await?;
        match found {
            (_, Some(waiting)) => Ok(Some(Arc::clone(&waiting.body))),
            (Some(SentRow { edited: Some(body), .. }), None) => Ok(Some(body)),
            (Some(row), None) if row.message.state == SentState::Sent => {
                self.body_from_recipients(tenant, row).await
            }
            (Some(_) | None, None) => Ok(None),
        }
    }

    /// A message as it was sent.
    async fn body_from_recipients(
        &self,
        tenant: &TenantId,
        row: SentRow,
    ) -> Result<Option<Arc<Body>>, StoreError> {
        let (users, groups) = match row.message.audience {
            Audience::Everyone => (None, true),
            Audience::Some { users, groups } => (Some(users), !groups.is_empty()),
        };
        if groups {
            let lsn = row.lsn;
            return self.read_shared(move |shared| shared.body_at(lsn)).await;
        }
        for user in users.iter().flat_map(|users| users.iter()).take(INBOXES_ASKED_MAX) {
            let key = InboxKey::new(tenant.clone(), user.clone());
            if let Some(body) = self.body_in(&key, &row.message.id).await? {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// A message's body as it stands in an inbox, whatever has become of the message there.
    async fn body_in(
        &self,
        key: &InboxKey,
        id: &MessageId,
    ) -> Result<Option<Arc<Body>>, StoreError> {
        let (inbox, id) = (self.inbox(key), id.clone());
        let asked = Arc::clone(&inbox);
        self.workers[inbox.worker]
            .ask(move |files| {
                let found = files.query(&asked, |open, _| {
                    open.messages
                        .prepare_cached("SELECT id, expire_at, body FROM message WHERE id = ?1")
                        .and_then(|mut select| {
                            select
                                .query_row(params![id.as_str()], |row| shared::body_of(row, 0))
                                .optional()
                        })
                        .map_err(open.sqlite_messages())
                })?;
                Ok(found.flatten())
            })
            .await
    }

    /// Reads `shared.db` on a thread that may wait for the disk.
    pub(super) async fn read_shared<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&shared::Shared) -> rusqlite::Result<T> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let path = self.ledger.path.with_file_name("shared.db");
        tokio::task::spawn_blocking(move || read(&shared).map_err(|error| store_error(path, error)))
            .await
            .unwrap_or(Err(StoreError::Closing))
    }
}
