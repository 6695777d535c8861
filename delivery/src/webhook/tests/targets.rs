//! Where it goes and does not go.

use std::{net::IpAddr, sync::atomic::Ordering, time::Duration};

use super::{
    fixture::{At, Fixture, eventually, everywhere},
    receiver::Receiver,
};
use crate::webhook::{Attempt, Outcome, Webhook, WebhookConfig};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn attempt(fixture: &Fixture, webhook: &Webhook) -> Attempt {
    fixture.webhooks.test(&fixture.shop, &webhook.id).await.unwrap()
}
everywhere!(
    a_name_that_leads_inside_is_refused_when_it_is_connected_to,
    the_address_that_was_judged_is_the_one_that_is_connected_to,
    what_settings_do_not_allow_any_more_is_not_reached_any_more,
    what_cannot_be_reached_is_said,
);

async fn a_name_that_leads_inside_is_refused_when_it_is_connected_to(at: At) {
    let fixture = Fixture::with(at, "10.0.0.0/8", Duration::from_secs(10));
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    for scheme in ["http", "https"] {
        let (webhook, _) = fixture.endpoint(&format!("{scheme}://hooks.example:{port}/"));
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "0.0.0.0",
        ] {
            fixture.names.known.lock().insert("hooks.example".to_owned(), vec![ip(address)]);
            let attempt = attempt(&fixture, &webhook).await;
            assert_eq!(attempt.outcome, Outcome::AddressNotAllowed, "{scheme} {address}");
            // The service must not learn from it what names stand for inside.
            assert_eq!(attempt.detail, None);
        }
    }
    assert_eq!(receiver.connections(), 0);
}

async fn the_address_that_was_judged_is_the_one_that_is_connected_to(at: At) {
    let fixture = Fixture::with(at, "127.0.0.2/32", Duration::from_secs(10));
    let allowed = Receiver::at(ip("127.0.0.2"), 0).await;
    let private = Receiver::at(ip("127.0.0.1"), allowed.address.port()).await;
    let (webhook, _) =
        fixture.endpoint(&format!("http://hooks.example:{}/", allowed.address.port()));
    let both = vec![ip("127.0.0.1"), ip("127.0.0.2")];
    fixture.names.known.lock().insert("hooks.example".to_owned(), both);
    for asked in 1..=3 {
        assert_eq!(attempt(&fixture, &webhook).await.outcome, Outcome::Delivered);
        // Asked once: a second answer, which might be another, has no part in it.
        assert_eq!(fixture.names.asked.load(Ordering::Relaxed), asked);
    }
    assert_eq!((allowed.connections(), private.connections()), (3, 0));
    // The same name now stands for the private address only.
    fixture.names.known.lock().insert("hooks.example".to_owned(), vec![ip("127.0.0.1")]);
    assert_eq!(attempt(&fixture, &webhook).await.outcome, Outcome::AddressNotAllowed);
    assert_eq!(private.connections(), 0);
}

async fn what_settings_do_not_allow_any_more_is_not_reached_any_more(at: At) {
    let mut fixture = Fixture::start(at);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    fixture.config = WebhookConfig::default();
    fixture.crash_and_restart().await;
    fixture.record("m1");
    let attempt = fixture.attempted(&webhook, 1).await.last_attempt.unwrap();
    assert_eq!(attempt.outcome, Outcome::AddressNotAllowed);
    assert_eq!((receiver.connections(), fixture.get(&webhook).url), (0, receiver.url()));
}

async fn what_cannot_be_reached_is_said(at: At) {
    let fixture = Fixture::start(at);
    let (webhook, _) = fixture.endpoint("http://nowhere.example/");
    assert_eq!(attempt(&fixture, &webhook).await.outcome, Outcome::UnknownHost);
    fixture.names.known.lock().insert("nowhere.example".to_owned(), vec![]);
    assert_eq!(attempt(&fixture, &webhook).await.outcome, Outcome::UnknownHost);

    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&format!("https://{}/", receiver.address));
    receiver.always(super::receiver::OK);
    drop(receiver);
    eventually("nobody listens", || {
        std::net::TcpStream::connect(webhook.url["https://".len()..].trim_end_matches('/')).is_err()
    })
    .await;
    let refused = attempt(&fixture, &webhook).await;
    assert_eq!(refused.outcome, Outcome::NotConnected);
    assert!(refused.detail.unwrap().contains("refused"));
}
