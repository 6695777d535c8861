//! What the ledger asks of `shared.db`: what was sent, and to whom it went.

use std::sync::Arc;

use protocol::{Body, TenantId, UserId};
use rusqlite::{OptionalExtension, params};

use super::{
    super::{inbox::What, record::Lsn},
    Shared,
    schema::{body_of, group_text, id_of, most},
};
use crate::store::Group;

impl Shared {
    /// What was sent by a record to groups or everyone.
    pub(in super::super) fn body_at(&self, lsn: Lsn) -> rusqlite::Result<Option<Arc<Body>>> {
        let waiting = self.waiting.lock().entry_at(lsn);
        if let Some(What::Message(body)) = waiting.map(|entry| entry.what.clone()) {
            return Ok(Some(body));
        }
        self.readers.ask(|db| {
            db.prepare_cached("SELECT id, expire_at, body FROM broadcasts WHERE lsn = ?1")?
                .query_row([lsn.cast_signed()], |row| body_of(row, 0))
                .optional()
        })
    }

    /// Who was in a group at a record, or, without a group, known: in the order of their ids, after
    /// one of them. What waits is written first, so that the file can say it all.
    pub(in super::super) fn users_at(
        &self,
        tenant: &TenantId,
        group: Option<&Group>,
        lsn: Lsn,
        after: Option<&UserId>,
        limit: usize,
    ) -> rusqlite::Result<Vec<UserId>> {
        self.flush()?;
        self.readers.ask(|db| {
            // Each arm by the index that has it in order.
            let mut select = db.prepare_cached(match group {
                Some(_) => {
                    "SELECT user FROM (
                       SELECT user FROM members WHERE tenant = ?1 AND user > ?2 AND since_lsn < ?3
                         AND grp = ?5 AND until_lsn IS NULL
                       UNION
                       SELECT user FROM members WHERE tenant = ?1 AND user > ?2 AND since_lsn < ?3
                         AND grp = ?5 AND until_lsn IS NOT NULL AND until_lsn > ?3)
                     ORDER BY user LIMIT ?4"
                }
                None => {
                    "SELECT user FROM users WHERE tenant = ?1 AND user > ?2 AND since_lsn <= ?3
                       AND ?5 IS NULL ORDER BY user LIMIT ?4"
                }
            })?;
            let values = params![
                tenant.as_str(),
                after.map_or("", UserId::as_str),
                lsn.cast_signed(),
                most(limit),
                group.map(group_text),
            ];
            select.query_map(values, |row| id_of(row, 0))?.collect()
        })
    }
}
