//! Admins of a folder, brought to the PostgreSQL of nodes with the rest of the control data. Their sessions are
//! left: they live for hours.

use crate::sql::copy::{First, Table};

/// Admins.
pub(crate) static TABLES: [Table; 1] = [Table {
    name: "admin_account",
    page: "SELECT id, username, name, role, tenant_id, password, totp_seed, totp_step, recovery, \
           disabled_at, created_at, updated_at, last_login_at FROM admin_account \
           WHERE id > $1 ORDER BY id LIMIT 500",
    insert: "INSERT INTO admin_account (id, username, name, role, tenant_id, password, totp_seed, \
             totp_step, recovery, disabled_at, created_at, updated_at, last_login_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    first: &[First::Text],
    key: &[0],
}];
