//! Services and their keys, templates, and what tenants may use: in `control.db`, or, where there are
//! several nodes, in their PostgreSQL.
//!
//! Others change them too: the command line, which runs as another process, and other nodes. Services,
//! keys and quotas are kept in memory; a thread asks the database once a second whether somebody has
//! changed something (one row), and whoever shows a key that is not known asks at once. So a change made
//! anywhere bites within a second, and a new key works at once. (SQLite's `PRAGMA data_version` would
//! tell the same, but also changes with every note of a key's last use.) While the database cannot
//! be read, what was last known stays in force.
//!
//! Every function here may wait for the database, except [`Control::verify_aside`], [`Control::known`],
//! [`Control::quotas`], [`Control::spend`] and [`Control::give_back`], which look into memory.

mod copy;
mod database;
mod error;
mod key;
mod keys;
mod leaving;
mod metrics;
mod notes;
mod service;
mod settings;
mod shared;
mod signing;
mod template;
mod templates;
mod tenant;
mod tenants;
mod usage;
mod verify;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use ::metrics::Recorder;
use protocol::{ServiceId, Time};
use tokio::sync::Semaphore;

use crate::{
    clock::{SharedClock, WallClock},
    migration::{Migrated, Tables},
    sql::{Database, Tls, postgres, sqlite},
};

pub use copy::ControlCounts;
pub(crate) use copy::{copy, copy_in, copy_out};
pub use database::SERVICES_MAX;
pub use error::{ControlError, KeyError};
pub use key::{
    ApiKey, ApiKeyOnce, KEY_OVERLAP, KEY_OVERLAP_MAX, KeyChanges, NewKey, PREFIX as KEY_PREFIX,
    Rotation,
};
pub use keys::KEYS_PER_SERVICE_MAX;
pub use metrics::ALL as METRICS;
pub use service::{
    LIST_MAX, Level, NewService, ON_BEHALF_OF, PERMISSIONS, RateLimit, Scope, Service,
    ServiceChanges, ServiceStatus, ServiceType, TEXT_BYTES_MAX,
};
pub use settings::{
    LiveTexts, NewSettings, SETTINGS_VERSIONS_MAX, SettingChange, SettingsVersion, changes,
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

use database::AREA;
use metrics::ControlMetrics;
use notes::{NOTES_MAX, Note};
use shared::Shared;
pub(crate) use shared::TURN_MAX;
pub use signing::SIGNING_KEYS_MAX;
pub(crate) use signing::SigningKeyRow;
pub(crate) use templates::disown_templates;
use verify::ASIDE_MAX;

/// The file's name in the storage folder.
pub const FILE_NAME: &str = "control.db";

/// How long a change of another process or node may go unnoticed.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How exact [`ApiKey::last_used_at`] is: at most one write per key in this time.
pub const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);

/// Services, keys, templates and quotas. Cheap to ask, shared by everything in the process.
pub struct Control {
    shared: Arc<Shared>,
    /// Those who wait for the database where they must not hold a thread.
    asides: Arc<Semaphore>,
    /// Ends the writer when it is dropped.
    notes: Option<mpsc::SyncSender<Note>>,
    /// Ends the looks when it is dropped.
    until: Option<mpsc::Sender<()>>,
    /// The writer, and who looks.
    threads: Vec<thread::JoinHandle<()>>,
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
        let path = dir.join(FILE_NAME);
        let writing = sqlite::Connection::open(&path, &AREA)?;
        let reading = sqlite::Connection::open_reader(&path)?;
        // One process counts, and goes on with what it had counted.
        let node = String::new();
        let clock = SharedClock::default();
        Self::start(Database::Sqlite(writing), Database::Sqlite(reading), node, clock)
    }

    /// Opens the control data of nodes that share a PostgreSQL, making or upgrading its tables. A node
    /// has two connections for it, one that reads and one that writes.
    ///
    /// # Errors
    /// [`ControlError::UnknownVersion`], [`ControlError::MigrationChanged`], or when the database cannot
    /// be used.
    ///
    /// `clock` follows the database's from here on, and is what all of the node should go by.
    pub fn open_postgres(
        config: tokio_postgres::Config,
        tls: impl Tls,
        clock: SharedClock,
    ) -> Result<Self, ControlError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, config, tls)?);
        let mut writing = postgres::Connection::new(&server, &AREA);
        postgres::migrate(&mut writing)?;
        let reading = postgres::Connection::new(&server, &AREA);
        // Not the node's configured name: two nodes that were given the same would count as one.
        let node = uuid::Uuid::now_v7().simple().to_string();
        Self::start(Database::Postgres(writing), Database::Postgres(reading), node, clock)
    }

    /// Makes or upgrades the tables of control data in a PostgreSQL, and nothing else.
    ///
    /// # Errors
    /// As [`Control::open_postgres`].
    pub fn migrate_postgres(
        config: tokio_postgres::Config,
        tls: impl Tls,
    ) -> Result<Migrated, ControlError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, config, tls)?);
        Ok(postgres::migrate(&mut postgres::Connection::new(&server, &AREA))?)
    }

    /// How the tables of control data stand in a PostgreSQL; changes nothing. Waits for the database.
    ///
    /// # Errors
    /// As [`Control::open_postgres`].
    pub fn examine_postgres(
        config: tokio_postgres::Config,
        tls: impl Tls,
    ) -> Result<Tables, ControlError> {
        let server = Arc::new(postgres::Server::new(AREA.words.name, config, tls)?);
        Ok(postgres::look(&mut postgres::Connection::new(&server, &AREA))?)
    }

    fn start(
        writing: Database,
        reading: Database,
        node: String,
        clock: SharedClock,
    ) -> Result<Self, ControlError> {
        let shared = Arc::new(Shared::new(writing, reading, node, clock)?);
        let (notes, waiting) = mpsc::sync_channel(NOTES_MAX);
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("control-notes".to_owned())
            .spawn(move || notes::write(&of_writer, &waiting))?;
        let (until, ended) = mpsc::channel();
        let of_looks = Arc::clone(&shared);
        let looks = thread::Builder::new()
            .name("control-looks".to_owned())
            .spawn(move || shared::keep_looking(&of_looks, &ended))?;
        Ok(Self {
            shared,
            asides: Arc::new(Semaphore::new(ASIDE_MAX)),
            notes: Some(notes),
            until: Some(until),
            threads: vec![writer, looks],
        })
    }

    /// What time it is for whoever shares this control data.
    #[must_use]
    pub fn clock(&self) -> &WallClock {
        &self.shared.clock
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn Recorder) {
        self.shared.metrics.get_or_init(|| ControlMetrics::new(recorder));
    }

    /// Calls `again` after each look for changes, on the thread that looks, until it answers that it
    /// need not be called any more.
    pub fn after_looks(&self, again: impl Fn() -> bool + Send + 'static) {
        self.shared.after_looks.lock().push(Box::new(again));
    }

    /// What [`TemplateChanges::revision`] was at the last look.
    pub(crate) fn templates_revision(&self) -> i64 {
        self.shared.templates.load(Ordering::Acquire)
    }

    /// The revision of what was revoked and of what users prefer, at the last look.
    pub(crate) fn accounts_revision(&self) -> i64 {
        self.shared.accounts.load(Ordering::Acquire)
    }

    /// Looks whether something has changed, unless somebody began to look after this was called.
    pub(crate) fn refresh(&self) -> Result<(), ControlError> {
        self.shared.refresh()
    }

    /// Reads.
    pub(crate) fn read<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, E>,
    ) -> Result<T, E> {
        work(&mut self.shared.reading()?.database)
    }

    /// Changes something that nodes look for, and sees it.
    pub(crate) fn write<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, E>,
    ) -> Result<T, E> {
        self.shared.write(work)
    }

    /// Changes something that nobody looks for.
    pub(crate) fn write_beside<T, E: From<ControlError>>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, E>,
    ) -> Result<T, E> {
        work(&mut *self.shared.writing()?)
    }

    /// A session was used, from there: has it written down when there is time.
    pub(crate) fn note_session(&self, session: String, address: String) {
        if !self.note(Note::SessionUsed(session, self.clock().now(), address)) {
            // The database is slow; the next use makes another one.
            if let Some(metrics) = self.shared.metrics.get() {
                metrics.notes_dropped.increment(1);
            }
        }
    }

    /// Somebody has waited for too long. Counted.
    pub(crate) fn busy(&self) -> ControlError {
        self.shared.busy()
    }

    /// Has something written down when there is time; false if too much waits for that.
    fn note(&self, note: Note) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.try_send(note).is_ok())
    }

    /// Registers a service and makes its first key.
    ///
    /// # Errors
    /// [`ControlError::Invalid`], [`ControlError::IdTaken`], [`ControlError::TooManyServices`].
    pub fn create_service(&self, new: NewService) -> Result<(Service, ApiKeyOnce), ControlError> {
        let now = self.clock().now();
        let service = new.check(now).map_err(ControlError::Invalid)?;
        let (key, hash) = ApiKeyOnce::generate(service.id.clone(), now);
        self.shared.write(|database| database.insert_service(&service, &key.key, hash))?;
        Ok((service, key))
    }

    /// All services, by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self) -> Result<Vec<Arc<Service>>, ControlError> {
        self.shared.refresh()?;
        let mut services: Vec<_> = self.shared.snapshot.load().services.values().cloned().collect();
        services.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(services)
    }

    /// One service.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or when the database cannot be read.
    pub fn get(&self, id: &ServiceId) -> Result<Arc<Service>, ControlError> {
        self.shared.refresh()?;
        self.known(id).ok_or(ControlError::NotFound)
    }

    /// One service as it was at the last look. From memory.
    #[must_use]
    pub fn known(&self, id: &ServiceId) -> Option<Arc<Service>> {
        self.shared.snapshot.load().services.get(id).cloned()
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
        self.shared.write(|database| {
            database.set_status(id, to, |from| {
                allowed(from).map_err(|why| ControlError::Transition { from, to, why })
            })
        })?;
        self.get(id)
    }

    /// Changes what is said of a service; its status has calls of its own.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`].
    pub fn update_service(
        &self,
        id: &ServiceId,
        changes: ServiceChanges,
    ) -> Result<Arc<Service>, ControlError> {
        self.shared.write(|database| {
            database
                .change_service(id, |service| changes.apply(service).map_err(ControlError::Invalid))
        })?;
        self.get(id)
    }

    /// Makes another key; the older ones stay.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`], [`ControlError::TooManyKeys`],
    /// [`ControlError::ExpiryInPast`].
    pub fn create_key(&self, service: &ServiceId, new: NewKey) -> Result<ApiKeyOnce, ControlError> {
        let now = self.clock().now();
        let allowed_networks = new.check().map_err(ControlError::Invalid)?;
        ahead(new.expires_at, now)?;
        let (mut key, hash) = ApiKeyOnce::generate(service.clone(), now);
        let NewKey { name, expires_at, .. } = new;
        key.key = ApiKey { name, expires_at, allowed_networks, ..key.key };
        self.shared.write(|database| database.insert_key(&key.key, hash))?;
        Ok(key)
    }

    /// Makes a key that takes the place of `only`, or of all that live: those end after the overlap. It is
    /// called as the old one (the newest of them), and may be used from where that one may.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::KeyReplaced`], [`ControlError::KeyExpired`],
    /// [`ControlError::TooManyKeys`], [`ControlError::ExpiryInPast`].
    pub fn rotate_keys(
        &self,
        service: &ServiceId,
        only: Option<&str>,
        rotation: Rotation,
    ) -> Result<ApiKeyOnce, ControlError> {
        let now = self.clock().now();
        ahead(rotation.expires_at, now)?;
        self.shared.write(|database| database.rotate_keys(service, only, rotation, now))
    }

    /// Changes what a key is called and from where it may be used.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Invalid`].
    pub fn update_key(
        &self,
        service: &ServiceId,
        key: &str,
        changes: KeyChanges,
    ) -> Result<ApiKey, ControlError> {
        self.shared.write(|database| {
            database
                .change_key(service, key, |key| changes.apply(key).map_err(ControlError::Invalid))
        })
    }

    /// A service's keys, without their secrets, oldest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or when the database cannot be read.
    pub fn list_keys(&self, service: &ServiceId) -> Result<Vec<ApiKey>, ControlError> {
        // Not from memory: `last_used_at` is not kept up to date there.
        let keys = self.shared.reading()?.database.keys_of(service)?;
        keys.ok_or(ControlError::NotFound)
    }

    /// Ends a key at once.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] when the service has no such key.
    pub fn revoke_key(&self, service: &ServiceId, key: &str) -> Result<(), ControlError> {
        if !storable(key) {
            return Err(ControlError::NotFound);
        }
        self.shared.write(|database| database.delete_key(service, key))
    }
}

fn ahead(expires_at: Option<Time>, now: Time) -> Result<(), ControlError> {
    match expires_at {
        Some(at) if at <= now => Err(ControlError::ExpiryInPast),
        Some(_) | None => Ok(()),
    }
}

/// Whether a text can be in a database at all: PostgreSQL has no zero byte in one.
fn storable(text: &str) -> bool {
    !text.contains('\0')
}

impl Drop for Control {
    /// Waits until what was counted is written, and nobody uses the database any more.
    fn drop(&mut self) {
        drop((self.notes.take(), self.until.take()));
        for thread in self.threads.drain(..) {
            // What is called after a look may be the last to hold this.
            if thread.thread().id() != thread::current().id() {
                // It has nothing to tell that a drop could act on.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
