//! The file `control.db`.

use std::{
    collections::HashMap, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc,
    time::Duration,
};

use protocol::{ServiceId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    ControlError,
    key::{ApiKey, SecretHash},
    service::{Service, ServiceStatus},
    tenants::QuotaRow,
};
use crate::row::{json, maybe_time, time, word};

/// The file's name in the storage folder.
pub const FILE_NAME: &str = "control.db";

/// Most services: all of them are kept in memory.
pub const SERVICES_MAX: usize = 10_000;

/// Most keys of one service that were not deleted. A rotation needs two.
pub const KEYS_PER_SERVICE_MAX: usize = 20;

/// How long a write waits for another process (the CLI) that is writing, before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The schema's version, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 3;

/// What makes each version of the previous one, from nothing on.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] =
    [include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// One key with what is needed to check it.
pub(super) struct KeyRecord {
    pub(super) key: ApiKey,
    pub(super) hash: SecretHash,
}

/// Everything in the file.
#[derive(Default)]
pub(super) struct Content {
    pub(super) revision: i64,
    pub(super) services: HashMap<ServiceId, Arc<Service>>,
    pub(super) keys: HashMap<String, KeyRecord>,
    pub(super) tenants: HashMap<TenantId, QuotaRow>,
}

pub(super) struct Database {
    pub(super) connection: Connection,
}

impl Database {
    pub(super) fn open(dir: &Path) -> Result<Self, ControlError> {
        let path = dir.join(FILE_NAME);
        // Made here and not by SQLite, so that it is never readable by others, not even for a
        // moment. The -wal and -shm files take the mode over.
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A key or a "disable" that was acknowledged must survive a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let missing = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..));
        let Some(missing) = missing else {
            return Err(ControlError::UnknownVersion { found: version, known: SCHEMA_VERSION });
        };
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        if missing.is_empty() {
            drop(transaction);
        } else {
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        Ok(Self { connection })
    }

    /// A second connection that only reads. In WAL mode it never waits for a writer, in whichever
    /// process.
    pub(super) fn open_reader(dir: &Path) -> Result<Self, ControlError> {
        let connection = Connection::open(dir.join(FILE_NAME))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Self { connection })
    }

    /// A number that changes with every change of services, keys and quotas, by whomever.
    pub(super) fn revision(&self) -> Result<i64, ControlError> {
        let mut statement = self.connection.prepare_cached("SELECT n FROM revision")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Everything, as of one moment.
    pub(super) fn load(&self) -> Result<Content, ControlError> {
        // One read transaction, so that a key is never seen without its service.
        let transaction = self.connection.unchecked_transaction()?;
        let mut content = Content { revision: self.revision()?, ..Content::default() };
        let mut statement = transaction.prepare_cached("SELECT * FROM service")?;
        for service in statement.query_map([], read_service)? {
            let service = service?;
            content.services.insert(service.id.clone(), Arc::new(service));
        }
        let mut statement = transaction.prepare_cached("SELECT * FROM api_key")?;
        for record in statement.query_map([], read_key)? {
            let record = record?;
            content.keys.insert(record.key.id.clone(), record);
        }
        content.tenants = self.load_tenants()?;
        Ok(content)
    }

    pub(super) fn insert_service(
        &mut self,
        service: &Service,
        key: &ApiKey,
        hash: SecretHash,
    ) -> Result<(), ControlError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count: i64 =
            transaction.query_row("SELECT count(*) FROM service", [], |row| row.get(0))?;
        if count >= SERVICES_MAX as i64 {
            return Err(ControlError::TooManyServices);
        }
        let taken = transaction
            .query_row("SELECT 1 FROM service WHERE id = ?1", [service.id.as_str()], |_| Ok(()))
            .optional()?;
        if taken.is_some() {
            return Err(ControlError::IdTaken);
        }
        transaction.execute(
            "INSERT INTO service VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                service.id.as_str(),
                service.name,
                service.kind.as_str(),
                service.level.as_str(),
                to_json(&service.permissions),
                to_json(&service.scope),
                service.rate_limit.as_ref().map(to_json),
                service.owner,
                service.status.as_str(),
                service.tenant_id.as_str(),
                service.created_at.millis(),
            ],
        )?;
        insert_key(&transaction, key, hash)?;
        Ok(transaction.commit()?)
    }

    /// Sets the status if `allowed` says so of the present one.
    pub(super) fn set_status(
        &mut self,
        id: &ServiceId,
        to: ServiceStatus,
        allowed: impl FnOnce(ServiceStatus) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let present = transaction
            .query_row("SELECT status FROM service WHERE id = ?1", [id.as_str()], |row| {
                word(row, "status")
            })
            .optional()?
            .ok_or(ControlError::NotFound)?;
        allowed(present)?;
        transaction.execute(
            "UPDATE service SET status = ?2 WHERE id = ?1",
            params![id.as_str(), to.as_str()],
        )?;
        Ok(transaction.commit()?)
    }

    pub(super) fn insert_key(
        &mut self,
        key: &ApiKey,
        hash: SecretHash,
    ) -> Result<(), ControlError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let service = transaction
            .query_row("SELECT 1 FROM service WHERE id = ?1", [key.service_id.as_str()], |_| Ok(()))
            .optional()?;
        if service.is_none() {
            return Err(ControlError::NotFound);
        }
        let count: i64 = transaction.query_row(
            "SELECT count(*) FROM api_key WHERE service_id = ?1",
            [key.service_id.as_str()],
            |row| row.get(0),
        )?;
        if count >= KEYS_PER_SERVICE_MAX as i64 {
            return Err(ControlError::TooManyKeys);
        }
        insert_key(&transaction, key, hash)?;
        Ok(transaction.commit()?)
    }

    pub(super) fn delete_key(&self, service: &ServiceId, key: &str) -> Result<(), ControlError> {
        let deleted = self.connection.execute(
            "DELETE FROM api_key WHERE id = ?1 AND service_id = ?2",
            params![key, service.as_str()],
        )?;
        if deleted == 0 { Err(ControlError::NotFound) } else { Ok(()) }
    }

    pub(super) fn touch_keys(&mut self, used: &[(String, Time)]) -> Result<(), ControlError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, at) in used {
            transaction.execute(
                "UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?2) WHERE id = ?1",
                params![id, at.millis()],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

fn insert_key(
    connection: &Connection,
    key: &ApiKey,
    hash: SecretHash,
) -> Result<(), rusqlite::Error> {
    connection.execute(
        "INSERT INTO api_key VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
        params![
            key.id,
            key.service_id.as_str(),
            hash.0,
            key.created_at.millis(),
            key.expires_at.map(Time::millis),
        ],
    )?;
    Ok(())
}

fn read_service(row: &Row<'_>) -> rusqlite::Result<Service> {
    Ok(Service {
        id: word::<ServiceId>(row, "id")?,
        name: row.get("name")?,
        kind: word(row, "type")?,
        level: word(row, "level")?,
        permissions: json(row, "permissions")?,
        scope: json(row, "scope")?,
        rate_limit: match row.get::<_, Option<String>>("rate_limit")? {
            Some(_) => Some(json(row, "rate_limit")?),
            None => None,
        },
        owner: row.get("owner")?,
        status: word(row, "status")?,
        tenant_id: word::<TenantId>(row, "tenant_id")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        key: ApiKey {
            id: row.get("id")?,
            service_id: word::<ServiceId>(row, "service_id")?,
            created_at: time(row, "created_at")?,
            expires_at: maybe_time(row, "expires_at")?,
            last_used_at: maybe_time(row, "last_used_at")?,
        },
        hash: SecretHash(row.get("secret_hash")?),
    })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers")
}
