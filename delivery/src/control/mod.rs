//! Services and their keys, templates, and what tenants may use, in `control.db`.
//!
//! The file is shared with the command line, which runs as another process. Services, keys and quotas are kept
//! in memory; whether another process has changed it is asked of the file (one row, a few microseconds)
//! at most once a second, and at once when a key is not known. So a change made anywhere bites
//! within a second, and a new key works at once. (`PRAGMA data_version` would tell the same, but also
//! changes with every note of a key's last use.)
//!
//! Every function here may wait for the disk, except [`Control::verify`], [`Control::spend`] and what
//! goes with it.

mod database;
mod error;
mod key;
mod notes;
mod service;
mod template;
mod templates;
mod tenant;
mod tenants;
mod usage;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use protocol::{ServiceId, TenantId, Time};

use crate::clock;

pub use database::{FILE_NAME, KEYS_PER_SERVICE_MAX, SERVICES_MAX};
pub use error::{ControlError, KeyError};
pub use key::{ApiKey, ApiKeyOnce, PREFIX as KEY_PREFIX};
pub use service::{
    LIST_MAX, Level, NewService, ON_BEHALF_OF, PERMISSIONS, RateLimit, Scope, Service,
    ServiceStatus, ServiceType, TEXT_BYTES_MAX,
};

pub use template::{
    Author, AuthorKind, DELETED_PER_TENANT_MAX, TEMPLATE_BYTES_ALL_MAX,
    TEMPLATE_BYTES_PER_TENANT_MAX, TEMPLATES_PER_TENANT_MAX, TemplateChange, TemplateChanges,
    TemplateLimit, TemplateRow, VERSIONS_MAX, VersionRow, Versions,
};

pub use tenant::{
    Quota, QuotaReached, Quotas, Spent, TENANTS_COUNTED_MAX, TENANTS_MAX, Tenant,
    USAGE_FLUSH_INTERVAL, Usage,
};

use database::{Content, Database};
use notes::{NOTES_MAX, Note};
use tenants::QuotaRow;
use usage::Counters;

/// How long a change of another process may go unnoticed.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How exact [`ApiKey::last_used_at`] is: at most one write per key in this time.
pub const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);

struct Entry {
    record: database::KeyRecord,
    service: Arc<Service>,
    /// Milliseconds since 1970 of the last note that was queued.
    noted: AtomicU64,
}

#[derive(Default)]
struct Snapshot {
    revision: i64,
    services: HashMap<ServiceId, Arc<Service>>,
    keys: HashMap<String, Entry>,
    tenants: HashMap<TenantId, QuotaRow>,
}

/// Services, keys, templates and quotas. Cheap to ask, shared by everything in the process.
pub struct Control {
    writing: Arc<Mutex<Database>>,
    /// Held for microseconds, or while everything is read anew; never while somebody writes. Whoever
    /// replaces `snapshot` holds it, so that an older one never replaces a newer one.
    reading: Mutex<Database>,
    snapshot: ArcSwap<Snapshot>,
    opened: Instant,
    /// Milliseconds after `opened` of the last look.
    looked: AtomicU64,
    usage: Arc<Counters>,
    notes: Option<mpsc::SyncSender<Note>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Opens `control.db` in `dir`, or makes it (mode 0600).
    ///
    /// # Errors
    /// [`ControlError::UnknownVersion`], [`ControlError::Sqlite`], [`ControlError::Io`].
    pub fn open(dir: &Path) -> Result<Self, ControlError> {
        let writing = Arc::new(Mutex::new(Database::open(dir)?));
        let reader = Database::open_reader(dir)?;
        let content = reader.load()?;
        let usage = Arc::new(Counters::default());
        usage.restore(reader.load_usage()?, clock::now());
        let (notes, waiting) = mpsc::sync_channel(NOTES_MAX);
        let writer = {
            let (database, usage) = (Arc::clone(&writing), Arc::clone(&usage));
            thread::Builder::new()
                .name("control-notes".to_owned())
                .spawn(move || notes::write(&database, &usage, &waiting))?
        };
        let control = Self {
            writing,
            reading: Mutex::new(reader),
            snapshot: ArcSwap::default(),
            opened: Instant::now(),
            looked: AtomicU64::new(0),
            usage,
            notes: Some(notes),
            writer: Some(writer),
        };
        control.publish(content);
        Ok(control)
    }

    /// Registers a service and makes its first key.
    ///
    /// # Errors
    /// [`ControlError::Invalid`], [`ControlError::IdTaken`], [`ControlError::TooManyServices`].
    pub fn create_service(&self, new: NewService) -> Result<(Service, ApiKeyOnce), ControlError> {
        let now = clock::now();
        let service = new.check(now).map_err(ControlError::Invalid)?;
        let (key, hash) = ApiKeyOnce::generate(service.id.clone(), now, None);
        self.write(|database| database.insert_service(&service, &key.key, hash))?;
        Ok((service, key))
    }

    /// All services, by id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<Arc<Service>>, ControlError> {
        self.refresh()?;
        let mut services: Vec<_> = self.snapshot.load().services.values().cloned().collect();
        services.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(services)
    }

    /// One service.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or when the file cannot be read.
    pub fn get(&self, id: &ServiceId) -> Result<Arc<Service>, ControlError> {
        self.refresh()?;
        self.snapshot.load().services.get(id).cloned().ok_or(ControlError::NotFound)
    }

    /// Lets a service that waits begin; one that is active stays so.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Transition`] for one that was stopped.
    pub fn approve(&self, id: &ServiceId) -> Result<Arc<Service>, ControlError> {
        self.change(id, ServiceStatus::Active, |from| match from {
            ServiceStatus::Pending | ServiceStatus::Active => Ok(()),
            ServiceStatus::Suspended | ServiceStatus::Disabled => Err("activate it instead"),
        })
    }

    /// Stops a service or lets it go on. What is so already stays so.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Transition`] for a service that waits for
    /// [`Control::approve`] and should become active or suspended, and for every service that
    /// should become pending.
    pub fn set_status(
        &self,
        id: &ServiceId,
        to: ServiceStatus,
    ) -> Result<Arc<Service>, ControlError> {
        self.change(id, to, |from| match (from, to) {
            (ServiceStatus::Pending, ServiceStatus::Active | ServiceStatus::Suspended) => {
                Err("it must be approved first")
            }
            (ServiceStatus::Pending, ServiceStatus::Pending) => Ok(()),
            (_, ServiceStatus::Pending) => Err("only new services wait"),
            (_, ServiceStatus::Active | ServiceStatus::Suspended | ServiceStatus::Disabled) => {
                Ok(())
            }
        })
    }

    fn change(
        &self,
        id: &ServiceId,
        to: ServiceStatus,
        allowed: impl FnOnce(ServiceStatus) -> Result<(), &'static str>,
    ) -> Result<Arc<Service>, ControlError> {
        self.write(|database| {
            database.set_status(id, to, |from| {
                allowed(from).map_err(|why| ControlError::Transition { from, to, why })
            })
        })?;
        self.get(id)
    }

    /// Makes another key; the older ones stay.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::TooManyKeys`], [`ControlError::ExpiryInPast`].
    pub fn create_key(
        &self,
        service: &ServiceId,
        expires_at: Option<Time>,
    ) -> Result<ApiKeyOnce, ControlError> {
        let now = clock::now();
        if expires_at.is_some_and(|at| at <= now) {
            return Err(ControlError::ExpiryInPast);
        }
        let (key, hash) = ApiKeyOnce::generate(service.clone(), now, expires_at);
        self.write(|database| database.insert_key(&key.key, hash))?;
        Ok(key)
    }

    /// A service's keys, without their secrets, oldest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or when the file cannot be read.
    pub fn list_keys(&self, service: &ServiceId) -> Result<Vec<ApiKey>, ControlError> {
        // Asked of the file, not of memory: `last_used_at` is not kept up to date there.
        let content = self.reading.lock().load()?;
        if !content.services.contains_key(service) {
            return Err(ControlError::NotFound);
        }
        let mut keys: Vec<ApiKey> = content
            .keys
            .into_values()
            .map(|record| record.key)
            .filter(|key| key.service_id == *service)
            .collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    /// Ends a key at once.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] when the service has no such key.
    pub fn revoke_key(&self, service: &ServiceId, key: &str) -> Result<(), ControlError> {
        self.write(|database| database.delete_key(service, key))
    }

    /// The service that a key belongs to. Does not wait for the disk unless the key is unknown or
    /// the last look at the file is [`REFRESH_INTERVAL`] old, and then for microseconds.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn verify(&self, key: &str) -> Result<Arc<Service>, KeyError> {
        let (id, secret) = key::parse(key).ok_or(KeyError::Bad)?;
        self.refresh_if_due();
        let mut snapshot = self.snapshot.load();
        if !snapshot.keys.contains_key(id) {
            self.refresh().map_err(|error| KeyError::Unavailable(Box::new(error)))?;
            snapshot = self.snapshot.load();
        }
        let entry = snapshot.keys.get(id).ok_or(KeyError::Bad)?;
        if !entry.record.hash.matches(secret) {
            return Err(KeyError::Bad);
        }
        let now = clock::now();
        if entry.record.key.expires_at.is_some_and(|at| at <= now) {
            return Err(KeyError::Bad);
        }
        self.note_use(entry, now);
        match entry.service.status {
            ServiceStatus::Active => Ok(Arc::clone(&entry.service)),
            status @ (ServiceStatus::Pending
            | ServiceStatus::Suspended
            | ServiceStatus::Disabled) => Err(KeyError::Inactive(status)),
        }
    }

    fn note_use(&self, entry: &Entry, now: Time) {
        let now_millis = now.millis().unsigned_abs();
        let noted = entry.noted.load(Ordering::Relaxed);
        let interval = LAST_USED_INTERVAL.as_millis();
        if u128::from(now_millis.saturating_sub(noted)) < interval {
            return;
        }
        let won =
            entry.noted.compare_exchange(noted, now_millis, Ordering::Relaxed, Ordering::Relaxed);
        if let (Ok(_), Some(notes)) = (won, &self.notes) {
            // A full queue means that the disk is slow; a note of use is the first thing to give up.
            let _ = notes.try_send(Note::KeyUsed(entry.record.key.id.clone(), now));
        }
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let done = work(&mut self.writing.lock())?;
        self.refresh()?;
        Ok(done)
    }

    /// Looks at the file if the last look is old. A look that fails, or another thread that is just
    /// looking, leaves what is known in force; the next request looks again.
    fn refresh_if_due(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        if u128::from(now.saturating_sub(looked)) < REFRESH_INTERVAL.as_millis() {
            return;
        }
        if let Some(reader) = self.reading.try_lock() {
            match self.refresh_with(&reader) {
                Ok(()) => self.looked.store(now, Ordering::Relaxed),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "control.db cannot be read; keys are checked against what was last known"
                ),
            }
        }
    }

    fn refresh(&self) -> Result<(), ControlError> {
        self.refresh_with(&self.reading.lock())
    }

    fn refresh_with(&self, reader: &Database) -> Result<(), ControlError> {
        if reader.revision()? != self.snapshot.load().revision {
            self.publish(reader.load()?);
        }
        Ok(())
    }

    fn publish(&self, content: Content) {
        let before = self.snapshot.load();
        let keys = content
            .keys
            .into_iter()
            .filter_map(|(id, record)| {
                let service = Arc::clone(content.services.get(&record.key.service_id)?);
                let noted = match before.keys.get(&id) {
                    Some(entry) => entry.noted.load(Ordering::Relaxed),
                    None => record.key.last_used_at.map_or(0, |at| at.millis().unsigned_abs()),
                };
                Some((id, Entry { record, service, noted: AtomicU64::new(noted) }))
            })
            .collect();
        let Content { revision, services, tenants, .. } = content;
        self.snapshot.store(Arc::new(Snapshot { revision, services, keys, tenants }));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.notes.take());
        if let Some(writer) = self.writer.take() {
            // It has nothing to tell that a drop could act on.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
