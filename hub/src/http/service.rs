//! What stands between hyper and the router: judges a request and times its body.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time::Sleep};
use tower::ServiceExt;

use super::{
    CROWDED, HttpLimits, HttpMetrics, Pages, URI_BYTES_MAX,
    io::Verdict,
    pages::{Grant, Judged, preflight},
    protect::protect,
    refusal::{REQUEST_ID, Refusal, new_request_id},
    takeover::{Takeover, TakeoverSlot},
};

/// One connection's view of the service.
pub(super) struct ConnectionService {
    pub(super) router: Router,
    pub(super) limits: HttpLimits,
    /// Of the port's connections.
    pub(super) slots: Arc<Semaphore>,
    pub(super) pages: Pages,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) peer: SocketAddr,
    pub(super) verdict: Arc<Verdict>,
    /// Requests seen on this connection; the scanner counts the same.
    pub(super) requests: AtomicU64,
    /// Where an answer that takes the connection along is left.
    pub(super) takeover: Arc<TakeoverSlot>,
}

impl ConnectionService {
    pub(super) async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (grant, mut response) = self.answer(request).await;
        // A socket's answer is read by the browser itself, and no page sees it.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            protect(response.headers_mut());
            self.pages.write(grant, response.headers_mut());
        }
        if let Some(takeover) = Takeover::of(&mut response) {
            *self.takeover.lock() = Some(takeover);
            // hyper must not answer by itself; `accept` drops it, and this with it.
            return std::future::pending().await;
        }
        Ok(response)
    }

    /// The answer, and what a page may do with it.
    async fn answer(&self, request: Request<Incoming>) -> (Grant, Response<Body>) {
        let index = self.requests.fetch_add(1, Ordering::Relaxed);
        let (grant, refusal) = match (self.judge(index, &request), self.pages.judge(&request)) {
            (Ok(()), Ok(Judged::Asks(grant))) => return (grant, self.handle(request).await),
            (Ok(()), Ok(Judged::AsksWhether(grant))) => return (grant, preflight()),
            (Ok(()), Err(foreign)) => (Grant::Nothing, foreign),
            (Err(refusal), Ok(Judged::Asks(grant) | Judged::AsksWhether(grant))) => {
                (grant, refusal)
            }
            (Err(refusal), Err(_)) => (Grant::Nothing, refusal),
        };
        self.refused(refusal);
        (grant, refusal.response(request.headers()))
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        // A body of unknown length hides where the next head begins from the scanner. And where few slots
        // are left, those at rest are not to keep newcomers out; who is told so loses no request.
        let last = request.headers().contains_key(header::TRANSFER_ENCODING)
            || self.slots.available_permits() < self.limits.connections_max / CROWDED;
        let late = Arc::new(AtomicBool::new(false));
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(ConnectInfo(self.peer));
        let id = parts.headers.get(REQUEST_ID).cloned();
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            let limit = self.limits.body_timeout;
            Body::new(TimedBody { body, limit, deadline: None, late: Arc::clone(&late) })
        };
        let Ok(mut response) = self.router.clone().oneshot(Request::from_parts(parts, body)).await;
        if late.load(Ordering::Relaxed) {
            self.refused(Refusal::BodyTooSlow);
            let headers = id.map(|id| (http::HeaderName::from_static(REQUEST_ID), id));
            return Refusal::BodyTooSlow.response(&headers.into_iter().collect());
        }
        let headers = response.headers_mut();
        if last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if !headers.contains_key(REQUEST_ID)
            && let Some(id) = id.or_else(|| HeaderValue::from_str(&new_request_id()).ok())
        {
            headers.insert(REQUEST_ID, id);
        }
        response
    }

    /// The router logs what reaches it; this does not.
    fn refused(&self, refusal: Refusal) {
        self.metrics.refused(refusal);
        if refusal == Refusal::ForeignPage {
            tracing::warn!(target: "security", event = "not_allowed", reason = refusal.label());
        }
        tracing::info!(target: "access", reason = refusal.label(), "refused");
    }

    fn judge(&self, index: u64, request: &Request<Incoming>) -> Result<(), Refusal> {
        if let Some(found) = self.verdict.of(index) {
            return Err(Refusal::Fault(found.fault));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        // HTTP/1.0 has no Host (RFC 9112 §3.2).
        if hosts.next().is_none() && request.version() != Version::HTTP_10 {
            return Err(Refusal::HostMissing);
        }
        if hosts.next().is_some() {
            return Err(Refusal::HostRepeated);
        }
        let uri = request.uri();
        let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
        let rest = uri.path_and_query().map_or(0, |path| path.as_str().len());
        if authority + rest > URI_BYTES_MAX { Err(Refusal::UriTooLong) } else { Ok(()) }
    }
}

/// The body did not arrive within `HTTP_BODY_TIMEOUT`; whatever a handler makes of it, the answer
/// is 408.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body came too slowly")]
pub struct BodyTooSlow;

/// A body with a deadline that begins with its first wait: hyper times heads only, so that a client
/// which sends a byte a minute would hold a handler for ever.
struct TimedBody {
    body: Incoming,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|result| result.map_err(Into::into)));
        }
        let limit = self.limit;
        let deadline =
            self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut();
        ready!(deadline.poll(cx));
        self.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
