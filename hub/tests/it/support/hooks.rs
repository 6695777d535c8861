//! A service's other side: receives webhooks, with or without TLS, and verifies them with code of
//! its own.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// A webhook as it came.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: String,
    /// `webhook-timestamp`.
    pub(crate) timestamp: String,
    pub(crate) signatures: String,
    /// Where to, and all that was said beside it.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Hook {
    /// Whether a secret made one of its signatures, as Standard Webhooks 1.0 has it.
    pub(crate) fn verifies(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("whsec_")).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.signatures.split(' ').any(|signature| signature == expected)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// This status.
    Status(u16),
    /// A redirect to another port.
    Redirect(SocketAddr),
    /// Never.
    Nothing,
}

struct Shared {
    answers: Mutex<Answers>,
    hooks: Mutex<Vec<Hook>>,
    connections: AtomicUsize,
}

pub(crate) struct HookReceiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for HookReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An authority, and what it says of `localhost`.
pub(crate) struct Certificates {
    folder: TempDir,
    acceptor: TlsAcceptor,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let made = servers::Certificates::make();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), made.ca).unwrap();
        Self { folder, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The authority, for `SSL_CERT_FILE`.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }
}

impl HookReceiver {
    pub(crate) async fn start() -> Self {
        Self::begin(None).await
    }

    pub(crate) async fn start_tls(certificates: &Certificates) -> Self {
        Self::begin(Some(certificates.acceptor.clone())).await
    }

    async fn begin(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answers: Mutex::new(Answers::Status(204)),
            hooks: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        // A client that does not believe the certificate leaves.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub(crate) fn url_by_name(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/hooks", self.address.port())
    }

    pub(crate) fn answers(&self, answers: Answers) {
        *self.shared.answers.lock().unwrap() = answers;
    }

    /// Everything that came so far.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.shared.hooks.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| receive(request, Arc::clone(&shared)));
    // A connection that breaks is the client's affair.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn receive(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |name: &str| {
        request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let (id, timestamp, signatures) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    let (path, headers) = (request.uri().to_string(), request.headers().clone());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    shared.hooks.lock().unwrap().push(Hook { id, timestamp, signatures, path, headers, body });
    let answers = *shared.answers.lock().unwrap();
    let mut response = Response::new(Full::default());
    match answers {
        Answers::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
        Answers::Redirect(to) => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let to = format!("http://{to}/").parse().unwrap();
            response.headers_mut().insert(header::LOCATION, to);
        }
        Answers::Nothing => std::future::pending().await,
    }
    Ok(response)
}
