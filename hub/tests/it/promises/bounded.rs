//! Promise 3: a reader that stops reading costs bounded memory, slows nobody else, loses nothing.

use std::time::Duration;

use crate::support::{Api, TestServer, api::message_to, eventually};

const MESSAGES: u64 = 100_000;
const BATCH: u64 = 1_000;
/// Messages that fill caches and buffers before it is measured.
const WARM_UP: u64 = 40_000;
/// Records that may wait to be written to files while it is measured: on a busy machine all of them would
/// wait in memory, which has nothing to do with readers.
const LAG_MAX: f64 = 5_000.0;
/// What the server may hold more of beyond that, where 60 MB wait for the reader: 15 to 23 MiB measured, the
/// same from 5,000 messages to 300,000. One figure of the kernel
/// jumps by 10 MiB while files are filled and the allocator keeps what was freed; the middle one does not.
const GROWTH_MAX: u64 = 32 << 20;
/// And at no moment what waits for the reader.
const PEAK_MAX: u64 = 48 << 20;

async fn send_batch(service: &Api, user: &str, from: u64) {
    let messages: Vec<_> = (from..from + BATCH)
        .map(|n| {
            let mut message = message_to(&[user], &n.to_string());
            message["content"] = "x".repeat(400).into();
            message
        })
        .collect();
    let body = serde_json::json!({"messages": messages});
    let data = service.post("/api/v3/messages/send-batch", body).await.ok();
    let results = data["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["code"] == 200), "{}", results[0]);
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

async fn files_follow(server: &TestServer) {
    eventually("the files follow", || async {
        let metrics = server.metrics().await;
        ["pushhub_store_lag_records", "pushhub_ledger_queue_records"]
            .iter()
            .all(|name| crate::sockets::metric(&metrics, name).is_some_and(|lag| lag < LAG_MAX))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_3_nothing_unbounded() {
    let server = TestServer::builder().env("WS_STALL_TIMEOUT", "10m").start().await;
    let service = server.service().await;
    let mut stuck =
        server.socket("stuck").device("a").receive_buffer(16 << 10).since(0).connect().await;
    assert!(stuck.backlog().await.is_empty());
    let mut other = server.connect("other").await;
    assert!(other.backlog().await.is_empty());
    // The same load without a reader: what it costs by itself.
    let mut before = Vec::new();
    for batch in 0..WARM_UP / BATCH {
        send_batch(&service, "warm-up", batch * BATCH).await;
        files_follow(&server).await;
        before.push(server.rss());
    }
    // What fills at the start belongs to no reader.
    let before = median(before.split_off(before.len() / 2));
    let (mut behind, mut probes) = (Vec::new(), 0);
    for batch in 0..MESSAGES / BATCH {
        send_batch(&service, "stuck", batch * BATCH).await;
        files_follow(&server).await;
        behind.push(server.rss());
        service.sent("other", "probe").await;
        probes += 1;
        let arrived = other.event_within(Duration::from_secs(2)).await;
        let seq = match arrived {
            crate::support::socket::Event::Frame(frame) => frame.seq(),
            closed => panic!("{closed:?}"),
        };
        assert_eq!(seq.unwrap().0, probes, "another reader is served as ever");
    }
    let peak = behind.iter().max().unwrap().saturating_sub(before);
    let growth = median(behind.split_off(behind.len() / 2)).saturating_sub(before);
    println!(
        "{} MiB more, at most {}, for a reader that is {MESSAGES} behind",
        growth >> 20,
        peak >> 20
    );
    assert!(growth < GROWTH_MAX, "grew by {} MiB", growth >> 20);
    assert!(peak < PEAK_MAX, "grew by {} MiB for a moment", peak >> 20);
    // It reads again, on the same connection, and has lost nothing.
    for seq in 1..=MESSAGES {
        stuck.expect_seq(seq).await;
        stuck.frames.clear();
    }
    stuck.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_3_no_progress_for_a_whole_deadline_is_closed_and_resumed() {
    let server = TestServer::builder().env("WS_STALL_TIMEOUT", "1s").start().await;
    let service = server.service().await;
    let stuck = server.socket("stuck").device("a").receive_buffer(16 << 10).connect().await;
    for batch in 0..10 {
        send_batch(&service, "stuck", batch * BATCH).await;
    }
    eventually("it is closed", || async {
        crate::sockets::metric(&server.metrics().await, "pushhub_connections") == Some(0.0)
    })
    .await;
    drop(stuck);
    let mut again = server.socket("stuck").device("a").since(0).connect().await;
    assert_eq!(again.backlog().await.len() as u64, 10 * BATCH);
}
