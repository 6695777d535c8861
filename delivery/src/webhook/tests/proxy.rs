//! A way to the database that can be cut: nothing comes through any more, and nobody is told.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Silent,
}

pub(super) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Before the server of a database's address.
    pub(super) async fn before(url: &str) -> Self {
        let server = host_of(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way::Open);
        let ways = way.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let ((from, to), (back, out)) = (client.into_split(), server.into_split());
                tokio::spawn(carry(from, out, ways.subscribe()));
                tokio::spawn(carry(back, to, ways.subscribe()));
            }
        });
        Self { address, way, task }
    }

    /// The same database, by this way.
    pub(super) fn url(&self, url: &str) -> String {
        url.replace(host_of(url), &self.address.to_string())
    }

    pub(super) fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// What went silent ends; new connections go through.
    pub(super) fn mend(&self) {
        self.way.send_replace(Way::Open);
    }
}

fn host_of(url: &str) -> &str {
    url.split('@').nth(1).unwrap().split('/').next().unwrap()
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if *way.borrow_and_update() == Way::Silent {
            let _ = way.changed().await;
            return;
        }
        tokio::select! {
            biased;
            _ = way.changed() => {}
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => if to.write_all(&buffer[..size]).await.is_err() { return },
            },
        }
    }
}
