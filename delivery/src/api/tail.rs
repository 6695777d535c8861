//! What this node sends and delivers, while it happens: a stream of server-sent events, for admins.
//!
//! It ends by itself after a while, and whoever asks again is asked again who they are: an admin whose session has
//! ended does not go on watching.

pub(super) mod docs;

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    body::Body,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use protocol::{MessageId, TenantId, Time};
use rustc_hash::FxHashMap;
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::{
    ApiState,
    caller::Admin,
    error::ApiError,
    query::{ANY_TENANT, Parameters},
    shape::{Field, Shape, may},
};
use crate::tail::{Happened, Seen, TailEvent, Watcher};

/// How long a stream lasts unless asked otherwise, and at most, in seconds. Who watches longer asks again.
const SECONDS: u64 = 10;
const SECONDS_MAX: u64 = 30;

/// How often a watcher is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// How long a watcher may take nothing before its place is given up.
const STALL: Duration = Duration::from_secs(5);

const MEDIA: HeaderValue = HeaderValue::from_static("text/event-stream");

const QUERY: &[Field] = &[
    ANY_TENANT,
    may("seconds", Shape::Whole(1, SECONDS_MAX), "How long the stream lasts; 10 unless said."),
];

/// What happened to a message in a quarter of a second.
#[derive(Serialize)]
struct Row<'a> {
    /// When it was told.
    at: Time,
    tenant_id: &'a TenantId,
    message_id: &'a MessageId,
    message_type: &'a str,
    sender: &'a str,
    /// Whether it became durable just now.
    accepted: bool,
    /// Whether it waits for its time.
    scheduled: bool,
    /// How many users were named; null for groups, everyone, and what was accepted elsewhere or before.
    recipients: Option<u64>,
    /// Users it was given to who are connected here.
    users: u32,
    /// Connections that took it at once.
    written: u32,
    /// Connections that take it later.
    waiting: u32,
    /// From the store being asked to its being written, the longest, in milliseconds; null where nothing was.
    took_ms: Option<f64>,
}

/// The data of an event.
#[derive(Serialize)]
struct Told<'a> {
    rows: Vec<Row<'a>>,
    missed: u64,
}

impl<'a> Row<'a> {
    fn new(event: &'a TailEvent, at: Time) -> Self {
        let facts = event.body.facts();
        Self {
            at,
            tenant_id: &event.tenant,
            message_id: event.id(),
            message_type: &facts.message_type,
            sender: &facts.sender,
            accepted: false,
            scheduled: false,
            recipients: None,
            users: 0,
            written: 0,
            waiting: 0,
            took_ms: None,
        }
    }

    fn add(&mut self, what: Happened) {
        match what {
            Happened::Accepted { recipients, scheduled } => {
                (self.accepted, self.scheduled, self.recipients) = (true, scheduled, recipients);
            }
            Happened::Delivered { written, waiting, took } => {
                self.users += 1;
                self.written += written;
                self.waiting += waiting;
                let took = took.map(|took| took.as_secs_f64() * 1_000.0);
                self.took_ms = self.took_ms.into_iter().chain(took).reduce(f64::max);
            }
        }
    }
}

/// What is told of what was seen: one row for each message.
fn told<'a>(seen: &'a Seen, tenant: Option<&TenantId>, at: Time) -> Told<'a> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut of = FxHashMap::default();
    for event in seen.events.iter().filter(|event| tenant.is_none_or(|of| event.tenant == *of)) {
        let index = *of.entry((&event.tenant, event.id())).or_insert_with(|| {
            rows.push(Row::new(event, at));
            rows.len() - 1
        });
        rows[index].add(event.what);
    }
    Told { rows, missed: seen.missed }
}

fn event(told: &Told<'_>) -> Bytes {
    let mut bytes = b"event: tail\ndata: ".to_vec();
    serde_json::to_writer(&mut bytes, told).expect("rows have string keys, a Vec takes everything");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// `GET /admin/tail`
pub(super) async fn watch(
    State(state): State<ApiState>,
    admin: Admin,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters);
    let seconds = parameters.parsed("seconds", "a number from 1").unwrap_or(SECONDS);
    if !(1..=SECONDS_MAX).contains(&seconds) {
        parameters.say("seconds", format!("must be 1 to {SECONDS_MAX}"));
    }
    parameters.finish()?;
    let watcher = state.0.tail.watch().ok_or(ApiError::TooManyWatch)?;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(tell(state, watcher, tenant, Duration::from_secs(seconds), sender));
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, MEDIA);
    Ok(response)
}

/// Tells a watcher until the time is over, the node goes down, or nobody listens.
async fn tell(
    state: ApiState,
    mut watcher: Watcher,
    tenant: Option<TenantId>,
    life: Duration,
    sender: mpsc::Sender<Bytes>,
) {
    let end = Instant::now() + life;
    let mut ticks = tokio::time::interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first event says that the watching has begun, also where nothing happens.
    let mut begun = false;
    while Instant::now() < end && !state.0.draining.load(Ordering::Relaxed) {
        ticks.tick().await;
        let seen = watcher.look();
        let piece = {
            let told = told(&seen, tenant.as_ref(), state.0.control.clock().now());
            (!begun || told.missed > 0 || !told.rows.is_empty()).then(|| event(&told))
        };
        begun = true;
        if let Some(piece) = piece
            && sender.send_timeout(piece, STALL).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_message_is_one_row_and_other_tenants_have_none() {
        let of = |tenant: &str, what| {
            let tenant = TenantId::new(tenant).unwrap();
            Arc::new(TailEvent { tenant, body: crate::tail::tests::body(), what })
        };
        let delivered = |ms| Happened::Delivered {
            written: 2,
            waiting: 1,
            took: Some(Duration::from_millis(ms)),
        };
        let accepted = Happened::Accepted { recipients: Some(2), scheduled: false };
        let seen = Seen {
            events: vec![
                of("t", accepted),
                of("t", delivered(3)),
                of("other", delivered(9)),
                of("t", delivered(1)),
            ],
            missed: 7,
        };
        let tenant = TenantId::new("t").unwrap();
        let told = told(&seen, Some(&tenant), Time::from_millis(0));
        assert_eq!((told.rows.len(), told.missed), (1, 7));
        let row = &told.rows[0];
        assert_eq!((row.users, row.written, row.waiting, row.recipients), (2, 4, 2, Some(2)));
        assert_eq!(row.took_ms, Some(3.0));
        assert_eq!(super::told(&seen, None, Time::from_millis(0)).rows.len(), 2);
    }
}
