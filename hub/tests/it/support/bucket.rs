//! A store of the S3 kind, as far as backups ask for it. Who signs wrongly is refused (Signature Version 4).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, http::request::Parts,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use url::form_urlencoded::parse;

/// The only one who may use it.
pub(crate) const KEY_ID: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Bytes>>,
    parts: Mutex<BTreeMap<(String, u32), Bytes>>,
    /// Uploads of several parts that were completed.
    uploads: AtomicUsize,
    refused: AtomicUsize,
    down: AtomicBool,
}

/// A running one, with the bucket `backups`.
pub(crate) struct FakeBucket {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for FakeBucket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeBucket {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                tokio::spawn(async move {
                    // A connection that breaks is the client's affair.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, shared, task }
    }

    /// The settings of a server that uses it.
    pub(crate) fn env(&self) -> [(&'static str, String); 5] {
        [
            ("BACKUP_BUCKET", "s3://backups/hub/eu".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// The names of what is there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Another content for an object.
    pub(crate) fn harm(&self, name: &str) {
        let mut objects = self.shared.objects.lock().unwrap();
        let mut bytes = objects[name].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        objects.insert(name.to_owned(), bytes.into());
    }

    pub(crate) fn uploads(&self) -> usize {
        self.shared.uploads.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Answers nothing but that it cannot.
    pub(crate) fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether a request is signed with [`SECRET`], its body with it.
fn is_signed(head: &Parts, body: &[u8]) -> bool {
    let text = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let Some(rest) = text("authorization").strip_prefix("AWS4-HMAC-SHA256 ") else { return false };
    let fields: BTreeMap<&str, &str> =
        rest.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let (credential, names) = (fields["Credential"], fields["SignedHeaders"]);
    let scope: Vec<&str> = credential.split('/').collect();
    let [KEY_ID, day, "eu-central-1", "s3", "aws4_request"] = scope[..] else { return false };
    let hash = text("x-amz-content-sha256");
    if hash != "UNSIGNED-PAYLOAD" && hash != hex(&Sha256::digest(body)) {
        return false;
    }
    let mut query: Vec<String> =
        head.uri.query().unwrap_or("").split('&').map(str::to_owned).collect();
    query.retain(|pair| !pair.is_empty());
    for pair in &mut query {
        if !pair.contains('=') {
            pair.push('=');
        }
    }
    query.sort();
    let headers: String =
        names.split(';').map(|name| format!("{name}:{}\n", text(name).trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{names}\n{hash}",
        head.method,
        head.uri.path(),
        query.join("&")
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        text("x-amz-date"),
        scope[1..].join("/"),
        hex(&Sha256::digest(canonical))
    );
    let key = ["eu-central-1", "s3", "aws4_request"]
        .iter()
        .fold(mac(format!("AWS4{SECRET}").as_bytes(), day), |key, text| mac(&key, text));
    names.contains("host") && hex(&mac(&key, &to_sign)) == fields["Signature"]
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let reply = |status: u16, body: Vec<u8>| {
        Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("ETag", format!("\"{}\"", &hex(&Sha256::digest(&body))[..32]))
            .header("Last-Modified", "Wed, 15 Jan 2025 09:30:00 GMT")
            .body(Full::from(body))
            .unwrap()
    };
    if shared.down.load(Ordering::Relaxed) {
        return Ok(reply(503, b"<Error><Code>SlowDown</Code></Error>".to_vec()));
    }
    if !is_signed(&head, &body) {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return Ok(reply(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>".to_vec()));
    }
    let query: BTreeMap<String, String> =
        parse(head.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let path = head.uri.path().strip_prefix("/backups").unwrap_or_default();
    let name = path.trim_start_matches('/').to_owned();
    let mut objects = shared.objects.lock().unwrap();
    let mut parts = shared.parts.lock().unwrap();
    let upload = query.get("uploadId").cloned();
    Ok(match (&head.method, upload) {
        (&Method::GET, _) if name.is_empty() => reply(200, list(&objects, &query).into_bytes()),
        (&Method::GET, _) => match objects.get(&name) {
            Some(bytes) => reply(200, bytes.to_vec()),
            None => reply(404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        },
        (&Method::PUT, None) => {
            objects.insert(name, body);
            reply(200, Vec::new())
        }
        (&Method::PUT, Some(upload)) => {
            parts.insert((upload, query["partNumber"].parse().unwrap()), body);
            reply(200, Vec::new())
        }
        (&Method::POST, None) => {
            let upload = uuid::Uuid::now_v7();
            let said = format!(
                "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            );
            reply(200, said.into_bytes())
        }
        (&Method::POST, Some(upload)) => {
            let own = parts.iter().filter(|((of, _), _)| *of == upload);
            let whole: Vec<u8> = own.flat_map(|(_, bytes)| bytes.to_vec()).collect();
            parts.retain(|(of, _), _| *of != upload);
            objects.insert(name, whole.into());
            shared.uploads.fetch_add(1, Ordering::Relaxed);
            let said =
                "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
            reply(200, said.as_bytes().to_vec())
        }
        (&Method::DELETE, None) => {
            objects.remove(&name);
            reply(204, Vec::new())
        }
        (&Method::DELETE, Some(upload)) => {
            parts.retain(|(of, _), _| *of != upload);
            reply(204, Vec::new())
        }
        (other, _) => panic!("{other} {path} is not asked for by backups"),
    })
}

fn list(objects: &BTreeMap<String, Bytes>, query: &BTreeMap<String, String>) -> String {
    assert_eq!(query["list-type"], "2");
    let prefix = query.get("prefix").map_or("", String::as_str);
    let delimiter = query.get("delimiter");
    let (mut contents, mut folders) = (String::new(), Vec::<String>::new());
    for (name, bytes) in objects.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let end = delimiter.and_then(|delimiter| name[prefix.len()..].find(&**delimiter));
        match end {
            Some(end) => folders.push(name[..=prefix.len() + end].to_owned()),
            None => contents.push_str(&format!(
                "<Contents><Key>{name}</Key><LastModified>2025-01-15T09:30:00.000Z</LastModified>\
                 <ETag>\"x\"</ETag><Size>{}</Size></Contents>",
                bytes.len()
            )),
        }
    }
    folders.dedup();
    let folders: String = folders
        .iter()
        .map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"))
        .collect();
    format!("<ListBucketResult>{contents}{folders}</ListBucketResult>")
}
