//! Brings inboxes that are watched here to what was sent to their groups, on this node or another.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::TenantId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    columns::Columns as _,
    core::Core,
    errors::Failure,
    groups,
    pool::{self, rows},
    work::Work,
};

/// Inboxes that are brought forward in one transaction: whoever writes to one of them waits for it.
const CHUNK: usize = 256;

/// How long to wait after a try that failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How far the watched inboxes of each tenant are.
#[derive(Default)]
pub(super) struct Caught {
    tenants: Mutex<HashMap<TenantId, State>>,
    wake: Notify,
    /// Something may be due, see `schedule`.
    pub(super) alarm: Notify,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Every watched inbox has what is for it up to this record; none where that is not known.
    done: Option<i64>,
    wanted: i64,
}

impl Caught {
    /// An inbox is watched that has everything up to a record.
    pub(super) fn begin(&self, tenant: &TenantId, pos: i64) {
        let mut tenants = self.tenants.lock();
        let state = State { done: Some(pos), wanted: pos };
        tenants.entry(tenant.clone()).or_insert(state);
    }

    /// A tenant's records reach to here.
    pub(super) fn wake(&self, tenant: &TenantId, pos: i64) {
        let mut tenants = self.tenants.lock();
        let state = tenants.entry(tenant.clone()).or_default();
        state.wanted = state.wanted.max(pos);
        drop(tenants);
        self.wake.notify_one();
    }

    /// A tenant that is behind.
    fn next(&self) -> Option<(TenantId, State)> {
        let tenants = self.tenants.lock();
        let behind = |state: &State| state.done.is_none_or(|done| done < state.wanted);
        tenants
            .iter()
            .find(|(_, state)| behind(state))
            .map(|(tenant, state)| (tenant.clone(), *state))
    }

    /// Whether a tenant's watched inboxes are not where its records are.
    pub(super) fn is_behind(&self, tenant: &TenantId) -> bool {
        let tenants = self.tenants.lock();
        let behind = |state: &State| state.done.is_none_or(|done| done < state.wanted);
        tenants.get(tenant).is_some_and(behind)
    }

    /// How many tenants are behind.
    pub(super) fn behind(&self) -> usize {
        let tenants = self.tenants.lock();
        tenants.values().filter(|state| state.done.is_none_or(|done| done < state.wanted)).count()
    }

    fn done(&self, tenant: &TenantId, pos: i64) {
        if let Some(state) = self.tenants.lock().get_mut(tenant) {
            state.done = state.done.max(Some(pos));
        }
    }

    /// Nobody of a tenant is watched; whoever is from now on brings an inbox that has everything.
    fn forget(&self, tenant: &TenantId, wanted: i64) {
        let mut tenants = self.tenants.lock();
        if tenants.get(tenant).is_some_and(|state| state.wanted <= wanted) {
            tenants.remove(tenant);
        }
    }

    fn done_of(&self, tenant: &TenantId) -> Option<i64> {
        self.tenants.lock().get(tenant).and_then(|state| state.done)
    }
}

/// Brings watched inboxes forward whenever it is told to. Told to stop it first finishes, as far as that
/// can be done: between a commit and its publishing nothing may end it.
pub(super) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        while let Some((tenant, state)) = core.caught.next() {
            if let Err(failure) = core.retry(|| bring(&core, &tenant, state)).await {
                tracing::debug!(
                    error = &failure as &dyn std::error::Error,
                    "watched inboxes cannot be brought forward now"
                );
                if stop.is_cancelled() {
                    return;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        tokio::select! {
            () = core.caught.wake.notified() => {}
            () = stop.cancelled() => {
                if core.caught.behind() == 0 {
                    return;
                }
            }
        }
    }
}

/// Brings a tenant's watched inboxes to where its records are now, for whoever asks where they stand.
pub(super) async fn bring_now(core: &Core, tenants: &[&str]) -> Result<(), Failure> {
    let client = core.db.client().await?;
    let sql = "SELECT tenant, pos FROM tenants WHERE tenant = ANY($1)";
    let found = rows(&client, sql, &[&tenants]).await?;
    drop(client);
    for row in found {
        let (tenant, wanted): (TenantId, i64) = (row.id(0)?, row.column(1)?);
        let done = core.caught.done_of(&tenant);
        if done.is_none_or(|done| done < wanted) {
            core.retry(|| bring(core, &tenant, State { done, wanted })).await?;
        }
    }
    Ok(())
}

async fn bring(
    core: &Core,
    tenant: &TenantId,
    State { done, wanted }: State,
) -> Result<(), Failure> {
    let watched = core.publisher.watches.of(tenant);
    if watched.is_empty() {
        core.caught.forget(tenant, wanted);
        return Ok(());
    }
    for chunk in concerned(core, tenant, &watched, done).await?.chunks(CHUNK) {
        core.retry(|| bring_some(core, chunk)).await?;
    }
    core.caught.done(tenant, wanted);
    core.publisher.watches.settled(&watched);
    Ok(())
}

/// Which of some inboxes may be concerned by the records after one.
async fn concerned(
    core: &Core,
    tenant: &TenantId,
    watched: &[i64],
    done: Option<i64>,
) -> Result<Vec<i64>, Failure> {
    let Some(done) = done else { return Ok(watched.to_vec()) };
    let client = core.db.client().await?;
    let everyone =
        "SELECT EXISTS (SELECT 1 FROM broadcasts WHERE tenant = $1 AND everyone AND pos > $2)";
    let found = rows(&client, everyone, &[&tenant.as_str(), &done]).await?;
    if found.first().map_or(Ok(false), |row| row.column(0))? {
        return Ok(watched.to_vec());
    }
    let members = "SELECT DISTINCT m.inbox FROM members m
        WHERE m.inbox = ANY($3) AND m.grp = ANY(ARRAY(
            SELECT DISTINCT g.grp FROM broadcasts b
            JOIN broadcast_groups g ON g.tenant = b.tenant AND g.pos = b.pos
            WHERE b.tenant = $1 AND b.pos > $2)) ORDER BY 1";
    let found = rows(&client, members, &[&tenant.as_str(), &done, &watched]).await?;
    found.iter().map(|row| row.column(0)).collect()
}

async fn bring_some(core: &Core, inboxes: &[i64]) -> Result<(), Failure> {
    let mut client = core.db.client().await?;
    let transaction = pool::begin(&mut client).await?;
    let now = core.now(&transaction).await?;
    let mut work = Work::lock(&transaction, inboxes, now).await?;
    groups::take_over(&transaction, &mut work).await?;
    if work.slots.iter().any(|slot| slot.touched) {
        core.finish(transaction, &mut work).await?;
        core.metrics.caught_up.increment(work.slots.len() as u64);
    }
    Ok(())
}
