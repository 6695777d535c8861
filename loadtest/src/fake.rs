//! A server of a few threads for our own tests: enough of the wire to drive every scenario, and
//! faults on demand, each of which the checker must see.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{
    Codec, ConnectionId, DeviceId, Message, MessageFields, MessageId, MessageState, NodeId, Seq,
    ServerFrame, Time, UserId, Welcome,
};
use serde_json::{Value, json};

use crate::ws_client::{Kind, Parsed, answer_head, parse};

/// What the server does wrong, to each tenth message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Accepts and forgets.
    Forget,
    /// Pushes twice.
    Repeat,
    /// Pushes it to all users.
    Leak,
    /// Stores, but does not push.
    Skip,
    /// Stores it twice.
    StoreTwice,
    /// Refuses, but delivers.
    RefuseAndDeliver,
    /// Cuts the content's end off.
    Truncate,
    /// Refuses everything.
    RefuseAll,
}

struct Online {
    user: String,
    codec: Codec,
    stream: TcpStream,
}

struct State {
    fault: Fault,
    inboxes: BTreeMap<String, Vec<String>>,
    online: Vec<Online>,
    count: u64,
}

/// A running fake; its threads end with the test process.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
}

impl Fake {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inboxes = BTreeMap::new();
        let state = Arc::new(Mutex::new(State { fault, inboxes, online: Vec::new(), count: 0 }));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            more(&mut stream, &mut bytes)?;
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if head.starts_with("GET /ws") {
            return socket(stream, &head, header("Authorization")?, state);
        }
        if head.starts_with("GET /metrics") {
            let text = "process_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 4096\n\
                        pushhub_store_lag_records 0\n";
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n{text}").ok()?;
            return None;
        }
        let length: usize = header("Content-Length")?.parse().ok()?;
        while bytes.len() < head_end + length {
            more(&mut stream, &mut bytes)?;
        }
        let body: Value = serde_json::from_slice(&bytes[head_end..head_end + length]).ok()?;
        bytes.drain(..head_end + length);
        let mut state = state.lock().unwrap();
        let answer = if head.starts_with("POST /api/v3/messages/send-batch ") {
            let results: Vec<Value> =
                body["messages"].as_array()?.iter().map(|message| state.send(message)).collect();
            json!({"code": 200, "message": "success", "data": {"results": results}})
        } else {
            let result = state.send(&body);
            json!({"code": result["code"], "message": "-", "data": result})
        };
        drop(state);
        let (status, answer) = (answer["code"].clone(), answer.to_string());
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
            .ok()?;
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
    bytes.extend_from_slice(&buffer[..read]);
    Some(())
}

fn socket(mut stream: TcpStream, head: &str, bearer: &str, state: &Mutex<State>) -> Option<()> {
    let claims = bearer.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let user = claims["user_id"].as_str()?.to_owned();
    let codec = if head.contains("msgpack") { Codec::MsgPack } else { Codec::Json };
    let since = head
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|path| path.split_once("since=")?.1.parse::<usize>().ok());
    write!(stream, "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        .ok()?;
    {
        let mut state = state.lock().unwrap();
        let inbox = state.inboxes.entry(user.clone()).or_default();
        let welcome = ServerFrame::Welcome(Welcome {
            connection_id: ConnectionId::new("c").unwrap(),
            user_id: UserId::new(&user).unwrap(),
            device_id: DeviceId::new("d").unwrap(),
            node_id: NodeId::new("n").unwrap(),
            seq: Seq(inbox.len() as u64),
            unread_count: 0,
            ping_interval_ms: 30_000,
            server_time: Time::from_millis(0),
        });
        push(&mut stream, codec, &welcome);
        if let Some(since) = since {
            for (index, content) in inbox.iter().enumerate().skip(since) {
                push(&mut stream, codec, &message(index as u64 + 1, content));
            }
            push(&mut stream, codec, &ServerFrame::SyncComplete { seq: Seq(inbox.len() as u64) });
        }
        // A ping, whose pong must come back masked.
        stream.write_all(&[0x89, 1, b'p']).ok()?;
        state.online.push(Online { user, codec, stream: stream.try_clone().ok()? });
    }
    let mut first = Vec::new();
    while first.len() < 7 {
        more(&mut stream, &mut first)?;
    }
    assert_eq!(first[..7], [0x8a, 0x81, 0, 0, 0, 0, b'p'], "a masked pong with the ping's payload");
    std::io::copy(&mut stream, &mut std::io::sink()).ok()?;
    None
}

fn message(seq: u64, content: &str) -> ServerFrame {
    let fields = MessageFields {
        id: MessageId::new(format!("m{seq}")).unwrap(),
        channel_id: None,
        title: "load test".to_owned(),
        content: content.to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "fake".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::from_millis(0),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    };
    let data = Message { state: MessageState::new(Seq(seq)), fields };
    ServerFrame::Message { seq: Seq(seq), silent: false, data }
}

/// Writes a frame; a peer that is gone is found out by its reader.
fn push(stream: &mut TcpStream, codec: Codec, frame: &ServerFrame) {
    let payload = codec.encode(frame);
    let mut bytes = vec![if codec == Codec::Json { 0x81 } else { 0x82 }];
    match u16::try_from(payload.len()).unwrap() {
        short @ 0..=125 => bytes.push(u8::try_from(short).unwrap()),
        long => {
            bytes.push(126);
            bytes.extend(long.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&payload);
    let _ = stream.write_all(&bytes);
}

impl State {
    fn send(&mut self, body: &Value) -> Value {
        self.count += 1;
        let faulty = self.count.is_multiple_of(10);
        let fault = if faulty { self.fault } else { Fault::None };
        if self.fault == Fault::RefuseAll {
            return json!({"code": 403, "error": "no"});
        }
        let mut content = body["content"].as_str().unwrap().to_owned();
        if fault == Fault::Truncate {
            content.pop();
        }
        let recipients: Vec<String> = if body["recipient_type"] == "all" || fault == Fault::Leak {
            self.inboxes.keys().cloned().collect()
        } else {
            let list = body["recipients"].as_array().unwrap();
            list.iter().map(|user| user.as_str().unwrap().to_owned()).collect()
        };
        if fault != Fault::Forget {
            for user in &recipients {
                for _ in 0..if fault == Fault::StoreTwice { 2 } else { 1 } {
                    self.deliver(user, &content, fault);
                }
            }
        }
        if fault == Fault::RefuseAndDeliver {
            return json!({"code": 429});
        }
        json!({"code": 200, "message_id": "m", "status": "accepted", "recipients": recipients.len()})
    }

    fn deliver(&mut self, user: &str, content: &str, fault: Fault) {
        let inbox = self.inboxes.entry(user.to_owned()).or_default();
        inbox.push(content.to_owned());
        let frame = message(inbox.len() as u64, content);
        let times = match fault {
            Fault::Skip => 0,
            Fault::Repeat => 2,
            _ => 1,
        };
        for online in self.online.iter_mut().filter(|online| online.user == user) {
            for _ in 0..times {
                push(&mut online.stream, online.codec, &frame);
            }
        }
    }
}

#[test]
fn the_fake_speaks_the_wire() {
    let fake = Fake::start(Fault::None);
    let mut stream = TcpStream::connect(fake.address).unwrap();
    let token = crate::token::Minter::new(&"s".into(), 1).user("u", 0);
    let request = crate::ws_client::handshake("x", &token, Codec::Json, None);
    stream.write_all(&request).unwrap();
    let mut bytes = Vec::new();
    let head = loop {
        more(&mut stream, &mut bytes).unwrap();
        if let Some(head) = answer_head(&bytes).unwrap() {
            break head;
        }
    };
    assert!(head.accepted);
    loop {
        match parse(&bytes[head.length..]) {
            Parsed::Frame(Kind::Data, payload, _) => {
                let frame = Codec::Json.decode_server(payload).unwrap();
                return assert_eq!(frame.name(), "welcome");
            }
            Parsed::Incomplete => more(&mut stream, &mut bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
