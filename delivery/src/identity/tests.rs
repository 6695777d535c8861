//! A corpus of tokens that must open nothing, and the few that must.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto};
use protocol::{DeviceId, RoleId, TenantId, Time, UserId};
use serde_json::{Value, json};

use super::*;
use crate::{
    InboxKey,
    control::{ControlError, ServiceStatus},
};

const SECRET: &str = "a secret of at least thirty-two bytes, for tests";

/// From where all is asked.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Fixture {
    identity: Identity,
    control: Arc<Control>,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let control = Arc::new(Control::open(dir.path()).unwrap());
    let config = IdentityConfig {
        jwt_secret: SECRET.into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: Duration::from_secs(7_200),
    };
    Fixture { identity: Identity::new(config, Arc::clone(&control)), control, _dir: dir }
}

fn now() -> i64 {
    crate::clock::now().millis() / 1_000
}

fn good_claims() -> Value {
    json!({
        "iss": "message-service", "sub": "user-uuid", "aud": "client-app", "exp": now() + 600,
        "iat": now(), "jti": "token-uuid", "user_id": "12345", "username": "john.doe",
        "email": "john@example.com", "provider": "github", "scope": ["read", "write"],
        "device_id": "device-uuid", "session_id": "session-uuid",
    })
}

/// The good claims with some replaced; null takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn signed(header: &str, payload: &str, secret: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn token(claims: &Value) -> String {
    signed(HEADER, &claims.to_string(), SECRET, Algorithm::HS256)
}

fn with_header(header: &str) -> String {
    signed(header, &good_claims().to_string(), SECRET, Algorithm::HS256)
}

#[test]
fn a_good_token_names_user_device_and_session() {
    let user = fixture().identity.verify_user(&token(&good_claims())).unwrap();
    assert_eq!(user.user().as_str(), "12345");
    assert_eq!(user.tenant(), &TenantId::default());
    assert_eq!(user.device.as_ref().unwrap().as_str(), "device-uuid");
    assert_eq!(user.session.as_deref(), Some("session-uuid"));
    assert_eq!(user.username, "john.doe");
    assert!(user.may_write() && !user.is_system_admin());
}

#[test]
fn other_good_tokens() {
    let identity = fixture().identity;
    let accepts = |changes: Value| identity.verify_user(&token(&claims(changes))).unwrap();
    assert_eq!(accepts(json!({"user_id": null})).user().as_str(), "user-uuid");
    assert_eq!(accepts(json!({"tenant_id": "acme"})).tenant().as_str(), "acme");
    assert_eq!(accepts(json!({"aud": ["other", "client-app"]})).user().as_str(), "12345");
    assert!(accepts(json!({"roles": ["system_admin"]})).is_system_admin());
    assert!(!accepts(json!({"scope": ["read"]})).may_write());
    assert!(!accepts(json!({"scope": "read profile"})).may_write());
    assert!(accepts(json!({"scope": null})).may_write());
    assert!(accepts(json!({"scope": "openid"})).may_write());
    let facts = accepts(json!({"roles": ["b", "", "a\u{0}"], "department": "财务"})).facts();
    let roles: Vec<_> = facts.roles.iter().map(RoleId::as_str).collect();
    assert_eq!((roles, facts.department.as_deref()), (vec!["b"], Some("财务")));
    assert_eq!((&*facts.username, &*facts.email), ("john.doe", "john@example.com"));
    assert_eq!(accepts(json!({"department": ""})).department, None);
    // Within the leeway, a fraction of a second (RFC 7519 §2), and beyond what a clock can show.
    accepts(json!({"exp": now() - 20}));
    accepts(json!({"nbf": now() + 20}));
    accepts(json!({"exp": now() as f64 + 600.5}));
    assert_eq!(accepts(json!({"exp": 9_999_999_999_999_u64})).expires_at, Time::MAX);
    identity.verify_user(&with_header(r#"{"alg":"HS256"}"#)).unwrap();
    identity.verify_user(&with_header(r#"{"alg":"HS256","kid":"../../etc/passwd"}"#)).unwrap();
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let Fixture { identity, control, _dir } = fixture();
    let (_, service_key) =
        control.create_service(crate::control::NewService::named("a service")).unwrap();
    let good = token(&good_claims());
    let payload = good_claims().to_string();
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: &str| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload))
    };
    let changed = |changes: Value| token(&claims(changes));
    let other_user = token(&claims(json!({"user_id": "99999"})));
    let other_signature = other_user.rsplit('.').next().unwrap();
    let twice = payload.replacen('{', r#"{"user_id":"admin","#, 1);
    let twice_exp = payload.replacen('{', r#"{"exp":99999999999,"#, 1);

    let forged = [
        ("nothing", String::new()),
        ("a word", "token".to_owned()),
        ("dots", "..".to_owned()),
        ("a service key", service_key.expose().to_owned()),
        ("the admin token", "the admin token".to_owned()),
        ("alg none", unsigned(r#"{"alg":"none","typ":"JWT"}"#)),
        ("alg None", unsigned(r#"{"alg":"None"}"#)),
        ("alg nOnE", unsigned(r#"{"alg":"nOnE"}"#)),
        ("alg empty", unsigned(r#"{"alg":""}"#)),
        ("no alg", unsigned(r#"{"typ":"JWT"}"#)),
        ("alg none, good signature", with_header(r#"{"alg":"none"}"#)),
        ("no signature", unsigned(HEADER)),
        ("RS256 over an HMAC", with_header(r#"{"alg":"RS256","typ":"JWT"}"#)),
        ("ES256 over an HMAC", with_header(r#"{"alg":"ES256","typ":"JWT"}"#)),
        ("HS384", signed(r#"{"alg":"HS384"}"#, &payload, SECRET, Algorithm::HS384)),
        ("HS512", signed(r#"{"alg":"HS512"}"#, &payload, SECRET, Algorithm::HS512)),
        ("HS512 called HS256", signed(HEADER, &payload, SECRET, Algorithm::HS512)),
        ("another secret", signed(HEADER, &payload, "another secret", Algorithm::HS256)),
        ("an empty secret", signed(HEADER, &payload, "", Algorithm::HS256)),
        (
            "a key in the header",
            signed(
                r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"https://evil.example/k"}"#,
                &payload,
                "\0\0\0",
                Algorithm::HS256,
            ),
        ),
        ("a truncated signature", good[..good.len() - 4].to_owned()),
        ("a truncated token", good[..good.len() / 2].to_owned()),
        ("another token's signature", format!("{}.{}.{other_signature}", parts[0], parts[1])),
        (
            "another token's claims",
            format!("{}.{}.{}", parts[0], other_user.split('.').nth(1).unwrap(), parts[2]),
        ),
        ("a padded signature", format!("{good}=")),
        ("a space", format!("{good} ")),
        ("four parts", format!("{good}.{}", parts[2])),
        ("a JWE", format!("{good}.a.b")),
        ("typ of a logout token", with_header(r#"{"alg":"HS256","typ":"logout+jwt"}"#)),
        ("a crit header", with_header(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#)),
        ("alg twice", with_header(r#"{"alg":"HS256","alg":"none"}"#)),
        ("claims that are a list", signed(HEADER, "[]", SECRET, Algorithm::HS256)),
        ("claims that are no JSON", signed(HEADER, "{", SECRET, Algorithm::HS256)),
        ("user_id twice", signed(HEADER, &twice, SECRET, Algorithm::HS256)),
        ("exp twice", signed(HEADER, &twice_exp, SECRET, Algorithm::HS256)),
        ("no aud", changed(json!({"aud": null}))),
        ("another aud", changed(json!({"aud": "other-app"}))),
        ("aud of others", changed(json!({"aud": ["a", "b"]}))),
        ("aud of none", changed(json!({"aud": []}))),
        ("aud a number", changed(json!({"aud": 1}))),
        ("aud in capitals", changed(json!({"aud": "Client-App"}))),
        ("no iss", changed(json!({"iss": null}))),
        ("another iss", changed(json!({"iss": "evil"}))),
        ("iss with a slash", changed(json!({"iss": "message-service/"}))),
        ("iss a list", changed(json!({"iss": ["message-service", "evil"]}))),
        ("no sub", changed(json!({"sub": null}))),
        ("sub a number", changed(json!({"sub": 5}))),
        ("sub empty", changed(json!({"sub": ""}))),
        ("no exp", changed(json!({"exp": null}))),
        ("exp a text", changed(json!({"exp": (now() + 600).to_string()}))),
        ("exp negative", changed(json!({"exp": -1}))),
        ("exp a truth value", changed(json!({"exp": true}))),
        ("exp beyond all numbers", changed(json!({"exp": 1e300}))),
        ("nbf a text", changed(json!({"nbf": "0"}))),
        ("user_id empty", changed(json!({"user_id": ""}))),
        ("user_id a number", changed(json!({"user_id": 12345}))),
        ("user_id with a NUL", changed(json!({"user_id": "a\0b"}))),
        ("user_id too long", changed(json!({"user_id": "a".repeat(129)}))),
        ("tenant with a line break", changed(json!({"tenant_id": "a\nb"}))),
        ("device too long", changed(json!({"device_id": "a".repeat(129)}))),
        ("roles a number", changed(json!({"roles": 1}))),
        ("too many roles", changed(json!({"roles": vec!["a"; 65]}))),
        ("a megabyte", changed(json!({"more": "a".repeat(1 << 20)}))),
    ];
    for (name, token) in &forged {
        match identity.verify_user(token) {
            Err(AuthError::BadToken) => {}
            other => panic!("{name}: {:?}", other.map(|user| user.inbox)),
        }
        // Again: nothing of it may have been remembered.
        assert!(identity.verify_user(token).is_err(), "{name}, the second time");
        assert!(
            identity.verify_admin(token).await.is_err() || *name == "the admin token",
            "{name}"
        );
    }
    assert!(identity.verify_user(&good).is_ok());
}

#[test]
fn a_token_out_of_its_time_says_so() {
    let identity = fixture().identity;
    let refused = |changes: Value| identity.verify_user(&token(&claims(changes))).unwrap_err();
    assert!(matches!(refused(json!({"exp": now() - 31})), AuthError::Expired));
    assert!(matches!(refused(json!({"exp": 0})), AuthError::Expired));
    assert!(matches!(refused(json!({"nbf": now() + 60})), AuthError::NotYet));
}

#[test]
fn a_remembered_token_ends_with_its_exp() {
    let cache = cache::TokenCache::default();
    let identity = fixture().identity;
    let user = Arc::new(identity.verify_user(&token(&good_claims())).unwrap());
    let key = cache::key("token");
    cache.insert(key, Arc::clone(&user), 0);
    let before = Time::from_millis(user.expires_at.millis() - 1);
    assert!(cache.get(&key, before, 0).is_some());
    assert!(cache.get(&key, user.expires_at, 0).is_none());
    assert!(cache.get(&key, before, 0).is_none(), "it was forgotten");
}

#[test]
fn a_withdrawn_key_empties_the_cache() {
    let cache = cache::TokenCache::default();
    let identity = fixture().identity;
    let user = Arc::new(identity.verify_user(&token(&good_claims())).unwrap());
    let key = cache::key("token");
    cache.insert(key, Arc::clone(&user), 0);
    assert!(cache.get(&key, Time::default(), 0).is_some());
    assert!(cache.get(&key, Time::default(), 1).is_none());
    // One that was checked before the key was withdrawn comes too late.
    cache.insert(key, Arc::clone(&user), 0);
    assert!(cache.get(&key, Time::default(), 1).is_none());
    cache.insert(key, user, 1);
    assert!(cache.get(&key, Time::default(), 1).is_some());
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let cache = cache::TokenCache::default();
    let identity = fixture().identity;
    let user = Arc::new(identity.verify_user(&token(&good_claims())).unwrap());
    let kept = cache::key("kept");
    cache.insert(kept, Arc::clone(&user), 0);
    for n in 0..3 * TOKEN_CACHE_ENTRIES_MAX {
        cache.insert(cache::key(&n.to_string()), Arc::clone(&user), 0);
        if n % 64 == 0 {
            assert!(cache.get(&kept, Time::default(), 0).is_some());
        }
    }
    assert!(cache.len() <= TOKEN_CACHE_ENTRIES_MAX);
}

#[test]
fn what_is_minted_is_accepted() {
    let identity = fixture().identity;
    let request = MintRequest {
        device: Some(DeviceId::new("phone").unwrap()),
        roles: vec!["system_admin".to_owned()],
        tenant: Some(TenantId::new("acme").unwrap()),
        ttl: Some(Duration::from_secs(60)),
        ..MintRequest::new(UserId::new("张三").unwrap())
    };
    let token = identity.mint(&request);
    let user = identity.verify_user(&token).unwrap();
    assert_eq!(user.inbox, InboxKey::new(request.tenant.unwrap(), request.user));
    assert_eq!(user.device, request.device);
    assert_eq!(user.roles, request.roles);
    assert!(user.session.is_some() && user.may_write());
    let left = user.expires_at.millis() - crate::clock::now().millis();
    // It begins with the next whole second.
    assert!((58_000..=61_000).contains(&left), "{left}");

    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    for name in [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "jti",
        "user_id",
        "username",
        "email",
        "provider",
        "scope",
        "device_id",
        "session_id",
    ] {
        assert!(!claims[name].is_null(), "seed 003 §6.5 has {name}");
    }
    let header: Header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::HS256);
}

#[tokio::test]
async fn the_header_decides_who_is_asked_for() {
    let Fixture { identity, control, _dir } = fixture();
    let (service, key) =
        control.create_service(crate::control::NewService::named("a service")).unwrap();
    let user_token = token(&good_claims());
    let caller = async |header: &str| identity.caller(Some(header.as_bytes()), HERE).await;

    assert!(matches!(identity.caller(None, HERE).await, Err(AuthError::Missing)));
    for header in ["", "Bearer", "Basic dXNlcjpwYXNz", &user_token] {
        assert!(matches!(caller(header).await, Err(AuthError::UnknownScheme)), "{header}");
    }
    assert!(matches!(
        identity.caller(Some(b"Bearer \xff"), HERE).await,
        Err(AuthError::UnknownScheme)
    ));
    assert!(matches!(caller(&format!("Bearer {user_token}")).await, Ok(Caller::User(_))));
    assert!(matches!(caller(&format!("bearer  {user_token}")).await, Ok(Caller::User(_))));
    match caller(&format!("Service {}", key.expose())).await {
        Ok(Caller::Service(found)) => assert_eq!(found.id, service.id),
        other => panic!("{other:?}"),
    }
    assert!(matches!(caller(&format!("Bearer {}", key.expose())).await, Err(AuthError::BadToken)));
    assert!(matches!(caller(&format!("Service {user_token}")).await, Err(AuthError::BadKey)));
    assert!(matches!(caller("Bearer the admin token").await, Err(AuthError::BadToken)));
}

#[tokio::test]
async fn only_admins_are_admins() {
    let Fixture { identity, control, _dir } = fixture();
    let (_, key) = control.create_service(crate::control::NewService::named("a service")).unwrap();
    let admin = async |header: &str| identity.admin(Some(header.as_bytes()), HERE).await;
    let plain = token(&good_claims());
    let chief = token(&claims(json!({"roles": ["user", "system_admin"]})));
    assert!(matches!(admin("Bearer the admin token").await, Ok(AdminCaller::Token)));
    assert!(matches!(admin(&format!("Bearer {chief}")).await, Ok(AdminCaller::User(_))));
    assert!(matches!(admin(&format!("Bearer {plain}")).await, Err(AuthError::NotAdmin)));
    assert!(matches!(admin(&format!("Service {}", key.expose())).await, Err(AuthError::NotAdmin)));
    assert!(matches!(admin("Bearer the admin toke").await, Err(AuthError::BadToken)));
    assert!(matches!(admin("Bearer ").await, Err(AuthError::BadToken | AuthError::UnknownScheme)));
    assert!(matches!(identity.admin(None, HERE).await, Err(AuthError::Missing)));
}

#[test]
fn every_error_has_a_label_that_is_registered() {
    let errors = [
        AuthError::Missing,
        AuthError::UnknownScheme,
        AuthError::BadToken,
        AuthError::Expired,
        AuthError::NotYet,
        AuthError::Revoked,
        AuthError::BadTicket,
        AuthError::UserDisabled,
        AuthError::BadKey,
        AuthError::KeyAddress(HERE),
        AuthError::ServiceInactive(ServiceStatus::Pending),
        AuthError::NotAdmin,
        AuthError::Role(crate::admin::Role::Operator),
        AuthError::NoKeys,
        AuthError::Unavailable(Box::new(ControlError::NotFound)),
    ];
    assert_eq!(errors.each_ref().map(AuthError::label), AuthError::LABELS);
}

#[test]
fn a_token_is_never_younger_than_now() {
    let identity = fixture().identity;
    let issued = |changes: Value| {
        identity.verify_user(&token(&claims(changes))).unwrap().issued_at.millis() / 1_000
    };
    assert_eq!(issued(json!({"iat": now() - 300})), now() - 300);
    // One from the future would outlast every true one after it.
    for iat in [json!(now() + 86_400), json!(9e300)] {
        assert!((0..=1).contains(&(now() - issued(json!({"iat": iat})))));
    }
    // One that does not say when is taken for one of ours: two hours before its end.
    let guessed = issued(json!({"iat": null, "exp": now() + 600}));
    assert!((guessed - (now() + 600 - 7_200)).abs() <= 1);
}

#[test]
fn departments_that_no_role_could_be_called_after_are_refused() {
    let identity = fixture().identity;
    for department in ["d".repeat(118), "a\n".to_owned()] {
        let bad = identity.verify_user(&token(&claims(json!({"department": department}))));
        assert!(matches!(bad, Err(AuthError::BadToken)));
    }
    identity.verify_user(&token(&claims(json!({"department": "d".repeat(117)})))).unwrap();
}

#[test]
fn a_departments_admin_leads_the_own_one() {
    let identity = fixture().identity;
    let led = |changes: Value| {
        let user = identity.verify_user(&token(&claims(changes))).unwrap();
        user.department_led().map(|role| role.as_str().to_owned())
    };
    let head = json!({"roles": ["department_admin"], "department": "hr"});
    assert_eq!(led(head).as_deref(), Some("department:hr"));
    assert_eq!(led(json!({"roles": ["department_admin"]})), None);
    assert_eq!(led(json!({"department": "hr"})), None);
}
