//! Promise 1: a send answered 2xx survives `kill -9` and power loss of the node right after.

use std::{sync::Arc, time::Duration};

use protocol::Codec;

use super::workload::{Senders, check, note_store, quiet, users};
use crate::support::{
    TestServer,
    device::{Addresses, Device, Habits},
    disk::CrashDisk,
    eventually_within,
    history::History,
    rounds,
};

/// Senders and devices live through many kills. The devices prove that nothing was published that
/// was not durable: what they saw must be at the same place afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_durable_before_2xx_kill_9() {
    let users = users(6);
    let history = Arc::new(History::default());
    let mut server = TestServer::start().await;
    let service = server.service().await;
    let addresses = Addresses::of([server.user]);
    let devices = [(&users[0], Codec::Json), (&users[1], Codec::MsgPack)];
    let devices: Vec<_> = devices
        .into_iter()
        .map(|(user, codec)| Habits::of(user, "phone", codec))
        .map(|habits| Device::spawn(history.clone(), addresses.clone(), habits))
        .collect();
    let mut acked = 0;
    for round in 0..rounds("KILL_ROUNDS", 30) {
        let service = service.moved_to(server.user);
        let senders = Senders::spawn(&history, &service, &users, 8);
        // Not before something is under way, and then at any moment.
        let before = acked;
        acked = eventually_within("sends are answered", Duration::from_secs(20), || async {
            let now = history.acked();
            (now > before).then_some(now)
        })
        .await;
        let pause = Duration::from_millis(rand::random_range(0..120));
        tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
        server.kill_9().await;
        senders.ended().await;
        server.spawn().await;
        addresses.set(0, server.user);
        if round % 100 == 99 {
            println!("{} kills, {} sends answered", round + 1, history.acked());
        }
    }
    let connects = quiet(&server, devices).await;
    check(&history, &server, &users).await;
    println!("{} sends answered, {connects} connections, none lost", history.acked());
}

/// One power cut under load: the number of acked sends that are gone, none if the folder cannot even
/// be opened any more.
async fn power_cut(sync: Option<&str>) -> Result<usize, String> {
    let users = users(4);
    let history = Arc::new(History::default());
    let disk = CrashDisk::new();
    let settings = || {
        let builder = TestServer::builder();
        match sync {
            Some(sync) => builder.env("STORE_JOURNAL_SYNC", sync),
            None => builder,
        }
    };
    let mut server = settings().storage(&disk.path().join("storage")).start().await;
    let service = server.service().await;
    let senders = Senders::spawn(&history, &service, &users, 8);
    let pause = Duration::from_millis(rand::random_range(300..1_200));
    tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
    // What the server answered before it stood still was answered before the cut.
    server.freeze().await;
    let after = disk.cut();
    server.kill_9().await;
    drop(server);
    senders.ended().await;
    drop(disk);
    assert!(history.acked() > 0, "nothing was under way");

    let server = settings().storage(&after.path().join("storage")).try_start().await?;
    for user in &users {
        note_store(&history, &server.as_user(user), user).await;
    }
    let violations = history.check();
    if sync.is_none() {
        history.assert_clean();
    }
    Ok(violations.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_durable_before_2xx_power_cut() {
    for round in 0..rounds("POWERCUT_ROUNDS", 6) {
        let lost = power_cut(None).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(lost, 0, "round {round}");
    }
}

/// The control: without sync the same harness must see loss, else it proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_the_power_cut_harness_can_see_loss() {
    for _ in 0..6 {
        if power_cut(Some("off")).await != Ok(0) {
            return;
        }
    }
    panic!("six power cuts without sync lost nothing: the harness is blind");
}
