//! Tokens that are signed by keys: our own, which others check by what is published, and those of
//! another issuer; and what must not be believed where there are several of them.

mod forged;
mod issuer;

use std::time::Duration;

use serde_json::{Value, json};

use self::issuer::Issuer;
use crate::support::{Cluster, TestServer, Token, eventually, rsa_key::RsaKey, server::Builder};

const MESSAGES: &str = "/api/v3/messages";

fn signing(algorithm: &str) -> Builder {
    TestServer::plain_builder().env("JWT_SIGNING_ALGORITHM", algorithm)
}

async fn status(server: &TestServer, token: &str) -> u16 {
    server.api().bearer(token).get(MESSAGES).await.status
}

async fn published(server: &TestServer) -> Vec<Value> {
    let answer = server.api().get("/.well-known/jwks.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    answer.body["keys"].as_array().unwrap().clone()
}

/// What a subcommand beside a running server says, line by line.
async fn said(server: &TestServer, algorithm: &str, arguments: &[&str]) -> Vec<String> {
    let command = signing(algorithm).storage(server.storage());
    let (status, said) = command.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {said}");
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn our_tokens_are_checked_by_what_is_published_and_keys_follow_each_other() {
    let server = signing("ES256").start().await;
    let mint = ["token", "mint", "--user", "ann"];
    let old = said(&server, "ES256", &mint).await.pop().unwrap();
    assert_eq!(status(&server, &old).await, 200);
    let keys = published(&server).await;
    assert_eq!((keys.len(), &keys[0]["alg"], &keys[0]["kty"]), (1, &json!("ES256"), &json!("EC")));
    assert!(keys[0].get("d").is_none(), "the private half is ours");
    let first = keys[0]["kid"].as_str().unwrap().to_owned();
    assert!(issuer::checks(&keys[0], &old));

    said(&server, "ES256", &["keys", "rotate", "--now"]).await;
    let new = said(&server, "ES256", &mint).await.pop().unwrap();
    assert_ne!(issuer::kid(&new), issuer::kid(&old));
    eventually("the new key is known", || async { status(&server, &new).await == 200 }).await;
    assert_eq!(status(&server, &old).await, 200, "both check");
    assert_eq!(published(&server).await.len(), 2);
    let listed = said(&server, "ES256", &["keys", "list"]).await;
    assert!(listed.iter().any(|line| line.starts_with(&first) && line.contains("checks until")));

    said(&server, "ES256", &["keys", "retire", &first]).await;
    eventually("the old key is gone", || async { status(&server, &old).await == 401 }).await;
    assert_eq!(status(&server, &new).await, 200);
    server.socket("ann").raw_token(&old).refused().await;
    assert_eq!(published(&server).await.len(), 1);
}

/// How soon a retired key must bite (contract §2.7).
const BITES_WITHIN: Duration = Duration::from_secs(2);

/// A command line by this builder; the last line that it says.
async fn last_line(builder: Builder, arguments: &[&str]) -> String {
    let (status, said) = builder.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {said}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// Retires the key that the sockets of some nodes came by; `line` makes command lines of their site.
async fn retires(nodes: &[&TestServer], line: impl Fn() -> Builder) {
    let mint = |user: &'static str| {
        let line = line();
        async move { last_line(line, &["token", "mint", "--user", user]).await }
    };
    let old = mint("ann").await;
    let first = published(nodes[0]).await[0]["kid"].as_str().unwrap().to_owned();
    let mut ends = vec![];
    let mut streams = vec![];
    let mut stay = vec![];
    for node in nodes {
        ends.push(node.socket("ann").raw_token(&old).connect().await);
        // What came by a ticket came by the token that got it.
        let path = "/api/v3/auth/ws-ticket";
        let made = node.api().bearer(&old).post(path, Value::Null).await.ok();
        let by_ticket = node.socket("ann").raw_token("");
        ends.push(by_ticket.query("ticket", made["ticket"].as_str().unwrap()).connect().await);
        streams.push(node.stream("ann").raw_token(&old).open().await);
        // Signed with the secret, which is none of the keys.
        stay.push(node.connect("carl").await);
    }
    last_line(line(), &["keys", "rotate", "--now"]).await;
    let new = mint("bob").await;
    for node in nodes {
        eventually("the new key is known", || async { status(node, &new).await == 200 }).await;
        stay.push(node.socket("bob").raw_token(&new).connect().await);
    }
    let unused = nodes[0].api().bearer(&old).post("/api/v3/auth/ws-ticket", Value::Null).await.ok();
    last_line(line(), &["keys", "retire", &first]).await;
    for socket in &mut ends {
        assert_eq!(socket.closed_within(BITES_WITHIN).await.code, Some(4501));
    }
    for stream in &mut streams {
        assert_eq!(stream.closed().await.told().0, 4501);
    }
    for socket in &mut stay {
        socket.ping().await;
    }
    for node in nodes {
        assert_eq!(status(node, &old).await, 401);
        let ticket = unused["ticket"].as_str().unwrap();
        let refused = node.socket("ann").raw_token("").query("ticket", ticket).refused().await;
        assert_eq!(refused.status(), 401, "a ticket of before");
        assert_eq!(status(node, &new).await, 200);
    }
}

#[tokio::test]
async fn a_retired_key_closes_the_sockets_that_came_by_it() {
    let server = signing("ES256").start().await;
    retires(&[&server], || signing("ES256").storage(server.storage())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key_closes_the_sockets_that_came_by_it_on_every_node() {
    let cluster = Cluster::new();
    let node = |name: &str| cluster.node(name).env("JWT_SIGNING_ALGORITHM", "ES256");
    let a = node("a").start().await;
    let b = node("b").start().await;
    retires(&[&a, &b], || node("line")).await;
}

#[tokio::test]
async fn a_key_is_replaced_at_its_age() {
    let every = |builder: Builder| builder.env("JWT_KEY_ROTATION", "30d");
    let mut server = every(signing("EdDSA")).start().await;
    let old =
        last_line(signing("EdDSA").storage(server.storage()), &["token", "mint", "--user", "ann"])
            .await;
    assert_eq!(published(&server).await.len(), 1);
    server.terminate().await;
    let file = server.storage().join(".hub/control.db");
    let aged = "UPDATE control_signing_key SET created_at = created_at - 30 * 86400000, \
                signs_from = signs_from - 30 * 86400000";
    rusqlite::Connection::open(file).unwrap().execute(aged, []).unwrap();
    server.spawn().await;
    eventually("a new key", || async { published(&server).await.len() == 2 }).await;
    // It is published, and signs when whoever keeps the published ones can have it.
    let now =
        last_line(signing("EdDSA").storage(server.storage()), &["token", "mint", "--user", "ann"])
            .await;
    assert_eq!(issuer::kid(&now), issuer::kid(&old));
    assert!(server.log().contains("signing_key_rotated"));
    assert_eq!(status(&server, &old).await, 200);
}

#[tokio::test]
async fn with_the_shared_secret_nothing_is_published_and_nothing_rotates() {
    let server = TestServer::plain_builder().start().await;
    assert!(published(&server).await.is_empty());
    let command = TestServer::plain_builder().storage(server.storage());
    let (status, said) = command.run(&["keys", "rotate"]).await;
    assert!(!status.success() && said.contains("JWT_SIGNING_ALGORITHM"), "{said}");
}

#[tokio::test]
async fn tokens_of_a_named_issuer_open_everything_even_while_it_is_down() {
    let key = RsaKey::make("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = TestServer::builder()
        .env("JWT_ISSUERS", format!("login={}", issuer.url()))
        .env("JWT_AUDIENCE", "client-app, another-app")
        .start()
        .await;
    let token = |user: &str| Token::of(user).claim("iss", "login").claim("aud", "another-app");
    // The first that needs the key is a socket, whose check does not wait by itself.
    let ann = key.sign(&token("ann"));
    let mut client = server.socket("ann").raw_token(&ann).connect().await;
    assert_eq!(client.welcome.user_id.as_str(), "ann");
    assert_eq!(status(&server, &ann).await, 200);
    assert_eq!(issuer.asked(), 1);

    drop(issuer);
    let bob = key.sign(&token("bob"));
    assert_eq!(status(&server, &bob).await, 200);
    client.refresh_with(&key.sign(&token("ann").expires_in(7_200))).await;
    client.ping().await;
    server.service().await.sent("ann", "hello").await;
    assert_eq!(client.next_message().await.fields.title, "hello");
    // Ours are still ours.
    assert_eq!(status(&server, &Token::of("ann").sign()).await, 200);
    assert_eq!(status(&server, &key.sign(&Token::of("ann"))).await, 401, "that is our name");
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_said_and_harms_nobody_else() {
    let key = RsaKey::make("k1");
    let server =
        TestServer::builder().env("JWT_ISSUERS", "login=http://127.0.0.1:9/keys").start().await;
    let token = key.sign(&Token::of("ann").claim("iss", "login"));
    let answer = server.api().bearer(&token).get(MESSAGES).await;
    answer.refused(503, "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(server.socket("ann").raw_token(&token).refused().await.status(), 503);
    assert_eq!(status(&server, &Token::of("ann").sign()).await, 200);
}

#[tokio::test]
async fn mistakes_in_the_settings_of_keys_are_named() {
    for (name, value) in [
        ("JWT_ISSUERS", "login"),
        ("JWT_ISSUERS", "login=http://8.8.8.8/keys"),
        ("JWT_ISSUERS", "login=/no/such/file.pem"),
        ("JWT_SIGNING_ALGORITHM", "none"),
        ("JWT_SIGNING_ALGORITHM", "RS512"),
        ("JWT_AUDIENCE", "a,,b"),
    ] {
        let builder = TestServer::plain_builder().env(name, value);
        let (status, said) = builder.run(&["serve"]).await;
        assert!(!status.success() && said.contains(name), "{name}={value}: {said}");
    }
}
