//! Channels, their members, and what was sent to them.

use std::sync::Arc;

use protocol::{Body, ChannelId, TenantId, Time};

use super::{
    super::{Move, MoveError, unanswered, unreadable},
    differs,
};
use crate::store::{Directory, Group, MessagePage, portable::Cell, postgres::PostgresStore};

/// Channels, members and messages that are read at a time.
const PAGE: usize = 1_000;

impl Move<'_> {
    pub(super) async fn compare_directory(
        &self,
        theirs: &Arc<PostgresStore>,
    ) -> Result<(), MoveError> {
        for row in self.export.tenants().await? {
            let Some(Cell::Text(tenant)) = row.into_iter().next() else { continue };
            let Ok(tenant) = tenant.parse() else {
                return differs("the name of a tenant");
            };
            self.compare_tenant(theirs, &tenant).await?;
        }
        Ok(())
    }

    async fn compare_tenant(
        &self,
        theirs: &Arc<PostgresStore>,
        tenant: &TenantId,
    ) -> Result<(), MoveError> {
        let ours = &*self.export.store;
        let mut after: Option<ChannelId> = None;
        loop {
            let page = ours.channels(tenant, after.clone(), PAGE).await.map_err(unreadable)?;
            if page != theirs.channels(tenant, after, PAGE).await.map_err(unanswered)? {
                return differs(format!("the channels of tenant {tenant}"));
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.channel.id.clone());
            for info in &page {
                let id = &info.channel.id;
                if !self.has_same_members(theirs, tenant, id).await? {
                    return differs(format!("the members of channel {id} of tenant {tenant}"));
                }
                if !self.has_same_log(theirs, tenant, id).await? {
                    return differs(format!("what was sent to channel {id} of tenant {tenant}"));
                }
            }
        }
    }

    async fn has_same_members(
        &self,
        theirs: &Arc<PostgresStore>,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> Result<bool, MoveError> {
        let group = Group::Channel(id.clone());
        let mut after = None;
        loop {
            let ours = self.export.store.members(tenant, &group, after.clone(), PAGE);
            let page = ours.await.map_err(unreadable)?;
            if page != theirs.members(tenant, &group, after, PAGE).await.map_err(unanswered)? {
                return Ok(false);
            }
            let Some(last) = page.last() else { return Ok(true) };
            after = Some(last.user_id.clone());
        }
    }

    /// Whether a channel shows the same. Here what has expired is left out by one moment, there by another.
    async fn has_same_log(
        &self,
        theirs: &Arc<PostgresStore>,
        tenant: &TenantId,
        id: &ChannelId,
    ) -> Result<bool, MoveError> {
        let mut ours = Log::new(&*self.export.store, tenant, id, self.export.at);
        let mut theirs = Log::new(&**theirs, tenant, id, self.export.at);
        loop {
            let our = ours.next().await.map_err(unreadable)?;
            let their = theirs.next().await.map_err(unanswered)?;
            match (our, their) {
                (None, None) => return Ok(true),
                (Some(our), Some(their))
                    if our.id() == their.id()
                        && our.expire_at() == their.expire_at()
                        && our.json() == their.json() => {}
                (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return Ok(false),
            }
        }
    }
}

/// What was sent to a channel, one after the other.
struct Log<'a, D> {
    store: &'a D,
    tenant: &'a TenantId,
    id: &'a ChannelId,
    at: Time,
    page: std::vec::IntoIter<Arc<Body>>,
    /// Where the next page begins; none after the last.
    next: Option<Option<u64>>,
}

impl<'a, D: Directory> Log<'a, D> {
    fn new(store: &'a D, tenant: &'a TenantId, id: &'a ChannelId, at: Time) -> Self {
        Self { store, tenant, id, at, page: Vec::new().into_iter(), next: Some(None) }
    }

    async fn next(&mut self) -> Result<Option<Arc<Body>>, crate::StoreError> {
        loop {
            if let Some(body) = self.page.find(|body| !body.expired(self.at)) {
                return Ok(Some(body));
            }
            let Some(before) = self.next else { return Ok(None) };
            let MessagePage { messages, next } =
                self.store.channel_log(self.tenant, self.id, before, PAGE).await?;
            (self.page, self.next) = (messages.into_iter(), next.map(Some));
        }
    }
}
