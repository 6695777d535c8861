//! Users who are forgotten.

use protocol::TenantId;
use rusqlite::{Connection, params};

use super::{
    super::{
        forget::{Forgotten, ScrubError},
        record::{ForgetRecord, Lsn},
        sql,
    },
    Shared,
    schema::id_of,
    write::add,
};
use crate::InboxKey;

impl Shared {
    /// Users who were being forgotten when the file was last used.
    pub(in super::super) fn forgetting(&self) -> rusqlite::Result<Vec<Forgotten>> {
        let writer = self.writer.lock();
        let mut select = writer.prepare("SELECT tenant, user, lsn FROM forgetting")?;
        let rows = select.query_map([], |row| {
            let lsn = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(Forgotten { key: InboxKey::new(id_of(row, 0)?, id_of(row, 1)?), lsn })
        })?;
        rows.collect()
    }

    /// Forgets some of what was sent to groups and everyone of a tenant, at most so many records of each; when there
    /// are no more, also who was in which group. Whether there may be more.
    pub(in super::super) fn forget_tenant(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> rusqlite::Result<bool> {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        let mut gone = transaction.execute(
            "DELETE FROM broadcasts WHERE lsn IN
             (SELECT lsn FROM broadcasts WHERE tenant = ?1 AND grps IS NULL LIMIT ?2)",
            params![tenant.as_str(), limit],
        )?;
        let groups: Vec<(String, i64)> = transaction
            .prepare_cached("SELECT grp, lsn FROM broadcast_groups WHERE tenant = ?1 LIMIT ?2")?
            .query_map(params![tenant.as_str(), limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (group, lsn) in &groups {
            transaction.prepare_cached("DELETE FROM broadcasts WHERE lsn = ?1")?.execute([lsn])?;
            transaction
                .prepare_cached(
                    "DELETE FROM broadcast_groups WHERE tenant = ?1 AND grp = ?2 AND lsn = ?3",
                )?
                .execute(params![tenant.as_str(), group, lsn])?;
        }
        gone += groups.len();
        if gone == 0 {
            for sql in [
                "DELETE FROM members WHERE tenant = ?1 AND until_lsn IS NOT NULL",
                "DELETE FROM counts WHERE tenant = ?1 AND n = 0",
            ] {
                transaction.execute(sql, [tenant.as_str()])?;
            }
        }
        transaction.commit()?;
        Ok(gone > 0)
    }

    /// See [`Scrubbed::piece`].
    ///
    /// [`Scrubbed::piece`]: super::super::forget::Scrubbed::piece
    pub(in super::super) fn overwrite(&self, from: u64) -> Result<Option<u64>, ScrubError> {
        self.scrubbed.piece(&self.writer.lock(), from)
    }

    /// These users are forgotten. When it returns, the names are in no file that belongs to this one.
    pub(in super::super) fn forgotten(&self, users: &[Forgotten]) -> rusqlite::Result<()> {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        for Forgotten { key, lsn } in users {
            transaction
                .prepare_cached(
                    "DELETE FROM forgetting WHERE tenant = ?1 AND user = ?2 AND lsn <= ?3",
                )?
                .execute(params![key.tenant.as_str(), key.user.as_str(), lsn.cast_signed()])?;
        }
        transaction.commit()?;
        sql::empty_wal(&writer)
    }
}

/// Writes that a user is forgotten by a record.
pub(super) fn write(db: &Connection, lsn: Lsn, record: &ForgetRecord) -> rusqlite::Result<()> {
    let ForgetRecord { tenant, user, .. } = record;
    let (name, at) = (params![tenant.as_str(), user.as_str()], lsn.cast_signed());
    let groups: Vec<String> = db
        .prepare_cached(
            "SELECT grp FROM members WHERE tenant = ?1 AND user = ?2 AND until_lsn IS NULL",
        )?
        .query_map(name, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for group in groups {
        add(db, tenant, &group, -1, lsn)?;
    }
    for sql in [
        "DELETE FROM members WHERE tenant = ?1 AND user = ?2",
        "DELETE FROM users WHERE tenant = ?1 AND user = ?2",
        "UPDATE channels SET channel = json_set(channel, '$.created_by', '')
         WHERE tenant = ?1 AND channel ->> '$.created_by' = ?2",
    ] {
        db.prepare_cached(sql)?.execute(name)?;
    }
    db.prepare_cached("INSERT OR REPLACE INTO forgetting (tenant, user, lsn) VALUES (?1, ?2, ?3)")?
        .execute(params![tenant.as_str(), user.as_str(), at])?;
    Ok(())
}
