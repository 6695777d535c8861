//! How a connection ends: one reason decides what is still sent, how long the peer is waited for,
//! and what the client should do next.

use std::{future::poll_fn, net::Shutdown, pin::Pin, task::Poll, time::Duration};

use protocol::{CloseReason, ServerFrame};
use rand::RngExt;
use socket2::SockRef;
use tokio::{io::AsyncRead, io::ReadBuf, net::tcp::OwnedReadHalf, time::timeout};
use tungstenite::Message;

use super::{
    Live,
    connection::Connection,
    frame_reader::{FrameReader, Messages},
    framing::Transport,
    outbox::Flushed,
    wire_frame::WireFrame,
};

/// How long the goodbye may take: what waits is written and the peer answers the close within it,
/// or the socket is dropped.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Bytes of one read while only the peer's close is waited for.
const READ_BYTES: usize = 512;

/// How a reason is carried out.
struct Manner {
    /// What waits is still of use to the client.
    flush: bool,
    /// The peer is told and waited for.
    polite: bool,
    /// The kernel throws away what it holds for the peer, which reads nothing: it would keep that
    /// for minutes.
    abort: bool,
}

fn manner(reason: CloseReason) -> Manner {
    match reason {
        CloseReason::ConnectionLost => Manner { flush: false, polite: false, abort: false },
        CloseReason::NoProgress => Manner { flush: false, polite: false, abort: true },
        CloseReason::TokenExpired
        | CloseReason::Restarting
        | CloseReason::TryLater
        | CloseReason::Moved
        | CloseReason::Aged => Manner { flush: true, polite: true, abort: false },
        CloseReason::ClientClosed
        | CloseReason::NoHeartbeat
        | CloseReason::TooManyConnections
        | CloseReason::TooManyFrames
        | CloseReason::BadFrame
        | CloseReason::TooBig
        | CloseReason::Revoked
        | CloseReason::NotAllowed
        | CloseReason::Replaced
        | CloseReason::Disconnected => Manner { flush: false, polite: true, abort: false },
    }
}

/// When a client should come back, in milliseconds. Drawn from a range, so that those who were sent
/// away together do not come back together.
pub(super) fn reconnect_after_ms(reason: CloseReason, restart_spread: Duration) -> u64 {
    let (from, to) = match reason {
        CloseReason::Restarting => (100, restart_spread.as_millis().try_into().unwrap_or(u64::MAX)),
        CloseReason::TokenExpired => (0, 500),
        // Their ends are spread out already, by their draws and by the pace of moving.
        CloseReason::Moved | CloseReason::Aged => (0, 1_000),
        CloseReason::NoHeartbeat | CloseReason::NoProgress | CloseReason::ConnectionLost => {
            (500, 5_000)
        }
        CloseReason::TooManyFrames | CloseReason::TooManyConnections => (5_000, 30_000),
        CloseReason::TryLater => (1_000, 10_000),
        CloseReason::ClientClosed
        | CloseReason::BadFrame
        | CloseReason::TooBig
        | CloseReason::Revoked
        | CloseReason::NotAllowed
        | CloseReason::Replaced
        | CloseReason::Disconnected => return 0,
    };
    rand::rng().random_range(from..=to.max(from))
}

/// Tells the peer, waits for its answer for [`CLOSE_WAIT`], and lets go.
pub(super) async fn say_goodbye(
    live: &Live,
    connection: &Connection,
    reason: CloseReason,
    mut reader: OwnedReadHalf,
    mut frames: FrameReader,
) {
    let manner = manner(reason);
    {
        let io = live.io(connection, std::time::Instant::now());
        let mut outbox = connection.outbox().lock();
        // A client that said goodbye has its answer in the queue already.
        let last = (manner.polite && reason != CloseReason::ClientClosed).then(|| {
            let after = reconnect_after_ms(reason, live.restart_spread());
            let disconnect = ServerFrame::disconnect(reason, after);
            let framing = connection.framing();
            [Some(WireFrame::server(&disconnect, framing)), WireFrame::close(reason, framing)]
        });
        outbox.close(manner.flush, last.into_iter().flatten().flatten(), io);
    }
    let mut answered = !manner.polite;
    if manner.polite {
        let farewell = async {
            if flush(live, connection).await && reason != CloseReason::ClientClosed {
                let frames = match connection.transport() {
                    Transport::WebSocket => Some(&mut frames),
                    Transport::EventStream => {
                        // The end of the stream is the end of the connection.
                        SockRef::from(connection.socket().as_ref()).shutdown(Shutdown::Write).ok();
                        None
                    }
                };
                wait_for_close(&mut reader, frames).await;
            }
        };
        answered = timeout(CLOSE_WAIT, farewell).await.is_ok();
    }
    if manner.abort || (reason == CloseReason::NoHeartbeat && !answered) {
        connection.socket().as_ref().set_zero_linger().ok();
    }
    connection.outbox().lock().clear(live.metrics());
}

/// Writes what waits; whether it all went out.
async fn flush(live: &Live, connection: &Connection) -> bool {
    loop {
        let flushed = {
            let io = live.io(connection, std::time::Instant::now());
            connection.outbox().lock().flush(io)
        };
        let Ok((flushed, delivered)) = flushed else { return false };
        live.registry().note_delivered(connection, delivered);
        match flushed {
            Flushed::Empty { .. } => return true,
            Flushed::More { .. } => {}
            Flushed::Blocked => {
                if connection.socket().writable().await.is_err() {
                    return false;
                }
            }
        }
    }
}

/// Reads on until the peer closes. After a broken frame, and where there are none, nothing more can
/// be understood, but what is on its way must still be taken from the kernel: closing over unread
/// bytes sends a reset, which may overtake our last frames.
async fn wait_for_close(reader: &mut OwnedReadHalf, mut frames: Option<&mut FrameReader>) {
    loop {
        let mut bytes = [0; READ_BYTES];
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => Poll::Ready(result.map(|()| buffer.filled().len())),
            }
        });
        let Ok(count @ 1..) = read.await else { return };
        let mut messages = Messages::new();
        let read = frames.as_mut().map(|frames| frames.read(&bytes[..count], &mut messages));
        if matches!(read, Some(Err(_))) {
            frames = None;
        }
        if messages.iter().any(|message| matches!(message, Message::Close(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_allow_it_name_a_time_to_come_back() {
        for reason in CloseReason::ALL {
            for _ in 0..20 {
                let after = reconnect_after_ms(reason, Duration::from_secs(10));
                assert!(after <= 30_000, "{reason:?}: {after}");
                assert!(reason.reconnect() || after == 0, "{reason:?}: {after}");
            }
        }
    }

    #[test]
    fn a_restart_spreads_over_the_drain_time() {
        let times: Vec<u64> = (0..200)
            .map(|_| reconnect_after_ms(CloseReason::Restarting, Duration::from_secs(10)))
            .collect();
        assert!(times.iter().any(|ms| *ms < 3_000) && times.iter().any(|ms| *ms > 7_000));
    }
}
