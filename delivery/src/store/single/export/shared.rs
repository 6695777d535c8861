//! What is kept once for all inboxes.

use std::sync::Arc;

use protocol::{Body, MessageId, TenantId};
use rusqlite::{OptionalExtension, params};

use super::{
    super::shared::{body_of, id_of, most},
    Export, ExportError, PAGE, all,
};
use crate::store::{portable::Cells, recalled::without_content};

/// A record for groups or everyone: a message, or an edit or recall of one.
#[derive(Clone, Debug)]
pub(crate) struct MovedRecord {
    pub(crate) tenant: TenantId,
    pub(crate) place: i64,
    /// Of an edit or recall: the message's place.
    pub(crate) target: Option<i64>,
    pub(crate) everyone: bool,
    pub(crate) id: MessageId,
    pub(crate) at: i64,
    /// What it says; none for a recall.
    pub(crate) body: Option<Arc<Body>>,
    /// What its message says by now, as far as records tell.
    pub(crate) latest: Option<Arc<Body>>,
    /// Its message was taken back.
    pub(crate) recalled: bool,
}

impl Export {
    /// Tenants that have users, channels or records, and how many channels.
    pub(crate) async fn tenants(&self) -> Result<Vec<Cells>, ExportError> {
        let sql = "SELECT tenant, (SELECT count(*) FROM channels AS c WHERE c.tenant = t.tenant)
            FROM (SELECT tenant FROM users UNION SELECT tenant FROM channels
                UNION SELECT tenant FROM broadcasts) AS t ORDER BY tenant";
        self.shared.ask(move |db| all(db, sql, [])).await
    }

    /// Users after one of them: tenant, user, since when, since which record, when the latest token was made,
    /// what is known of them.
    pub(crate) async fn users(&self, after: (String, String)) -> Result<Vec<Cells>, ExportError> {
        let sql = "SELECT tenant, user, seen_at, since_lsn, issued_at, facts FROM users
            WHERE (tenant, user) > (?1, ?2) ORDER BY tenant, user LIMIT ?3";
        self.shared.ask(move |db| all(db, sql, params![after.0, after.1, most(PAGE)])).await
    }

    /// Stays in groups, after one of them: tenant, user, group, since and until which record, since when.
    pub(crate) async fn members(
        &self,
        after: (String, String, String, i64),
    ) -> Result<Vec<Cells>, ExportError> {
        let sql = "SELECT tenant, user, grp, since_lsn, until_lsn, joined_at FROM members
            WHERE (tenant, user, grp, since_lsn) > (?1, ?2, ?3, ?4)
            ORDER BY tenant, user, grp, since_lsn LIMIT ?5";
        self.shared
            .ask(move |db| all(db, sql, params![after.0, after.1, after.2, after.3, most(PAGE)]))
            .await
    }

    /// Channels after one of them: tenant, id, since which record, what it is.
    pub(crate) async fn channels(
        &self,
        after: (String, String),
    ) -> Result<Vec<Cells>, ExportError> {
        let sql = "SELECT tenant, id, since_lsn, channel FROM channels
            WHERE (tenant, id) > (?1, ?2) ORDER BY tenant, id LIMIT ?3";
        self.shared.ask(move |db| all(db, sql, params![after.0, after.1, most(PAGE)])).await
    }

    /// Records after one of them.
    pub(crate) async fn records(&self, after: i64) -> Result<Vec<MovedRecord>, ExportError> {
        self.shared
            .ask(move |db| {
                let mut select = db.prepare_cached(
                    "SELECT b.tenant, b.lsn, b.target, b.grps IS NULL, b.at,
                         b.id, b.expire_at, b.body, r.id, r.expire_at, r.body
                     FROM broadcasts AS b LEFT JOIN broadcasts AS r ON r.lsn =
                         (SELECT max(l.lsn) FROM broadcasts AS l WHERE l.target = b.lsn)
                     WHERE b.lsn > ?1 ORDER BY b.lsn LIMIT ?2",
                )?;
                let record = |row: &rusqlite::Row<'_>| {
                    let body_at = |at: usize| match row.get_ref(at + 2)?.as_str_or_null()? {
                        Some(_) => body_of(row, at).map(Some),
                        None => Ok::<_, rusqlite::Error>(None),
                    };
                    let body = body_at(5)?;
                    let rewritten = row.get_ref(8)?.as_str_or_null()?.is_some();
                    let later = if rewritten { body_at(8)? } else { None };
                    let recalled = rewritten && later.is_none();
                    let latest = match (&body, later) {
                        (_, Some(later)) => Some(later),
                        (Some(body), None) if recalled => Some(Arc::new(without_content(body))),
                        (body, None) => body.clone(),
                    };
                    Ok(MovedRecord {
                        tenant: id_of(row, 0)?,
                        place: row.get(1)?,
                        target: row.get(2)?,
                        everyone: row.get(3)?,
                        id: id_of(row, 5)?,
                        at: row.get(4)?,
                        body,
                        latest,
                        recalled,
                    })
                };
                select.query_map(params![after, most(PAGE)], record)?.collect()
            })
            .await
    }

    /// For which groups records are, after one of them: tenant, group, place, the place by which their readers
    /// are found.
    pub(crate) async fn record_groups(
        &self,
        after: (String, String, i64),
    ) -> Result<Vec<Cells>, ExportError> {
        let sql = "SELECT g.tenant, g.grp, g.lsn, coalesce(b.target, g.lsn)
            FROM broadcast_groups AS g JOIN broadcasts AS b ON b.lsn = g.lsn
            WHERE (g.tenant, g.grp, g.lsn) > (?1, ?2, ?3) ORDER BY g.tenant, g.grp, g.lsn LIMIT ?4";
        self.shared
            .ask(move |db| all(db, sql, params![after.0, after.1, after.2, most(PAGE)]))
            .await
    }

    /// What was sent to groups by records: none where they do not say it any more.
    pub(super) async fn said_at(
        &self,
        places: Vec<u64>,
    ) -> Result<Vec<Option<Arc<Body>>>, ExportError> {
        self.shared
            .ask(move |db| {
                let mut select =
                    db.prepare_cached("SELECT id, expire_at, body FROM broadcasts WHERE lsn = ?1")?;
                let said = places.iter().map(|place| {
                    select.query_row([place.cast_signed()], |row| body_of(row, 0)).optional()
                });
                said.collect()
            })
            .await
    }

    /// How much there is: users, members, channels, records.
    pub(crate) async fn count_shared(&self) -> Result<[u64; 4], ExportError> {
        let sql = "SELECT (SELECT count(*) FROM users),
            (SELECT count(*) FROM members WHERE until_lsn IS NULL), (SELECT count(*) FROM channels),
            (SELECT count(*) FROM broadcasts)";
        self.shared
            .ask(move |db| {
                db.query_row(sql, [], |row| {
                    let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
                    Ok([count(0)?, count(1)?, count(2)?, count(3)?])
                })
            })
            .await
    }
}
