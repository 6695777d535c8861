//! Walking over all who are known, and forgetting what every inbox has taken over.

use protocol::{TenantId, Time};
use rusqlite::{OptionalExtension, params};

use super::{
    super::record::Lsn,
    Shared,
    schema::{from_json, group_text, id_of},
};
use crate::{InboxKey, store::Group};

impl Shared {
    /// Users who are known, after one of them; those that wait for the disk come with a later walk.
    pub(in super::super) fn users_after(
        &self,
        after: Option<&InboxKey>,
        limit: u32,
    ) -> rusqlite::Result<Vec<InboxKey>> {
        let (tenant, user) = after.map_or(("", ""), |key| (key.tenant.as_str(), key.user.as_str()));
        self.readers.ask(|db| {
            db.prepare_cached(
                "SELECT tenant, user FROM users WHERE (tenant, user) > (?1, ?2)
                 ORDER BY tenant, user LIMIT ?3",
            )?
            .query_map(params![tenant, user, limit], |row| {
                Ok(InboxKey::new(id_of(row, 0)?, id_of(row, 1)?))
            })?
            .collect()
        })
    }

    /// The latest of what was sent to groups or everyone, of a tenant or of all, and is older than a moment
    /// together with all before it.
    pub(in super::super) fn older_than(
        &self,
        tenant: Option<&TenantId>,
        moment: Time,
    ) -> rusqlite::Result<Option<Lsn>> {
        let tenant = tenant.map(TenantId::as_str);
        self.readers.ask(|db| {
            let first = db
                .query_row(
                    "SELECT lsn FROM broadcasts WHERE at >= ?1 AND (?2 IS NULL OR tenant = ?2)
                     ORDER BY lsn LIMIT 1",
                    params![moment.millis(), tenant],
                    |row| row.get::<_, i64>(0),
                )
                .optional()?
                .unwrap_or(i64::MAX);
            db.query_row(
                "SELECT max(lsn) FROM broadcasts
                 WHERE lsn < ?1 AND (?2 IS NULL OR tenant = ?2)",
                params![first, tenant],
                |row| row.get(0),
            )
            .map(|lsn: Option<i64>| lsn.map(i64::cast_unsigned))
        })
    }

    /// Forgets some of what was sent to groups or everyone, of a tenant or of all, up to a record that every
    /// inbox has taken over. Answers how much that was.
    pub(in super::super) fn forget(
        &self,
        tenant: Option<&TenantId>,
        up_to: Lsn,
        limit: u32,
    ) -> rusqlite::Result<u64> {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        let gone: Vec<(i64, String, Option<Vec<Group>>)> = transaction
            .prepare_cached(
                "DELETE FROM broadcasts WHERE lsn IN
                 (SELECT lsn FROM broadcasts
                  WHERE lsn <= ?1 AND (?3 IS NULL OR tenant = ?3) ORDER BY lsn LIMIT ?2)
                 RETURNING lsn, tenant, grps",
            )?
            .query_map(params![up_to.cast_signed(), limit, tenant.map(TenantId::as_str)], |row| {
                let groups = match row.get_ref(2)?.as_str_or_null()? {
                    Some(_) => Some(from_json(row, 2)?),
                    None => None,
                };
                Ok((row.get(0)?, row.get(1)?, groups))
            })?
            .collect::<Result<_, _>>()?;
        {
            let mut delete = transaction.prepare_cached(
                "DELETE FROM broadcast_groups WHERE tenant = ?1 AND grp = ?2 AND lsn = ?3",
            )?;
            for (lsn, tenant, groups) in &gone {
                for group in groups.iter().flatten() {
                    delete.execute(params![tenant, group_text(group), lsn])?;
                }
            }
        }
        transaction.commit()?;
        Ok(gone.len() as u64)
    }
}
