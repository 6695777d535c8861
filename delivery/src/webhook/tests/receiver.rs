//! The other side: answers as it is told, and remembers what came.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What it does with a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// This status, with more lines of the head.
    Status(u16, &'static str),
    /// These bytes, and then the connection ends.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing, for as long as the client has patience.
    Stall(Vec<u8>),
    /// All good, after so long.
    Late(Duration),
    /// All good, as soon as this is true.
    When(watch::Receiver<bool>),
}

/// All good.
pub(super) const OK: Reply = Reply::Status(200, "");

type Answerer = Box<dyn FnMut(&Received) -> Reply + Send>;

struct Shared {
    reply: Mutex<Answerer>,
    received: Mutex<Vec<Received>>,
    /// Requests that were not answered yet, by event and path.
    open: Mutex<HashMap<String, usize>>,
    /// Most of one event and path.
    most_open: AtomicUsize,
    connections: AtomicUsize,
}

/// A request that was not answered yet.
struct Open<'a>(&'a Shared, String);

impl<'a> Open<'a> {
    fn begin(shared: &'a Shared, received: &Received) -> Self {
        let key = format!("{} {}", received.header("webhook-id"), received.line);
        let mut open = shared.open.lock();
        let count = open.entry(key.clone()).or_default();
        *count += 1;
        shared.most_open.fetch_max(*count, Ordering::Relaxed);
        Self(shared, key)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.open.lock().get_mut(&self.1).unwrap() -= 1;
    }
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(super) async fn start() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), 0).await
    }

    pub(super) async fn at(address: IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            reply: Mutex::new(Box::new(|_| OK)),
            received: Mutex::default(),
            open: Mutex::default(),
            most_open: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared, task }
    }

    /// Changes what it answers.
    pub(super) fn replies(&self, reply: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.shared.reply.lock() = Box::new(reply);
    }

    pub(super) fn always(&self, reply: Reply) {
        self.replies(move |_| reply.clone());
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks?from=pushhub", self.address)
    }

    /// Everything that came so far.
    pub(super) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.shared.received.lock().len()
    }

    /// How often the same event was on its way to the same endpoint at one time, at most.
    pub(super) fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::Relaxed)
    }

    /// Requests that were not answered yet.
    pub(super) fn open(&self) -> usize {
        self.shared.open.lock().values().sum()
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let received = read(&mut stream, &mut buffer).await?;
        let reply = (*shared.reply.lock())(&received);
        let open = Open::begin(&shared, &received);
        shared.received.lock().push(received);
        match reply {
            Reply::Status(status, head) => {
                let answer = format!("HTTP/1.1 {status} x\r\n{head}content-length: 2\r\n\r\nok");
                drop(open);
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return None;
            }
            Reply::Stall(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                gone(&mut stream).await;
                return None;
            }
            Reply::Late(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = gone(&mut stream) => return None,
                }
                drop(open);
                stream.write_all(GOOD).await.ok()?;
            }
            Reply::When(mut holds) => {
                tokio::select! {
                    _ = holds.wait_for(|holds| *holds) => {}
                    () = gone(&mut stream) => return None,
                }
                drop(open);
                stream.write_all(GOOD).await.ok()?;
            }
        }
    }
}

const GOOD: &[u8] = b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok";

/// Waits until the client has closed the connection; it has nothing more to say before it is answered.
async fn gone(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]).await;
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut received = Received { line, headers, body: String::new() };
    let length: usize = received.header("content-length").parse().unwrap();
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    received.body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
    Some(received)
}
