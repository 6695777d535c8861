//! What the single-node store counts.

use metrics::{Counter, Gauge, Histogram, Recorder};

use crate::metrics::Metric;

pub use super::ledger::metrics::ALL as LEDGER;

const COMMITS: Metric = Metric::counter(
    "pushhub_store_commits_total",
    "result",
    "Group commits of the journal, by result (ok, error).",
);
const COMMIT_SECONDS: Metric = Metric::histogram(
    "pushhub_store_commit_seconds",
    "",
    "Time of one group commit of the journal, sync included.",
);
const COMMIT_RECORDS: Metric = Metric::histogram(
    "pushhub_store_commit_records",
    "",
    "Records in one group commit of the journal.",
);
const LAG_RECORDS: Metric = Metric::gauge(
    "pushhub_store_lag_records",
    "",
    "Changes that are durable in the journal but not yet in their users' files.",
);
const LAG_BYTES: Metric = Metric::gauge(
    "pushhub_store_lag_bytes",
    "",
    "Memory held by changes that are not yet in their users' files.",
);
const SHARED_BYTES: Metric = Metric::gauge(
    "pushhub_store_shared_waiting_bytes",
    "",
    "Memory held by changes that are not yet in the file that all inboxes share.",
);
const TOKENS: Metric = Metric::counter(
    "pushhub_store_tokens_total",
    "result",
    "Tokens that users showed, by what they said (known: looked at lately; same: nothing new; new).",
);
const ROLES_OVER: Metric = Metric::counter(
    "pushhub_store_token_roles_over_total",
    "",
    "Roles of tokens that were passed over because their users are in as many groups as one may be.",
);
const INBOXES: Metric = Metric::gauge("pushhub_store_inboxes", "", "Inboxes held in memory.");
const OPEN_FILES: Metric =
    Metric::gauge("pushhub_store_open_inboxes", "", "Inboxes whose files are open.");
const SEGMENTS: Metric =
    Metric::gauge("pushhub_store_journal_segments", "", "Journal segments on disk.");
const ERRORS: Metric = Metric::counter(
    "pushhub_store_errors_total",
    "op",
    "Failed operations on the disk, by operation.",
);
const BUSY: Metric = Metric::counter(
    "pushhub_store_busy_total",
    "limit",
    "Operations refused because too much was waiting, by the limit that was reached.",
);
const PUBLISH_DROPPED: Metric = Metric::counter(
    "pushhub_store_publish_dropped_total",
    "",
    "Changes that were not published because too many were waiting; connections read them from the store.",
);

const SEARCH_SECONDS: Metric = Metric::histogram(
    "pushhub_store_search_seconds",
    "index",
    "Time of one search of an inbox, by whether its index was (nearly) up to date (ready) or had to be made first (behind).",
);
const SEARCHES_WAITING: Metric =
    Metric::gauge("pushhub_store_searches_waiting", "", "Searches that wait for an answer.");
const SEARCH_INDEXED: Metric = Metric::counter(
    "pushhub_store_search_indexed_total",
    "",
    "Messages that were taken over into the indexes of searches.",
);
const SEARCH_RENEWED: Metric = Metric::counter(
    "pushhub_store_search_renewed_total",
    "",
    "Indexes of searches that were begun anew: damaged, of another version, or not of these messages.",
);
const NOTES_DROPPED: Metric = Metric::counter(
    "pushhub_store_receipts_dropped_total",
    "",
    "Notes of what went to devices that were given up because their inbox's file could not be written.",
);
const PRUNED: Metric = Metric::counter(
    "pushhub_store_pruned_total",
    "kind",
    "What was forgotten because it was too old or too much: message, in an inbox; shared, kept once for many inboxes.",
);

const FORGOTTEN: Metric = Metric::counter(
    "pushhub_store_forgotten_total",
    "",
    "Users who were forgotten with everything.",
);
const FORGETTING: Metric =
    Metric::gauge("pushhub_store_forgetting", "", "Users who are being forgotten.");
const FORGET_SECONDS: Metric = Metric::histogram(
    "pushhub_store_forget_seconds",
    "",
    "From storing that a user is forgotten to nothing being left of them.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[
    COMMITS,
    COMMIT_SECONDS,
    COMMIT_RECORDS,
    LAG_RECORDS,
    LAG_BYTES,
    SHARED_BYTES,
    TOKENS,
    ROLES_OVER,
    INBOXES,
    OPEN_FILES,
    SEGMENTS,
    ERRORS,
    BUSY,
    PUBLISH_DROPPED,
    SEARCH_SECONDS,
    SEARCHES_WAITING,
    SEARCH_INDEXED,
    SEARCH_RENEWED,
    NOTES_DROPPED,
    PRUNED,
    FORGOTTEN,
    FORGETTING,
    FORGET_SECONDS,
];

pub(super) struct StoreMetrics {
    pub(super) commits: Counter,
    pub(super) commit_errors: Counter,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_records: Histogram,
    pub(super) lag_records: Gauge,
    pub(super) lag_bytes: Gauge,
    pub(super) shared_bytes: Gauge,
    pub(super) tokens_known: Counter,
    pub(super) tokens_same: Counter,
    pub(super) tokens_new: Counter,
    pub(super) roles_over: Counter,
    pub(super) inboxes: Gauge,
    pub(super) open_files: Gauge,
    pub(super) segments: Gauge,
    pub(super) file_errors: Counter,
    pub(super) shared_errors: Counter,
    pub(super) trim_errors: Counter,
    pub(super) ledger_errors: Counter,
    pub(super) busy_queue: Counter,
    pub(super) busy_lag: Counter,
    pub(super) busy_shared: Counter,
    pub(super) busy_reads: Counter,
    pub(super) busy_ledger: Counter,
    pub(super) busy_ledger_reads: Counter,
    pub(super) publish_dropped: Counter,
    pub(super) search_ready: Histogram,
    pub(super) search_behind: Histogram,
    pub(super) searches_waiting: Gauge,
    pub(super) searches_indexed: Counter,
    pub(super) searches_renewed: Counter,
    pub(super) search_errors: Counter,
    pub(super) busy_searches: Counter,
    pub(super) notes_dropped: Counter,
    pub(super) pruned: Counter,
    pub(super) pruned_shared: Counter,
    pub(super) forgotten: Counter,
    pub(super) forgetting: Gauge,
    pub(super) forget_seconds: Histogram,
    pub(super) forget_errors: Counter,
    pub(super) busy_forgetting: Counter,
}

impl StoreMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        Self {
            commits: COMMITS.to_counter(recorder, &[("result", "ok")]),
            commit_errors: COMMITS.to_counter(recorder, &[("result", "error")]),
            commit_seconds: COMMIT_SECONDS.to_histogram(recorder, &[]),
            commit_records: COMMIT_RECORDS.to_histogram(recorder, &[]),
            lag_records: LAG_RECORDS.to_gauge(recorder, &[]),
            lag_bytes: LAG_BYTES.to_gauge(recorder, &[]),
            shared_bytes: SHARED_BYTES.to_gauge(recorder, &[]),
            tokens_known: TOKENS.to_counter(recorder, &[("result", "known")]),
            tokens_same: TOKENS.to_counter(recorder, &[("result", "same")]),
            tokens_new: TOKENS.to_counter(recorder, &[("result", "new")]),
            roles_over: ROLES_OVER.to_counter(recorder, &[]),
            inboxes: INBOXES.to_gauge(recorder, &[]),
            open_files: OPEN_FILES.to_gauge(recorder, &[]),
            segments: SEGMENTS.to_gauge(recorder, &[]),
            file_errors: ERRORS.to_counter(recorder, &[("op", "user_file")]),
            shared_errors: ERRORS.to_counter(recorder, &[("op", "shared")]),
            trim_errors: ERRORS.to_counter(recorder, &[("op", "trim")]),
            ledger_errors: ERRORS.to_counter(recorder, &[("op", "ledger")]),
            busy_queue: BUSY.to_counter(recorder, &[("limit", "queue")]),
            busy_lag: BUSY.to_counter(recorder, &[("limit", "lag")]),
            busy_shared: BUSY.to_counter(recorder, &[("limit", "shared")]),
            busy_reads: BUSY.to_counter(recorder, &[("limit", "reads")]),
            busy_ledger: BUSY.to_counter(recorder, &[("limit", "ledger")]),
            busy_ledger_reads: BUSY.to_counter(recorder, &[("limit", "ledger_reads")]),
            publish_dropped: PUBLISH_DROPPED.to_counter(recorder, &[]),
            search_ready: SEARCH_SECONDS.to_histogram(recorder, &[("index", "ready")]),
            search_behind: SEARCH_SECONDS.to_histogram(recorder, &[("index", "behind")]),
            searches_waiting: SEARCHES_WAITING.to_gauge(recorder, &[]),
            searches_indexed: SEARCH_INDEXED.to_counter(recorder, &[]),
            searches_renewed: SEARCH_RENEWED.to_counter(recorder, &[]),
            search_errors: ERRORS.to_counter(recorder, &[("op", "search")]),
            busy_searches: BUSY.to_counter(recorder, &[("limit", "searches")]),
            notes_dropped: NOTES_DROPPED.to_counter(recorder, &[]),
            pruned: PRUNED.to_counter(recorder, &[("kind", "message")]),
            pruned_shared: PRUNED.to_counter(recorder, &[("kind", "shared")]),
            forgotten: FORGOTTEN.to_counter(recorder, &[]),
            forgetting: FORGETTING.to_gauge(recorder, &[]),
            forget_seconds: FORGET_SECONDS.to_histogram(recorder, &[]),
            forget_errors: ERRORS.to_counter(recorder, &[("op", "forget")]),
            busy_forgetting: BUSY.to_counter(recorder, &[("limit", "forgetting")]),
        }
    }
}
