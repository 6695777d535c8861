//! What became of a message at its recipients.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{MessageId, TenantId, UserId};

use super::read::SentRow;
use crate::{
    InboxKey,
    store::{
        Audience, Receipt, ReceiptPage, SentState, StoreError,
        single::{SingleStore, record::Lsn},
    },
};

/// Inboxes that one question asks at a time: their workers have others to answer too.
const INBOXES_AT_ONCE: usize = 16;

impl SingleStore {
    pub(super) async fn run_receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<ReceiptPage, StoreError> {
        let SentRow { lsn, message, .. } =
            self.ledger.row(tenant, id).await?.ok_or(StoreError::NotFound)?;
        match message.state {
            // Nobody received it.
            SentState::Scheduled | SentState::Cancelled => return Ok(ReceiptPage::default()),
            SentState::Sent | SentState::Recalled => {}
        }
        // One more than asked tells whether there is more.
        let mut users =
            self.recipients(tenant, message.audience, lsn, after, limit.saturating_add(1)).await?;
        let more = users.len() > limit;
        users.truncate(limit);
        let receipts = stream::iter(users)
            .map(|user| async move {
                let inbox = InboxKey::new(tenant.clone(), user.clone());
                let found = self.receipt_in(&inbox, id).await?;
                Ok::<_, StoreError>(found.unwrap_or_else(|| Receipt::nothing_of(user)))
            })
            .buffered(INBOXES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(ReceiptPage { receipts, more })
    }

    /// Who was meant by an audience at a record, in the order of their ids.
    async fn recipients(
        &self,
        tenant: &TenantId,
        audience: Audience,
        lsn: Lsn,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let (tenant, from) = (tenant.clone(), after.clone());
        let (users, groups) = match audience {
            Audience::Everyone => {
                return self
                    .read_shared(move |shared| {
                        shared.users_at(&tenant, None, lsn, from.as_ref(), limit)
                    })
                    .await;
            }
            Audience::Some { users, groups } => (users, groups),
        };
        let mut named: Vec<&UserId> =
            users.iter().filter(|user| after.as_ref().is_none_or(|after| *user > after)).collect();
        if named.len() > limit {
            named.select_nth_unstable(limit);
            named.truncate(limit);
        }
        let mut found: BTreeSet<UserId> = named.into_iter().cloned().collect();
        for index in 0..groups.len() {
            let (tenant, from, groups) = (tenant.clone(), from.clone(), Arc::clone(&groups));
            let members = self
                .read_shared(move |shared| {
                    shared.users_at(&tenant, Some(&groups[index]), lsn, from.as_ref(), limit)
                })
                .await?;
            found.extend(members);
        }
        Ok(found.into_iter().take(limit).collect())
    }
}
