//! What services and admins do with endpoints.

use std::time::Duration;

use protocol::{ServiceId, TenantId};
use secrecy::ExposeSecret;

use super::{
    deliver::verifies,
    fixture::{At, Fixture, blocking, eventually, everywhere},
    receiver::{Receiver, Reply},
};
use crate::webhook::{
    Actor, DatabaseError, DisabledBy, ENDPOINTS_PER_SERVICE_MAX, NewWebhook, Outcome,
    SECRET_OVERLAP_MAX, SECRETS_MAX, TESTS_MAX, TESTS_PER_SERVICE_MAX, WebhookError, WebhookStatus,
    Webhooks,
};

fn new(url: &str) -> NewWebhook {
    NewWebhook { url: url.to_owned(), events: vec!["*".to_owned()], description: String::new() }
}
everywhere!(
    another_services_endpoint_is_not_there,
    a_service_has_at_most_so_many,
    a_new_url_is_in_force_at_once,
    what_an_admin_disabled_the_service_cannot_enable,
    during_a_rotation_both_secrets_verify,
    a_test_says_what_came_of_it,
    lists_are_paged_and_filtered,
);

async fn another_services_endpoint_is_not_there(at: At) {
    let fixture = Fixture::start(at);
    let (webhook, _) = fixture.endpoint("https://example.com/");
    let (webhooks, shop, id) = (&fixture.webhooks, &fixture.shop, &webhook.id);
    let other = ServiceId::new("other").unwrap();
    blocking(|| {
        let none = |result: Result<(), WebhookError>| {
            assert!(matches!(result, Err(WebhookError::NotFound)));
        };
        none(webhooks.get(&other, id).map(drop));
        none(webhooks.update(&other, id, new("https://example.org/")).map(drop));
        none(webhooks.delete(&other, id).map(drop));
        none(webhooks.enable(&other, id, Actor::Service).map(drop));
        none(webhooks.disable(&other, id, Actor::Admin).map(drop));
        none(webhooks.rotate_secret(&other, id, Duration::ZERO).map(drop));
        none(webhooks.deliveries(&other, id, None, None, 10).map(drop));
        none(webhooks.redeliver(&other, id, "evt_1").map(drop));
        none(webhooks.redeliver(shop, id, "evt_1").map(drop));
        none(webhooks.get(shop, "wh_1").map(drop));
        assert_eq!(webhooks.list(&other).unwrap(), []);
        assert_eq!(webhooks.list(shop).unwrap().len(), 1);
    });
    let tested = webhooks.test(&other, id).await;
    assert!(matches!(tested, Err(WebhookError::NotFound)));
}

async fn a_service_has_at_most_so_many(at: At) {
    let fixture = Fixture::start(at);
    let (webhooks, shop) = (&fixture.webhooks, &fixture.shop);
    blocking(|| {
        let create = || webhooks.create(&TenantId::default(), shop, new("https://example.com/"));
        let ids: Vec<_> = (0..ENDPOINTS_PER_SERVICE_MAX).map(|_| create().unwrap().0.id).collect();
        assert!(matches!(create(), Err(WebhookError::TooMany)));
        webhooks.delete(shop, &ids[3]).unwrap();
        create().unwrap();
        assert!(matches!(webhooks.get(shop, &ids[3]), Err(WebhookError::NotFound)));
        assert_eq!(webhooks.list(shop).unwrap().len(), ENDPOINTS_PER_SERVICE_MAX);
    });
}

async fn a_new_url_is_in_force_at_once(at: At) {
    let fixture = Fixture::start(at);
    let (old, next) = (Receiver::start().await, Receiver::start().await);
    old.always(Reply::Status(500, ""));
    let (webhook, _) = fixture.endpoint(&old.url());
    fixture.record("m1");
    fixture.attempted(&webhook, 1).await;
    assert!(fixture.get(&webhook).failing_since.is_some());
    let update = || fixture.webhooks.update(&fixture.shop, &webhook.id, new(&next.url()));
    let changed = blocking(update);
    assert_eq!(changed.unwrap().failing_since, None);
    fixture.wait(Duration::from_secs(6));
    eventually("it is delivered", || fixture.get(&webhook).delivered == 1).await;
    assert_eq!((old.count(), next.count()), (1, 1));
}

async fn what_an_admin_disabled_the_service_cannot_enable(at: At) {
    let fixture = Fixture::start(at);
    let (webhook, _) = fixture.endpoint("https://example.com/");
    let (webhooks, shop, id) = (&fixture.webhooks, &fixture.shop, &webhook.id);
    blocking(|| {
        let by = |actor| webhooks.disable(shop, id, actor).unwrap().disabled.unwrap().by;
        assert_eq!(by(Actor::Service), DisabledBy::Service);
        let enable = |actor| webhooks.enable(shop, id, actor);
        assert_eq!(enable(Actor::Service).unwrap().status, WebhookStatus::Active);
        assert_eq!(enable(Actor::Service).unwrap().status, WebhookStatus::Active);
        by(Actor::Service);
        assert_eq!(by(Actor::Admin), DisabledBy::Admin);
        assert_eq!(by(Actor::Service), DisabledBy::Admin);
        assert!(matches!(enable(Actor::Service), Err(WebhookError::DisabledByAdmin)));
        assert_eq!(enable(Actor::Admin).unwrap().disabled, None);
    });
}

async fn during_a_rotation_both_secrets_verify(at: At) {
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, first) = fixture.endpoint(&receiver.url());
    let rotate = |overlap: Duration| {
        let rotate = || fixture.webhooks.rotate_secret(&fixture.shop, &webhook.id, overlap);
        let (webhook, secret) = blocking(rotate).unwrap();
        (webhook.secrets, secret.expose_secret().to_owned())
    };
    let received = async |id: &str| {
        let before = receiver.count();
        fixture.record(id);
        eventually("it arrives", || receiver.count() > before).await;
        receiver.received().pop().unwrap()
    };
    let (shown, second) = rotate(Duration::from_secs(3_600));
    assert_eq!((shown.len(), shown[0].expires_at), (2, None));
    let got = received("m1").await;
    assert!(verifies(&got, &first) && verifies(&got, &second));
    fixture.wait(Duration::from_secs(3_600));
    let got = received("m2").await;
    assert!(!verifies(&got, &first) && verifies(&got, &second));
    // One that leaked ends at once.
    let (shown, third) = rotate(Duration::ZERO);
    assert_eq!(shown.len(), 1);
    let got = received("m3").await;
    assert!(!verifies(&got, &second) && verifies(&got, &third));
    // However often and for however long, there are few.
    for _ in 0..10 {
        let (shown, _) = rotate(Duration::MAX);
        assert!(shown.len() <= SECRETS_MAX);
        let end = shown.last().unwrap().expires_at.unwrap().millis() - fixture.now().millis();
        assert_eq!(end as u128, SECRET_OVERLAP_MAX.as_millis());
    }
    assert_eq!(received("m4").await.header("webhook-signature").split(' ').count(), SECRETS_MAX);
}

async fn a_test_says_what_came_of_it(at: At) {
    let fixture = Fixture::with(at, "127.0.0.0/8", Duration::from_secs(600));
    let receiver = Receiver::start().await;
    let (webhook, secret) = fixture.endpoint(&receiver.url());
    blocking(|| fixture.webhooks.disable(&fixture.shop, &webhook.id, Actor::Service)).unwrap();
    let test = || fixture.webhooks.test(&fixture.shop, &webhook.id);
    assert_eq!(test().await.unwrap().outcome, Outcome::Delivered);
    let got = &receiver.received()[0];
    assert!(verifies(got, &secret));
    assert_eq!(got.json()["type"], "webhook.test");
    assert_eq!(got.json()["data"]["webhook_id"], webhook.id);
    // It changes nothing and is not kept.
    let after = fixture.get(&webhook);
    assert_eq!((after.delivered, after.last_success_at), (0, None));
    receiver.always(Reply::Status(500, ""));
    assert_eq!(test().await.unwrap().status_code, Some(500));

    receiver.always(Reply::Stall(vec![]));
    let mut running = vec![];
    for n in 0..TESTS_MAX / TESTS_PER_SERVICE_MAX {
        let service = if n == 0 {
            fixture.shop.clone()
        } else {
            ServiceId::new(format!("other{n}")).unwrap()
        };
        let id = if n == 0 {
            webhook.id.clone()
        } else {
            fixture.endpoint_of(&service, &receiver.url()).0.id
        };
        for _ in 0..TESTS_PER_SERVICE_MAX {
            let (webhooks, service, id) = (fixture.webhooks.clone(), service.clone(), id.clone());
            running.push(tokio::spawn(async move { webhooks.test(&service, &id).await }));
        }
        if n == 0 {
            eventually("the shop's are running", || receiver.count() == 4).await;
            assert!(matches!(test().await, Err(WebhookError::TooManyTests)));
        }
    }
    eventually("all are running", || receiver.count() == 2 + TESTS_MAX).await;
    let more = ServiceId::new("more").unwrap();
    let (one, _) = fixture.endpoint_of(&more, &receiver.url());
    let refused = fixture.webhooks.test(&more, &one.id).await;
    assert!(matches!(refused, Err(WebhookError::TooManyTests)));
    // Whoever asked leaves, and his test ends.
    for test in running {
        test.abort();
        assert!(test.await.unwrap_err().is_cancelled());
    }
    receiver.always(super::receiver::OK);
    assert_eq!(test().await.unwrap().outcome, Outcome::Delivered);
}

async fn lists_are_paged_and_filtered(at: At) {
    use crate::webhook::DeliveryStatus::{Delivered, Failed, Pending};
    let fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    receiver.replies(|received| match &received.body {
        body if body.contains("bad") => Reply::Status(500, ""),
        _ => super::receiver::OK,
    });
    let (webhook, _) = fixture.endpoint(&receiver.url());
    let events = (0..9).map(|n| fixture.event(&fixture.shop, &format!("good{n}"))).collect();
    fixture.record_all(events);
    eventually("all are delivered", || fixture.get(&webhook).delivered == 9).await;
    fixture.record("bad");
    fixture.attempted(&webhook, 1).await;
    let page = |status, before, size| {
        let page = fixture.webhooks.deliveries(&fixture.shop, &webhook.id, status, before, size);
        page.unwrap()
    };
    for (status, total) in [(None, 10), (Some(Pending), 1), (Some(Delivered), 9), (Some(Failed), 0)]
    {
        let (mut seen, mut before) = (vec![], None);
        loop {
            let page = page(status, before, 4);
            assert_eq!(page.total, total);
            assert!(page.items.len() == 4 || page.next.is_none());
            assert!(
                status.is_none_or(|status| page.items.iter().all(|item| item.status == status))
            );
            seen.extend(page.items.iter().map(|item| item.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen.len() as u64, total);
        assert!(seen.is_sorted_by(|a, b| a > b));
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone_and_secrets_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let mut fixture = Fixture::start(At::File);
    let path = fixture.dir.path().join(crate::webhook::FILE_NAME);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fixture.stop().await;
    blocking(|| fixture.webhooks.close());
    let url = "https://example.com/";
    let create = || fixture.webhooks.create(&TenantId::default(), &fixture.shop, new(url));
    assert!(matches!(blocking(create).map(drop), Err(WebhookError::Closed)));
    fixture.sql("PRAGMA user_version = 99");
    let opened = Webhooks::open(
        fixture.dir.path(),
        Default::default(),
        std::sync::Arc::clone(&fixture.control),
        &metrics::NoopRecorder,
    );
    assert!(matches!(
        opened,
        Err(WebhookError::Database(DatabaseError::UnknownVersion { found: 99, .. }))
    ));
}
