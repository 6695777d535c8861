//! Tenants in the database: their quotas, and what they used today.

use std::collections::{BTreeMap, HashMap};

use protocol::{TenantId, Time};

use super::{
    Control, ControlError, QuotaReached, Quotas, Spent, TENANTS_COUNTED_MAX, TENANTS_MAX, Tenant,
    database::to_json, notes::Note, usage::UsageRow,
};
use crate::{
    sql::{Database, Row, Statements, values},
    store::{Retention, TenantRetention},
};

/// Most tenants whose use is read: as many as can be counted. The rest is not shown.
const ROWS_MAX: usize = TENANTS_COUNTED_MAX + TENANTS_MAX;

/// Most that is written down as used by one node, so that a sum over 32,768 nodes can still be told.
const USED_MAX: u64 = 1 << 48;

/// Whose use is asked for.
#[derive(Clone, Copy)]
pub(super) enum Tenants {
    All,
    WithQuotas,
}

/// What others have used, summed. PostgreSQL adds up to a type of its own, hence the casts.
macro_rules! others {
    ($which:literal) => {
        concat!(
            "SELECT tenant_id, CAST(sum(messages) AS bigint), CAST(sum(recipients) AS bigint) \
             FROM control_tenant_usage WHERE day = $1 AND node <> $2 ",
            $which,
            " GROUP BY tenant_id LIMIT $3"
        )
    };
}

/// Quotas as they stand in the database.
#[derive(Clone, Debug)]
pub(super) struct QuotaRow {
    pub(super) quotas: Quotas,
    pub(super) updated_at: Time,
}

impl Control {
    /// What a tenant may use; nothing is limited for one that has no quotas. From memory.
    #[must_use]
    pub fn quotas(&self, tenant: &TenantId) -> Quotas {
        self.shared.snapshot.load().tenants.get(tenant).map(|row| row.quotas).unwrap_or_default()
    }

    /// What a tenant's inboxes keep.
    #[must_use]
    pub fn retention_of(&self, tenant: &TenantId) -> Retention {
        self.quotas(tenant).retention()
    }

    /// Uses one message with so many recipients of today's quotas. Only in memory: what is used is
    /// written down later, and at most [`super::USAGE_FLUSH_INTERVAL`] of it is forgotten by a crash.
    ///
    /// What other nodes have used is known here as long after it was used: they write it down every
    /// [`super::USAGE_FLUSH_INTERVAL`], and it is looked for every [`super::REFRESH_INTERVAL`]. So of
    /// `n` nodes each may let through, once a day, what it accepts in the sum of both (3 s): with
    /// one node a quota is exact, with `n` it is overrun by at most what `n - 1` of them accept in 3 s.
    ///
    /// # Errors
    /// [`QuotaReached`]; nothing is used then.
    pub fn spend(&self, tenant: &TenantId, recipients: u64) -> Result<Spent, QuotaReached> {
        let snapshot = self.shared.snapshot.load();
        let quotas = snapshot.tenants.get(tenant).map(|row| &row.quotas);
        let spent = self.shared.usage.spend(tenant, quotas, recipients, self.clock().now())?;
        self.tell_usage();
        Ok(spent)
    }

    /// Gives back what a message had used that was not stored.
    pub fn give_back(&self, tenant: &TenantId, spent: Spent) {
        self.shared.usage.give_back(tenant, spent);
        self.tell_usage();
    }

    /// Tenants with quotas and those that used something today, by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tenants(&self) -> Result<Vec<Tenant>, ControlError> {
        let now = self.look_at_usage()?;
        let mut ids = self.shared.usage.tenants(now);
        ids.extend(self.shared.snapshot.load().tenants.keys().cloned());
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into_iter().map(|id| self.tenant_now(id, now)).collect())
    }

    /// One tenant. There is none that is not there: a tenant is a name in tokens and services.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tenant(&self, id: &TenantId) -> Result<Tenant, ControlError> {
        let now = self.look_at_usage()?;
        Ok(self.tenant_now(id.clone(), now))
    }

    /// Replaces a tenant's quotas.
    ///
    /// # Errors
    /// [`ControlError::TooManyTenants`], or when the database cannot be written.
    pub fn set_quotas(&self, id: &TenantId, quotas: Quotas) -> Result<Tenant, ControlError> {
        let now = self.clock().now();
        self.shared.write(|database| database.save_quotas(id, &quotas, now))?;
        self.tenant(id)
    }

    /// Brings quotas, and what all nodes have written down of what was used, up to date.
    fn look_at_usage(&self) -> Result<Time, ControlError> {
        self.shared.refresh()?;
        let now = self.clock().now();
        self.shared.learn_usage(&mut *self.shared.reading()?, now, Tenants::All)?;
        Ok(now)
    }

    fn tenant_now(&self, tenant_id: TenantId, now: Time) -> Tenant {
        let snapshot = self.shared.snapshot.load();
        let row = snapshot.tenants.get(&tenant_id);
        Tenant {
            quotas: row.map(|row| row.quotas).unwrap_or_default(),
            updated_at: row.map(|row| row.updated_at),
            usage: self.shared.usage.usage(&tenant_id, now),
            tenant_id,
        }
    }

    fn tell_usage(&self) {
        if self.shared.usage.tell() && !self.note(Note::UsageChanged) {
            // The queue is full: whoever counts next tells it again.
            self.shared.usage.untold();
        }
    }
}

impl TenantRetention for Control {
    fn retentions(&self) -> BTreeMap<TenantId, Retention> {
        let snapshot = self.shared.snapshot.load();
        let tenants = snapshot.tenants.iter();
        tenants
            .map(|(tenant, row)| (tenant.clone(), row.quotas.retention()))
            .filter(|(_, retention)| *retention != Retention::default())
            .collect()
    }

    fn retention(&self, tenant: &TenantId) -> Retention {
        self.retention_of(tenant)
    }
}

pub(super) fn load_tenants(
    database: &mut dyn Statements,
) -> Result<HashMap<TenantId, QuotaRow>, ControlError> {
    let rows = database.rows("SELECT id, quotas, updated_at FROM control_tenant", &[])?;
    let tenants = rows.into_iter().map(|mut row| {
        let (id, quotas) = (row.word()?, row.json()?);
        Ok((id, QuotaRow { quotas, updated_at: row.time()? }))
    });
    tenants.collect()
}

impl Database {
    /// What this node has written down of a day. It has if it is the only one: then it goes on with that
    /// after a restart.
    pub(super) fn usage_of_own(
        &mut self,
        node: &str,
        day: i64,
    ) -> Result<Vec<UsageRow>, ControlError> {
        let rows = self.glance(
            "SELECT tenant_id, messages, recipients FROM control_tenant_usage \
             WHERE day = $1 AND node = $2 LIMIT $3",
            &values![day, node, ROWS_MAX],
        )?;
        rows.into_iter().map(|row| read_usage(row, day)).collect()
    }

    /// What other nodes have written down of a day.
    pub(super) fn usage_of_others(
        &mut self,
        node: &str,
        day: i64,
        tenants: Tenants,
    ) -> Result<Vec<UsageRow>, ControlError> {
        let sql = match tenants {
            Tenants::All => others!(""),
            Tenants::WithQuotas => others!("AND tenant_id IN (SELECT id FROM control_tenant)"),
        };
        let rows = self.glance(sql, &values![day, node, ROWS_MAX])?;
        rows.into_iter().map(|row| read_usage(row, day)).collect()
    }

    fn save_quotas(
        &mut self,
        id: &TenantId,
        quotas: &Quotas,
        now: Time,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            let sql = "SELECT id FROM control_tenant WHERE id = $1";
            let is_known = database.row(sql, &values![id.as_str()])?.is_some();
            let count = database.number("SELECT count(*) FROM control_tenant", &[])?;
            if !is_known && count >= TENANTS_MAX as i64 {
                return Err(ControlError::TooManyTenants);
            }
            database.execute(
                "INSERT INTO control_tenant (id, quotas, updated_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (id) DO UPDATE SET quotas = excluded.quotas, \
                 updated_at = excluded.updated_at",
                &values![id.as_str(), to_json(quotas), now],
            )?;
            Ok(())
        })
    }

    /// Writes what this node has counted: sums, so that doing it again changes nothing.
    pub(super) fn save_usage(&mut self, node: &str, rows: &[UsageRow]) -> Result<(), ControlError> {
        let Some(day) = rows.iter().map(|row| row.day).max() else { return Ok(()) };
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let (messages, recipients) =
                    (row.messages.min(USED_MAX), row.recipients.min(USED_MAX));
                values![row.tenant.as_str(), row.day, node, messages, recipients].to_vec()
            })
            .collect();
        self.note(|database| {
            // Yesterday's stays: another node's clock may still be there.
            let sql = "DELETE FROM control_tenant_usage WHERE day < $1";
            database.execute(sql, &values![day - 1])?;
            Ok(database.execute_each(
                "INSERT INTO control_tenant_usage (tenant_id, day, node, messages, recipients) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day, tenant_id, node) DO UPDATE \
                 SET messages = excluded.messages, recipients = excluded.recipients",
                &rows,
            )?)
        })
    }
}

fn read_usage(mut row: Row, day: i64) -> Result<UsageRow, ControlError> {
    Ok(UsageRow { tenant: row.word()?, day, messages: row.count()?, recipients: row.count()? })
}
