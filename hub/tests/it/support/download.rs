//! Answers that are no envelope: read as bytes, in part, or slowly.

use std::net::SocketAddr;

use reqwest::{Method, StatusCode, header::HeaderMap};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Api, TestServer, eventually};

/// As it comes over the wire.
pub(crate) struct Raw {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Reads at most so many bytes of an answer, then goes away.
pub(crate) async fn fetch(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    most: usize,
) -> Raw {
    let mut request = reqwest::Client::new().request(method, format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(chunk) = response.chunk().await.unwrap()
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(most);
    Raw { status, headers, bytes }
}

/// Asks a user port for something large and reads no further than its first line; the rest waits in the
/// connection.
pub(crate) async fn begin(server: &TestServer, api: &Api, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.user).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {}\r\n\r\n",
        api.credentials()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 64];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
    stream
}

/// Waits until everything is in the users' files, and none of it is counted as memory that waits for them.
pub(crate) async fn files_have_followed(server: &TestServer) {
    eventually("the files have followed", || async {
        server.metrics().await.lines().any(|line| line == "pushhub_store_lag_records 0")
            || !server.keeps_files()
    })
    .await;
}
