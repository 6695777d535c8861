//! What came of attempts.

use std::collections::BTreeMap;

use protocol::Time;

use super::{DELIVERED, FAILED, PENDING, tally::Tally};
use crate::{
    clock::after,
    sql::{Row, SqlError, Statements, values},
    webhook::{
        client::{Attempt, Outcome},
        endpoint::{DisabledBy, WebhookStatus},
        endpoints,
        retry::{failing_since, is_hopeless, pause},
    },
};

/// An attempt that ended.
#[derive(Clone)]
pub(in crate::webhook) struct Tried {
    /// The endpoint's.
    pub(in crate::webhook) key: i64,
    /// The delivery's.
    pub(in crate::webhook) id: i64,
    pub(in crate::webhook) attempt: Attempt,
    /// From -1 to 1.
    pub(in crate::webhook) jitter: f64,
    /// When it ended.
    pub(in crate::webhook) now: Time,
}

/// What an attempt came to, for the endpoint and its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) struct Settled {
    /// When the attempt ended.
    pub(in crate::webhook) at: Time,
    /// When the event is due again.
    pub(in crate::webhook) retry_at: Option<Time>,
    /// It was the last attempt.
    pub(in crate::webhook) is_dead: bool,
    /// The endpoint was disabled for it.
    pub(in crate::webhook) disabled: Option<DisabledBy>,
}

/// How an endpoint has been doing.
#[derive(Default)]
struct Standing {
    is_active: bool,
    failing_since: Option<Time>,
    last_success_at: Option<Time>,
    last_failure_at: Option<Time>,
    last_failure: Option<Outcome>,
}

impl Standing {
    fn read(row: Option<Row>) -> Result<Self, SqlError> {
        // Its events went before it did, so nothing is settled for one that is gone.
        let Some(mut row) = row else { return Ok(Self::default()) };
        Ok(Self {
            is_active: row.text()? == WebhookStatus::Active.as_str(),
            failing_since: row.maybe_time()?,
            last_failure_at: row.maybe_time()?,
            ..Self::default()
        })
    }

    /// Whether and why it is disabled for this failure.
    fn fail(&mut self, outcome: Outcome, now: Time) -> Option<DisabledBy> {
        let since = failing_since(self.failing_since, self.last_failure_at, now);
        self.failing_since = Some(since);
        (self.last_failure_at, self.last_failure) = (Some(now), Some(outcome));
        let by = match outcome {
            Outcome::Gone => DisabledBy::Gone,
            _ if is_hopeless(since, now) => DisabledBy::Failures,
            _ => return None,
        };
        // It may have been disabled by somebody while the attempt went on, and deleted.
        std::mem::take(&mut self.is_active).then_some(by)
    }
}

/// Writes down what attempts came to, in their order.
pub(in crate::webhook) fn settle(
    database: &mut dyn Statements,
    tried: &[Tried],
) -> Result<Vec<Settled>, SqlError> {
    if tried.is_empty() {
        return Ok(Vec::new());
    }
    let counted = count(database, tried)?;
    let mut standings = standings(database, tried)?;
    let (mut tally, mut retries, mut all) = (Tally::default(), Vec::new(), Vec::new());
    for (one, counted) in tried.iter().zip(counted) {
        let Tried { key, id, ref attempt, jitter, now } = *one;
        let mut settled = Settled { at: now, retry_at: None, is_dead: false, disabled: None };
        // None where its endpoint was deleted meanwhile, or it was given up for its age.
        if let (Some((attempts, bytes)), Some(standing)) = (counted, standings.get_mut(&key)) {
            let mut move_to = |state| {
                tally.remove(key, PENDING, bytes);
                tally.add(key, state, bytes);
            };
            if attempt.outcome == Outcome::Delivered {
                move_to(DELIVERED);
                (standing.failing_since, standing.last_success_at) = (None, Some(now));
            } else {
                settled.disabled = standing.fail(attempt.outcome, now);
                settled.retry_at =
                    pause(attempts, jitter, attempt.retry_after).map(|pause| after(now, pause));
                settled.is_dead = settled.retry_at.is_none();
                if settled.is_dead {
                    move_to(FAILED);
                }
                let (state, ended) = match settled.retry_at {
                    Some(_) => (PENDING, None),
                    None => (FAILED, Some(now)),
                };
                retries.push(values![id, settled.retry_at, state, ended].to_vec());
                if let Some(by) = settled.disabled {
                    endpoints::disable(database, key, by, now)?;
                }
            }
        }
        all.push(settled);
    }
    database.execute_each(
        "UPDATE webhook_delivery SET due_at = coalesce($2, due_at), state = $3, settled_at = $4 \
         WHERE id = $1",
        &retries,
    )?;
    write(database, standings)?;
    tally.write(database)?;
    Ok(all)
}

/// Counts attempts; how many there were of each event, and the bytes of its body.
fn count(
    database: &mut dyn Statements,
    tried: &[Tried],
) -> Result<Vec<Option<(u32, i64)>>, SqlError> {
    let rows: Vec<_> = tried
        .iter()
        .map(|Tried { id, attempt, now, .. }| {
            let (state, ended) = match attempt.outcome {
                Outcome::Delivered => (DELIVERED, Some(*now)),
                _ => (PENDING, None),
            };
            values![
                *id,
                attempt.at,
                attempt.outcome.as_str(),
                attempt.status_code.map(i64::from),
                attempt.detail.as_deref(),
                attempt.duration_ms,
                state,
                ended,
            ]
            .to_vec()
        })
        .collect();
    let counted = database.rows_each(
        "UPDATE webhook_delivery SET attempts = attempts + 1, last_at = $2, last_outcome = $3, \
         last_status = $4, last_detail = $5, last_ms = $6, state = $7, settled_at = $8 \
         WHERE id = $1 AND state = 0 \
         RETURNING attempts, CAST(octet_length(body) AS bigint)",
        &rows,
    )?;
    let counted = counted.into_iter().map(|rows| {
        let Some(mut row) = rows.into_iter().next() else { return Ok(None) };
        let attempts = u32::try_from(row.count()?).unwrap_or(u32::MAX);
        Ok(Some((attempts, row.int()?)))
    });
    counted.collect()
}

fn standings(
    database: &mut dyn Statements,
    tried: &[Tried],
) -> Result<BTreeMap<i64, Standing>, SqlError> {
    let keys: std::collections::BTreeSet<_> = tried.iter().map(|tried| tried.key).collect();
    let questions: Vec<_> = keys.iter().map(|key| values![*key].to_vec()).collect();
    let rows = database.rows_each(
        "SELECT status, failing_since, last_failure_at FROM webhook_endpoint WHERE key = $1",
        &questions,
    )?;
    let standings = keys.into_iter().zip(rows);
    standings.map(|(key, rows)| Ok((key, Standing::read(rows.into_iter().next())?))).collect()
}

fn write(
    database: &mut dyn Statements,
    standings: BTreeMap<i64, Standing>,
) -> Result<(), SqlError> {
    let rows: Vec<_> = standings
        .into_iter()
        .map(|(key, standing)| {
            values![
                key,
                standing.failing_since,
                standing.last_success_at,
                standing.last_failure_at,
                standing.last_failure.map(Outcome::as_str),
            ]
            .to_vec()
        })
        .collect();
    database.execute_each(
        "UPDATE webhook_endpoint SET failing_since = $2, \
         last_success_at = coalesce($3, last_success_at), last_failure_at = $4, \
         last_failure = coalesce($5, last_failure) WHERE key = $1",
        &rows,
    )
}
