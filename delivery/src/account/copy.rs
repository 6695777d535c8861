//! Accounts of a folder, brought to the PostgreSQL of nodes with the rest of the control data. Secrets that
//! can be used once are left: they live for minutes.

use crate::sql::copy::{First, Table};

/// Users, identities, sessions, what was revoked, and who is being deleted.
pub(crate) static TABLES: [Table; 5] = [
    Table {
        name: "account_user",
        page: "SELECT tenant_id, user_id, username, email, name, avatar, locale, time_zone, attributes, \
               preferences, created_at, updated_at, preferences_version, preferences_changed \
               FROM account_user \
               WHERE (tenant_id, user_id) > ($1, $2) ORDER BY tenant_id, user_id LIMIT 500",
        insert: "INSERT INTO account_user (tenant_id, user_id, username, email, name, avatar, locale, \
                 time_zone, attributes, preferences, created_at, updated_at, preferences_version, \
                 preferences_changed) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        insert_in_file: None,
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
    Table {
        name: "account_identity",
        page: "SELECT provider, subject, tenant_id, user_id, username, email, linked_at, last_login_at \
               FROM account_identity WHERE (provider, subject) > ($1, $2) \
               ORDER BY provider, subject LIMIT 500",
        insert: "INSERT INTO account_identity (provider, subject, tenant_id, user_id, username, email, \
                 linked_at, last_login_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        insert_in_file: None,
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
    Table {
        name: "account_session",
        page: "SELECT id, tenant_id, user_id, device_id, device_name, provider, address, user_agent, \
               created_at, last_seen_at, expires_at, access_until, refreshed_at, generation, seed \
               FROM account_session WHERE id > $1 ORDER BY id LIMIT 500",
        insert: "INSERT INTO account_session (id, tenant_id, user_id, device_id, device_name, provider, \
                 address, user_agent, created_at, last_seen_at, expires_at, access_until, refreshed_at, \
                 generation, seed) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        insert_in_file: None,
        first: &[First::Text],
        key: &[0],
    },
    Table {
        name: "account_revoked",
        page: "SELECT kind, tenant_id, user_id, value, spared, before, until, changed \
               FROM account_revoked WHERE (kind, tenant_id, user_id, value) > ($1, $2, $3, $4) \
               ORDER BY kind, tenant_id, user_id, value LIMIT 500",
        insert: "INSERT INTO account_revoked (kind, tenant_id, user_id, value, spared, before, until, \
                 changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        insert_in_file: None,
        first: &[First::Text, First::Text, First::Text, First::Text],
        key: &[0, 1, 2, 3],
    },
    Table {
        name: "account_deletion",
        page: "SELECT tenant_id, user_id, requested_at, leased_until FROM account_deletion \
               WHERE (tenant_id, user_id) > ($1, $2) ORDER BY tenant_id, user_id LIMIT 500",
        insert: "INSERT INTO account_deletion (tenant_id, user_id, requested_at, leased_until) \
                 VALUES ($1, $2, $3, $4)",
        insert_in_file: None,
        first: &[First::Text, First::Text],
        key: &[0, 1],
    },
];
