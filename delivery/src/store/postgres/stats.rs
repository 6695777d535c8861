//! Statistics: how many messages were sent in an hour, and what became of them since.
//!
//! What is counted is a row of `stats_new` in the transaction of what is counted, so never twice and
//! never in anybody's way; one node at a time adds these up in `stats`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use protocol::{Body, TenantId, Time};

use super::{
    append::counted_by,
    columns::{Columns as _, most, plain},
    core::Core,
    errors::Failure,
    locks,
    pool::{self, Transaction, execute, row, rows},
};
use crate::store::{StatsBy, StatsQuery, StatsRow, limits::STATS_ROWS_MAX};

/// Combinations of service, template, type and channel that are counted apart, for each tenant and
/// hour: types are words of the senders' choice. What goes beyond is counted under [`OTHER`], by
/// service up to twice as many, then all together. Bounds a year of one tenant to some gigabytes.
const KEYS_MAX: i64 = 4_096;

/// Rows of `stats_new` that are added up in one transaction.
const FOLD_MAX: i64 = 10_000;

/// The name of what is not counted apart.
const OTHER: &str = "(other)";

const HOUR_MS: i64 = 3_600_000;

/// What is counted apart: hour, tenant, service, template, type, channel.
type Key = (i64, String, String, String, String, String);

/// Counts: sent, delivered, read, and milliseconds from sent to read.
type Counts = [i64; 4];

/// Messages that a transaction sends.
#[derive(Default)]
pub(super) struct Tally(HashMap<Key, i64>);

impl Tally {
    pub(super) fn sent(&mut self, tenant: &TenantId, body: &Body, at: i64) {
        let facts = body.facts();
        let hour = facts.created_at.map_or(at, Time::millis).div_euclid(HOUR_MS);
        let (service, template) = counted_by(body);
        let message_type = plain(&facts.message_type).into_owned();
        let channel = facts.channel_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let key = (hour, tenant.to_string(), service, template, message_type, channel);
        *self.0.entry(key).or_default() += 1;
    }

    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut columns = (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for ((hour, tenant, service, template, message_type, channel), sent) in &self.0 {
            columns.0.push(*hour);
            columns.1.push(tenant);
            columns.2.push(service);
            columns.3.push(template);
            columns.4.push(message_type);
            columns.5.push(channel);
            columns.6.push(*sent);
        }
        let sql = "INSERT INTO stats_new (hour, tenant, service, template, message_type, channel, sent,
                delivered, read, read_ms)
            SELECT k.*, 0, 0, 0 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                $6::text[], $7::bigint[]) AS k";
        let (a, b, c, d, e, f, g) = &columns;
        execute(transaction, sql, &[a, b, c, d, e, f, g]).await?;
        Ok(())
    }
}

/// Counts messages of an inbox that were read now, for the first time.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    inbox: i64,
    seqs: &[i64],
    at: i64,
) -> Result<(), Failure> {
    if seqs.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO stats_new (hour, tenant, service, template, message_type, channel, sent,
            delivered, read, read_ms)
        SELECT floor(m.created_at / 3600000.0)::bigint, b.tenant, b.service, b.template, m.message_type,
            coalesce(m.channel, ''), 0, 0, count(*), sum(greatest(0, $3 - m.created_at))
        FROM messages m JOIN bodies b ON b.id = m.body
        WHERE m.inbox = $1 AND m.seq = ANY($2) AND NOT m.reread GROUP BY 1, 2, 3, 4, 5, 6";
    execute(transaction, sql, &[&inbox, &seqs, &at]).await?;
    Ok(())
}

/// Counts messages that went to a first device: inboxes, and the ranges of their changes.
pub(super) async fn delivered(
    transaction: &Transaction<'_>,
    (inboxes, from, to): (&[i64], &[i64], &[i64]),
) -> Result<(), Failure> {
    if inboxes.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO stats_new (hour, tenant, service, template, message_type, channel, sent,
            delivered, read, read_ms)
        SELECT floor(m.created_at / 3600000.0)::bigint, b.tenant, b.service, b.template, m.message_type,
            coalesce(m.channel, ''), 0, count(*), 0, 0
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (inbox, first, last)
        JOIN messages m ON m.inbox = k.inbox AND m.seq BETWEEN k.first AND k.last AND m.status < 3
        JOIN bodies b ON b.id = m.body GROUP BY 1, 2, 3, 4, 5, 6";
    execute(transaction, sql, &[&inboxes, &from, &to]).await?;
    Ok(())
}

/// Answers a question.
pub(super) async fn ask(core: &Core, query: &StatsQuery) -> Result<Vec<StatsRow>, Failure> {
    let column = match query.by {
        StatsBy::Service => "service",
        StatsBy::Template => "template",
        StatsBy::MessageType => "message_type",
        StatsBy::Channel => "channel",
        StatsBy::Hour => "hour",
    };
    let of = "WHERE hour >= $1 AND hour < $2 AND ($3::text IS NULL OR tenant = $3)
        AND ($4::text IS NULL OR service = $4)";
    let sql = format!(
        "SELECT k, sum(sent)::bigint, sum(delivered)::bigint, sum(read)::bigint, sum(read_ms)::bigint
         FROM (SELECT {column} AS k, sent, delivered, read, read_ms FROM stats {of}
             UNION ALL SELECT {column}, sent, delivered, read, read_ms FROM stats_new {of}) AS s
         GROUP BY k ORDER BY k LIMIT $5"
    );
    let hour = |time: Time| time.millis().div_euclid(HOUR_MS);
    let client = core.db.client().await?;
    let tenant = query.tenant.as_ref().map(TenantId::as_str);
    let found = rows(
        &client,
        &sql,
        &[&hour(query.from), &hour(query.to), &tenant, &query.service, &most(STATS_ROWS_MAX)],
    )
    .await?;
    let stats = found.iter().map(|row| {
        let key = match query.by {
            StatsBy::Hour => {
                Some(Time::from_millis(row.column::<i64>(0)?.saturating_mul(HOUR_MS)).to_string())
            }
            _ => Some(row.column::<String>(0)?).filter(|key| !key.is_empty()),
        };
        Ok(StatsRow {
            key,
            sent: row.count(1)?,
            delivered: row.count(2)?,
            read: row.count(3)?,
            read_ms: row.count(4)?,
        })
    });
    stats.collect()
}

/// Adds up what was counted, if no other node is at it. Answers whether there may be more.
pub(super) async fn fold(core: &Core) -> Result<bool, Failure> {
    let mut client = core.db.client().await?;
    let transaction = pool::begin(&mut client).await?;
    let free =
        row(&transaction, "SELECT pg_try_advisory_xact_lock($1)", &[&locks::STATISTICS]).await?;
    if !free.map_or(Ok(false), |row| row.column(0))? {
        return Ok(false);
    }
    let sql = "DELETE FROM stats_new WHERE id IN (SELECT id FROM stats_new ORDER BY id LIMIT $1)
        RETURNING hour, tenant, service, template, message_type, channel, sent, delivered, read, read_ms";
    let taken = rows(&transaction, sql, &[&FOLD_MAX]).await?;
    let mut counted: BTreeMap<Key, Counts> = BTreeMap::new();
    for row in &taken {
        let key = (
            row.column(0)?,
            row.column(1)?,
            row.column(2)?,
            row.column(3)?,
            row.column(4)?,
            row.column(5)?,
        );
        let counts = counted.entry(key).or_default();
        for (at, count) in counts.iter_mut().enumerate() {
            *count += row.column::<i64>(6 + at)?;
        }
    }
    if !counted.is_empty() {
        let sums: Vec<Counts> = counted.values().copied().collect();
        let counted = bounded(&transaction, counted).await?;
        add(&transaction, &counted).await?;
        core.commit(transaction).await?;
        // Here, so that what several nodes noted is counted once, by the one that added it up.
        for [_, delivered, read, read_ms] in sums {
            core.metrics.outcome.delivered(delivered.cast_unsigned());
            if read > 0 {
                let after =
                    Duration::from_millis(read_ms.max(0).cast_unsigned() / read.cast_unsigned());
                core.metrics.outcome.read(read.cast_unsigned(), after);
            }
        }
    }
    Ok(taken.len() as i64 >= FOLD_MAX)
}

/// Puts what would be too many rows of a tenant and hour under [`OTHER`].
async fn bounded(
    transaction: &Transaction<'_>,
    counted: BTreeMap<Key, Counts>,
) -> Result<BTreeMap<Key, Counts>, Failure> {
    let places: BTreeSet<(i64, &str)> =
        counted.keys().map(|(hour, tenant, ..)| (*hour, tenant.as_str())).collect();
    let (hours, tenants): (Vec<i64>, Vec<&str>) = places.iter().copied().unzip();
    let sql = "SELECT k.hour, k.tenant, (SELECT count(*) FROM stats s
            WHERE s.hour = k.hour AND s.tenant = k.tenant)
        FROM unnest($1::bigint[], $2::text[]) AS k (hour, tenant)";
    let mut there: HashMap<(i64, String), i64> = HashMap::new();
    for row in rows(transaction, sql, &[&hours, &tenants]).await? {
        there.insert((row.column(0)?, row.column(1)?), row.column(2)?);
    }
    let mut bounded: BTreeMap<Key, Counts> = BTreeMap::new();
    for (key, counts) in counted {
        // A row that is there already counts as one more: at the limit that is what a few are told
        // apart too early.
        let known = there.entry((key.0, key.1.clone())).or_default();
        *known += 1;
        let other = || OTHER.to_owned();
        let key = match *known {
            ..=KEYS_MAX => key,
            known if known <= 2 * KEYS_MAX => (key.0, key.1, key.2, other(), other(), other()),
            _ => (key.0, key.1, other(), other(), other(), other()),
        };
        let sum = bounded.entry(key).or_default();
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    Ok(bounded)
}

async fn add(
    transaction: &Transaction<'_>,
    counted: &BTreeMap<Key, Counts>,
) -> Result<(), Failure> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![], vec![]);
    let mut counts: [Vec<i64>; 4] = Default::default();
    for ((hour, tenant, service, template, message_type, channel), count) in counted {
        columns.0.push(*hour);
        columns.1.push(tenant);
        columns.2.push(service);
        columns.3.push(template);
        columns.4.push(message_type);
        columns.5.push(channel);
        counts.iter_mut().zip(count).for_each(|(column, count)| column.push(*count));
    }
    let sql = "INSERT INTO stats AS s (hour, tenant, service, template, message_type, channel, sent,
            delivered, read, read_ms)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
        ON CONFLICT (hour, tenant, service, template, message_type, channel) DO UPDATE SET
            sent = s.sent + excluded.sent, delivered = s.delivered + excluded.delivered,
            read = s.read + excluded.read, read_ms = s.read_ms + excluded.read_ms";
    let (a, b, c, d, e, f) = &columns;
    let [sent, delivered, read, read_ms] = &counts;
    execute(transaction, sql, &[a, b, c, d, e, f, sent, delivered, read, read_ms]).await?;
    Ok(())
}
