//! Keeps the counts of endpoints right: how much waits, was delivered and was given up.

use rustc_hash::FxHashMap;

use super::{DELIVERED, FAILED, PENDING};
use crate::sql::{SqlError, Statements, values};

#[derive(Clone, Copy, Default)]
struct Counts {
    pending: i64,
    pending_bytes: i64,
    delivered: i64,
    failed: i64,
    /// Something is to be sent that whoever sends may not know of.
    news: bool,
}

/// By how much the counts of endpoints change.
#[derive(Default)]
pub(super) struct Tally(FxHashMap<i64, Counts>);

impl Tally {
    /// A delivery of an endpoint, whose body has so many bytes, comes to be in a state.
    pub(super) fn add(&mut self, endpoint: i64, state: i64, bytes: i64) {
        self.count(endpoint, state, bytes, 1);
    }

    /// It is no longer in one.
    pub(super) fn remove(&mut self, endpoint: i64, state: i64, bytes: i64) {
        self.count(endpoint, state, bytes, -1);
    }

    fn count(&mut self, endpoint: i64, state: i64, bytes: i64, by: i64) {
        let counts = self.0.entry(endpoint).or_default();
        match state {
            PENDING => {
                counts.pending += by;
                counts.pending_bytes += by * bytes;
            }
            DELIVERED => counts.delivered += by,
            FAILED => counts.failed += by,
            other => unreachable!("there is no state {other}"),
        }
    }

    /// Whoever sends for an endpoint is to look.
    pub(super) fn tell(&mut self, endpoint: i64) {
        self.0.entry(endpoint).or_default().news = true;
    }

    pub(super) fn write(self, database: &mut dyn Statements) -> Result<(), SqlError> {
        let mut news = None;
        if self.0.values().any(|counts| counts.news) {
            let sql = "UPDATE webhook_revision SET news = news + 1 RETURNING news";
            news = Some(database.number(sql, &[])?);
        }
        let rows: Vec<_> = self
            .0
            .into_iter()
            .map(|(endpoint, counts)| {
                let Counts { pending, pending_bytes, delivered, failed, .. } = counts;
                let news = news.filter(|_| counts.news);
                values![endpoint, pending, pending_bytes, delivered, failed, news].to_vec()
            })
            .collect();
        database.execute_each(
            "UPDATE webhook_endpoint SET pending = pending + $2, pending_bytes = pending_bytes + $3, \
             delivered = delivered + $4, failed = failed + $5, news = coalesce($6, news) \
             WHERE key = $1",
            &rows,
        )
    }
}
