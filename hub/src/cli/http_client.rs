//! One request to our own API. A whole HTTP client would double the binary for it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};

/// Longest wait for an answer: a send waits for the disk, not for devices.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Host and port of a URL, and what to put into `Host`.
pub(super) fn authority(url: &Uri, schemes: &[&str]) -> anyhow::Result<(String, String)> {
    let scheme = url.scheme_str().unwrap_or_default();
    if !schemes.contains(&scheme) {
        bail!("the URL begins with {}://, not with {scheme:?}", schemes.join(":// or "));
    }
    let authority = url.authority().context("the URL names no host")?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    Ok((address, authority.as_str().to_owned()))
}

/// Posts JSON with a service key; gives the status and the body.
pub(super) async fn post(
    url: &Uri,
    path: &str,
    key: &SecretString,
    body: Vec<u8>,
) -> anyhow::Result<(u16, Bytes)> {
    let (address, host) = authority(url, &["http"])?;
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Service {}", key.expose_secret()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .context("the key has characters that no header can carry")?;
    exchange(&address, request, ANSWER_TIMEOUT).await
}

/// Gets something that is open to everybody; gives the status and the body.
pub(super) async fn get(
    address: SocketAddr,
    path: &str,
    within: Duration,
) -> anyhow::Result<(u16, Bytes)> {
    let address = address.to_string();
    let request = Request::get(path)
        .header(header::HOST, &address)
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::new()))
        .context("it is no path")?;
    exchange(&address, request, within).await
}

async fn exchange(
    address: &str,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> anyhow::Result<(u16, Bytes)> {
    let exchange = async {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no connection to {address}"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
        driver.abort();
        Ok((status, body.to_bytes()))
    };
    timeout(within, exchange)
        .await
        .with_context(|| format!("no answer from {address} within {within:?}"))?
}
