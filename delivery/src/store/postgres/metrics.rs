//! What the store counts.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Recorder};

use crate::{metrics::Metric, store::outcome::OutcomeMetrics};

const COMMIT_SECONDS: Metric =
    Metric::histogram("pushhub_postgres_commit_seconds", "", "Time of one commit in the database.");
const BATCH_ROWS: Metric = Metric::histogram(
    "pushhub_postgres_batch_rows",
    "",
    "Rows of inboxes that one transaction of sends writes.",
);
const ROWS: Metric =
    Metric::counter("pushhub_postgres_rows_total", "", "Rows of inboxes that sends have written.");
const RETRIES: Metric = Metric::counter(
    "pushhub_postgres_retries_total",
    "",
    "Transactions that were tried again because they met another one or their connection had ended.",
);
const ERRORS: Metric = Metric::counter(
    "pushhub_postgres_errors_total",
    "kind",
    "Transactions that failed, by what failed (connect, connection, deadlock, moved, refused, silent, statement, timeout, unknown, unreadable).",
);
const BUSY: Metric = Metric::counter(
    "pushhub_postgres_busy_total",
    "",
    "Sends that were refused because too much waited for the database.",
);
const CONNECTIONS: Metric =
    Metric::gauge("pushhub_postgres_connections", "", "Connections to the database.");
const CONNECTIONS_WAITED_FOR: Metric = Metric::gauge(
    "pushhub_postgres_connections_waited_for",
    "",
    "Operations that wait for a connection because all are in use.",
);
const TAKEN_OVER: Metric = Metric::counter(
    "pushhub_postgres_caught_up_total",
    "",
    "Inboxes that were watched here and were brought to a message for a group or everyone.",
);
const NOTES_DROPPED: Metric = Metric::counter(
    "pushhub_postgres_receipts_dropped_total",
    "",
    "Notes of what went to devices that were given up because they could not be written.",
);
const PUBLISH_DROPPED: Metric = Metric::counter(
    "pushhub_postgres_publish_dropped_total",
    "",
    "Changes that were not published because too many were waiting; connections read them from the store.",
);
const TOKENS: Metric = Metric::counter(
    "pushhub_postgres_tokens_total",
    "result",
    "Tokens that users showed, by what they said (known: looked at lately; same: nothing new; new).",
);
const ROLES_OVER: Metric = Metric::counter(
    "pushhub_postgres_token_roles_over_total",
    "",
    "Roles of tokens that were passed over because their users are in as many groups as one may be.",
);
const FIRED: Metric = Metric::counter(
    "pushhub_postgres_scheduled_total",
    "result",
    "Scheduled messages whose time came on this node (sent, expired).",
);
const FIRE_DELAY: Metric = Metric::histogram(
    "pushhub_postgres_scheduled_delay_seconds",
    "",
    "How long after its time a scheduled message was sent.",
);
const PRUNED: Metric = Metric::counter(
    "pushhub_postgres_pruned_total",
    "kind",
    "What was forgotten because it was too old or too much: message, in an inbox; shared, kept once for many inboxes.",
);
const FORGOTTEN: Metric = Metric::counter(
    "pushhub_postgres_forgotten_total",
    "",
    "Users who were forgotten with all they had, at the request of this node.",
);
const INDEXED: Metric = Metric::counter(
    "pushhub_postgres_search_indexed_total",
    "",
    "Messages that were taken over into the index of searches.",
);
const REPLICA: Metric = Metric::counter(
    "pushhub_postgres_replica_total",
    "result",
    "Lists for the standby, by whether it had what the primary has (answered, behind, failed), or was not asked because it had just failed (skipped).",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[
    COMMIT_SECONDS,
    BATCH_ROWS,
    ROWS,
    RETRIES,
    ERRORS,
    BUSY,
    CONNECTIONS,
    CONNECTIONS_WAITED_FOR,
    TAKEN_OVER,
    NOTES_DROPPED,
    PUBLISH_DROPPED,
    TOKENS,
    ROLES_OVER,
    FIRED,
    FIRE_DELAY,
    PRUNED,
    FORGOTTEN,
    INDEXED,
    REPLICA,
];

const ERROR_KINDS: [&str; 10] = [
    "connect",
    "connection",
    "deadlock",
    "moved",
    "refused",
    "silent",
    "statement",
    "timeout",
    "unknown",
    "unreadable",
];

pub(super) struct PostgresMetrics {
    pub(super) commit_seconds: Histogram,
    pub(super) batch_rows: Histogram,
    pub(super) rows: Counter,
    pub(super) retries: Counter,
    errors: [Counter; ERROR_KINDS.len()],
    pub(super) busy: Counter,
    connections: Gauge,
    waited_for: Gauge,
    pub(super) caught_up: Counter,
    pub(super) notes_dropped: Counter,
    pub(super) publish_dropped: Counter,
    pub(super) tokens_known: Counter,
    pub(super) tokens_same: Counter,
    pub(super) tokens_new: Counter,
    pub(super) roles_over: Counter,
    pub(super) fired_sent: Counter,
    pub(super) fired_expired: Counter,
    fire_delay: Histogram,
    pub(super) pruned_messages: Counter,
    pub(super) pruned_shared: Counter,
    pub(super) forgotten: Counter,
    pub(super) indexed: Counter,
    pub(super) replica_answered: Counter,
    pub(super) replica_behind: Counter,
    pub(super) replica_failed: Counter,
    pub(super) replica_skipped: Counter,
    pub(super) outcome: OutcomeMetrics,
}

impl PostgresMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        ALL.iter().for_each(|metric| metric.describe(recorder));
        let counter = |metric: Metric, labels: &[(&'static str, &'static str)]| {
            metric.to_counter(recorder, labels)
        };
        Self {
            commit_seconds: COMMIT_SECONDS.to_histogram(recorder, &[]),
            batch_rows: BATCH_ROWS.to_histogram(recorder, &[]),
            rows: counter(ROWS, &[]),
            retries: counter(RETRIES, &[]),
            errors: ERROR_KINDS.map(|kind| counter(ERRORS, &[("kind", kind)])),
            busy: counter(BUSY, &[]),
            connections: CONNECTIONS.to_gauge(recorder, &[]),
            waited_for: CONNECTIONS_WAITED_FOR.to_gauge(recorder, &[]),
            caught_up: counter(TAKEN_OVER, &[]),
            notes_dropped: counter(NOTES_DROPPED, &[]),
            publish_dropped: counter(PUBLISH_DROPPED, &[]),
            tokens_known: counter(TOKENS, &[("result", "known")]),
            tokens_same: counter(TOKENS, &[("result", "same")]),
            tokens_new: counter(TOKENS, &[("result", "new")]),
            roles_over: counter(ROLES_OVER, &[]),
            fired_sent: counter(FIRED, &[("result", "sent")]),
            fired_expired: counter(FIRED, &[("result", "expired")]),
            fire_delay: FIRE_DELAY.to_histogram(recorder, &[]),
            pruned_messages: counter(PRUNED, &[("kind", "message")]),
            pruned_shared: counter(PRUNED, &[("kind", "shared")]),
            forgotten: counter(FORGOTTEN, &[]),
            indexed: counter(INDEXED, &[]),
            replica_answered: counter(REPLICA, &[("result", "answered")]),
            replica_behind: counter(REPLICA, &[("result", "behind")]),
            replica_failed: counter(REPLICA, &[("result", "failed")]),
            replica_skipped: counter(REPLICA, &[("result", "skipped")]),
            outcome: OutcomeMetrics::new(recorder),
        }
    }

    /// A transaction failed.
    pub(super) fn failed(&self, kind: &str) {
        if let Some(at) = ERROR_KINDS.iter().position(|known| *known == kind) {
            self.errors[at].increment(1);
        }
    }

    pub(super) fn pool(&self, status: deadpool_postgres::Status) {
        self.connections.set(status.size as f64);
        self.waited_for.set(status.waiting as f64);
    }

    /// A scheduled message was sent so long after its time, in milliseconds.
    pub(super) fn fired(&self, late: i64) {
        self.fired_sent.increment(1);
        self.fire_delay.record(Duration::from_millis(u64::try_from(late).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_explained_by_every_name_it_is_counted_by() {
        for kind in ERROR_KINDS {
            assert!(ERRORS.help.contains(kind), "{kind}");
        }
    }
}
