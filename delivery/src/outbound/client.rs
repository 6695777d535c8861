//! Single calls.
//!
//! Each has a connection of its own: a provider is called a few times for a login, an issuer's keys
//! every few minutes, and a connection that is kept is one more thing that can be half dead.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use metrics::Recorder;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{timeout, timeout_at},
};
use tokio_rustls::rustls::RootCertStore;

use super::{
    OutboundError, OutboundUrl, Purpose,
    dial::{Dialer, Hold, Resolve, SystemResolver, system_roots},
    metrics::OutboundMetrics,
};

/// For all of a call: its turn, the connection, the answer. A login waits for two or three of them,
/// and nobody looks at a blank page for longer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer, in bytes: the largest known are sets of keys with certificates, 20 KiB.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Most calls at a time; more wait for their turn, within their time. A slow provider must not take
/// all of a node's sockets.
pub const CALLS_MAX: usize = 64;

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pushhub/", env!("CARGO_PKG_VERSION")));

/// Calls other programs. Cheap to clone.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    slots: Arc<Semaphore>,
    timeout: Duration,
    metrics: OutboundMetrics,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

/// A call to be made. Secrets are in it: it has no `Debug`.
pub struct Call<'a> {
    purpose: Purpose,
    url: &'a OutboundUrl,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl<'a> Call<'a> {
    fn new(purpose: Purpose, method: Method, url: &'a OutboundUrl) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Self { purpose, url, method, headers, body: Bytes::new() }
    }

    /// A GET.
    #[must_use]
    pub fn get(purpose: Purpose, url: &'a OutboundUrl) -> Self {
        Self::new(purpose, Method::GET, url)
    }

    /// A POST of a form.
    #[must_use]
    pub fn post_form(purpose: Purpose, url: &'a OutboundUrl, pairs: &[(&str, &str)]) -> Self {
        let body =
            ::url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Self {
            body: body.into(),
            ..Self::new(purpose, Method::POST, url)
                .plain_header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        }
    }

    /// A POST of anything else.
    #[must_use]
    pub fn post(
        purpose: Purpose,
        url: &'a OutboundUrl,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Self {
        Self {
            body: body.into(),
            ..Self::new(purpose, Method::POST, url).plain_header(header::CONTENT_TYPE, content_type)
        }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post_json(purpose: Purpose, url: &'a OutboundUrl, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("bodies of calls have names that are texts");
        Self {
            body: body.into(),
            ..Self::new(purpose, Method::POST, url)
                .plain_header(header::CONTENT_TYPE, "application/json")
        }
    }

    fn plain_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// With a header; its value is marked as secret. A value that no header can have is left out, and
    /// the other side says what it misses.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    /// With `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let target = &self.url.target;
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(Uri::from(target.path.clone()))
            .body(Full::from(self.body.clone()))
            .expect("the parts were checked when the URL was");
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::HOST, target.authority.clone());
        request
    }
}

/// What came back. Tokens may be in it: it has no `Debug`.
pub struct Answer {
    /// Its status; providers say their errors with any, also 200.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, whatever `Content-Type` says.
    ///
    /// # Errors
    /// [`OutboundError::NotJson`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, OutboundError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            OutboundError::NotJson(match error.classify() {
                serde_json::error::Category::Io | serde_json::error::Category::Syntax => "no JSON",
                serde_json::error::Category::Data => "a field is missing or of another type",
                serde_json::error::Category::Eof => "it is cut",
            })
        })
    }
}

impl Outbound {
    /// With the system's names and authorities.
    ///
    /// # Errors
    /// [`OutboundError::Setup`].
    pub fn new(recorder: &dyn Recorder) -> Result<Self, OutboundError> {
        Self::with(Arc::new(SystemResolver), system_roots(), CALL_TIMEOUT, recorder)
    }

    pub(super) fn with(
        resolver: Arc<dyn Resolve>,
        roots: RootCertStore,
        timeout: Duration,
        recorder: &dyn Recorder,
    ) -> Result<Self, OutboundError> {
        let dialer =
            Dialer::new(resolver, roots).map_err(|error| OutboundError::Setup(Box::new(error)))?;
        let slots = Arc::new(Semaphore::new(CALLS_MAX));
        let metrics = OutboundMetrics::new(recorder);
        Ok(Self(Arc::new(Inner { dialer, slots, timeout, metrics })))
    }

    /// Makes a call and waits for all of its answer. Dropped, the call is broken off.
    ///
    /// # Errors
    /// [`OutboundError`]; an answer with a status of failure is none.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, OutboundError> {
        let began = Instant::now();
        let result = self.within_time(&call, began + self.0.timeout).await;
        self.0.metrics.called(call.purpose, began.elapsed(), &result);
        result
    }

    async fn within_time(&self, call: &Call<'_>, end: Instant) -> Result<Answer, OutboundError> {
        let slot = timeout_at(end.into(), Arc::clone(&self.0.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| OutboundError::Busy)?.expect("the semaphore is never closed");
        let hold: Hold = Arc::new(slot);
        let left = end.saturating_duration_since(Instant::now());
        timeout(left, self.exchange(call, &hold)).await.map_err(|_| OutboundError::Timeout)?
    }

    async fn exchange(&self, call: &Call<'_>, hold: &Hold) -> Result<Answer, OutboundError> {
        let mut wire = self.0.dialer.dial(&call.url.target, &call.url.allowed, hold).await?;
        let answer = wire.send(call.request()).await;
        let answer = answer.map_err(|error| OutboundError::Broken(Box::new(error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(read_error)?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

fn read_error(error: Box<dyn Error + Send + Sync>) -> OutboundError {
    if error.is::<LengthLimitError>() {
        OutboundError::TooLong
    } else {
        OutboundError::Broken(error)
    }
}
