//! What the threads of [`super::Control`] share: the connections, and what is kept in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use protocol::{ServiceId, TenantId, Time};
use rustc_hash::FxHashSet;

use super::{
    ControlError, REFRESH_INTERVAL,
    database::Content,
    keys::KeyRecord,
    metrics::ControlMetrics,
    service::Service,
    tenant::day_of,
    tenants::{QuotaRow, Tenants},
    usage::Counters,
};
use crate::{
    clock::{self, SharedClock, WallClock},
    sql::Database,
};

/// How long somebody waits for the connection while others use it, before they are refused: a database
/// that hangs must not gather everybody who asks for it.
pub(crate) const TURN_MAX: Duration = Duration::from_secs(5);

pub(super) struct Entry {
    pub(super) record: KeyRecord,
    pub(super) service: Arc<Service>,
    /// Milliseconds since 1970 of the last note that was queued.
    pub(super) noted: AtomicU64,
    /// Of the last line of the log about a use from where the key may not be used.
    pub(super) refused: AtomicU64,
}

#[derive(Default)]
pub(super) struct Snapshot {
    revision: i64,
    pub(super) services: HashMap<ServiceId, Arc<Service>>,
    pub(super) keys: HashMap<String, Entry>,
    pub(super) tenants: HashMap<TenantId, QuotaRow>,
    pub(super) leaving: FxHashSet<TenantId>,
}

/// The connection that reads. Whoever replaces the snapshot holds it, so that an older one never
/// replaces a newer one.
pub(super) struct Reading {
    pub(super) database: Database,
    /// When the last look began that went well.
    looked: Option<Instant>,
}

/// Is called after each look; answers whether it wants to be called again.
pub(super) type AfterLook = Box<dyn Fn() -> bool + Send>;

pub(super) struct Shared {
    writing: Mutex<Database>,
    reading: Mutex<Reading>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Of templates, at the last look.
    pub(super) templates: AtomicI64,
    /// Of what was revoked and of what users prefer, at the last look.
    pub(super) accounts: AtomicI64,
    /// The latest version of live settings, at the last look.
    pub(super) settings: AtomicI64,
    pub(super) usage: Counters,
    /// Under which name this node's share of what is used is written down.
    pub(super) node: String,
    pub(super) after_looks: Mutex<Vec<AfterLook>>,
    /// Follows the database's clock, where that is not this machine's.
    shared_clock: SharedClock,
    pub(super) clock: WallClock,
    pub(super) metrics: OnceLock<ControlMetrics>,
}

impl Shared {
    /// Reads everything.
    pub(super) fn new(
        writing: Database,
        reader: Database,
        node: String,
        shared_clock: SharedClock,
    ) -> Result<Self, ControlError> {
        let shared = Self {
            writing: Mutex::new(writing),
            reading: Mutex::new(Reading { database: reader, looked: None }),
            snapshot: ArcSwap::default(),
            templates: AtomicI64::new(0),
            accounts: AtomicI64::new(0),
            settings: AtomicI64::new(0),
            usage: Counters::default(),
            node,
            after_looks: Mutex::default(),
            clock: shared_clock.clock(),
            shared_clock,
            metrics: OnceLock::new(),
        };
        shared.learn_time(&mut *shared.reading()?)?;
        let now = shared.clock.now();
        let own = shared.reading()?.database.usage_of_own(&shared.node, day_of(now))?;
        shared.usage.restore(own, now);
        shared.look()?;
        Ok(shared)
    }

    pub(super) fn reading(&self) -> Result<MutexGuard<'_, Reading>, ControlError> {
        self.reading.try_lock_for(TURN_MAX).ok_or_else(|| self.busy())
    }

    pub(super) fn writing(&self) -> Result<MutexGuard<'_, Database>, ControlError> {
        self.writing.try_lock_for(TURN_MAX).ok_or_else(|| self.busy())
    }

    /// Somebody has waited for too long. Counted.
    pub(super) fn busy(&self) -> ControlError {
        if let Some(metrics) = self.metrics.get() {
            metrics.refused.increment(1);
        }
        ControlError::Busy
    }

    /// Changes something, and sees it. It is durable then: a look that fails must not be told as a
    /// failure of the change.
    pub(super) fn write<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = work(&mut *self.writing()?)?;
        if let Err(error) = self.refresh() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "control data was changed, but cannot be read");
        }
        Ok(done)
    }

    /// Looks whether something has changed, unless somebody began to look after this was called.
    pub(super) fn refresh(&self) -> Result<(), ControlError> {
        let came = Instant::now();
        let mut reading = self.reading()?;
        if reading.looked.is_some_and(|began| began >= came) {
            return Ok(());
        }
        self.refresh_with(&mut reading)
    }

    fn refresh_with(&self, reading: &mut Reading) -> Result<(), ControlError> {
        let began = Instant::now();
        let revisions = reading.database.revisions()?;
        if revisions.services != self.snapshot.load().revision {
            self.publish(reading.database.load()?);
        }
        self.templates.store(revisions.templates, Ordering::Release);
        self.accounts.store(revisions.accounts, Ordering::Release);
        self.settings.store(revisions.settings, Ordering::Release);
        reading.looked = Some(began);
        Ok(())
    }

    /// Looks at everything that is looked at time and again.
    fn look(&self) -> Result<(), ControlError> {
        let mut reading = self.reading()?;
        self.learn_time(&mut reading)?;
        self.refresh_with(&mut reading)?;
        if self.snapshot.load().tenants.is_empty() {
            return Ok(());
        }
        self.learn_usage(&mut reading, self.clock.now(), Tenants::WithQuotas)
    }

    /// Learns what time it is where the database is.
    fn learn_time(&self, reading: &mut Reading) -> Result<(), ControlError> {
        let asked = clock::now();
        if let Some(shown) = reading.database.wall_clock()? {
            self.shared_clock.learn(asked, shown, clock::now());
        }
        Ok(())
    }

    /// Learns what other nodes have used.
    pub(super) fn learn_usage(
        &self,
        reading: &mut Reading,
        now: Time,
        tenants: Tenants,
    ) -> Result<(), ControlError> {
        let used = reading.database.usage_of_others(&self.node, day_of(now), tenants)?;
        self.usage.learn(used, now);
        Ok(())
    }

    fn publish(&self, content: Content) {
        let before = self.snapshot.load();
        let keys = content
            .keys
            .into_iter()
            .filter_map(|(id, record)| {
                let service = Arc::clone(content.services.get(&record.key.service_id)?);
                let (noted, refused) = match before.keys.get(&id) {
                    Some(Entry { noted, refused, .. }) => {
                        (noted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
                    }
                    None => (record.key.last_used_at.map_or(0, |at| at.millis().unsigned_abs()), 0),
                };
                let (noted, refused) = (AtomicU64::new(noted), AtomicU64::new(refused));
                Some((id, Entry { record, service, noted, refused }))
            })
            .collect();
        let Content { revision, services, tenants, leaving, .. } = content;
        // Here and on other nodes nothing is counted of them any more.
        leaving.iter().for_each(|tenant| self.usage.forget(tenant));
        let snapshot = Snapshot { revision, services, keys, tenants, leaving };
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// Looks every [`REFRESH_INTERVAL`], until the sender is dropped. A look that fails leaves what is known
/// in force.
pub(super) fn keep_looking(shared: &Shared, until: &mpsc::Receiver<()>) {
    let mut blind = false;
    while until.recv_timeout(REFRESH_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let looked = shared.look();
        if let Some(metrics) = shared.metrics.get() {
            metrics.looked(looked.is_ok());
        }
        match (&looked, blind) {
            (Ok(()), true) => tracing::info!("control data can be read again"),
            (Err(error), false) => tracing::warn!(
                error = error as &dyn std::error::Error,
                "control data cannot be read; keys, quotas and templates are what was last known"
            ),
            (Ok(()), false) | (Err(_), true) => {}
        }
        blind = looked.is_err();
        shared.after_looks.lock().retain(|again| again());
    }
}
