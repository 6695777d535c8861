//! What was sent to a channel, for members who came later.

use std::sync::Arc;

use protocol::{Body, ChannelId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{
    SingleStore,
    record::Lsn,
    shared::{self, body_of},
};
use crate::{
    StoreError,
    store::{Group, MessagePage},
};

/// Messages that one page looks at, at most: in a channel in which nearly everything was recalled or
/// has expired, a page may be short, or empty, and not the last.
const LOOK_MAX: usize = 2_000;

impl SingleStore {
    pub(super) async fn read_channel_log(
        &self,
        tenant: TenantId,
        id: ChannelId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        self.check_open()?;
        let Some(channel) = self.read(self.shared.channel(&tenant, &id))? else {
            return Ok(MessagePage::default());
        };
        let group = shared::group_text(&Group::Channel(id));
        let (shared, now) = (Arc::clone(&self.shared), self.ledger.clock.now());
        self.aside(move || {
            shared.ask_settled(|db| page(db, (&tenant, &group), channel.since, before, limit, now))
        })
        .await
    }
}

/// A page of what was sent to a group after one record and before another.
fn page(
    db: &Connection,
    (tenant, group): (&TenantId, &str),
    after: Lsn,
    before: Option<Lsn>,
    limit: usize,
    now: Time,
) -> rusqlite::Result<MessagePage> {
    let before = before.map_or(i64::MAX, |lsn| i64::try_from(lsn).unwrap_or(i64::MAX));
    let mut select = db.prepare_cached(
        "SELECT b.id, b.expire_at, b.body, b.lsn FROM broadcast_groups AS g
         JOIN broadcasts AS b ON b.lsn = g.lsn
         WHERE g.tenant = ?1 AND g.grp = ?2 AND g.lsn > ?3 AND g.lsn < ?4 AND b.target IS NULL
         ORDER BY g.lsn DESC",
    )?;
    let mut rows = select.query(params![tenant.as_str(), group, after.cast_signed(), before])?;
    let mut page = MessagePage::default();
    let (mut looked, mut latest) = (0, None);
    while let Some(row) = rows.next()? {
        if page.messages.len() >= limit || looked >= LOOK_MAX {
            page.next = latest;
            break;
        }
        looked += 1;
        let lsn: i64 = row.get(3)?;
        latest = Some(lsn.cast_unsigned());
        let says = match rewritten(db, lsn)? {
            Some(says) => says,
            None => Some(body_of(row, 0)?),
        };
        page.messages.extend(says.filter(|body| body.expire_at().is_none_or(|at| at > now)));
    }
    Ok(page)
}

/// What the latest edit made of a message, none if that was a recall; none if there is none.
fn rewritten(db: &Connection, target: i64) -> rusqlite::Result<Option<Option<Arc<Body>>>> {
    db.prepare_cached(
        "SELECT id, expire_at, body FROM broadcasts WHERE target = ?1 ORDER BY lsn DESC LIMIT 1",
    )?
    .query_row([target], |row| match row.get_ref(2)?.as_str_or_null()? {
        Some(_) => body_of(row, 0).map(Some),
        None => Ok(None),
    })
    .optional()
}
