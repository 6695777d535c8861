//! What services and admins do with endpoints. Everything here may wait for the disk or the database,
//! except the test, which waits for the network.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::{ServiceId, TenantId};
use rustc_hash::FxHashMap;
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{
    Attempt, DeadLetter, Delivery, DeliveryStatus, DisabledBy, NewWebhook, Webhook, WebhookError,
    Webhooks, deliveries, endpoints,
    event::{TEST_KIND, body, wire_id},
    secret::Secret,
};
use crate::{clock::after, outbound::Hold, sql::Statements};

/// How long older secrets sign on after a rotation, unless it says otherwise.
pub const SECRET_OVERLAP: Duration = Duration::from_secs(86_400);

/// Longest that a rotation may say.
pub const SECRET_OVERLAP_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Tests that run at a time. One more is refused: each takes a connection, and as long as an attempt
/// may.
pub const TESTS_MAX: usize = 16;

/// Tests of one service that run at a time, so that one with a silent endpoint leaves others theirs.
pub const TESTS_PER_SERVICE_MAX: usize = 2;

/// The tests that are running.
#[derive(Clone, Default)]
pub(super) struct Tests(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    all: usize,
    of: FxHashMap<ServiceId, usize>,
}

/// A test that is running.
struct Test(Tests, ServiceId);

impl Tests {
    fn begin(&self, service: &ServiceId) -> Option<Test> {
        let mut running = self.0.lock();
        let own = running.of.get(service).copied().unwrap_or_default();
        if running.all >= TESTS_MAX || own >= TESTS_PER_SERVICE_MAX {
            return None;
        }
        running.all += 1;
        running.of.insert(service.clone(), own + 1);
        Some(Test(self.clone(), service.clone()))
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let mut running = self.0.0.lock();
        running.all -= 1;
        if let Some(own) = running.of.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                running.of.remove(&self.1);
            }
        }
    }
}

/// A page of a list, and how much there is in all.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it, newest first.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
    /// Where the next one begins; none on the last one.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// From one more than fits.
    fn cut(mut items: Vec<T>, size: usize, total: u64, id: impl Fn(&T) -> i64) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(id);
        Self { items, total, next }
    }
}

impl Webhooks {
    /// The endpoints of a service, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self, service: &ServiceId) -> Result<Vec<Webhook>, WebhookError> {
        Ok(self.0.reader()?.look(|database| endpoints::list(database, service, self.0.now()))?)
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], also for another service's; or when the database cannot be read.
    pub fn get(&self, service: &ServiceId, id: &str) -> Result<Webhook, WebhookError> {
        self.0.reader()?.look(|database| {
            let key = endpoints::find(database, service, id)?;
            endpoints::get(database, key, self.0.now())
        })
    }

    /// Makes an endpoint; its secret is shown once, here.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`], [`WebhookError::TooMany`], [`WebhookError::NotWritable`].
    pub fn create(
        &self,
        tenant: &TenantId,
        service: &ServiceId,
        new: NewWebhook,
    ) -> Result<(Webhook, SecretString), WebhookError> {
        let new = new.check(&self.0.client.allowed).map_err(WebhookError::Invalid)?;
        let id = format!("wh_{}", Uuid::now_v7().simple());
        let now = self.0.now();
        let secret = Secret::generate(now);
        let shown = secret.shown();
        let (made, tenant, owner) = (id.clone(), tenant.clone(), service.clone());
        self.0.writer()?.write(move |database| {
            endpoints::insert(database, &made, (&tenant, &owner), &new, &secret, now)
        })?;
        self.0.refresh_or_later(service);
        Ok((self.get(service, &id)?, shown))
    }

    /// Changes url, events and description.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Invalid`], [`WebhookError::NotWritable`].
    pub fn update(
        &self,
        service: &ServiceId,
        id: &str,
        new: NewWebhook,
    ) -> Result<Webhook, WebhookError> {
        let new = new.check(&self.0.client.allowed).map_err(WebhookError::Invalid)?;
        let now = self.0.now();
        let key = self.change(service, id, move |database, key| {
            Ok(endpoints::update(database, key, &new, now)?)
        })?;
        self.0.schedule.lock().pardon(key);
        self.0.changed.notify_one();
        self.get(service, id)
    }

    /// Removes an endpoint with everything that waits for it; answers how it was.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::NotWritable`].
    pub fn delete(&self, service: &ServiceId, id: &str) -> Result<Webhook, WebhookError> {
        let last = self.get(service, id)?;
        let key =
            self.change(service, id, |database, key| Ok(endpoints::delete(database, key)?))?;
        self.0.schedule.lock().forget(key);
        Ok(last)
    }

    /// Stops an endpoint: new events are not kept for it, and those that wait go on waiting. One that
    /// is stopped already stays so, but what an admin stopped is his from then on.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::NotWritable`].
    pub fn disable(
        &self,
        service: &ServiceId,
        id: &str,
        by: Actor,
    ) -> Result<Webhook, WebhookError> {
        let now = self.0.now();
        let key = self.change(service, id, move |database, key| {
            let present = endpoints::get(database, key, now)?.disabled;
            match (by, present.map(|disabled| disabled.by)) {
                (Actor::Service, Some(_)) | (Actor::Admin, Some(DisabledBy::Admin)) => {}
                (Actor::Service, None) => {
                    endpoints::disable(database, key, DisabledBy::Service, now)?;
                }
                (Actor::Admin, _) => endpoints::disable(database, key, DisabledBy::Admin, now)?,
            }
            Ok(())
        })?;
        self.0.schedule.lock().forget(key);
        self.get(service, id)
    }

    /// Lets an endpoint go on. Events that waited keep their times.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::DisabledByAdmin`], [`WebhookError::NotWritable`].
    pub fn enable(
        &self,
        service: &ServiceId,
        id: &str,
        by: Actor,
    ) -> Result<Webhook, WebhookError> {
        let now = self.0.now();
        let key = self.change(service, id, move |database, key| {
            let present = endpoints::get(database, key, now)?.disabled;
            match (by, present.map(|disabled| disabled.by)) {
                (_, None) => {}
                (Actor::Service, Some(DisabledBy::Admin)) => {
                    return Err(WebhookError::DisabledByAdmin);
                }
                (_, Some(_)) => endpoints::enable(database, key)?,
            }
            Ok(())
        })?;
        self.0.schedule.lock().pardon(key);
        self.0.expect([key], now);
        self.get(service, id)
    }

    /// Makes a new secret, shown once, here. The older ones sign on for `overlap`, at most
    /// [`SECRET_OVERLAP_MAX`]; zero ends them at once, as for one that leaked.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::NotWritable`].
    pub fn rotate_secret(
        &self,
        service: &ServiceId,
        id: &str,
        overlap: Duration,
    ) -> Result<(Webhook, SecretString), WebhookError> {
        let now = self.0.now();
        let secret = Secret::generate(now);
        let shown = secret.shown();
        let end = after(now, overlap.min(SECRET_OVERLAP_MAX));
        self.change(service, id, move |database, key| {
            Ok(endpoints::rotate(database, key, &secret, end)?)
        })?;
        Ok((self.get(service, id)?, shown))
    }

    /// Events and how they stand, newest first, from `before` on.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], or when the database cannot be read.
    pub fn deliveries(
        &self,
        service: &ServiceId,
        id: &str,
        status: Option<DeliveryStatus>,
        before: Option<i64>,
        size: usize,
    ) -> Result<Page<Delivery>, WebhookError> {
        let (items, total) = self.0.reader()?.look(|database| {
            let key = endpoints::find(database, service, id)?;
            let Webhook { pending, delivered, failed, .. } =
                endpoints::get(database, key, self.0.now())?;
            let total = match status {
                None => pending + delivered + failed,
                Some(DeliveryStatus::Pending) => pending,
                Some(DeliveryStatus::Delivered) => delivered,
                Some(DeliveryStatus::Failed) => failed,
            };
            let before = before.unwrap_or(i64::MAX);
            let items = deliveries::list(database, key, status, before, size.saturating_add(1))?;
            Ok::<_, WebhookError>((items, total))
        })?;
        Ok(Page::cut(items, size, total, |delivery| delivery.id))
    }

    /// Sends an event again from its first attempt on, whatever became of it.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Disabled`], [`WebhookError::NotWritable`].
    pub fn redeliver(
        &self,
        service: &ServiceId,
        id: &str,
        event: &str,
    ) -> Result<Delivery, WebhookError> {
        let (owner, id, event) = (service.clone(), id.to_owned(), event.to_owned());
        let now = self.0.now();
        let (key, delivery) = self.0.writer()?.write(move |database| {
            let key = endpoints::find(database, &owner, &id)?;
            Ok((key, deliveries::redeliver(database, key, &event, now)?))
        })?;
        self.0.expect([key], now);
        Ok(delivery)
    }

    /// Dead letters of all services, or of those of one tenant, newest first, from `before` on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dead_letters(
        &self,
        tenant: Option<&TenantId>,
        before: Option<i64>,
        size: usize,
    ) -> Result<Page<DeadLetter>, WebhookError> {
        let (before, size_max) = (before.unwrap_or(i64::MAX), size.saturating_add(1));
        let (items, total) = self
            .0
            .reader()?
            .look(|database| deliveries::dead_letters(database, tenant, before, size_max))?;
        Ok(Page::cut(items, size, total, |letter| letter.delivery.id))
    }

    /// Sends an event of the kind [`TEST_KIND`] now, once, also to an endpoint that is disabled, and
    /// tells what came of it. It is not kept.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::TooManyTests`], or when the database cannot be read.
    pub async fn test(&self, service: &ServiceId, id: &str) -> Result<Attempt, WebhookError> {
        // Another node may have made or changed it a moment ago.
        let owner = service.clone();
        self.0.reading(move |inner| inner.refresh(&owner)).await?;
        let known = self.0.known.load_full();
        let endpoint = known.of(service).find(|endpoint| endpoint.id == id);
        let endpoint = endpoint.ok_or(WebhookError::NotFound)?;
        let test = self.0.tests.begin(service).ok_or(WebhookError::TooManyTests)?;
        let hold: Hold = Arc::new(test);
        let event = wire_id([TEST_KIND, &Uuid::now_v7().to_string()]);
        let body = body(TEST_KIND, self.0.now(), &json!({"webhook_id": endpoint.id}));
        let mut connection = None;
        Ok(self.0.attempt(&mut connection, endpoint, &event, body, &hold).await)
    }

    /// Changes an endpoint that is the service's, and memory after it.
    fn change(
        &self,
        service: &ServiceId,
        id: &str,
        change: impl FnOnce(&mut dyn Statements, i64) -> Result<(), WebhookError> + Send + 'static,
    ) -> Result<i64, WebhookError> {
        let (owner, id) = (service.clone(), id.to_owned());
        let key = self.0.writer()?.write(move |database| {
            let key = endpoints::find(database, &owner, &id)?;
            change(database, key)?;
            Ok(key)
        })?;
        self.0.refresh_or_later(service);
        Ok(key)
    }
}

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The endpoint's service.
    Service,
    /// An admin.
    Admin,
}
