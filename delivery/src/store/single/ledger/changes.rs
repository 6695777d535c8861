//! Edits, recalls and cancellations.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId};
use smallvec::{SmallVec, smallvec};
use tokio::sync::OwnedMutexGuard;

use super::read::SentRow;
use crate::store::{
    SentState, StoreError,
    single::{
        SingleStore,
        record::{MessageRecord, Record, RewriteRecord},
    },
};

/// A message, and what keeps it as it was found.
struct Held {
    row: SentRow,
    locks: SmallVec<[OwnedMutexGuard<()>; 2]>,
}

impl SingleStore {
    /// Finds a message to change it. The locks go along with the record of the change, for the
    /// future may be dropped while it is on its way.
    async fn hold(&self, tenant: &TenantId, id: &MessageId) -> Result<Held, StoreError> {
        let mut locks = smallvec![self.ledger.lock(id).await];
        let mut row = self.ledger.row(tenant, id).await?.ok_or(StoreError::NotFound)?;
        if row.message.state == SentState::Scheduled {
            locks.push(Arc::clone(&self.ledger.schedule).lock_owned().await);
            // It may have been sent meanwhile.
            row = self.ledger.row(tenant, id).await?.ok_or(StoreError::NotFound)?;
        }
        Ok(Held { row, locks })
    }

    /// Gives a message another content, or takes it back where there is none.
    async fn rewrite(
        &self,
        tenant: &TenantId,
        held: Held,
        body: Option<Arc<Body>>,
    ) -> Result<(), StoreError> {
        let Held { row, locks } = held;
        let record = RewriteRecord {
            tenant: tenant.clone(),
            id: row.message.id,
            target: row.lsn,
            audience: Arc::new(row.message.audience),
            at: self.ledger.clock.now(),
            body,
        };
        self.committer.submit_holding(vec![Record::Rewrite(Arc::new(record))], locks).await
    }

    async fn cancel_held(&self, tenant: &TenantId, held: Held) -> Result<(), StoreError> {
        let record = Record::Cancelled { tenant: tenant.clone(), id: held.row.message.id };
        self.committer.submit_holding(vec![record], held.locks).await
    }

    pub(super) async fn run_edit(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        over: Option<&Body>,
        body: Arc<Body>,
    ) -> Result<(), StoreError> {
        debug_assert_eq!(body.id(), id, "an edit keeps the message's id");
        let held = self.hold(tenant, id).await?;
        let is_open = matches!(held.row.message.state, SentState::Scheduled | SentState::Sent);
        if let Some(over) = over.filter(|_| is_open)
            && let Some(now) = self.body_of(tenant, id).await?
            && !now.says_as(over)
        {
            return Err(StoreError::Raced);
        }
        match held.row.message.state {
            SentState::Scheduled => {
                let Held { row: SentRow { message, .. }, locks } = held;
                // The latest with an id counts.
                let record = MessageRecord {
                    tenant: tenant.clone(),
                    sender: message.sender,
                    audience: Arc::new(message.audience),
                    body,
                    at: message.accepted_at,
                    scheduled_at: message.scheduled_at,
                };
                let record = Record::Scheduled(Arc::new(record));
                self.committer.submit_holding(vec![record], locks).await
            }
            SentState::Sent => self.rewrite(tenant, held, Some(body)).await,
            SentState::Cancelled => Err(StoreError::Conflict("the message was cancelled")),
            SentState::Recalled => Err(StoreError::Conflict("the message was recalled")),
        }
    }

    pub(super) async fn run_recall(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<SentState, StoreError> {
        let held = self.hold(tenant, id).await?;
        match held.row.message.state {
            SentState::Scheduled => {
                self.cancel_held(tenant, held).await?;
                Ok(SentState::Cancelled)
            }
            SentState::Sent => {
                self.rewrite(tenant, held, None).await?;
                Ok(SentState::Recalled)
            }
            state @ (SentState::Cancelled | SentState::Recalled) => Ok(state),
        }
    }

    pub(super) async fn run_cancel(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<(), StoreError> {
        let held = self.hold(tenant, id).await?;
        match held.row.message.state {
            SentState::Scheduled => self.cancel_held(tenant, held).await,
            SentState::Cancelled => Ok(()),
            SentState::Sent | SentState::Recalled => {
                Err(StoreError::Conflict("the message was sent"))
            }
        }
    }
}
