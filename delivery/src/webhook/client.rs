//! One attempt: a POST to an address that was judged, and what came of it.
//!
//! Not a general HTTP client: those follow redirects, ask the environment for proxies, keep pools
//! whose size nobody bounds over all hosts, and connect to what their own resolver said. Here the
//! address that was judged is the one that is connected to, and a connection lives as long as its
//! endpoint is being sent to.

use std::{
    any::Any,
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use protocol::Time;
use schemars::JsonSchema;
use serde::Serialize;
use smallvec::SmallVec;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

use super::{
    WebhookError,
    address::Allowed,
    retry::retry_after,
    secret::seconds,
    target::{Target, TargetHost},
};
use crate::words::words;

/// Longest time for one address to accept a connection; then the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Most addresses of a name that are tried in one attempt.
const ADDRESSES_MAX: usize = 4;

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

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

/// Finds addresses. May wait for the network; called on a thread that may.
pub(super) trait Resolve: Send + Sync {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system does it: `hosts`, DNS, whatever it is set up for.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// What an attempt holds while anything of it goes on. A name's resolution cannot be cancelled: it
/// keeps its slot when the attempt has long timed out, so that slow name servers cannot take more
/// threads than there are slots.
pub(super) type Hold = Arc<dyn Any + Send + Sync>;

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
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    /// For all of an attempt.
    pub(super) timeout: Duration,
}

/// An open connection.
pub(super) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    target: Target,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
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

/// The certificates that the system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(super) fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        tracing::warn!(
            "no certificates of authorities were found: no https webhook can be delivered; install \
             ca-certificates or set SSL_CERT_FILE"
        );
    }
    roots
}

impl Client {
    pub(super) fn new(
        allowed: Allowed,
        resolver: Arc<dyn Resolve>,
        roots: RootCertStore,
        timeout: Duration,
    ) -> Result<Self, WebhookError> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| WebhookError::Tls(Box::new(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { allowed, resolver, tls: Arc::new(tls).into(), timeout })
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
        let mut connection = self.connect(post.target, hold).await?;
        let answer = connection.exchange(post).await?;
        Ok((answer, connection))
    }

    async fn connect(&self, target: &Target, hold: &Hold) -> Result<Connection, Failure> {
        let mut failure = Failure(Outcome::NotConnected, None);
        for address in self.addresses(target, hold).await? {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, target.port))).await {
                Ok(Ok(stream)) => {
                    // A request is one write; what could be gathered is not worth a wait.
                    let _ = stream.set_nodelay(true);
                    return self.begin(stream, target).await;
                }
                Ok(Err(error)) => failure = Failure::new(Outcome::NotConnected, &error),
                Err(_) => failure.1 = Some("nobody accepts the connection".to_owned()),
            }
        }
        Err(failure)
    }

    /// The addresses of the host that may be connected to.
    async fn addresses(
        &self,
        target: &Target,
        hold: &Hold,
    ) -> Result<SmallVec<[IpAddr; ADDRESSES_MAX]>, Failure> {
        let found = match &target.host {
            TargetHost::Address(address) => vec![*address],
            TargetHost::Name(name) => {
                let (resolver, name) = (Arc::clone(&self.resolver), name.clone());
                let hold = Arc::clone(hold);
                let resolved = tokio::task::spawn_blocking(move || {
                    let found = resolver.resolve(&name);
                    drop(hold);
                    found
                })
                .await;
                match resolved {
                    Ok(Ok(found)) if !found.is_empty() => found,
                    Ok(Err(error)) => return Err(Failure::new(Outcome::UnknownHost, &error)),
                    Ok(Ok(_)) | Err(_) => return Err(Failure(Outcome::UnknownHost, None)),
                }
            }
        };
        let permitted = |address: &IpAddr| self.allowed.permits(*address, target.tls.is_some());
        let addresses: SmallVec<_> =
            found.into_iter().filter(permitted).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            // Not which: what names inside a network stand for is nobody's business outside.
            return Err(Failure(Outcome::AddressNotAllowed, None));
        }
        Ok(addresses)
    }

    async fn begin(&self, stream: TcpStream, target: &Target) -> Result<Connection, Failure> {
        let Some(name) = target.tls.clone() else {
            return Connection::begin(stream, target).await;
        };
        match self.tls.connect(name, stream).await {
            Ok(stream) => Connection::begin(stream, target).await,
            Err(error) => Err(Failure::new(Outcome::Tls, &error)),
        }
    }
}

impl Connection {
    async fn begin<S>(stream: S, target: &Target) -> Result<Self, Failure>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        TokioIo<S>: Read + Write,
    {
        let begun =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream));
        let (requests, connection) = begun.await.map_err(|error| Failure::broken(&error))?;
        // How it ends shows in the answer, or does not matter.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, driver, target: target.clone() })
    }

    async fn exchange(&mut self, post: &Post<'_>) -> Result<Answer, Failure> {
        self.requests.ready().await.map_err(|error| Failure::broken(&error))?;
        let answer = self.requests.send_request(request(post)).await;
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
