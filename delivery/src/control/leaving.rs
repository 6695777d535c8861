//! Tenants that are being deleted: what the control data has of them, and the wall before it until all is gone.

use protocol::TenantId;
use rustc_hash::FxHashSet;

use super::{Control, ControlError};
use crate::{
    account::TAKEN_UP_AFTER,
    clock::after,
    sql::{Row, Statements, values},
};

/// All that names a tenant, but for the audit log. What hangs on another row goes before it.
const ROWS: [&str; 15] = [
    "DELETE FROM control_api_key WHERE service_id IN \
     (SELECT id FROM control_service WHERE tenant_id = $1)",
    "DELETE FROM control_service WHERE tenant_id = $1",
    "DELETE FROM control_template_version WHERE tenant_id = $1",
    "DELETE FROM control_template WHERE tenant_id = $1",
    "DELETE FROM control_tenant_usage WHERE tenant_id = $1",
    "DELETE FROM control_tenant WHERE id = $1",
    "DELETE FROM admin_session WHERE admin_id IN (SELECT id FROM admin_account WHERE tenant_id = $1)",
    "DELETE FROM admin_identity WHERE admin_id IN (SELECT id FROM admin_account WHERE tenant_id = $1)",
    "DELETE FROM admin_account WHERE tenant_id = $1",
    "DELETE FROM account_session WHERE tenant_id = $1",
    "DELETE FROM account_identity WHERE tenant_id = $1",
    "DELETE FROM account_user WHERE tenant_id = $1",
    "DELETE FROM account_revoked WHERE tenant_id = $1",
    "DELETE FROM account_deletion WHERE tenant_id = $1",
    "DELETE FROM control_tenant_deletion WHERE tenant_id = $1",
];

impl Control {
    /// From now on nobody of a tenant comes in, on no node that has looked since: no user, service or admin.
    /// Whoever asks is at the deletion from now on. Answers how many services there were.
    pub(crate) fn begin_tenant_deletion(&self, tenant: &TenantId) -> Result<u64, ControlError> {
        let now = self.clock().now();
        self.write(|database| {
            database.change(|database| {
                let whose = values![tenant.as_str()];
                let sql = "UPDATE control_service SET status = 'disabled' WHERE tenant_id = $1";
                let services = database.execute(sql, &whose)?;
                let sql = "UPDATE admin_account SET disabled_at = coalesce(disabled_at, $2) \
                           WHERE tenant_id = $1";
                database.execute(sql, &values![tenant.as_str(), now])?;
                database.execute(
                    "INSERT INTO control_tenant_deletion (tenant_id, requested_at, leased_until) \
                     VALUES ($1, $2, $3) ON CONFLICT (tenant_id) \
                     DO UPDATE SET leased_until = excluded.leased_until",
                    &values![tenant.as_str(), now, after(now, TAKEN_UP_AFTER)],
                )?;
                database.execute("UPDATE control_revision SET n = n + 1", &[])?;
                Ok::<_, ControlError>(services)
            })
        })
    }

    /// Whoever is at it goes on, and nobody else need.
    pub(crate) fn renew_tenant_deletion(&self, tenant: &TenantId) -> Result<(), ControlError> {
        let until = after(self.clock().now(), TAKEN_UP_AFTER);
        self.write_beside(|database| {
            database.note(|database| {
                let sql =
                    "UPDATE control_tenant_deletion SET leased_until = $2 WHERE tenant_id = $1";
                database.execute(sql, &values![tenant.as_str(), until])?;
                Ok(())
            })
        })
    }

    /// Everything else is gone: so are the rows of control data, and the one that says that it was to go.
    pub(crate) fn end_tenant_deletion(&self, tenant: &TenantId) -> Result<(), ControlError> {
        self.write(|database| {
            database.change(|database| {
                // Whoever follows templates by their revision is to read all of them anew.
                let sql = "UPDATE control_template_revision SET n = n + 1, forgotten = n + 1";
                database.execute(sql, &[])?;
                for sql in ROWS {
                    database.execute(sql, &values![tenant.as_str()])?;
                }
                database.execute("UPDATE control_revision SET n = n + 1", &[])?;
                Ok::<_, ControlError>(())
            })?;
            Ok::<_, ControlError>(database.scrub()?)
        })?;
        self.shared.usage.forget(tenant);
        Ok(())
    }

    /// Tenants whose deletion nobody is at; whoever asks is from now on.
    pub(crate) fn take_up_tenant_deletions(&self) -> Result<Vec<TenantId>, ControlError> {
        // From memory: there are none, nearly always.
        if self.shared.snapshot.load().leaving.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock().now();
        self.write_beside(|database| {
            database.note(|database| {
                let sql = "UPDATE control_tenant_deletion SET leased_until = $2 \
                           WHERE leased_until < $1 RETURNING tenant_id";
                let rows = database.rows(sql, &values![now, after(now, TAKEN_UP_AFTER)])?;
                rows.into_iter().map(|mut row: Row| Ok(row.word()?)).collect()
            })
        })
    }

    /// Whether a tenant is being deleted, as of the last look. From memory.
    #[must_use]
    pub fn is_leaving(&self, tenant: &TenantId) -> bool {
        let snapshot = self.shared.snapshot.load();
        !snapshot.leaving.is_empty() && snapshot.leaving.contains(tenant)
    }
}

pub(super) fn load_leaving(
    database: &mut dyn Statements,
) -> Result<FxHashSet<TenantId>, ControlError> {
    let rows = database.rows("SELECT tenant_id FROM control_tenant_deletion", &[])?;
    rows.into_iter().map(|mut row: Row| Ok(row.word()?)).collect()
}
