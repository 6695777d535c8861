//! The stream under hyper: a `TcpStream` whose bytes are watched, and whose bare refusals speak.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    refusal,
    scanner::{Found, HeadScanner},
};

/// What the stream tells the others of the same connection: the service, and who times its heads.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    fault: OnceLock<Found>,
    /// All is read and written by the one task of the connection.
    past_head: AtomicBool,
}

impl Verdict {
    /// The fault of this request, if it has one.
    pub(super) fn of(&self, request: u64) -> Option<Found> {
        self.fault.get().filter(|found| found.request == request).copied()
    }

    /// Whether a request's head has begun and not ended. The first begins with the connection, so
    /// that one which says nothing is not taken for one at rest.
    pub(super) fn awaits_head(&self) -> bool {
        !self.past_head.load(Ordering::Relaxed)
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    scanner: HeadScanner,
    verdict: Arc<Verdict>,
    /// What is written in place of a refusal of hyper's, and that refusal's length.
    spoken: Option<(Bytes, usize)>,
}

/// Takes the TCP stream out of an upgraded connection, with the bytes that were read beyond the
/// handshake. hyper's buffer is dropped: kept alive, it would double a connection's memory.
///
/// # Errors
/// Gives the connection back if it was not accepted by [`super::serve`].
pub fn take_stream(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let parts = upgraded.downcast::<TokioIo<WatchedStream>>()?;
    Ok(parts.io.into_inner().into_stream(&parts.read_buf))
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream) -> (Self, Arc<Verdict>) {
        let verdict = Arc::new(Verdict::default());
        let scanner = HeadScanner::default();
        (Self { stream, scanner, verdict: Arc::clone(&verdict), spoken: None }, verdict)
    }

    /// The stream under it, and a copy of what hyper read and did not use: its buffer is larger.
    pub(super) fn into_stream(self, unused: &Bytes) -> (TcpStream, Bytes) {
        (self.stream, Bytes::copy_from_slice(unused))
    }

    /// Writes what stands in place of a refusal; hyper is told that its own bytes were taken.
    fn poll_speak(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((bytes, taken)) = &mut self.spoken {
            if bytes.is_empty() {
                let taken = *taken;
                self.spoken = None;
                return Poll::Ready(Ok(taken));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(written);
        }
        Poll::Ready(Ok(0))
    }

    /// Whether a write is spoken for, see [`refusal::in_words`].
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.spoken.is_none() {
            self.spoken = refusal::in_words(bytes).map(|words| (words, bytes.len()));
        }
        self.spoken.is_some()
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let this = &mut *self;
        if let Some(found) = this.scanner.feed(&buffer.filled()[before..]) {
            // The scanner reports once; nothing can be set before.
            let _ = this.verdict.fault.set(found);
        }
        this.verdict.past_head.store(!this.scanner.awaits_head(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return self.poll_speak(cx);
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces
            && self.replaces(piece)
        {
            return self.poll_speak(cx);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
