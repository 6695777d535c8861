//! What nodes say to each other that concerns the store and the rate limits.

use std::sync::Arc;

use delivery::{
    account::Accounts,
    limit::{Limiter, sharing::TELL_EVERY},
    store::postgres::PostgresStore,
};
use protocol::{TenantId, envelope::Spent};
use tokio::time::MissedTickBehavior;

use crate::{
    bus::{Bus, State},
    live::Upkeep,
};

/// Hands it to this node's part of the store, and to its limits.
pub(super) struct FromOthers {
    store: Arc<PostgresStore>,
    limiter: Arc<Limiter>,
    accounts: Arc<Accounts>,
}

impl FromOthers {
    pub(super) const fn new(
        store: Arc<PostgresStore>,
        limiter: Arc<Limiter>,
        accounts: Arc<Accounts>,
    ) -> Self {
        Self { store, limiter, accounts }
    }
}

/// Tells other nodes what callers used here, for ever. Spawn it once and drop it to stop.
pub(super) async fn tell_spent(limiter: Arc<Limiter>, bus: Arc<dyn Bus>) {
    let mut ticks = tokio::time::interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Not asked for while nobody hears it: then it is told later, as far as it is not past.
        if bus.state() != State::Up {
            continue;
        }
        let spent = limiter.spent();
        if !spent.is_empty() {
            bus.spent(spent);
        }
    }
}

impl Upkeep for FromOthers {
    fn group(&self, tenant: &TenantId, pos: u64) {
        self.store.catch_up(tenant, pos);
    }

    fn revoked(&self) {
        let accounts = Arc::clone(&self.accounts);
        tokio::spawn(async move { accounts.look().await });
    }

    fn spent(&self, spent: &[Spent]) {
        self.limiter.charge(spent);
    }

    /// Nothing is kept here that could go on being believed: keys, services and what was revoked are compared
    /// with the control data every second.
    fn doubt(&self) {}
}
