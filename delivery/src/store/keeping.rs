//! What inboxes keep: all of them, and those of tenants that keep less.

use std::{collections::BTreeMap, fmt, sync::Arc};

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

/// What a store is set up to keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeping {
    /// Of every tenant.
    pub(crate) all: Retention,
    /// And these less.
    pub(crate) tenants: Option<Arc<dyn TenantRetention>>,
}

impl Keeping {
    /// What an inbox of a tenant keeps.
    pub(crate) fn of(&self, tenant: &TenantId) -> Retention {
        match &self.tenants {
            None => self.all,
            Some(tenants) => self.all.and(tenants.retention(tenant)),
        }
    }

    /// What tenants keep that have a word of their own, with what all do.
    pub(crate) fn of_tenants(&self) -> BTreeMap<TenantId, Retention> {
        let mut found = self.tenants.as_ref().map(|own| own.retentions()).unwrap_or_default();
        found.values_mut().for_each(|own| *own = own.and(self.all));
        found
    }

    /// Whether everything is kept now.
    pub(crate) fn is_everything(&self) -> bool {
        self.all == Retention::default() && self.of_tenants().is_empty()
    }

    /// Whether it may be otherwise later.
    pub(crate) const fn may_change(&self) -> bool {
        self.tenants.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_shorter_counts() {
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3_600));
        let of = |max_age, max_messages| Retention { max_age, max_messages };
        assert_eq!(of(None, None).and(of(Some(day), None)), of(Some(day), None));
        assert_eq!(of(Some(hour), Some(5)).and(of(Some(day), Some(3))), of(Some(hour), Some(3)));
    }
}
