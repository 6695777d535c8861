//! What nodes say to each other that concerns the store and the rate limits.

use std::{sync::Arc, time::Duration};

use delivery::{
    account::Accounts,
    limit::{Limiter, sharing::TELL_EVERY},
    store::postgres::{Place, PostgresStore},
};
use protocol::{TenantId, envelope::Spent};
use tokio::time::{Instant, MissedTickBehavior};

use super::settings::LiveSettings;
use crate::{
    bus::{Bus, RedisBus, State},
    live::Upkeep,
};

/// Hands it to this node's part of the store, and to its limits.
pub(super) struct FromOthers {
    store: Arc<PostgresStore>,
    limiter: Arc<Limiter>,
    accounts: Arc<Accounts>,
    settings: Arc<LiveSettings>,
}

impl FromOthers {
    pub(super) const fn new(
        store: Arc<PostgresStore>,
        limiter: Arc<Limiter>,
        accounts: Arc<Accounts>,
        settings: Arc<LiveSettings>,
    ) -> Self {
        Self { store, limiter, accounts, settings }
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

/// How often nodes are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// For how long more nodes must be there than are heard until that is said: one that starts has its place
/// before it is heard, and one that is killed may be missed by the database last.
const UNHEARD_AFTER: Duration = Duration::from_secs(10);

/// Compares how many nodes use the database with how many are heard, for ever: nodes with different `REDIS_URL`
/// or `REDIS_PREFIX` hear nothing of each other, so that nothing else would tell. Spawn it once and drop it
/// to stop.
pub(super) async fn count_nodes(place: Arc<Place>, bus: Arc<RedisBus>) {
    let mut ticks = tokio::time::interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = None;
    loop {
        ticks.tick().await;
        let (there, unheard) = match bus.heard() {
            Some(_) => {
                // A database that does not answer says nothing new.
                let Some(there) = place.nodes().await else { continue };
                // Asked after: who has come meanwhile is heard at most, never missed.
                let Some(heard) = bus.heard() else { continue };
                (there, there.saturating_sub(heard))
            }
            // Nobody is heard while the bus is away, which is said already.
            None => (0, 0),
        };
        if unheard == 0 {
            since = None;
            bus.set_unheard(there, 0);
        } else if since.get_or_insert_with(Instant::now).elapsed() >= UNHEARD_AFTER {
            bus.set_unheard(there, unheard);
        }
    }
}

impl Upkeep for FromOthers {
    fn group(&self, tenant: &TenantId, pos: u64) {
        self.store.catch_up(tenant, pos);
    }

    fn revoked(&self) {
        let (accounts, settings) = (Arc::clone(&self.accounts), Arc::clone(&self.settings));
        tokio::spawn(async move {
            // Looks at all control data.
            accounts.look().await;
            if settings.is_behind() {
                let follow = move || settings.follow();
                if tokio::task::spawn_blocking(follow).await.is_err() {
                    tracing::error!(target: "error", "taking over settings panicked");
                }
            }
        });
    }

    fn spent(&self, spent: &[Spent]) {
        self.limiter.charge(spent);
    }

    /// Nothing is kept here that could go on being believed: keys, services, settings and what was revoked are compared
    /// with the control data every second.
    fn doubt(&self) {}
}
