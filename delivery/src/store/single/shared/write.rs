//! Writes into `shared.db` what waited.

use protocol::{ChannelId, TenantId, Time, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{
        inbox::{SharedEntry, What},
        record::{DirectoryRecord, Facts, Lsn},
    },
    forget,
    schema::{CHANNELS, group_text, to_json},
    waiting::{Item, KeptChannel},
};
use crate::store::{Audience, Group};

/// Writes items, in their order, and how far the journal has been taken over with them. The caller
/// has begun a transaction.
pub(super) fn write(db: &Connection, items: &[Item]) -> rusqlite::Result<()> {
    for item in items {
        match item {
            Item::Entry { tenant, entry } => write_entry(db, tenant, entry)?,
            Item::Seen { lsn: since, key, at } | Item::Known { key, since, at } => {
                see(db, &key.tenant, &key.user, (*since, *at), false)?;
            }
            Item::Issued { key, at } => {
                db.prepare_cached(
                    "UPDATE users SET issued_at = ?3 WHERE tenant = ?1 AND user = ?2
                     AND (issued_at IS NULL OR issued_at < ?3)",
                )?
                .execute(params![
                    key.tenant.as_str(),
                    key.user.as_str(),
                    at.millis()
                ])?;
            }
            Item::Directory { lsn, record } => write_directory(db, *lsn, record)?,
            Item::Forget { lsn, record } => forget::write(db, *lsn, record)?,
        }
    }
    if let Some(lsn) = items.iter().filter_map(Item::lsn).max() {
        db.prepare_cached("UPDATE applied SET lsn = ?1")?.execute([lsn.cast_signed()])?;
    }
    Ok(())
}

fn write_entry(db: &Connection, tenant: &TenantId, entry: &SharedEntry) -> rusqlite::Result<()> {
    let (id, target, body) = match &entry.what {
        What::Message(body) => (body.id(), None, Some(body)),
        What::Rewrite(rewrite) => (&rewrite.id, Some(rewrite.target), rewrite.body.as_ref()),
        What::Mark(_) | What::Press(_) => return Ok(()),
    };
    let groups = match &*entry.to {
        Audience::Everyone => None,
        Audience::Some { groups, .. } => Some(groups),
    };
    let json = body.map(|body| body.json());
    db.prepare_cached(
        "INSERT OR IGNORE INTO broadcasts (lsn, tenant, grps, target, id, at, expire_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        entry.lsn.cast_signed(),
        tenant.as_str(),
        groups.map(to_json),
        target.map(u64::cast_signed),
        id.as_str(),
        entry.at.millis(),
        body.and_then(|body| body.expire_at()).map(Time::millis),
        json.as_deref().map(|json| std::str::from_utf8(json).expect("a body is JSON")),
    ])?;
    for group in groups.into_iter().flat_map(|groups| groups.iter()) {
        db.prepare_cached(
            "INSERT OR IGNORE INTO broadcast_groups (tenant, grp, lsn) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tenant.as_str(), group_text(group), entry.lsn.cast_signed()])?;
    }
    Ok(())
}

/// A user exists since a record, or since an earlier one that is known already; `grouped` if the user
/// comes to a group by it.
fn see(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    (since, at): (Lsn, Time),
    grouped: bool,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO users (tenant, user, since_lsn, seen_at, grouped) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET
           seen_at = iif(excluded.since_lsn < since_lsn, excluded.seen_at, seen_at),
           since_lsn = min(since_lsn, excluded.since_lsn),
           grouped = max(grouped, excluded.grouped)
         WHERE excluded.since_lsn < since_lsn OR excluded.grouped > grouped",
    )?
    .execute(params![
        tenant.as_str(),
        user.as_str(),
        since.cast_signed(),
        at.millis(),
        grouped
    ])?;
    Ok(())
}

fn write_directory(db: &Connection, lsn: Lsn, record: &DirectoryRecord) -> rusqlite::Result<()> {
    match record {
        DirectoryRecord::Channel { tenant, channel, since } => {
            if since.is_none() {
                add(db, tenant, CHANNELS, 1, lsn)?;
            }
            let kept = KeptChannel { channel: channel.clone(), since: since.unwrap_or(lsn) };
            db.prepare_cached(
                "INSERT OR REPLACE INTO channels (tenant, id, since_lsn, channel)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                tenant.as_str(),
                kept.channel.id.as_str(),
                kept.since.cast_signed(),
                to_json(&kept.channel),
            ])?;
        }
        DirectoryRecord::ChannelGone { tenant, id } => end_channel(db, tenant, id, lsn)?,
        DirectoryRecord::Members { tenant, id, join, leave, at } => {
            let group = group_text(&Group::Channel(id.clone()));
            let mut by = 0;
            for user in join {
                see(db, tenant, user, (lsn, *at), true)?;
                by += join_group(db, tenant, user, &group, lsn, *at)?;
            }
            for user in leave {
                by -= leave_group(db, tenant, user, &group, lsn)?;
            }
            add(db, tenant, &group, by, lsn)?;
        }
        DirectoryRecord::User { tenant, facts, join, leave, at } => {
            let user = &facts.record.user_id;
            see(db, tenant, user, (lsn, *at), !join.is_empty())?;
            write_facts(db, tenant, facts)?;
            for group in join {
                let group = group_text(group);
                let by = join_group(db, tenant, user, &group, lsn, *at)?;
                add(db, tenant, &group, by, lsn)?;
            }
            for group in leave {
                let group = group_text(group);
                let by = leave_group(db, tenant, user, &group, lsn)?;
                add(db, tenant, &group, -by, lsn)?;
            }
        }
    }
    Ok(())
}

fn write_facts(db: &Connection, tenant: &TenantId, facts: &Facts) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE users SET facts = ?3,
           issued_at = CASE WHEN issued_at IS NULL OR issued_at < ?4 THEN ?4 ELSE issued_at END
         WHERE tenant = ?1 AND user = ?2",
    )?
    .execute(params![
        tenant.as_str(),
        facts.record.user_id.as_str(),
        to_json(facts),
        facts.issued_at.map(Time::millis),
    ])?;
    Ok(())
}

/// Answers by how much the group has grown.
fn join_group(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    group: &str,
    lsn: Lsn,
    at: Time,
) -> rusqlite::Result<i64> {
    let joined = db
        .prepare_cached(
            "INSERT OR IGNORE INTO members (tenant, user, grp, since_lsn, joined_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![tenant.as_str(), user.as_str(), group, lsn.cast_signed(), at.millis()])?;
    Ok(joined.cast_signed() as i64)
}

/// Answers by how much the group has shrunk.
fn leave_group(
    db: &Connection,
    tenant: &TenantId,
    user: &UserId,
    group: &str,
    lsn: Lsn,
) -> rusqlite::Result<i64> {
    let since: Option<i64> = db
        .prepare_cached(
            "SELECT since_lsn FROM members WHERE tenant = ?1 AND user = ?2 AND grp = ?3
             AND until_lsn IS NULL AND since_lsn < ?4 ORDER BY since_lsn DESC LIMIT 1",
        )?
        .query_row(params![tenant.as_str(), user.as_str(), group, lsn.cast_signed()], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(since) = since else { return Ok(0) };
    // Whoever comes and goes for ever must not leave a row each time: a stay in which nothing was
    // sent need not be remembered.
    let received: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM broadcast_groups
             WHERE tenant = ?1 AND grp = ?2 AND lsn > ?3 AND lsn < ?4)",
        )?
        .query_row(params![tenant.as_str(), group, since, lsn.cast_signed()], |row| row.get(0))?;
    let sql = if received {
        "UPDATE members SET until_lsn = ?5
         WHERE tenant = ?1 AND user = ?2 AND grp = ?3 AND since_lsn = ?4"
    } else {
        "DELETE FROM members
         WHERE tenant = ?1 AND user = ?2 AND grp = ?3 AND since_lsn = ?4 AND ?5 > 0"
    };
    let left = db.prepare_cached(sql)?.execute(params![
        tenant.as_str(),
        user.as_str(),
        group,
        since,
        lsn.cast_signed()
    ])?;
    Ok(left.cast_signed() as i64)
}

fn end_channel(
    db: &Connection,
    tenant: &TenantId,
    id: &ChannelId,
    lsn: Lsn,
) -> rusqlite::Result<()> {
    let group = group_text(&Group::Channel(id.clone()));
    let gone = db
        .prepare_cached("DELETE FROM channels WHERE tenant = ?1 AND id = ?2")?
        .execute(params![tenant.as_str(), id.as_str()])?;
    add(db, tenant, CHANNELS, -(gone.cast_signed() as i64), lsn)?;
    let latest: Option<i64> = db
        .prepare_cached(
            "SELECT max(lsn) FROM broadcast_groups WHERE tenant = ?1 AND grp = ?2 AND lsn < ?3",
        )?
        .query_row(params![tenant.as_str(), group, lsn.cast_signed()], |row| row.get(0))?;
    db.prepare_cached(
        "DELETE FROM members WHERE tenant = ?1 AND grp = ?2 AND until_lsn IS NULL
         AND since_lsn < ?3 AND since_lsn > ?4",
    )?
    .execute(params![tenant.as_str(), group, lsn.cast_signed(), latest.unwrap_or(0)])?;
    db.prepare_cached(
        "UPDATE members SET until_lsn = ?3 WHERE tenant = ?1 AND grp = ?2 AND until_lsn IS NULL
         AND since_lsn < ?3",
    )?
    .execute(params![tenant.as_str(), group, lsn.cast_signed()])?;
    db.prepare_cached("UPDATE counts SET n = 0, lsn = ?3 WHERE tenant = ?1 AND what = ?2")?
        .execute(params![tenant.as_str(), group, lsn.cast_signed()])?;
    Ok(())
}

/// Changes a count.
pub(super) fn add(
    db: &Connection,
    tenant: &TenantId,
    what: &str,
    by: i64,
    lsn: Lsn,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO counts (tenant, what, n, lsn) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET n = n + excluded.n, lsn = excluded.lsn",
    )?
    .execute(params![tenant.as_str(), what, by, lsn.cast_signed()])?;
    Ok(())
}
