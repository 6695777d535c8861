//! Event streams, where the whole process would be in the way.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    events::read_events,
    support::{PATIENCE, Server, eventually},
};

async fn request(server: &Server, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /api/v3/stream?{query} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_node_that_goes_down_refuses_and_its_streams_end_behind_their_last_word() {
    let server = Server::start().await;
    let mut open = request(&server, "token=ann/phone").await;
    eventually("it is live", || server.live.connections().len() == 1).await;
    let info = server.live.connections().remove(0);
    assert_eq!(info.transport, crate::live::Transport::EventStream);
    let live = server.live.clone();
    let drain = tokio::spawn(async move { live.drain(Duration::from_secs(10)).await });
    let mut all = Vec::new();
    timeout(PATIENCE, open.read_to_end(&mut all)).await.unwrap().unwrap();
    let body = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let names: Vec<_> = read_events(&all[body..]).into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["welcome", "sync_complete", "disconnect"]);
    drop(open);
    let drained = drain.await.unwrap();
    assert_eq!((drained.told, drained.left), (1, 0));

    let mut refused = request(&server, "token=ann").await;
    let mut answer = vec![0; 4096];
    let count = timeout(PATIENCE, refused.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("request_id"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_before_it_is_answered_leaves_nothing_behind() {
    let server = Server::start().await;
    for _ in 0..50 {
        drop(request(&server, "token=ann").await);
    }
    // Whoever comes later is no earlier than they: the accept loop takes them in order.
    let _last = request(&server, "token=bob").await;
    eventually("only the last is there", || {
        let bob = server
            .live
            .connections()
            .iter()
            .filter(|connection| connection.inbox == super::support::inbox("bob"))
            .count();
        (server.live.open_connections(), server.live.connections().len(), bob) == (1, 1, 1)
    })
    .await;
    assert_eq!(server.live.queued_bytes(), 0);
}
