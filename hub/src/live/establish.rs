//! From the answer to a running connection: takes the socket out of hyper, registers, finds the
//! position to start from and queues `welcome`.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use delivery::{
    StoreError,
    account::{LoginMark, Unread},
    identity::UserCaller,
    store::WatchGuard,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use protocol::{CloseReason, DeviceId, DeviceType, Seq, ServerFrame, Welcome};
use socket2::SockRef;
use tokio::{net::tcp::OwnedReadHalf, sync::oneshot};
use uuid::Uuid;

use super::{
    Live,
    connection::{Connection, Peer},
    driver::Driver,
    frame_reader::FrameReader,
    framing::{EventFields, Framing},
    goodbye::{reconnect_after_ms, say_goodbye},
    metrics::Rejection,
    session::Session,
    verifier::token_life,
    wire_frame::WireFrame,
};
use crate::{
    bus::Attention,
    http::{Taken, take_stream},
};

/// Unsent bytes the kernel keeps for one socket. Without it the kernel would hold megabytes for a
/// reader that stopped reading; the outbox counts only its own. Throughput does not suffer: what is
/// in flight is not counted.
const KERNEL_UNSENT_BYTES_MAX: u32 = 64 << 10;

/// A place among `WS_MAX_CONNECTIONS`, given back when dropped.
pub(super) struct Slot(Arc<Live>);

impl Slot {
    pub(super) fn take(live: &Arc<Live>) -> Option<Self> {
        let max = live.connections_max();
        let more = |open| (open < max).then_some(open + 1);
        live.open.try_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(live.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who comes in.
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) caller: UserCaller,
    pub(super) device_type: DeviceType,
    pub(super) address: IpAddr,
}

/// A checked request.
pub(super) struct Admitted {
    pub(super) opening: Opening,
    pub(super) entry: Entry,
    pub(super) framing: Framing,
    pub(super) since: Option<Seq>,
}

/// How the socket comes out of HTTP.
pub(super) enum Opening {
    /// Behind a 101, which hyper writes.
    Upgrade(OnUpgrade),
    /// Behind a 200, of which nothing is written yet.
    Takeover(oneshot::Receiver<Taken>),
}

impl Opening {
    /// Fails where the peer went away between its request and our answer: everyday life.
    async fn take(self) -> Option<Result<Taken, Upgraded>> {
        match self {
            Self::Upgrade(upgrade) => {
                let taken = take_stream(upgrade.await.ok()?);
                Some(taken.map(|(stream, early)| Taken { stream, early, head: Bytes::new() }))
            }
            Self::Takeover(taken) => taken.await.ok().map(Ok),
        }
    }
}

/// Runs the connection as a task of its own, from the answer to its end.
pub(super) fn spawn(live: Arc<Live>, admitted: Admitted) {
    let tasks = live.tasks.clone();
    tasks.spawn(connection(live.clone(), Box::pin(establish(live, admitted))));
}

/// The task. The handshake and the goodbye are boxed, so that an idle connection is only as large
/// as its driver and its timer.
async fn connection(live: Arc<Live>, establish: Pin<Box<impl Future<Output = Option<Open>>>>) {
    let Some((mut driver, connection, _slot)) = establish.await else { return };
    let reason = driver.run().await;
    Box::pin(end(&live, &connection, reason, driver.into_reader())).await;
}

type Open = (Driver, Arc<Connection>, Slot);

/// Ends a registered connection: out of the registry at once, then the goodbye.
async fn end(
    live: &Arc<Live>,
    connection: &Connection,
    reason: CloseReason,
    (reader, frames): (OwnedReadHalf, FrameReader),
) {
    live.leaving.fetch_add(1, Ordering::Relaxed);
    live.registry().remove(connection);
    live.presence().leave_all(live, connection);
    if let Some(device) = connection.known_device() {
        live.bus().ended(connection.inbox(), device, &connection.connection_id());
    }
    say_goodbye(live, connection, reason, reader, frames).await;
    live.leaving.fetch_sub(1, Ordering::Relaxed);
    let (metrics, lifespan) = (live.metrics(), connection.connected_at().elapsed());
    metrics.connections(connection.device_type(), connection.framing()).decrement(1.0);
    metrics.disconnects(reason).increment(1);
    metrics.lifespan.record(lifespan);
    let id = connection.id().simple();
    let (transport, seconds) = (connection.transport().label(), lifespan.as_secs());
    let reason_label = reason.label();
    if reason.is_notable() {
        tracing::info!(connection = %id, transport, reason = reason_label, seconds, "connection closed");
    } else {
        tracing::debug!(connection = %id, transport, reason = reason_label, seconds, "connection closed");
    }
}

async fn establish(live: Arc<Live>, admitted: Admitted) -> Option<Open> {
    let live = &live;
    let Admitted { opening, entry, framing, since } = admitted;
    let Entry { slot, caller, device_type, address } = entry;
    let deadline = tokio::time::Instant::now() + live.config().handshake_timeout;
    let reject = |reason| live.metrics().rejected(reason).increment(1);
    let Ok(Some(taken)) = tokio::time::timeout_at(deadline, opening.take()).await else {
        reject(Rejection::Timeout);
        return None;
    };
    let Ok(Taken { stream, early, head }) = taken else {
        reject(Rejection::BadRequest);
        tracing::error!("the connection was not accepted by http::serve");
        return None;
    };
    // Without them a frame waits for the peer's delayed ack, or megabytes for a stuck reader; both
    // only fail on a socket that is gone already, which the first read finds.
    stream.set_nodelay(true).ok();
    SockRef::from(&stream).set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES_MAX).ok();

    // Before the inbox is watched: the groups of a new user are known when the first message comes.
    tokio::time::timeout_at(deadline, live.verifier().note(&caller, address)).await.ok();

    let (reader, writer) = stream.into_split();
    let life = token_life(&caller, live.wall().now());
    let login = LoginMark::of(&caller);
    let connection = Arc::new(Connection::new(
        peer(caller, framing, address),
        login,
        device_type,
        writer,
        live.wall().now(),
    ));
    live.metrics().connections(device_type, framing).increment(1.0);
    if !head.is_empty() {
        // Goes out with `welcome`, in one packet; before it nothing of ours is written.
        let io = live.io(&connection, Instant::now());
        connection.outbox().lock().reply(WireFrame::raw(head), io).ok();
    }
    if live.registry().insert(&connection).is_err() {
        reject(Rejection::Limit);
        let broken = (reader, FrameReader::default());
        end(live, &connection, CloseReason::TooManyConnections, broken).await;
        return None;
    }
    // Revoked between its check and here, nobody would have found it.
    if !live.verifier().is_valid(connection.inbox(), &login) {
        reject(Rejection::Auth);
        end(live, &connection, CloseReason::Revoked, (reader, FrameReader::default())).await;
        return None;
    }
    let now = Instant::now();
    let session = Session::new(now, live.first_ping(), life).ends_after(now, live.draw_age());
    let watch = match tokio::time::timeout_at(deadline, start(live, &connection, since)).await {
        Ok(Ok(watch)) => watch,
        refused => {
            reject(if refused.is_err() { Rejection::Timeout } else { Rejection::Unavailable });
            if let Ok(Err(error)) = refused {
                let connection = connection.id().simple().to_string();
                tracing::warn!(%connection, error = &error as &dyn std::error::Error,
                    "inbox could not be opened");
            }
            end(live, &connection, CloseReason::TryLater, (reader, FrameReader::default())).await;
            return None;
        }
    };
    live.metrics().accepted(framing).increment(1);
    let mut driver = Driver::new(live.clone(), connection.clone(), session, reader, watch);
    // A drain that listed the connections before this one was among them would wait for it.
    let early = driver.feed_early(&early).err();
    if let Some(reason) = early.or_else(|| live.is_draining().then_some(CloseReason::Restarting)) {
        end(live, &connection, reason, driver.into_reader()).await;
        return None;
    }
    Some((driver, connection, slot))
}

fn peer(caller: UserCaller, framing: Framing, address: IpAddr) -> Peer {
    let device_known = caller.device.is_some();
    let device = caller.device.unwrap_or_else(|| {
        let made_up = Uuid::now_v7().simple().to_string();
        DeviceId::new(made_up).expect("32 hex digits are an id")
    });
    Peer { inbox: caller.inbox, device, device_known, framing, address }
}

/// Why a connection does not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Preferences(#[from] Unread),
}

/// Begins to watch, sets the first position and queues `welcome`. The connection is registered
/// already, so a change is either before the watch's head or was offered.
async fn start(
    live: &Live,
    connection: &Connection,
    since: Option<Seq>,
) -> Result<Box<dyn WatchGuard>, StartError> {
    let inbox = connection.inbox();
    // Known before the first change is written; what the user says from here on is heard by the registry.
    if live.registry().silence_of(inbox).is_none()
        && let Some(silence) = live.verifier().silence(inbox).await?
    {
        live.registry().respect(inbox, &silence);
    }
    // Before the head is read: what others store after it is heard.
    let attention = live.bus().attend(inbox).await;
    if let Some(device) = connection.known_device() {
        live.bus().connected(inbox, device, &connection.connection_id());
    }
    let watch = live.store().watch(inbox).await?;
    let resume_at = match (since, connection.known_device()) {
        (Some(since), _) => Some(since),
        (None, Some(device)) => live.store().cursor(inbox, device).await?,
        (None, None) => None,
    };
    let welcome = ServerFrame::Welcome(Welcome {
        connection_id: connection.connection_id(),
        user_id: inbox.user.clone(),
        device_id: connection.device().clone(),
        node_id: live.config().node_id.clone(),
        seq: watch.head.seq,
        unread_count: watch.head.unread,
        ping_interval_ms: live.config().ping_interval.as_millis().try_into().unwrap_or(u64::MAX),
        server_time: live.wall().now(),
    });
    let start_at = resume_at.unwrap_or(watch.head.seq);
    // A stream that breaks before its first change comes back with this id, and not at a new head.
    let fields = EventFields {
        id: Some(start_at),
        retry_ms: Some(reconnect_after_ms(CloseReason::ConnectionLost, Duration::ZERO)),
    };
    let welcome = WireFrame::server_with(&welcome, fields, connection.framing());
    let io = live.io(connection, Instant::now());
    let mut outbox = connection.outbox().lock();
    outbox.reply(welcome, io).ok();
    outbox.start(start_at, watch.head.seq);
    Ok(Box::new(Heard { _guard: watch.guard, _attention: attention }))
}

/// An inbox of which this node hears, from its own store and from other nodes.
struct Heard {
    _guard: Box<dyn WatchGuard>,
    _attention: Attention,
}

impl WatchGuard for Heard {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task's future is the largest part of an idle connection; what makes it grow (an `await` of
    /// something large that is not boxed) shows here first.
    #[test]
    fn an_idle_connection_is_small() {
        fn size<F: Future>(_: impl Fn(Arc<Live>, Admitted) -> F) -> usize {
            size_of::<F>()
        }
        let task = |live: Arc<Live>, admitted| {
            connection(live.clone(), Box::pin(establish(live, admitted)))
        };
        assert!(size(task) <= 448, "the task's future has {} bytes", size(task));
        let connection = size_of::<Connection>();
        // With the 16 of its `Arc` in the allocator's class of 320, as with any from 241 bytes on.
        assert!(connection <= 264, "the connection has {connection} bytes");
    }
}
