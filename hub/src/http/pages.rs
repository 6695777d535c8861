//! What web pages may do at a port: cross-origin requests (CORS, the Fetch standard §3.3) on the port of
//! users, and none that change anything on the port of admins.
//!
//! tower-http's `CorsLayer` does not fit: it takes every OPTIONS for a preflight, also of a program
//! that asks which methods there are, and it stands behind what is refused before the router, whose
//! answers a page could then not read.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{
    Listener,
    origin::Source,
    refusal::{REQUEST_ID, Refusal, new_request_id},
};

/// How long a browser may remember what a preflight was answered, in seconds: the most that Chromium
/// takes. A shorter list of origins still bites at once, because every answer is judged by itself.
const PREFLIGHT_KEPT_SECONDS: u32 = 7_200;

/// What the API has, asked by a page or not; a path that lacks one answers 405.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");

/// Request headers that mean something here and are not on the browsers' own list of harmless ones.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-none-match, last-event-id, x-backup-key, \
     x-request-id",
);

/// Answer headers that scripts may read, beside those that they always may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "allow, content-disposition, etag, idempotency-replayed, ratelimit, ratelimit-policy, retry-after, \
     www-authenticate, x-backup-head, x-request-id",
);

/// Which pages may do what at a port.
#[derive(Clone, Debug)]
pub struct Pages {
    listener: Listener,
    allowed: Arc<[String]>,
}

/// What a page may do with an answer.
pub(super) enum Grant {
    /// What it could do without us.
    Nothing,
    /// Read it; it was asked without cookies.
    Read,
    /// Read it, and ask with cookies: the page's origin.
    ReadWithCredentials(HeaderValue),
}

/// What is to be done with a request.
pub(super) enum Judged {
    /// Hand it on.
    Asks(Grant),
    /// Answer it with [`preflight`]: the browser asks whether it may.
    AsksWhether(Grant),
}

impl Pages {
    /// `allowed` are origins in lower case, or `*`. On the port of admins `*` means nothing, and a listed
    /// origin only that it may change what its browser takes for its own: a console behind a proxy
    /// which hides the host. A page of another host gets to read nothing there.
    #[must_use]
    pub fn new(listener: Listener, allowed: &[String]) -> Self {
        Self { listener, allowed: allowed.into() }
    }

    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<Judged, Refusal> {
        let headers = request.headers();
        let source = Source::of(headers, &self.allowed);
        if self.listener == Listener::Admin {
            let stranger = matches!(source, Source::Anywhere | Source::Foreign);
            return if stranger && !request.method().is_safe() {
                Err(Refusal::ForeignPage)
            } else {
                Ok(Judged::Asks(Grant::Nothing))
            };
        }
        let preflight = request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let grant = match source {
            Source::Program | Source::SameHost => return Ok(Judged::Asks(Grant::Nothing)),
            Source::Foreign if preflight => return Err(Refusal::ForeignPage),
            Source::Foreign => Grant::Nothing,
            Source::Anywhere => Grant::Read,
            Source::Listed => headers
                .get(header::ORIGIN)
                .map_or(Grant::Nothing, |origin| Grant::ReadWithCredentials(origin.clone())),
        };
        Ok(if preflight { Judged::AsksWhether(grant) } else { Judged::Asks(grant) })
    }

    /// Tells the browser, and whoever keeps answers on the way, for whom this one is.
    pub(super) fn write(&self, grant: Grant, headers: &mut HeaderMap) {
        if self.listener == Listener::Admin {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if matches!(grant, Grant::Nothing) {
            return;
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        grant.write_origin(headers);
    }
}

impl Grant {
    fn write_origin(self, headers: &mut HeaderMap) {
        let origin = match self {
            Self::Nothing => return,
            Self::Read => HeaderValue::from_static("*"),
            Self::ReadWithCredentials(origin) => {
                let yes = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
                origin
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

/// What may be asked, to whoever may ask. The same for every path, whether it is there or not: a preflight
/// carries no credentials, and tells nothing. It costs less than any other answer, so that no rate limit counts it.
pub(super) fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_KEPT_SECONDS.into());
    if let Ok(id) = HeaderValue::from_str(&new_request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}
