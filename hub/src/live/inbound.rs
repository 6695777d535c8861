//! What other nodes say, as far as sockets go.

use std::sync::Arc;

use delivery::{Fanout, InboxKey, store::Stored};
use protocol::{
    ChannelId, CloseReason, ConnectionId, Seq, TenantId, UserId,
    envelope::{Findings, Inquiry, NodeAbout, Spent},
};

use super::Live;
use crate::bus::{Doubt, Inbound, PresenceNews};

/// What other nodes say that is not the live side's affair: the store's, the rate limits', and of whoever
/// keeps what it knows of tokens and services. Called as [`Inbound`] is: nothing here may wait.
pub trait Upkeep: Send + Sync + 'static {
    /// Another node stored something for groups of a tenant, up to this position.
    fn group(&self, tenant: &TenantId, pos: u64);

    /// Something was revoked, a user's preferences changed, or the settings did: it is to be read anew. The connections
    /// concerned are closed by whoever reads it.
    fn revoked(&self);

    /// What callers used of their rate limits on another node.
    fn spent(&self, spent: &[Spent]);

    /// Words of other nodes may have been missed: what is kept of tokens, services and settings is to be
    /// compared with where it comes from. The connections are compared with the store already.
    fn doubt(&self);
}

/// Hands what other nodes say to a node's live side.
pub struct FromNodes {
    live: Arc<Live>,
    upkeep: Arc<dyn Upkeep>,
    about: Option<NodeAbout>,
}

impl FromNodes {
    /// To these two.
    #[must_use]
    pub fn new(live: Arc<Live>, upkeep: Arc<dyn Upkeep>) -> Self {
        Self { live, upkeep, about: None }
    }

    /// What this node says of itself; whether it is draining, the live side knows.
    #[must_use]
    pub fn about(self, about: NodeAbout) -> Self {
        Self { about: Some(about), ..self }
    }
}

impl Inbound for FromNodes {
    fn changes(&self, changes: &[Stored]) {
        self.live.registry().publish(changes);
    }

    fn in_store(&self, inbox: &InboxKey, seq: Seq) {
        self.live.registry().of(inbox).iter().for_each(|connection| connection.reached(seq));
    }

    fn connections(&self) -> Option<u64> {
        self.live.holds_connections().then(|| self.live.open_connections() as u64)
    }

    fn about(&self) -> Option<NodeAbout> {
        let about = self.about.clone()?;
        Some(NodeAbout { draining: self.live.is_draining(), ..about })
    }

    fn inquire(&self, inquiry: &Inquiry) -> Option<Findings> {
        self.live.inquire(inquiry)
    }

    fn group(&self, tenant: &TenantId, pos: u64) {
        self.upkeep.group(tenant, pos);
    }

    fn doubt(&self, _why: Doubt) {
        self.live.doubt();
        self.upkeep.doubt();
    }

    fn replaced(&self, inbox: &InboxKey, connection: &ConnectionId) {
        let ours = self.live.registry().of(inbox);
        let older = ours.iter().find(|ours| ours.connection_id() == *connection);
        if let Some(older) = older {
            older.close(CloseReason::Replaced);
        }
    }

    fn revoked(&self) {
        self.upkeep.revoked();
    }

    fn spent(&self, spent: &[Spent]) {
        self.upkeep.spent(spent);
    }

    fn presence(&self, node: u64, tenant: &TenantId, channel: &ChannelId, news: PresenceNews<'_>) {
        self.live.presence().heard(&self.live, node, tenant, channel, news);
    }

    fn node_gone(&self, node: u64) {
        self.live.presence().node_gone(&self.live, node);
    }

    fn presence_here(&self, tenant: &TenantId, channel: &ChannelId) -> (Vec<UserId>, bool) {
        self.live.presence().here(tenant, channel)
    }
}
