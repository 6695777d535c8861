//! What was sent to groups and to everyone, taken over by inboxes.
//!
//! A record costs one row, however many it is for. An inbox takes over those after its `group_pos` when
//! it is next touched, under its lock and before whatever else is written to it, so that all that
//! was sent one after the other stands in that order. `tenants.pos` is held by whoever writes a record,
//! to its commit: the records that can be seen are always the first ones, without a hole.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use protocol::TenantId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    columns::{Columns as _, most, state_from},
    errors::Failure,
    pool::{Ask, Transaction, rows},
    rows::{Content, Facts, Inbox},
    slot::Slot,
    work::Work,
};
use crate::store::{Accepted, SentState};

/// Records that an inbox takes over at a time: bounds what a transaction holds of an inbox that was long
/// away. There is another round for more.
const ROUND_MAX: usize = 1_000;

/// Which records are for which inboxes: for everyone, if the inbox was there at the record; or for a
/// group, if its owner was in it. An edit goes by the place of its message.
const PENDING: &str = "
    SELECT k.inbox, p.pos
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS k (inbox, tenant, after, born)
    CROSS JOIN LATERAL (
        SELECT b.pos FROM broadcasts b
        WHERE b.tenant = k.tenant AND b.everyone AND b.pos > k.after
            AND coalesce(b.target, b.pos) > k.born
        UNION
        SELECT g.pos FROM members m
        JOIN broadcast_groups g ON g.tenant = k.tenant AND g.grp = m.grp AND g.pos > k.after
            AND g.place > m.since_pos AND (m.until_pos IS NULL OR g.place < m.until_pos)
        WHERE m.inbox = k.inbox
        ORDER BY 1 LIMIT $5
    ) AS p
    ORDER BY k.inbox, p.pos";

/// A record for groups or everyone.
struct Record {
    content: Content,
    rewrites: bool,
    recall: bool,
    at: i64,
}

type Records = FxHashMap<(TenantId, i64), Record>;

/// Which records wait for inboxes, at most so many for each: inbox and place.
async fn pending(
    client: &impl Ask,
    inboxes: &[&Inbox],
    limit: usize,
) -> Result<Vec<(i64, i64)>, Failure> {
    let ids: Vec<i64> = inboxes.iter().map(|inbox| inbox.id).collect();
    let tenants: Vec<&str> = inboxes.iter().map(|inbox| inbox.key.tenant.as_str()).collect();
    let after: Vec<i64> = inboxes.iter().map(|inbox| inbox.group_pos).collect();
    let born: Vec<i64> = inboxes.iter().map(|inbox| inbox.born_pos).collect();
    let found = rows(client, PENDING, &[&ids, &tenants, &after, &born, &most(limit)]).await?;
    found.iter().map(|row| Ok((row.column(0)?, row.column(1)?))).collect()
}

/// Whether some record waits for an inbox.
pub(super) async fn is_pending(client: &impl Ask, inbox: &Inbox) -> Result<bool, Failure> {
    if inbox.tenant_pos <= inbox.group_pos {
        return Ok(false);
    }
    Ok(!pending(client, &[inbox], 1).await?.is_empty())
}

/// Brings locked inboxes to where their tenants' records are.
pub(super) async fn take_over(
    transaction: &Transaction<'_>,
    work: &mut Work,
) -> Result<(), Failure> {
    let behind = |slot: &Slot| slot.inbox.tenant_pos > slot.inbox.group_pos;
    let mut open: FxHashSet<i64> =
        work.slots.iter().filter(|slot| behind(slot)).map(|slot| slot.inbox.id).collect();
    while !open.is_empty() {
        let inboxes: Vec<&Inbox> = work
            .slots
            .iter()
            .filter(|slot| open.contains(&slot.inbox.id))
            .map(|slot| &slot.inbox)
            .collect();
        let pending = pending(transaction, &inboxes, ROUND_MAX).await?;
        let records = read_records(transaction, work, &pending).await?;
        read_messages(transaction, work, &pending, &records).await?;
        let mut more = FxHashSet::default();
        for waiting in pending.chunk_by(|a, b| a.0 == b.0) {
            let Some(slot) = work.slot(waiting[0].0) else { continue };
            let tenant = slot.inbox.key.tenant.clone();
            // One whose body is gone is nothing to anybody.
            let found = |pos: &(i64, i64)| records.get(&(tenant.clone(), pos.1));
            let waits: Vec<&Record> = waiting.iter().filter_map(found).collect();
            for (at, record) in waits.iter().enumerate() {
                if record.rewrites {
                    slot.rewrite(&record.content, record.recall, record.at);
                    continue;
                }
                // One whose recall came while these were read has no content any more.
                let later = |other: &&Record| other.recall && other.content.id == record.content.id;
                let recalled = record.content.recalled && !waits[at..].iter().any(later);
                slot.arrive(&Content { recalled, ..record.content.clone() }, record.at);
            }
            let last = waiting.last().map_or(0, |(_, pos)| *pos);
            slot.inbox.group_pos = slot.inbox.group_pos.max(last);
            if waiting.len() >= ROUND_MAX {
                more.insert(slot.inbox.id);
            }
        }
        for id in open.drain().filter(|id| !more.contains(id)) {
            if let Some(slot) = work.slot(id) {
                slot.inbox.group_pos = slot.inbox.group_pos.max(slot.inbox.tenant_pos);
            }
        }
        open = more;
    }
    Ok(())
}

async fn read_records(
    transaction: &Transaction<'_>,
    work: &mut Work,
    pending: &[(i64, i64)],
) -> Result<Records, Failure> {
    let mut wanted = BTreeSet::new();
    for (inbox, pos) in pending {
        if let Some(slot) = work.slot(*inbox) {
            wanted.insert((slot.inbox.key.tenant.clone(), *pos));
        }
    }
    if wanted.is_empty() {
        return Ok(Records::default());
    }
    let tenants: Vec<&str> = wanted.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let places: Vec<i64> = wanted.iter().map(|(_, pos)| *pos).collect();
    let sql = "SELECT r.tenant, r.pos, r.target IS NOT NULL, r.recall, r.at, b.id, b.state,
            b.message_id, b.expire_at, b.body, r.expire_at, r.sender, r.collapse_key
        FROM unnest($1::text[], $2::bigint[]) AS k (tenant, pos)
        JOIN broadcasts r ON r.tenant = k.tenant AND r.pos = k.pos JOIN bodies b ON b.id = r.body";
    let mut bodies: FxHashMap<i64, Content> = FxHashMap::default();
    let mut records = Records::default();
    for row in rows(transaction, sql, &[&tenants, &places]).await? {
        let id: i64 = row.column(5)?;
        let current = match bodies.get(&id) {
            Some(content) => content.clone(),
            None => {
                let mut content = Content::new(id, row.body(7)?, None);
                content.recalled = state_from(row.column(6)?) == SentState::Recalled;
                bodies.insert(id, content.clone());
                content
            }
        };
        let facts = Facts {
            expire_at: row.column(10)?,
            sender: row.column(11)?,
            collapse_key: row.column(12)?,
            ..Facts::clone(&current.facts)
        };
        let at: i64 = row.column(4)?;
        // Both by the database's clock, so that no two clocks are compared.
        let age = Duration::from_millis(work.now.saturating_sub(at).try_into().unwrap_or(0));
        let content = Content { facts: Arc::new(facts), accepted: Accepted::ago(age), ..current };
        let record = Record { content, rewrites: row.column(2)?, recall: row.column(3)?, at };
        records.insert((row.id(0)?, row.column(1)?), record);
    }
    Ok(records)
}

/// Reads the messages that records speak of, or take the place of.
async fn read_messages(
    transaction: &Transaction<'_>,
    work: &mut Work,
    pending: &[(i64, i64)],
    records: &Records,
) -> Result<(), Failure> {
    let (mut rewritten, mut collapsing) =
        ((Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
    for (inbox, pos) in pending {
        let Some(slot) = work.slot(*inbox) else { continue };
        let Some(record) = records.get(&(slot.inbox.key.tenant.clone(), *pos)) else { continue };
        let facts = &record.content.facts;
        if record.rewrites && !slot.has(record.content.id) {
            rewritten.0.push(*inbox);
            rewritten.1.push(record.content.id);
        } else if let (false, Some(key)) = (record.rewrites, &facts.collapse_key) {
            collapsing.0.push(*inbox);
            collapsing.1.push(&*facts.sender);
            collapsing.2.push(&**key);
        }
    }
    work.read_bodies(transaction, rewritten).await?;
    work.read_collapsing(transaction, collapsing).await
}
