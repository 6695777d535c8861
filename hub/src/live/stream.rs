//! `GET /api/v3/stream`: the frames of the socket as server-sent events, for networks that break
//! WebSockets. Checked here, answered with a head that takes the connection along; from then on it
//! is a connection like any other, framed differently.

mod docs;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use delivery::api::doc::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use protocol::{ErrorType, Seq};

use super::{
    Live,
    establish::{self, Admitted, Opening},
    framing::Framing,
    handshake::{self, Visit},
    metrics::Rejection,
    refusal::Refused,
};
use crate::http::take_over;

const PATH: &str = "/api/v3/stream";

/// Of any method: the refusal of another is in the envelope, like all others.
pub(super) fn endpoint() -> Endpoint<Arc<Live>> {
    Endpoint::any(PATH, "stream_open", open, docs::open())
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// nginx holds back up to 32 KiB of an answer unless told not to; others know the header as well.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn open(State(live): State<Arc<Live>>, request: Request) -> Response {
    handshake::fetch_key(&live, handshake::shown_token(&request)).await;
    let admitted = match check(&live, &request) {
        Ok((visit, last_event_id)) => {
            // An `EventSource` comes back with the URL it was made with: its header is newer.
            visit.admit(&live).await.map(|(entry, since)| (entry, last_event_id.or(since)))
        }
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok((entry, since)) => {
            let mut response = event_stream();
            let opening = Opening::Takeover(take_over(&mut response));
            let framing = Framing::EventStream;
            establish::spawn(live, Admitted { opening, entry, framing, since });
            response
        }
        Err(refused) => {
            live.metrics().rejected(refused.rejection).increment(1);
            refused.into_response(request.headers())
        }
    }
}

fn check(live: &Live, request: &Request) -> Result<(Visit, Option<Seq>), Refused> {
    let client = handshake::enter(live, request)?;
    if request.method() != Method::GET {
        return Err(Refused::new(
            Rejection::BadRequest,
            ErrorType::MethodNotAllowed,
            "a stream is opened with GET",
        ));
    }
    let last_event_id = last_event_id(request.headers())?;
    let visit = Visit::new(live, request, client, Framing::EventStream.transport())?;
    Ok((visit, last_event_id))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>, Refused> {
    let Some(value) = headers.get(&LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let seq = value.to_str().ok().and_then(|value| value.parse().ok());
    let problem = "must be the id of an event: a whole number, 0 or more";
    seq.map(|seq| Some(Seq(seq))).ok_or_else(|| Refused::field("Last-Event-ID", problem))
}

fn event_stream() -> Response {
    let mut response = Body::empty().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
