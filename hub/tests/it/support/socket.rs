//! A device at the other end of a socket.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use protocol::{
    ClientFrame, Codec, DeviceInfo, Message, MessageId, ReadTarget, Seq, ServerFrame, StatusUpdate,
    Welcome,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{
    Message as Raw,
    client::IntoClientRequest,
    error::{Error, ProtocolError},
    http::{HeaderValue, Response},
};

use super::{SOON, Token};

/// How a socket is opened.
#[derive(Clone)]
pub(crate) struct Connect {
    address: SocketAddr,
    token: Token,
    raw_token: Option<String>,
    codec: Codec,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    receive_buffer: Option<u32>,
}

/// What comes from a socket.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(ServerFrame),
    Closed(Closed),
}

/// How a socket ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Closed {
    /// Of the close frame; none where the transport just broke.
    pub(crate) code: Option<u16>,
    /// The `disconnect` frame before it.
    pub(crate) disconnect: Option<ServerFrame>,
}

/// A connected device.
pub(crate) struct TestClient {
    ws: WebSocketStream<TcpStream>,
    codec: Codec,
    /// The first frame.
    pub(crate) welcome: Welcome,
    /// Every frame since, as it came.
    pub(crate) frames: Vec<ServerFrame>,
    /// The seq of the last change.
    pub(crate) last_seq: Option<u64>,
}

impl Connect {
    pub(crate) fn new(address: SocketAddr, user: &str) -> Self {
        Self {
            address,
            token: Token::of(user),
            raw_token: None,
            codec: Codec::Json,
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

    /// Goes on after this seq.
    pub(crate) fn since(self, seq: u64) -> Self {
        self.query("since", seq)
    }

    /// With one more query parameter.
    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// In this encoding.
    pub(crate) fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
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

    /// With a small kernel buffer, so that not reading is felt soon.
    pub(crate) fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Connects; the server must agree.
    pub(crate) async fn connect(self) -> TestClient {
        match self.try_connect().await {
            Ok(client) => client,
            Err(error) => panic!("the handshake was refused: {error:?}"),
        }
    }

    /// The answer to a handshake that is refused.
    pub(crate) async fn refused(self) -> Response<Option<Vec<u8>>> {
        match self.try_connect().await {
            Ok(_) => panic!("the handshake was accepted"),
            Err(Error::Http(response)) => *response,
            Err(other) => panic!("no HTTP answer: {other:?}"),
        }
    }

    /// Connects, or says why not.
    pub(crate) async fn try_connect(self) -> Result<TestClient, Error> {
        let codec = self.codec;
        let mut ws = self.open().await?;
        let mut frames = vec![];
        match next_event(&mut ws, codec, &mut frames, SOON).await {
            Event::Frame(ServerFrame::Welcome(welcome)) => {
                Ok(TestClient { ws, codec, welcome, frames: vec![], last_seq: None })
            }
            Event::Frame(ServerFrame::Disconnect { .. }) | Event::Closed(_) => {
                Err(Error::ConnectionClosed)
            }
            Event::Frame(other) => panic!("the first frame is {other:?}"),
        }
    }

    /// Only the handshake.
    pub(crate) async fn open(self) -> Result<WebSocketStream<TcpStream>, Error> {
        let token = self.raw_token.unwrap_or_else(|| self.token.sign());
        let mut query = self.query;
        if !token.is_empty() {
            query.insert(0, ("token", token));
        }
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request =
            format!("ws://{}/ws?{}", self.address, query.join("&")).into_client_request()?;
        let headers = request.headers_mut();
        headers
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static(self.codec.subprotocol()));
        for (name, value) in self.headers {
            headers.insert(name, value.parse().unwrap());
        }
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = tokio::time::timeout(SOON, socket.connect(self.address))
            .await
            .expect("the port answers")?;
        stream.set_nodelay(true)?;
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (ws, answer) =
            tokio::time::timeout(SOON, handshake).await.expect("the handshake is answered")?;
        assert_eq!(answer.headers()["sec-websocket-protocol"], self.codec.subprotocol());
        Ok(ws)
    }
}

/// The next frame, or how it ended.
async fn next_event(
    ws: &mut WebSocketStream<TcpStream>,
    codec: Codec,
    frames: &mut Vec<ServerFrame>,
    deadline: Duration,
) -> Event {
    let disconnect = |frames: &[ServerFrame]| {
        frames.last().filter(|frame| matches!(frame, ServerFrame::Disconnect { .. })).cloned()
    };
    loop {
        let next = tokio::time::timeout(deadline, ws.next()).await;
        let bytes = match next.unwrap_or_else(|_| panic!("no frame within {deadline:?}")) {
            Some(Ok(Raw::Text(text))) => {
                assert_eq!(codec, Codec::Json, "a text frame in {codec:?}");
                bytes::Bytes::from(text)
            }
            Some(Ok(Raw::Binary(bytes))) => {
                assert_eq!(codec, Codec::MsgPack, "a binary frame in {codec:?}");
                bytes
            }
            Some(Ok(Raw::Close(close))) => {
                return Event::Closed(Closed {
                    code: close.map(|close| close.code.into()),
                    disconnect: disconnect(frames),
                });
            }
            Some(Ok(_)) => continue,
            None
            | Some(Err(
                Error::ConnectionClosed
                | Error::Io(_)
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            )) => {
                return Event::Closed(Closed { code: None, disconnect: disconnect(frames) });
            }
            Some(Err(error)) => panic!("the server broke RFC 6455: {error:?}"),
        };
        let frame = codec.decode_server(&bytes).unwrap_or_else(|error| {
            panic!("the server sent no frame: {error}: {}", String::from_utf8_lossy(&bytes))
        });
        frames.push(frame.clone());
        return Event::Frame(frame);
    }
}

impl TestClient {
    /// The next frame or the end, within a deadline.
    pub(crate) async fn event_within(&mut self, deadline: Duration) -> Event {
        let event = next_event(&mut self.ws, self.codec, &mut self.frames, deadline).await;
        if let Event::Frame(frame) = &event
            && let Some(Seq(seq)) = frame.seq()
        {
            self.last_seq = Some(seq);
        }
        event
    }

    /// The next frame or the end.
    pub(crate) async fn event(&mut self) -> Event {
        self.event_within(SOON).await
    }

    /// The next frame of any kind, but for the milestone that [`TestClient::backlog`] looks at.
    pub(crate) async fn next(&mut self) -> ServerFrame {
        loop {
            match self.event().await {
                Event::Frame(ServerFrame::SyncComplete { .. }) => {}
                Event::Frame(frame) => return frame,
                Event::Closed(closed) => panic!("closed instead of a frame: {closed:?}"),
            }
        }
    }

    /// The next frame, which must be a message.
    pub(crate) async fn next_message(&mut self) -> Message {
        match self.next().await {
            ServerFrame::Message { seq, data, .. } => {
                assert!(data.state.version == seq || data.state.seq == seq, "{data:?} at {seq}");
                data
            }
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// The next frame, which must be a changed state.
    pub(crate) async fn next_status(&mut self) -> (u64, StatusUpdate) {
        match self.next().await {
            ServerFrame::StatusUpdate { seq, data } => (seq.0, data),
            other => panic!("a status update was expected, not {other:?}"),
        }
    }

    /// The next frame, which must be an error: its type's slug and sentence.
    pub(crate) async fn next_error(&mut self) -> (&'static str, String) {
        match self.next().await {
            ServerFrame::Error { kind, message, .. } => (kind.slug(), message),
            other => panic!("an error was expected, not {other:?}"),
        }
    }

    /// The next change, which must be at this seq.
    pub(crate) async fn expect_seq(&mut self, seq: u64) -> ServerFrame {
        let frame = self.next().await;
        assert_eq!(frame.seq(), Some(Seq(seq)), "{frame:?}");
        frame
    }

    /// The changes up to and with this seq, which must come without a gap.
    pub(crate) async fn until_seq(&mut self, seq: u64) -> Vec<ServerFrame> {
        let mut changes: Vec<ServerFrame> = vec![];
        while changes.last().and_then(ServerFrame::seq) < Some(Seq(seq)) {
            let frame = self.next().await;
            if let Some(Seq(this)) = frame.seq() {
                if let Some(Seq(last)) = changes.last().and_then(ServerFrame::seq) {
                    assert_eq!(this, last + 1, "a gap or a repeat after {last}");
                }
                changes.push(frame);
            }
        }
        changes
    }

    /// The backlog: changes up to `sync_complete`, whose seq must be the last one's.
    pub(crate) async fn backlog(&mut self) -> Vec<ServerFrame> {
        let mut changes = vec![];
        loop {
            match self.event().await {
                Event::Frame(ServerFrame::SyncComplete { seq }) => {
                    if let Some(last) = changes.last().and_then(ServerFrame::seq) {
                        assert_eq!(seq, last);
                    }
                    return changes;
                }
                Event::Frame(frame) if frame.seq().is_some() => changes.push(frame),
                other => panic!("in the backlog: {other:?}"),
            }
        }
    }

    /// Says something.
    pub(crate) async fn send(&mut self, frame: ClientFrame) {
        let raw = self.raw(&frame);
        self.send_raw(raw).await;
    }

    /// Says something to a server that may be gone; whether it could be said.
    pub(crate) async fn try_send(&mut self, frame: ClientFrame) -> bool {
        let raw = self.raw(&frame);
        self.ws.send(raw).await.is_ok()
    }

    fn raw(&self, frame: &ClientFrame) -> Raw {
        let bytes = self.codec.encode_client(frame);
        match self.codec {
            Codec::Json => Raw::text(String::from_utf8(bytes.to_vec()).unwrap()),
            Codec::MsgPack => Raw::binary(bytes),
        }
    }

    /// Says something that may be no frame.
    pub(crate) async fn send_raw(&mut self, raw: Raw) {
        self.ws.send(raw).await.unwrap();
    }

    pub(crate) async fn ack(&mut self, seq: u64) {
        self.send(ClientFrame::Ack { seq: Seq(seq) }).await;
    }

    pub(crate) async fn read(&mut self, ids: &[&str]) {
        let message_ids = ids.iter().map(|id| MessageId::new(id).unwrap()).collect();
        self.send(ClientFrame::Read(ReadTarget::Ids { message_ids })).await;
    }

    pub(crate) async fn read_up_to(&mut self, seq: u64) {
        self.send(ClientFrame::Read(ReadTarget::UpTo { up_to_seq: Seq(seq) })).await;
    }

    pub(crate) async fn sync(&mut self, since: u64) {
        self.send(ClientFrame::Sync { since: Seq(since) }).await;
    }

    pub(crate) async fn capable_of(&mut self, capability: &str) {
        self.send(ClientFrame::Device(DeviceInfo {
            capabilities: vec![capability.to_owned()],
            ..DeviceInfo::default()
        }))
        .await;
    }

    pub(crate) async fn refresh(&mut self, token: &Token) {
        self.refresh_with(&token.sign()).await;
    }

    pub(crate) async fn refresh_with(&mut self, token: &str) {
        let token = protocol::client_frame::Token(token.to_owned());
        self.send(ClientFrame::Refresh { token }).await;
    }

    /// Asks and waits for the answer: everything sent before has been handled by then.
    pub(crate) async fn ping(&mut self) {
        self.send(ClientFrame::Ping(None)).await;
        match self.next().await {
            ServerFrame::Pong => {}
            other => panic!("a pong was expected, not {other:?}"),
        }
    }

    /// Reads on until this seq is there, then pings: nothing else follows it.
    pub(crate) async fn ping_after(&mut self, seq: u64) {
        self.until_seq(seq).await;
        self.ping().await;
    }

    /// Reads on until it is closed.
    pub(crate) async fn closed_within(&mut self, deadline: Duration) -> Closed {
        let start = tokio::time::Instant::now();
        loop {
            if let Event::Closed(closed) = self.event_within(deadline).await {
                return closed;
            }
            assert!(start.elapsed() < deadline, "not closed within {deadline:?}");
        }
    }

    /// Reads on until it is closed.
    pub(crate) async fn closed(&mut self) -> Closed {
        self.closed_within(SOON).await
    }

    /// Says goodbye and waits for the answer.
    pub(crate) async fn close(mut self) {
        let _ = self.ws.close(None).await;
        self.closed().await;
    }

    /// The bare stream, for tests that stop speaking WebSocket.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.ws.into_inner()
    }
}

impl Closed {
    /// What the `disconnect` frame said: code, whether and when to come back.
    pub(crate) fn told(&self) -> (u16, bool, u64) {
        match &self.disconnect {
            Some(ServerFrame::Disconnect { code, reconnect, reconnect_after_ms, .. }) => {
                (*code, *reconnect, *reconnect_after_ms)
            }
            other => panic!("no disconnect frame before the close: {other:?}"),
        }
    }
}
