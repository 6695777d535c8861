//! What one inbox knows of a message, as far as [`crate::Store::get`] tells.

use protocol::MessageId;

use crate::{
    InboxKey,
    store::{Receipt, StoreError, single::SingleStore},
};

impl SingleStore {
    /// What became of a message in one inbox; none where it never arrived.
    pub(super) async fn receipt_in(
        &self,
        inbox: &InboxKey,
        id: &MessageId,
    ) -> Result<Option<Receipt>, StoreError> {
        match self.get_from(&self.inbox(inbox), id).await {
            Ok(message) => Ok(Some(Receipt {
                user_id: inbox.user.clone(),
                stored_at: message.body.facts().created_at,
                delivered_at: None,
                acked_at: None,
                read_at: message.state.read_at,
                devices: Vec::new(),
                actions: message.pressed,
            })),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
