//! Calls to a program that behaves, and to some that do not.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ::metrics::NoopRecorder;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::rustls::RootCertStore;

use super::*;

struct Names(HashMap<&'static str, IpAddr>);

impl Resolve for Names {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.get(name).map(|address| vec![*address]).ok_or_else(|| io::Error::other("no name"))
    }
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn outbound(timeout: Duration) -> Outbound {
    let names = HashMap::from([
        ("inside.example", IpAddr::from(LOOPBACK)),
        ("outside.example", IpAddr::from([8, 8, 8, 8])),
    ]);
    Outbound::with(Arc::new(Names(names)), RootCertStore::empty(), timeout, &NoopRecorder).unwrap()
}

const SOON: Duration = Duration::from_secs(10);

/// Answers every connection with these bytes, without closing it; tells what it was asked.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
    asked: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind((IpAddr::from(LOOPBACK), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 64 << 10];
                let length = socket.read(&mut request).await.unwrap_or(0);
                request.truncate(length);
                let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
                let _ = socket.write_all(&answer).await;
                kept.push(socket);
            }
        });
        Self { address, task, asked }
    }

    fn url(&self, path: &str) -> OutboundUrl {
        OutboundUrl::configured(&format!("http://{}{path}", self.address)).unwrap()
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_call_carries_what_it_was_given_and_brings_the_answer() {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let mut server = Server::start(http("200 OK", r#"{"access_token":"t1"}"#)).await;
    let outbound = outbound(SOON);
    let url = server.url("/base").at("token").unwrap();
    let form = [("code", "a b&c"), ("grant_type", "authorization_code")];
    let call = Call::post_form(Purpose::Login, &url, &form).bearer("secret");
    let answer = outbound.call(call).await.unwrap();
    assert_eq!(answer.json::<Token>().unwrap().access_token, "t1");
    let asked = server.asked.recv().await.unwrap().to_lowercase();
    assert!(asked.starts_with("post /base/token http/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\ncode=a+b%26c&grant_type=authorization_code"), "{asked}");
    for header in [
        "authorization: bearer secret\r\n".to_owned(),
        "accept: application/json\r\n".to_owned(),
        "content-type: application/x-www-form-urlencoded\r\n".to_owned(),
        format!("host: {}\r\n", server.address),
    ] {
        assert!(asked.contains(&header), "{asked}");
    }
    let url = url.with_query(&[("secret", "s&1")]).unwrap();
    outbound.call(Call::get(Purpose::Login, &url)).await.unwrap();
    let asked = server.asked.recv().await.unwrap();
    assert!(asked.starts_with("GET /base/token?secret=s%261 HTTP/1.1\r\n"), "{asked}");
    assert!(!format!("{url:?}").contains("s%261"), "the query is in no log");
}

#[tokio::test]
async fn failures_have_names() {
    let outbound = outbound(SOON);
    let get = async |url: OutboundUrl| outbound.call(Call::get(Purpose::Keys, &url)).await;

    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(redirect).await;
    assert_eq!(get(server.url("/")).await.ok().unwrap().status, 302, "told, and not followed");

    let server = Server::start(http("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1))).await;
    assert!(matches!(get(server.url("/")).await, Err(OutboundError::TooLong)));
    // One that does not say how long it will be.
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
        ANSWER_BYTES_MAX + 1,
        "x".repeat(ANSWER_BYTES_MAX + 1)
    );
    let server = Server::start(endless).await;
    assert!(matches!(get(server.url("/")).await, Err(OutboundError::TooLong)));

    let server =
        Server::start(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20))).await;
    assert!(matches!(get(server.url("/")).await, Err(OutboundError::Broken(_))));
    let server = Server::start("SSH-2.0-OpenSSH_9.6\r\n").await;
    assert!(matches!(get(server.url("/")).await, Err(OutboundError::Broken(_))));

    let server = Server::start(http("200 OK", "<html>")).await;
    let answer = get(server.url("/")).await.ok().unwrap();
    assert!(matches!(answer.json::<u8>(), Err(OutboundError::NotJson("no JSON"))));

    let gone = server.url("/");
    drop(server);
    let nobody = async |url: &OutboundUrl| {
        matches!(get(url.clone()).await, Err(OutboundError::NotConnected(_)))
    };
    // The task that held the port ends a moment after it was told to.
    tokio::time::timeout(SOON, async { while !nobody(&gone).await {} }).await.unwrap();
    let unknown = OutboundUrl::configured("https://nowhere.example/").unwrap();
    assert!(nobody(&unknown).await);
}

#[tokio::test]
async fn a_silent_or_dripping_server_costs_no_more_than_the_time_of_a_call() {
    let outbound = outbound(Duration::from_millis(200));
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345"] {
        let server = Server::start(answer).await;
        let url = server.url("/");
        let called = outbound.call(Call::get(Purpose::Keys, &url)).await;
        assert!(matches!(called, Err(OutboundError::Timeout)), "{answer}");
    }
}

#[tokio::test]
async fn calls_wait_for_their_turn_and_not_for_longer() {
    let outbound = outbound(Duration::from_millis(300));
    let server = Server::start("").await;
    let url = server.url("/");
    let calls = (0..=CALLS_MAX).map(|_| outbound.call(Call::get(Purpose::Keys, &url)));
    let ended = futures_util::future::join_all(calls).await;
    let busy = ended.iter().filter(|end| matches!(end, Err(OutboundError::Busy))).count();
    let late = ended.iter().filter(|end| matches!(end, Err(OutboundError::Timeout))).count();
    assert_eq!(busy + late, CALLS_MAX + 1);
    assert!(busy <= 1, "one more than there are turns: {busy}");
    drop(server);
    let server = Server::start(http("200 OK", "1")).await;
    outbound.call(Call::get(Purpose::Keys, &server.url("/"))).await.ok().unwrap();
}

#[tokio::test]
async fn what_a_document_says_leads_nowhere_inside() {
    let mut server = Server::start(http("200 OK", "1")).await;
    let outbound = outbound(SOON);
    let port = server.address.port();
    let issuer = OutboundUrl::configured("https://login.example/").unwrap();
    for inside in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://[fd00::1]/".to_owned(),
        "http://login.example/keys".to_owned(),
        "http://keys.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://login.example/".to_owned(),
        "https://login.example@10.0.0.1/".to_owned(),
    ] {
        assert!(issuer.found(&inside).is_err(), "{inside}");
    }
    // A name says nothing yet; its address does.
    let found = issuer.found(&format!("https://inside.example:{port}/")).unwrap();
    let called = outbound.call(Call::get(Purpose::Keys, &found)).await;
    assert!(matches!(called, Err(OutboundError::NotAllowed)));
    // The very host of the settings may be inside.
    let own = server.url("/").found(&format!("http://127.0.0.1:{port}/keys")).unwrap();
    assert_eq!(outbound.call(Call::get(Purpose::Keys, &own)).await.ok().unwrap().status, 200);
    assert!(server.asked.recv().await.unwrap().starts_with("GET /keys "));
    assert!(server.asked.try_recv().is_err(), "nothing else came");
    // Without TLS the way to a public address is anybody's.
    let plain = OutboundUrl::configured("http://outside.example/").unwrap();
    let called = outbound.call(Call::get(Purpose::Keys, &plain)).await;
    assert!(matches!(called, Err(OutboundError::NotAllowed)));
    assert!(OutboundUrl::configured("http://8.8.8.8/").is_err());
}

#[test]
fn urls_are_put_together_with_care() {
    let url = |text| OutboundUrl::configured(text).unwrap();
    let base = url("https://example.com/a/?x=1");
    assert_eq!(base.at("/b/c").unwrap().as_str(), "https://example.com/a/b/c");
    assert_eq!(url("https://example.com").at("b").unwrap().as_str(), "https://example.com/b");
    let query = base.with_query(&[("q", "a/b?&=")]).unwrap();
    assert_eq!(query.as_str(), "https://example.com/a/?x=1&q=a%2Fb%3F%26%3D");
    assert_eq!(query.without_query(), "https://example.com/a/");
    assert!(base.with_query(&[("q", &"x".repeat(URL_BYTES_MAX))]).is_err());
    assert!(OutboundUrl::configured("ftp://example.com/").is_err());
    assert!(OutboundUrl::configured("https://user:word@example.com/").is_err());
}
