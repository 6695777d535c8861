//! What was sent, for the senders: see [`crate::store::Ledger`].

use std::sync::Arc;

use protocol::{MessageId, TenantId};

use super::record::{Lsn, MessageRecord, RewriteRecord};
use crate::store::{Happening, StoredAnswer};

/// Takes over what the journal has, in its order.
#[derive(Default)]
pub(super) struct Ledger {}

impl Ledger {
    pub(super) fn sent(&self, _lsn: Lsn, _record: Arc<MessageRecord>) {}
    pub(super) fn rewritten(&self, _lsn: Lsn, _record: Arc<RewriteRecord>) {}
    pub(super) fn scheduled(&self, _lsn: Lsn, _record: Arc<MessageRecord>) {}
    pub(super) fn cancelled(&self, _lsn: Lsn, _tenant: TenantId, _id: MessageId) {}
    pub(super) fn answered(&self, _lsn: Lsn, _answer: Arc<StoredAnswer>) {}
    /// What becomes of messages; see [`crate::store::Witness`].
    pub(super) fn happened(
        &self,
        _happenings: &[Happening],
    ) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}
