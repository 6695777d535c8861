//! API keys: `phk_<id>_<secret>`.

use std::fmt;

use protocol::{ServiceId, Time};
use rand::RngExt;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that secret scanners find one that leaked.
pub const PREFIX: &str = "phk_";

/// Characters of a key's id: 71 bits, so that two never meet.
const ID_LENGTH: usize = 12;

/// Characters of the secret: 62^43 is just over 2^256.
const SECRET_LENGTH: usize = 43;

/// No `_` among them: it separates the parts.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// SHA-256 of a secret. A slow hash would buy nothing: the secret is random, not chosen.
#[derive(Clone, Copy)]
pub(super) struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// In constant time, so that the answer's delay tells nothing about the hash.
    pub(super) fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

/// What is known of a key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKey {
    /// The part between the first and the second `_`.
    pub id: String,
    /// Whose.
    pub service_id: ServiceId,
    /// When it was made.
    pub created_at: Time,
    /// When it ends; none for a key that lives until it is revoked.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Time>,
}

/// A key as it is shown once, to whoever made it.
#[derive(Clone)]
pub struct ApiKeyOnce {
    /// What is kept.
    pub key: ApiKey,
    /// The whole key. Not kept.
    pub secret: SecretString,
}

impl fmt::Debug for ApiKeyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyOnce").field("key", &self.key).field("secret", &"***").finish()
    }
}

impl ApiKeyOnce {
    pub(super) fn generate(
        service_id: ServiceId,
        created_at: Time,
        expires_at: Option<Time>,
    ) -> (Self, SecretHash) {
        let id = random_text(ID_LENGTH);
        let secret = random_text(SECRET_LENGTH);
        let hash = SecretHash::of(&secret);
        let whole = SecretString::from(format!("{PREFIX}{id}_{secret}"));
        let key = ApiKey { id, service_id, created_at, expires_at, last_used_at: None };
        (Self { key, secret: whole }, hash)
    }

    /// The whole key, to be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Splits a key into id and secret; none for what cannot be one of ours.
pub(super) fn parse(key: &str) -> Option<(&str, &str)> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret))
        .then_some((id, secret))
}

fn random_text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
