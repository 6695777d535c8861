//! Deletes from `ledger.db` what was kept long enough, in steps so small that nobody waits for one.

use std::{sync::Arc, time::Duration};

use protocol::Time;
use rusqlite::{Connection, params, types::Value};

use super::{
    metrics::LedgerMetrics,
    schema::{IdKey, state_code},
    stats,
};
use crate::store::{Keeping, SentState, limits};

/// Rows of a table looked at in one step: some 5 ms.
const STEP_ROWS: i64 = 1_000;

/// How long each thing is kept, and where the walk through the sent messages is.
pub(super) struct Pruner {
    keeping: Arc<Keeping>,
    walk: Option<(IdKey, String)>,
}

impl Pruner {
    pub(super) const fn new(keeping: Arc<Keeping>) -> Self {
        Self { keeping, walk: None }
    }

    /// One step through everything; whether there may be more to do now.
    pub(super) fn step(
        &mut self,
        db: &Connection,
        now: Time,
        metrics: &LedgerMetrics,
    ) -> rusqlite::Result<bool> {
        let transaction = db.unchecked_transaction()?;
        let (answers, more_answers) = answers(db, before(now, limits::ANSWER_KEPT))?;
        let (rows, more_rows) = stats(db, before(now, limits::STATS_KEPT))?;
        let (sent, more_sent) = self.sent(db, before(now, self.keeping.sent_kept()))?;
        transaction.commit()?;
        metrics.pruned_answers.increment(answers);
        metrics.pruned_stats.increment(rows);
        metrics.pruned_sent.increment(sent);
        Ok(more_answers || more_rows || more_sent)
    }

    /// Messages, in the order of their ids, which is that of the time they were accepted. One that
    /// was scheduled may have been sent long after: it is left, and looked at in the next walk.
    fn sent(&mut self, db: &Connection, cutoff: Time) -> rusqlite::Result<(u64, bool)> {
        let mut select = db.prepare_cached(
            "SELECT id, tenant, state, max(accepted_at, coalesce(scheduled_at, 0), coalesce(sent_at, 0))
             FROM sent WHERE (id, tenant) > (?1, ?2) AND id < ?3 ORDER BY id, tenant LIMIT ?4",
        )?;
        // Numbers stand before texts and bytes.
        let (id, tenant): (Box<dyn rusqlite::ToSql>, _) = match self.walk.take() {
            Some((id, tenant)) => (Box::new(id), tenant),
            None => (Box::new(Value::Integer(0)), String::new()),
        };
        let end = IdKey::first_of(cutoff.millis());
        let rows: Vec<(IdKey, String, bool)> = select
            .query_map(params![id, tenant, end, STEP_ROWS], |row| {
                let waits = row.get::<_, i64>(2)? == state_code(SentState::Scheduled);
                let old = !waits && row.get::<_, i64>(3)? < cutoff.millis();
                Ok((IdKey::read(row, 0)?, row.get(1)?, old))
            })?
            .collect::<Result<_, _>>()?;
        let mut delete = db.prepare_cached("DELETE FROM sent WHERE id = ?1 AND tenant = ?2")?;
        let mut gone = 0;
        for (id, tenant, _) in rows.iter().filter(|(_, _, old)| *old) {
            gone += delete.execute(params![id, tenant])? as u64;
        }
        let more = rows.len().cast_signed() as i64 == STEP_ROWS;
        self.walk = rows.into_iter().next_back().map(|(id, tenant, _)| (id, tenant));
        if !more {
            self.walk = None;
        }
        Ok((gone, more))
    }
}

fn before(now: Time, kept: Duration) -> Time {
    let kept = crate::clock::millis(kept);
    Time::from_millis(now.millis().saturating_sub(kept))
}

/// Answers stand in the order in which they were given.
fn answers(db: &Connection, cutoff: Time) -> rusqlite::Result<(u64, bool)> {
    let mut select = db.prepare_cached("SELECT lsn, at FROM answers ORDER BY lsn LIMIT ?1")?;
    let mut rows = select.query([STEP_ROWS])?;
    let (mut last, mut old) = (None, 0);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? > cutoff.millis() {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
        old += 1;
    }
    drop(rows);
    let gone = match last {
        Some(last) => {
            db.prepare_cached("DELETE FROM answers WHERE lsn <= ?1")?.execute([last])? as u64
        }
        None => 0,
    };
    Ok((gone, old == STEP_ROWS))
}

/// One hour at a time.
fn stats(db: &Connection, cutoff: Time) -> rusqlite::Result<(u64, bool)> {
    let gone = db
        .prepare_cached(
            "DELETE FROM stats WHERE hour = (SELECT min(hour) FROM stats) AND hour < ?1",
        )?
        .execute([stats::hour_of(cutoff)])? as u64;
    Ok((gone, gone > 0))
}
