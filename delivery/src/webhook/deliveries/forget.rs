//! Keeps what is remembered in its limits, a part at a time.

use std::time::Duration;

use protocol::Time;
use serde_json::Value;

use super::{DELIVERED, FAILED, PENDING, tally::Tally};
use crate::{
    InboxKey,
    sql::{SqlError, Statements, values},
    webhook::endpoints,
};

/// Gives up what has waited for longer than `age`, at most `most`; tells how many.
pub(in crate::webhook) fn give_up_old(
    database: &mut dyn Statements,
    age: Duration,
    most: usize,
    now: Time,
) -> Result<usize, SqlError> {
    let given_up = database.rows(
        "UPDATE webhook_delivery SET state = 2, settled_at = $1 WHERE id IN \
         (SELECT id FROM webhook_delivery WHERE state = 0 AND waiting_since < $2 LIMIT $3) \
         RETURNING endpoint, CAST(octet_length(body) AS bigint)",
        &values![now, before(now, age), most],
    )?;
    let (count, mut tally) = (given_up.len(), Tally::default());
    for mut row in given_up {
        let (endpoint, bytes) = (row.int()?, row.int()?);
        tally.remove(endpoint, PENDING, bytes);
        tally.add(endpoint, FAILED, bytes);
    }
    tally.write(database)?;
    Ok(count)
}

/// Forgets what was settled longer ago than `age`, at most `most`; tells how many.
pub(in crate::webhook) fn forget_old(
    database: &mut dyn Statements,
    age: Duration,
    most: usize,
    now: Time,
) -> Result<usize, SqlError> {
    let forgotten = database.rows(
        "DELETE FROM webhook_delivery WHERE id IN \
         (SELECT id FROM webhook_delivery WHERE state <> 0 AND settled_at < $1 LIMIT $2) \
         RETURNING endpoint, state",
        &values![before(now, age), most],
    )?;
    let (count, mut tally) = (forgotten.len(), Tally::default());
    for mut row in forgotten {
        tally.remove(row.int()?, row.int()?, 0);
    }
    tally.write(database)?;
    Ok(count)
}

fn before(now: Time, age: Duration) -> i64 {
    now.millis().saturating_sub(crate::clock::millis(age))
}

/// Forgets the oldest of what was settled beyond `history` of each kind, at most `most` of each;
/// tells how many.
pub(in crate::webhook) fn forget_beyond(
    database: &mut dyn Statements,
    history: usize,
    most: usize,
) -> Result<usize, SqlError> {
    let (mut forgotten, mut tally) = (0, Tally::default());
    for (state, beyond) in [
        (DELIVERED, "SELECT key, delivered - $1 FROM webhook_endpoint WHERE delivered > $1"),
        (FAILED, "SELECT key, failed - $1 FROM webhook_endpoint WHERE failed > $1"),
    ] {
        for mut row in database.rows(beyond, &values![history])? {
            let (key, count) = (row.int()?, row.count()?);
            let gone = database.execute(
                "DELETE FROM webhook_delivery WHERE id IN (SELECT id FROM webhook_delivery \
                 WHERE endpoint = $1 AND state = $2 ORDER BY id LIMIT $3)",
                &values![key, state, count.min(most as u64)],
            )?;
            for _ in 0..gone {
                tally.remove(key, state, 0);
            }
            forgotten += usize::try_from(gone).unwrap_or(usize::MAX);
        }
    }
    tally.write(database)?;
    Ok(forgotten)
}

/// Removes what the next deliveries after one, at most `most`, tell of a user: what waits, what was delivered
/// and what was given up. Answers how many those were, and up to which one they are done; none at the end.
pub(in crate::webhook) fn forget_user(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    after: i64,
    most: usize,
) -> Result<(u64, Option<i64>), SqlError> {
    let sql = "SELECT coalesce(max(id), 0) FROM \
               (SELECT id FROM webhook_delivery WHERE id > $1 ORDER BY id LIMIT $2) AS page";
    let last = database.number(sql, &values![after, most])?;
    if last == 0 {
        return Ok((0, None));
    }
    let told = database.rows(
        "SELECT d.id, d.endpoint, d.state, CAST(octet_length(d.body) AS bigint), d.body \
         FROM webhook_delivery d JOIN webhook_endpoint e ON e.key = d.endpoint \
         WHERE d.id > $1 AND d.id <= $2 AND e.tenant_id = $3 AND d.body LIKE $4 ESCAPE '!'",
        &values![after, last, inbox.tenant.as_str(), pattern(inbox)],
    )?;
    let (mut gone, mut tally) = (Vec::new(), Tally::default());
    for mut row in told {
        let (id, endpoint, state, bytes) = (row.int()?, row.int()?, row.int()?, row.int()?);
        let body: Value = row.json()?;
        // SQLite's LIKE does not tell a from A.
        if body["data"]["user_id"] == inbox.user.as_str() {
            gone.push(values![id].to_vec());
            tally.remove(endpoint, state, bytes);
        }
    }
    database.execute_each("DELETE FROM webhook_delivery WHERE id = $1", &gone)?;
    tally.write(database)?;
    Ok((gone.len() as u64, Some(last)))
}

/// What the body of an event about a user has in it.
fn pattern(inbox: &InboxKey) -> String {
    let said = format!("\"user_id\":{}", serde_json::json!(inbox.user));
    let mut pattern = "%".to_owned();
    for char in said.chars() {
        if matches!(char, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}

/// Removes what is left of deleted endpoints, at most `most` rows; tells how many.
pub(in crate::webhook) fn forget_deleted(
    database: &mut dyn Statements,
    most: usize,
) -> Result<usize, SqlError> {
    let removed = database.execute(
        "DELETE FROM webhook_delivery WHERE id IN (SELECT d.id FROM webhook_endpoint e \
         JOIN webhook_delivery d ON d.endpoint = e.key WHERE e.status = 'deleted' LIMIT $1)",
        &values![most],
    )?;
    if removed < most as u64 {
        endpoints::forget_deleted(database)?;
    }
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}
