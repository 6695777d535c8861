//! Webhooks of a folder, brought to the PostgreSQL of nodes.

use std::path::Path;

use tokio_postgres_rustls::MakeRustlsConnect;

use super::database::{AREA, FILE_NAME};
use crate::sql::copy::{Copy, CopyError, First, Home, Table};

/// How much of them there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookCounts {
    /// Endpoints.
    pub webhooks: u64,
    /// Events that wait for their delivery, or what became of them.
    pub deliveries: u64,
}

// Keys and numbers stay: pages of lists name them.
static TABLES: [Table; 3] = [
    Table {
        name: "webhook_endpoint",
        page: "SELECT key, id, tenant_id, service_id, url, events, description, status, \
               disabled_by, disabled_at, created_at, updated_at, failing_since, \
               last_success_at, last_failure_at, last_failure, dropped, dropped_at, \
               pending, pending_bytes, delivered, failed, changed, news \
               FROM webhook_endpoint WHERE key > $1 ORDER BY key LIMIT 500",
        insert: "INSERT INTO webhook_endpoint (key, id, tenant_id, service_id, url, events, description, status, \
                 disabled_by, disabled_at, created_at, updated_at, failing_since, \
                 last_success_at, last_failure_at, last_failure, dropped, dropped_at, \
                 pending, pending_bytes, delivered, failed, changed, news) \
                 OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                 $16, $17, $18, $19, $20, $21, $22, $23, $24)",
        insert_in_file: Some(
            "INSERT INTO webhook_endpoint (key, id, tenant_id, service_id, url, events, description, status, \
                 disabled_by, disabled_at, created_at, updated_at, failing_since, \
                 last_success_at, last_failure_at, last_failure, dropped, dropped_at, \
                 pending, pending_bytes, delivered, failed, changed, news) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                 $16, $17, $18, $19, $20, $21, $22, $23, $24)",
        ),
        first: &[First::Number],
        key: &[0],
    },
    Table {
        name: "webhook_secret",
        page: "SELECT id, endpoint, key, created_at, expires_at FROM webhook_secret \
               WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO webhook_secret (id, endpoint, key, created_at, expires_at) \
                 OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5)",
        insert_in_file: Some(
            "INSERT INTO webhook_secret (id, endpoint, key, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5)",
        ),
        first: &[First::Number],
        key: &[0],
    },
    Table {
        name: "webhook_delivery",
        // An event has 64 KiB at most.
        page: "SELECT id, endpoint, event, type, at, body, state, waiting_since, attempts, \
               due_at, settled_at, last_at, last_outcome, last_status, last_detail, \
               last_ms \
               FROM webhook_delivery WHERE id > $1 ORDER BY id LIMIT 200",
        insert: "INSERT INTO webhook_delivery (id, endpoint, event, type, at, body, state, waiting_since, attempts, \
                 due_at, settled_at, last_at, last_outcome, last_status, last_detail, \
                 last_ms) \
                 OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                 $16)",
        insert_in_file: Some(
            "INSERT INTO webhook_delivery (id, endpoint, event, type, at, body, state, waiting_since, attempts, \
                 due_at, settled_at, last_at, last_outcome, last_status, last_detail, \
                 last_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                 $16)",
        ),
        first: &[First::Number],
        key: &[0],
    },
];

static COPY: Copy = Copy {
    area: &AREA,
    file: FILE_NAME,
    part: "webhooks",
    tables: &[&TABLES],
    single: &[(
        "SELECT n, forgotten, news FROM webhook_revision",
        "UPDATE webhook_revision SET n = $1, forgotten = $2, news = $3",
    )],
    // Where new ones go on.
    then: &[
        "SELECT setval(pg_get_serial_sequence('webhook_endpoint', 'key'), \
         (SELECT coalesce(max(key), 0) + 1 FROM webhook_endpoint), false)",
        "SELECT setval(pg_get_serial_sequence('webhook_secret', 'id'), \
         (SELECT coalesce(max(id), 0) + 1 FROM webhook_secret), false)",
        "SELECT setval(pg_get_serial_sequence('webhook_delivery', 'id'), \
         (SELECT coalesce(max(id), 0) + 1 FROM webhook_delivery), false)",
    ],
};

/// Brings webhooks of a folder to a database, unless they are there, and compares both.
pub(crate) fn copy(
    dir: &Path,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
) -> Result<WebhookCounts, CopyError> {
    let counts = COPY.run(dir, config, tls)?;
    Ok(WebhookCounts {
        webhooks: counts.of("webhook_endpoint"),
        deliveries: counts.of("webhook_delivery"),
    })
}

/// Copies all of them into a new file.
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
