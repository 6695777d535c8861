//! How many messages were sent, reached somebody and were read: for admins all, for a service its own.

pub(super) mod docs;

use std::time::Duration;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use protocol::{ServiceId, TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::{Admin, ServiceOnly},
    error::ApiError,
    query::{ANY_TENANT, Parameters},
    shape::{Field, ID, Shape, may},
};
use crate::store::{StatsBy, StatsQuery, StatsRow, limits::STATS_ROWS_MAX};

/// Longest span of a question: a year by hours is as many rows as an answer may have.
pub const STATS_SPAN_MAX: Duration = Duration::from_hours(366 * 24);

/// The span where no beginning is said.
const SPAN_DEFAULT: Duration = Duration::from_hours(24);

const HOUR: i64 = 3_600_000;

const GROUPS: &[(&str, StatsBy)] = &[
    ("service", StatsBy::Service),
    ("template", StatsBy::Template),
    ("message_type", StatsBy::MessageType),
    ("channel", StatsBy::Channel),
    ("hour", StatsBy::Hour),
];

const FROM: Field = may(
    "from",
    Shape::Time,
    "The beginning, down to the hour; a day before `to` unless said, a year at most.",
);
const TO: Field = may("to", Shape::Time, "The end, up to the hour; now unless said.");
const GROUP_BY: Field = may(
    "group_by",
    Shape::Word(&["service", "template", "message_type", "channel", "hour"]),
    "What to count apart; `hour` unless said.",
);

/// The query of `GET /stats`.
const OF_SERVICE: &[Field] = &[FROM, TO, GROUP_BY];

/// The query of `GET /admin/stats`.
const OF_ALL: &[Field] =
    &[ANY_TENANT, may("service_id", ID, "Of one service."), FROM, TO, GROUP_BY];

/// Counts of messages that were sent in a span, of whatever became of them since.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MessageCounts")]
struct Counts {
    /// Messages.
    sent: u64,
    /// Recipients that a first device delivered to.
    delivered: u64,
    /// Recipients that read it.
    read: u64,
    /// `read` of those it reached; null where it reached nobody.
    read_rate: Option<f64>,
    /// Milliseconds from sent to read, on average; null where nobody read it.
    avg_time_to_read_ms: Option<u64>,
}

impl From<&StatsRow> for Counts {
    #[expect(clippy::cast_precision_loss, reason = "a rate of more than 2^53 is as good rounded")]
    fn from(row: &StatsRow) -> Self {
        // Who reads a list by REST has read what no device was sent.
        let reached = row.delivered.max(row.read);
        Self {
            sent: row.sent,
            delivered: row.delivered,
            read: row.read,
            read_rate: (reached > 0).then(|| row.read as f64 / reached as f64),
            avg_time_to_read_ms: row.read_ms.checked_div(row.read),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StatisticsRow")]
struct Row {
    /// The service, template, type, channel or hour; null for what has none.
    key: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Statistics")]
struct Stats {
    /// The beginning of the first hour that was counted.
    from: Time,
    /// The end of the last one.
    to: Time,
    /// What a row is about.
    group_by: &'static str,
    /// Of all rows.
    totals: Counts,
    /// One for each key.
    rows: Vec<Row>,
    /// Whether there are more rows than an answer may have; `totals` is of those that are here.
    truncated: bool,
}

/// `GET /admin/stats?from&to&group_by&service_id&tenant_id`
pub(super) async fn of_all(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, OF_ALL)?;
    let tenant = admin.asked_tenant(&mut parameters);
    let service = parameters.parsed("service_id", "the id of a service");
    count(&state, answer, parameters, tenant, service).await
}

/// `GET /stats?from&to&group_by`
pub(super) async fn of_service(
    State(state): State<ApiState>,
    ServiceOnly(service): ServiceOnly,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let parameters = Parameters::new(&uri, OF_SERVICE)?;
    let (tenant, id) = (service.tenant_id.clone(), service.id.clone());
    count(&state, answer, parameters, Some(tenant), Some(id)).await
}

async fn count(
    state: &ApiState,
    answer: Answer,
    mut parameters: Parameters,
    tenant: Option<TenantId>,
    service: Option<ServiceId>,
) -> Result<Response, ApiError> {
    let (from, to) = span(&mut parameters, state.0.control.clock().now());
    let by = parameters.word("group_by", GROUPS).unwrap_or(StatsBy::Hour);
    parameters.finish()?;
    let service = service.map(|id| id.as_str().to_owned());
    let rows = state.0.store.stats(StatsQuery { tenant, from, to, by, service }).await?;
    let mut totals = StatsRow::default();
    for row in &rows {
        totals.sent += row.sent;
        totals.delivered += row.delivered;
        totals.read += row.read;
        totals.read_ms += row.read_ms;
    }
    let group = GROUPS.iter().find(|(_, group)| *group == by);
    let (group_by, _) = group.expect("every group has a word");
    Ok(answer.success(&Stats {
        from,
        to,
        group_by,
        totals: Counts::from(&totals),
        truncated: rows.len() >= STATS_ROWS_MAX,
        rows: rows
            .into_iter()
            .map(|row| Row { counts: Counts::from(&row), key: row.key })
            .collect(),
    }))
}

/// Whole hours that hold `from` and `to`; the last day where nothing is said.
fn span(parameters: &mut Parameters, now: Time) -> (Time, Time) {
    let to = parameters.time("to").unwrap_or(now);
    let before = Time::from_millis(to.millis() - SPAN_DEFAULT.as_millis() as i64);
    let from = parameters.time("from").unwrap_or(before);
    if from >= to {
        parameters.say("from", "must be before to");
    } else if to.millis() - from.millis() > STATS_SPAN_MAX.as_millis() as i64 {
        let days = STATS_SPAN_MAX.as_secs() / (24 * 3_600);
        parameters.say("from", format!("must be at most {days} days before to"));
    }
    let hours = |millis: i64| Time::from_millis(millis.div_euclid(HOUR) * HOUR);
    (hours(from.millis()), hours(to.millis() + HOUR - 1))
}
