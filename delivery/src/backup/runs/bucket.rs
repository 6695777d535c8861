//! Runs in a bucket of S3 or what speaks like it: `{prefix}/{run}/…`.
//!
//! Requests are signed by `object_store` (Signature Version 4), and go over the hub's own connections, so that there
//! is one way to connect, one set of authorities and one TLS. A file is sent while it is made: one that is larger
//! than a part goes in several, of which one is in memory.

use std::{
    io::{self, Write},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderValue, header};
use http_body_util::{BodyExt as _, Full};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
        HttpResponse, HttpResponseBody, HttpService,
    },
    path::Path as Key,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime::Handle, time::timeout};

use super::{
    RunError,
    record::is_id,
    shelf::{Counted, Left, RECORD, Writer, Written},
};
use crate::{
    backup::{area::aside, jobs::private},
    outbound::{Allowed, Dialer, Hold, SystemResolver, Target, Wire, system_roots},
};

/// Bytes of a part: with 10,000 of them, which is the most there may be, a file has 78 GiB.
const PART: usize = 8 << 20;

/// Longest wait for the answer to one request, the sending of a part included.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// For how long a request is tried again that failed for a reason that may pass.
const TRY_FOR: Duration = Duration::from_secs(30);

/// How often.
const TRIES: usize = 4;

/// Objects that are deleted at a time: each is a request.
const DELETIONS: usize = 8;

/// Which bucket, and who may use it.
#[derive(Clone)]
pub struct BucketConfig {
    /// Its name.
    pub bucket: String,
    /// What the names of all objects begin with; may be empty.
    pub prefix: String,
    /// Where the store is (`AWS_ENDPOINT_URL`); none for Amazon's of the region.
    pub endpoint: Option<String>,
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; none to ask the machine's own role.
    pub keys: Option<(String, SecretString)>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<SecretString>,
}

impl std::fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketConfig")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl BucketConfig {
    /// Reads `s3://bucket/prefix`: bucket and prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<(String, String)> {
        let rest = text.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_bucket = (3..=63).contains(&bucket.len()) && bucket.chars().all(legal);
        let prefix = prefix.trim_end_matches('/');
        let is_prefix = prefix.is_empty()
            || prefix.split('/').all(|piece| {
                !piece.is_empty() && !piece.starts_with('.') && piece.chars().all(legal)
            });
        (is_bucket && is_prefix).then(|| (bucket.to_owned(), prefix.to_owned()))
    }
}

/// A bucket of runs.
pub(super) struct Bucket {
    store: AmazonS3,
    config: BucketConfig,
}

impl Bucket {
    pub(super) fn open(config: BucketConfig) -> Result<Self, RunError> {
        let place = format!("s3://{}", config.bucket);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RunError::Place {
            place: place.clone(),
            source,
        };
        let dialer = Dialer::new(Arc::new(SystemResolver), system_roots())
            .map_err(|error| failed(error.into()))?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            // Not every store of this kind knows the request for many.
            .with_disable_bulk_delete(true)
            .with_http_connector(Connector(Arc::new(dialer)))
            .with_retry(RetryConfig {
                max_retries: TRIES,
                retry_timeout: TRY_FOR,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        if let Some((id, secret)) = &config.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
        }
        if let Some(token) = &config.session_token {
            builder = builder.with_token(token.expose_secret());
        }
        let store = builder.build().map_err(|error| failed(error.into()))?;
        Ok(Self { store, config })
    }

    pub(super) fn describe(&self) -> String {
        let BucketConfig { bucket, prefix, .. } = &self.config;
        if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") }
    }

    fn key(&self, run: &str, name: &str) -> Key {
        Key::from_iter(
            self.config
                .prefix
                .split('/')
                .chain([run])
                .chain(name.split('/'))
                .filter(|part| !part.is_empty()),
        )
    }

    pub(super) async fn put(&self, run: &str, name: &str, write: Writer) -> io::Result<Written> {
        let (store, key) = (self.store.clone(), self.key(run, name));
        let (runtime, waiting) = (Handle::current(), Left::default());
        let left = Arc::clone(&waiting.0);
        aside(move || {
            let parts = Parts { store, key, runtime, part: Vec::new(), upload: None };
            let mut to = Counted::new(parts, left);
            let made = write(&mut to);
            let (parts, written) = to.end();
            match made {
                Ok(()) => parts.finish().map(|()| written),
                Err(error) => {
                    parts.abort();
                    Err(error)
                }
            }
        })
        .await
    }

    pub(super) async fn runs(&self) -> io::Result<Vec<String>> {
        let prefix = (!self.config.prefix.is_empty()).then(|| Key::from(&*self.config.prefix));
        let found = self.store.list_with_delimiter(prefix.as_ref()).await.map_err(told)?;
        let names = found.common_prefixes.iter().filter_map(|prefix| prefix.filename());
        Ok(names.filter(|name| is_id(name)).map(str::to_owned).collect())
    }

    pub(super) async fn read(
        &self,
        run: &str,
        name: &str,
        most: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let got = match self.store.get(&self.key(run, name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(told)?,
        };
        if got.meta.size > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = timeout(ANSWER_MAX, got.bytes()).await.map_err(|_| silent())?;
        Ok(Some(bytes.map_err(told)?.to_vec()))
    }

    pub(super) async fn fetch(&self, run: &str, name: &str, to: &Path) -> io::Result<Written> {
        let mut pieces = self.store.get(&self.key(run, name)).await.map_err(told)?.into_stream();
        let mut to = Counted::new(private(to)?, Arc::default());
        loop {
            let piece = timeout(ANSWER_MAX, pieces.try_next()).await.map_err(|_| silent())?;
            let Some(piece) = piece.map_err(told)? else { break };
            to.write_all(&piece)?;
        }
        Ok(to.end().1)
    }

    pub(super) async fn remove(&self, run: &str) -> io::Result<()> {
        match self.store.delete(&self.key(run, RECORD)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => {}
            Err(error) => return Err(told(error)),
        }
        let folder = self.key(run, "");
        let names = self.store.list(Some(&folder)).map_err(told);
        let gone = names.map_ok(|found| async move {
            match self.store.delete(&found.location).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(told(error)),
            }
        });
        gone.try_buffer_unordered(DELETIONS).try_collect::<Vec<()>>().await.map(drop)
    }
}

/// What the store's error is as one of files.
fn told(error: object_store::Error) -> io::Error {
    match error {
        object_store::Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        error => io::Error::other(error),
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Silent)
}

/// An object that is sent while it is made.
struct Parts {
    store: AmazonS3,
    key: Key,
    runtime: Handle,
    part: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Parts {
    fn send_part(&mut self) -> io::Result<()> {
        let part = PutPayload::from(std::mem::take(&mut self.part));
        if self.upload.is_none() {
            let begun = self.runtime.block_on(self.store.put_multipart(&self.key));
            self.upload = Some(begun.map_err(told)?);
        }
        let upload = self.upload.as_mut().expect("it was begun above");
        self.runtime.block_on(upload.put_part(part)).map_err(told)
    }

    fn finish(mut self) -> io::Result<()> {
        if self.upload.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut self.part));
            let put = self.runtime.block_on(self.store.put(&self.key, whole));
            return put.map(drop).map_err(told);
        }
        let sent = if self.part.is_empty() { Ok(()) } else { self.send_part() };
        let ended = sent.and_then(|()| match &mut self.upload {
            Some(upload) => self.runtime.block_on(upload.complete()).map(drop).map_err(told),
            None => Ok(()),
        });
        if ended.is_err() {
            self.abort();
        }
        ended
    }

    /// Parts that were sent cost money until that is said. A store that cannot be reached keeps them.
    fn abort(mut self) {
        if let Some(upload) = &mut self.upload {
            let _ = self.runtime.block_on(upload.abort());
        }
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= PART {
            self.send_part()?;
        }
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the hub's connections.
#[derive(Clone)]
struct Connector(Arc<Dialer>);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Wires { dialer: self.clone(), idle: tokio::sync::Mutex::default() }))
    }
}

/// Sends requests, over one connection that is kept while it does, and others beside it.
#[derive(Debug)]
struct Wires {
    dialer: Connector,
    idle: tokio::sync::Mutex<Option<Idle>>,
}

/// A connection on which an answer was read to its end.
struct Idle {
    wire: Wire,
    authority: HeaderValue,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Idle")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it did not answer within a minute")]
struct Silent;

impl HttpService for Wires {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {
            let sent = timeout(ANSWER_MAX, self.send(request)).await;
            sent.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, Silent)))
        })
    }
}

impl Wires {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = request.uri().to_string();
        let target = Target::parse(&url, &Allowed::Configured).map_err(|problem| {
            HttpError::new_boxed(HttpErrorKind::Unknown, format!("the endpoint {problem}").into())
        })?;
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        head.uri = target.path.clone().into();
        head.headers.insert(header::HOST, target.authority.clone());
        let kept = self.idle.lock().await.take();
        let kept = kept.filter(|idle| idle.authority == target.authority && idle.wire.is_open());
        let mut wire = match kept {
            Some(idle) => idle.wire,
            None => {
                let hold: Hold = Arc::new(());
                let dialled = self.dialer.0.dial(&target, &Allowed::Configured, &hold).await;
                dialled.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?
            }
        };
        let is_small = head.method != http::Method::GET;
        let answer = wire.send(http::Request::from_parts(head, Full::from(body))).await;
        let answer = answer.map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        let (head, body) = answer.into_parts();
        let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        if is_small {
            // What a change answers is short, and read here, so that the connection can be used again.
            let body: Bytes = body.collect().await.map_err(broken)?.to_bytes();
            *self.idle.lock().await = Some(Idle { wire, authority: target.authority });
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        // Held by its body, and closed with it.
        let body = body.map_err(broken).map_frame(move |frame| {
            let _held = &wire;
            frame
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_and_may_have_a_prefix() {
        let parsed = |text| BucketConfig::parse(text);
        let pair = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(parsed("s3://acme-backups"), pair("acme-backups", ""));
        assert_eq!(parsed("s3://acme-backups/hub/eu/"), pair("acme-backups", "hub/eu"));
        for text in
            ["", "acme", "s3://", "s3://a", "s3://acme//x", "s3://acme/../x", "https://acme/x"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
