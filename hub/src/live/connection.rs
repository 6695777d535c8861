//! One live connection, as everybody but its own task sees it.

use std::{
    io,
    io::IoSlice,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use delivery::{InboxKey, account::LoginMark, clock::WallClock, identity::UserCaller};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use protocol::{CloseReason, Codec, ConnectionId, DeviceId, DeviceInfo, DeviceType, Seq, Time};
use tokio::net::tcp::OwnedWriteHalf;
use uuid::Uuid;

use super::{
    framing::{Framing, Transport},
    metrics::LiveMetrics,
    outbox::{Mode, Outbox},
    queue::{Io, Limits, Socket, Span},
    wire_frame::WireFrame,
};

impl Socket for OwnedWriteHalf {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, slices)
    }
}

/// Who is connected, from the token and the request.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) inbox: InboxKey,
    pub(super) device: DeviceId,
    /// Whether the token named the device; else it was made up and has no cursor.
    pub(super) device_known: bool,
    pub(super) framing: Framing,
    /// Where the client is, as far as proxies are believed.
    pub(super) address: IpAddr,
}

/// A live socket, of either transport. Its task reads and waits; anybody may offer it changes or ask it to end.
pub(super) struct Connection {
    id: Uuid,
    peer: Peer,
    connected_at: Instant,
    began: Time,
    socket: OwnedWriteHalf,
    outbox: Mutex<Outbox>,
    waker: AtomicWaker,
    info: Mutex<Option<Box<DeviceInfo>>>,
    /// By what the token can be revoked that counts: that of the request, or one that was sent since.
    login: Mutex<LoginMark>,
    /// The last change that the client confirmed.
    acked: AtomicU64,
}

/// What an operator sees of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The connection.
    pub id: ConnectionId,
    /// Whose.
    pub inbox: InboxKey,
    /// Which device.
    pub device: DeviceId,
    /// Kind of device.
    pub device_type: DeviceType,
    /// Version of the app, as the device says.
    pub app_version: String,
    /// The way it came.
    pub transport: Transport,
    /// How its frames are encoded.
    pub codec: Codec,
    /// Where the client is, as far as proxies are believed.
    pub address: IpAddr,
    /// Since when.
    pub connected_at: Time,
    /// The last change that was given to it.
    pub last: Seq,
    /// The last change that it confirmed here; 0 where none was.
    pub acked: Seq,
    /// Memory of what waits for it, in bytes.
    pub queued_bytes: usize,
    /// Whether it has all there is and gets what comes at once.
    pub live: bool,
}

impl Connection {
    /// One that begins now, which by the clock of all nodes is `began`.
    pub(super) fn new(
        peer: Peer,
        login: LoginMark,
        device_type: DeviceType,
        socket: OwnedWriteHalf,
        began: Time,
    ) -> Self {
        let info = (device_type != DeviceType::Unknown)
            .then(|| Box::new(DeviceInfo { device_type, ..DeviceInfo::default() }));
        Self {
            id: Uuid::now_v7(),
            login: Mutex::new(login),
            peer,
            connected_at: Instant::now(),
            began,
            socket,
            outbox: Mutex::new(Outbox::new()),
            waker: AtomicWaker::new(),
            info: Mutex::new(info),
            acked: AtomicU64::new(0),
        }
    }

    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn connection_id(&self) -> ConnectionId {
        ConnectionId::new(self.id.simple().to_string()).expect("32 hex digits are an id")
    }

    pub(super) const fn inbox(&self) -> &InboxKey {
        &self.peer.inbox
    }

    pub(super) const fn device(&self) -> &DeviceId {
        &self.peer.device
    }

    /// The device, where the token named it: only then is there a cursor to move.
    pub(super) fn known_device(&self) -> Option<&DeviceId> {
        self.peer.device_known.then_some(&self.peer.device)
    }

    pub(super) const fn framing(&self) -> Framing {
        self.peer.framing
    }

    pub(super) const fn transport(&self) -> Transport {
        self.peer.framing.transport()
    }

    pub(super) const fn connected_at(&self) -> Instant {
        self.connected_at
    }

    pub(super) const fn socket(&self) -> &OwnedWriteHalf {
        &self.socket
    }

    pub(super) const fn outbox(&self) -> &Mutex<Outbox> {
        &self.outbox
    }

    pub(super) const fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// By what its token can be revoked.
    pub(super) fn login(&self) -> LoginMark {
        *self.login.lock()
    }

    /// Another token counts from here on.
    pub(super) fn set_login(&self, caller: &UserCaller) {
        *self.login.lock() = LoginMark::of(caller);
    }

    /// Where the client is, as far as proxies are believed.
    pub(super) const fn address(&self) -> IpAddr {
        self.peer.address
    }

    pub(super) fn device_type(&self) -> DeviceType {
        self.info.lock().as_ref().map_or(DeviceType::Unknown, |info| info.device_type)
    }

    /// Keeps what the device said of itself; answers what kind it was taken for before.
    pub(super) fn set_info(&self, info: DeviceInfo) -> DeviceType {
        let before = self.info.lock().replace(Box::new(info));
        before.map_or(DeviceType::Unknown, |info| info.device_type)
    }

    /// Whether both are the same installation of an app.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.peer.device_known && other.peer.device_known && self.peer.device == other.peer.device
    }

    /// Whether a token is of this connection's user, tenant and device.
    pub(super) fn is_same(&self, caller: &UserCaller) -> bool {
        caller.inbox == self.peer.inbox && caller.device.as_ref() == self.known_device()
    }

    /// Offers contiguous changes: written here and now where the socket takes them. Never waits for
    /// the socket. Answers which of them went out.
    pub(super) fn offer(
        &self,
        frames: &[WireFrame],
        limits: Limits,
        metrics: &LiveMetrics,
        now: Instant,
        wall: &WallClock,
    ) -> Option<Span> {
        let transport = self.transport();
        let io = Io { socket: &self.socket, limits, metrics, transport, now, wall };
        let (wake, delivered) = self.outbox.lock().offer(frames, io);
        if wake {
            self.waker.wake();
        }
        delivered
    }

    /// The client confirmed everything up to here.
    pub(super) fn confirmed(&self, seq: Seq) {
        self.acked.fetch_max(seq.0, Ordering::Relaxed);
    }

    /// Asks the connection to end; the first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        self.outbox.lock().request_close(reason);
        self.waker.wake();
    }

    /// Where it stands, if it is live.
    pub(super) fn live_at(&self) -> Option<Seq> {
        let outbox = self.outbox.lock();
        (outbox.mode() == Mode::Live).then(|| outbox.last())
    }

    /// Makes it read the store if it is live and behind `head`; answers whether it was.
    pub(super) fn repair(&self, head: Seq) -> bool {
        let behind = self.outbox.lock().fell_behind(head);
        if behind {
            self.waker.wake();
        }
        behind
    }

    /// Makes it read the store if it is live and ahead of `head`; answers whether it was.
    pub(super) fn rewind(&self, head: Seq) -> bool {
        let ahead = self.outbox.lock().went_ahead(head);
        if ahead {
            self.waker.wake();
        }
        ahead
    }

    /// The inbox has reached `head` by a change that is not offered: it reads the store.
    pub(super) fn reached(&self, head: Seq) {
        if self.outbox.lock().reached(head) {
            self.waker.wake();
        }
    }

    pub(super) fn describe(&self) -> ConnectionInfo {
        let (last, queued_bytes, live) = {
            let outbox = self.outbox.lock();
            (outbox.last(), outbox.queued_bytes(), outbox.mode() == Mode::Live)
        };
        let info = self.info.lock();
        ConnectionInfo {
            id: self.connection_id(),
            inbox: self.peer.inbox.clone(),
            device: self.peer.device.clone(),
            device_type: info.as_ref().map_or(DeviceType::Unknown, |info| info.device_type),
            app_version: info.as_ref().map(|info| info.app_version.clone()).unwrap_or_default(),
            transport: self.transport(),
            codec: self.peer.framing.codec(),
            address: self.peer.address,
            last,
            acked: Seq(self.acked.load(Ordering::Relaxed)),
            queued_bytes,
            live,
            connected_at: self.began,
        }
    }
}
