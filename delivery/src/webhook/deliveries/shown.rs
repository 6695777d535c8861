//! Deliveries as they are shown.

use protocol::{ServiceId, TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;

use super::DeliveryStatus;
use crate::{
    sql::{Row, SqlError, Statements, values},
    webhook::{client::Attempt, retry::RETRY_DELAYS},
    words::words,
};

/// An event and an endpoint, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "WebhookDelivery")]
pub struct Delivery {
    /// Where it stands in lists.
    #[serde(skip)]
    pub(in crate::webhook) id: i64,
    /// The event's id: the header `webhook-id`.
    pub event_id: String,
    /// What happened: a kind of event.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub at: Time,
    /// How it stands.
    pub status: DeliveryStatus,
    /// Attempts so far, since it was last sent again by hand.
    pub attempts: u64,
    /// When it is tried next; null unless it is pending.
    pub next_attempt_at: Option<Time>,
    /// When it was delivered or given up; null while it is pending.
    pub settled_at: Option<Time>,
    /// Why it was given up; null unless it was.
    pub given_up: Option<GivenUp>,
    /// The latest attempt; null before the first.
    pub last_attempt: Option<Attempt>,
}

words! {
    /// Why an event is a dead letter.
    GivenUp {
        /// Its last attempt failed.
        Attempts = "attempts",
        /// It waited too long, most likely for an endpoint that was disabled.
        Age = "age",
    }
}

/// A dead letter, for admins.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DeadLetter {
    /// The service's tenant.
    pub tenant_id: TenantId,
    /// Whose webhook it was for.
    pub service_id: ServiceId,
    /// The webhook's id.
    pub webhook_id: String,
    /// The event.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// Deliveries, as [`read`] takes them.
macro_rules! shown {
    ($more:literal, $which:literal) => {
        concat!(
            "SELECT d.id, d.event, d.type, d.at, d.state, d.attempts, d.due_at, d.settled_at, \
             d.last_at, d.last_outcome, d.last_status, d.last_detail, d.last_ms",
            $more,
            " FROM webhook_delivery d ",
            $which
        )
    };
}

fn read(row: &mut Row) -> Result<Delivery, SqlError> {
    let (id, event_id, kind, at) = (row.int()?, row.text()?, row.text()?, row.time()?);
    let status = DeliveryStatus::of(row.int()?);
    let (attempts, due_at, settled_at) = (row.count()?, row.time()?, row.maybe_time()?);
    let (last_at, last_outcome) = (row.maybe_time()?, row.maybe_word()?);
    let (last_status, detail, last_ms) = (row.maybe_int()?, row.maybe_text()?, row.maybe_int()?);
    let last_attempt = match (last_at, last_outcome) {
        (Some(at), Some(outcome)) => Some(Attempt {
            at,
            outcome,
            status_code: last_status.and_then(|status| status.try_into().ok()),
            detail,
            duration_ms: last_ms.unwrap_or_default().unsigned_abs(),
            retry_after: None,
        }),
        _ => None,
    };
    let given_up =
        (status == DeliveryStatus::Failed).then_some(if attempts > RETRY_DELAYS.len() as u64 {
            GivenUp::Attempts
        } else {
            GivenUp::Age
        });
    let next_attempt_at = match status {
        DeliveryStatus::Pending => Some(due_at),
        DeliveryStatus::Delivered | DeliveryStatus::Failed => None,
    };
    Ok(Delivery {
        id,
        event_id,
        kind,
        at,
        status,
        attempts,
        next_attempt_at,
        settled_at,
        given_up,
        last_attempt,
    })
}

/// One that is there.
pub(super) fn get(database: &mut dyn Statements, id: i64) -> Result<Delivery, SqlError> {
    let row = database.row(shown!("", "WHERE d.id = $1"), &values![id])?;
    read(&mut row.unwrap_or_default())
}

/// Of one state, because the index goes by it.
pub(in crate::webhook) const LIST: &str =
    shown!("", "WHERE d.endpoint = $1 AND d.state = $2 AND d.id < $3 ORDER BY d.id DESC LIMIT $4");

/// A page of an endpoint's deliveries, newest first, below the id `before`; with or without one
/// status.
pub(in crate::webhook) fn list(
    database: &mut dyn Statements,
    key: i64,
    status: Option<DeliveryStatus>,
    before: i64,
    size: usize,
) -> Result<Vec<Delivery>, SqlError> {
    let mut found = Vec::new();
    for &state in DeliveryStatus::ALL {
        if status.is_none_or(|status| status == state) {
            for mut row in database.rows(LIST, &values![key, state.state(), before, size])? {
                found.push(read(&mut row)?);
            }
        }
    }
    found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    found.truncate(size);
    Ok(found)
}

pub(in crate::webhook) const DEAD_LETTERS: &str = shown!(
    ", e.tenant_id, e.service_id, e.id",
    "JOIN webhook_endpoint e ON e.key = d.endpoint WHERE d.state = 2 AND d.id < $1 \
     AND e.status <> 'deleted' AND (CAST($3 AS text) IS NULL OR e.tenant_id = $3) \
     ORDER BY d.id DESC LIMIT $2"
);

/// A page of the dead letters of all endpoints, or of those of one tenant, newest first, below the id
/// `before`; and how many there are.
pub(in crate::webhook) fn dead_letters(
    database: &mut dyn Statements,
    tenant: Option<&TenantId>,
    before: i64,
    size: usize,
) -> Result<(Vec<DeadLetter>, u64), SqlError> {
    let tenant = tenant.map(TenantId::as_str);
    let rows = database.rows(DEAD_LETTERS, &values![before, size, tenant])?;
    let letters = rows.into_iter().map(|mut row| {
        let delivery = read(&mut row)?;
        Ok(DeadLetter {
            tenant_id: row.word()?,
            service_id: row.word()?,
            webhook_id: row.text()?,
            delivery,
        })
    });
    let letters = letters.collect::<Result<_, SqlError>>()?;
    let total = database.row(
        "SELECT CAST(coalesce(sum(failed), 0) AS bigint) FROM webhook_endpoint \
         WHERE status <> 'deleted' AND (CAST($1 AS text) IS NULL OR tenant_id = $1)",
        &values![tenant],
    )?;
    Ok((letters, total.unwrap_or_default().count()?))
}
