//! Admins of a folder, brought to the PostgreSQL of nodes with the rest of the control data. Their sessions are
//! left: they live for hours.

use crate::sql::copy::{First, Table};

/// Admins, and by which logins elsewhere they come.
pub(crate) static TABLES: [Table; 2] = [
    Table {
        name: "admin_account",
        page: "SELECT id, username, name, role, tenant_id, password, totp_seed, totp_step, recovery, \
               disabled_at, created_at, updated_at, last_login_at, email FROM admin_account \
               WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO admin_account (id, username, name, role, tenant_id, password, totp_seed, \
                 totp_step, recovery, disabled_at, created_at, updated_at, last_login_at, email) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "admin_identity",
        page: "SELECT issuer, subject, admin_id, by_claim, linked_at FROM admin_identity \
               WHERE (issuer, subject) > ($1, $2) ORDER BY issuer, subject LIMIT 500",
        insert: "INSERT INTO admin_identity (issuer, subject, admin_id, by_claim, linked_at) \
                 VALUES ($1, $2, $3, $4, $5)",
        insert_in_file: None,
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
];
