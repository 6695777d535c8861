//! Keeps what is remembered in its limits, a part at a time.

use std::time::Duration;

use protocol::Time;
use rusqlite::{Connection, params};

use super::{DELIVERED, FAILED};

/// Gives up what has waited for longer than `age`, at most `most`; tells how many.
pub(in crate::webhook) fn give_up_old(
    connection: &Connection,
    age: Duration,
    most: usize,
    now: Time,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE delivery SET state = 2, settled_at = ?1 WHERE id IN \
             (SELECT id FROM delivery WHERE state = 0 AND waiting_since < ?2 LIMIT ?3)",
        )?
        .execute(params![now.millis(), before(now, age), most as i64])
}

/// Forgets what was settled longer ago than `age`, at most `most`; tells how many.
pub(in crate::webhook) fn forget_old(
    connection: &Connection,
    age: Duration,
    most: usize,
    now: Time,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM delivery WHERE id IN \
             (SELECT id FROM delivery WHERE state <> 0 AND settled_at < ?1 LIMIT ?2)",
        )?
        .execute(params![before(now, age), most as i64])
}

fn before(now: Time, age: Duration) -> i64 {
    now.millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Forgets the oldest of what was settled beyond `history` of each kind, at most `most` of each;
/// tells how many.
pub(in crate::webhook) fn forget_beyond(
    connection: &Connection,
    history: usize,
    most: usize,
) -> rusqlite::Result<usize> {
    let mut forgotten = 0;
    for (state, column) in [(DELIVERED, "delivered"), (FAILED, "failed")] {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT key, {column} - ?1 FROM endpoint WHERE {column} > ?1"
        ))?;
        let beyond = statement
            .query_map([history as i64], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        for (key, count) in beyond {
            forgotten += connection
                .prepare_cached(
                    "DELETE FROM delivery WHERE id IN (SELECT id FROM delivery \
                     WHERE endpoint = ?1 AND state = ?2 ORDER BY id LIMIT ?3)",
                )?
                .execute(params![key, state, count.min(most as i64)])?;
        }
    }
    Ok(forgotten)
}

/// Removes what is left of deleted endpoints, at most `most` rows; tells how many.
pub(in crate::webhook) fn forget_deleted(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<usize> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM delivery WHERE id IN (SELECT delivery.id FROM endpoint CROSS JOIN delivery \
             ON endpoint = key WHERE status = 'deleted' LIMIT ?1)",
        )?
        .execute([most as i64])?;
    if removed < most {
        connection.execute("DELETE FROM endpoint WHERE status = 'deleted'", [])?;
    }
    Ok(removed)
}
