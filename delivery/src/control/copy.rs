//! Control data of a folder, brought to the PostgreSQL of nodes.

use std::path::Path;

use tokio_postgres_rustls::MakeRustlsConnect;

use super::{FILE_NAME, database::AREA};
use crate::{
    account, admin, audit,
    sql::copy::{Copy, CopyError, First, Home, Table},
};

/// How much of it there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlCounts {
    /// Services.
    pub services: u64,
    /// Their keys.
    pub keys: u64,
    /// Tenants with quotas.
    pub quotas: u64,
    /// Templates.
    pub templates: u64,
    /// Their versions.
    pub versions: u64,
    /// Users as logins know them.
    pub profiles: u64,
    /// Whom providers know as whom.
    pub identities: u64,
    /// Logins.
    pub sessions: u64,
    /// Admins.
    pub admins: u64,
    /// Entries of the audit log.
    pub audit: u64,
}

static TABLES: [Table; 7] = [
    Table {
        name: "control_service",
        page: "SELECT id, name, type, level, permissions, scope, rate_limit, owner, status, tenant_id, \
               created_at, allowed_networks FROM control_service WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_service (id, name, type, level, permissions, scope, rate_limit, \
                 owner, status, tenant_id, created_at, allowed_networks) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_api_key",
        page: "SELECT id, service_id, secret_hash, created_at, expires_at, last_used_at, name, \
               allowed_networks, last_used_from, replaced_by FROM control_api_key \
               WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_api_key (id, service_id, secret_hash, created_at, expires_at, \
                 last_used_at, name, allowed_networks, last_used_from, replaced_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_tenant",
        page: "SELECT id, quotas, updated_at FROM control_tenant WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO control_tenant (id, quotas, updated_at) VALUES ($1, $2, $3)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "control_template",
        page: "SELECT tenant_id, id, version, creator_kind, creator, bytes, deleted_at, changed \
               FROM control_template WHERE (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT 500",
        insert: "INSERT INTO control_template (tenant_id, id, version, creator_kind, creator, bytes, \
                 deleted_at, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        insert_in_file: None,
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
    Table {
        name: "control_template_version",
        // A document may have a mebibyte.
        page: "SELECT tenant_id, id, version, document, saved_by FROM control_template_version \
               WHERE (tenant_id, id, version) > ($1, $2, $3) ORDER BY tenant_id, id, version LIMIT 50",
        insert: "INSERT INTO control_template_version (tenant_id, id, version, document, saved_by) \
                 VALUES ($1, $2, $3, $4, $5)",
        insert_in_file: None,
        first: &[First::Text, First::Text, First::Number],
        key: &[0, 1, 2],
    },
    Table {
        name: "control_tenant_usage",
        page: "SELECT day, tenant_id, node, messages, recipients FROM control_tenant_usage \
               WHERE (day, tenant_id, node) > ($1, $2, $3) ORDER BY day, tenant_id, node LIMIT 500",
        insert: "INSERT INTO control_tenant_usage (day, tenant_id, node, messages, recipients) \
                 VALUES ($1, $2, $3, $4, $5)",
        insert_in_file: None,
        first: &[First::Number, First::Text, First::Text],
        key: &[0, 1, 2],
    },
    Table {
        // Sealed with a key made of JWT_SECRET: they sign on where that is the same.
        name: "control_signing_key",
        page: "SELECT kid, algorithm, public, sealed, created_at, signs_from, ends_at \
               FROM control_signing_key WHERE kid > $1 ORDER BY kid LIMIT 500",
        insert: "INSERT INTO control_signing_key (kid, algorithm, public, sealed, created_at, \
                 signs_from, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
];

static COPY: Copy = Copy {
    area: &AREA,
    file: FILE_NAME,
    part: "control data",
    tables: &[&TABLES, &account::TABLES, &admin::TABLES, &audit::TABLES],
    // Templates, and what was revoked, name the revision of their last change.
    single: &[
        (
            "SELECT n, forgotten FROM control_template_revision",
            "UPDATE control_template_revision SET n = $1, forgotten = $2",
        ),
        ("SELECT n FROM account_revision", "UPDATE account_revision SET n = $1"),
    ],
    then: &[],
};

/// Brings control data of a folder to a database, unless it is there, and compares both.
pub(crate) fn copy(
    dir: &Path,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
) -> Result<ControlCounts, CopyError> {
    let counts = COPY.run(dir, config, tls)?;
    Ok(ControlCounts {
        services: counts.of("control_service"),
        keys: counts.of("control_api_key"),
        quotas: counts.of("control_tenant"),
        templates: counts.of("control_template"),
        versions: counts.of("control_template_version"),
        profiles: counts.of("account_user"),
        identities: counts.of("account_identity"),
        sessions: counts.of("account_session"),
        admins: counts.of("admin_account"),
        audit: counts.of("audit_entry"),
    })
}

/// Copies control data into a new file, as of one moment.
pub(crate) fn copy_out(home: Home<'_>, to: &Path) -> Result<(), CopyError> {
    COPY.out(home, to)
}

/// Brings such a file to a database that has none.
pub(crate) fn copy_in(
    dir: &Path,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
) -> Result<(), CopyError> {
    COPY.fill_empty(dir, config, tls)
}
