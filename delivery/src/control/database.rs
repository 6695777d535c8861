//! Services and keys in the database.

use std::{collections::HashMap, sync::Arc};

use protocol::{ServiceId, TenantId, Time};

use super::{
    ControlError, LAST_USED_INTERVAL,
    key::{ApiKey, SecretHash},
    service::{Service, ServiceStatus},
    tenants::{QuotaRow, load_tenants},
};
use crate::{
    migration::Migration,
    sql::{Area, Database, Row, Statements, postgres::words, values},
};

/// Services, keys, templates and quotas.
pub(super) static AREA: Area = Area {
    file: &[
        include_str!("schema.sql"),
        include_str!("schema_2.sql"),
        include_str!("schema_3.sql"),
        include_str!("schema_4.sql"),
        include_str!("schema_7.sql"),
    ],
    migrations: &[
        Migration {
            version: 1,
            name: "init",
            sql: include_str!("../../migrations/postgres/control_0001_init.sql"),
        },
        Migration {
            version: 2,
            name: "signing_keys",
            sql: include_str!("../../migrations/postgres/control_0004_signing_keys.sql"),
        },
    ],
    compatible_from: 1,
    words: words!("control", 8103509996789391889),
};

/// Most services: all of them are kept in memory.
pub const SERVICES_MAX: usize = 10_000;

/// Most keys of one service that were not deleted. A rotation needs two.
pub const KEYS_PER_SERVICE_MAX: usize = 20;

/// One key with what is needed to check it.
pub(super) struct KeyRecord {
    pub(super) key: ApiKey,
    pub(super) hash: SecretHash,
}

/// Everything that is kept in memory of services, keys and quotas.
#[derive(Default)]
pub(super) struct Content {
    pub(super) revision: i64,
    pub(super) services: HashMap<ServiceId, Arc<Service>>,
    pub(super) keys: HashMap<String, KeyRecord>,
    pub(super) tenants: HashMap<TenantId, QuotaRow>,
}

/// Numbers that change with every change, by whomever.
#[derive(Clone, Copy)]
pub(super) struct Revisions {
    /// Of services, keys and quotas.
    pub(super) services: i64,
    pub(super) templates: i64,
}

impl Database {
    pub(super) fn revisions(&mut self) -> Result<Revisions, ControlError> {
        let sql = "SELECT r.n, t.n FROM control_revision r, control_template_revision t";
        let mut row = self.glance(sql, &[])?.pop().unwrap_or_default();
        Ok(Revisions { services: row.int()?, templates: row.int()? })
    }

    /// The time by the database's own clock; none where it is a file, and has no other than this machine's.
    pub(super) fn wall_clock(&mut self) -> Result<Option<Time>, ControlError> {
        if matches!(self, Self::Sqlite(_)) {
            return Ok(None);
        }
        let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let mut row = self.glance(sql, &[])?.pop().unwrap_or_default();
        Ok(Some(Time::from_millis(row.int()?)))
    }

    /// Everything, as of one moment, so that a key is never seen without its service.
    pub(super) fn load(&mut self) -> Result<Content, ControlError> {
        self.look(|database| {
            let revision = database.number("SELECT n FROM control_revision", &[])?;
            let mut content = Content { revision, ..Content::default() };
            let sql = "SELECT id, name, type, level, permissions, scope, rate_limit, owner, status, \
                       tenant_id, created_at FROM control_service";
            for row in database.rows(sql, &[])? {
                let service = read_service(row)?;
                content.services.insert(service.id.clone(), Arc::new(service));
            }
            let sql = "SELECT id, service_id, created_at, expires_at, last_used_at, secret_hash \
                       FROM control_api_key";
            for row in database.rows(sql, &[])? {
                let record = read_key(row)?;
                content.keys.insert(record.key.id.clone(), record);
            }
            content.tenants = load_tenants(database)?;
            Ok(content)
        })
    }

    /// A service's keys, oldest first; none where there is no such service.
    pub(super) fn keys_of(
        &mut self,
        service: &ServiceId,
    ) -> Result<Option<Vec<ApiKey>>, ControlError> {
        self.look(|database| {
            if status(database, service)?.is_none() {
                return Ok(None);
            }
            let sql = "SELECT id, service_id, created_at, expires_at, last_used_at, secret_hash \
                       FROM control_api_key WHERE service_id = $1 ORDER BY created_at, id";
            let rows = database.rows(sql, &values![service.as_str()])?;
            rows.into_iter().map(|row| Ok(read_key(row)?.key)).collect::<Result<_, _>>().map(Some)
        })
    }

    pub(super) fn insert_service(
        &mut self,
        service: &Service,
        key: &ApiKey,
        hash: SecretHash,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            let count = database.number("SELECT count(*) FROM control_service", &[])?;
            if count >= SERVICES_MAX as i64 {
                return Err(ControlError::TooManyServices);
            }
            if status(database, &service.id)?.is_some() {
                return Err(ControlError::IdTaken);
            }
            database.execute(
                "INSERT INTO control_service (id, name, type, level, permissions, scope, \
                 rate_limit, owner, status, tenant_id, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                &values![
                    service.id.as_str(),
                    &service.name,
                    service.kind.as_str(),
                    service.level.as_str(),
                    to_json(&service.permissions),
                    to_json(&service.scope),
                    service.rate_limit.as_ref().map(to_json),
                    &service.owner,
                    service.status.as_str(),
                    service.tenant_id.as_str(),
                    service.created_at,
                ],
            )?;
            insert_key(database, key, hash)
        })
    }

    /// Sets the status if `allowed` says so of the present one.
    pub(super) fn set_status(
        &mut self,
        id: &ServiceId,
        to: ServiceStatus,
        allowed: impl FnOnce(ServiceStatus) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            allowed(status(database, id)?.ok_or(ControlError::NotFound)?)?;
            let sql = "UPDATE control_service SET status = $2 WHERE id = $1";
            database.execute(sql, &values![id.as_str(), to.as_str()])?;
            Ok(())
        })
    }

    pub(super) fn insert_key(
        &mut self,
        key: &ApiKey,
        hash: SecretHash,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            if status(database, &key.service_id)?.is_none() {
                return Err(ControlError::NotFound);
            }
            let sql = "SELECT count(*) FROM control_api_key WHERE service_id = $1";
            let count = database.number(sql, &values![key.service_id.as_str()])?;
            if count >= KEYS_PER_SERVICE_MAX as i64 {
                return Err(ControlError::TooManyKeys);
            }
            insert_key(database, key, hash)
        })
    }

    pub(super) fn delete_key(
        &mut self,
        service: &ServiceId,
        key: &str,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            let sql = "DELETE FROM control_api_key WHERE id = $1 AND service_id = $2";
            match database.execute(sql, &values![key, service.as_str()])? {
                0 => Err(ControlError::NotFound),
                _ => Ok(()),
            }
        })
    }

    /// Notes when keys were used, unless somebody has done so of late.
    pub(super) fn touch_keys(&mut self, mut used: Vec<(String, Time)>) -> Result<(), ControlError> {
        // In one order, so that two nodes never wait for each other's rows.
        used.sort_unstable();
        let interval = i64::try_from(LAST_USED_INTERVAL.as_millis()).unwrap_or(i64::MAX);
        let used: Vec<_> = used
            .iter()
            .map(|(id, at)| values![id, *at, at.millis().saturating_sub(interval)].to_vec())
            .collect();
        self.note(|database| {
            Ok(database.execute_each(
                "UPDATE control_api_key SET last_used_at = $2 \
                 WHERE id = $1 AND coalesce(last_used_at, 0) <= $3",
                &used,
            )?)
        })
    }
}

/// A service's status; none where there is no such service.
fn status(
    database: &mut dyn Statements,
    id: &ServiceId,
) -> Result<Option<ServiceStatus>, ControlError> {
    let sql = "SELECT status FROM control_service WHERE id = $1";
    Ok(database.row(sql, &values![id.as_str()])?.map(|mut row| row.word()).transpose()?)
}

fn insert_key(
    database: &mut dyn Statements,
    key: &ApiKey,
    hash: SecretHash,
) -> Result<(), ControlError> {
    database.execute(
        "INSERT INTO control_api_key (id, service_id, secret_hash, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
        &values![&key.id, key.service_id.as_str(), &hash.0, key.created_at, key.expires_at],
    )?;
    Ok(())
}

fn read_service(mut row: Row) -> Result<Service, ControlError> {
    Ok(Service {
        id: row.word::<ServiceId>()?,
        name: row.text()?,
        kind: row.word()?,
        level: row.word()?,
        permissions: row.json()?,
        scope: row.json()?,
        rate_limit: row.maybe_json()?,
        owner: row.text()?,
        status: row.word()?,
        tenant_id: row.word::<TenantId>()?,
        created_at: row.time()?,
    })
}

fn read_key(mut row: Row) -> Result<KeyRecord, ControlError> {
    Ok(KeyRecord {
        key: ApiKey {
            id: row.text()?,
            service_id: row.word::<ServiceId>()?,
            created_at: row.time()?,
            expires_at: row.maybe_time()?,
            last_used_at: row.maybe_time()?,
        },
        hash: SecretHash(row.hash()?),
    })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers")
}
