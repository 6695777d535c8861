//! What arrives: signed, once kept, at least once sent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use protocol::{ServiceId, TenantId};
use serde_json::json;
use sha2::Sha256;

use super::{
    fixture::{At, Fixture, blocking, eventually, everywhere},
    receiver::{OK, Received, Receiver, Reply},
};
use crate::{
    control::{NewService, ServiceStatus},
    webhook::{
        DeliveryStatus, EVENT_BYTES_MAX, EventKind, EventSink, NewWebhook, Outcome,
        deliveries::PENDING_PER_ENDPOINT_MAX,
    },
};

/// As a receiver does it, with its own words.
pub(super) fn verifies(received: &Received, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = format!(
        "{}.{}.{}",
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
        received.body
    );
    received.header("webhook-signature").split(' ').any(|signature| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(signed.as_bytes());
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        mac.verify_slice(&signature).is_ok()
    })
}
everywhere!(
    an_event_arrives_signed,
    an_event_is_kept_once_however_often_it_is_recorded,
    only_what_is_wanted_is_kept,
    many_events_go_over_few_connections_and_survive_crashes,
    an_orderly_stop_sends_nothing_twice,
    a_connection_that_was_closed_while_idle_is_no_failure,
    answers_of_any_form_are_survived,
    what_is_too_much_is_dropped_and_counted,
    a_service_that_was_stopped_is_told_nothing_until_it_goes_on,
);

async fn an_event_arrives_signed(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, secret) = fixture.endpoint(&receiver.url());
    fixture.record("m1");
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;

    let [received] = &receiver.received()[..] else { panic!("{:?}", receiver.received()) };
    assert_eq!(received.line, "POST /hooks?from=pushhub HTTP/1.1");
    assert_eq!(received.header("host"), receiver.address.to_string());
    assert_eq!(received.header("content-type"), "application/json");
    assert!(received.header("user-agent").starts_with("pushhub-webhooks/"));
    assert_eq!(received.header("webhook-timestamp"), "1736937000");
    assert_eq!(
        received.json(),
        json!({
            "type": "message.read", "timestamp": "2025-01-15T10:30:00Z",
            "data": {"message_id": "m1", "user_id": "ann"},
        })
    );
    assert!(verifies(received, &secret));
    assert!(!verifies(&Received { body: "{}".to_owned(), ..received.clone() }, &secret));

    let [delivery] = &fixture.deliveries(&webhook)[..] else { panic!("one delivery") };
    assert_eq!(delivery.event_id, received.header("webhook-id"));
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Delivered, 1));
    let attempt = delivery.last_attempt.as_ref().unwrap();
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Delivered, Some(200)));
    let webhook = fixture.get(&webhook);
    assert_eq!((webhook.pending, webhook.last_success_at), (0, Some(fixture.now())));
}

async fn an_event_is_kept_once_however_often_it_is_recorded(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let twice = vec![fixture.event(&fixture.shop, "m1"), fixture.event(&fixture.shop, "m1")];
    fixture.record_all(twice.clone());
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
    fixture.record_all(twice.clone());
    fixture.crash_and_restart().await;
    fixture.record_all(twice);
    fixture.record("m2");
    eventually("the next one is delivered", || fixture.get(&webhook).delivered == 2).await;
    assert_eq!(receiver.count(), 2);
}

async fn only_what_is_wanted_is_kept(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let webhooks = &fixture.webhooks;
    let default = TenantId::default();
    assert!(!webhooks.wants_any());
    let new = NewWebhook {
        url: receiver.url(),
        events: vec!["message.action".to_owned()],
        description: String::new(),
    };
    let create = || webhooks.create(&default, &fixture.shop, new);
    let (webhook, _) = blocking(create).unwrap();
    assert!(webhooks.wants_any());
    assert!(webhooks.wants(&default, &fixture.shop, EventKind::Action));
    let crm = ServiceId::new("crm").unwrap();
    for (tenant, service, kind) in [
        (&default, &fixture.shop, EventKind::Read),
        (&default, &crm, EventKind::Action),
        (&TenantId::new("acme").unwrap(), &fixture.shop, EventKind::Action),
    ] {
        assert!(!webhooks.wants(tenant, service, kind));
        let mut event = fixture.event(service, "m");
        (event.tenant, event.kind) = (tenant.clone(), kind);
        fixture.record_all(vec![event]);
    }
    assert_eq!(fixture.get(&webhook).pending + fixture.get(&webhook).delivered, 0);
    let mut event = fixture.event(&fixture.shop, "m");
    event.kind = EventKind::Action;
    fixture.record_all(vec![event]);
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
    blocking(|| webhooks.delete(&fixture.shop, &webhook.id)).unwrap();
    assert!(!webhooks.wants_any());
}

async fn many_events_go_over_few_connections_and_survive_crashes(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    const EVENTS: usize = 2_000;
    let events = (0..EVENTS).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    for part in 1..=3 {
        eventually("some have arrived", || receiver.count() >= part * EVENTS / 4).await;
        fixture.crash_and_restart().await;
    }
    eventually("all are delivered", || fixture.get(&webhook).delivered == EVENTS as u64).await;
    let received = receiver.received();
    let ids: std::collections::HashSet<_> =
        received.iter().map(|received| received.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), EVENTS);
    // What was on its way at each crash came twice, and no more.
    assert!(received.len() <= EVENTS + 3 * 16, "{}", received.len());
    assert!(receiver.connections() < 200, "{}", receiver.connections());
    eventually("it comes to rest", || fixture.webhooks.0.schedule.lock().taken() == [0, 0]).await;
    assert_eq!(fixture.get(&webhook).pending, 0);
}

async fn an_orderly_stop_sends_nothing_twice(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let events = (0..500).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("some have arrived", || receiver.count() > 50).await;
    fixture.stop().await;
    assert_eq!(fixture.get(&webhook).delivered as usize, receiver.count());
    fixture.restart();
    eventually("all are delivered", || fixture.get(&webhook).delivered == 500).await;
    assert_eq!(receiver.count(), 500);
}

async fn a_connection_that_was_closed_while_idle_is_no_failure(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    // It promises to keep the connection, and closes it after each answer.
    receiver.always(Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let events = (0..50).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    eventually("all are delivered", || fixture.get(&webhook).delivered == 50).await;
    assert_eq!(fixture.get(&webhook).last_failure_at, None);
}

async fn answers_of_any_form_are_survived(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let endless = |head: &str| [head.as_bytes(), &b"x".repeat(1 << 20)].concat();
    for (id, reply, outcome) in [
        ("large", Reply::Bytes(endless("HTTP/1.1 200 OK\r\n\r\n")), Outcome::Delivered),
        (
            "endless",
            Reply::Stall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
            Outcome::Delivered,
        ),
        (
            "trickles",
            Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_vec()),
            Outcome::Delivered,
        ),
        ("no http", Reply::Bytes(b"220 mail.example ESMTP\r\n".to_vec()), Outcome::BrokenAnswer),
        ("nothing", Reply::Bytes(vec![]), Outcome::BrokenAnswer),
        ("huge head", Reply::Bytes(endless("HTTP/1.1 200 OK\r\nx: ")), Outcome::BrokenAnswer),
        (
            "switch",
            Reply::Stall(
                b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec(),
            ),
            Outcome::Status,
        ),
        ("teapot", Reply::Status(418, ""), Outcome::Status),
    ] {
        receiver.always(reply);
        let (webhook, _) = fixture.endpoint(&receiver.url());
        fixture.record(id);
        let delivery = fixture.attempted(&webhook, 1).await;
        let attempt = delivery.last_attempt.unwrap();
        assert_eq!(attempt.outcome, outcome, "{id}: {attempt:?}");
        assert!(attempt.detail.is_none_or(|detail| detail.chars().count() <= 200));
    }
    receiver.always(OK);
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.record("good");
    assert_eq!(fixture.attempted(&webhook, 1).await.status, DeliveryStatus::Delivered);
}

async fn what_is_too_much_is_dropped_and_counted(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Stall(vec![]));
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let mut large = fixture.event(&fixture.shop, "large");
    large.data = json!({"text": "x".repeat(EVENT_BYTES_MAX)});
    fixture.record_all(vec![large]);
    assert_eq!(fixture.get(&webhook).pending, 0);

    fixture.sql(&format!("UPDATE webhook_endpoint SET pending = {}", PENDING_PER_ENDPOINT_MAX - 1));
    let events = (0..3).map(|n| fixture.event(&fixture.shop, &format!("m{n}"))).collect();
    fixture.record_all(events);
    let full = fixture.get(&webhook);
    assert_eq!((full.pending, full.dropped), (PENDING_PER_ENDPOINT_MAX, 2));
    assert_eq!(full.dropped_at, Some(fixture.now()));

    fixture.sql("UPDATE webhook_endpoint SET pending = 1, pending_bytes = 512 << 20");
    fixture.record("m4");
    assert_eq!(fixture.get(&webhook).dropped, 3);
}

async fn a_service_that_was_stopped_is_told_nothing_until_it_goes_on(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let other = NewService { id: Some("other".to_owned()), ..NewService::named("other") };
    let other = fixture.control.create_service(other).unwrap().0.id;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let (sign, _) = fixture.endpoint_of(&other, &receiver.url());
    fixture.control.set_status(&fixture.shop, ServiceStatus::Suspended).unwrap();
    fixture.record("held");
    fixture.record_all(vec![fixture.event(&other, "sign")]);
    eventually("others go on", || fixture.get(&sign).delivered == 1).await;
    assert_eq!(fixture.get(&webhook).pending, 1);
    assert_eq!(receiver.count(), 1);
    fixture.control.set_status(&fixture.shop, ServiceStatus::Active).unwrap();
    fixture.wait(std::time::Duration::from_secs(31));
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
}
