//! The accept loop.

use std::{
    future::poll_fn,
    io::{self, Write},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicU64},
    task::Poll,
};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ACCEPT_PAUSE, HEAD_BYTES_MAX, HEADERS_MAX, HttpLimits, HttpMetrics, Pages,
    READ_BUFFER_BYTES_MAX,
    head_timer::HeadTimer,
    io::WatchedStream,
    refusal::Refusal,
    service::ConnectionService,
    takeover::{Takeover, TakeoverSlot},
};

/// Accepts connections until `shutdown`, then closes the listener and returns; the connections are
/// tasks of `tracker`, finish the request they are at, and close.
///
/// Every answer has an `X-Request-Id`; a request's extensions have `ConnectInfo<SocketAddr>`. A
/// connection that leaves by [`super::take_stream`] or [`super::take_over`] is then no concern of
/// this loop: neither its cap nor its shutdown.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    pages: Pages,
    metrics: Arc<HttpMetrics>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let http = builder(limits);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.accept_errors.increment(1);
                if concerns_one_connection(&error) {
                    continue;
                }
                tracing::warn!(target: "error", %error, "cannot accept, pausing");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        metrics.accepted.increment(1);
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            metrics.refused(Refusal::Full);
            refuse_full(stream);
            continue;
        };
        // Frames and answers are written whole: waiting for more bytes only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the peer left before its first byte");
            continue;
        }
        let connection = Connection {
            stream,
            peer,
            router: router.clone(),
            limits,
            slots: Arc::clone(&slots),
            pages: pages.clone(),
            metrics: Arc::clone(&metrics),
            slot,
        };
        tracker.spawn(connection.run(http.clone(), shutdown.clone()));
    }
}

fn builder(limits: HttpLimits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Without a timer hyper silently has no header timeout at all. It begins with the answer before, so
    // that it bounds a connection's rest; a head is timed by `HeadTimer`.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout.max(limits.header_timeout))
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .keep_alive(true)
        .half_close(false);
    http
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    slots: Arc<Semaphore>,
    pages: Pages,
    metrics: Arc<HttpMetrics>,
    slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, http: http1::Builder, shutdown: CancellationToken) {
        let Self { stream, peer, router, limits, slots, pages, metrics, slot } = self;
        let (stream, verdict) = WatchedStream::new(stream);
        let mut head = HeadTimer::new(limits.header_timeout, Arc::clone(&verdict));
        let takeover = Arc::new(TakeoverSlot::default());
        let open = OpenConnection::new(&metrics);
        let service = Arc::new(ConnectionService {
            router,
            limits,
            slots,
            pages,
            metrics: Arc::clone(&metrics),
            peer,
            verdict,
            requests: AtomicU64::new(0),
            takeover: Arc::clone(&takeover),
        });
        let service = service_fn(move |request| Arc::clone(&service).call(request));
        let mut connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut shut_down = pin!(shutdown.cancelled());
        let mut shutting_down = false;
        let ended = poll_fn(|cx| {
            if !shutting_down && shut_down.as_mut().poll(cx).is_ready() {
                shutting_down = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Ended::Closed(ended));
            }
            if head.poll_late(cx).is_ready() {
                return Poll::Ready(Ended::HeadLate);
            }
            // Nothing of an earlier answer is lost: hyper reads the next request when all is written.
            takeover
                .lock()
                .take()
                .map_or(Poll::Pending, |takeover| Poll::Ready(Ended::Taken(takeover)))
        });
        match ended.await {
            Ended::Taken(takeover) => {
                let parts = connection.into_parts().expect("a connection is upgraded when it ends");
                let (stream, early) = parts.io.into_inner().into_stream(&parts.read_buf);
                drop((open, slot));
                return takeover.finish(stream, early);
            }
            Ended::HeadLate => metrics.timeouts.increment(1),
            Ended::Closed(Err(error)) => {
                if error.is_timeout() {
                    metrics.idle.increment(1);
                } else if error.is_parse_too_large() {
                    metrics.refused(Refusal::HeadTooLarge);
                } else if error.is_parse() {
                    metrics.refused(Refusal::Malformed);
                }
                tracing::debug!(%error, "connection ended");
            }
            Ended::Closed(Ok(())) => {}
        }
        drop((open, slot));
    }
}

/// How a connection's time as HTTP ends.
enum Ended {
    /// An answer takes the stream along.
    Taken(Takeover),
    /// A request's head took longer than `HTTP_HEADER_TIMEOUT`. There is no answer: nobody has asked yet.
    HeadLate,
    /// By either side.
    Closed(hyper::Result<()>),
}

/// Counts a connection while it lives, also when its task is aborted.
struct OpenConnection<'a>(&'a HttpMetrics);

impl<'a> OpenConnection<'a> {
    fn new(metrics: &'a HttpMetrics) -> Self {
        metrics.connections.increment(1.0);
        Self(metrics)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.decrement(1.0);
    }
}

/// Whether only this one connection is lost, so that the next accept may work at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Says 503 without a task and without waiting: an empty socket buffer takes it at once, and a peer
/// whose buffer does not is not worth a wait.
fn refuse_full(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std()
        && let Err(error) = stream.write_all(&Refusal::Full.bytes())
    {
        tracing::debug!(%error, "the peer left before it was refused");
    }
}
