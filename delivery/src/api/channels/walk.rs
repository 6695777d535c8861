//! Pages of the channels of a tenant.

use std::collections::BTreeSet;

use protocol::{ChannelId, TenantId};

use crate::{
    api::{ApiState, error::ApiError, query::PageMeta},
    store::ChannelInfo,
};

/// Most channels that one request looks at to find those that it lists. What was not reached is
/// behind `next_cursor`, of which a page may then be shorter than it was asked for.
const LOOKED_AT_MAX: usize = 2_000;

/// Channels that are read at a time.
const READ_AT_A_TIME: usize = 200;

/// Channels in the order of their ids, those that are `shown`.
pub(super) async fn some(
    state: &ApiState,
    tenant: &TenantId,
    mut after: Option<ChannelId>,
    size: usize,
    shown: impl Fn(&ChannelInfo) -> bool,
) -> Result<(Vec<ChannelInfo>, PageMeta), ApiError> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    loop {
        let page = state.0.directory.channels(tenant, after, READ_AT_A_TIME).await?;
        let (read, full) = (page.len(), page.len() == READ_AT_A_TIME);
        let mut last = None;
        for (index, channel) in page.into_iter().enumerate() {
            let id = channel.channel.id.clone();
            if shown(&channel) {
                found.push(channel);
            }
            if found.len() == size {
                let more = full || index + 1 < read;
                let meta = PageMeta::of_ids(size, Some(id.as_str()).filter(|_| more));
                return Ok((found, meta));
            }
            last = Some(id);
        }
        looked_at += read;
        if !full || looked_at >= LOOKED_AT_MAX {
            let last = last.as_ref().map(ChannelId::as_str).filter(|_| full);
            return Ok((found, PageMeta::of_ids(size, last)));
        }
        after = last;
    }
}

/// Those of a scope that are there.
pub(super) async fn listed(
    state: &ApiState,
    tenant: &TenantId,
    scope: &[String],
    after: Option<ChannelId>,
    size: usize,
    shown: impl Fn(&ChannelInfo) -> bool,
) -> Result<(Vec<ChannelInfo>, PageMeta), ApiError> {
    let ids: BTreeSet<ChannelId> = scope.iter().filter_map(|id| ChannelId::new(id).ok()).collect();
    let mut found: Vec<ChannelInfo> = Vec::new();
    for id in ids.into_iter().filter(|id| after.as_ref().is_none_or(|after| id > after)) {
        let channel = state.0.directory.channel(tenant, &id).await?;
        let Some(channel) = channel.filter(|channel| shown(channel)) else { continue };
        if found.len() == size {
            let last = found.last().map(|last| last.channel.id.as_str());
            let meta = PageMeta::of_ids(size, last);
            return Ok((found, meta));
        }
        found.push(channel);
    }
    Ok((found, PageMeta::of_ids(size, None)))
}
