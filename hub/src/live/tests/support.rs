//! A store in memory, a server on a free port, and a client that fails loudly.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use delivery::{
    Fanout, InboxKey, Store, StoreError,
    identity::UserCaller,
    store::{
        Audience, BoxFuture, Change, ChangePage, Head, Health, InboxMessage, ListPage, ListQuery,
        Mark, MarkTarget, Marked, Outgoing, StatusChange, Stored, Watch, WatchGuard,
    },
};
use futures_util::{SinkExt, StreamExt};
use metrics::NoopRecorder;
use parking_lot::Mutex;
use protocol::{
    Body, ClientFrame, Codec, DeviceId, MessageFields, MessageId, MessageState, NodeId, Seq,
    ServerFrame, Status, TenantId, Time, UserId,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tungstenite::{Error, Message, client::IntoClientRequest, protocol::CloseFrame};

use crate::http::{self, HttpLimits, HttpMetrics, Listener};
use crate::live::{Live, LiveConfig, Refusal, Registry, TokenVerifier};

/// Long enough for a busy machine; nothing waits that long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn inbox(user: &str) -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new(user).unwrap())
}

pub(crate) fn body(id: &str, content: &str) -> Arc<Body> {
    body_until(id, content, None)
}

pub(crate) fn body_until(id: &str, content: &str, expire_at: Option<Time>) -> Arc<Body> {
    Arc::new(Body::new(&MessageFields {
        id: MessageId::new(id).unwrap(),
        channel_id: None,
        title: "title".into(),
        content: content.into(),
        message_type: "text".into(),
        priority: 5,
        sender: "svc".into(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::from_millis(1_700_000_000_000),
        expire_at,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }))
}

/// A change as a store would publish it.
pub(crate) fn stored(user: &str, seq: u64, content: &str) -> Stored {
    Stored {
        inbox: inbox(user),
        seq: Seq(seq),
        change: Change::Message {
            state: MessageState::new(Seq(seq)),
            body: body(&format!("m{seq}"), content),
        },
        accepted: None,
    }
}

#[derive(Default)]
struct Log {
    changes: Vec<Stored>,
    min_seq: u64,
    unread: u64,
    cursors: HashMap<DeviceId, Seq>,
}

/// A store that keeps the contract, and can be told to lose what it publishes.
#[derive(Default)]
pub(crate) struct MemoryStore {
    logs: Mutex<HashMap<InboxKey, Log>>,
    fanout: OnceLock<Arc<Registry>>,
    pub(crate) deaf: AtomicBool,
    pub(crate) pages: AtomicUsize,
}

struct NoGuard;
impl WatchGuard for NoGuard {}

impl MemoryStore {
    pub(crate) fn send(&self, user: &str, content: &str) -> Seq {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox(user)).or_default();
        let change = stored(user, log.changes.len() as u64 + 1, content);
        log.unread += 1;
        self.push(log, change)
    }

    pub(crate) fn send_expiring(&self, user: &str, expire_at: Time) -> Seq {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox(user)).or_default();
        let seq = Seq(log.changes.len() as u64 + 1);
        let body = body_until(&format!("m{seq}"), "late", Some(expire_at));
        let change = Change::Message { state: MessageState::new(seq), body };
        self.push(log, Stored { inbox: inbox(user), seq, change, accepted: None })
    }

    /// Publishing under the lock keeps the order of the inbox.
    fn push(&self, log: &mut Log, change: Stored) -> Seq {
        let seq = change.seq;
        log.changes.push(change.clone());
        if !self.deaf.load(Ordering::Relaxed) {
            self.fanout.get().unwrap().publish(&[change]);
        }
        seq
    }

    pub(crate) fn prune(&self, user: &str, min_seq: u64) {
        self.logs.lock().entry(inbox(user)).or_default().min_seq = min_seq;
    }

    pub(crate) fn cursor_of(&self, user: &str, device: &str) -> Option<Seq> {
        let device = DeviceId::new(device).unwrap();
        self.logs.lock().get(&inbox(user)).and_then(|log| log.cursors.get(&device).copied())
    }
}

fn head(log: &Log) -> Head {
    Head { seq: Seq(log.changes.len() as u64), unread: log.unread }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for MemoryStore {
    fn append(&self, items: Vec<Outgoing>) -> BoxFuture<'_, Result<(), StoreError>> {
        for item in items {
            if let Audience::Users(users) = item.audience {
                for user in users {
                    self.send(user.as_str(), "appended");
                }
            }
        }
        ready(Ok(()))
    }

    fn mark(
        &self,
        inbox: &InboxKey,
        device: Option<DeviceId>,
        mark: Mark,
        target: MarkTarget,
    ) -> BoxFuture<'_, Result<Marked, StoreError>> {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let ids = match target {
            MarkTarget::Many(ids) => ids,
            _ => return ready(Err(StoreError::Busy("only ids here"))),
        };
        let changed = ids.len() as u64;
        for message_id in ids {
            let status = StatusChange {
                message_id,
                status: mark.status(),
                device: device.clone(),
                at: Time::from_millis(1_700_000_000_000),
            };
            let seq = Seq(log.changes.len() as u64 + 1);
            let change = Change::Status(status);
            self.push(log, Stored { inbox: inbox.clone(), seq, change, accepted: None });
        }
        let marked = Marked { changed, head: head(log), message: None };
        ready(Ok(marked))
    }

    fn watch(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let head = head(self.logs.lock().entry(inbox.clone()).or_default());
        ready(Ok(Watch { head, guard: Box::new(NoGuard) }))
    }

    fn head(&self, inbox: &InboxKey) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Ok(head(self.logs.lock().entry(inbox.clone()).or_default())))
    }

    fn heads<'a>(&'a self, inboxes: &'a [InboxKey]) -> BoxFuture<'a, Vec<Option<Seq>>> {
        let logs = self.logs.lock();
        ready(inboxes.iter().map(|inbox| logs.get(inbox).map(|log| head(log).seq)).collect())
    }

    fn changes(
        &self,
        inbox: &InboxKey,
        since: Seq,
        limit: usize,
        _bytes_max: usize,
    ) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let changes = if since.0 < log.min_seq {
            vec![]
        } else {
            log.changes.iter().skip(since.0 as usize).take(limit).cloned().collect()
        };
        ready(Ok(ChangePage { changes, head: head(log).seq, min_seq: Seq(log.min_seq) }))
    }

    fn list(&self, _: &InboxKey, _: ListQuery) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        ready(Err(StoreError::Closing))
    }

    fn get(&self, _: &InboxKey, _: &MessageId) -> BoxFuture<'_, Result<InboxMessage, StoreError>> {
        ready(Err(StoreError::NotFound))
    }

    fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) {
        let mut logs = self.logs.lock();
        let log = logs.entry(inbox.clone()).or_default();
        let cursor = log.cursors.entry(device.clone()).or_default();
        *cursor = seq.max(*cursor);
    }

    fn cursor(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
    ) -> BoxFuture<'_, Result<Option<Seq>, StoreError>> {
        let logs = self.logs.lock();
        ready(Ok(logs.get(inbox).and_then(|log| log.cursors.get(device).copied())))
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        ready(Health::Writable)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(())
    }
}

/// A token here is `user`, `user/device` or `user/device/seconds it is good for`.
struct PlainNames;

impl TokenVerifier for PlainNames {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        let mut parts = token.split('/');
        let user = parts.next().filter(|user| !user.starts_with("bad"));
        let user = user.ok_or_else(|| Refusal::Unauthorized("bad token".into()))?;
        let device = parts.next().filter(|device| !device.is_empty());
        let seconds: i64 = parts.next().map_or(3_600, |text| text.parse().unwrap());
        Ok(UserCaller {
            inbox: inbox(user),
            device: device.map(|device| DeviceId::new(device).unwrap()),
            session: Some(format!("session of {user}")),
            username: user.into(),
            roles: vec![],
            scope: vec![],
            expires_at: Time::from_millis(delivery::clock::now().millis() + seconds * 1_000),
        })
    }
}

pub(crate) fn config() -> LiveConfig {
    LiveConfig {
        ping_interval: Duration::from_secs(30),
        read_buffer_size: 4096,
        write_buffer_size: 4096,
        outbox_limit: 256 << 10,
        stall_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        max_connections: 10_000,
        max_connections_per_user: 100,
        allowed_origins: vec![],
        node_id: NodeId::new("test-node").unwrap(),
    }
}

pub(crate) struct Server {
    pub(crate) live: Arc<Live>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: LiveConfig) -> Self {
        let registry = Registry::new(&config, &metrics::NoopRecorder);
        let store = Arc::new(MemoryStore::default());
        store.fanout.set(registry.clone()).ok().unwrap();
        let live = Live::new(config, registry, store.clone(), Arc::new(PlainNames));
        tokio::spawn(live.clone().check_positions());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = live.routes();
        let limits = HttpLimits {
            header_timeout: PATIENCE,
            body_timeout: PATIENCE,
            connections_max: 100_000,
        };
        let counts = Arc::new(HttpMetrics::new(&NoopRecorder, Listener::User));
        tokio::spawn(http::serve(
            listener,
            router,
            limits,
            counts,
            CancellationToken::new(),
            TaskTracker::new(),
        ));
        Self { live, store, address }
    }

    /// Connects with `query` behind `/ws?`, and reads the welcome.
    pub(crate) async fn connect(&self, query: &str) -> Client {
        let mut client = self.open(query, Codec::Json).await.expect("the handshake succeeds");
        client.expect_welcome().await;
        client
    }

    pub(crate) async fn open(&self, query: &str, codec: Codec) -> Result<Client, Error> {
        let protocol = [("Sec-WebSocket-Protocol", codec.subprotocol())];
        self.handshake(query, &protocol).await.map(|socket| Client { socket, codec })
    }

    pub(crate) async fn handshake(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, Error> {
        let mut request =
            format!("ws://{}/ws?{query}", self.address).into_client_request().unwrap();
        for &(name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        client_async(request, stream).await.map(|(socket, _)| socket)
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    codec: Codec,
}

impl Client {
    pub(crate) async fn expect_welcome(&mut self) -> protocol::Welcome {
        match self.next().await {
            ServerFrame::Welcome(welcome) => welcome,
            other => panic!("not a welcome: {other:?}"),
        }
    }

    /// The next frame of ours; pings are answered on the way.
    pub(crate) async fn next(&mut self) -> ServerFrame {
        loop {
            match self.next_message().await {
                Message::Text(text) => return self.codec.decode_server(text.as_bytes()).unwrap(),
                Message::Binary(bytes) => return self.codec.decode_server(&bytes).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a frame: {other:?}"),
            }
        }
    }

    pub(crate) async fn next_message(&mut self) -> Message {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
        message.expect("the socket is open").expect("a good message")
    }

    /// Reads changes up to `seq` and checks that they follow `from` without hole or repeat.
    pub(crate) async fn expect_changes(&mut self, from: u64, to: u64) {
        let mut last = from;
        while last < to {
            if let Some(seq) = self.next().await.seq() {
                assert_eq!(seq.0, last + 1, "no hole and no repeat");
                last = seq.0;
            }
        }
    }

    pub(crate) async fn expect_sync_complete(&mut self, at: u64) {
        let frame = self.next().await;
        assert_eq!(frame, ServerFrame::SyncComplete { seq: Seq(at) });
    }

    /// Reads on until the close; the disconnect frame and the close frame.
    pub(crate) async fn expect_close(&mut self) -> (ServerFrame, CloseFrame) {
        let mut disconnect = None;
        loop {
            match self.next_message().await {
                Message::Text(text) => {
                    let frame = self.codec.decode_server(text.as_bytes()).unwrap();
                    if matches!(frame, ServerFrame::Disconnect { .. }) {
                        disconnect = Some(frame);
                    }
                }
                Message::Close(Some(close)) => {
                    return (disconnect.expect("disconnect first"), close);
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn expect_close_code(&mut self, code: u16) {
        let (disconnect, close) = self.expect_close().await;
        assert_eq!(u16::from(close.code), code);
        assert!(matches!(disconnect, ServerFrame::Disconnect { code: named, .. } if named == code));
    }

    pub(crate) async fn say(&mut self, frame: &ClientFrame) {
        let bytes = self.codec.encode_client(frame);
        let message = match self.codec {
            Codec::Json => Message::text(String::from_utf8(bytes.to_vec()).unwrap()),
            Codec::MsgPack => Message::Binary(bytes),
        };
        self.send(message).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.expect("the socket is open");
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a status change of this message to `status`.
pub(crate) fn is_status(frame: &ServerFrame, id: &str, status: Status) -> bool {
    matches!(frame, ServerFrame::StatusUpdate { data, .. }
        if data.message_id.as_str() == id && data.status == status)
}
