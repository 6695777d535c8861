//! Forged and bent tokens through the front door: REST, the handshake of sockets, event streams and the
//! `refresh` frame. All are answered 401, or `unauthorized`, and nothing else.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::{MESSAGES, issuer::Issuer, published, status};
use crate::support::{TestServer, Token, rsa_key::RsaKey, token::SECRET};

fn hmac(secret: &[u8], header: &Value, claims: &str) -> String {
    let message = [&header.to_string(), claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Tokens of the issuer `login`, whose key is `key`, and of `other`, whose key has the same name.
fn forged(key: &RsaKey, other: &RsaKey, own: &Value) -> Vec<(String, String)> {
    let ann = || Token::of("ann").claim("iss", "login");
    let text = ann().claims.to_string();
    let ours = Token::of("ann").claims.to_string();
    let good = key.sign(&ann());
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let stranger = RsaKey::make("k1");
    let hs = json!({"alg": "HS256", "kid": "k1"});
    let header = |name: &str, value: Value| {
        let mut header = json!({"alg": "RS256", "kid": "k1"});
        header[name] = value;
        header.to_string()
    };
    let bent = |name: &str, value: Value| key.sign_text(&header(name, value), &text);
    let strange = |name: &str, value: Value| stranger.sign_text(&header(name, value), &text);
    let plain = header("typ", json!("JWT"));
    let twice = |claim: &str| key.sign_text(&plain, &text.replacen('{', &format!("{{{claim},"), 1));
    let changed = |name: &str, value: Value| key.sign(&ann().claim(name, value));
    let es = json!({"alg": "ES256", "kid": own["kid"]}).to_string();
    let forged_es = |signature: &[u8]| {
        let message = [es.as_str(), &ours].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let point = URL_SAFE_NO_PAD.decode(own["x"].as_str().unwrap()).unwrap();
    let mut all: Vec<(&str, String)> = vec![
        ("RS→HS, the PEM as the secret", hmac(key.pem().as_bytes(), &hs, &text)),
        ("RS→HS, the PEM without its last line", hmac(key.pem().trim().as_bytes(), &hs, &text)),
        ("RS→HS for us", hmac(key.pem().as_bytes(), &json!({"alg": "HS256"}), &ours)),
        ("RS→HS, the JWK as the secret", hmac(key.jwk().to_string().as_bytes(), &hs, &text)),
        ("RS→HS, the modulus as the secret", hmac(&key.modulus(), &hs, &text)),
        ("ES→HS, our JWK as the secret", hmac(own.to_string().as_bytes(), &hs, &ours)),
        ("ES→HS, our point as the secret", hmac(&point, &hs, &ours)),
        ("our secret for another issuer", hmac(SECRET.as_bytes(), &hs, &text)),
        (
            "RS256 over an HMAC",
            hmac(SECRET.as_bytes(), &json!({"alg": "RS256", "kid": "k1"}), &text),
        ),
        ("an issuer's key under our name", key.sign(&Token::of("ann"))),
        ("our key's name over an issuer's signature", key.sign_text(&es, &ours)),
        ("another issuer's key of the same name", other.sign(&ann())),
        ("the same, the other way", key.sign(&ann().claim("iss", "other"))),
        ("an issuer nobody named", key.sign(&ann().claim("iss", "evil"))),
        ("iss with a slash", key.sign(&ann().claim("iss", "login/"))),
        ("iss a list", changed("iss", json!(["login"]))),
        ("no iss", changed("iss", Value::Null)),
        ("ECDSA with r = s = 0", forged_es(&[0; 64])),
        ("ECDSA with an empty signature", forged_es(&[])),
        (
            "an RSA signature of zeros",
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 256])),
        ),
        (
            "a byte behind the signature",
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([&bytes[..], &[0]].concat())),
        ),
        ("a stranger's key", stranger.sign(&ann())),
        ("a stranger's jwk", strange("jwk", stranger.jwk())),
        ("a stranger's jku", strange("jku", json!("http://127.0.0.1:9/keys"))),
        ("a stranger's x5u", strange("x5u", json!("http://127.0.0.1:9/cert"))),
        ("a stranger's x5c", strange("x5c", json!(["MIIB"]))),
        ("kid empty", bent("kid", json!(""))),
        ("kid unknown", bent("kid", json!("k2"))),
        ("kid a path", bent("kid", json!("../../../../dev/null"))),
        ("kid an absolute path", bent("kid", json!("/proc/self/environ"))),
        ("kid SQL", bent("kid", json!("' UNION SELECT 'x' --"))),
        ("kid a command", bent("kid", json!("k1;reboot"))),
        ("kid a URL", bent("kid", json!("https://evil.example/jwks.json"))),
        ("kid with a NUL", bent("kid", json!("k1\0"))),
        ("kid in wide letters", bent("kid", json!("ｋ1"))),
        ("kid huge", bent("kid", json!("k".repeat(1_000)))),
        ("kid a number", bent("kid", json!(1))),
        ("PS256", bent("alg", json!("PS256"))),
        ("RS512", bent("alg", json!("RS512"))),
        ("ES256", bent("alg", json!("ES256"))),
        ("rs256", bent("alg", json!("rs256"))),
        ("crit", bent("crit", json!(["exp"]))),
        ("b64", bent("b64", json!(false))),
        ("zip", bent("zip", json!("DEF"))),
        ("typ of a logout", bent("typ", json!("logout+jwt"))),
        ("alg twice", key.sign_text(r#"{"alg":"none","alg":"RS256","kid":"k1"}"#, &text)),
        ("kid twice", key.sign_text(r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#, &text)),
        ("sub twice", twice(r#""sub":"eve""#)),
        ("user_id twice", twice(r#""user_id":"eve""#)),
        ("exp twice", twice(r#""exp":99999999999"#)),
        ("aud twice", twice(r#""aud":"x""#)),
        ("a BOM before the claims", key.sign_text(&plain, &format!("\u{feff}{text}"))),
        ("a BOM before the header", key.sign_text(&format!("\u{feff}{plain}"), &text)),
        ("a NUL behind the claims", key.sign_text(&plain, &format!("{text}\0"))),
        ("more behind the claims", key.sign_text(&plain, &format!("{text}{{}}"))),
        ("claims that are a list", key.sign_text(&plain, "[]")),
        ("claims that are none", key.sign_text(&plain, "")),
        ("a deep header", key.sign_text(&format!("{}{}", "[".repeat(400), "]".repeat(400)), &text)),
        (
            "a deep sub",
            changed(
                "sub",
                serde_json::from_str(&format!("{}{}", "[".repeat(100), "]".repeat(100))).unwrap(),
            ),
        ),
        ("exp a text", changed("exp", json!("99999999999"))),
        ("exp huge", changed("exp", json!(1e300))),
        ("exp negative", changed("exp", json!(-1))),
        ("exp over", key.sign(&ann().expires_in(-3_600))),
        ("no exp", changed("exp", Value::Null)),
        ("nbf to come", changed("nbf", json!(9_999_999_999_u64))),
        ("nbf a text", changed("nbf", json!("0"))),
        ("another aud", changed("aud", json!("another-app"))),
        ("no aud", changed("aud", Value::Null)),
        ("aud of none", changed("aud", json!([]))),
        ("no sub", changed("sub", Value::Null)),
        ("a user with a NUL", changed("user_id", json!("a\0b"))),
        ("a user of 129 bytes", changed("user_id", json!("张".repeat(43)))),
        ("roles a number", changed("roles", json!(1))),
        ("no signature", format!("{head}.{payload}.")),
        ("two parts", format!("{head}.{payload}")),
        ("four parts", format!("{good}.{signature}")),
        (
            "a JWE",
            format!(
                "{}.a.b.{payload}.c",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#)
            ),
        ),
        ("a dot more", format!("{head}..{payload}.{signature}")),
        ("padding", format!("{head}.{payload}.{}", URL_SAFE.encode(&bytes))),
        ("the other base64", format!("{head}.{payload}.{}", STANDARD.encode(&bytes))),
        ("a padded header", format!("{head}=.{payload}.{signature}")),
        ("a cut signature", good[..good.len() - 4].to_owned()),
        ("a cut token", good[..good.len() / 2].to_owned()),
        (
            "another token's signature",
            format!(
                "{head}.{payload}.{}",
                changed("user_id", json!("eve")).rsplit('.').next().unwrap()
            ),
        ),
        ("too large", changed("more", json!("x".repeat(8 << 10)))),
    ];
    for alg in ["none", "None", "NONE", "nOnE", "", "ｎｏｎｅ"] {
        all.push(("alg none, signed", bent("alg", json!(alg))));
        let message = [&header("alg", json!(alg)), &text].map(|part| URL_SAFE_NO_PAD.encode(part));
        all.push(("alg none", format!("{}.", message.join("."))));
    }
    let named = |(at, (what, token)): (usize, (&str, String))| (format!("{at}: {what}"), token);
    all.into_iter().enumerate().map(named).collect()
}

#[tokio::test]
async fn forged_tokens_are_refused_wherever_they_are_shown() {
    let (key, other) = (RsaKey::make("k1"), RsaKey::make("k1"));
    let (login, second) = (Issuer::start(&[&key]).await, Issuer::start(&[&other]).await);
    let server = TestServer::builder()
        .env("JWT_SIGNING_ALGORITHM", "ES256")
        .env("JWT_ISSUERS", format!("login={},other={}", login.url(), second.url()))
        .env("RATE_LIMIT_CONNECT", "off")
        .env("RATE_LIMIT_IP", "off")
        .start()
        .await;
    let good = key.sign(&Token::of("ann").claim("iss", "login"));
    assert_eq!(status(&server, &good).await, 200);
    assert_eq!(status(&server, &other.sign(&Token::of("ann").claim("iss", "other"))).await, 200);
    let mut client = server.socket("ann").raw_token(&good).connect().await;
    let own = published(&server).await.pop().unwrap();
    let forged = forged(&key, &other, &own);
    assert!(forged.len() >= 90, "{}", forged.len());
    for (what, token) in &forged {
        let answer = server.api().bearer(token).get(MESSAGES).await;
        answer.refused(401, "unauthorized");
        assert_eq!(answer.status, 401, "REST: {what}");
        let admin = server.as_admin().bearer(token).get("/api/v3/admin/services").await;
        assert_eq!(admin.status, 401, "admin: {what}");
        let stream = server.api().bearer(token).get("/api/v3/stream").await;
        assert_eq!(stream.status, 401, "stream: {what}");
        let bearer = format!("Bearer {token}");
        let refused =
            server.socket("x").raw_token("").header("Authorization", &bearer).refused().await;
        assert_eq!(refused.status(), 401, "socket: {what}");
        client.refresh_with(token).await;
        let (kind, said) = client.next_error().await;
        assert_eq!(kind, "unauthorized", "refresh: {what}: {said}");
        assert!(!said.contains(token.as_str()), "{what}");
    }
    // The socket lives on with its old token, and takes an honest one.
    client.refresh_with(&key.sign(&Token::of("ann").claim("iss", "login").expires_in(7_200))).await;
    client.ping().await;
    assert_eq!(status(&server, &good).await, 200);
    // Names that were made up had the issuers asked no more often than the cool-down lets.
    assert!(login.asked() + second.asked() < 20, "{} {}", login.asked(), second.asked());
    assert!(!server.log().contains(&good), "no token in a log");
}
