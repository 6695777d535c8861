//! What a tenant may use.

use std::{num::NonZeroU64, time::Duration};

use protocol::{TenantId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::Retention;

/// Most tenants with quotas: all of them are kept in memory.
pub const TENANTS_MAX: usize = 10_000;

/// Most tenants without quotas whose use is counted, some 150 bytes each. Any further one is served
/// all the same, and shown with no use: tenants are named by tokens, and the login service may know
/// any number.
pub const TENANTS_COUNTED_MAX: usize = 65_536;

/// How old the use on the disk may be: what a crash makes forgotten.
pub const USAGE_FLUSH_INTERVAL: Duration = Duration::from_secs(2);

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// Limits of a tenant beside those of the program. Null means no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Messages a day (UTC); one is one, however many its recipients.
    pub messages_per_day: Option<u64>,
    /// Recipients of all messages of a day (UTC). A message to everybody counts as one.
    pub recipients_per_day: Option<u64>,
    /// Channels that are there at a time.
    pub channels: Option<u64>,
    /// Templates that are there at a time, those built in not counted.
    pub templates: Option<u64>,
    /// How long inboxes keep messages, in seconds, where that is shorter than `RETENTION_MAX_AGE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_seconds: Option<NonZeroU64>,
    /// How many messages an inbox keeps, its latest, where that is fewer than `RETENTION_MAX_MESSAGES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_messages: Option<NonZeroU64>,
}

impl Quotas {
    /// What its inboxes keep.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            max_age: self.kept_seconds.map(|seconds| Duration::from_secs(seconds.get())),
            max_messages: self.kept_messages.map(NonZeroU64::get),
        }
    }
}

/// What was used since midnight (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Usage {
    /// The midnight.
    pub since: Time,
    /// Messages that were accepted, scheduled ones included.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
}

/// A tenant, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: TenantId,
    /// What it may use.
    pub quotas: Quotas,
    /// What it has used today.
    pub usage: Usage,
    /// When its quotas were last changed; null where it never had any.
    pub updated_at: Option<Time>,
}

/// A quota by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::messages_per_day`].
    MessagesPerDay,
    /// [`Quotas::recipients_per_day`].
    RecipientsPerDay,
    /// [`Quotas::channels`].
    Channels,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MessagesPerDay, Self::RecipientsPerDay, Self::Channels];

    /// Its name in requests, and a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessagesPerDay => "messages_per_day",
            Self::RecipientsPerDay => "recipients_per_day",
            Self::Channels => "channels",
        }
    }
}

/// A tenant has used what it may today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quota {} of this tenant is {limit}, and {used} are used; more can be sent from 00:00 UTC on",
    .quota.as_str()
)]
pub struct QuotaReached {
    /// Which.
    pub quota: Quota,
    /// How much there is a day.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// How long until there is more.
    pub retry_after: Duration,
}

/// What one message used, to be given back if it could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub(super) day: i64,
    pub(super) recipients: u64,
}

/// Days since 1970.
pub(super) const fn day_of(at: Time) -> i64 {
    at.millis().div_euclid(DAY_MILLIS)
}

/// When a day begins.
pub(super) fn begin_of(day: i64) -> Time {
    Time::from_millis(day.saturating_mul(DAY_MILLIS))
}

/// How long a day still is, at least a second.
pub(super) fn left_of_day(now: Time) -> Duration {
    let left = begin_of(day_of(now) + 1).millis() - now.millis();
    Duration::from_millis(left.unsigned_abs()).max(Duration::from_secs(1))
}
