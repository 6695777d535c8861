//! Tokens that are signed by keys: our own, which others check by what is published, and those of
//! another issuer; and what must not be believed where there are several of them.

mod forged;
mod issuer;

use serde_json::{Value, json};

use self::issuer::Issuer;
use crate::support::{TestServer, Token, eventually, rsa_key::RsaKey, server::Builder};

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
