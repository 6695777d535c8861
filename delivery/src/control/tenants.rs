//! Tenants in `control.db`: their quotas, and what they used today.

use std::collections::HashMap;

use protocol::{TenantId, Time};
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::{
    Control, ControlError, QuotaReached, Quotas, Spent, TENANTS_MAX, Tenant,
    database::{Database, to_json},
    notes::Note,
    usage::UsageRow,
};
use crate::clock;
use crate::row::{json, word};

/// Quotas as they stand in the file.
#[derive(Clone, Debug)]
pub(super) struct QuotaRow {
    pub(super) quotas: Quotas,
    pub(super) updated_at: Time,
}

impl Control {
    /// What a tenant may use; nothing is limited for one that has no quotas. From memory.
    #[must_use]
    pub fn quotas(&self, tenant: &TenantId) -> Quotas {
        self.refresh_if_due();
        self.snapshot.load().tenants.get(tenant).map(|row| row.quotas).unwrap_or_default()
    }

    /// Uses one message with so many recipients of today's quotas. Only in memory: what is used is
    /// written down later, at most [`super::USAGE_FLUSH_INTERVAL`] of it is forgotten by a crash,
    /// and each node counts for itself.
    ///
    /// # Errors
    /// [`QuotaReached`]; nothing is used then.
    pub fn spend(&self, tenant: &TenantId, recipients: u64) -> Result<Spent, QuotaReached> {
        self.refresh_if_due();
        let snapshot = self.snapshot.load();
        let quotas = snapshot.tenants.get(tenant).map(|row| &row.quotas);
        let spent = self.usage.spend(tenant, quotas, recipients, clock::now())?;
        self.tell_usage();
        Ok(spent)
    }

    /// Gives back what a message had used that was not stored.
    pub fn give_back(&self, tenant: &TenantId, spent: Spent) {
        self.usage.give_back(tenant, spent);
        self.tell_usage();
    }

    /// Tenants with quotas and those that used something today, by id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tenants(&self) -> Result<Vec<Tenant>, ControlError> {
        self.refresh()?;
        let now = clock::now();
        let mut ids = self.usage.tenants(now);
        ids.extend(self.snapshot.load().tenants.keys().cloned());
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into_iter().map(|id| self.tenant_now(id, now)).collect())
    }

    /// One tenant. There is none that is not there: a tenant is a name in tokens and services.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tenant(&self, id: &TenantId) -> Result<Tenant, ControlError> {
        self.refresh()?;
        Ok(self.tenant_now(id.clone(), clock::now()))
    }

    /// Replaces a tenant's quotas.
    ///
    /// # Errors
    /// [`ControlError::TooManyTenants`], or when the file cannot be written.
    pub fn set_quotas(&self, id: &TenantId, quotas: Quotas) -> Result<Tenant, ControlError> {
        self.write(|database| database.save_quotas(id, &quotas, clock::now()))?;
        self.tenant(id)
    }

    fn tenant_now(&self, tenant_id: TenantId, now: Time) -> Tenant {
        let snapshot = self.snapshot.load();
        let row = snapshot.tenants.get(&tenant_id);
        Tenant {
            quotas: row.map(|row| row.quotas).unwrap_or_default(),
            updated_at: row.map(|row| row.updated_at),
            usage: self.usage.usage(&tenant_id, now),
            tenant_id,
        }
    }

    fn tell_usage(&self) {
        if let Some(notes) = &self.notes
            && self.usage.tell()
            && notes.try_send(Note::UsageChanged).is_err()
        {
            // The queue is full: whoever counts next tells it again.
            self.usage.untold();
        }
    }
}

impl Database {
    pub(super) fn load_tenants(&self) -> Result<HashMap<TenantId, QuotaRow>, ControlError> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM tenant")?;
        let rows = statement.query_map([], |row| {
            let updated_at = Time::from_millis(row.get("updated_at")?);
            Ok((word(row, "id")?, QuotaRow { quotas: json(row, "quotas")?, updated_at }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn load_usage(&self) -> Result<Vec<UsageRow>, ControlError> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM tenant_usage")?;
        let rows = statement.query_map([], |row| {
            Ok(UsageRow {
                tenant: word(row, "tenant_id")?,
                day: row.get("day")?,
                messages: row.get::<_, i64>("messages")?.unsigned_abs(),
                recipients: row.get::<_, i64>("recipients")?.unsigned_abs(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn save_quotas(
        &mut self,
        id: &TenantId,
        quotas: &Quotas,
        now: Time,
    ) -> Result<(), ControlError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = transaction
            .query_row("SELECT 1 FROM tenant WHERE id = ?1", [id.as_str()], |_| Ok(()))
            .optional()?;
        let count: i64 =
            transaction.query_row("SELECT count(*) FROM tenant", [], |row| row.get(0))?;
        if known.is_none() && count >= TENANTS_MAX as i64 {
            return Err(ControlError::TooManyTenants);
        }
        transaction.execute(
            "INSERT OR REPLACE INTO tenant VALUES (?1, ?2, ?3)",
            params![id.as_str(), to_json(quotas), now.millis()],
        )?;
        Ok(transaction.commit()?)
    }

    pub(super) fn save_usage(&mut self, rows: &[UsageRow]) -> Result<(), ControlError> {
        let Some(day) = rows.iter().map(|row| row.day).max() else { return Ok(()) };
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM tenant_usage WHERE day < ?1", [day])?;
        for row in rows {
            transaction.execute(
                "INSERT OR REPLACE INTO tenant_usage VALUES (?1, ?2, ?3, ?4)",
                params![
                    row.tenant.as_str(),
                    row.day,
                    i64::try_from(row.messages).unwrap_or(i64::MAX),
                    i64::try_from(row.recipients).unwrap_or(i64::MAX),
                ],
            )?;
        }
        Ok(transaction.commit()?)
    }
}
