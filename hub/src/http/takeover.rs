//! A connection that leaves HTTP behind the head of a plain answer, without an upgrade.
//!
//! hyper gives its stream away only after a 101 or a CONNECT, and a server-sent stream is a plain
//! GET. Written as a body it would go through a channel and hyper's write buffer: the outbox would
//! feel neither when the socket is full nor when it has room again. So the service leaves its answer
//! here and never ends; `accept` sees it, takes hyper apart and hands the stream on, with the head
//! for its new owner to write.

use std::{io::Write as _, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::oneshot};

/// A connection that left HTTP. Nothing of the answer is written yet.
#[derive(Debug)]
pub struct Taken {
    /// The stream.
    pub stream: TcpStream,
    /// What the client sent beyond its request.
    pub early: Bytes,
    /// The answer's head, to be written first. What follows it is the body, which ends with the
    /// connection (RFC 9112 §6.3): so it needs no framing and HTTP/1.0 can read it.
    pub head: Bytes,
}

/// An extension of the answer; they have to be `Clone`.
#[derive(Clone)]
struct Wanted(Arc<Mutex<Option<oneshot::Sender<Taken>>>>);

/// Makes this answer the last that HTTP knows of the connection: whoever awaits gets the stream.
/// The answer's body is not looked at. Fails to receive where the client left before, or where the
/// server is not [`super::serve`].
pub fn take_over(response: &mut Response<Body>) -> oneshot::Receiver<Taken> {
    let (sender, receiver) = oneshot::channel();
    response.extensions_mut().insert(Wanted(Arc::new(Mutex::new(Some(sender)))));
    receiver
}

/// An answer that takes its connection along.
pub(super) struct Takeover {
    head: Bytes,
    to: oneshot::Sender<Taken>,
}

/// Where the service leaves it for `accept`.
pub(super) type TakeoverSlot = Mutex<Option<Takeover>>;

impl Takeover {
    /// What [`take_over`] asked for.
    pub(super) fn of(response: &mut Response<Body>) -> Option<Self> {
        let Wanted(sender) = response.extensions_mut().remove()?;
        let to = sender.lock().take()?;
        Some(Self { head: head(response), to })
    }

    /// Hands the stream on; it is closed if nobody waits for it any more.
    pub(super) fn finish(self, stream: TcpStream, early: Bytes) {
        let Self { head, to } = self;
        // The deadline of whoever waited has passed.
        to.send(Taken { stream, early, head }).ok();
    }
}

/// Usual length of a head, in bytes, to allocate once.
const HEAD_BYTES: usize = 768;

fn head(response: &mut Response<Body>) -> Bytes {
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // axum's, of the body that nobody looks at.
    headers.remove(header::CONTENT_LENGTH);
    // RFC 9110 §6.6.1 wants it of a server that has a clock; hyper would have added it.
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now())
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        headers.insert(header::DATE, date);
    }
    let mut head = Vec::with_capacity(HEAD_BYTES);
    write!(head, "HTTP/1.1 {status}\r\n").expect("a Vec takes everything");
    for (name, value) in &*headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}
