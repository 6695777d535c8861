//! A tenant is deleted with everybody and everything in it.
//!
//! ```text
//! control data: nobody comes in any more, a row says what is to be done
//!   ─▶ webhooks ─▶ channels ─▶ what is no user's ─▶ users, one by one ─▶ what is no user's
//!   ─▶ control data: services, templates, quotas, accounts, the row
//! ```
//!
//! As with users, the row makes one operation of it: whoever finds it does all of it again, and each part may be
//! done again. What is no user's goes twice: before the users, so that in the files of one node the end of the last
//! of them overwrites it too; and after them, for what they still had a part in.

use std::sync::Arc;

use futures_util::future::try_join_all;
use protocol::{TenantId, UserId};

use super::{ANSWER_WITHIN, DeletionError, Deletions};
use crate::{InboxKey, control::Control, metrics::Metric, webhook::WebhookError};

pub(super) const DELETIONS: Metric = Metric::counter(
    "pushhub_tenant_deletions_total",
    "result",
    "Deletions of tenants with everything: asked for here (begun), brought to their end here (finished), or broken \
     off by a database or disk that could not (failed); these are taken up again within seconds.",
);

/// Users that are deleted at a time: in the files of one node a pass over ledger and journal is for all of them.
const USERS_AT_ONCE: usize = 64;

/// Channels that are looked for at a time.
const CHANNELS_PAGE: usize = 100;

/// Whoever is forgotten where a tenant has no user: with somebody's end the files of one node are overwritten. No
/// token makes a user of it, for nobody is called so.
const NOBODY: &str = "-";

/// What there was of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedTenant {
    /// Services that ended.
    pub services: u64,
    /// Users who were deleted since somebody last asked, once all is gone; none while that is under way.
    pub users: Option<u64>,
}

impl Deletions {
    /// Deletes a tenant: nobody of it comes in any more when this returns, and all is gone, unless that takes longer
    /// than [`ANSWER_WITHIN`]. Nobody need wait for it: it is done all the same.
    ///
    /// # Errors
    /// [`DeletionError::Control`] where it was not begun; any, where it is begun and will be finished later.
    pub async fn delete_tenant(&self, tenant: &TenantId) -> Result<DeletedTenant, DeletionError> {
        let of = tenant.clone();
        let services = self.control(move |control| control.begin_tenant_deletion(&of)).await?;
        self.0.tenants.begun.increment(1);
        let (deletions, tenant) = (self.clone(), tenant.clone());
        let rest = tokio::spawn(async move { deletions.finish_tenant(&tenant).await });
        let users = match tokio::time::timeout(ANSWER_WITHIN, rest).await {
            Ok(Ok(done)) => Some(done?),
            // It panicked, which is said elsewhere, or goes on.
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(DeletedTenant { services, users })
    }

    /// Takes up what nobody is at.
    pub(super) async fn take_up_tenants(&self) {
        let open = match self.control(Control::take_up_tenant_deletions).await {
            Ok(open) => open,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "it is not known which tenants are being deleted");
                return;
            }
        };
        for tenant in open {
            if let Err(error) = self.finish_tenant(&tenant).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the data of a deleted tenant cannot be deleted now");
            }
        }
    }

    /// All that follows from a deletion that was begun. Answers how many users there were.
    async fn finish_tenant(&self, tenant: &TenantId) -> Result<u64, DeletionError> {
        let done = self.empty_tenant(tenant).await;
        self.0.tenants.ended(done.is_ok());
        done
    }

    async fn empty_tenant(&self, tenant: &TenantId) -> Result<u64, DeletionError> {
        self.remove_webhooks(tenant).await?;
        let store = &self.0.store;
        loop {
            let channels = store.channels(tenant, None, CHANNELS_PAGE).await?;
            if channels.is_empty() {
                break;
            }
            for info in channels {
                store.delete_channel(tenant, &info.channel.id).await?;
            }
            self.renew(tenant).await?;
        }
        store.forget_tenant(tenant).await?;
        let mut users = 0;
        loop {
            let page = store.users(tenant, None, USERS_AT_ONCE).await?;
            if page.is_empty() {
                break;
            }
            users += page.len() as u64;
            let each = page.iter().map(|record| self.delete_user_of(tenant, &record.user_id));
            try_join_all(each).await?;
            self.renew(tenant).await?;
        }
        if users == 0 {
            let nobody = UserId::new(NOBODY).expect("a legal id");
            store.forget(&InboxKey::new(tenant.clone(), nobody)).await?;
        }
        store.forget_tenant(tenant).await?;
        let of = tenant.clone();
        self.control(move |control| control.end_tenant_deletion(&of)).await?;
        Ok(users)
    }

    /// The endpoints of the tenant's services, with all that waits for them.
    async fn remove_webhooks(&self, tenant: &TenantId) -> Result<(), DeletionError> {
        let (webhooks, of) = (self.0.webhooks.clone(), tenant.clone());
        let services = self.control(Control::list).await?;
        let remove = move || -> Result<(), WebhookError> {
            for service in services.iter().filter(|service| service.tenant_id == of) {
                for endpoint in webhooks.list(&service.id)? {
                    match webhooks.delete(&service.id, &endpoint.id) {
                        // Somebody else is at it, too.
                        Ok(_) | Err(WebhookError::NotFound) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        };
        let removed = tokio::task::spawn_blocking(remove).await;
        removed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(self.0.webhooks.forget_deleted().await?)
    }

    /// A user, as [`Deletions::delete`], but that there are no webhooks any more that could have been told.
    async fn delete_user_of(&self, tenant: &TenantId, user: &UserId) -> Result<(), DeletionError> {
        let inbox = InboxKey::new(tenant.clone(), user.clone());
        self.0.accounts.begin_deletion(&inbox).await?;
        self.0.jobs.forget(&inbox).await?;
        self.0.store.forget(&inbox).await?;
        self.0.jobs.forget(&inbox).await?;
        Ok(self.0.accounts.end_deletion(&inbox).await?)
    }

    async fn renew(&self, tenant: &TenantId) -> Result<(), DeletionError> {
        let tenant = tenant.clone();
        self.control(move |control| control.renew_tenant_deletion(&tenant)).await
    }

    /// Control data is asked on a thread that may wait for it.
    async fn control<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Control) -> Result<T, crate::control::ControlError> + Send + 'static,
    ) -> Result<T, DeletionError> {
        Ok(Arc::clone(&self.0.control).aside(work).await??)
    }
}
