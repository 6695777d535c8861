//! The promises of a cluster: what holds on one node holds on several, and whichever of them dies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::Codec;
use reqwest::Method;
use servers::{Postgres, Redis};
use tokio::task::JoinSet;

use super::{
    read_state::converge,
    workload::{Senders, note_store, quiet, users},
};
use crate::support::{
    Api, Cluster, SOON, TestServer,
    api::message_to,
    device::{Addresses, Device, Habits},
    eventually, eventually_within,
    history::{Event, History, title},
    rounds,
};

/// What the others have to notice: a fifth of the default, so that a test need not wait for half a minute.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A device of each user, which goes from node to node.
fn wanderers(history: &Arc<History>, addresses: &Addresses, users: &[String]) -> Vec<Device> {
    let of = |user: &String, device: &str, codec, hangs_up_within| {
        let habits = Habits { hangs_up_within, ..Habits::of(user, device, codec) };
        Device::spawn(history.clone(), addresses.clone(), habits)
    };
    let both = users.iter().flat_map(|user| {
        [of(user, "phone", Codec::Json, Some(20)), of(user, "tablet", Codec::MsgPack, None)]
    });
    both.collect()
}

async fn all_there(devices: &[Device]) {
    let there = || devices.iter().all(Device::has_begun);
    eventually_within("every device is there", SOON, || async { there().then_some(()) }).await;
}

/// The node that answers a send is killed, or the database is, or both: nothing that was answered is lost, and
/// what the others delivered stays where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_durable_before_2xx_in_a_cluster() {
    let postgres = Postgres::start();
    let redis = Redis::start().await;
    let cluster = Cluster::at(postgres.database(), redis.url());
    let [mut dies, stays] = cluster.nodes().await;
    let (users, history) = (users(5), Arc::new(History::default()));
    let service = dies.service().await;
    let addresses = Addresses::of([dies.user, stays.user]);
    let devices = wanderers(&history, &addresses, &users);
    all_there(&devices).await;
    let mut acked = 0;
    for round in 0..rounds("KILL_ROUNDS", 6) {
        let senders = Senders::spawn(&history, &service.moved_to(dies.user), &users, 6);
        let before = acked;
        acked = eventually_within("sends are answered", SOON * 2, || async {
            let now = history.acked();
            (now > before + 20).then_some(now)
        })
        .await;
        let (node, database) = (round % 3 != 1, round % 3 != 0);
        if database {
            postgres.kill();
        }
        if node {
            dies.kill_9().await;
            senders.ended().await;
        } else {
            senders.stop().await;
        }
        if database {
            postgres.start_again();
        }
        if node {
            dies.spawn().await;
            addresses.set(0, dies.user);
        }
        eventually("both are ready", || async { dies.ready().await && stays.ready().await }).await;
    }
    let connects = quiet(&stays, devices).await;
    for user in &users {
        note_store(&history, &stays.as_user(user), user).await;
    }
    history.assert_clean();
    println!("{} sends answered, {connects} connections, none lost", history.acked());
}

/// Devices go from node to node with their cursors while two nodes store for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_2_gapless_ordered_once_over_nodes() {
    let nodes: [TestServer; 3] = Cluster::new().nodes().await;
    let (users, history) = (users(3), Arc::new(History::default()));
    let service = nodes[0].service().await;
    let addresses = Addresses::of(nodes.iter().map(|node| node.user));
    let devices = wanderers(&history, &addresses, &users);
    all_there(&devices).await;
    let mut senders = Vec::new();
    for node in &nodes[..2] {
        senders.push(Senders::spawn(&history, &service.moved_to(node.user), &users, 3));
    }
    let wanted = rounds("RECONNECTS", 60);
    let deadline = SOON * 4 + Duration::from_millis(100) * u32::try_from(wanted).unwrap();
    eventually_within("enough reconnects", deadline, || async {
        let connects = history.count(|event| matches!(event, Event::Connected { .. }));
        (connects >= wanted && history.acked() >= 200).then_some(())
    })
    .await;
    for senders in senders {
        senders.stop().await;
    }
    let connects = quiet(&nodes[2], devices).await;
    for user in &users {
        note_store(&history, &nodes[2].as_user(user), user).await;
    }
    history.assert_clean();
    println!("{connects} connections, {} sends, no gap, no repeat", history.acked());
}

async fn health(node: &TestServer) -> (u16, String, String) {
    let health = node.as_admin().get("/health/ready").await;
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (health.status, word(&health.body["status"]), word(&health.body["checks"]["bus"]))
}

/// With Redis away sends are stored, who is connected to the same node has them at once, the others when it is
/// back; and everybody who asks is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_a_dead_bus_degrades_and_never_lies() {
    let (cluster, mut redis) = (Cluster::new(), Redis::start().await);
    let node = |name: &str| {
        let node = cluster.node(name).env("REDIS_URL", redis.url());
        node.env("WS_PING_INTERVAL", format!("{}s", HEARTBEAT.as_secs())).start()
    };
    let (a, b) = tokio::join!(node("a"), node("b"));
    let service = a.service().await;
    for node in [&a, &b] {
        let well = ("ready".to_owned(), "up".to_owned());
        eventually("the bus is up", || async {
            let (_, status, bus) = health(node).await;
            (status, bus) == well
        })
        .await;
    }
    let mut here = a.socket("ann").device("phone").connect().await;
    let mut there = b.socket("ann").device("tablet").connect().await;
    service.send_to("ann", "before").await.ok();
    here.expect_seq(1).await;
    there.expect_seq(1).await;

    redis.kill();
    for node in [&a, &b] {
        eventually("it is said", || async { health(node).await.2 == "down" }).await;
        let (status, word, _) = health(node).await;
        assert_eq!((status, word.as_str()), (200, "degraded"));
        assert!(node.metrics().await.contains("pushhub_bus_state{state=\"down\"} 1"));
        assert!(node.log().contains("bus"));
    }
    for n in 0..20 {
        let began = Instant::now();
        service.send_to("ann", &format!("during {n}")).await.ok();
        here.expect_seq(n + 2).await;
        assert!(began.elapsed() < Duration::from_secs(2), "a local device waits for a dead bus");
    }
    redis.restart().await;
    let back = Instant::now();
    there.until_seq(21).await;
    assert!(back.elapsed() < HEARTBEAT, "{:?} after the bus was back", back.elapsed());
    for node in [&a, &b] {
        eventually("it is well", || async { health(node).await.1 == "ready" }).await;
    }
    service.send_to("ann", "after").await.ok();
    here.expect_seq(22).await;
    there.expect_seq(22).await;
    println!("caught up {:?} after the bus was back", back.elapsed());
}

/// Marks by devices and REST on three nodes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_6_read_state_converges_over_nodes() {
    let nodes: [TestServer; 3] = Cluster::new().nodes().await;
    converge(&nodes).await;
}

/// Sends it, at another node if the first one does not take it; false if neither does.
async fn sent_by_either(history: &History, nodes: [Api; 2], users: &[String]) -> bool {
    let op = history.op();
    let user = users[rand::random_range(0..users.len())].clone();
    let message = message_to(&[&user], &title(op));
    history.note(Event::Send { op, users: vec![user] });
    for node in nodes {
        let node = node.key(&title(op));
        let asked = node.try_call(Method::POST, "/api/v3/messages/send", Some(message.clone()));
        if asked.await.is_ok_and(|answer| answer.status == 200) {
            history.note(Event::Acked { op, message: None });
            return true;
        }
    }
    false
}

/// Every node is replaced, one after the other, as a deployment does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_rollouts_are_quiet_in_a_cluster() {
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("DRAIN_TIMEOUT", "10s").start();
    let (a, b) = tokio::join!(node("a"), node("b"));
    let mut nodes = [a, b];
    let (users, history) = (users(4), Arc::new(History::default()));
    let service = nodes[0].service().await;
    let addresses = Addresses::of(nodes.iter().map(|node| node.user));
    let devices = wanderers(&history, &addresses, &users);
    all_there(&devices).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for n in 0..3_usize {
        let (history, users, stop) = (history.clone(), users.clone(), stop.clone());
        let (service, addresses) = (service.clone(), addresses.clone());
        senders.spawn(async move {
            let mut failed = 0;
            while !stop.load(Ordering::Relaxed) {
                let [one, other] = [0, 1].map(|at| service.moved_to(addresses.at((n + at) % 2)));
                failed += u32::from(!sent_by_either(&history, [one, other], &users).await);
            }
            failed
        });
    }
    for n in [0, 1] {
        let before = history.acked();
        eventually("it is going on", || async { history.acked() > before + 30 }).await;
        assert_eq!(nodes[n].terminate().await.code(), Some(0), "{}", nodes[n].log());
        nodes[n].spawn().await;
        addresses.set(n, nodes[n].user);
        eventually("it is ready", || async { nodes[n].ready().await }).await;
    }
    stop.store(true, Ordering::Relaxed);
    let failed: u32 = senders.join_all().await.into_iter().sum();
    assert_eq!(failed, 0, "sends that a second try elsewhere did not carry");
    let connects = quiet(&nodes[1], devices).await;
    for user in &users {
        note_store(&history, &nodes[0].as_user(user), user).await;
    }
    history.assert_clean();
    println!("{} sends answered, {connects} connections", history.acked());
}
