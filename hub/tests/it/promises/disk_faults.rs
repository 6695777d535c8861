//! Promise 1, the other half: when the disk cannot keep a promise, none is given.

use std::{sync::Arc, time::Duration};

use super::workload::{check, send_one, users};
use crate::support::{
    Api, TestServer,
    disk::{Mount, SyncFault},
    eventually, eventually_within,
    history::History,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_disk_full() {
    let users = users(3);
    let history = Arc::new(History::default());
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&folder.path().join("disk"), 64 << 20);
    let server = TestServer::builder().storage(&disk.path().join("storage")).start().await;
    let service = server.service().await;
    let mut phone = server.socket(&users[0]).connect().await;
    for _ in 0..50 {
        send_one(&history, &service, &users).await;
    }
    assert_eq!(history.acked(), 50);
    service.sent("reader", "to be read").await;
    // Lists are read from the users' files, which take over what is new a second later.
    let file = disk.path().join("storage/reader/messages.db");
    eventually("it is in its file", || async {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let count = rusqlite::Connection::open_with_flags(&file, flags)
            .and_then(|file| file.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)));
        count == Ok(1_i64)
    })
    .await;

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
    // Reads and sockets stay.
    assert_eq!(server.as_user("reader").all_messages().await.len(), 1);
    assert_eq!(server.as_user("reader").unread().await, 1);
    phone.send(protocol::ClientFrame::Ping(None)).await;
    while phone.next().await != protocol::ServerFrame::Pong {}

    std::fs::remove_file(&ballast).unwrap();
    ready_and_writable(&server, &history, &service, &users).await;
    check(&history, &server, &users).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_fsync_fails() {
    let users = users(3);
    let history = Arc::new(History::default());
    let fault = SyncFault::build();
    let mut server = TestServer::builder().envs(fault.env()).start().await;
    let service = server.service().await;
    let mut phone = server.socket(&users[0]).connect().await;
    for _ in 0..50 {
        send_one(&history, &service, &users).await;
    }
    assert_eq!(history.acked(), 50);

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
    phone.send(protocol::ClientFrame::Ping(None)).await;
    while phone.next().await != protocol::ServerFrame::Pong {}

    fault.set(false);
    ready_and_writable(&server, &history, &service, &users).await;
    check(&history, &server, &users).await;
    server.crash_and_restart().await;
    check(&history, &server, &users).await;
}
