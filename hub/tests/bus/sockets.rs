//! Nodes with sockets, one store, one Redis: what a client sees of several nodes.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, StoreError,
    identity::UserCaller,
    limit::{LimitConfig, Limiter},
    store::BoxFuture,
};
use futures_util::{SinkExt, StreamExt};
use hub::{
    bus::{Bus, ClusterFanout, Inbound, RedisBus, RedisConfig, State},
    http::{self, HttpLimits, HttpMetrics, Listener, Pages},
    live::{
        Admission, ChannelGate, FromNodes, Live, LiveConfig, Refusal, Registry, TokenVerifier,
        Upkeep,
    },
};
use metrics::NoopRecorder;
use protocol::{ChannelId, ClientFrame, Codec, ServerFrame, TenantId, Time, envelope::Spent};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tungstenite::{Message, client::IntoClientRequest};

use crate::support::{
    SOON, eventually,
    list_store::ListStore,
    node::{change, inbox},
};
use servers::Redis;

/// While Redis is away (CLUSTER.md): doubt every five seconds, looked for each second, a second's pause
/// between two looks, and a second in which what was just stored may still be on its way.
const FROM_THE_STORE_WITHIN: Duration = Duration::from_secs(8);

/// A node as a client sees it.
struct Node {
    live: Arc<Live>,
    bus: Arc<RedisBus>,
    fanout: ClusterFanout<Registry>,
    store: Arc<ListStore>,
    address: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// A token is `user` or `user/device`.
struct Names;

impl TokenVerifier for Names {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        let (user, device) = token.split_once('/').unwrap_or((token, ""));
        let device = (!device.is_empty()).then(|| device.parse().unwrap());
        Ok(UserCaller { device, ..UserCaller::new(inbox(user), Time::MAX) })
    }

    fn note<'a>(&'a self, _: &'a UserCaller, _: std::net::IpAddr) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Everybody is in every channel.
struct Open;

impl ChannelGate for Open {
    fn admit(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>> {
        Box::pin(std::future::ready(Ok(Some(Admission { presence: true }))))
    }

    fn is_member(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

struct NoUpkeep;

impl Upkeep for NoUpkeep {
    fn group(&self, _: &TenantId, _: u64) {}
    fn revoked(&self) {}
    fn spent(&self, _: &[Spent]) {}
    fn doubt(&self) {}
}

impl Node {
    /// Put together as a node of a cluster is: registry, bus, fan-out, store, live side, and back.
    async fn start(name: &str, url: &str, store: &Arc<ListStore>) -> Self {
        let config = LiveConfig {
            // Nothing here may depend on the periodic check.
            ping_interval: Duration::from_secs(600),
            read_buffer_size: 4096,
            write_buffer_size: 4096,
            outbox_limit: 256 << 10,
            stall_timeout: SOON,
            handshake_timeout: SOON,
            max_connections: 1_000,
            max_connections_per_user: 100,
            allowed_origins: vec![],
            max_connection_age: None,
            node_id: name.parse().unwrap(),
            clock: delivery::clock::WallClock::default(),
        };
        let redis = RedisConfig {
            address: url.parse().unwrap(),
            ca: None,
            prefix: "test".to_owned(),
            node: name.parse().unwrap(),
            secrets: None,
            clock: delivery::clock::WallClock::default(),
            spans: delivery::spans::Spans::default(),
        };
        let registry = Registry::new(&config, &NoopRecorder);
        let bus = RedisBus::new(redis, &NoopRecorder);
        let fanout = ClusterFanout::new(Arc::clone(&registry), Arc::clone(&bus) as Arc<dyn Bus>);
        let limiter = Arc::new(Limiter::new(LimitConfig::default(), &NoopRecorder));
        let live = Live::new(
            config,
            registry,
            Arc::clone(store) as Arc<dyn delivery::Store>,
            Arc::new(Names),
            Arc::new(Open),
            limiter,
            Arc::clone(&bus) as Arc<dyn Bus>,
        );
        let inbound = FromNodes::new(Arc::clone(&live), Arc::new(NoUpkeep));
        bus.start(Arc::new(inbound) as Arc<dyn Inbound>);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = HttpLimits {
            header_timeout: SOON,
            idle_timeout: SOON,
            body_timeout: SOON,
            connections_max: 1_000,
        };
        let counts = Arc::new(HttpMetrics::new(&NoopRecorder, Listener::User));
        let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
        let pages = Pages::new(Listener::User, &[]);
        let serve = http::serve(listener, live.routes(), limits, pages, counts, token, tracker);
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(async move {
                serve.await;
            })),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&live).check_positions())),
        ];
        let node = Self { live, bus, fanout, store: Arc::clone(store), address, _tasks: tasks };
        node.is(State::Up).await;
        node
    }

    async fn is(&self, state: State) {
        let mut states = self.bus.states();
        tokio::time::timeout(SOON, states.wait_for(|now| *now == state)).await.unwrap().unwrap();
    }

    /// Stores a message here, and publishes it.
    fn send(&self, user: &str) {
        let next = |seq| change(user, seq, &format!("{user} {seq}"));
        self.fanout.publish(&[self.store.store(&inbox(user), next)]);
    }

    async fn connect(&self, token: &str) -> Client {
        let url = format!("ws://{}/ws?since=0&token={token}", self.address);
        let mut request = url.into_client_request().unwrap();
        let protocol = Codec::Json.subprotocol().parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, _) = client_async(request, stream).await.unwrap();
        let mut client = Client { socket, last: 0 };
        assert!(matches!(client.next().await, ServerFrame::Welcome(_)));
        client
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    last: u64,
}

impl Client {
    async fn next(&mut self) -> ServerFrame {
        loop {
            let message = tokio::time::timeout(SOON, self.socket.next()).await;
            match message.expect("a frame in time").expect("it is open").unwrap() {
                Message::Text(text) => return Codec::Json.decode_server(text.as_bytes()).unwrap(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Reads until it has a change; none may be left out or come twice.
    async fn reads_up_to(&mut self, seq: u64) {
        while self.last < seq {
            if let Some(next) = self.next().await.seq() {
                assert_eq!(next.0, self.last + 1);
                self.last = next.0;
            }
        }
    }

    async fn is_closed_with(&mut self, code: u16) {
        loop {
            if let ServerFrame::Disconnect { code: told, .. } = self.next().await {
                assert_eq!(told, code);
                return;
            }
        }
    }

    async fn say(&mut self, frame: &ClientFrame) {
        let text = String::from_utf8(Codec::Json.encode_client(frame).to_vec()).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_every_node_once_and_in_order() {
    let redis = Redis::start().await;
    let store = Arc::new(ListStore::default());
    let a = Node::start("a", &redis.url(), &store).await;
    let b = Node::start("b", &redis.url(), &store).await;
    a.send("ann");
    let mut phone = a.connect("ann/phone").await;
    let mut tablet = b.connect("ann/tablet").await;
    for round in 0..100 {
        if round % 2 == 0 { a.send("ann") } else { b.send("ann") }
    }
    phone.reads_up_to(101).await;
    tablet.reads_up_to(101).await;
    a.bus.close().await;
    b.bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_elsewhere_replaces_itself() {
    let redis = Redis::start().await;
    let store = Arc::new(ListStore::default());
    let a = Node::start("a", &redis.url(), &store).await;
    let b = Node::start("b", &redis.url(), &store).await;
    let mut first = a.connect("ann/phone").await;
    let _other = a.connect("ann/tablet").await;
    let mut second = b.connect("ann/phone").await;
    first.is_closed_with(4509).await;
    let mut third = a.connect("ann/phone").await;
    second.is_closed_with(4509).await;
    b.send("ann");
    third.reads_up_to(1).await;
    eventually("two are left", SOON, || {
        a.live.connections().len() == 2 && b.live.connections().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_bus_lost_comes_soon_after_it_is_back_or_before() {
    let mut redis = Redis::start().await;
    let store = Arc::new(ListStore::default());
    let a = Node::start("a", &redis.url(), &store).await;
    let b = Node::start("b", &redis.url(), &store).await;
    let mut here = a.connect("ann/phone").await;
    let mut there = b.connect("ann/tablet").await;
    a.send("ann");
    there.reads_up_to(1).await;
    redis.kill();
    a.is(State::Down).await;
    b.is(State::Down).await;
    // Who is on the same node does not notice.
    for seq in 2..=3 {
        a.send("ann");
        let sent = Instant::now();
        here.reads_up_to(seq).await;
        // The other one gets it from the store, though Redis is still away.
        there.reads_up_to(seq).await;
        assert!(sent.elapsed() < FROM_THE_STORE_WITHIN, "{:?}", sent.elapsed());
    }
    // And who comes meanwhile finds everything and misses nothing after.
    let mut late = b.connect("ann/watch").await;
    late.reads_up_to(3).await;
    redis.restart().await;
    b.is(State::Up).await;
    a.is(State::Up).await;
    a.send("ann");
    for client in [&mut here, &mut there, &mut late] {
        client.reads_up_to(4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_of_all_nodes() {
    let redis = Redis::start().await;
    let store = Arc::new(ListStore::default());
    let a = Node::start("a", &redis.url(), &store).await;
    let b = Node::start("b", &redis.url(), &store).await;
    let join = ClientFrame::Join { channel_id: "team".parse().unwrap() };
    let mut ann = a.connect("ann").await;
    ann.say(&join).await;
    let mut bob = b.connect("bob").await;
    bob.say(&join).await;
    for client in [&mut ann, &mut bob] {
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            if let ServerFrame::Presence { user_id, online: true, .. } = client.next().await {
                seen.insert(user_id.to_string());
            }
        }
    }
    drop(bob);
    loop {
        if let ServerFrame::Presence { user_id, online: false, .. } = ann.next().await {
            assert_eq!(user_id.as_str(), "bob");
            break;
        }
    }
    // A whole node goes, in order.
    let mut cid = b.connect("cid").await;
    cid.say(&join).await;
    let told = |frame: &ServerFrame, who: &str, there: bool| {
        matches!(frame, ServerFrame::Presence { user_id, online, .. }
            if user_id.as_str() == who && *online == there)
    };
    while !told(&ann.next().await, "cid", true) {}
    b.bus.close().await;
    while !told(&ann.next().await, "cid", false) {}
}
