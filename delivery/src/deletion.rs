//! A user is deleted with all data (contract §9): from the moment of the answer nobody gets in as them, and
//! nothing that this program keeps says anything of them.
//!
//! ```text
//! control data: access ends, a row says what is to be done ─▶ backup jobs ─▶ store ─▶ webhooks ─▶ control data: the row goes
//! ```
//!
//! The row is what makes one operation of it: whoever finds it, after a kill or on another node, does all of it
//! again, and each part answers when it is done, however often it is asked. Webhooks come after the store,
//! which may tell them of what happened until the user is forgotten there.

mod tenant;

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Recorder};

use crate::{
    InboxKey, StoreError,
    account::{AccountError, Accounts, TAKEN_UP_AFTER},
    backup::{BackupError, Jobs},
    control::{Control, ControlError},
    metrics::Metric,
    store::Storage,
    webhook::{WebhookError, Webhooks},
};

/// How long who asks waits for the end. Beyond, it goes on, and asking again says whether it is done.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often a node looks for deletions that nobody is at: a fifth of the time after which they are taken up.
const LOOK_EVERY: Duration = TAKEN_UP_AFTER.checked_div(5).expect("five is not nought");

const DELETIONS: Metric = Metric::counter(
    "pushhub_user_deletions_total",
    "result",
    "Deletions of users with all data: asked for here (begun), brought to their end here (finished), or broken \
     off by a database or disk that could not (failed); these are taken up again within seconds.",
);

/// Every metric of this area.
pub const METRICS: &[Metric] = &[DELETIONS, tenant::DELETIONS];

pub use self::tenant::DeletedTenant;

/// Why it is not done yet. It is taken up again by itself.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// Of the control data.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of backups that are kept for the user.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Of webhooks.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Of services, templates and quotas.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// What there was of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Whether anything was known of the user.
    pub known: bool,
    /// Sessions that ended.
    pub sessions: u64,
    /// Messages that the inbox had, once all is gone; none while that is still under way.
    pub messages: Option<u64>,
}

/// Deletes users. Cheap to clone.
#[derive(Clone)]
pub struct Deletions(Arc<Inner>);

impl std::fmt::Debug for Deletions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deletions").finish_non_exhaustive()
    }
}

struct Inner {
    control: Arc<Control>,
    accounts: Arc<Accounts>,
    store: Arc<dyn Storage>,
    webhooks: Webhooks,
    jobs: Arc<Jobs>,
    users: Counts,
    tenants: Counts,
}

/// How deletions of a kind went.
struct Counts {
    begun: Counter,
    finished: Counter,
    failed: Counter,
}

impl Counts {
    fn new(metric: Metric, recorder: &dyn Recorder) -> Self {
        metric.describe(recorder);
        let counter = |result| metric.to_counter(recorder, &[("result", result)]);
        Self { begun: counter("begun"), finished: counter("finished"), failed: counter("failed") }
    }

    /// One has come to its end, or was broken off.
    fn ended(&self, well: bool) {
        if well { &self.finished } else { &self.failed }.increment(1);
    }
}

impl Deletions {
    /// Of all that a node keeps.
    #[must_use]
    pub fn new(
        control: Arc<Control>,
        accounts: Arc<Accounts>,
        store: Arc<dyn Storage>,
        webhooks: Webhooks,
        jobs: Arc<Jobs>,
        recorder: &dyn Recorder,
    ) -> Self {
        Self(Arc::new(Inner {
            control,
            accounts,
            store,
            webhooks,
            jobs,
            users: Counts::new(DELETIONS, recorder),
            tenants: Counts::new(tenant::DELETIONS, recorder),
        }))
    }

    /// Deletes a user: access has ended when this returns, and all is gone, unless that takes longer than
    /// [`ANSWER_WITHIN`]. Nobody need wait for it: it is done all the same. Who was never heard of is deleted
    /// like everybody else.
    ///
    /// # Errors
    /// [`DeletionError::Account`] where it was not begun; any, where it is begun and will be finished later.
    pub async fn delete(&self, inbox: &InboxKey) -> Result<Deleted, DeletionError> {
        let known = self.0.store.user(inbox).await?.is_some();
        let sessions = self.0.accounts.begin_deletion(inbox).await?;
        self.0.users.begun.increment(1);
        let (deletions, inbox) = (self.clone(), inbox.clone());
        let rest = tokio::spawn(async move { deletions.finish(&inbox).await });
        let messages = match tokio::time::timeout(ANSWER_WITHIN, rest).await {
            Ok(Ok(done)) => Some(done?),
            // It panicked, which is said elsewhere, or goes on.
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(Deleted { known: known || sessions > 0, sessions, messages })
    }

    /// All that follows from a deletion that was begun. Answers how many messages the inbox had.
    async fn finish(&self, inbox: &InboxKey) -> Result<u64, DeletionError> {
        let done = async {
            // Of this node; others find in a minute that their jobs are of nobody.
            self.0.jobs.forget(inbox).await?;
            let messages = self.0.store.forget(inbox).await?;
            // And what was asked for meanwhile.
            self.0.jobs.forget(inbox).await?;
            self.0.webhooks.forget_user(inbox).await?;
            self.0.accounts.end_deletion(inbox).await?;
            Ok(messages)
        };
        let done = done.await;
        self.0.users.ended(done.is_ok());
        done
    }

    /// Takes up, for ever, what nobody is at: a process was killed, or something could not be written. Spawn
    /// it once and drop it to stop.
    pub async fn upkeep(self) {
        loop {
            // First, for it deletes the users of a tenant together, which is much quicker.
            self.take_up_tenants().await;
            match self.0.accounts.take_up_deletions().await {
                Ok(open) => {
                    for inbox in open {
                        if self.0.control.is_leaving(&inbox.tenant) {
                            continue;
                        }
                        if let Err(error) = self.finish(&inbox).await {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(
                                error,
                                "the data of a deleted user cannot be deleted now"
                            );
                        }
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "it is not known who is being deleted");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
