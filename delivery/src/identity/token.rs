//! User tokens: JWT (RFC 7519, RFC 8725; claims of seed 003 §6.5).
//!
//! Who is believed: this service, by `JWT_SECRET` and its own key pairs, and the issuers that the
//! operator named, each by its own keys. `iss` picks among them and nothing else.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use protocol::{DeviceId, TenantId, Time, UserId};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{
    AuthError, IdentityConfig, Noted, Seen, UserCaller, department_role,
    issuers::Issuers,
    jwks::{IssuerKeys, VerifyingKey},
    jws::{BadJws, Jws},
    signing::{KeyMark, SigningKeys},
};
use crate::InboxKey;

/// How far the clocks of whoever makes tokens and of this node may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Most roles or scope words of a token that are kept, and the longest, in bytes: they are walked
/// per request and held in memory per token.
const WORDS_MAX: usize = 64;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// Whose.
    pub user: UserId,
    /// The device it is for.
    pub device: Option<DeviceId>,
    /// Names the user carries.
    pub roles: Vec<String>,
    /// The user's department.
    pub department: Option<String>,
    /// The wall; the default tenant unless said.
    pub tenant: Option<TenantId>,
    /// How long it lives; the configured time unless said.
    pub ttl: Option<Duration>,
    /// What to show; the user's id unless said.
    pub username: Option<String>,
    /// Where the user can be written to.
    pub email: Option<String>,
    /// Where the user logged in; `pushhub` unless said.
    pub provider: Option<String>,
    /// What it is for; `read` and `write` unless said.
    pub scope: Option<Vec<String>>,
    /// The login; a new one unless said.
    pub session: Option<String>,
    /// The token's own id (`jti`); a new one unless said.
    pub id: Option<String>,
}

impl MintRequest {
    /// A token of this user with nothing else said.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        Self {
            user,
            device: None,
            roles: Vec::new(),
            department: None,
            tenant: None,
            ttl: None,
            username: None,
            email: None,
            provider: None,
            scope: None,
            session: None,
            id: None,
        }
    }
}

#[derive(Serialize)]
struct MintedHeader<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'a str,
    sub: &'a UserId,
    aud: &'a str,
    exp: i64,
    iat: i64,
    jti: &'a str,
    user_id: &'a UserId,
    username: &'a str,
    email: &'a str,
    provider: &'a str,
    scope: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a DeviceId>,
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a TenantId>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    department: Option<&'a str>,
}

/// What is read of a token. A claim of the wrong type makes the whole token bad; so does one that
/// stands twice, because which of the two counts is anybody's guess.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(deserialize_with = "audience")]
    aud: Vec<String>,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    tenant_id: Option<TenantId>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    device_id: Option<DeviceId>,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default, deserialize_with = "words")]
    scope: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    roles: Vec<String>,
    #[serde(default)]
    department: Option<String>,
}

/// A list, or words in one string as OAuth has it (RFC 8693 §4.2).
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        Text(String),
        Null(()),
    }
    let words = match Words::deserialize(deserializer)? {
        Words::List(list) => list,
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        Words::Null(()) => Vec::new(),
    };
    if words.len() > WORDS_MAX || words.iter().any(|w| w.len() > protocol::limits::ID_BYTES_MAX) {
        return Err(serde::de::Error::custom("too many or too long words"));
    }
    Ok(words)
}

/// One, or a list (RFC 7519 §4.1.3).
fn audience<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        List(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::List(list) => list,
    })
}

/// A NumericDate (RFC 7519 §2). `as` saturates, and `Time` clamps: a huge one is the last moment, not
/// an overflow.
#[expect(clippy::cast_possible_truncation, reason = "saturates, see above")]
fn moment(seconds: f64) -> Time {
    Time::from_millis((seconds * 1_000.0) as i64)
}

/// Whether it is a moment at all: not before 1970, and none that no clock could count to.
fn is_moment(seconds: f64) -> bool {
    (0.0..18_446_744_073_709_551_616.0).contains(&seconds)
}

/// Why a token opens nothing yet.
pub(super) enum Doubt {
    /// It never will.
    No(AuthError),
    /// Its key is not known; it may be a new one of an issuer.
    NewKey(Arc<IssuerKeys>),
}

impl From<AuthError> for Doubt {
    fn from(error: AuthError) -> Self {
        Self::No(error)
    }
}

impl From<BadJws> for Doubt {
    fn from(_: BadJws) -> Self {
        Self::No(AuthError::BadToken)
    }
}

pub(super) struct Tokens {
    encoding: EncodingKey,
    secret: VerifyingKey,
    pub(super) signing: Option<Arc<SigningKeys>>,
    pub(super) others: Issuers,
    issuer: String,
    audience: Vec<String>,
    ttl: Duration,
}

impl Tokens {
    pub(super) fn new(config: IdentityConfig) -> Self {
        let secret = config.jwt_secret.expose_secret().as_bytes();
        Self {
            encoding: EncodingKey::from_secret(secret),
            secret: VerifyingKey::hs256(secret),
            signing: None,
            others: Issuers::default(),
            audience: config.audience,
            issuer: config.issuer,
            ttl: config.access_ttl,
        }
    }

    /// A number that changes when a key is withdrawn: what was checked before is then to be checked
    /// anew. Asked for each request, and so has keys looked after where all tokens are in memory.
    pub(super) fn withdrawn(&self) -> u64 {
        let own = self.signing.as_ref().map_or(0, |keys| keys.withdrawn());
        self.others.0.iter().fold(own, |sum, issuer| {
            issuer.keys.refresh_aside();
            sum.wrapping_add(issuer.keys.withdrawn())
        })
    }

    pub(super) fn verify(&self, token: &str, now: Time) -> Result<UserCaller, Doubt> {
        let jws = Jws::read(token)?;
        let claims: Claims = jws.claims()?;
        let signed_by = self.verify_signature(&jws, &claims.iss)?;
        Ok(UserCaller { signed_by, ..self.believe(claims, now)? })
    }

    /// The algorithm says which kind of key may have signed, `iss` whose; that key then says whether it
    /// did. The secret checks HS256 and nothing else, a public key never HS256. Says which of our own pairs
    /// it was.
    fn verify_signature(&self, jws: &Jws<'_>, iss: &str) -> Result<Option<KeyMark>, Doubt> {
        let is_own = iss == self.issuer;
        if jws.alg() == self.secret.word() {
            if !is_own {
                return Err(BadJws.into());
            }
            jws.verify(&self.secret)?;
            return Ok(None);
        }
        if is_own && let Some(signing) = &self.signing {
            let verified = signing.with_set(|set| {
                let key = set.choose(jws)?;
                Some(jws.verify(key).map(|()| key.kid().map(KeyMark::of)))
            });
            if let Some(verified) = verified.flatten() {
                return Ok(verified?);
            }
        }
        // A login service beside this one may issue under the same name.
        let keys = self.others.keys(iss).ok_or(BadJws)?;
        keys.refresh_aside();
        match keys.verify_known(jws) {
            Some(verified) => {
                verified?;
                Ok(None)
            }
            None => Err(Doubt::NewKey(Arc::clone(keys))),
        }
    }

    /// What claims say whose signature is good.
    fn believe(&self, claims: Claims, now: Time) -> Result<UserCaller, AuthError> {
        let meant = |audience: &String| self.audience.contains(audience);
        if !claims.aud.iter().any(meant)
            || !is_moment(claims.exp)
            || claims.nbf.is_some_and(|nbf| !is_moment(nbf))
        {
            return Err(AuthError::BadToken);
        }
        let bad = |_| AuthError::BadToken;
        // `sub` is checked also where `user_id` counts: it may end up in a log or an audit.
        let sub = UserId::new(&claims.sub).map_err(bad)?;
        let user = match &claims.user_id {
            Some(id) => UserId::new(id).map_err(bad)?,
            None => sub,
        };
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let username = said(claims.username);
        let department = said(claims.department);
        if department.as_deref().is_some_and(|name| department_role(name).is_none()) {
            return Err(AuthError::BadToken);
        }
        let expires_at = moment(claims.exp);
        let leeway = crate::clock::millis(LEEWAY);
        if expires_at.millis() < now.millis().saturating_sub(leeway) {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| moment(nbf).millis() > now.millis().saturating_add(leeway))
        {
            return Err(AuthError::NotYet);
        }
        Ok(UserCaller {
            username: username.unwrap_or_else(|| user.as_str().to_owned()),
            email: claims.email.unwrap_or_default(),
            department,
            issued_at: self.issued_at(claims.iat, expires_at, now),
            noted: Noted::default(),
            seen: Seen::default(),
            inbox: InboxKey::new(claims.tenant_id.unwrap_or_default(), user),
            device: claims.device_id,
            session: said(claims.session_id),
            token_id: said(claims.jti),
            signed_by: None,
            roles: claims.roles,
            scope: claims.scope,
            expires_at,
        })
    }

    /// When a token was made, never later than now: one from the future would outlast every true one
    /// after it. A token that does not say is taken for one that lives as long as ours do.
    fn issued_at(&self, iat: Option<f64>, expires_at: Time, now: Time) -> Time {
        let lived = crate::clock::millis(self.ttl);
        let guess = || Time::from_millis(expires_at.millis().saturating_sub(lived));
        iat.map_or_else(guess, moment).min(now)
    }

    /// The token, and whom it makes of its bearer.
    pub(super) fn mint(&self, request: &MintRequest, now: Time) -> (String, UserCaller) {
        let at = now;
        // A token counts as made before what was revoked in the same second, unless it says the next one:
        // whoever is logged out everywhere and logs in again is in.
        let now = now.millis().div_euclid(1_000) + i64::from(now.millis() % 1_000 != 0);
        let ttl = request.ttl.unwrap_or(self.ttl).as_secs();
        let exp = now.saturating_add_unsigned(ttl).min(Time::MAX.millis() / 1_000);
        let session = match &request.session {
            Some(session) => session.clone(),
            None => Uuid::now_v7().to_string(),
        };
        let id = match &request.id {
            Some(id) => id.clone(),
            None => Uuid::now_v7().to_string(),
        };
        let read_write = ["read".to_owned(), "write".to_owned()];
        let claims = MintedClaims {
            iss: &self.issuer,
            sub: &request.user,
            aud: self.audience.first().map_or("", String::as_str),
            exp,
            iat: now,
            jti: &id,
            user_id: &request.user,
            username: request.username.as_deref().unwrap_or(request.user.as_str()),
            email: request.email.as_deref().unwrap_or_default(),
            provider: request.provider.as_deref().unwrap_or("pushhub"),
            scope: request.scope.as_deref().unwrap_or(&read_write),
            device_id: request.device.as_ref(),
            session_id: &session,
            tenant_id: request.tenant.as_ref(),
            roles: &request.roles,
            department: request.department.as_deref(),
        };
        let (token, signed_by) = self.signed(&claims, at);
        let inbox = InboxKey::new(request.tenant.clone().unwrap_or_default(), request.user.clone());
        let caller = UserCaller {
            device: request.device.clone(),
            session: Some(session.clone()),
            token_id: Some(id.clone()),
            signed_by,
            username: claims.username.to_owned(),
            email: claims.email.to_owned(),
            roles: request.roles.clone(),
            department: request.department.clone(),
            scope: claims.scope.to_vec(),
            issued_at: Time::from_millis(now.saturating_mul(1_000)),
            ..UserCaller::new(inbox, Time::from_millis(exp.saturating_mul(1_000)))
        };
        (token, caller)
    }

    /// The token, and by which of our own key pairs.
    fn signed(&self, claims: &MintedClaims<'_>, now: Time) -> (String, Option<KeyMark>) {
        let pair = self.signing.as_ref().and_then(|keys| keys.signer(now));
        let header = match &pair {
            Some(pair) => MintedHeader { alg: pair.word(), typ: "JWT", kid: Some(pair.kid()) },
            None => MintedHeader { alg: self.secret.word(), typ: "JWT", kid: None },
        };
        let part = |json: serde_json::Result<Vec<u8>>| {
            URL_SAFE_NO_PAD.encode(json.expect("names that are texts, and no floats"))
        };
        let message =
            format!("{}.{}", part(serde_json::to_vec(&header)), part(serde_json::to_vec(claims)));
        let signature = match &pair {
            Some(pair) => URL_SAFE_NO_PAD
                .encode(pair.sign(message.as_bytes()).expect("a key that could be read can sign")),
            None => crypto::sign(message.as_bytes(), &self.encoding, Algorithm::HS256)
                .expect("HMAC takes a key of any length"),
        };
        (format!("{message}.{signature}"), pair.map(|pair| KeyMark::of(pair.kid())))
    }
}
