//! Marks: decided on what is in the inbox, then stored as a decision.

use std::sync::Arc;

use protocol::DeviceId;

use super::{
    SingleStore,
    inbox::Inbox,
    queries::{Decision, Refusal},
    record::{MarkRecord, Record},
};
use crate::{
    InboxKey, StoreError, clock,
    store::{Mark, MarkTarget, Marked},
};

/// Targets of one mark record: a longer mark is several records, so that none is large.
const MARK_TARGETS_MAX: usize = 1_000;

impl SingleStore {
    async fn decide(
        &self,
        inbox: &Arc<Inbox>,
        mark: Mark,
        target: MarkTarget,
    ) -> Result<Decision, StoreError> {
        let asked = Arc::clone(inbox);
        self.workers[inbox.worker]
            .ask(move |files| {
                let now = clock::now();
                let decided = files
                    .query(&asked, |open, templates| open.decide(templates, mark, &target, now))?;
                match (decided, &target) {
                    (Some(Ok(decision)), _) => Ok(decision),
                    (Some(Err(Refusal::NotFound)), _) | (None, MarkTarget::One { .. }) => {
                        Err(StoreError::NotFound)
                    }
                    (Some(Err(Refusal::Conflict(current))), _) => {
                        Err(StoreError::VersionConflict(current))
                    }
                    (None, _) => Ok(Decision::default()),
                }
            })
            .await
    }

    pub(super) async fn run_mark(
        &self,
        key: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> Result<Marked, StoreError> {
        let inbox = self.inbox(key);
        // Held until the mark is stored and visible, so that no other mark of this inbox is decided
        // on what was before. It goes along with the records, for this future may be dropped while
        // they are on their way. Other inboxes do not wait.
        let deciding = Arc::clone(inbox.marking()).lock_owned().await;
        let one = match &target {
            MarkTarget::One { id, .. } => Some(id.clone()),
            _ => None,
        };
        let Decision { targets, unread } = self.decide(&inbox, mark, target).await?;
        let at = clock::now();
        let records: Vec<Record> = targets
            .chunks(MARK_TARGETS_MAX)
            .zip(unread.chunks(MARK_TARGETS_MAX))
            .map(|(targets, unread)| {
                let was_unread = unread.iter().filter(|&&unread| unread).count();
                let unread_delta = match mark {
                    Mark::Read | Mark::Archive => -(was_unread.cast_signed() as i64),
                    Mark::Unread => targets.len().cast_signed() as i64,
                };
                Record::Mark(Arc::new(MarkRecord {
                    tenant: key.tenant.clone(),
                    user: key.user.clone(),
                    device: device.clone(),
                    at,
                    mark,
                    targets: targets.to_vec(),
                    unread_delta,
                }))
            })
            .collect();
        if !records.is_empty() {
            self.committer.submit_holding(records, Some(deciding)).await?;
        }
        let message = match one {
            Some(id) => Some(self.get_from(&inbox, &id).await?),
            None => None,
        };
        let head = self.head_of(&inbox).await?;
        Ok(Marked { changed: targets.len() as u64, head, message })
    }
}
