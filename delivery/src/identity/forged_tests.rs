//! Tokens that were bent where several keys and issuers could be confused: all are refused, with the
//! same error, by a service that believes its own secret, its own ES256 key, and two other issuers.

use std::{sync::Arc, time::Duration};

use ::metrics::NoopRecorder;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::{
    jwks::{SigningAlgorithm, VerifyingKey},
    signing::{Pair, SealingKey, SigningKeys},
    *,
};
use crate::outbound::Outbound;

const SECRET: &str = "a secret of at least thirty-two bytes, for tests";

struct Scene {
    identity: Identity,
    /// Of the issuer `login`, with the name `k1`.
    rsa: Pair,
    /// Of the issuer `other`, with the name `k1` too.
    ed: Pair,
    _dir: tempfile::TempDir,
}

fn pair(algorithm: SigningAlgorithm) -> Pair {
    Pair::read(algorithm, &Pair::make(algorithm).unwrap()).unwrap()
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let control = Arc::new(Control::open(dir.path()).unwrap());
    let (rsa, ed) = (pair(SigningAlgorithm::Rs256), pair(SigningAlgorithm::EdDsa));
    let file = |name: &str, pair: &Pair| {
        let path = dir.path().join(name);
        let jwk = PublicJwk { kid: Some("k1".to_owned()), ..pair.jwk().clone() };
        std::fs::write(&path, json!({ "keys": [jwk] }).to_string()).unwrap();
        path
    };
    let list = format!(
        "login={},other={}",
        file("login.json", &rsa).display(),
        file("other.json", &ed).display()
    );
    let issuers: TrustedIssuers = list.parse().unwrap();
    let issuers = issuers.open(&Outbound::new(&NoopRecorder).unwrap()).unwrap();
    let (sealing, ttl) = (SealingKey([1; 32]), Duration::from_secs(7_200));
    let algorithm = Some(SigningAlgorithm::Es256);
    let signing = SigningKeys::open(Arc::clone(&control), sealing, algorithm, ttl).unwrap();
    let config = IdentityConfig {
        jwt_secret: SECRET.into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: ttl,
    };
    let identity = Identity::new(config, control).with_keys(signing, issuers);
    Scene { identity, rsa, ed, _dir: dir }
}

fn claims(iss: &str) -> Value {
    let now = crate::clock::now().millis() / 1_000;
    json!({"iss": iss, "sub": "ann", "aud": "client-app", "exp": now + 600, "iat": now})
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// With what a pair makes of it, whatever the header says.
fn by(pair: &Pair, header: &Value, claims: &Value) -> String {
    by_text(pair, &header.to_string(), &claims.to_string())
}

fn by_text(pair: &Pair, header: &str, claims: &str) -> String {
    let message = message(header, claims);
    let signature = pair.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// With an HMAC over it.
fn hmac(secret: &[u8], header: &str, claims: &str) -> String {
    let message = message(header, claims);
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn rs(kid: &str) -> Value {
    json!({"alg": "RS256", "kid": kid})
}

#[test]
fn good_tokens_of_all_issuers_are_believed() {
    let Scene { identity, rsa, ed, .. } = scene();
    let good = [
        by(&rsa, &rs("k1"), &claims("login")),
        by(&rsa, &json!({"alg": "RS256"}), &claims("login")),
        by(&ed, &json!({"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}), &claims("other")),
        hmac(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &claims("message-service").to_string()),
        identity.mint(&MintRequest::new(protocol::UserId::new("ann").unwrap())),
        // A URL in a header is neither followed nor a reason to refuse.
        by(
            &rsa,
            &json!({"alg": "RS256", "kid": "k1", "jku": "https://login.example/keys"}),
            &claims("login"),
        ),
    ];
    for token in good {
        assert_eq!(identity.verify_user(&token).unwrap().user().as_str(), "ann");
    }
}

/// Names of keys that a careless look-up would follow somewhere.
const NAMES: [&str; 12] = [
    "",
    "k2",
    "K1",
    "k1 ",
    "k1\0",
    "../../../../dev/null",
    "/etc/passwd",
    "' UNION SELECT 'secret' --",
    "https://evil.example/jwks.json",
    "k1|cat /etc/passwd",
    "ｋ1",
    "k\u{200b}1",
];

#[tokio::test]
async fn confused_tokens_are_refused() {
    let Scene { identity, rsa, ed, .. } = scene();
    let es = identity.published_keys().pop().unwrap();
    let es_kid = es.kid.clone().unwrap();
    let login = claims("login");
    let text = login.to_string();
    let own = claims("message-service");
    let good = by(&rsa, &rs("k1"), &login);
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let public_jwk = serde_json::to_string(rsa.jwk()).unwrap();
    let modulus = rsa.jwk().n.clone().unwrap();
    let stranger = pair(SigningAlgorithm::Rs256);
    let with = |name: &str, value: Value| {
        let mut header = rs("k1");
        header[name] = value;
        header
    };
    let changed = |name: &str, value: Value| {
        let mut claims = login.clone();
        claims[name] = value;
        by(&rsa, &rs("k1"), &claims)
    };
    let twice = |claim: &str| text.replacen('{', &format!("{{{claim},"), 1);
    let no_pad = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let es_own = json!({"alg": "ES256", "kid": es_kid});

    let mut forged: Vec<(String, String)> = vec![
        (
            "RS→HS with the JWK as the secret".into(),
            hmac(public_jwk.as_bytes(), r#"{"alg":"HS256","kid":"k1"}"#, &text),
        ),
        (
            "RS→HS with the modulus as the secret".into(),
            hmac(modulus.as_bytes(), r#"{"alg":"HS256","kid":"k1"}"#, &text),
        ),
        (
            "RS→HS with the modulus' bytes".into(),
            hmac(
                &URL_SAFE_NO_PAD.decode(&modulus).unwrap(),
                r#"{"alg":"HS256","kid":"k1"}"#,
                &text,
            ),
        ),
        (
            "RS→HS for ourselves".into(),
            hmac(public_jwk.as_bytes(), r#"{"alg":"HS256"}"#, &own.to_string()),
        ),
        (
            "ES→HS with our own public key".into(),
            hmac(
                serde_json::to_string(&es).unwrap().as_bytes(),
                r#"{"alg":"HS256"}"#,
                &own.to_string(),
            ),
        ),
        (
            "ES→HS with our point".into(),
            hmac(
                &URL_SAFE_NO_PAD.decode(es.x.as_deref().unwrap()).unwrap(),
                r#"{"alg":"HS256"}"#,
                &own.to_string(),
            ),
        ),
        (
            "our secret for another issuer".into(),
            hmac(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &text),
        ),
        ("an empty secret".into(), hmac(b"", r#"{"alg":"HS256"}"#, &own.to_string())),
        (
            "RS256 over an HMAC".into(),
            hmac(SECRET.as_bytes(), r#"{"alg":"RS256","kid":"k1"}"#, &text),
        ),
        ("an issuer's key for ourselves".into(), by(&rsa, &rs("k1"), &own)),
        (
            "another issuer's key of the same name".into(),
            by(&ed, &json!({"alg": "EdDSA", "kid": "k1"}), &login),
        ),
        ("the same, the other way".into(), by(&rsa, &rs("k1"), &claims("other"))),
        ("an issuer nobody named".into(), by(&rsa, &rs("k1"), &claims("evil"))),
        ("an issuer with a slash more".into(), by(&rsa, &rs("k1"), &claims("login/"))),
        ("an issuer in capitals".into(), by(&rsa, &rs("k1"), &claims("Login"))),
        ("a list of issuers".into(), changed("iss", json!(["login"]))),
        ("our ES256 name over an RSA signature".into(), by(&rsa, &es_own, &own)),
        ("our ES256 name over an Ed25519 signature".into(), by(&ed, &es_own, &own)),
        (
            "ECDSA with r = s = 0".into(),
            format!(
                "{}.{}",
                message(&es_own.to_string(), &own.to_string()),
                URL_SAFE_NO_PAD.encode([0; 64])
            ),
        ),
        (
            "ECDSA with r = s = 1".into(),
            format!(
                "{}.{}",
                message(&es_own.to_string(), &own.to_string()),
                URL_SAFE_NO_PAD.encode({
                    let mut s = [0; 64];
                    s[31] = 1;
                    s[63] = 1;
                    s
                })
            ),
        ),
        (
            "an RSA signature of zeros".into(),
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 256])),
        ),
        (
            "an RSA signature of one".into(),
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([&[0; 255][..], &[1]].concat())),
        ),
        (
            "an RSA signature with a zero before it".into(),
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([&[0][..], &no_pad].concat())),
        ),
        (
            "an RSA signature with a byte behind it".into(),
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([&no_pad[..], &[0]].concat())),
        ),
        ("a stranger's key".into(), by(&stranger, &rs("k1"), &login)),
        (
            "a stranger's key in jwk".into(),
            by(&stranger, &with("jwk", serde_json::to_value(stranger.jwk()).unwrap()), &login),
        ),
        (
            "a stranger's key at jku".into(),
            by(&stranger, &with("jku", json!("http://127.0.0.1:9/keys")), &login),
        ),
        (
            "a stranger's certificate at x5u".into(),
            by(&stranger, &with("x5u", json!("http://127.0.0.1:9/cert")), &login),
        ),
        (
            "a stranger's certificate in x5c".into(),
            by(&stranger, &with("x5c", json!(["MIIB"])), &login),
        ),
        ("PS256".into(), by(&rsa, &json!({"alg": "PS256", "kid": "k1"}), &login)),
        ("RS512".into(), by(&rsa, &json!({"alg": "RS512", "kid": "k1"}), &login)),
        ("rs256".into(), by(&rsa, &json!({"alg": "rs256", "kid": "k1"}), &login)),
        ("alg a list".into(), by(&rsa, &json!({"alg": ["RS256"], "kid": "k1"}), &login)),
        ("alg null".into(), by(&rsa, &json!({"alg": null, "kid": "k1"}), &login)),
        ("kid a number".into(), by(&rsa, &json!({"alg": "RS256", "kid": 1}), &login)),
        ("kid a list".into(), by(&rsa, &json!({"alg": "RS256", "kid": ["k1"]}), &login)),
        ("kid huge".into(), by(&rsa, &rs(&"k".repeat(4_000)), &login)),
        ("alg twice".into(), by_text(&rsa, r#"{"alg":"none","alg":"RS256","kid":"k1"}"#, &text)),
        ("kid twice".into(), by_text(&rsa, r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#, &text)),
        (
            "alg twice, spelled another way".into(),
            by_text(&rsa, r#"{"alg":"RS256","\u0061lg":"none","kid":"k1"}"#, &text),
        ),
        ("crit".into(), by(&rsa, &with("crit", json!(["b64"])), &login)),
        ("crit empty".into(), by(&rsa, &with("crit", json!([])), &login)),
        ("b64 false".into(), by(&rsa, &with("b64", json!(false)), &login)),
        ("zip".into(), by(&rsa, &with("zip", json!("DEF")), &login)),
        ("enc".into(), by(&rsa, &with("enc", json!("A256GCM")), &login)),
        ("typ of a logout".into(), by(&rsa, &with("typ", json!("logout+jwt")), &login)),
        ("typ of an id of ours".into(), by(&rsa, &with("typ", json!("secevent+jwt")), &login)),
        ("sub twice".into(), by_text(&rsa, &rs("k1").to_string(), &twice(r#""sub":"admin""#))),
        ("exp twice".into(), by_text(&rsa, &rs("k1").to_string(), &twice(r#""exp":99999999999"#))),
        (
            "iss twice".into(),
            by_text(&rsa, &rs("k1").to_string(), &twice(r#""iss":"message-service""#)),
        ),
        ("aud twice".into(), by_text(&rsa, &rs("k1").to_string(), &twice(r#""aud":"x""#))),
        (
            "roles twice".into(),
            by_text(&rsa, &rs("k1").to_string(), &twice(r#""roles":[],"roles":["system_admin"]"#)),
        ),
        (
            "a BOM before the claims".into(),
            by_text(&rsa, &rs("k1").to_string(), &format!("\u{feff}{text}")),
        ),
        ("a BOM before the header".into(), by_text(&rsa, &format!("\u{feff}{}", rs("k1")), &text)),
        (
            "something behind the claims".into(),
            by_text(&rsa, &rs("k1").to_string(), &format!("{text}{{}}")),
        ),
        (
            "a NUL behind the claims".into(),
            by_text(&rsa, &rs("k1").to_string(), &format!("{text}\0")),
        ),
        (
            "a deep header".into(),
            by_text(
                &rsa,
                &format!(r#"{{"alg":{}"RS256"{}}}"#, "[".repeat(2_000), "]".repeat(2_000)),
                &text,
            ),
        ),
        (
            "a deep sub".into(),
            by_text(
                &rsa,
                &rs("k1").to_string(),
                &text.replace(r#""ann""#, &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
            ),
        ),
        ("exp a text".into(), changed("exp", json!("99999999999"))),
        ("exp huge".into(), changed("exp", json!(1e300))),
        ("exp negative".into(), changed("exp", json!(-1))),
        ("exp a list".into(), changed("exp", json!([99_999_999_999_u64]))),
        ("nbf huge and text".into(), changed("nbf", json!("1e9"))),
        ("nbf negative".into(), changed("nbf", json!(-5))),
        ("another aud".into(), changed("aud", json!("another-app"))),
        ("sub with a direction mark's NUL".into(), changed("sub", json!("a\u{0}\u{202e}b"))),
        ("sub of 129 bytes".into(), changed("sub", json!("张".repeat(43)))),
        ("no signature".into(), format!("{head}.{payload}.")),
        ("two parts".into(), format!("{head}.{payload}")),
        ("four parts".into(), format!("{good}.{signature}")),
        ("five parts, as a JWE".into(), format!("{good}.a.b")),
        (
            "a JWE around it".into(),
            format!(
                "{}.a.b.{}.c",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM","cty":"JWT"}"#),
                URL_SAFE_NO_PAD.encode(&good)
            ),
        ),
        (
            "a token in a token".into(),
            by_text(&rsa, r#"{"alg":"RS256","kid":"k1","cty":"JWT"}"#, &good),
        ),
        ("a dot more".into(), format!("{head}..{payload}.{signature}")),
        ("a space before".into(), format!(" {good}")),
        ("a line break behind".into(), format!("{good}\n")),
        ("a tab within".into(), format!("{head}.{payload}.\t{signature}")),
        ("padding".into(), format!("{head}.{payload}.{}", URL_SAFE.encode(&no_pad))),
        ("a padded header".into(), format!("{head}=.{payload}.{signature}")),
        ("the other base64".into(), format!("{head}.{payload}.{}", STANDARD.encode(&no_pad))),
        ("base64 with bits to spare".into(), spare_bits(&good)),
        ("a cut signature".into(), good[..good.len() - 8].to_owned()),
        ("a cut token".into(), good[..good.len() / 3].to_owned()),
        (
            "another token's signature".into(),
            format!(
                "{head}.{payload}.{}",
                changed("sub", json!("eve")).rsplit('.').next().unwrap()
            ),
        ),
        ("too large".into(), changed("more", json!("x".repeat(TOKEN_BYTES_MAX)))),
        ("letters beyond ASCII".into(), format!("{head}.{payload}.ä{signature}")),
    ];
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "null", "ＮＯＮＥ"] {
        let header = json!({"alg": alg, "kid": "k1"});
        forged.push((format!("alg {alg:?}"), by(&rsa, &header, &login)));
        let message = message(&header.to_string(), &text);
        forged.push((format!("alg {alg:?}, unsigned"), format!("{message}.")));
    }
    for name in NAMES {
        forged.push((format!("kid {name:?}"), by(&rsa, &rs(name), &login)));
    }
    assert!(forged.len() >= 100, "{}", forged.len());
    assert!(identity.verify_user(&good).is_ok());
    for (what, token) in &forged {
        for _ in 0..2 {
            match identity.verify_user(token) {
                Err(AuthError::BadToken) => {}
                other => panic!("{what}: {:?}", other.map(|user| user.inbox)),
            }
            match identity.verify_user_shared(token).await {
                Err(AuthError::BadToken) => {}
                other => panic!("{what}, shared: {:?}", other.map(|user| user.inbox.clone())),
            }
        }
        assert!(matches!(identity.verify_admin(token).await, Err(AuthError::BadToken)), "{what}");
    }
}

/// The last character with a bit set that carries nothing: 256 bytes leave four of them.
fn spare_bits(token: &str) -> String {
    let (rest, last) = token.split_at(token.len() - 1);
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = DIGITS.find(last).unwrap();
    format!("{rest}{}", &DIGITS[at + 1..at + 2])
}

#[test]
fn a_weak_key_of_an_issuer_is_none() {
    let weak = include_str!("jwks/testdata/weak.pem");
    assert!(VerifyingKey::of_pem(weak.as_bytes()).is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weak.pem");
    std::fs::write(&path, weak).unwrap();
    let issuers: TrustedIssuers = format!("login={}", path.display()).parse().unwrap();
    let opened = issuers.open(&Outbound::new(&NoopRecorder).unwrap());
    assert!(matches!(opened, Err(IssuerError::Keys { .. })));
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_had_is_not_guessed_about() {
    // Nobody listens on the port of "discard".
    let Scene { rsa, _dir, .. } = scene();
    let control = Arc::new(Control::open(_dir.path()).unwrap());
    let signing =
        SigningKeys::open(Arc::clone(&control), SealingKey([1; 32]), None, Duration::ZERO).unwrap();
    let issuers: TrustedIssuers = "login=http://127.0.0.1:9/keys".parse().unwrap();
    let issuers = issuers.open(&Outbound::new(&NoopRecorder).unwrap()).unwrap();
    let config = IdentityConfig {
        jwt_secret: SECRET.into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: Duration::from_secs(7_200),
    };
    let identity = Identity::new(config, control).with_keys(signing, issuers);
    let token = by(&rsa, &rs("k1"), &claims("login"));
    assert!(matches!(identity.verify_user_shared(&token).await, Err(AuthError::NoKeys)));
    assert!(matches!(identity.verify_user(&token), Err(AuthError::NoKeys)));
    // Others are not touched by it.
    let own = identity.mint(&MintRequest::new(protocol::UserId::new("ann").unwrap()));
    assert!(identity.verify_user_shared(&own).await.is_ok());
}
