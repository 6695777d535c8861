//! What inboxes keep: all of them, and those of tenants that keep less.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use protocol::TenantId;

use super::Retention;

impl Retention {
    /// What both let stay.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn less<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            max_age: less(self.max_age, other.max_age),
            max_messages: less(self.max_messages, other.max_messages),
        }
    }
}

/// Knows what tenants keep; asked for each inbox that is looked at, must be cheap.
pub trait TenantRetention: Send + Sync + 'static {
    /// Of those that keep less than everything.
    fn retentions(&self) -> BTreeMap<TenantId, Retention>;

    /// Of one.
    fn retention(&self, tenant: &TenantId) -> Retention;
}

impl fmt::Debug for dyn TenantRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantRetention")
    }
}

/// What a store keeps, which may change while it is open: which messages inboxes keep, and for how long senders can
/// ask for what they sent. Whatever forgets asks here each time it begins.
#[derive(Debug)]
pub struct Keeping {
    /// Of every tenant, and for how long it is kept what was sent.
    all: RwLock<(Retention, Duration)>,
    /// And these less.
    tenants: Option<Arc<dyn TenantRetention>>,
}

impl Keeping {
    /// What it is in the beginning.
    #[must_use]
    pub fn new(
        retention: Retention,
        sent_kept: Duration,
        tenants: Option<Arc<dyn TenantRetention>>,
    ) -> Self {
        Self { all: RwLock::new((retention, sent_kept)), tenants }
    }

    /// What every inbox keeps at most.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.all.read().0
    }

    /// For how long it is kept what was sent.
    #[must_use]
    pub fn sent_kept(&self) -> Duration {
        self.all.read().1
    }

    /// Both are another from here on. A walk that is under way may go on as it began.
    pub fn set(&self, retention: Retention, sent_kept: Duration) {
        *self.all.write() = (retention, sent_kept);
    }

    /// What an inbox of a tenant keeps.
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> Retention {
        let all = self.retention();
        self.tenants.as_ref().map_or(all, |tenants| all.and(tenants.retention(tenant)))
    }

    /// What tenants keep that have a word of their own, with what all do.
    pub(crate) fn of_tenants(&self) -> BTreeMap<TenantId, Retention> {
        let all = self.retention();
        let mut found = self.tenants.as_ref().map(|own| own.retentions()).unwrap_or_default();
        found.values_mut().for_each(|own| *own = own.and(all));
        found
    }

    /// Whether everything is kept now.
    pub(crate) fn is_everything(&self) -> bool {
        self.retention() == Retention::default() && self.of_tenants().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_counts() {
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3_600));
        let of = |max_age, max_messages| Retention { max_age, max_messages };
        assert_eq!(of(None, None).and(of(Some(day), None)), of(Some(day), None));
        assert_eq!(of(Some(hour), Some(5)).and(of(Some(day), Some(3))), of(Some(hour), Some(3)));
    }
}
