//! What is known of endpoints without asking the database, and how it is brought up to date.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::ServiceId;
use rustc_hash::FxHashMap;

use super::{Inner, WebhookError, endpoint::Endpoint, endpoints};
use crate::sql::{Database, SqlError, Statements};

/// The endpoints, in memory.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) by_key: FxHashMap<i64, Arc<Endpoint>>,
    by_service: FxHashMap<ServiceId, Vec<Arc<Endpoint>>>,
    /// How many are active.
    pub(super) active: usize,
}

impl Known {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let mut known = Self::default();
        known.add(endpoints);
        known
    }

    fn add(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            let endpoint = Arc::new(endpoint);
            self.active += usize::from(endpoint.active);
            self.by_key.insert(endpoint.key, Arc::clone(&endpoint));
            self.by_service.entry(endpoint.service.clone()).or_default().push(endpoint);
        }
    }

    /// Puts an endpoint in place of what it was; none where it is gone. Answers what it was.
    fn set(&mut self, key: i64, endpoint: Option<Endpoint>) -> Option<Arc<Endpoint>> {
        let old = self.by_key.remove(&key);
        if let Some(old) = &old {
            self.active -= usize::from(old.active);
            if let Some(all) = self.by_service.get_mut(&old.service) {
                all.retain(|endpoint| endpoint.key != key);
                if all.is_empty() {
                    self.by_service.remove(&old.service);
                }
            }
        }
        self.add(endpoint.into_iter().collect());
        old
    }

    /// Puts a service's endpoints in place of those it had.
    fn replace(&mut self, service: &ServiceId, endpoints: Vec<Endpoint>) {
        for old in self.by_service.remove(service).unwrap_or_default() {
            self.active -= usize::from(old.active);
            self.by_key.remove(&old.key);
        }
        self.add(endpoints);
    }

    /// Those of a service.
    pub(super) fn of(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_service.get(service).into_iter().flatten()
    }
}

impl Inner {
    /// Reads all endpoints.
    pub(super) fn load(&self) -> Result<(), WebhookError> {
        let mut reader = self.reader()?;
        let all = reader.look(|database| endpoints::load(database, &self.client.allowed))?;
        self.known.store(Arc::new(Known::new(all)));
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the endpoints that other nodes have changed after a revision, or all. Waits so long for those
    /// who ask, so that an older state never replaces a newer one.
    pub(super) fn catch_up(
        &self,
        database: &mut Database,
        since: Option<i64>,
        wait: Duration,
    ) -> Result<(), WebhookError> {
        let reader = self.reader.try_lock_for(wait).ok_or(SqlError::Busy)?;
        let allowed = &self.client.allowed;
        let before = self.known.load_full();
        let mut known = Known::default();
        let mut changed = Vec::new();
        match since {
            None => {
                known.add(database.look(|database| endpoints::load(database, allowed))?);
                changed.extend(before.by_key.keys().chain(known.by_key.keys()).copied());
            }
            Some(since) => {
                known = Known::clone(&before);
                let look = |database: &mut dyn Statements| {
                    endpoints::load_changed(database, since, allowed)
                };
                for (key, endpoint) in database.look(look)? {
                    known.set(key, endpoint);
                    changed.push(key);
                }
            }
        }
        let known = Arc::new(known);
        self.known.store(Arc::clone(&known));
        drop(reader);
        for key in changed {
            self.follow(key, before.by_key.get(&key), known.by_key.get(&key));
        }
        Ok(())
    }

    /// Does to the schedule what the node that changed an endpoint has done to its own.
    fn follow(&self, key: i64, before: Option<&Arc<Endpoint>>, now: Option<&Arc<Endpoint>>) {
        let Some(now) = now.filter(|endpoint| endpoint.active) else {
            return self.schedule.lock().forget(key);
        };
        let is_same =
            |before: &&Arc<Endpoint>| before.active && before.updated_at == now.updated_at;
        if before.filter(is_same).is_none() {
            self.schedule.lock().pardon(key);
            self.expect([key], self.now());
        }
    }

    /// Reads the endpoints of a service.
    pub(super) fn refresh(&self, service: &ServiceId) -> Result<(), WebhookError> {
        let mut reader = self.reader()?;
        let allowed = &self.client.allowed;
        let present =
            reader.look(|database| endpoints::load_service(database, service, allowed))?;
        let mut known = Known::clone(&self.known.load());
        known.replace(service, present);
        self.known.store(Arc::new(known));
        Ok(())
    }

    /// Reads the endpoints of a service after a change. That is durable already: that it could not be
    /// read must not be told as its failure. It comes into force when it can be.
    pub(super) fn refresh_or_later(&self, service: &ServiceId) {
        if let Err(error) = self.refresh(service) {
            self.stale.store(true, Ordering::Relaxed);
            self.metrics.read_errors.increment(1);
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "webhooks cannot be read; endpoints are used as they were last known"
            );
        }
    }
}
