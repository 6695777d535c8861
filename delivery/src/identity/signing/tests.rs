//! One key after another, on one node and on two that share the control data.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::UserId;

use super::{
    super::{
        AuthError, Identity, IdentityConfig, Issuers, MintRequest, UserCaller,
        jwks::{KeySet, SigningAlgorithm},
        jws::Jws,
    },
    *,
};
use crate::control::{Control, SIGNING_KEYS_MAX};

const HOUR: Duration = Duration::from_secs(3_600);

struct Node {
    control: Arc<Control>,
    keys: Arc<SigningKeys>,
    identity: Identity,
}

fn node(dir: &Path, algorithm: Option<SigningAlgorithm>, sealing: u8) -> Node {
    let control = Arc::new(Control::open(dir).unwrap());
    let sealing = SealingKey([sealing; 32]);
    let keys = SigningKeys::open(Arc::clone(&control), sealing, algorithm, HOUR).unwrap();
    let config = IdentityConfig {
        jwt_secret: "a secret of at least thirty-two bytes, for tests".into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned(), "another-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: HOUR,
    };
    let identity = Identity::new(config, Arc::clone(&control));
    let identity = identity.with_keys(Arc::clone(&keys), Issuers::default());
    Node { control, keys, identity }
}

impl Node {
    fn mint(&self) -> String {
        self.identity.mint(&MintRequest::new(UserId::new("ann").unwrap()))
    }

    fn believes(&self, token: &str) -> bool {
        match self.identity.verify_user(token) {
            Ok(user) => user.user().as_str() == "ann",
            Err(AuthError::BadToken) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    fn kid(&self) -> String {
        self.keys.list().unwrap().into_iter().find(|key| key.signs).unwrap().kid
    }
}

#[test]
fn what_is_signed_is_believed_here_and_by_the_published_keys() {
    for algorithm in SigningAlgorithm::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path(), Some(*algorithm), 1);
        let token = node.mint();
        assert!(node.believes(&token));
        let published = serde_json::json!({ "keys": node.identity.published_keys() }).to_string();
        for private in ["\"d\"", "\"p\"", "\"k\""] {
            assert!(!published.contains(private), "{published}");
        }
        let set = KeySet::of_json(published.as_bytes()).unwrap();
        let jws = Jws::read(&token).unwrap();
        assert_eq!((jws.alg(), jws.kid()), (algorithm.as_str(), Some(&*node.kid())));
        assert!(jws.verify(set.choose(&jws).unwrap()).is_ok());
    }
    let dir = tempfile::tempdir().unwrap();
    let secret = node(dir.path(), None, 1);
    assert!(secret.believes(&secret.mint()) && secret.identity.published_keys().is_empty());
    assert!(matches!(secret.keys.rotate(HOUR, HOUR), Err(SigningError::SharedSecret)));
}

#[test]
fn a_rotation_overlaps_and_a_retired_key_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), Some(SigningAlgorithm::Es256), 1);
    let (first, old) = (node.kid(), node.mint());
    // The next is published, and does not sign yet.
    let next = node.keys.rotate(HOUR, HOUR).unwrap();
    assert_eq!((node.kid(), node.identity.published_keys().len()), (first.clone(), 2));
    assert!(matches!(Jws::read(&node.mint()).unwrap().kid(), Some(kid) if kid == first));
    let now = node.keys.rotate(Duration::ZERO, HOUR).unwrap();
    assert_eq!(node.kid(), now);
    let new = node.mint();
    assert!(node.believes(&old) && node.believes(&new), "both check");
    let listed = node.keys.list().unwrap();
    let ends = |kid: &str| listed.iter().find(|key| key.kid == kid).unwrap().ends_at;
    assert!(ends(&first).is_some() && ends(&now).is_none());

    node.keys.retire(&first).unwrap();
    assert!(!node.believes(&old) && node.believes(&new));
    assert!(matches!(node.keys.retire(&first), Err(SigningError::NotFound)));
    node.keys.retire(&next).unwrap();
    assert!(matches!(node.keys.retire(&now), Err(SigningError::LastOne)));
    assert_eq!(node.identity.published_keys().len(), 1);
}

#[tokio::test]
async fn a_token_in_memory_ends_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), Some(SigningAlgorithm::EdDsa), 1);
    let (first, token) = (node.kid(), node.mint());
    for _ in 0..2 {
        node.identity.verify_user_shared(&token).await.unwrap();
    }
    node.keys.rotate(Duration::ZERO, HOUR).unwrap();
    node.identity.verify_user_shared(&token).await.unwrap();
    node.keys.retire(&first).unwrap();
    assert!(matches!(node.identity.verify_user_shared(&token).await, Err(AuthError::BadToken)));
}

#[test]
fn keys_end_by_themselves_when_their_overlap_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), Some(SigningAlgorithm::EdDsa), 1);
    let token = node.mint();
    node.keys.rotate(Duration::ZERO, Duration::ZERO).unwrap();
    soon(|| {
        node.keys.list().unwrap();
        !node.believes(&token)
    });
    assert_eq!(node.keys.list().unwrap().len(), 1);
}

#[test]
fn other_nodes_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        node(dir.path(), Some(SigningAlgorithm::Es256), 1),
        node(dir.path(), Some(SigningAlgorithm::Es256), 1),
    );
    assert_eq!(a.kid(), b.kid(), "the second finds the key of the first");
    let old = a.mint();
    assert!(b.believes(&old));
    let first = a.kid();
    a.keys.rotate(Duration::ZERO, HOUR).unwrap();
    let new = a.mint();
    soon(|| b.believes(&new));
    a.keys.retire(&first).unwrap();
    soon(|| !b.believes(&old));
    assert!(b.believes(&b.mint()));
}

#[test]
fn a_retired_key_is_heard_of_and_voids_what_was_checked_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        node(dir.path(), Some(SigningAlgorithm::Es256), 1),
        node(dir.path(), Some(SigningAlgorithm::Es256), 1),
    );
    let heard = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&heard);
    b.identity.on_key_withdrawn(move || {
        counting.fetch_add(1, Ordering::Relaxed);
    });
    let old = b.identity.verify_user(&a.mint()).unwrap();
    let first = a.kid();
    a.keys.rotate(Duration::ZERO, HOUR).unwrap();
    soon(|| b.keys.published().len() == 2);
    let new = b.identity.verify_user(&a.mint()).unwrap();
    let by_secret = UserCaller { signed_by: None, ..new.clone() };
    for user in [&old, &new, &by_secret] {
        b.identity.check_login(user).unwrap();
    }
    assert_eq!(heard.load(Ordering::Relaxed), 0, "one that is added withdraws nothing");
    a.keys.retire(&first).unwrap();
    soon(|| heard.load(Ordering::Relaxed) == 1);
    assert!(matches!(b.identity.check_login(&old), Err(AuthError::Revoked)));
    b.identity.check_login(&new).unwrap();
    b.identity.check_login(&by_secret).unwrap();
}

#[test]
fn a_key_of_some_age_is_replaced_by_one_of_the_nodes() {
    const AGE: Duration = Duration::from_secs(2);
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        node(dir.path(), Some(SigningAlgorithm::EdDsa), 1),
        node(dir.path(), Some(SigningAlgorithm::EdDsa), 1),
    );
    for node in [&a, &b] {
        node.keys.rotate_by_age(AGE, HOUR);
    }
    let first = a.kid();
    soon(|| a.keys.list().unwrap().len() == 3);
    let keys = b.keys.list().unwrap();
    for pair in keys.windows(2) {
        let apart = pair[1].created_at.millis() - pair[0].created_at.millis();
        assert!(apart >= 2_000, "two nodes made one at once: {keys:?}");
        assert!(pair[0].ends_at.is_some(), "the older one ends");
        let lead = pair[1].signs_from.millis() - pair[1].created_at.millis();
        assert_eq!(lead, 300_000, "it is published before it signs");
    }
    assert_eq!(b.kid(), first, "no other key signs before whoever keeps the set can have it");
}

#[test]
fn another_secret_or_algorithm_makes_a_new_key_and_old_tokens_live_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(dir.path(), Some(SigningAlgorithm::Rs256), 1);
    let token = first.mint();
    drop(first);
    for (algorithm, sealing) in [(SigningAlgorithm::Rs256, 2), (SigningAlgorithm::EdDsa, 2)] {
        let node = node(dir.path(), Some(algorithm), sealing);
        let own = node.mint();
        assert_eq!(Jws::read(&own).unwrap().alg(), algorithm.as_str());
        assert!(node.believes(&own) && node.believes(&token));
    }
    let secret = node(dir.path(), None, 2);
    assert_eq!(Jws::read(&secret.mint()).unwrap().alg(), "HS256");
    assert!(secret.believes(&token) && secret.believes(&secret.mint()));
}

#[test]
fn there_are_only_so_many_keys_and_no_private_one_lies_open() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), Some(SigningAlgorithm::EdDsa), 1);
    for _ in 1..SIGNING_KEYS_MAX {
        node.keys.rotate(Duration::ZERO, HOUR).unwrap();
    }
    assert!(matches!(node.keys.rotate(Duration::ZERO, HOUR), Err(SigningError::TooMany)));
    assert_eq!(node.identity.published_keys().len(), SIGNING_KEYS_MAX);
    let sealing = SealingKey([1; 32]);
    for row in node.control.signing_keys().unwrap() {
        let private = sealing.open(&row.kid, &row.sealed).unwrap();
        assert!(Pair::read(SigningAlgorithm::EdDsa, &private).is_ok());
        assert!(SealingKey([2; 32]).open(&row.kid, &row.sealed).is_none());
    }
}

#[test]
fn a_token_is_for_any_of_our_audiences() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), None, 1);
    let claims = |aud: serde_json::Value| {
        let exp = crate::clock::now().millis() / 1_000 + 600;
        let claims =
            serde_json::json!({"iss": "message-service", "sub": "ann", "aud": aud, "exp": exp});
        let key = jsonwebtoken::EncodingKey::from_secret(
            b"a secret of at least thirty-two bytes, for tests",
        );
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    for aud in [
        serde_json::json!("client-app"),
        serde_json::json!("another-app"),
        serde_json::json!(["x", "another-app"]),
    ] {
        assert!(node.believes(&claims(aud.clone())), "{aud}");
    }
    for aud in [
        serde_json::json!("client-app,another-app"),
        serde_json::json!(["x"]),
        serde_json::json!([]),
        serde_json::json!(""),
        serde_json::json!(null),
        serde_json::json!({"client-app": true}),
    ] {
        assert!(!node.believes(&claims(aud.clone())), "{aud}");
    }
}

fn soon(mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
