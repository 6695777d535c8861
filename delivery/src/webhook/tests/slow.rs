//! Receivers that do not answer.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    fixture::{At, Fixture, eventually, everywhere},
    receiver::{Receiver, Reply},
};
use crate::{
    control::NewService,
    webhook::{ENDPOINT_SLOTS, ENDPOINTS_PER_SERVICE_MAX, LANE_SLOTS, Outcome},
};

everywhere!(
    webhooks_that_never_answer_do_not_hold_up_one_that_does,
    a_webhook_that_never_answers_is_given_up_on_after_its_time,
    a_name_server_that_never_answers_takes_no_more_threads_than_there_are_slots,
    what_waits_is_in_the_file_and_not_in_memory,
);

/// The bad input: "a webhook that never answers: bounded, isolated". 20 services with ten
/// endpoints each that take a connection and say nothing, more than there are slots, and one that
/// works. The timeout is longer than the test: whatever arrives, arrives beside them.
async fn webhooks_that_never_answer_do_not_hold_up_one_that_does(at: At) {
    let fixture = Fixture::with(at, "127.0.0.0/8", Duration::from_secs(600));
    let (silent, good) = (Receiver::start().await, Receiver::start().await);
    silent.always(Reply::Stall(vec![]));
    let (webhook, _) = fixture.endpoint(&good.url());
    let mut events = vec![];
    for n in 0..20 {
        let new = NewService { id: Some(format!("silent{n}")), ..NewService::named("silent") };
        let service = fixture.control.create_service(new).unwrap().0.id;
        for _ in 0..ENDPOINTS_PER_SERVICE_MAX {
            fixture.endpoint_of(&service, &silent.url());
        }
        events.extend((0..3).map(|n| fixture.event(&service, &format!("m{n}"))));
    }
    fixture.record_all(events);
    eventually("they hold all slots they can", || silent.count() >= LANE_SLOTS).await;
    let events = (0..200).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("everything else is delivered", || fixture.get(&webhook).delivered == 200).await;
    // One connection each, and not one event of theirs is through.
    assert!(silent.connections() <= 200, "{}", silent.connections());
    assert_eq!(silent.connections(), silent.count());
}

async fn a_webhook_that_never_answers_is_given_up_on_after_its_time(at: At) {
    let fixture = Fixture::with(at, "127.0.0.0/8", Duration::from_millis(200));
    let receiver = Receiver::start().await;
    for (id, reply) in [
        ("silent", Reply::Stall(vec![])),
        ("half a head", Reply::Stall(b"HTTP/1.1 200 OK\r\n".to_vec())),
        ("only 1xx", Reply::Stall(b"HTTP/1.1 102 Processing\r\n\r\n".repeat(10))),
    ] {
        receiver.always(reply);
        let (webhook, _) = fixture.endpoint(&receiver.url());
        fixture.record(id);
        let attempt = fixture.attempted(&webhook, 1).await.last_attempt.unwrap();
        assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Timeout, None), "{id}");
    }
}

/// A resolution cannot be cancelled, and takes a thread that others need too.
async fn a_name_server_that_never_answers_takes_no_more_threads_than_there_are_slots(at: At) {
    let fixture = Fixture::with(at, "127.0.0.0/8", Duration::from_millis(100));
    fixture.names.hangs.store(true, Ordering::Relaxed);
    let (webhook, _) = fixture.endpoint("http://hooks.example/");
    fixture.record("m1");
    let attempt = fixture.attempted(&webhook, 1).await.last_attempt.unwrap();
    assert_eq!(attempt.outcome, Outcome::Timeout);
    // The attempt is over, its slot is not free.
    let taken = || fixture.webhooks.0.schedule.lock().taken().iter().sum::<usize>();
    for n in 2..5 {
        fixture.record(&format!("m{n}"));
        fixture.wait(Duration::from_secs(61));
    }
    assert_eq!((taken(), fixture.names.asked.load(Ordering::Relaxed)), (1, 1));
    fixture.names.hangs.store(false, Ordering::Relaxed);
    eventually("it goes on", || fixture.names.asked.load(Ordering::Relaxed) > 1).await;
}

async fn what_waits_is_in_the_file_and_not_in_memory(at: At) {
    let fixture = Fixture::with(at, "127.0.0.0/8", Duration::from_secs(600));
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    receiver.replies({
        let mut good = 50;
        move |_| {
            good -= 1;
            if good > 0 { super::receiver::OK } else { Reply::Stall(vec![]) }
        }
    });
    let events = (0..20_000).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("all slots wait", || fixture.get(&webhook).delivered == 49).await;
    assert_eq!(fixture.get(&webhook).pending, 20_000 - 49);
    assert!(fixture.webhooks.0.schedule.lock().held() <= 64 + ENDPOINT_SLOTS);
}
