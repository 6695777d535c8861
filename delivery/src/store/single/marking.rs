//! Marks and presses: decided on what is in the inbox, then stored as a decision.

use std::sync::Arc;

use protocol::{DeviceId, MessageId, Status};
use tokio::sync::OwnedMutexGuard;

use super::{
    SingleStore,
    inbox::Inbox,
    queries::{Decision, PressDecision, Refusal},
    record::{MarkRecord, PressRecord, Record},
};
use crate::{
    InboxKey, StoreError, clock,
    store::{Mark, MarkTarget, Marked, Pressing},
};

/// Targets of one mark record: a longer mark is several records, so that none is large.
const MARK_TARGETS_MAX: usize = 1_000;

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Conflict(current) => Self::VersionConflict(current),
        }
    }
}

impl SingleStore {
    /// Held until what is decided is stored and visible, so that nothing else of this inbox is
    /// decided on what was before. It goes along with the records, for the future that decides may be
    /// dropped while they are on their way. Other inboxes do not wait.
    async fn deciding(inbox: &Inbox) -> OwnedMutexGuard<()> {
        Arc::clone(inbox.marking()).lock_owned().await
    }

    async fn decide(
        &self,
        inbox: &Arc<Inbox>,
        mark: Mark,
        target: MarkTarget,
    ) -> Result<Decision, StoreError> {
        let one = matches!(target, MarkTarget::One { .. });
        let decided =
            self.ask(inbox, move |open, templates| open.decide(templates, mark, &target)).await?;
        match decided {
            Some(decided) => Ok(decided?),
            None if one => Err(StoreError::NotFound),
            None => Ok(Decision::default()),
        }
    }

    pub(super) async fn run_mark(
        &self,
        key: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> Result<Marked, StoreError> {
        let inbox = self.inbox(key);
        let deciding = Self::deciding(&inbox).await;
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

    pub(super) async fn run_press(
        &self,
        key: &InboxKey,
        device: Option<DeviceId>,
        id: MessageId,
        index: u8,
    ) -> Result<Pressing, StoreError> {
        let inbox = self.inbox(key);
        let deciding = Self::deciding(&inbox).await;
        let wanted = id.clone();
        let decided = self
            .ask(&inbox, move |open, templates| open.decide_press(templates, &wanted, index))
            .await?
            .unwrap_or(Err(Refusal::NotFound))?;
        let (action, state) = match decided {
            PressDecision::Press { action, message } => (action, message.state),
            PressDecision::Pressed(message) => return Ok(Pressing { first: false, message }),
        };
        let record = Record::Press(Arc::new(PressRecord {
            tenant: key.tenant.clone(),
            user: key.user.clone(),
            device,
            at: clock::now(),
            target: (state.seq.0, id.clone()),
            index,
            action,
            archived: state.status == Status::Archived,
            unread_delta: -i64::from(state.status == Status::Unread),
        }));
        self.committer.submit_holding(vec![record], Some(deciding)).await?;
        Ok(Pressing { first: true, message: self.get_from(&inbox, &id).await? })
    }
}
