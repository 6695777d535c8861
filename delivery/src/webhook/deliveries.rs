//! Events on their way, in the database.

mod due;
mod forget;
mod settle;
mod shown;
mod tally;

use protocol::Time;
use rustc_hash::FxHashMap;

use self::tally::Tally;
use super::WebhookError;
use crate::{
    sql::{Database, Insert, SqlError, Statements, values},
    words::words,
};

pub use self::shown::{DeadLetter, Delivery, GivenUp};
#[cfg(test)]
pub(super) use self::{
    due::{DUE, NEXT_DUE},
    shown::{DEAD_LETTERS, LIST},
};
pub(super) use self::{
    due::{Due, due, waiting},
    forget::{forget_beyond, forget_deleted, forget_old, forget_user, give_up_old},
    settle::{Settled, Tried, settle},
    shown::{dead_letters, list},
};

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
    /// Since when it waits, due at once.
    pub(super) since: Time,
}

/// How many were kept and how many had no room; those that were there already are neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) new: u64,
    pub(super) dropped: u64,
}

/// Most events that are added by one statement, and with [`ADD_BYTES_MAX`] what is in memory of it.
const ADD_MAX: usize = 4_096;

/// Most bytes of bodies that are added by one statement, unless one event has more.
const ADD_BYTES_MAX: usize = 4 << 20;

/// What was recorded already stays as it is.
const ADD: Insert = Insert {
    one: "INSERT INTO webhook_delivery \
          (endpoint, event, type, at, body, waiting_since, due_at, state, attempts) \
          VALUES ($1, $2, $3, $4, $5, $6, $6, 0, 0) ON CONFLICT (endpoint, event) DO NOTHING \
          RETURNING endpoint, CAST(octet_length(body) AS bigint)",
    many: "INSERT INTO webhook_delivery \
           (endpoint, event, type, at, body, waiting_since, due_at, state, attempts) \
           SELECT e, v, t, a, b, w, w, 0, 0 FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), \
           CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS text[]), CAST($6 AS bigint[])) \
           AS new (e, v, t, a, b, w) ON CONFLICT (endpoint, event) DO NOTHING \
           RETURNING endpoint, CAST(octet_length(body) AS bigint)",
};

/// How much an endpoint may still be given.
struct Room {
    events: u64,
    bytes: u64,
    /// What is about to be added, unless it is there already.
    asked: (u64, u64),
}

impl Room {
    fn has(&self, bytes: u64) -> bool {
        self.events > self.asked.0 && self.bytes.saturating_sub(self.asked.1) >= bytes
    }
}

/// Keeps events, due at once.
pub(super) fn insert(
    database: &mut dyn Statements,
    rows: &[NewDelivery],
) -> Result<Kept, SqlError> {
    let mut adding = Adding::default();
    let mut dropped: FxHashMap<i64, (i64, Time)> = FxHashMap::default();
    for row in rows {
        let size = row.body.len() as u64;
        let is_asked = match adding.room(database, row.endpoint)? {
            // One that was disabled or deleted meanwhile.
            None => continue,
            Some(room) => !room.has(size) && room.asked.0 > 0,
        };
        if is_asked || adding.is_full(row.body.len()) {
            adding.add(database)?;
        }
        match adding.room(database, row.endpoint)? {
            Some(room) if room.has(size) => {
                room.asked = (room.asked.0 + 1, room.asked.1 + size);
                adding.rows.push(row);
                adding.bytes += row.body.len();
            }
            Some(_) | None => {
                let (count, at) = dropped.entry(row.endpoint).or_insert((0, row.since));
                (*count, *at) = (*count + 1, row.since.max(*at));
            }
        }
    }
    adding.add(database)?;
    adding.tally.write(database)?;
    let refused: u64 = dropped.values().map(|(count, _)| count.unsigned_abs()).sum();
    let dropped: Vec<_> = dropped
        .into_iter()
        .map(|(endpoint, (count, at))| values![endpoint, count, at].to_vec())
        .collect();
    database.execute_each(
        "UPDATE webhook_endpoint SET dropped = dropped + $2, dropped_at = $3 WHERE key = $1",
        &dropped,
    )?;
    Ok(Kept { new: adding.new, dropped: refused })
}

/// What is being added.
#[derive(Default)]
struct Adding<'a> {
    /// None for endpoints that take nothing.
    rooms: FxHashMap<i64, Option<Room>>,
    rows: Vec<&'a NewDelivery>,
    bytes: usize,
    new: u64,
    tally: Tally,
}

impl Adding<'_> {
    fn room(
        &mut self,
        database: &mut dyn Statements,
        endpoint: i64,
    ) -> Result<Option<&mut Room>, SqlError> {
        use std::collections::hash_map::Entry;
        let room = match self.rooms.entry(endpoint) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(room_of(database, endpoint)?),
        };
        Ok(room.as_mut())
    }

    fn is_full(&self, more: usize) -> bool {
        self.rows.len() >= ADD_MAX || self.bytes + more > ADD_BYTES_MAX
    }

    fn add(&mut self, database: &mut dyn Statements) -> Result<(), SqlError> {
        let rows: Vec<_> = self
            .rows
            .drain(..)
            .map(|row| {
                let NewDelivery { endpoint, event, kind, at, body, since } = row;
                values![*endpoint, event, *kind, *at, body, *since].to_vec()
            })
            .collect();
        for mut row in database.insert(&ADD, &rows)? {
            let (endpoint, bytes) = (row.int()?, row.int()?);
            self.new += 1;
            self.tally.add(endpoint, PENDING, bytes);
            self.tally.tell(endpoint);
            if let Some(Some(room)) = self.rooms.get_mut(&endpoint) {
                room.events = room.events.saturating_sub(1);
                room.bytes = room.bytes.saturating_sub(bytes.unsigned_abs());
            }
        }
        self.bytes = 0;
        for room in self.rooms.values_mut().flatten() {
            room.asked = (0, 0);
        }
        Ok(())
    }
}

fn room_of(database: &mut dyn Statements, key: i64) -> Result<Option<Room>, SqlError> {
    let row = database.row(
        "SELECT pending, pending_bytes FROM webhook_endpoint WHERE key = $1 AND status = 'active'",
        &values![key],
    )?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(Room {
        events: PENDING_PER_ENDPOINT_MAX.saturating_sub(row.count()?),
        bytes: PENDING_BYTES_PER_ENDPOINT_MAX.saturating_sub(row.count()?),
        asked: (0, 0),
    }))
}

/// Sends an event again, from the first attempt on, whatever became of it.
pub(super) fn redeliver(
    database: &mut dyn Statements,
    key: i64,
    event: &str,
    now: Time,
) -> Result<Delivery, WebhookError> {
    let sql = "SELECT status FROM webhook_endpoint WHERE key = $1";
    let status = database.row(sql, &values![key])?.unwrap_or_default().text()?;
    // PostgreSQL has no zero byte in a text.
    if event.contains('\0') {
        return Err(WebhookError::NotFound);
    }
    if status != super::WebhookStatus::Active.as_str() {
        return Err(WebhookError::Disabled);
    }
    let found = database.row(
        "SELECT id, state, CAST(octet_length(body) AS bigint) FROM webhook_delivery \
         WHERE endpoint = $1 AND event = $2",
        &values![key, event],
    )?;
    let mut found = found.ok_or(WebhookError::NotFound)?;
    let (id, state, bytes) = (found.int()?, found.int()?, found.int()?);
    database.execute(
        "UPDATE webhook_delivery SET state = 0, attempts = 0, waiting_since = $2, due_at = $2, \
         settled_at = NULL WHERE id = $1",
        &values![id, now],
    )?;
    let mut tally = Tally::default();
    tally.remove(key, state, bytes);
    tally.add(key, PENDING, bytes);
    tally.tell(key);
    tally.write(database)?;
    Ok(shown::get(database, id)?)
}

/// How many events wait, over all endpoints.
pub(super) fn pending(database: &mut Database) -> Result<u64, SqlError> {
    let sql = "SELECT CAST(coalesce(sum(pending), 0) AS bigint) FROM webhook_endpoint \
               WHERE status <> 'deleted'";
    database.glance(sql, &[])?.pop().unwrap_or_default().count()
}
