//! Keeps what is remembered in its limits, a part at a time.

use std::time::Duration;

use protocol::Time;

use super::{DELIVERED, FAILED, PENDING, tally::Tally};
use crate::{
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
