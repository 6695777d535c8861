//! Promise 1, the other half: when the disk cannot keep a promise, none is given.

use std::{sync::Arc, time::Duration};

use protocol::ServerFrame;
use serde_json::{Value, json};

use super::workload::{check, send_one, users};
use crate::support::{
    Api, TestServer, disk::Mount, eventually_within, history::History, preload::SyncFault,
};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// Tries to send until it is refused; an answer other than 200 and 5xx fails.
async fn refused(history: &History, service: &Api, users: &[String]) {
    eventually_within("sends are refused", Duration::from_secs(20), || async {
        let before = history.acked();
        assert!(send_one(history, service, users).await, "it answers, whatever the disk does");
        (history.acked() == before).then_some(())
    })
    .await;
}

async fn unready(server: &TestServer) {
    eventually_within("readiness is red", FIVE_SECONDS, || async {
        (!server.ready().await).then_some(())
    })
    .await;
}

async fn ready_and_writable(server: &TestServer, history: &History, api: &Api, users: &[String]) {
    eventually_within("writes are back", FIVE_SECONDS, || async {
        let before = history.acked();
        send_one(history, api, users).await;
        (server.ready().await && history.acked() > before).then_some(())
    })
    .await;
}

/// What a user can read: list, unread count, each message, changes, and the backlog of a socket.
async fn everything_read(server: &TestServer, user: &str) -> (Vec<Value>, u64, Vec<ServerFrame>) {
    let api = server.as_user(user);
    let messages = api.all_messages().await;
    for message in &messages {
        let id = message["id"].as_str().unwrap();
        assert_eq!(api.get(&format!("/api/v3/messages/{id}")).await.ok(), *message);
    }
    let changes = api.changes_after(0).await;
    let mut socket = server.socket(user).device("resumes").since(1).connect().await;
    assert_eq!(socket.backlog().await, changes[1..]);
    socket.close().await;
    (messages, api.unread().await, changes)
}

/// The store says once that it cannot write; the requests that it refuses do not say it again.
fn logged_once(server: &TestServer) {
    let log = server.log();
    assert!(log.contains("the journal cannot be written"), "{log}");
    assert!(!log.contains("a request failed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_disk_full() {
    let users = users(3);
    let history = Arc::new(History::default());
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&folder.path().join("disk"), 64 << 20);
    let mut server = TestServer::builder()
        .storage(&disk.path().join("storage"))
        // What is not asked for is not in its file when the disk is full.
        .env("STORE_FLUSH_INTERVAL", "60s")
        .start()
        .await;
    let service = server.service().await;
    service.sent("asleep", "before the restart").await;
    service.sent("asleep", "the same").await;
    let asleep = everything_read(&server, "asleep").await;
    assert!(server.terminate().await.success());
    server.spawn().await;
    let service = server.service().await;
    let mut phone = server.socket(&users[0]).connect().await;
    for _ in 0..50 {
        send_one(&history, &service, &users).await;
    }
    assert_eq!(history.acked(), 50);
    let reader = server.as_user("reader");
    for text in ["to be read", "to be marked"] {
        service.sent("reader", text).await;
    }
    assert_eq!(reader.all_messages().await.len(), 2, "a list puts them into the file");
    service.sent("reader", "not in the file").await;
    reader.post("/api/v3/messages/read-batch", json!({"up_to_seq": 1})).await.ok();
    for text in ["no file", "none at all"] {
        service.sent("new", text).await;
    }

    let ballast = disk.path().join("ballast");
    // In pages, down to the last one: a partial write counts as full as well.
    let filler = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut &filler, &[1; 4096]).is_ok() {}
    drop(filler);
    assert_eq!(disk.free(), 0);
    refused(&history, &service, &users).await;
    unready(&server).await;
    let acked = history.acked();
    for _ in 0..20 {
        assert!(send_one(&history, &service, &users).await);
    }
    assert_eq!(history.acked(), acked, "acked on a full disk");
    // Reads and sockets stay, also of what is in no file yet.
    assert!(!disk.path().join("storage/new/messages.db").exists());
    let read = everything_read(&server, "reader").await;
    assert_eq!((read.0.len(), read.1, read.2.len()), (3, 2, 4));
    assert!(read.0[0]["read_at"].is_string(), "{:?}", read.0[0]);
    let new = everything_read(&server, "new").await;
    assert_eq!((new.0.len(), new.1, new.2.len()), (2, 2, 2));
    assert_eq!(everything_read(&server, "asleep").await, asleep);
    phone.send(protocol::ClientFrame::Ping(None)).await;
    while phone.next().await != protocol::ServerFrame::Pong {}

    std::fs::remove_file(&ballast).unwrap();
    ready_and_writable(&server, &history, &service, &users).await;
    logged_once(&server);
    check(&history, &server, &users).await;
    assert_eq!(everything_read(&server, "reader").await, read);
    assert_eq!(everything_read(&server, "new").await, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_fsync_fails() {
    let users = users(3);
    let history = Arc::new(History::default());
    let fault = SyncFault::build();
    let mut server =
        TestServer::builder().envs(fault.env()).env("STORE_FLUSH_INTERVAL", "60s").start().await;
    let service = server.service().await;
    let mut phone = server.socket(&users[0]).connect().await;
    for _ in 0..50 {
        send_one(&history, &service, &users).await;
    }
    assert_eq!(history.acked(), 50);
    for text in ["to be marked", "to be left"] {
        service.sent("reader", text).await;
    }
    let reader = server.as_user("reader");
    reader.post("/api/v3/messages/read-batch", json!({"up_to_seq": 1})).await.ok();

    fault.set(true);
    for _ in 0..20 {
        assert!(send_one(&history, &service, &users).await, "it answers, whatever the disk does");
    }
    assert_eq!(history.acked(), 50, "acked although the sync failed");
    unready(&server).await;
    for _ in 0..20 {
        assert!(send_one(&history, &service, &users).await);
    }
    assert_eq!(history.acked(), 50, "acked by trying again what had failed");
    assert!(!server.as_user(&users[0]).all_messages().await.is_empty());
    let read = everything_read(&server, "reader").await;
    assert_eq!((read.0.len(), read.1, read.2.len()), (2, 1, 3));
    phone.send(protocol::ClientFrame::Ping(None)).await;
    while phone.next().await != protocol::ServerFrame::Pong {}

    fault.set(false);
    ready_and_writable(&server, &history, &service, &users).await;
    logged_once(&server);
    check(&history, &server, &users).await;
    server.crash_and_restart().await;
    check(&history, &server, &users).await;
    assert_eq!(everything_read(&server, "reader").await, read);
}
