//! A TCP proxy that can swallow what it carries, or cut it, or lead elsewhere.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

/// The proxy; ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    /// Where new connections lead.
    port: AtomicU16,
    swallow: AtomicBool,
    silent: AtomicBool,
    hold: AtomicBool,
    cut: Notify,
}

impl Proxy {
    /// One before a port of this machine.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { port: port.into(), ..State::default() });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let port = state.port.load(Ordering::SeqCst);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        () = carry(client, server, &state) => {}
                        () = state.cut.notified() => {}
                    }
                });
            }
        });
        Self { address, state, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The address of a Redis behind it.
    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The address of a PostgreSQL behind it, from the address without it.
    #[must_use]
    pub fn postgres_url(&self, direct: &str) -> String {
        let (before, rest) = direct.split_once("@127.0.0.1:").expect("a server of this machine");
        let (_, path) = rest.split_once('/').expect("a database's name");
        format!("{before}@{}/{path}", self.address)
    }

    /// From now on nothing gets through and nobody is told: a cable that was pulled.
    pub fn swallow(&self, swallow: bool) {
        self.state.swallow.store(swallow, Ordering::SeqCst);
    }

    /// As [`Proxy::swallow`], but a connection of which something was swallowed never carries again: what
    /// it is behind has forgotten it, and a protocol of which a piece is missing is not one any more.
    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// From now on connections lead to another port of this machine; those that are there stay as they are.
    pub fn aim(&self, port: u16) {
        self.state.port.store(port, Ordering::SeqCst);
    }

    /// From now on nothing is taken: what is sent piles up where it comes from.
    pub fn hold(&self, hold: bool) {
        self.state.hold.store(hold, Ordering::SeqCst);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
    }
}

async fn carry(client: TcpStream, server: TcpStream, state: &State) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let lost = AtomicBool::new(false);
    tokio::select! {
        () = one_way(&mut from_client, &mut to_server, state, &lost) => {}
        () = one_way(&mut from_server, &mut to_client, state, &lost) => {}
    }
}

async fn one_way(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    state: &State,
    lost: &AtomicBool,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        while state.hold.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if state.silent.load(Ordering::SeqCst) {
            lost.store(true, Ordering::SeqCst);
        }
        let swallowed = state.swallow.load(Ordering::SeqCst) || lost.load(Ordering::SeqCst);
        if !swallowed && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
