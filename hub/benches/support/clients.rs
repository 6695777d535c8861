//! Many clients in a process of their own: they count frames and answer pings, no more.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use super::usage::{Usage, cpu};

/// Variable that makes the bench's program a client.
pub(crate) const ADDRESS: &str = "LIVE_BENCH_CLIENTS_OF";

/// Handshakes at the same time.
const HANDSHAKES: usize = 256;

/// Frames of a connection before the changes: `welcome` and `sync_complete`.
const GREETING: u64 = 2;

/// The clients, seen from the bench.
pub(crate) struct Clients {
    child: Child,
    commands: ChildStdin,
    answers: Option<BufReader<ChildStdout>>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Clients {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = child.stdout.take().map(BufReader::new);
        Self { child, commands, answers }
    }

    /// Opens connections and waits for their greeting; the clients' CPU time.
    pub(crate) async fn connect(&mut self, count: usize, prefix: &str) -> Duration {
        self.command(&format!("connect {count} {prefix} 0 live")).await
    }

    /// The same, with `changes` in all to be read from position 0.
    pub(crate) async fn backlog(&mut self, count: usize, prefix: &str, changes: u64) -> Duration {
        self.command(&format!("connect {count} {prefix} {changes} since")).await
    }

    /// Waits for `frames` more while `work` makes them.
    pub(crate) async fn cpu_while(
        &mut self,
        frames: u64,
        work: impl Future<Output = ()>,
    ) -> Duration {
        writeln!(self.commands, "expect {frames}").unwrap();
        work.await;
        self.answer().await
    }

    async fn command(&mut self, command: &str) -> Duration {
        writeln!(self.commands, "{command}").unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Duration {
        let mut answers = self.answers.take().unwrap();
        let (line, answers) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            (line, answers)
        })
        .await
        .unwrap();
        self.answers = Some(answers);
        Duration::from_micros(line.trim().parse().expect("the clients answer"))
    }
}

/// The clients' side: reads commands, answers each with the CPU time it took, in microseconds.
pub(crate) fn run(address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<String>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            sender.send(line.unwrap()).unwrap();
        }
    });
    let frames = Arc::new(AtomicU64::new(0));
    runtime.block_on(async move {
        let mut expected = 0;
        while let Some(line) = receiver.recv().await {
            let words: Vec<&str> = line.split_whitespace().collect();
            let usage = Usage::now();
            match words.as_slice() {
                ["connect", count, prefix, changes, mode] => {
                    let count: u64 = count.parse().unwrap();
                    expected += count * GREETING + changes.parse::<u64>().unwrap();
                    let since = if *mode == "since" { "&since=0" } else { "" };
                    connect_all(address, count, prefix, since, &frames).await;
                }
                ["expect", more] => expected += more.parse::<u64>().unwrap(),
                _ => panic!("unknown command {line}"),
            }
            while frames.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            println!("{}", usage.since().as_micros());
        }
    });
    assert!(cpu() > Duration::ZERO);
}

async fn connect_all(
    address: SocketAddr,
    count: u64,
    prefix: &str,
    since: &str,
    frames: &Arc<AtomicU64>,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    for user in 0..count {
        let permit = permits.clone().acquire_owned().await.unwrap();
        let path = format!("/ws?token={prefix}{user}{since}");
        let frames = frames.clone();
        tokio::spawn(async move {
            let stream = handshake(address, &path).await;
            drop(permit);
            Box::pin(read(stream, &frames)).await;
        });
    }
}

async fn handshake(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Byte by byte would cost more than it measures; the greeting may follow in the same read, so
    // only as much as the answer is peeked at and taken.
    let mut head = [0; 1_024];
    loop {
        let seen = stream.peek(&mut head).await.unwrap();
        if let Some(end) = head[..seen].windows(4).position(|end| end == b"\r\n\r\n") {
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            stream.read_exact(&mut head[..end + 4]).await.unwrap();
            return stream;
        }
        assert!(seen > 0, "closed in the handshake");
    }
}

/// Counts data frames; a ping is answered.
async fn read(mut stream: TcpStream, frames: &AtomicU64) {
    let mut skip = 0_usize;
    let mut carry: Vec<u8> = Vec::new();
    loop {
        stream.readable().await.unwrap();
        let mut bytes = [0; 16 << 10];
        let count = match stream.try_read(&mut bytes) {
            Ok(0) => panic!("the server closed"),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => panic!("{error}"),
        };
        carry.extend_from_slice(&bytes[..count]);
        let (mut at, mut pings) = (0, 0);
        loop {
            let step = skip.min(carry.len() - at);
            at += step;
            skip -= step;
            let Some((opcode, header, payload)) = header(&carry[at..]) else { break };
            at += header;
            skip = payload;
            match opcode {
                1 | 2 => {
                    frames.fetch_add(1, Ordering::Relaxed);
                }
                9 => pings += 1,
                _ => {}
            }
        }
        carry.drain(..at);
        if carry.is_empty() {
            carry = Vec::new();
        }
        for _ in 0..pings {
            stream.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).await.unwrap();
        }
    }
}

/// Opcode, header length and payload length of a server's frame.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, payload) = match second {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().unwrap();
            (10, usize::try_from(u64::from_be_bytes(length)).unwrap())
        }
        short => (2, usize::from(short)),
    };
    Some((first & 0x0f, header, payload))
}
