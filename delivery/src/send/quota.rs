//! What a message uses of its tenant's quotas.

use std::sync::Arc;

use protocol::TenantId;

use crate::control::{Control, QuotaReached, Spent};

/// Given back when dropped, unless the message was stored: whatever goes wrong, and also when the
/// request is given up in the middle.
pub(super) struct Charge(Option<(Arc<Control>, TenantId, Spent)>);

impl Charge {
    pub(super) fn take(
        control: &Arc<Control>,
        tenant: &TenantId,
        recipients: u64,
    ) -> Result<Self, QuotaReached> {
        let spent = control.spend(tenant, recipients)?;
        Ok(Self(Some((Arc::clone(control), tenant.clone(), spent))))
    }

    /// The message is stored.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((control, tenant, spent)) = self.0.take() {
            control.give_back(&tenant, spent);
        }
    }
}
