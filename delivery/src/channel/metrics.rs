//! What is counted about channels.

use metrics::{Counter, Recorder};

use super::ChannelError;
use crate::{metrics::Metric, store::StoreError};

const CHANGES: Metric = Metric::counter(
    "pushhub_channel_changes_total",
    "change",
    "Channels that were made, changed or ended, and changes of their members, through this node.",
);

const LIMITED: Metric = Metric::counter(
    "pushhub_channel_limit_total",
    "limit",
    "Channels and members that were refused: by the tenant's quota, or because the store has as many \
     as it may (channels, members, or groups of one user).",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[CHANGES, LIMITED];

pub(super) struct ChannelMetrics {
    pub(super) created: Counter,
    pub(super) updated: Counter,
    pub(super) deleted: Counter,
    pub(super) members: Counter,
    quota: Counter,
    store: Counter,
}

impl ChannelMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let change = |change| CHANGES.to_counter(recorder, &[("change", change)]);
        let limit = |limit| LIMITED.to_counter(recorder, &[("limit", limit)]);
        Self {
            created: change("created"),
            updated: change("updated"),
            deleted: change("deleted"),
            members: change("members"),
            quota: limit("quota"),
            store: limit("store"),
        }
    }

    /// Counts what was done, or the limit that kept it from being done.
    pub(super) fn count<T>(&self, done: &Counter, result: &Result<T, ChannelError>) {
        match result {
            Ok(_) => done.increment(1),
            Err(ChannelError::Quota(_)) => self.quota.increment(1),
            Err(ChannelError::Store(StoreError::Limit(_))) => self.store.increment(1),
            Err(_) => {}
        }
    }
}
