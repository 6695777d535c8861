//! A device at the other end of an event stream: bytes by hand, so that nothing is read into them
//! that a proxy or an `EventSource` would not see.

use std::{net::SocketAddr, time::Duration};

use protocol::{Codec, Seq, ServerFrame, Welcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{SOON, Token, socket::Closed};

/// How a stream is opened.
#[derive(Clone)]
pub(crate) struct OpenStream {
    address: SocketAddr,
    token: Token,
    raw_token: Option<String>,
    by_header: bool,
    version: &'static str,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    receive_buffer: Option<u32>,
}

/// What comes.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(ServerFrame),
    /// A comment, which an `EventSource` does not show.
    Comment,
    Closed(Closed),
}

/// A refusal: its head and its envelope.
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: serde_json::Value,
}

/// A device that reads.
pub(crate) struct StreamClient {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Of the answer, in lower case.
    pub(crate) head: String,
    /// The first frame.
    pub(crate) welcome: Option<Welcome>,
    /// What an `EventSource` would send as `Last-Event-ID` when it comes back.
    pub(crate) last_event_id: Option<u64>,
    /// What it would wait before, in milliseconds.
    pub(crate) retry_ms: Option<u64>,
    disconnect: Option<ServerFrame>,
}

impl OpenStream {
    pub(crate) fn new(address: SocketAddr, user: &str) -> Self {
        Self {
            address,
            token: Token::of(user),
            raw_token: None,
            by_header: false,
            version: "HTTP/1.1",
            query: vec![],
            headers: vec![],
            receive_buffer: None,
        }
    }

    /// As this device.
    pub(crate) fn device(mut self, device: &str) -> Self {
        self.token = self.token.device(device);
        self
    }

    /// With this token.
    pub(crate) fn token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    /// With this in place of a token; empty for none.
    pub(crate) fn raw_token(mut self, token: &str) -> Self {
        self.raw_token = Some(token.to_owned());
        self
    }

    /// With the token as `Authorization`, which an `EventSource` cannot send.
    pub(crate) fn token_by_header(mut self) -> Self {
        self.by_header = true;
        self
    }

    /// With one more query parameter.
    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Goes on after this event.
    pub(crate) fn last_event_id(self, seq: u64) -> Self {
        self.header("Last-Event-ID", seq)
    }

    /// As an old client or a proxy would ask.
    pub(crate) fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// With a small kernel buffer, so that not reading is felt soon.
    pub(crate) fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Opens; the server must agree.
    pub(crate) async fn open(self) -> StreamClient {
        match self.try_open().await {
            Ok(client) => client,
            Err(refused) => panic!("refused: {}{}", refused.head, refused.body),
        }
    }

    /// The answer to a request that is refused.
    pub(crate) async fn refused(self) -> Refused {
        match self.try_open().await {
            Ok(client) => panic!("let in: {}", client.head),
            Err(refused) => refused,
        }
    }

    /// Opens, or says why not.
    pub(crate) async fn try_open(self) -> Result<StreamClient, Refused> {
        let (mut stream, head, mut unread) = self.request().await;
        let status: u16 = head["http/1.1 ".len()..][..3].parse().unwrap();
        if status != 200 {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split('\r').next().unwrap().parse().unwrap();
            while unread.len() < length {
                read_more(&mut stream, &mut unread, SOON).await;
            }
            let body = serde_json::from_slice(&unread).unwrap();
            return Err(Refused { status, head, body });
        }
        let mut client = StreamClient {
            stream,
            unread,
            head,
            welcome: None,
            last_event_id: None,
            retry_ms: None,
            disconnect: None,
        };
        match client.event().await {
            Event::Frame(ServerFrame::Welcome(welcome)) => client.welcome = Some(welcome),
            other => panic!("the first is {other:?}"),
        }
        Ok(client)
    }

    async fn request(self) -> (TcpStream, String, Vec<u8>) {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(self.address).await.unwrap();
        let token = self.raw_token.unwrap_or_else(|| self.token.sign());
        let mut query = self.query;
        let mut headers = self.headers;
        if self.by_header {
            headers.push(("Authorization", format!("Bearer {token}")));
        } else if !token.is_empty() {
            query.push(("token", token));
        }
        if self.version == "HTTP/1.1" {
            headers.push(("Host", self.address.to_string()));
        }
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = format!("GET /api/v3/stream?{} {}\r\n", query.join("&"), self.version);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut bytes = vec![];
        let end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at;
            }
            assert!(read_more(&mut stream, &mut bytes, SOON).await, "no answer");
        };
        let unread = bytes.split_off(end + 4);
        (stream, String::from_utf8(bytes).unwrap().to_lowercase(), unread)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Whether there was more.
async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>, deadline: Duration) -> bool {
    let mut chunk = vec![0; 16 << 10];
    let read = tokio::time::timeout(deadline, stream.read(&mut chunk)).await;
    let count = read.unwrap_or_else(|_| panic!("nothing within {deadline:?}")).unwrap_or(0);
    bytes.extend_from_slice(&chunk[..count]);
    count > 0
}

impl StreamClient {
    /// The next event, comment, or the end.
    pub(crate) async fn event_within(&mut self, deadline: Duration) -> Event {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\n\n") {
                break at;
            }
            if !read_more(&mut self.stream, &mut self.unread, deadline).await {
                let disconnect = self.disconnect.take();
                return Event::Closed(Closed { code: None, disconnect });
            }
        };
        let rest = self.unread.split_off(end + 2);
        let block = String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap();
        self.read(block.trim_end())
    }

    fn read(&mut self, block: &str) -> Event {
        if block.starts_with(':') {
            return Event::Comment;
        }
        let (mut id, mut name, mut data) = (None, "", None);
        for line in block.split('\n') {
            match line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}")) {
                ("id", value) => id = Some(value.parse().unwrap()),
                ("retry", value) => self.retry_ms = Some(value.parse().unwrap()),
                ("event", value) => name = value,
                ("data", value) => data = Some(value),
                other => panic!("{other:?}"),
            }
        }
        let data = data.expect("an event has data");
        let frame = Codec::Json.decode_server(data.as_bytes()).unwrap();
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(value["type"], name);
        match (frame.seq(), &frame) {
            (Some(seq), _) | (None, &ServerFrame::SyncComplete { seq }) => {
                assert_eq!(id, Some(seq.0), "{block}");
            }
            (None, ServerFrame::Welcome(_)) => assert!(id.is_some(), "{block}"),
            (None, _) => assert_eq!(id, None, "{block}"),
        }
        self.last_event_id = id.or(self.last_event_id);
        if matches!(frame, ServerFrame::Disconnect { .. }) {
            self.disconnect = Some(frame.clone());
        }
        Event::Frame(frame)
    }

    /// The next event, comment, or the end.
    pub(crate) async fn event(&mut self) -> Event {
        self.event_within(SOON).await
    }

    /// The next frame but for `sync_complete`; comments are passed over.
    pub(crate) async fn next(&mut self) -> ServerFrame {
        loop {
            match self.event().await {
                Event::Comment | Event::Frame(ServerFrame::SyncComplete { .. }) => {}
                Event::Frame(frame) => return frame,
                Event::Closed(closed) => panic!("closed instead of a frame: {closed:?}"),
            }
        }
    }

    /// The next change, which must be at this seq.
    pub(crate) async fn expect_seq(&mut self, seq: u64) -> ServerFrame {
        let frame = self.next().await;
        assert_eq!(frame.seq(), Some(Seq(seq)), "{frame:?}");
        frame
    }

    /// The changes up to `sync_complete`.
    pub(crate) async fn backlog(&mut self) -> Vec<ServerFrame> {
        let mut changes = vec![];
        loop {
            match self.event().await {
                Event::Frame(ServerFrame::SyncComplete { .. }) => return changes,
                Event::Frame(frame) if frame.seq().is_some() => changes.push(frame),
                Event::Comment => {}
                other => panic!("in the backlog: {other:?}"),
            }
        }
    }

    /// Reads on until the end.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Event::Closed(closed) = self.event().await {
                return closed;
            }
        }
    }

    /// Says something, though there is nothing to say.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// From now on nothing arrives at this peer and nothing is acknowledged, as if its cable were
    /// cut.
    pub(crate) fn vanish(&self) {
        // `return 0`: the kernel drops each packet for this socket before TCP sees it.
        let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        socket2::SockRef::from(&self.stream).attach_filter(&drop_all).unwrap();
    }
}
