//! Events on their way, in the file.

mod forget;
mod shown;

use protocol::Time;
use rusqlite::{Connection, OptionalExtension, params};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    WebhookError,
    client::{Attempt, Outcome},
    endpoint::DisabledBy,
    endpoints,
    retry::{after, failing_since, is_hopeless, pause},
};
use crate::{
    row::{count, maybe_time},
    words::words,
};

pub(super) use self::forget::{forget_beyond, forget_deleted, forget_old, give_up_old};
use self::shown::read_delivery;
pub use self::shown::{DeadLetter, Delivery, GivenUp};
pub(super) use self::shown::{dead_letters, list};

/// Most events that wait for one endpoint. Newer ones are dropped and counted, in the endpoint's
/// `dropped` too: an endpoint that is away for days must not fill the disk.
pub const PENDING_PER_ENDPOINT_MAX: u64 = 1_000_000;

/// Most bytes of bodies that wait for one endpoint; beyond it as [`PENDING_PER_ENDPOINT_MAX`].
pub const PENDING_BYTES_PER_ENDPOINT_MAX: u64 = 512 << 20;

const PENDING: i64 = 0;
const DELIVERED: i64 = 1;
const FAILED: i64 = 2;

words! {
    /// How an event stands with an endpoint.
    DeliveryStatus {
        /// It waits for an attempt, the first or another one.
        Pending = "pending",
        /// It was answered 2xx.
        Delivered = "delivered",
        /// It was given up: a dead letter.
        Failed = "failed",
    }
}

impl DeliveryStatus {
    const fn state(self) -> i64 {
        match self {
            Self::Pending => PENDING,
            Self::Delivered => DELIVERED,
            Self::Failed => FAILED,
        }
    }

    fn of(state: i64) -> Self {
        match state {
            DELIVERED => Self::Delivered,
            FAILED => Self::Failed,
            _ => Self::Pending,
        }
    }
}

/// An event for an endpoint that wants it.
pub(super) struct NewDelivery {
    pub(super) endpoint: i64,
    pub(super) event: String,
    pub(super) kind: &'static str,
    pub(super) at: Time,
    pub(super) body: String,
}

/// How many were kept and how many had no room; those that were there already are neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) new: u64,
    pub(super) dropped: u64,
}

/// Keeps events, due at once.
pub(super) fn insert(
    connection: &Connection,
    rows: &[NewDelivery],
    now: Time,
) -> Result<Kept, WebhookError> {
    let mut room: FxHashMap<i64, Option<(u64, u64)>> = FxHashMap::default();
    let mut kept = Kept::default();
    let mut add = connection.prepare_cached(
        "INSERT OR IGNORE INTO delivery \
         (endpoint, event, type, at, body, state, waiting_since, attempts, due_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, 0, ?6)",
    )?;
    let mut refuse = connection.prepare_cached(
        "UPDATE endpoint SET dropped = dropped + 1, dropped_at = ?2 WHERE key = ?1",
    )?;
    for row in rows {
        let left = match room.get_mut(&row.endpoint) {
            Some(left) => left,
            None => room.entry(row.endpoint).or_insert(room_of(connection, row.endpoint)?),
        };
        // None for one that was disabled or deleted meanwhile.
        let Some((events, bytes)) = left else { continue };
        let size = row.body.len() as u64;
        if *events == 0 || *bytes < size {
            refuse.execute(params![row.endpoint, now.millis()])?;
            kept.dropped += 1;
            continue;
        }
        let NewDelivery { endpoint, event, kind, at, body } = row;
        if add.execute(params![endpoint, event, kind, at.millis(), body, now.millis()])? > 0 {
            (*events, *bytes) = (*events - 1, *bytes - size);
            kept.new += 1;
        }
    }
    Ok(kept)
}

fn room_of(connection: &Connection, key: i64) -> rusqlite::Result<Option<(u64, u64)>> {
    connection
        .prepare_cached(
            "SELECT pending, pending_bytes FROM endpoint WHERE key = ?1 AND status = 'active'",
        )?
        .query_row([key], |row| {
            let (events, bytes) = (count(row, "pending")?, count(row, "pending_bytes")?);
            Ok((
                PENDING_PER_ENDPOINT_MAX.saturating_sub(events),
                PENDING_BYTES_PER_ENDPOINT_MAX.saturating_sub(bytes),
            ))
        })
        .optional()
}

/// An event whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) id: i64,
    pub(super) event: String,
    pub(super) body: String,
}

/// Events of an endpoint that are due, oldest due time first, without those in `skip`; and when the
/// next one is that is not due yet.
pub(super) fn due(
    connection: &Connection,
    key: i64,
    now: Time,
    skip: &FxHashSet<i64>,
    (rows_max, bytes_max): (usize, usize),
) -> rusqlite::Result<(Vec<Due>, Option<Time>)> {
    let mut statement = connection.prepare_cached(
        "SELECT id, event, body FROM delivery INDEXED BY delivery_due \
         WHERE endpoint = ?1 AND state = 0 AND due_at <= ?2 ORDER BY due_at",
    )?;
    let mut rows = statement.query(params![key, now.millis()])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if skip.contains(&id) {
            continue;
        }
        let due = Due { id, event: row.get(1)?, body: row.get(2)? };
        bytes += due.body.len();
        found.push(due);
        if found.len() >= rows_max || bytes >= bytes_max {
            break;
        }
    }
    let next = connection
        .prepare_cached(
            "SELECT min(due_at) FROM delivery WHERE endpoint = ?1 AND state = 0 AND due_at > ?2",
        )?
        .query_row(params![key, now.millis()], |row| row.get::<_, Option<i64>>(0))?;
    Ok((found, next.map(Time::from_millis)))
}

/// The active endpoints for which something waits, and since when or until when.
pub(super) fn waiting(connection: &Connection) -> rusqlite::Result<Vec<(i64, Time)>> {
    let mut statement = connection.prepare(
        "SELECT key, (SELECT min(due_at) FROM delivery WHERE endpoint = key AND state = 0) \
         FROM endpoint WHERE pending > 0 AND status = 'active'",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, Time::from_millis(row.get::<_, Option<i64>>(1)?.unwrap_or(0))))
    })?;
    rows.collect()
}

/// What an attempt came to, for the endpoint and its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// When the attempt ended.
    pub(super) at: Time,
    /// When the event is due again.
    pub(super) retry_at: Option<Time>,
    /// It was the last attempt.
    pub(super) is_dead: bool,
    /// The endpoint was disabled for it.
    pub(super) disabled: Option<DisabledBy>,
}

/// Writes down what an attempt came to. `jitter` is from -1 to 1; `now` is when it ended.
pub(super) fn settle(
    connection: &Connection,
    (key, id): (i64, i64),
    attempt: &Attempt,
    jitter: f64,
    now: Time,
) -> Result<Settled, WebhookError> {
    let attempts: Option<u32> = connection
        .prepare_cached(
            "UPDATE delivery SET attempts = attempts + 1, last_at = ?2, last_outcome = ?3, \
             last_status = ?4, last_detail = ?5, last_ms = ?6 WHERE id = ?1 AND state = 0 \
             RETURNING attempts",
        )?
        .query_row(
            params![
                id,
                attempt.at.millis(),
                attempt.outcome.as_str(),
                attempt.status_code,
                attempt.detail,
                i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX),
            ],
            |row| row.get(0),
        )
        .optional()?;
    let mut settled = Settled { at: now, retry_at: None, is_dead: false, disabled: None };
    // None where its endpoint was deleted meanwhile.
    let Some(attempts) = attempts else { return Ok(settled) };
    let end = |status: DeliveryStatus| {
        connection
            .prepare_cached("UPDATE delivery SET state = ?2, settled_at = ?3 WHERE id = ?1")?
            .execute(params![id, status.state(), now.millis()])
    };
    if attempt.outcome == Outcome::Delivered {
        end(DeliveryStatus::Delivered)?;
        connection
            .prepare_cached(
                "UPDATE endpoint SET failing_since = NULL, last_success_at = ?2 WHERE key = ?1",
            )?
            .execute(params![key, now.millis()])?;
        return Ok(settled);
    }
    match pause(attempts, jitter, attempt.retry_after) {
        Some(pause) => {
            let retry_at = after(now, pause);
            connection
                .prepare_cached("UPDATE delivery SET due_at = ?2 WHERE id = ?1")?
                .execute(params![id, retry_at.millis()])?;
            settled.retry_at = Some(retry_at);
        }
        None => {
            end(DeliveryStatus::Failed)?;
            settled.is_dead = true;
        }
    }
    settled.disabled = note_failure(connection, key, attempt.outcome, now)?;
    Ok(settled)
}

fn note_failure(
    connection: &Connection,
    key: i64,
    outcome: Outcome,
    now: Time,
) -> Result<Option<DisabledBy>, WebhookError> {
    let (active, since, last) = connection
        .prepare_cached(
            "SELECT status = 'active' AS active, failing_since, last_failure_at \
             FROM endpoint WHERE key = ?1",
        )?
        .query_row([key], |row| {
            let (since, last) =
                (maybe_time(row, "failing_since")?, maybe_time(row, "last_failure_at")?);
            Ok((row.get::<_, bool>("active")?, since, last))
        })?;
    let since = failing_since(since, last, now);
    connection
        .prepare_cached(
            "UPDATE endpoint SET failing_since = ?2, last_failure_at = ?3, last_failure = ?4 \
             WHERE key = ?1",
        )?
        .execute(params![key, since.millis(), now.millis(), outcome.as_str()])?;
    let by = match outcome {
        Outcome::Gone => DisabledBy::Gone,
        _ if is_hopeless(since, now) => DisabledBy::Failures,
        _ => return Ok(None),
    };
    // It may have been disabled by somebody while the attempt went on, and deleted.
    if !active {
        return Ok(None);
    }
    endpoints::disable(connection, key, by, now)?;
    Ok(Some(by))
}

/// Sends an event again, from the first attempt on, whatever became of it.
pub(super) fn redeliver(
    connection: &Connection,
    key: i64,
    event: &str,
    now: Time,
) -> Result<Delivery, WebhookError> {
    let active: bool = connection
        .prepare_cached("SELECT status = 'active' FROM endpoint WHERE key = ?1")?
        .query_row([key], |row| row.get(0))?;
    if !active {
        return Err(WebhookError::Disabled);
    }
    connection
        .prepare_cached(
            "UPDATE delivery SET state = 0, attempts = 0, waiting_since = ?3, due_at = ?3, \
             settled_at = NULL WHERE endpoint = ?1 AND event = ?2 RETURNING *",
        )?
        .query_row(params![key, event, now.millis()], read_delivery)
        .optional()?
        .ok_or(WebhookError::NotFound)
}

/// How many events wait, over all endpoints.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(pending), 0) AS n FROM endpoint WHERE status <> 'deleted'",
        )?
        .query_row([], |row| count(row, "n"))
}
