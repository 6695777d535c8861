//! Writes what devices got and confirmed: cursors, receipts, and what is counted and told of it.

use std::collections::HashMap;

use protocol::DeviceId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    columns::{Columns as _, position},
    core::Core,
    errors::Failure,
    names,
    notes::{Range, Waiting},
    pool::{self, Transaction, execute, rows},
    rows::Inbox,
    stats,
    tell::Told,
    work::inbox_of,
};
use crate::{InboxKey, store::Happened};

/// Changes that one row of `receipts` may cover, so that those of one change are found in its span.
pub(super) const SPAN: i64 = 256;

/// Devices whose cursors an inbox keeps; the one that acked longest ago makes room.
const DEVICES_MAX: i64 = 64;

/// A device of an inbox.
struct Device<'a> {
    inbox: i64,
    name: &'a str,
    acked: Option<i64>,
    delivered: &'a [Range],
    /// The cursor as it was.
    before: Option<i64>,
}

pub(super) async fn write(
    core: &Core,
    notes: &[((InboxKey, DeviceId), Waiting)],
) -> Result<(), Failure> {
    let mut client = core.db.client().await?;
    let transaction = pool::begin(&mut client).await?;
    let now = core.now(&transaction).await?;
    let keys: Vec<&InboxKey> = notes.iter().map(|((key, _), _)| key).collect();
    let ids: HashMap<InboxKey, i64> = names::find(&transaction, &keys).await?.into_iter().collect();
    let inboxes = read_inboxes(&transaction, ids.values().copied().collect()).await?;
    let mut devices: Vec<Device<'_>> = notes
        .iter()
        .filter_map(|((key, device), waiting)| {
            let inbox = inboxes.get(ids.get(key)?)?;
            let acked = waiting.acked.map(|seq| position(seq).min(inbox.head));
            let delivered = &waiting.delivered;
            Some(Device { inbox: inbox.id, name: device.as_str(), acked, delivered, before: None })
        })
        .collect();
    // In one order everywhere, so that nodes do not wait for each other in a circle.
    devices.sort_unstable_by_key(|device| (device.inbox, device.name));
    let reached = lock_reached(&transaction, &devices).await?;
    write_cursors(&transaction, &mut devices, now).await?;
    write_receipts(core, &transaction, &devices, &inboxes, &reached, now).await?;
    core.commit(transaction).await
}

/// They stay until what is noted of them is committed: what came after an inbox went would stay for ever.
async fn read_inboxes(
    transaction: &Transaction<'_>,
    ids: Vec<i64>,
) -> Result<FxHashMap<i64, Inbox>, Failure> {
    let sql =
        "SELECT id, tenant, usr, head, min_seq, kept, unread, read, archived, recalled, born_pos,
        group_pos, next_expiry, 0::bigint FROM inboxes WHERE id = ANY($1) ORDER BY id FOR KEY SHARE";
    let found = rows(transaction, sql, &[&ids]).await?;
    found.iter().map(|row| inbox_of(row).map(|inbox| (inbox.id, inbox))).collect()
}

/// How far any device is, of each inbox; locked, for it says what is the first time.
async fn lock_reached(
    transaction: &Transaction<'_>,
    devices: &[Device<'_>],
) -> Result<FxHashMap<i64, Range>, Failure> {
    let mut ids: Vec<i64> = devices.iter().map(|device| device.inbox).collect();
    ids.dedup();
    let sql = "INSERT INTO reached SELECT k, 0, 0 FROM unnest($1::bigint[]) AS k ORDER BY k
        ON CONFLICT DO NOTHING";
    execute(transaction, sql, &[&ids]).await?;
    let sql = "SELECT inbox, delivered, acked FROM reached WHERE inbox = ANY($1) ORDER BY inbox FOR UPDATE";
    let found = rows(transaction, sql, &[&ids]).await?;
    found.iter().map(|row| Ok((row.column(0)?, (row.column(1)?, row.column(2)?)))).collect()
}

/// Moves cursors forward, and fills in what they were.
async fn write_cursors(
    transaction: &Transaction<'_>,
    devices: &mut [Device<'_>],
    now: i64,
) -> Result<(), Failure> {
    let (mut inboxes, mut names, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    for device in devices.iter() {
        if let Some(seq) = device.acked {
            inboxes.push(device.inbox);
            names.push(device.name);
            seqs.push(seq);
        }
    }
    if inboxes.is_empty() {
        return Ok(());
    }
    let sql =
        "SELECT c.inbox, c.device, c.seq FROM unnest($1::bigint[], $2::text[]) AS k (inbox, device)
        JOIN cursors c ON c.inbox = k.inbox AND c.device = k.device";
    for row in rows(transaction, sql, &[&inboxes, &names]).await? {
        let (inbox, name): (i64, &str) = (row.column(0)?, row.column(1)?);
        let found = devices.binary_search_by_key(&(inbox, name), |one| (one.inbox, one.name));
        if let Ok(found) = found {
            devices[found].before = Some(row.column(2)?);
        }
    }
    let sql = "INSERT INTO cursors AS c (inbox, device, seq, at)
        SELECT k.inbox, k.device, k.seq, $4
        FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (inbox, device, seq)
        ON CONFLICT (inbox, device) DO UPDATE SET seq = excluded.seq, at = excluded.at
            WHERE c.seq < excluded.seq";
    execute(transaction, sql, &[&inboxes, &names, &seqs, &now]).await?;
    inboxes.dedup();
    let sql = "DELETE FROM cursors c USING (
            SELECT inbox, device FROM (
                SELECT inbox, device, row_number() OVER (PARTITION BY inbox ORDER BY at DESC) AS n
                FROM cursors WHERE inbox = ANY($1)) AS r WHERE n > $2) AS k
        WHERE c.inbox = k.inbox AND c.device = k.device";
    execute(transaction, sql, &[&inboxes, &DEVICES_MAX]).await?;
    Ok(())
}

/// What is new of a device, of one kind.
struct Fresh<'a> {
    inbox: i64,
    device: &'a str,
    kind: i16,
    range: Range,
}

const DELIVERED: i16 = 0;
const ACKED: i16 = 1;

async fn write_receipts(
    core: &Core,
    transaction: &Transaction<'_>,
    devices: &[Device<'_>],
    inboxes: &FxHashMap<i64, Inbox>,
    reached: &FxHashMap<i64, Range>,
    now: i64,
) -> Result<(), Failure> {
    let mut noted: Vec<(i64, &str, i16, Range)> = Vec::new();
    for device in devices {
        let head = inboxes.get(&device.inbox).map_or(0, |inbox| inbox.head);
        let delivered =
            device.delivered.iter().map(|(first, last)| (*first.max(&1), *last.min(&head)));
        noted.extend(delivered.map(|range| (device.inbox, device.name, DELIVERED, range)));
        match (device.acked, device.before) {
            (Some(to), Some(before)) => {
                noted.push((device.inbox, device.name, ACKED, (before + 1, to)));
            }
            // A device that never confirmed anything confirms what went to it, not what was there
            // before it came.
            (Some(to), None) => {
                let sql = "SELECT from_seq, least(to_seq, $3) FROM receipts
                    WHERE inbox = $1 AND from_seq <= $3 AND kind = 0 AND device = $2";
                for row in rows(transaction, sql, &[&device.inbox, &device.name, &to]).await? {
                    let range = (row.column(0)?, row.column(1)?);
                    noted.push((device.inbox, device.name, ACKED, range));
                }
                let went =
                    device.delivered.iter().map(|(first, last)| (*first.max(&1), *last.min(&to)));
                noted.extend(went.map(|range| (device.inbox, device.name, ACKED, range)));
            }
            (None, _) => {}
        }
    }
    let fresh = fresh(transaction, noted).await?;
    if fresh.is_empty() {
        return Ok(());
    }
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for one in &fresh {
        columns.0.push(one.inbox);
        columns.1.push(one.range.0);
        columns.2.push(one.kind);
        columns.3.push(one.device);
        columns.4.push(one.range.1);
    }
    let sql = "INSERT INTO receipts (inbox, from_seq, kind, device, to_seq, at)
        SELECT k.*, $6 FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::bigint[]) AS k
        ON CONFLICT DO NOTHING";
    let (a, b, c, d, e) = &columns;
    execute(transaction, sql, &[a, b, c, d, e, &now]).await?;
    let sql = "UPDATE reached r SET delivered = greatest(r.delivered, k.delivered),
            acked = greatest(r.acked, k.acked)
        FROM (SELECT inbox, coalesce(max(last) FILTER (WHERE kind = 0), 0) AS delivered,
                coalesce(max(last) FILTER (WHERE kind = 1), 0) AS acked
            FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS k (inbox, kind, last)
            GROUP BY inbox) AS k
        WHERE r.inbox = k.inbox";
    execute(transaction, sql, &[a, c, e]).await?;
    count(core, transaction, &fresh, inboxes, reached, now).await
}

/// The parts of ranges that are new, none over a multiple of [`SPAN`]: what has gone to a device once
/// may go to it again.
async fn fresh<'a>(
    transaction: &Transaction<'_>,
    noted: Vec<(i64, &'a str, i16, Range)>,
) -> Result<Vec<Fresh<'a>>, Failure> {
    let mut parts: Vec<(i64, &str, i16, Range)> = Vec::new();
    for (inbox, device, kind, (mut first, last)) in noted {
        while first <= last {
            let end = last.min(first - first % SPAN + SPAN - 1);
            parts.push((inbox, device, kind, (first, end)));
            first = end + 1;
        }
    }
    parts.sort_unstable();
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for (inbox, device, kind, (first, last)) in &parts {
        columns.0.push(*inbox);
        columns.1.push(*device);
        columns.2.push(*kind);
        columns.3.push(first - first % SPAN);
        columns.4.push(*last);
    }
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT DISTINCT r.inbox, r.device, r.kind, r.from_seq, r.to_seq
        FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[])
            AS k (inbox, device, kind, span, last)
        JOIN receipts r ON r.inbox = k.inbox AND r.from_seq BETWEEN k.span AND k.last
            AND r.kind = k.kind AND r.device = k.device";
    let (a, b, c, d, e) = &columns;
    let mut known: HashMap<(i64, String, i16), Vec<Range>> = HashMap::new();
    for row in rows(transaction, sql, &[a, b, c, d, e]).await? {
        let of = (row.column(0)?, row.column(1)?, row.column(2)?);
        known.entry(of).or_default().push((row.column(3)?, row.column(4)?));
    }
    let mut fresh = Vec::new();
    for (inbox, device, kind, (first, last)) in parts {
        let known = known.entry((inbox, device.to_owned(), kind)).or_default();
        known.sort_unstable();
        let mut next = first;
        let mut new = Vec::new();
        for (from, to) in known.iter() {
            if *from > last {
                break;
            }
            if *from > next {
                new.push((next, from - 1));
            }
            next = next.max(to + 1);
        }
        if next <= last {
            new.push((next, last));
        }
        known.extend(&new);
        fresh.extend(new.into_iter().map(|range| Fresh { inbox, device, kind, range }));
    }
    Ok(fresh)
}

/// Counts what reached a first device, and tells of all that reached one.
async fn count(
    core: &Core,
    transaction: &Transaction<'_>,
    fresh: &[Fresh<'_>],
    inboxes: &FxHashMap<i64, Inbox>,
    reached: &FxHashMap<i64, Range>,
    now: i64,
) -> Result<(), Failure> {
    let mut first = (Vec::new(), Vec::new(), Vec::new());
    let mut so_far: FxHashMap<i64, i64> = FxHashMap::default();
    // From the left, whichever device it was: a change that went to two of them counts once.
    let mut fresh: Vec<&Fresh<'_>> = fresh.iter().collect();
    fresh.sort_unstable_by_key(|one| (one.inbox, one.range));
    for one in fresh.iter().filter(|one| one.kind == DELIVERED) {
        let before = reached.get(&one.inbox).map_or(0, |reached| reached.0);
        let known = so_far.entry(one.inbox).or_insert(before);
        if one.range.1 > *known {
            first.0.push(one.inbox);
            first.1.push(one.range.0.max(*known + 1));
            first.2.push(one.range.1);
            *known = one.range.1;
        }
    }
    stats::delivered(transaction, (&first.0, &first.1, &first.2)).await?;
    if !core.is_witnessed() {
        return Ok(());
    }
    let mut firsts = FxHashSet::default();
    for one in fresh {
        let Some(inbox) = inboxes.get(&one.inbox) else { continue };
        let before = reached.get(&one.inbox).copied().unwrap_or_default();
        let sql =
            "SELECT seq FROM messages WHERE inbox = $1 AND seq BETWEEN $2 AND $3 AND status < 3";
        let mut told = Vec::new();
        for row in rows(transaction, sql, &[&one.inbox, &one.range.0, &one.range.1]).await? {
            let seq: i64 = row.column(0)?;
            let mut is_first = |before| seq > before && firsts.insert((one.inbox, seq, one.kind));
            let what = match one.kind {
                DELIVERED => Happened::Delivered { first: is_first(before.0) },
                _ => Happened::Acked { first: is_first(before.1) },
            };
            let device = one.device.parse().ok();
            told.push(Told { message_seq: seq, seq, what, at: now, device });
        }
        core.tell(transaction, inbox, &told).await?;
    }
    Ok(())
}
