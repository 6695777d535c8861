//! One attempt: a POST to an address that was judged, and what came of it. A connection lives as
//! long as its endpoint is being sent to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use protocol::Time;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;

use super::{WebhookError, retry::retry_after, secret::seconds};
use crate::{
    outbound::{Allowed, DialError, Dialer, Hold, Resolve, Target, Wire},
    words::words,
};

/// How much of an answer's body is read and thrown away, in bytes, so that the connection can be used
/// again. One with more is closed.
pub const RESPONSE_BYTES_MAX: usize = 4 << 10;

/// How long the rest of a body may take: the status has decided already.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest sentence about a failure that is kept, in characters.
const DETAIL_CHARS_MAX: usize = 200;

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pushhub-webhooks/", env!("CARGO_PKG_VERSION")));

words! {
    /// What came of an attempt.
    Outcome {
        /// A 2xx.
        Delivered = "delivered",
        /// Another status; a redirect is not followed.
        Status = "status",
        /// 410: the endpoint is disabled.
        Gone = "gone",
        /// Nothing came in time.
        Timeout = "timeout",
        /// The name has no address.
        UnknownHost = "unknown_host",
        /// Every address of it is private, and none is in `WEBHOOK_ALLOWED_NETWORKS`.
        AddressNotAllowed = "address_not_allowed",
        /// Nobody accepted a connection.
        NotConnected = "not_connected",
        /// No TLS, or no certificate that can be believed.
        Tls = "tls",
        /// The connection broke, or what came is no HTTP.
        BrokenAnswer = "broken_answer",
    }
}

/// An attempt, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "WebhookAttempt")]
pub struct Attempt {
    /// When it began; `webhook-timestamp`, to the second.
    pub at: Time,
    /// What came of it.
    pub outcome: Outcome,
    /// The answer's status; null where there was no answer.
    pub status_code: Option<u16>,
    /// More, for people.
    pub detail: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What the other side asked for.
    #[serde(skip)]
    pub(super) retry_after: Option<Duration>,
}

impl Attempt {
    /// Of an endpoint whose URL the settings do not allow any more.
    pub(super) fn without_target(at: Time) -> Self {
        Self {
            at,
            outcome: Outcome::AddressNotAllowed,
            status_code: None,
            detail: None,
            duration_ms: 0,
            retry_after: None,
        }
    }
}

/// What is sent.
pub(super) struct Post<'a> {
    pub(super) target: &'a Target,
    pub(super) id: &'a str,
    pub(super) at: Time,
    pub(super) signatures: String,
    pub(super) body: String,
}

/// Makes attempts.
pub(super) struct Client {
    pub(super) allowed: Allowed,
    dialer: Dialer,
    /// For all of an attempt.
    pub(super) timeout: Duration,
}

/// An open connection.
pub(super) struct Connection {
    wire: Wire,
    target: Target,
}

struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// Whether the connection can be used again.
    ended: bool,
}

struct Failure(Outcome, Option<String>);

impl Failure {
    fn new(outcome: Outcome, error: &dyn std::error::Error) -> Self {
        // hyper and rustls say little at the top and the reason below.
        let deepest = std::iter::successors(Some(error), |error| error.source()).last();
        let text = deepest.unwrap_or(error).to_string();
        // PostgreSQL has no zero byte in a text, and what the other side says may be in it.
        let text = text.chars().filter(|c| *c != '\0').take(DETAIL_CHARS_MAX);
        Self(outcome, Some(text.collect()))
    }

    fn broken(error: &hyper::Error) -> Self {
        Self::new(Outcome::BrokenAnswer, error)
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let outcome = match &error {
            DialError::UnknownHost(_) => Outcome::UnknownHost,
            DialError::NotAllowed => Outcome::AddressNotAllowed,
            DialError::NoAnswer | DialError::NotConnected(_) => Outcome::NotConnected,
            DialError::Tls(_) => Outcome::Tls,
            DialError::Broken(_) => Outcome::BrokenAnswer,
        };
        match error {
            // The outcome says it all.
            DialError::UnknownHost(None) | DialError::NotAllowed => Self(outcome, None),
            error => Self::new(outcome, &error),
        }
    }
}

impl Client {
    pub(super) fn new(
        allowed: Allowed,
        resolver: Arc<dyn Resolve>,
        roots: RootCertStore,
        timeout: Duration,
    ) -> Result<Self, WebhookError> {
        let dialer =
            Dialer::new(resolver, roots).map_err(|error| WebhookError::Tls(Box::new(error)))?;
        Ok(Self { allowed, dialer, timeout })
    }

    /// Sends it over the connection that was kept, or a new one, which is kept in turn.
    pub(super) async fn attempt(
        &self,
        kept: &mut Option<Connection>,
        post: Post<'_>,
        hold: &Hold,
    ) -> Attempt {
        let (began, at) = (Instant::now(), post.at);
        // Taken out: what is broken off in the middle is closed.
        let connection = kept.take().filter(|connection| connection.target == *post.target);
        let exchange = timeout(self.timeout, self.exchange(connection, &post, hold)).await;
        let mut attempt = Attempt {
            at,
            outcome: Outcome::Timeout,
            status_code: None,
            detail: None,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            retry_after: None,
        };
        match exchange {
            Ok(Ok((answer, connection))) => {
                *kept = answer.ended.then_some(connection);
                attempt.outcome = match answer.status {
                    status if status.is_success() => Outcome::Delivered,
                    StatusCode::GONE => Outcome::Gone,
                    _ => Outcome::Status,
                };
                if answer.status.is_redirection() {
                    attempt.detail = Some("redirects are not followed".to_owned());
                }
                attempt.status_code = Some(answer.status.as_u16());
                attempt.retry_after = answer.retry_after;
            }
            Ok(Err(Failure(outcome, detail))) => {
                (attempt.outcome, attempt.detail) = (outcome, detail);
            }
            Err(_) => {}
        }
        attempt
    }

    async fn exchange(
        &self,
        kept: Option<Connection>,
        post: &Post<'_>,
        hold: &Hold,
    ) -> Result<(Answer, Connection), Failure> {
        if let Some(mut connection) = kept
            && let Ok(answer) = connection.exchange(post).await
        {
            return Ok((answer, connection));
        }
        // The other side may close a connection while it is idle, which is no failure.
        let wire = self.dialer.dial(post.target, &self.allowed, hold).await?;
        let mut connection = Connection { wire, target: post.target.clone() };
        let answer = connection.exchange(post).await?;
        Ok((answer, connection))
    }
}

impl Connection {
    async fn exchange(&mut self, post: &Post<'_>) -> Result<Answer, Failure> {
        let answer = self.wire.send(request(post)).await;
        let (head, mut body) = answer.map_err(|error| Failure::broken(&error))?.into_parts();
        let ended = timeout(BODY_TIMEOUT, drain(&mut body)).await.unwrap_or(false);
        let wait = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = wait.and_then(|text| retry_after(text, post.at));
        Ok(Answer { status: head.status, retry_after, ended })
    }
}

fn request(post: &Post<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::post(Uri::from(post.target.path.clone()))
        .body(Full::from(post.body.clone()))
        .expect("the parts were checked when the URL was");
    let text = |text: &str| HeaderValue::from_str(text).expect("ids and signatures are ASCII");
    let headers = request.headers_mut();
    headers.insert(header::HOST, post.target.authority.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert("webhook-id", text(post.id));
    headers.insert("webhook-timestamp", seconds(post.at).into());
    headers.insert("webhook-signature", text(&post.signatures));
    request
}

/// Whether the body ended within its limit.
async fn drain(body: &mut Incoming) -> bool {
    let mut left = RESPONSE_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
