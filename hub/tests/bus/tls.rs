//! Redis by TLS.

use hub::bus::{Bus, RedisConfig, State};

use crate::support::{SOON, node::Node};
use servers::{Certificates, Redis, free_port};

fn config(port: u16, host: &str, ca: &str, name: &str) -> RedisConfig {
    RedisConfig {
        address: format!("rediss://:secret@{host}:{port}").parse().unwrap(),
        ca: Some(ca.as_bytes().to_vec()),
        prefix: "test".to_owned(),
        node: name.parse().unwrap(),
        secrets: None,
        clock: delivery::clock::WallClock::default(),
        spans: delivery::spans::Spans::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_and_by_whom_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, certificate, key) = (
        file("ca.pem", &certificates.ca),
        file("certificate.pem", &certificates.certificate),
        file("key.pem", &certificates.key),
    );
    let port = free_port();
    let tls_port = port.to_string();
    let settings = [
        ("tls-port", tls_port.as_str()),
        ("tls-ca-cert-file", &ca),
        ("tls-cert-file", &certificate),
        ("tls-key-file", &key),
        ("tls-auth-clients", "no"),
        ("requirepass", "secret"),
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let _redis = Redis::start_with(&settings).await;
    let a = Node::start_config(config(port, "localhost", &certificates.ca, "a"));
    let b = Node::start_config(config(port, "localhost", &certificates.ca, "b"));
    a.is(State::Up, SOON).await;
    b.is(State::Up, SOON).await;
    let _ann = b.attend("ann").await;
    a.reaches(&b, "ann", 1).await;
    // Another authority, and another name than the certificate's.
    let stranger = Certificates::make();
    for config in [
        config(port, "localhost", &stranger.ca, "c"),
        config(port, "127.0.0.1", &certificates.ca, "d"),
    ] {
        let node = Node::start_config(config);
        node.is(State::Down, SOON).await;
        let why = node.bus.why().unwrap();
        assert!(why.to_lowercase().contains("certificate"), "{why}");
    }
}
