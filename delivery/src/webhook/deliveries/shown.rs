//! Deliveries as they are shown.

use protocol::{ServiceId, TenantId, Time};
use rusqlite::{Connection, Row, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::DeliveryStatus;
use crate::{
    row::{count, maybe_time, maybe_word, time, word},
    webhook::{WebhookError, client::Attempt, retry::RETRY_DELAYS},
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

pub(super) fn read_delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let status = DeliveryStatus::of(row.get("state")?);
    let attempts = count(row, "attempts")?;
    let last_attempt = match (maybe_time(row, "last_at")?, maybe_word(row, "last_outcome")?) {
        (Some(at), Some(outcome)) => Some(Attempt {
            at,
            outcome,
            status_code: row.get("last_status")?,
            detail: row.get("last_detail")?,
            duration_ms: count(row, "last_ms")?,
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
    Ok(Delivery {
        id: row.get("id")?,
        event_id: row.get("event")?,
        kind: row.get("type")?,
        at: time(row, "at")?,
        status,
        attempts,
        next_attempt_at: match status {
            DeliveryStatus::Pending => Some(time(row, "due_at")?),
            DeliveryStatus::Delivered | DeliveryStatus::Failed => None,
        },
        settled_at: maybe_time(row, "settled_at")?,
        given_up,
        last_attempt,
    })
}

/// A page of an endpoint's deliveries, newest first, below the id `before`; with or without one
/// status.
pub(in crate::webhook) fn list(
    connection: &Connection,
    key: i64,
    status: Option<DeliveryStatus>,
    before: i64,
    size: usize,
) -> Result<Vec<Delivery>, WebhookError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM delivery WHERE endpoint = ?1 AND state = ?2 AND id < ?3 \
         ORDER BY id DESC LIMIT ?4",
    )?;
    let mut found = Vec::new();
    // One state at a time, because the index goes by it.
    for &state in DeliveryStatus::ALL {
        if status.is_none_or(|status| status == state) {
            let rows = statement
                .query_map(params![key, state.state(), before, size as i64], read_delivery)?;
            for row in rows {
                found.push(row?);
            }
        }
    }
    found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    found.truncate(size);
    Ok(found)
}

/// A page of the dead letters of all endpoints, or of those of one tenant, newest first, below the id
/// `before`; and how many there are.
pub(in crate::webhook) fn dead_letters(
    connection: &Connection,
    tenant: Option<&TenantId>,
    before: i64,
    size: usize,
) -> Result<(Vec<DeadLetter>, u64), WebhookError> {
    let mut statement = connection.prepare_cached(
        "SELECT delivery.*, endpoint.id AS webhook, tenant_id, service_id \
         FROM delivery INDEXED BY delivery_failed CROSS JOIN endpoint ON key = endpoint \
         WHERE state = 2 AND delivery.id < ?1 AND status <> 'deleted' \
         AND (?3 IS NULL OR tenant_id = ?3) ORDER BY delivery.id DESC LIMIT ?2",
    )?;
    let tenant = tenant.map(TenantId::as_str);
    let rows = statement.query_map(params![before, size as i64, tenant], |row| {
        Ok(DeadLetter {
            tenant_id: word(row, "tenant_id")?,
            service_id: word(row, "service_id")?,
            webhook_id: row.get("webhook")?,
            delivery: read_delivery(row)?,
        })
    })?;
    let letters = rows.collect::<Result<_, _>>()?;
    let total = connection.query_row(
        "SELECT coalesce(sum(failed), 0) AS total FROM endpoint \
         WHERE status <> 'deleted' AND (?1 IS NULL OR tenant_id = ?1)",
        [tenant],
        |row| count(row, "total"),
    )?;
    Ok((letters, total))
}
