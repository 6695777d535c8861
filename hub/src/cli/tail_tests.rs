//! Against a server that is only as much of one as a test needs.

use futures_util::SinkExt;
use protocol::{CloseReason, MessageId, Seq, Status, StatusUpdate, Time};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};

use super::*;

/// Longest wait for anything that should happen.
const DEADLINE: Duration = Duration::from_secs(10);

fn change(seq: u64) -> ServerFrame {
    let data = StatusUpdate {
        message_id: MessageId::new("m1").unwrap(),
        status: Status::Read,
        device_id: None,
        at: Time::from_millis(0),
        action: None,
    };
    ServerFrame::StatusUpdate { seq: Seq(seq), data }
}

fn close(reason: CloseReason) -> Message {
    Message::Close(Some(CloseFrame { code: reason.code().into(), reason: reason.text().into() }))
}

/// Takes one connection, sends these, and answers what was asked for.
#[expect(clippy::result_large_err, reason = "the handshake callback's type is the library's")]
async fn serve_one(listener: &TcpListener, messages: Vec<Message>) -> (String, String) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut asked = (String::new(), String::new());
    let subprotocol = HeaderValue::from_static(Codec::MsgPack.subprotocol());
    let callback = |request: &Request, mut response: Response| {
        let header = |name| request.headers()[name].to_str().unwrap().to_owned();
        asked = (request.uri().to_string(), header(header::AUTHORIZATION));
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await.unwrap();
    for message in messages {
        socket.send(message).await.unwrap();
    }
    // Until the client has answered the close.
    while let Some(Ok(_)) = socket.next().await {}
    asked
}

#[tokio::test]
async fn it_comes_back_at_the_last_position_and_stays_away_when_revoked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let config = Config::load(&Default::default(), None).unwrap().config;
    let arguments = Arguments {
        user: None,
        token: Some("t0ken".to_owned().into()),
        since: Some(3),
        url: None,
        codec: CodecArgument::Msgpack,
    };
    let tail = Tail { arguments, config, url, codec: Codec::MsgPack, since: Some(3) };
    let frame = |frame: &ServerFrame| Message::Binary(Codec::MsgPack.encode(frame));
    let server = async {
        let goodbye = ServerFrame::disconnect(CloseReason::Restarting, 5);
        let first = vec![
            frame(&change(4)),
            Message::Ping("p".into()),
            frame(&change(5)),
            frame(&goodbye),
            close(CloseReason::Restarting),
        ];
        let asked = serve_one(&listener, first).await;
        assert_eq!(asked, ("/ws?since=3".to_owned(), "Bearer t0ken".to_owned()));
        let asked = serve_one(&listener, vec![close(CloseReason::Revoked)]).await;
        assert_eq!(asked.0, "/ws?since=5");
    };
    let both = async { tokio::join!(tail.run(), server).0 };
    let ended = Box::pin(timeout(DEADLINE, both)).await.expect("tail ends in time").unwrap_err();
    assert!(ended.to_string().contains("4501"), "{ended}");
}
