//! Connections on the move: rollouts, nodes that come later, connections that have grown old.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Codec, ServerFrame};

use crate::{
    promises::workload::{Senders, check, quiet, users},
    support::{
        Cluster, SOON, TestClient, TestServer,
        device::{Addresses, Device, Habits},
        eventually, eventually_within,
        history::History,
        socket::{Connect, Event},
    },
};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Devices of these users at one address.
fn devices(
    history: &Arc<History>,
    users: &[String],
    address: &Addresses,
    name: &str,
) -> Vec<Device> {
    let spawn = |user: &String| {
        let habits = Habits::of(user, name, Codec::Json);
        Device::spawn(Arc::clone(history), address.clone(), habits)
    };
    users.iter().map(spawn).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_spreads_its_clients_over_time() {
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("DRAIN_TIMEOUT", "15s").start();
    let (mut a, b) = tokio::join!(node("a"), node("b"));
    let (users, history) = (users(6), Arc::new(History::default()));
    let (at_a, at_b) = (Addresses::of([a.user]), Addresses::of([b.user]));
    let mut all = devices(&history, &users, &at_a, "phone");
    all.extend(devices(&history, &users, &at_b, "tablet"));
    let mut waiting = vec![];
    for n in 0..60 {
        waiting.push(a.connect(&format!("idle-{n}")).await);
    }
    let service = a.service().await;
    let on_a = Senders::spawn(&history, &service, &users, 2);
    let on_b = Senders::spawn(&history, &service.moved_to(b.user), &users, 2);
    eventually("sends are under way", || async { history.acked() > 50 }).await;

    let start = Instant::now();
    a.signal(libc::SIGTERM);
    // As a balancer does that looks at readiness.
    at_a.set(0, b.user);
    let mut delays = BTreeSet::new();
    for socket in &mut waiting {
        let closed = socket.closed_within(DRAIN_TIMEOUT).await;
        let (code, reconnect, after) = closed.told();
        assert_eq!((closed.code, code, reconnect), (Some(1012), 1012, true));
        assert!(start.elapsed() + Duration::from_millis(after) < DRAIN_TIMEOUT);
        delays.insert(after);
    }
    assert!(delays.len() > waiting.len() / 4, "not spread out: {delays:?}");
    let (first, last) = (delays.first().unwrap(), delays.last().unwrap());
    assert!(last - first > 1_000, "from {first} to {last} ms");
    assert_eq!(a.exited(DRAIN_TIMEOUT).await.code(), Some(0));
    on_a.ended().await;
    // Those who went to the other node are among those who get what comes now.
    let before = history.acked();
    eventually("sends go on", || async { history.acked() > before + 50 }).await;
    on_b.stop().await;
    let connects = quiet(&b, all).await;
    assert!(connects >= 18, "six phones had to move, all in all {connects} connects");
    check(&history, &b, &users).await;
}

/// A client as it should be: goes where it is told, when it is told to.
async fn moves(mut client: TestClient, next: Connect) -> (TestClient, u64) {
    let mut moved = 0;
    loop {
        if let Event::Closed(closed) = client.event_within(SOON * 8).await {
            let (code, reconnect, after) = closed.told();
            assert_eq!((code, reconnect), (1012, true));
            moved += 1;
            tokio::time::sleep(Duration::from_millis(after)).await;
            client = next.clone().since(client.last_seq.unwrap_or(0)).connect().await;
        } else if client.frames.iter().any(|frame| matches!(frame, ServerFrame::Message { .. })) {
            return (client, moved);
        }
    }
}

/// How many were sent away to be balanced.
async fn moved(server: &TestServer) -> u64 {
    let metrics = server.metrics().await;
    let series = "pushhub_disconnects_total{reason=\"moved\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_gets_its_share_and_then_nobody_is_moved_any_more() {
    const SOCKETS: u64 = 80;
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("WS_SHED_RATE", "20/s").start();
    let a = node("a").await;
    let mut tasks = vec![];
    let service = a.service().await;
    let mut clients = vec![];
    for n in 0..SOCKETS {
        clients.push(a.socket(&format!("user-{n}")).device("phone").connect().await);
    }
    let b = node("b").await;
    // The balancer sends whoever comes to the node with fewer connections: the new one.
    for (n, client) in clients.into_iter().enumerate() {
        tasks.push(tokio::spawn(moves(client, b.socket(&format!("user-{n}")).device("phone"))));
    }
    eventually_within("it has begun and is over", SOON * 4, || async {
        a.log().contains("connections were moved").then_some(())
    })
    .await;
    let gone = moved(&a).await;
    // Down to the average of 40 and no further; the margin is 2 % of it, which is one.
    assert!((38..=40).contains(&gone), "{gone} of {SOCKETS} were moved");
    eventually("all are there", || async {
        let nodes = b.as_admin().get("/api/v3/admin/nodes").await.ok();
        let held = |n: usize| nodes["nodes"][n]["connections"].as_u64().unwrap();
        (held(0), held(1)) == (gone, SOCKETS - gone)
    })
    .await;
    // Nothing is lost of what is sent now, wherever they are.
    for n in 0..SOCKETS {
        service.send_to(&format!("user-{n}"), "hello").await.ok();
    }
    let mut moves = 0;
    for task in tasks {
        let (client, moved) = task.await.unwrap();
        assert_eq!(client.last_seq, Some(1));
        assert!(moved <= 1, "one client was moved {moved} times");
        moves += moved;
    }
    assert_eq!((moves, moved(&a).await, moved(&b).await), (gone, gone, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_have_grown_old_are_renewed_each_at_its_time_and_miss_nothing() {
    let server = TestServer::builder().env("WS_MAX_CONNECTION_AGE", "4s").start().await;
    let service = server.service().await;
    let mut tasks = vec![];
    for n in 0..30 {
        let connect = server.socket("ann").device(&format!("d{n}"));
        let start = Instant::now();
        let mut client = connect.clone().connect().await;
        tasks.push(tokio::spawn(async move {
            let closed = client.closed().await;
            let age = start.elapsed();
            let Some(ServerFrame::Disconnect { reason, .. }) = &closed.disconnect else { panic!() };
            assert_eq!((closed.code, reason.as_str()), (Some(1012), "connection is to be renewed"));
            let (_, reconnect, after) = closed.told();
            assert!(reconnect && after <= 1_000);
            let mut seqs: Vec<u64> =
                client.frames.iter().filter_map(|frame| Some(frame.seq()?.0)).collect();
            let mut again = connect.since(client.last_seq.unwrap_or(0)).connect().await;
            while seqs.len() < 40 {
                seqs.extend(again.next().await.seq().map(|seq| seq.0));
            }
            assert!(seqs.iter().copied().eq(1..=40), "{seqs:?}");
            age
        }));
    }
    for n in 0..40 {
        service.send_to("ann", &format!("{n}")).await.ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut ages = vec![];
    for task in tasks {
        ages.push(task.await.unwrap());
    }
    ages.sort_unstable();
    // Not before four fifths, however busy the machine; not all at the same time.
    assert!(ages[0] >= Duration::from_millis(3_200), "{ages:?}");
    assert!(ages[ages.len() - 1] - ages[0] > Duration::from_millis(200), "{ages:?}");
    let aged = server.metrics().await;
    assert!(aged.contains("pushhub_disconnects_total{reason=\"aged\"} "), "it is counted");
    let problems = TestServer::plain_builder()
        .env("WS_MAX_CONNECTION_AGE", "0s")
        .env("WS_SHED_RATE", "fast")
        .run(&["check-config"])
        .await
        .1;
    for name in ["WS_MAX_CONNECTION_AGE", "WS_SHED_RATE"] {
        assert!(problems.contains(name), "{problems}");
    }
}
