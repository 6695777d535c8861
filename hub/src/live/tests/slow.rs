//! A reader that stops reading: bounded memory, nobody else disturbed, complete afterwards.

use std::{sync::atomic::Ordering, time::Duration};

use super::support::{Server, config, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_costs_little_and_gets_everything_later() {
    let server = Server::start().await;
    let mut stuck = server.connect("token=ann/stuck").await;
    let mut other = server.connect("token=ann/other").await;
    stuck.expect_sync_complete(0).await;
    other.expect_sync_complete(0).await;
    let reading = tokio::spawn(async move {
        other.expect_changes(0, 100_000).await;
    });
    let limit = config().outbox_limit;
    let mut most = 0;
    for sent in 0..100_000 {
        server.store.send("ann", "sixty-four bytes of content, more or less, for every message….");
        if sent % 1_000 == 0 {
            most = most.max(server.live.queued_bytes());
            tokio::task::yield_now().await;
        }
    }
    // Two connections, each with at most its limit, or a quarter of it and a page.
    assert!(most <= 2 * limit + (256 << 10), "{most} bytes were queued");
    assert!(most > 0, "the reader was slow enough to matter");
    reading.await.unwrap();
    assert!(server.store.pages.load(Ordering::Relaxed) > 0);
    stuck.expect_changes(0, 100_000).await;
    server.store.send("ann", "live again");
    stuck.expect_changes(100_000, 100_001).await;
    eventually("nothing waits", || server.live.queued_bytes() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_makes_no_progress_for_long_is_cut_off() {
    let mut config = config();
    config.stall_timeout = Duration::from_millis(500);
    let server = Server::start_with(config).await;
    let _stuck = server.connect("token=ann").await;
    for _ in 0..200 {
        server.store.send("ann", &"x".repeat(100_000));
    }
    eventually("it is gone", || server.live.open_connections() == 0).await;
    assert_eq!(server.live.queued_bytes(), 0);
}
