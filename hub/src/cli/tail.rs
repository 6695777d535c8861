//! `pushhub tail`: a device in a terminal.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use delivery::identity::MintRequest;
use futures_util::StreamExt;
use http::{HeaderValue, Uri, header};
use protocol::{Codec, ServerFrame, UserId};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as SocketError, Message, client::IntoClientRequest},
};

use super::{client_runtime, http_client, out, start_lines::reachable, token::mint};
use crate::config::{Config, Loaded};

/// Longest wait for a connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// First and longest pause before coming back; it doubles between them, and half of it is random,
/// so that many clients do not come back as one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A connection that held this long was a good one: the next pause is short again.
const GOOD_AFTER: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CodecArgument {
    #[default]
    Json,
    Msgpack,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The user; the token is made with this server's key.
    #[arg(long, required_unless_present = "token", conflicts_with = "token")]
    user: Option<UserId>,
    /// A token.
    #[arg(long, env = "PUSHHUB_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
    /// Everything after this position first; 0 for all there is. Without it, what comes from now on.
    #[arg(long)]
    since: Option<u64>,
    /// Where the server is; this machine without one.
    #[arg(long)]
    url: Option<Uri>,
    /// How frames travel; they are printed as JSON either way.
    #[arg(long, value_enum, default_value_t)]
    codec: CodecArgument,
}

pub(super) fn run(arguments: Arguments, loaded: Loaded) -> anyhow::Result<()> {
    let config = loaded.config;
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => format!("ws://{}", reachable(config.process.user_address))
            .parse()
            .context("the configured address makes no URL")?,
    };
    let codec = match arguments.codec {
        CodecArgument::Json => Codec::Json,
        CodecArgument::Msgpack => Codec::MsgPack,
    };
    let since = arguments.since;
    client_runtime()?.block_on(Tail { arguments, config, url, codec, since }.run())
}

struct Tail {
    arguments: Arguments,
    config: Config,
    url: Uri,
    codec: Codec,
    /// The last position that was printed, or asked for.
    since: Option<u64>,
}

/// Why a connection ended, where it is worth coming back.
struct Ended {
    why: String,
    /// What the server asked for.
    pause: Option<Duration>,
}

impl Ended {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), pause: None }
    }
}

impl Tail {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut pause = PAUSE_MIN;
        loop {
            let started = Instant::now();
            let ended = match self.connect().await? {
                Ok(socket) => self.print(socket).await?,
                Err(ended) => ended,
            };
            if started.elapsed() > GOOD_AFTER {
                pause = PAUSE_MIN;
            }
            let wait = ended.pause.unwrap_or_else(|| {
                pause / 2 + (pause / 2).mul_f64(rand::rng().random_range(0.0..1.0))
            });
            pause = (pause * 2).min(PAUSE_MAX);
            out::note(&format!("{}; coming back in {} ms", ended.why, wait.as_millis()));
            tokio::time::sleep(wait).await;
        }
    }

    /// A new token each time for `--user`: the old one may be what ended the connection.
    fn token(&self) -> anyhow::Result<String> {
        match (&self.arguments.token, &self.arguments.user) {
            (Some(token), _) => Ok(token.expose_secret().to_owned()),
            (None, Some(user)) => mint(&self.config, &MintRequest::new(user.clone())),
            (None, None) => bail!("--user or --token is needed"),
        }
    }

    async fn connect(&self) -> anyhow::Result<Result<WebSocketStream<TcpStream>, Ended>> {
        let (address, host) = http_client::authority(&self.url, &["ws"])?;
        let since = self.since.map_or_else(String::new, |since| format!("?since={since}"));
        let path = match self.url.path() {
            "" | "/" => "/ws",
            path => path,
        };
        let mut request = format!("ws://{host}{path}{since}").into_client_request()?;
        let headers = request.headers_mut();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token()?))
            .context("the token has characters that no header can carry")?;
        bearer.set_sensitive(true);
        // In a header and not in the URL, which proxies write into their logs.
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(self.codec.subprotocol()),
        );
        let handshake = async {
            let stream = TcpStream::connect(&address).await.map_err(SocketError::Io)?;
            stream.set_nodelay(true).map_err(SocketError::Io)?;
            client_async(request, stream).await
        };
        Ok(match timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => {
                let status = response.status().as_u16();
                // Too many, or not now; every other refusal will be the same next time.
                if !matches!(status, 429 | 503) {
                    bail!("{} refuses with {status}", self.url);
                }
                let pause = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs);
                Err(Ended { why: format!("refused with {status}"), pause })
            }
            Ok(Err(error)) => Err(Ended::because(format!("no connection to {address}: {error}"))),
            Err(_) => Err(Ended::because(format!("no handshake with {address} in time"))),
        })
    }

    async fn print(&mut self, mut socket: WebSocketStream<TcpStream>) -> anyhow::Result<Ended> {
        let mut pause = None;
        while let Some(message) = socket.next().await {
            let frame = match message {
                Ok(Message::Text(text)) => {
                    out::line(text.as_str())?;
                    Codec::Json.decode_server(text.as_bytes()).ok()
                }
                Ok(Message::Binary(bytes)) => {
                    let frame = Codec::MsgPack.decode_server(&bytes)?;
                    out::line(&serde_json::to_string(&frame)?)?;
                    Some(frame)
                }
                Ok(Message::Close(close)) => {
                    let (code, reason) = close
                        .map_or((1005, String::new()), |c| (c.code.into(), c.reason.to_string()));
                    match self.on_close(code, &reason) {
                        ControlFlow::Break(error) => return Err(error),
                        ControlFlow::Continue(why) => return Ok(Ended { why, pause }),
                    }
                }
                // Pings are answered by the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
                Err(error) => return Ok(Ended { why: format!("lost: {error}"), pause }),
            };
            match frame {
                Some(ServerFrame::Disconnect { reconnect_after_ms, .. }) => {
                    // Zero means that the server has no wish.
                    pause =
                        (reconnect_after_ms > 0).then(|| Duration::from_millis(reconnect_after_ms));
                }
                // A token made here names no device, so that the server keeps no cursor for it and
                // begins at the head: that is where to go on.
                Some(ServerFrame::Welcome(welcome)) if self.arguments.user.is_some() => {
                    self.since.get_or_insert(welcome.seq.0);
                }
                Some(frame) => {
                    if let Some(seq) = frame.seq() {
                        self.since = Some(seq.0);
                    }
                }
                None => {}
            }
        }
        Ok(Ended { why: "lost".to_owned(), pause })
    }

    /// The number alone decides (contract §6).
    fn on_close(&self, code: u16, reason: &str) -> ControlFlow<anyhow::Error, String> {
        let why = format!("closed with {code} {reason}");
        let expired = code == protocol::CloseReason::TokenExpired.code();
        if expired && self.arguments.token.is_some() {
            return ControlFlow::Break(anyhow::anyhow!("{why}: give a new --token"));
        }
        match code {
            1000 | 1009 | 4500..=4999 => ControlFlow::Break(anyhow::anyhow!("{why}")),
            _ => ControlFlow::Continue(why),
        }
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
