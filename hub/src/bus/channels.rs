//! The channels that somebody on this node looks at, and what nodes tell each other of who is in them.

use std::sync::Arc;

use protocol::{ChannelId, TenantId, envelope::Event};

use super::{node::Node, outgoing::Class};

impl Node {
    /// Keeps a channel in view; whether it was not before.
    pub(super) fn open_channel(
        self: &Arc<Self>,
        tenant: &TenantId,
        channel: &ChannelId,
    ) -> Option<Vec<tokio::sync::oneshot::Receiver<()>>> {
        let mut channels = self.channels.lock();
        let key = (tenant.clone(), channel.clone());
        if channels.contains_key(&key) {
            return None;
        }
        let (listening, waits) = self.listen(&[self.topics.channel(tenant, channel)]);
        channels.insert(key, listening);
        Some(waits)
    }

    pub(super) fn close_channel(&self, tenant: &TenantId, channel: &ChannelId) {
        self.channels.lock().remove(&(tenant.clone(), channel.clone()));
    }

    /// Asks the others who is in a channel with them.
    pub(super) fn ask_presence(&self, tenant: &TenantId, channel: &ChannelId) {
        let topic = self.topics.channel(tenant, channel);
        let (tenant, channel) = (tenant.clone(), channel.clone());
        self.say(&topic, Event::PresenceAsk { tenant, channel }, Class::Word);
    }

    /// Tells the others who is in a channel here, if anybody looks at it here.
    pub(super) fn tell_presence(&self, tenant: &TenantId, channel: &ChannelId) {
        if !self.channels.lock().contains_key(&(tenant.clone(), channel.clone())) {
            return;
        }
        self.inbound(|inbound| {
            let (users, more) = inbound.presence_here(tenant, channel);
            let topic = self.topics.channel(tenant, channel);
            let (tenant, channel) = (tenant.clone(), channel.clone());
            self.say(&topic, Event::PresenceList { tenant, channel, users, more }, Class::Word);
        });
    }

    /// The channels in view whose topic is in one of these partitions.
    pub(super) fn channels_in_view(
        &self,
        owned: impl Fn(u16) -> bool,
    ) -> Vec<(TenantId, ChannelId)> {
        let channels = self.channels.lock();
        let picked = channels
            .iter()
            .filter(|(_, listening)| listening.topics.iter().any(|topic| owned(topic.partition)));
        picked.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn forget_channels(&self) {
        // Dropped outside the lock: each goes to the interests.
        drop(std::mem::take(&mut *self.channels.lock()));
    }
}
