//! What surrounds every request: its id, its time, its line in the log, the limit of its address,
//! and an answer whatever happens. One function instead of a stack of layers: each layer would cost a box per request.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method};
use protocol::{Codec, ErrorType};
use uuid::Uuid;

use super::{
    ApiState,
    answer::{Answer, negotiate},
    error::{ApiError, Failed},
    login::AsPage,
    toll::Toll,
};
use crate::{
    channel::ChannelError,
    provider::LoginError,
    send::SendError,
    spans::{self, KeyValue, Parent, Span},
    template::TemplateError,
};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

pub(crate) async fn observe(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let parent = Parent::of(request.headers());
    let mut span = server_span(&state, parent.as_ref(), &method, route.as_ref(), &id);
    let trace_id = span.as_ref().map(Span::trace_id).or_else(|| parent.map(|it| it.trace_id()));
    let trace_id = trace_id.as_deref();
    // A codec that we do not have is refused by whoever answers in one (`Answer`): pages and
    // downloads have a media type of their own.
    let answer = Answer(negotiate(request.headers()).unwrap_or(Codec::Json));
    let toll = Toll::new(&state.0.limiter, &request);
    let trace = state.0.actions.trace(&request, route.as_ref().map(MatchedPath::as_str));
    let handled = match toll.enter(request.headers()) {
        Ok(()) if trace.leaves_one() && state.0.audit.is_full() => {
            Ok(ApiError::AuditFull.into_response())
        }
        Ok(()) => {
            request.extensions_mut().insert(toll.clone());
            if trace.leaves_one() {
                request.extensions_mut().insert(trace.clone());
            }
            let traced = span.as_ref().map(|span| Arc::clone(span.traced()));
            match traced {
                None => caught(next.run(request)).await,
                Some(traced) => caught(spans::scope(traced, next.run(request))).await,
            }
        }
        Err(limited) => Ok(ApiError::from(limited).into_response()),
    };
    let mut response = handled.unwrap_or_else(|panic| {
        state.0.metrics.panics.increment(1);
        tracing::error!(
            panic = text_of(&*panic),
            request_id = text(&id),
            trace_id,
            "a handler panicked"
        );
        ApiError::Panicked.into_response()
    });
    if let Err(limited) = toll.leave(response.status()) {
        response = ApiError::from(limited).into_response();
    }
    let route = route.as_ref().map(MatchedPath::as_str);
    if let Some(Failed(error)) = response.extensions_mut().remove::<Failed>() {
        let method = word(&method);
        let seen = Seen { method, route: route.unwrap_or_default(), id: text(&id), trace_id };
        let failure = error.failure();
        seen.report(&error, failure.kind);
        let allow = response.headers_mut().remove(http::header::ALLOW);
        let as_page = response.extensions_mut().remove::<AsPage>();
        response = match as_page {
            Some(page) => page.show(&failure, text(&id)),
            None => answer.failure(&failure, text(&id)),
        };
        if let Some(allow) = allow {
            response.headers_mut().insert(http::header::ALLOW, allow);
        }
    }
    if trace.leaves_one()
        && let now = state.0.audit.now()
        && let Some(entry) = trace.entry(now, toll.address(), text(&id), response.status())
    {
        state.0.audit.record(entry).await;
    }
    let took = began.elapsed();
    let status = response.status();
    state.0.metrics.answered(&method, route, status, took);
    if let Some(span) = &mut span {
        span.answered(status.as_u16());
    }
    log_access(word(&method), route, status.as_u16(), took, (text(&id), trace_id));
    toll.write(response.headers_mut());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's, if it is 1 to 128 visible ASCII characters, else a new one.
pub(super) fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; uuid::fmt::Simple::LENGTH];
        let text = Uuid::now_v7().simple().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("hexadecimal digits")
    })
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

/// A method as it is logged. One that is not HTTP's own may be any text, a token in the wrong place included.
fn word(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::TRACE,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "other" }
}

/// One line per request: no query, body, token or user in it.
fn log_access(
    method: &str,
    route: Option<&str>,
    status: u16,
    took: Duration,
    (id, trace_id): (&str, Option<&str>),
) {
    tracing::info!(
        target: "access",
        method,
        route = route.unwrap_or("unmatched"),
        status,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request_id = id,
        trace_id,
    );
}

/// The span of a request, where one is recorded.
fn server_span(
    state: &ApiState,
    parent: Option<&Parent>,
    method: &Method,
    route: Option<&MatchedPath>,
    id: &HeaderValue,
) -> Option<Span> {
    let method = word(method);
    let name = || match route {
        Some(route) => format!("{method} {}", route.as_str()),
        None => method.to_owned(),
    };
    let attributes = || {
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("pushhub.request_id", text(id).to_owned()),
        ];
        let route = route.map(|route| KeyValue::new("http.route", route.as_str().to_owned()));
        attributes.extend(route);
        attributes
    };
    state.0.spans.server(parent, name, attributes)
}

struct Seen<'a> {
    method: &'a str,
    route: &'a str,
    id: &'a str,
    trace_id: Option<&'a str>,
}

impl Seen<'_> {
    /// Refusals of callers go to the security log, our own failures to the error log.
    fn report(&self, error: &ApiError, kind: ErrorType) {
        let Self { method, route, id, trace_id } = *self;
        let status = kind.status();
        match error {
            ApiError::Auth(auth) => tracing::warn!(
                target: "security",
                event = "not_recognised",
                reason = auth.label(),
                method, route, status, request_id = id, trace_id,
            ),
            ApiError::Send(SendError::Refused(refusal)) => tracing::warn!(
                target: "security",
                event = "not_allowed",
                reason = %refusal,
                method, route, status, request_id = id, trace_id,
            ),
            ApiError::Template(refusal @ (TemplateError::Refused(_) | TemplateError::BuiltIn)) => {
                tracing::warn!(
                    target: "security",
                    event = "not_allowed",
                    reason = %refusal,
                    method, route, status, request_id = id, trace_id,
                )
            }
            ApiError::Channel(ChannelError::Refused(refusal)) => tracing::warn!(
                target: "security",
                event = "not_allowed",
                reason = %refusal,
                method, route, status, request_id = id, trace_id,
            ),
            ApiError::Login(refusal @ (LoginError::State | LoginError::Code)) => tracing::warn!(
                target: "security",
                event = "not_recognised",
                reason = %refusal,
                method, route, status, request_id = id, trace_id,
            ),
            ApiError::UsersOnly
            | ApiError::ServicesOnly
            | ApiError::OtherTenant
            | ApiError::TokenOnly
            | ApiError::ReadOnly => tracing::warn!(
                target: "security",
                event = "not_allowed",
                reason = %error,
                method, route, status, request_id = id, trace_id,
            ),
            // The store says it when it begins and when it is over, and metrics count. A line for
            // each refused request would fill the disk that is full.
            _ if kind == ErrorType::Unavailable => tracing::debug!(
                error = error as &(dyn std::error::Error + 'static),
                method,
                route,
                status,
                request_id = id,
                trace_id,
                "a request was refused for now",
            ),
            _ if status >= 500 => tracing::error!(
                error = error as &(dyn std::error::Error + 'static),
                method,
                route,
                status,
                request_id = id,
                trace_id,
                "a request failed",
            ),
            _ => {}
        }
    }
}

/// Turns a panic in a future into an error: one bad request must not take the connection's others
/// with it.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let of_string = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(of_string).unwrap_or("no text")
}

/// The answer where no route matches.
pub(crate) async fn no_route() -> ApiError {
    ApiError::NoRoute
}

/// The answer where a route matches and its method does not.
pub(crate) async fn no_method() -> ApiError {
    ApiError::NoMethod
}
