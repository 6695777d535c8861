//! Signed tokens of OpenID providers that are not to be believed, and documents that lead astray.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Site;
use crate::support::providers::{CLIENT_ID, Forge};

fn forged() -> Vec<(&'static str, Forge)> {
    let now = jiff::Timestamp::now().as_second();
    let claims = |value: Value| Forge::Claims(value);
    vec![
        ("another key of the same name", Forge::OtherKey),
        ("alg none", Forge::Unsigned("none")),
        ("alg None", Forge::Unsigned("None")),
        ("an algorithm and no signature", Forge::Unsigned("ES256")),
        ("HMAC by the published key", Forge::Confused),
        ("HMAC by the client's secret", Forge::BySecret),
        ("a key of its own in the header", Forge::OwnKey),
        ("a key that is not published", Forge::UnknownKey),
        ("no token", Forge::Missing),
        ("a word", Forge::Text("token")),
        ("dots", Forge::Text("..")),
        ("another issuer", claims(json!({"iss": "https://evil.example"}))),
        ("no issuer", claims(json!({"iss": null}))),
        ("issuers in a list", claims(json!({"iss": ["https://evil.example"]}))),
        ("for another client", claims(json!({"aud": "another-client"}))),
        ("for other clients", claims(json!({"aud": ["a", "b"]}))),
        ("for nobody", claims(json!({"aud": null}))),
        ("for several, and nobody asked", claims(json!({"aud": [CLIENT_ID, "b"], "azp": null}))),
        ("asked for by another", claims(json!({"azp": "another-client"}))),
        ("of another login", claims(json!({"nonce": "another-nonce"}))),
        ("of no login", claims(json!({"nonce": null}))),
        ("of an empty login", claims(json!({"nonce": ""}))),
        ("over", claims(json!({"exp": now - 120}))),
        ("for ever", claims(json!({"exp": null}))),
        ("over at a text", claims(json!({"exp": "later"}))),
        ("from tomorrow", claims(json!({"iat": now + 86_400}))),
        ("made at no time", claims(json!({"iat": null}))),
        ("not yet", claims(json!({"nbf": now + 3_600}))),
        ("of nobody", claims(json!({"sub": null}))),
        ("of an empty person", claims(json!({"sub": ""}))),
        ("of a person with a NUL", claims(json!({"sub": "a\0b"}))),
        ("of a person of 300 bytes", claims(json!({"sub": "x".repeat(300)}))),
        ("of a list", claims(json!({"sub": ["1001"]}))),
    ]
}

#[tokio::test]
async fn forged_id_tokens_are_refused() {
    let site = Site::start().await;
    for provider in ["google", "oidc"] {
        for (what, forge) in forged() {
            site.fakes.forge(forge);
            let answer = site.browser().log_in(provider, "").await;
            assert_eq!(answer.status, 502, "{provider}: {what}: {}", answer.body);
            answer.refused(502, "provider_failed");
        }
    }
    site.nothing_was_made().await;
    site.fakes.forge(None);
    site.browser().log_in("google", "").await.ok();
    // Good ones that look unusual.
    let host = format!("{}/google", site.fakes.address());
    for good in [
        json!({"iss": host}),
        json!({"aud": [CLIENT_ID, "another"]}),
        json!({"aud": [CLIENT_ID], "azp": null}),
        json!({"exp": jiff::Timestamp::now().as_second() - 20}),
        json!({"exp": jiff::Timestamp::now().as_second() as f64 + 0.5}),
    ] {
        site.fakes.forge(Forge::Claims(good.clone()));
        let answer = site.browser().log_in("google", "").await;
        assert_eq!(answer.status, 200, "{good}: {}", answer.body);
    }
    // Only Google writes itself in two ways.
    site.fakes.forge(Forge::Claims(json!({"iss": format!("{}/oidc", site.fakes.address())})));
    site.browser().log_in("oidc", "").await.refused(502, "provider_failed");
}

#[tokio::test]
async fn a_discovery_document_cannot_lead_into_the_network() {
    // Something inside that answers whoever asks, and must not be asked.
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", inside.local_addr().unwrap());
    let all = [
        url.as_str(),
        "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "http://localhost:6379/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:pass@127.0.0.1/",
    ];
    for (name, all) in
        [("token_endpoint", &all[..]), ("jwks_uri", &all[..3]), ("userinfo_endpoint", &all[..3])]
    {
        for leads_to in all {
            let site = Site::start().await;
            site.fakes.document(name, *leads_to);
            let answer = site.server.api().get("/api/v3/auth/oidc/login").await;
            let said = answer.refused(502, "provider_failed");
            assert!(said.contains(name), "{said}");
            assert!(!said.contains("10.0.0.1") && !said.contains("meta-data"), "{said}");
            site.nothing_was_made().await;
        }
    }
    let asked = tokio::time::timeout(std::time::Duration::from_millis(200), inside.accept()).await;
    assert!(asked.is_err(), "what is inside was called");
}

#[tokio::test]
async fn a_discovery_document_is_its_issuers() {
    for (name, value) in [
        ("issuer", json!("https://evil.example")),
        ("issuer", Value::Null),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("http://8.8.8.8/")),
        ("authorization_endpoint", Value::Null),
        ("token_endpoint", Value::Null),
        ("jwks_uri", json!(7)),
    ] {
        let site = Site::start().await;
        site.fakes.document(name, value.clone());
        let page = site.browser().navigate("/api/v3/auth/oidc/login").await;
        assert_eq!((page.status, page.header("location")), (502, ""), "{name}: {value}");
    }
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused() {
    let site = Site::start().await;
    // The document says that the issuer names itself where it sends browsers back (RFC 9207).
    let mut browser = site.browser();
    for bend in [|iss: &str| iss.replace("oidc", "evil"), |_: &str| String::new()] {
        let begun = browser.begin("oidc", "").await;
        let back = browser.sign_in(&begun.auth_url).await;
        let (before, iss) = back.split_once("&iss=").unwrap();
        let iss = bend(iss);
        let bent = if iss.is_empty() { before.to_owned() } else { format!("{before}&iss={iss}") };
        browser.get(&bent).await.refused(502, "provider_failed");
    }
    site.nothing_was_made().await;
}

#[tokio::test]
async fn the_userinfo_endpoint_must_speak_of_the_same_person() {
    let site = Site::start().await;
    site.fakes.odd("userinfo of another");
    site.browser().log_in("oidc", "").await.refused(502, "provider_failed");
    site.nothing_was_made().await;
}

#[tokio::test]
async fn documents_and_keys_are_fetched_once() {
    let site = Site::start().await;
    let logins = (0..8).map(|_| async { site.browser().log_in("oidc", "").await.ok() });
    futures_util::future::join_all(logins).await;
    for path in ["oidc/.well-known/openid-configuration", "oidc/jwks"] {
        assert_eq!(site.fakes.calls(path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_provider_that_signs_with_rsa_is_believed_as_well() {
    let site = Site::start().await;
    site.fakes.odd("signs with RS256");
    for provider in ["google", "oidc"] {
        let pair = site.browser().log_in(provider, "").await.ok();
        site.as_pair(&pair).get("/api/v3/auth/profile").await.ok();
    }
}
