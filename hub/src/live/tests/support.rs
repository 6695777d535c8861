//! A server on a free port, and a client that fails loudly.

use std::{collections::HashSet, future::ready, net::SocketAddr, sync::Arc, time::Duration};

use delivery::{
    InboxKey, StoreError,
    identity::UserCaller,
    limit::{LimitConfig, Limiter},
    store::{BoxFuture, Change, Stored},
};
use futures_util::{SinkExt, StreamExt};
use metrics::NoopRecorder;
use protocol::{
    Body, ChannelId, ClientFrame, Codec, DeviceId, MessageFields, MessageId, MessageState, NodeId,
    Seq, ServerFrame, Status, TenantId, Time, UserId,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tungstenite::{Error, Message, client::IntoClientRequest, protocol::CloseFrame};

use super::memory_store::MemoryStore;
use crate::{
    bus::{Bus, LocalBus},
    http::{self, HttpLimits, HttpMetrics, Listener, Pages},
    live::{Admission, ChannelGate, Live, LiveConfig, Refusal, Registry, TokenVerifier},
};

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
        edited_at: None,
        expire_at,
        collapse_key: None,
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

/// A token here is `user`, `user/device` or `user/device/seconds it is good for`.
struct PlainNames;

impl TokenVerifier for PlainNames {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        let mut parts = token.split('/');
        let user = parts.next().filter(|user| !user.starts_with("bad"));
        let user = user.ok_or_else(|| Refusal::Unauthorized("bad token".into()))?;
        let device = parts.next().filter(|device| !device.is_empty());
        let seconds: i64 = parts.next().map_or(3_600, |text| text.parse().unwrap());
        let end = Time::from_millis(delivery::clock::now().millis() + seconds * 1_000);
        Ok(UserCaller {
            device: device.map(|device| DeviceId::new(device).unwrap()),
            session: Some(format!("session of {user}")),
            ..UserCaller::new(inbox(user), end)
        })
    }

    fn note<'a>(
        &'a self,
        _: &'a UserCaller,
        _: std::net::IpAddr,
    ) -> delivery::store::BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Channels and their members; `open…` may be joined, `quiet…` show no presence.
#[derive(Default)]
pub(crate) struct Members(pub(crate) parking_lot::Mutex<HashSet<(String, String)>>);

impl Members {
    pub(crate) fn add(&self, user: &str, channel: &str) {
        self.0.lock().insert((user.to_owned(), channel.to_owned()));
    }

    pub(crate) fn remove(&self, user: &str, channel: &str) {
        self.0.lock().remove(&(user.to_owned(), channel.to_owned()));
    }

    fn has(&self, inbox: &InboxKey, channel: &ChannelId) -> bool {
        self.0.lock().contains(&(inbox.user.to_string(), channel.to_string()))
    }
}

impl ChannelGate for Members {
    fn admit(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>> {
        if channel.as_str() == "broken" {
            return Box::pin(ready(Err(StoreError::Busy("told to"))));
        }
        if channel.as_str().starts_with("open") {
            self.add(inbox.user.as_str(), channel.as_str());
        }
        let presence = !channel.as_str().starts_with("quiet");
        Box::pin(ready(Ok(self.has(inbox, channel).then_some(Admission { presence }))))
    }

    fn is_member(
        &self,
        inbox: &InboxKey,
        channel: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        Box::pin(ready(Ok(self.has(inbox, channel))))
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
        max_connection_age: None,
        node_id: NodeId::new("test-node").unwrap(),
        clock: delivery::clock::WallClock::default(),
    }
}

pub(crate) struct Server {
    pub(crate) live: Arc<Live>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: LiveConfig) -> Self {
        Self::start_on(config, Arc::new(LocalBus)).await
    }

    pub(crate) async fn start_on(config: LiveConfig, bus: Arc<dyn Bus>) -> Self {
        let registry = Registry::new(&config, &metrics::NoopRecorder);
        let store = Arc::new(MemoryStore::default());
        store.fanout.set(registry.clone()).ok().unwrap();
        let limiter = Arc::new(Limiter::new(LimitConfig::default(), &metrics::NoopRecorder));
        let members = Arc::new(Members::default());
        let names = Arc::new(PlainNames);
        let live = Live::new(
            config,
            registry.clone(),
            store.clone(),
            names,
            members.clone(),
            limiter,
            bus,
        );
        tokio::spawn(live.clone().check_positions());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = live.routes();
        let limits = HttpLimits {
            header_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            body_timeout: PATIENCE,
            connections_max: 100_000,
        };
        let counts = Arc::new(HttpMetrics::new(&NoopRecorder, Listener::User));
        tokio::spawn(http::serve(
            listener,
            router,
            limits,
            Pages::new(Listener::User, &[]),
            counts,
            CancellationToken::new(),
            TaskTracker::new(),
        ));
        Self { live, store, members, address }
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

/// What a client would make of the bytes.
pub(crate) fn client_reads(bytes: &[u8]) -> Vec<Message> {
    let mut socket = tungstenite::WebSocket::from_partially_read(
        std::io::Cursor::new(Vec::new()),
        bytes.to_vec(),
        tungstenite::protocol::Role::Client,
        None,
    );
    std::iter::from_fn(|| socket.read().ok()).collect()
}
