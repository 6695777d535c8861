//! Which keys are believed, which one is chosen, and when they are fetched.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use metrics::NoopRecorder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{
    super::{jws::Jws, signing::Pair},
    remote::Times,
    *,
};
use crate::outbound::{Outbound, OutboundUrl};

fn pair(algorithm: SigningAlgorithm) -> Pair {
    Pair::read(algorithm, &Pair::make(algorithm).unwrap()).unwrap()
}

fn jwk(pair: &Pair) -> Value {
    serde_json::to_value(pair.jwk()).unwrap()
}

fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::of_json(json!({"keys": keys}).to_string().as_bytes())
}

fn signed(pair: &Pair, header: &Value) -> String {
    let parts = [header.to_string(), json!({"iss": "them", "sub": "ann"}).to_string()];
    let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).unwrap());
    format!("{message}.{signature}")
}

/// A token with the header that the pair's own would have.
fn token(pair: &Pair) -> String {
    signed(pair, &json!({"alg": pair.jwk().alg, "kid": pair.jwk().kid}))
}

fn verifies(set: &KeySet, token: &str) -> bool {
    Jws::read(token).is_ok_and(|jws| set.choose(&jws).is_some_and(|key| jws.verify(key).is_ok()))
}

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            jwk.as_object_mut().unwrap().remove(name);
        } else {
            jwk[name] = value.clone();
        }
    }
    jwk
}

#[test]
fn keys_of_every_algorithm_check_what_they_signed_and_nothing_else() {
    let pairs: Vec<Pair> = SigningAlgorithm::ALL.iter().map(|alg| pair(*alg)).collect();
    let set = set(&pairs.iter().map(jwk).collect::<Vec<_>>()).unwrap();
    for one in &pairs {
        assert!(verifies(&set, &token(one)));
        let alg = one.jwk().alg.as_deref().unwrap();
        // Without a name it is the only one of its algorithm.
        assert!(verifies(&set, &signed(one, &json!({"alg": alg}))));
        for other in &pairs {
            let (other_alg, other_kid) = (&other.jwk().alg, &other.jwk().kid);
            if other_alg.as_deref() != Some(alg) {
                assert!(!verifies(
                    &set,
                    &signed(one, &json!({"alg": other_alg, "kid": one.kid()}))
                ));
                assert!(!verifies(
                    &set,
                    &signed(one, &json!({"alg": other_alg, "kid": other_kid}))
                ));
                assert!(!verifies(&set, &signed(one, &json!({"alg": alg, "kid": other_kid}))));
            }
        }
        for alg in ["none", "HS256", "PS256", "ES384", "RS512", "", "eddsa", "rs256"] {
            assert!(!verifies(&set, &signed(one, &json!({"alg": alg, "kid": one.kid()}))), "{alg}");
        }
        let stranger = pair(alg.parse().unwrap());
        assert!(!verifies(&set, &signed(&stranger, &json!({"alg": alg, "kid": one.kid()}))));
        assert!(!verifies(&set, &token(&stranger)));
    }
}

#[test]
fn keys_that_must_not_check_anything_are_left_out() {
    let (rsa, ec, ed) = (
        pair(SigningAlgorithm::Rs256),
        pair(SigningAlgorithm::Es256),
        pair(SigningAlgorithm::EdDsa),
    );
    let (rsa, ec, ed) = (jwk(&rsa), jwk(&ec), jwk(&ed));
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let even = URL_SAFE_NO_PAD.encode([0xfe; 256]);
    let huge = URL_SAFE_NO_PAD.encode([0xff; 1_025]);
    let leading = URL_SAFE_NO_PAD.encode([&[0; 128][..], &[0xff; 128]].concat());
    for (why, key, problem) in [
        ("to encrypt", with(rsa.clone(), json!({"use": "enc"})), KeyProblem::OtherUse),
        ("to sign", with(ec.clone(), json!({"key_ops": ["sign"]})), KeyProblem::OtherUse),
        ("for PSS", with(rsa.clone(), json!({"alg": "PS256"})), KeyProblem::NotUsed),
        ("RSA for HMAC", with(rsa.clone(), json!({"alg": "HS256"})), KeyProblem::NotUsed),
        ("RSA for ECDSA", with(rsa.clone(), json!({"alg": "ES256"})), KeyProblem::NotUsed),
        ("EC for RSA", with(ec.clone(), json!({"alg": "RS256"})), KeyProblem::NotUsed),
        ("a secret", json!({"kty": "oct", "k": "AAAA", "alg": "HS256"}), KeyProblem::NotUsed),
        ("an unknown kind", json!({"kty": "AKP"}), KeyProblem::NotUsed),
        ("the wrong curve", with(ec.clone(), json!({"crv": "P-384"})), KeyProblem::NotUsed),
        ("the Bitcoin curve", with(ec.clone(), json!({"crv": "secp256k1"})), KeyProblem::NotUsed),
        ("X25519", with(ed.clone(), json!({"crv": "X25519"})), KeyProblem::NotUsed),
        ("no curve", with(ec.clone(), json!({"crv": null})), KeyProblem::NotUsed),
        ("weak RSA", with(rsa.clone(), json!({"n": short})), KeyProblem::Size),
        ("weak behind zeros", with(rsa.clone(), json!({"n": leading})), KeyProblem::Size),
        ("huge RSA", with(rsa.clone(), json!({"n": huge})), KeyProblem::Size),
        ("no modulus", with(rsa.clone(), json!({"n": null})), KeyProblem::Numbers),
        ("even modulus", with(rsa.clone(), json!({"n": even})), KeyProblem::Numbers),
        ("exponent 1", with(rsa.clone(), json!({"e": "AQ"})), KeyProblem::Numbers),
        ("exponent 2", with(rsa.clone(), json!({"e": "Ag"})), KeyProblem::Numbers),
        ("exponent 0", with(rsa.clone(), json!({"e": "AA"})), KeyProblem::Numbers),
        ("a huge exponent", with(rsa.clone(), json!({"e": "AQAAAAE"})), KeyProblem::Numbers),
        ("no base64", with(rsa.clone(), json!({"n": "a+b/"})), KeyProblem::Numbers),
        ("off the curve", with(ec.clone(), json!({"y": ec["x"]})), KeyProblem::Numbers),
        ("half a point", with(ec.clone(), json!({"y": null})), KeyProblem::Numbers),
        ("a short point", with(ec.clone(), json!({"x": "AQAB"})), KeyProblem::Numbers),
        ("a short Ed25519", with(ed.clone(), json!({"x": "AQAB"})), KeyProblem::Numbers),
        ("an empty name", with(ed.clone(), json!({"kid": ""})), KeyProblem::Kid),
        ("a huge name", with(ed.clone(), json!({"kid": "k".repeat(257)})), KeyProblem::Kid),
    ] {
        let read = VerifyingKey::of_jwk(&serde_json::from_value(key.clone()).unwrap());
        assert_eq!(read.err(), Some(problem), "{why}");
        assert!(matches!(set(std::slice::from_ref(&key)), Err(KeySetError::Empty)), "{why}");
        assert!(set(&[key, ed.clone()]).is_ok(), "{why}: the others are not touched");
    }
    // What is no key at all says nothing of the others either.
    for strange in [json!(1), json!(null), json!("RSA"), json!({}), json!({"kty": 5}), json!([])] {
        assert!(set(&[strange, ed.clone()]).is_ok());
    }
    assert!(
        VerifyingKey::of_jwk(&serde_json::from_value(with(ed, json!({"alg": "Ed25519"}))).unwrap())
            .is_ok()
    );
}

#[test]
fn what_is_no_set_is_none() {
    for text in ["", "{", "[]", "null", "{}", r#"{"keys":{}}"#, r#"{"keys":"x"}"#] {
        assert!(matches!(KeySet::of_json(text.as_bytes()), Err(KeySetError::NotASet(_))), "{text}");
    }
    assert!(matches!(set(&[]), Err(KeySetError::Empty)));
    let (a, b) = (pair(SigningAlgorithm::EdDsa), pair(SigningAlgorithm::EdDsa));
    let many: Vec<Value> =
        (0..=KEYS_MAX).map(|n| with(jwk(&a), json!({"kid": n.to_string()}))).collect();
    let many = set(&many).unwrap();
    assert!(verifies(
        &many,
        &signed(&a, &json!({"alg": "EdDSA", "kid": (KEYS_MAX - 1).to_string()}))
    ));
    assert!(!verifies(&many, &signed(&a, &json!({"alg": "EdDSA", "kid": KEYS_MAX.to_string()}))));
    // Of two with one name the first counts; of two without, neither may be guessed.
    let named = |pair: &Pair| with(jwk(pair), json!({"kid": "k"}));
    let twins = set(&[named(&a), named(&b)]).unwrap();
    let header = json!({"alg": "EdDSA", "kid": "k"});
    assert!(verifies(&twins, &signed(&a, &header)) && !verifies(&twins, &signed(&b, &header)));
    let nameless = |pair: &Pair| with(jwk(pair), json!({"kid": null}));
    let two = set(&[nameless(&a), nameless(&b)]).unwrap();
    assert!(!verifies(&two, &signed(&a, &json!({"alg": "EdDSA"}))));
    let one = set(&[nameless(&a)]).unwrap();
    assert!(verifies(&one, &signed(&a, &json!({"alg": "EdDSA"}))) && verifies(&one, &token(&a)));
}

#[test]
fn a_key_in_pem_is_told_by_what_is_inside() {
    for (alg, pem) in [
        ("RS256", include_str!("testdata/rsa.pem")),
        ("ES256", include_str!("testdata/ec.pem")),
        ("EdDSA", include_str!("testdata/ed.pem")),
    ] {
        assert_eq!(VerifyingKey::of_pem(pem.as_bytes()).unwrap().word(), alg);
        assert!(KeySet::of_file(format!("\n{pem}").as_bytes()).is_ok());
    }
    let private = base64::engine::general_purpose::STANDARD
        .encode(Pair::make(SigningAlgorithm::EdDsa).unwrap());
    let private = format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n");
    for bad in [
        &private,
        "",
        "hello",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        include_str!("testdata/weak.pem"),
        include_str!("testdata/p384.pem"),
    ] {
        assert!(KeySet::of_file(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// An issuer whose answers the test says.
struct Issuer {
    address: SocketAddr,
    answers: Arc<Mutex<(u16, String, String)>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let discovery = json!({
            "issuer": "them",
            "jwks_uri": format!("http://{address}/keys"),
        });
        let answers = Arc::new(Mutex::new((200, String::new(), discovery.to_string())));
        let asked = Arc::<AtomicUsize>::default();
        let (said, counted) = (Arc::clone(&answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = socket.read(&mut request).await.unwrap_or(0);
                let (status, keys, discovery) = said.lock().clone();
                let body =
                    if request[..length].starts_with(b"GET /.well-known/openid-configuration ") {
                        discovery
                    } else {
                        counted.fetch_add(1, Ordering::SeqCst);
                        keys
                    };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, answers, asked, task }
    }

    fn says(&self, keys: &[&Pair]) {
        let keys: Vec<Value> = keys.iter().map(|pair| jwk(pair)).collect();
        let mut answers = self.answers.lock();
        (answers.0, answers.1) = (200, json!({"keys": keys}).to_string());
    }

    fn fails(&self) {
        self.answers.lock().0 = 503;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> OutboundUrl {
        OutboundUrl::configured(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn keys(&self, times: Times) -> Arc<IssuerKeys> {
        let outbound = Outbound::new(&NoopRecorder).unwrap();
        Arc::new(IssuerKeys::at(self.url("/keys"), outbound).with_times(times))
    }
}

const NEVER: Duration = Duration::from_secs(3_600);

fn times(lifetime: Duration, cool_down: Duration, stale_max: Duration) -> Times {
    Times { lifetime, cool_down, stale_max }
}

async fn soon(mut holds: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("not in time");
}

async fn good(keys: &Arc<IssuerKeys>, token: &str) -> bool {
    keys.claims::<Value>(token).await.is_ok()
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_a_new_name() {
    let (old, new) = (pair(SigningAlgorithm::Es256), pair(SigningAlgorithm::EdDsa));
    let issuer = Issuer::start().await;
    issuer.says(&[&old]);
    let keys = issuer.keys(times(NEVER, Duration::ZERO, NEVER));
    assert_eq!(issuer.asked(), 0, "nothing is fetched before it is needed");
    assert!(good(&keys, &token(&old)).await && good(&keys, &token(&old)).await);
    assert_eq!(issuer.asked(), 1);
    issuer.says(&[&old, &new]);
    assert!(good(&keys, &token(&new)).await && good(&keys, &token(&old)).await);
    assert_eq!(issuer.asked(), 2);
    // A bad signature under a known name is no reason to ask.
    let forged = signed(&new, &json!({"alg": "ES256", "kid": old.kid()}));
    assert!(matches!(keys.claims::<Value>(&forged).await, Err(TokenProblem::Bad(_))));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn made_up_names_do_not_hammer_the_issuer() {
    let known = pair(SigningAlgorithm::EdDsa);
    let issuer = Issuer::start().await;
    issuer.says(&[&known]);
    let keys = issuer.keys(times(NEVER, NEVER, NEVER));
    assert!(good(&keys, &token(&known)).await);
    for kid in ["../../etc/passwd", "' OR 1=1 --", "https://evil.example/keys", "k", "\0"] {
        let forged = signed(&known, &json!({"alg": "EdDSA", "kid": kid}));
        assert!(matches!(keys.claims::<Value>(&forged).await, Err(TokenProblem::Bad(_))));
    }
    assert_eq!(issuer.asked(), 1);
    // Nor do many at once.
    let keys = issuer.keys(times(NEVER, Duration::ZERO, NEVER));
    let token = token(&known);
    let all = futures_util::future::join_all((0..32).map(|_| good(&keys, &token))).await;
    assert!(all.into_iter().all(|good| good));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn known_keys_outlive_their_issuer_for_a_while() {
    let known = pair(SigningAlgorithm::EdDsa);
    let issuer = Issuer::start().await;
    issuer.fails();
    let keys = issuer.keys(times(Duration::ZERO, Duration::ZERO, NEVER));
    let unknown = keys.claims::<Value>(&token(&known)).await;
    assert!(matches!(unknown, Err(TokenProblem::NoKeys(KeysError::Status(503)))));
    issuer.says(&[&known]);
    assert!(good(&keys, &token(&known)).await);
    for broken in ["", "{", r#"{"keys":[]}"#] {
        let asked = issuer.asked();
        issuer.answers.lock().1 = broken.to_owned();
        // It is fetched behind the back of who asks, and thrown away.
        soon(async || {
            assert!(good(&keys, &token(&known)).await);
            issuer.asked() > asked
        })
        .await;
        assert!(good(&keys, &token(&known)).await);
    }
    issuer.fails();
    assert!(good(&keys, &token(&known)).await);
    issuer.says(&[&known]);
    let forgetful = issuer.keys(times(Duration::ZERO, Duration::ZERO, Duration::ZERO));
    assert!(!good(&forgetful, &token(&known)).await, "older than keys may get");
}

#[tokio::test]
async fn a_key_that_is_withdrawn_counts_no_more() {
    let (old, new) = (pair(SigningAlgorithm::EdDsa), pair(SigningAlgorithm::EdDsa));
    let issuer = Issuer::start().await;
    issuer.says(&[&old]);
    let keys = issuer.keys(times(Duration::ZERO, Duration::ZERO, NEVER));
    assert!(good(&keys, &token(&old)).await);
    issuer.says(&[&old, &new]);
    assert!(good(&keys, &token(&new)).await);
    assert_eq!(keys.withdrawn(), 0, "one that is added withdraws nothing");
    issuer.says(&[&new]);
    assert!(good(&keys, &token(&new)).await);
    soon(async || !good(&keys, &token(&old)).await).await;
    assert_eq!(keys.withdrawn(), 1);
}

#[tokio::test]
async fn an_issuer_may_say_where_its_keys_are_and_not_more() {
    let known = pair(SigningAlgorithm::Rs256);
    let issuer = Issuer::start().await;
    issuer.says(&[&known]);
    let discovered = |name: &str| {
        let outbound = Outbound::new(&NoopRecorder).unwrap();
        let keys = IssuerKeys::discovered(name.to_owned(), issuer.url(""), outbound);
        Arc::new(keys.with_times(times(NEVER, Duration::ZERO, NEVER)))
    };
    assert!(good(&discovered("them"), &token(&known)).await);
    let other = discovered("them/").claims::<Value>(&token(&known)).await;
    assert!(matches!(other, Err(TokenProblem::NoKeys(KeysError::OtherIssuer))));
    for inside in
        ["http://127.0.0.2:1/keys", "http://10.0.0.1/", "https://169.254.169.254/", "file:///k"]
    {
        issuer.answers.lock().2 = json!({"issuer": "them", "jwks_uri": inside}).to_string();
        let refused = discovered("them").claims::<Value>(&token(&known)).await;
        assert!(matches!(refused, Err(TokenProblem::NoKeys(KeysError::Url(_)))), "{inside}");
    }
    assert_eq!(issuer.asked(), 1);
}
