//! Services and keys in the database.

use std::{collections::HashMap, sync::Arc};

use protocol::{ServiceId, TenantId, Time};
use rustc_hash::FxHashSet;

use super::{
    ControlError, LAST_USED_INTERVAL,
    key::{ApiKey, SecretHash},
    keys::{KEYS, KeyRecord, insert_key, read_key},
    leaving::load_leaving,
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
        include_str!("schema_5.sql"),
        include_str!("schema_6.sql"),
        include_str!("schema_7.sql"),
        include_str!("schema_8.sql"),
        include_str!("schema_9.sql"),
        include_str!("schema_10.sql"),
        include_str!("schema_11.sql"),
        include_str!("schema_12.sql"),
    ],
    migrations: &[
        Migration {
            version: 1,
            name: "init",
            sql: include_str!("../../migrations/postgres/control_0001_init.sql"),
        },
        Migration {
            version: 2,
            name: "accounts",
            sql: include_str!("../../migrations/postgres/control_0002_accounts.sql"),
        },
        Migration {
            version: 3,
            name: "admins",
            sql: include_str!("../../migrations/postgres/control_0003_admins.sql"),
        },
        Migration {
            version: 4,
            name: "signing_keys",
            sql: include_str!("../../migrations/postgres/control_0004_signing_keys.sql"),
        },
        Migration {
            version: 5,
            name: "audit",
            sql: include_str!("../../migrations/postgres/control_0005_audit.sql"),
        },
        Migration {
            version: 6,
            name: "admin_logins",
            sql: include_str!("../../migrations/postgres/control_0006_admin_logins.sql"),
        },
        Migration {
            version: 7,
            name: "preferences",
            sql: include_str!("../../migrations/postgres/control_0007_preferences.sql"),
        },
        Migration {
            version: 8,
            name: "deletions",
            sql: include_str!("../../migrations/postgres/control_0008_deletions.sql"),
        },
        Migration {
            version: 9,
            name: "settings_tenants",
            sql: include_str!("../../migrations/postgres/control_0009_settings_tenants.sql"),
        },
    ],
    compatible_from: 1,
    words: words!("control", 8103509996789391889),
};

/// Most services: all of them are kept in memory.
pub const SERVICES_MAX: usize = 10_000;

/// Everything that is kept in memory of services, keys and quotas.
#[derive(Default)]
pub(super) struct Content {
    pub(super) revision: i64,
    pub(super) services: HashMap<ServiceId, Arc<Service>>,
    pub(super) keys: HashMap<String, KeyRecord>,
    pub(super) tenants: HashMap<TenantId, QuotaRow>,
    /// Tenants that are being deleted.
    pub(super) leaving: FxHashSet<TenantId>,
}

/// Numbers that change with every change, by whomever.
#[derive(Clone, Copy)]
pub(super) struct Revisions {
    /// Of services, keys and quotas.
    pub(super) services: i64,
    pub(super) templates: i64,
    /// Of what was revoked.
    pub(super) accounts: i64,
    /// The latest version of live settings; 0 for none.
    pub(super) settings: i64,
}

impl Database {
    pub(super) fn revisions(&mut self) -> Result<Revisions, ControlError> {
        let sql = "SELECT r.n, t.n, a.n, (SELECT coalesce(max(version), 0) FROM control_settings) \
                   FROM control_revision r, control_template_revision t, account_revision a";
        let mut row = self.glance(sql, &[])?.pop().unwrap_or_default();
        Ok(Revisions {
            services: row.int()?,
            templates: row.int()?,
            accounts: row.int()?,
            settings: row.int()?,
        })
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
            let sql = "SELECT id, name, type, level, permissions, scope, rate_limit, \
                       allowed_networks, owner, status, tenant_id, created_at FROM control_service";
            for row in database.rows(sql, &[])? {
                let service = read_service(row)?;
                content.services.insert(service.id.clone(), Arc::new(service));
            }
            for row in database.rows(KEYS, &[])? {
                let record = read_key(row)?;
                content.keys.insert(record.key.id.clone(), record);
            }
            content.tenants = load_tenants(database)?;
            content.leaving = load_leaving(database)?;
            Ok(content)
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
                 rate_limit, allowed_networks, owner, status, tenant_id, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                &values![
                    service.id.as_str(),
                    &service.name,
                    service.kind.as_str(),
                    service.level.as_str(),
                    to_json(&service.permissions),
                    to_json(&service.scope),
                    service.rate_limit.as_ref().map(to_json),
                    to_json(&service.allowed_networks),
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

    /// Changes a service if there is one.
    pub(super) fn change_service(
        &mut self,
        id: &ServiceId,
        change: impl FnOnce(&Service) -> Result<Service, ControlError>,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            let sql = "SELECT id, name, type, level, permissions, scope, rate_limit, \
                       allowed_networks, owner, status, tenant_id, created_at \
                       FROM control_service WHERE id = $1";
            let row = database.row(sql, &values![id.as_str()])?.ok_or(ControlError::NotFound)?;
            let service = change(&read_service(row)?)?;
            database.execute(
                "UPDATE control_service SET name = $2, permissions = $3, scope = $4, \
                 allowed_networks = $5, owner = $6 WHERE id = $1",
                &values![
                    id.as_str(),
                    &service.name,
                    to_json(&service.permissions),
                    to_json(&service.scope),
                    to_json(&service.allowed_networks),
                    &service.owner,
                ],
            )?;
            Ok(())
        })
    }

    /// Notes when sessions were last used, and from where.
    pub(super) fn touch_sessions(
        &mut self,
        mut used: Vec<(String, Time, String)>,
    ) -> Result<(), ControlError> {
        used.sort_unstable();
        let interval = crate::clock::millis(LAST_USED_INTERVAL);
        let used: Vec<_> = used
            .iter()
            .map(|(id, at, address)| {
                values![id, *at, address, at.millis().saturating_sub(interval)].to_vec()
            })
            .collect();
        self.note(|database| {
            Ok(database.execute_each(
                "UPDATE account_session SET last_seen_at = $2, address = $3 \
                 WHERE id = $1 AND last_seen_at <= $4",
                &used,
            )?)
        })
    }
}

/// A service's status; none where there is no such service.
pub(super) fn status(
    database: &mut dyn Statements,
    id: &ServiceId,
) -> Result<Option<ServiceStatus>, ControlError> {
    let sql = "SELECT status FROM control_service WHERE id = $1";
    Ok(database.row(sql, &values![id.as_str()])?.map(|mut row| row.word()).transpose()?)
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
        allowed_networks: row.json()?,
        owner: row.text()?,
        status: row.word()?,
        tenant_id: row.word::<TenantId>()?,
        created_at: row.time()?,
    })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers")
}
