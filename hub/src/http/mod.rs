//! HTTP as we accept it: the accept loop and what is refused before a handler sees it.
//!
//! `axum::serve` is not used because it sets neither a header timeout nor `TCP_NODELAY`, has no cap
//! on connections, and forgets upgraded sockets at shutdown. hyper by itself accepts requests that
//! two servers in a row may read differently (both `Content-Length` and `Transfer-Encoding`, no
//! `Host` or two, lines that end in a bare LF); those get 400 here (RFC 9112 §6.3, §3.2, §2.2).
//!
//! What browsers may do is decided here too, for what is refused before the router as well: `pages` (CORS,
//! and foreign pages on the port of admins), `protect` (what every answer says), by `origin`.
//!
//! The path of a connection: [`serve`] accepts → `io` watches the raw bytes → hyper parses →
//! `service` judges and hands on to the router → the answer, or the raw stream: by [`take_stream`]
//! after an upgrade, by [`take_over`] after any other answer.

mod accept;
mod head_timer;
mod io;
mod metrics;
pub(crate) mod origin;
mod pages;
mod protect;
mod refusal;
mod scanner;
mod service;
mod takeover;

use std::time::Duration;

pub use accept::serve;
pub use io::take_stream;
pub use metrics::{ALL as METRICS, HttpMetrics, Listener};
pub use pages::Pages;
pub use service::BodyTooSlow;
pub use takeover::{Taken, take_over};

use crate::config::HttpConfig;

/// Largest head of a request (request line and header fields), in bytes; more gets 431. A token of
/// some KiB and a browser's cookies fit twice.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// Most header fields of a request; more gets 431. Browsers send about 20.
pub const HEADERS_MAX: usize = 100;

/// Longest request target, in bytes; more gets 414. What RFC 9110 §4.1 asks every server to take.
pub const URI_BYTES_MAX: usize = 8_000;

/// Largest read buffer of a connection, in bytes. Bodies are handed on piece by piece, so that this
/// bounds memory of a connection and not its body.
const READ_BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a client is told to wait when the port is full, in seconds. Slots of requests come back within
/// milliseconds, those of connections at rest within `HTTP_IDLE_TIMEOUT`.
const RETRY_AFTER_SECONDS: u32 = 1;

/// While less than one in so many of a port's connections is free, answers close theirs instead of letting
/// it rest: a quarter is room for some seconds of newcomers.
const CROWDED: usize = 4;

/// Pause after an accept that failed for want of descriptors or memory: without it the loop would
/// spin on the same error at full speed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Limits of one port.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Longest wait for a request's head, from its first byte; for the first, from the accept.
    pub header_timeout: Duration,
    /// Longest rest of a connection between two requests.
    pub idle_timeout: Duration,
    /// Longest wait for a request's body, from its first read to its end.
    pub body_timeout: Duration,
    /// Most connections; those that left HTTP do not count.
    pub connections_max: usize,
}

impl From<&HttpConfig> for HttpLimits {
    fn from(config: &HttpConfig) -> Self {
        Self {
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            body_timeout: config.body_timeout,
            connections_max: config.connections_max,
        }
    }
}

#[cfg(test)]
mod tests;
