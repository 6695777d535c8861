//! A connection to an address that was judged.
//!
//! Not a general HTTP client: those follow redirects, ask the environment for proxies, keep pools
//! whose size nobody bounds over all hosts, and connect to what their own resolver said. Here the
//! address that was judged is the one that is connected to.

use std::{
    any::Any,
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

use super::{
    address::Allowed,
    target::{Target, TargetHost},
};

/// Longest time for one address to accept a connection; then the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Most addresses of a name that are tried in one attempt.
const ADDRESSES_MAX: usize = 4;

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Finds addresses. May wait for the network; called on a thread that may.
pub(crate) trait Resolve: Send + Sync {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system does it: `hosts`, DNS, whatever it is set up for.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// What an attempt holds while anything of it goes on. A name's resolution cannot be cancelled: it
/// keeps its slot when the attempt has long timed out, so that slow name servers cannot take more
/// threads than there are slots.
pub(crate) type Hold = Arc<dyn Any + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address, or names cannot be resolved now.
    #[error("the name has no address")]
    UnknownHost(#[source] Option<io::Error>),
    /// None of the addresses may be connected to. Not which: what names inside a network stand for
    /// is nobody's business outside.
    #[error("the address is not allowed")]
    NotAllowed,
    /// Nobody accepted a connection in time.
    #[error("nobody accepts the connection")]
    NoAnswer,
    /// Nobody accepted a connection.
    #[error("the connection was refused")]
    NotConnected(#[source] io::Error),
    /// No TLS, or no certificate that can be believed.
    #[error("no TLS, or no certificate that can be believed")]
    Tls(#[source] io::Error),
    /// What is on the other side does not speak HTTP.
    #[error("the other side does not speak HTTP")]
    Broken(#[source] hyper::Error),
}

/// The certificates that the system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(crate) fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        tracing::warn!(
            "no certificates of authorities were found: nothing can be called by https; install \
             ca-certificates or set SSL_CERT_FILE"
        );
    }
    roots
}

/// Makes connections.
pub(crate) struct Dialer {
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
}

/// An open connection; closed when it is dropped.
pub(crate) struct Wire {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialer {
    /// # Errors
    /// When the crypto provider has no safe protocol version.
    pub(crate) fn new(
        resolver: Arc<dyn Resolve>,
        roots: RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { resolver, tls: Arc::new(tls).into() })
    }

    /// Resolves the host, judges its addresses, and connects to the first that answers.
    pub(crate) async fn dial(
        &self,
        target: &Target,
        allowed: &Allowed,
        hold: &Hold,
    ) -> Result<Wire, DialError> {
        let mut failure = DialError::NoAnswer;
        for address in self.addresses(target, allowed, hold).await? {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, target.port))).await {
                Ok(Ok(stream)) => {
                    // A request is one write; what could be gathered is not worth a wait.
                    let _ = stream.set_nodelay(true);
                    return self.begin(stream, target).await;
                }
                Ok(Err(error)) => failure = DialError::NotConnected(error),
                Err(_) => failure = DialError::NoAnswer,
            }
        }
        Err(failure)
    }

    /// The addresses of the host that may be connected to.
    async fn addresses(
        &self,
        target: &Target,
        allowed: &Allowed,
        hold: &Hold,
    ) -> Result<SmallVec<[IpAddr; ADDRESSES_MAX]>, DialError> {
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
                    Ok(Err(error)) => return Err(DialError::UnknownHost(Some(error))),
                    Ok(Ok(_)) | Err(_) => return Err(DialError::UnknownHost(None)),
                }
            }
        };
        let permitted = |address: &IpAddr| allowed.permits(*address, target.tls.is_some());
        let addresses: SmallVec<_> =
            found.into_iter().filter(permitted).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() { Err(DialError::NotAllowed) } else { Ok(addresses) }
    }

    async fn begin(&self, stream: TcpStream, target: &Target) -> Result<Wire, DialError> {
        let Some(name) = target.tls.clone() else { return Wire::begin(stream).await };
        match self.tls.connect(name, stream).await {
            Ok(stream) => Wire::begin(stream).await,
            Err(error) => Err(DialError::Tls(error)),
        }
    }
}

impl Wire {
    async fn begin<S>(stream: S) -> Result<Self, DialError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        TokioIo<S>: Read + Write,
    {
        let begun =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream));
        let (requests, connection) = begun.await.map_err(DialError::Broken)?;
        // How it ends shows in the answer, or does not matter.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, driver })
    }

    /// Whether another request may be sent, as far as is known here.
    pub(crate) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.requests.ready().await?;
        self.requests.send_request(request).await
    }
}
