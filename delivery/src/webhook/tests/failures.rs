//! What happens when it does not arrive.

use std::time::Duration;

use super::{
    fixture::{At, Fixture, blocking, eventually, everywhere},
    receiver::{OK, Receiver, Reply},
};
use crate::webhook::{
    Actor, DISABLE_AFTER, DeliveryStatus, Disabled, DisabledBy, EventKind, EventSink, GivenUp,
    Outcome, RETRY_DELAYS, WebhookError, WebhookStatus,
};

const HOUR: Duration = Duration::from_secs(3_600);
everywhere!(
    a_failing_event_is_tried_ten_times_and_becomes_a_dead_letter,
    retry_after_is_respected,
    an_endpoint_that_fails_for_days_is_disabled_and_can_be_enabled_again,
    a_410_disables_at_once_and_loses_nothing,
    one_bad_event_does_not_hold_up_the_others,
    redirects_are_not_followed,
);

async fn a_failing_event_is_tried_ten_times_and_becomes_a_dead_letter(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(500, ""));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("m1");
    for (index, delay) in RETRY_DELAYS.iter().enumerate() {
        let delivery = fixture.attempted(&webhook, index as u64 + 1).await;
        assert_eq!(delivery.status, DeliveryStatus::Pending);
        let attempt = delivery.last_attempt.unwrap();
        assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Status, Some(500)));
        let wait = delivery.next_attempt_at.unwrap().millis() - fixture.now().millis();
        let expected = delay.as_millis() as i64;
        assert!((expected * 8 / 10..=expected * 12 / 10).contains(&wait), "{index}: {wait}");
        // Not before its time; a restart changes nothing.
        fixture.wait(Duration::from_millis(wait as u64 - 1));
        if index == 4 {
            fixture.crash_and_restart().await;
        }
        assert_eq!(receiver.count(), index + 1);
        // An endpoint that fails pauses for up to a minute by itself.
        fixture.wait(Duration::from_secs(61));
    }
    let dead = fixture.attempted(&webhook, 10).await;
    assert_eq!((dead.status, dead.given_up), (DeliveryStatus::Failed, Some(GivenUp::Attempts)));
    assert_eq!((dead.next_attempt_at, dead.settled_at), (None, Some(fixture.now())));
    fixture.wait(Duration::from_secs(86_400));
    fixture.crash_and_restart().await;
    let shown = fixture.get(&webhook);
    assert_eq!((shown.pending, shown.failed), (0, 1));
    assert_eq!((shown.status, shown.last_failure), (WebhookStatus::Active, Some(Outcome::Status)));
    let letters = fixture.webhooks.dead_letters(None, None, 10).unwrap();
    assert_eq!(
        (letters.total, letters.items[0].delivery.event_id.as_str()),
        (1, dead.event_id.as_str())
    );
    assert_eq!(letters.items[0].webhook_id, webhook.id);
    // All attempts were of the same event, each signed with its own time.
    let received = receiver.received();
    assert_eq!(received.len(), 10);
    let mut times: Vec<_> = received.iter().map(|one| one.header("webhook-timestamp")).collect();
    times.dedup();
    assert_eq!(times.len(), 10);
    assert!(received.iter().all(|one| one.header("webhook-id") == dead.event_id));
    assert!(received.iter().all(|one| one.body == received[0].body));

    receiver.always(OK);
    let again = || fixture.webhooks.redeliver(&fixture.shop, &webhook.id, &dead.event_id);
    assert_eq!(blocking(again).unwrap().attempts, 0);
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
    let delivered = fixture.attempted(&webhook, 1).await;
    assert_eq!((delivered.status, delivered.given_up), (DeliveryStatus::Delivered, None));
    assert_eq!((fixture.get(&webhook).failed, fixture.get(&webhook).failing_since), (0, None));
}

async fn retry_after_is_respected(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(503, "retry-after: 7200\r\n"));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("m1");
    let delivery = fixture.attempted(&webhook, 1).await;
    let wait = delivery.next_attempt_at.unwrap().millis() - fixture.now().millis();
    assert_eq!(wait, 7_200_000);
    // It asked for peace, not for peace from that one event.
    fixture.record("m2");
    fixture.wait(HOUR);
    fixture.record("m3");
    assert_eq!(receiver.count(), 1);
    receiver.always(OK);
    fixture.wait(HOUR);
    eventually("all are delivered", || fixture.get(&webhook).delivered == 3).await;
}

async fn an_endpoint_that_fails_for_days_is_disabled_and_can_be_enabled_again(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(502, ""));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let began = fixture.now();
    let mut events = 0;
    while fixture.now().millis() - began.millis() < DISABLE_AFTER.as_millis() as i64 {
        events += 1;
        let tried = receiver.count();
        fixture.record(&format!("m{events}"));
        eventually("something is tried", || receiver.count() > tried).await;
        let noted = || fixture.get(&webhook).last_failure_at == Some(fixture.now());
        eventually("it is noted", noted).await;
        let shown = fixture.get(&webhook);
        assert_eq!((shown.status, shown.failing_since), (WebhookStatus::Active, Some(began)));
        if events == 3 {
            fixture.crash_and_restart().await;
        }
        fixture.wait(12 * HOUR);
    }
    fixture.record("last");
    eventually("it is disabled", || fixture.get(&webhook).status == WebhookStatus::Disabled).await;
    let Some(Disabled { by, reason, at }) = fixture.get(&webhook).disabled else { panic!() };
    assert_eq!((by, at), (DisabledBy::Failures, fixture.now()));
    assert!(reason.contains("five days"));
    let wants = || fixture.webhooks.wants(&Default::default(), &fixture.shop, EventKind::Read);
    eventually("nothing is kept for it", || !wants()).await;
    let (pending, tried) = (fixture.get(&webhook).pending, receiver.count());
    fixture.record("unheard");
    fixture.wait(24 * HOUR);
    fixture.crash_and_restart().await;
    assert_eq!(fixture.get(&webhook).pending, pending);
    let event = fixture.deliveries(&webhook)[0].event_id.clone();
    let again = || fixture.webhooks.redeliver(&fixture.shop, &webhook.id, &event);
    assert!(matches!(blocking(again), Err(WebhookError::Disabled)));
    assert_eq!(receiver.count(), tried);

    receiver.always(OK);
    let enable = || fixture.webhooks.enable(&fixture.shop, &webhook.id, Actor::Service);
    let enabled = blocking(enable).unwrap();
    assert_eq!((enabled.status, enabled.failing_since), (WebhookStatus::Active, None));
    fixture.wait(24 * HOUR);
    eventually("what waited is delivered", || fixture.get(&webhook).pending == 0).await;
    assert_eq!(fixture.get(&webhook).delivered, pending);
}

async fn a_410_disables_at_once_and_loses_nothing(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Status(410, ""));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("m1");
    eventually("it is disabled", || fixture.get(&webhook).status == WebhookStatus::Disabled).await;
    let shown = fixture.get(&webhook);
    assert_eq!(shown.disabled.map(|disabled| disabled.by), Some(DisabledBy::Gone));
    assert_eq!((shown.pending, shown.failed, receiver.count()), (1, 0, 1));
    receiver.always(OK);
    let enable = || fixture.webhooks.enable(&fixture.shop, &webhook.id, Actor::Service);
    assert_eq!(blocking(enable).unwrap().disabled, None);
    fixture.wait(Duration::from_secs(10));
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
}

async fn one_bad_event_does_not_hold_up_the_others(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.replies(
        |received| {
            if received.body.contains("poison") { Reply::Status(400, "") } else { OK }
        },
    );
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("poison");
    let events = (0..300).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("all others are delivered", || fixture.get(&webhook).delivered == 300).await;
    assert_eq!(fixture.get(&webhook).pending, 1);
}

async fn redirects_are_not_followed(at: At) {
    let fixture = Fixture::start(at);
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    for (id, status) in [("a", 301), ("b", 302), ("c", 303), ("d", 307), ("e", 308)] {
        let location = format!("location: {}\r\n", other.url());
        receiver.always(Reply::Status(status, location.leak()));
        let (webhook, _) = fixture.endpoint(&receiver.url());
        fixture.record(id);
        let attempt = fixture.attempted(&webhook, 1).await.last_attempt.unwrap();
        assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Status, Some(status)));
        assert_eq!(attempt.detail.as_deref(), Some("redirects are not followed"));
    }
    assert_eq!(other.connections(), 0);
}
