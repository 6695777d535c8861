//! Which channels a user may join, as far as this side must know.

use std::sync::Arc;

use delivery::{
    InboxKey, StoreError,
    store::{BoxFuture, Directory, Group},
};
use protocol::ChannelId;

/// What a user finds who joins a channel on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whether the channel shows who else joined it.
    pub presence: bool,
}

/// Says who may join a channel.
pub trait ChannelGate: Send + Sync + 'static {
    /// Lets a member in; makes a user a member of an open channel first. None for a channel that is
    /// not there or not for this user: which of both is not told (contract §2.5).
    ///
    /// # Errors
    /// What the store answers.
    fn admit(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>>;

    /// Whether a user whose inbox is watched is a member now. Asked before each list or change of
    /// presence is shown.
    fn is_member(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>>;
}

/// The gate of a directory.
pub struct DirectoryGate(pub Arc<dyn Directory>);

impl ChannelGate for DirectoryGate {
    fn admit(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>> {
        let (directory, inbox, id) = (Arc::clone(&self.0), inbox.clone(), channel.clone());
        Box::pin(async move {
            let Some(found) = directory.channel(&inbox.tenant, &id).await? else {
                return Ok(None);
            };
            if !directory.is_member(&inbox, &Group::Channel(id.clone())).await? {
                if !found.channel.open {
                    return Ok(None);
                }
                let join = vec![inbox.user.clone()];
                directory.change_members(&inbox.tenant, &id, join, Vec::new()).await?;
            }
            Ok(Some(Admission { presence: found.channel.presence }))
        })
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        let (directory, inbox) = (Arc::clone(&self.0), inbox.clone());
        let group = Group::Channel(channel.clone());
        Box::pin(async move { directory.is_member(&inbox, &group).await })
    }
}
