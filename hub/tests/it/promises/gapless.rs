//! Promise 2: a connection gets the changes of its inbox in order, each once, and goes on where it
//! was.

use std::{sync::Arc, time::Duration};

use protocol::Codec;

use super::workload::{Senders, check, quiet, users};
use crate::support::{
    TestServer,
    device::{Addresses, Device, Habits},
    eventually_within,
    history::{Event, History},
    rounds,
};

/// Devices hang up after a few changes and come back with their cursor, while senders send: some
/// change always arrives in the instant between a backlog and live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_2_gapless_ordered_once() {
    let users = users(2);
    let history = Arc::new(History::default());
    let server = TestServer::start().await;
    let service = server.service().await;
    let addresses = Addresses::of([server.user]);
    let mut devices = vec![];
    for user in &users {
        for (n, hangs_up_within) in [Some(1), Some(5), Some(40), None].into_iter().enumerate() {
            let codec = if n % 2 == 0 { Codec::Json } else { Codec::MsgPack };
            let habits =
                Habits { hangs_up_within, ..Habits::of(user, &format!("device-{n}"), codec) };
            devices.push(Device::spawn(history.clone(), addresses.clone(), habits));
        }
    }
    let senders = Senders::spawn(&history, &service, &users, 4);
    let wanted = rounds("RECONNECTS", 500);
    let deadline =
        Duration::from_secs(60) + Duration::from_millis(20) * u32::try_from(wanted).unwrap();
    eventually_within("enough reconnects, and as many messages", deadline, || async {
        let connects = history.count(|event| matches!(event, Event::Connected { .. }));
        (connects >= wanted && history.acked() >= wanted).then_some(())
    })
    .await;
    senders.stop().await;
    let connects = quiet(&server, devices).await;
    check(&history, &server, &users).await;
    println!("{connects} connections, {} sends, no gap, no repeat", history.acked());
}
